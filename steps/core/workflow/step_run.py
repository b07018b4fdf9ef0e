"""One MLflow run of a step: what it read, ran with and wrote, as tags, parameters and a receipt."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from steps.core.config import Config
from steps.core.process import console
from steps.core.redaction import redacted
from steps.core.tables import location
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import mlflow_constants
from steps.core.workflow import outputs_file, reuse, run_tags, step_inputs, vacuum_notices
from steps.core.workflow.failures import WORKFLOW_RUN
from steps.core.workflow.step_spec import DRIVER, StepSpec


class StepRun:
    """The run that entry_point.start() hands to a step. Names given to its methods are those in the step's SPEC."""

    def __init__(self, spec: StepSpec[Any], run: mlflow.ActiveRun) -> None:
        self._spec = spec
        self._run = run
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.git_commit: str = run.data.tags.get(mlflow_constants.GIT_COMMIT, "")
        self.source_name = redacted(run.data.tags.get(mlflow_constants.SOURCE_NAME, ""))
        self._reasons: list[str] = []
        self._remarks: list[str] = []
        self._written_tables: dict[str, Snapshot] = {}  # by URI
        self._receipt: dict[str, Any] = {"step": spec.name, "run_id": self.run_id, "git_commit": self.git_commit}
        self._receipt |= {"read": {}, "parameters": {}, "wrote": {}}

    def rename(self, name: str) -> None:
        """What the run is called in MLflow, in place of the entry point's name."""
        mlflow.set_tag(mlflow_constants.RUN_NAME, name)

    def reads(self, **inputs: object) -> None:
        """Record what this run works on: pinned URIs, and open tables, which no vacuum deletes from then on.

        TableVersionGone, or LockNotReleased, when one is just doing so.
        """
        self._receipt["read"] |= {name: str(thing) for name, thing in inputs.items()}
        tables = {name: thing for name, thing in inputs.items() if isinstance(thing, Snapshot)}
        identities = {f"{run_tags.INPUT_IDENTITY}{name}": table.identity for name, table in tables.items()}
        mlflow.set_tags({**identities, **{f"{run_tags.INPUT}{name}": str(thing) for name, thing in inputs.items()}})
        for table in tables.values():  # now that the run names what it reads
            vacuum_notices.wait_for_vacuums(table, self._run)

    def ran_with(self, **values: object) -> None:
        """Log resolved values as parameters; `a__b` is the config's key a.b (MLproject's own names are taken)."""
        self._receipt["parameters"] |= values
        mlflow.log_params({name.replace("__", "."): value for name, value in values.items()})

    def depends_on(self, settings: Config, **works_on: str | Snapshot) -> Mapping[str, str]:
        """Record what the results follow from, so that a later workflow can reuse this run; returns these inputs.

        `settings` has the parameters applied; `works_on` has what the SPEC names so. Called after reads().
        """
        inputs = step_inputs.inputs_of(self._spec, settings, **works_on)
        self._receipt["inputs"] = inputs
        key = step_inputs.key_of(self._spec.name, inputs)
        identities = {
            f"{run_tags.INPUT_IDENTITY}{name}": inputs[identity]
            for name in self._receipt["read"]
            if (identity := f"{name}.identity") in inputs
        }
        workflow = f"{settings.name}.{self._spec.name}"
        mlflow.set_tags({run_tags.KEY: key, run_tags.WORKFLOW: workflow, **identities})
        return inputs

    def earlier(self, settings: Config, **works_on: str | Snapshot) -> Run | None:
        """The newest run that has made the same of the same by the code of now, if its results still stand."""
        inputs = step_inputs.inputs_of(self._spec, settings, **works_on)
        found = reuse.find_reusable(self._spec.name, inputs, workflow=settings.name, experiment_id=self.experiment_id)
        return found.run

    def made_of(self, *later_code: str) -> dict[str, str]:
        """For the commit of a table: what its rows are made of. Equal for two runs whose rows are the same.

        Called after depends_on(), when all code of the step is imported, as that is part of it, but for `later_code`:
        files of the project that may be imported yet, and count as if they were.
        """
        inputs, read = self._receipt["inputs"], self._receipt["read"]
        identities = {key: inputs[key] for name in read if (key := f"{name}.identity") in inputs}
        return {"step": self._spec.name, **read, **identities, "key": self.key_without("", *later_code)}

    def key_without(self, name: str, *later_code: str) -> str:
        """The key of made_of(), as if it did not matter what was read under `name`."""
        inputs = {key: value for key, value in self._receipt["inputs"].items() if key.partition(".")[0] != name}
        return step_inputs.key_of(self._spec.name, {**inputs, **step_inputs.code(later_code)})

    def made_by(self) -> dict[str, str]:
        """For what a run makes, a table's commit or a version: which run it was."""
        return {"run_id": self.run_id, "git_commit": self.git_commit}

    def is_not_reusable(self, reason: str) -> None:
        """Take depends_on() back, where it was said."""
        if self._receipt.pop("inputs", None) is None:
            return
        MlflowClient().delete_tag(self.run_id, run_tags.KEY)
        self.warn(f"{reason}; this run will not be reused")

    def logs_table(self, table: Snapshot, *, context: str) -> None:
        """The table's version as a dataset of this run, with digest `v<N>`."""
        source = DeltaDatasetSource(path=table.path, delta_table_version=table.version)
        dataset = MetaDataset(source, name=table.uri.name, digest=f"v{table.version}")  # type: ignore[abstract]
        try:
            mlflow.log_input(dataset, context=context)
        except MlflowException:  # another run logged the same one just now, and MLflow took it for new in both
            mlflow.log_input(dataset, context=context)

    def writes(self, **results: object) -> None:
        """Hand on results, pinned URIs and open tables, whose names are the SPEC's `outputs`, by this run's tags."""
        self._receipt["wrote"] |= {name: str(thing) for name, thing in results.items()}
        self._written_tables |= {str(thing): thing for thing in results.values() if isinstance(thing, Snapshot)}
        mlflow.set_tags({f"{run_tags.OUTPUT}{name}": str(thing) for name, thing in results.items()})

    def explains(self, reasons: Sequence[str]) -> None:
        """Record why the results are what they are."""
        self._reasons = list(reasons)
        mlflow.set_tag(run_tags.REASONS, run_tags.text("; ".join(reasons)))

    def remark(self, lines: Sequence[str]) -> None:
        """Show the user what is worth knowing and stops nothing, and keep it on the run."""
        if lines:
            console.message("\n".join(lines))
            self._remarks += lines
            mlflow.set_tag(run_tags.REMARKS, run_tags.text("\n".join(self._remarks)))

    def warn(self, text: str) -> None:
        """Show the user a line at once, also under the driver."""
        console.message(f"{self._spec.name}: {text}")

    def finish(self) -> None:
        """Write the receipt and, where no driver does it, print the outputs."""
        reuse.write_receipt(self._run, self._receipt, tables=self._written_tables)
        if WORKFLOW_RUN in os.environ:
            return
        self._say_where_temporary()
        outputs_file.write(self._receipt["wrote"])
        if self._spec.name != DRIVER:
            self._print_outputs()

    def _say_where_temporary(self) -> None:
        """Name what lies below the system's temporary folder, which a scheduler's task may remove at its end."""
        temporary = Path(tempfile.gettempdir()).resolve()
        artifacts = Path(self._run.info.artifact_uri.removeprefix("file://"))  # of a server: no path in a folder here
        places = {"artifacts and models": artifacts.parents[1], "runs and tables": location.home()}
        kept = [f"{what} in {folder}" for what, folder in places.items() if temporary in folder.parents]
        if location.is_embedded() and kept:
            where = f"below the temporary folder {temporary}"
            console.message(
                f"{self._spec.name}: {' and '.join(kept)} are kept {where}; if that is removed, give the command in a "
                "folder that stays (docs/how-to/schedule.md)"
            )

    def _print_outputs(self) -> None:
        for name, uri in self._receipt["wrote"].items():
            print(f"{self._spec.name}: {name} = {uri or 'none'}", flush=True)
        for reason in self._reasons:
            print(f"{self._spec.name}: because {reason}", flush=True)
