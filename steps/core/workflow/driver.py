"""Launch entry points as child runs of the driver's run, or reuse what earlier runs made, and say why."""

import contextlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException

from steps.core.config import PROJECT, Config
from steps.core.errors import NothingToInferWith, StepFailed
from steps.core.process import console, interruption, processes, scratch, warm_process
from steps.core.sources import kinds
from steps.core.tables import location, snapshot
from steps.core.tracking import mlflow_constants, runs
from steps.core.workflow import reuse as earlier_runs
from steps.core.workflow import run_tags, workflow_run
from steps.core.workflow.failures import WORKFLOW_RUN
from steps.core.workflow.step_inputs import inputs_of
from steps.core.workflow.step_run import StepRun
from steps.core.workflow.step_spec import StepSpec, check_syntax, read_spec
from steps.core.workflow.summary import PLANNED, REUSED, UNKNOWN, Launched, summary


@contextlib.contextmanager
def workflow(run: StepRun, settings: Config, lake_uri: str, *, reuse: bool, dry_run: bool) -> Iterator["Workflow"]:
    """A Workflow whose children use this Python; at the end, good or bad, its summary is printed and logged.

    `settings` has all parameters applied, and its source is resolved. Spark starts with the first step that needs it.
    """
    # mlflow.run takes `python` from PATH; without a storage_dir it leaves a folder behind (mlflow/mlflow#8437).
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ[WORKFLOW_RUN] = run.run_id
    logging.getLogger("mlflow.projects").setLevel(logging.WARNING)
    try:
        with scratch.scratch_folder("workflow-") as storage, contextlib.ExitStack() as resources:
            steps = Workflow(run, settings, lake_uri, str(storage), resources, reuse=reuse, dry_run=dry_run)
            try:
                yield steps
            except NothingToInferWith as err:
                if not dry_run:
                    raise
                steps.note(str(err))
            finally:
                steps.report()
                if not dry_run:
                    run.writes(**steps.outputs())
    finally:
        warm_process.end()
        del os.environ[WORKFLOW_RUN]


class Workflow:
    """The steps of one driver run, in their order."""

    def __init__(
        self,
        run: StepRun,
        settings: Config,
        lake_uri: str,
        storage: str,
        resources: contextlib.ExitStack,
        *,
        reuse: bool,
        dry_run: bool,
    ) -> None:
        self._run = run
        self._settings = settings
        self._lake = lake_uri
        self._storage = storage
        self._resources = resources
        self._reuse = reuse
        self._dry_run = dry_run
        self._has_spark = False
        self._launched: list[Launched] = []
        self._notes: list[str] = []

    def launch(self, name: str, **parameters: object) -> Launched:
        """The results of one entry point: those of an earlier run where that is right, else it is run to its end.

        Parameters that are None or "" are left to its defaults. StepFailed carries the message that the step left on
        its run.
        """
        spec = read_spec(name)
        arguments = {key: str(value) for key, value in parameters.items() if value not in (None, "")}
        decision = self._decide(spec, arguments)
        if decision.run:
            launched = self._reused(spec, decision.run, arguments)
        else:
            check_syntax()
            planned = self._dry_run
            launched = (
                self._planned(spec, arguments, decision.reason)
                if planned
                else self._executed(spec, arguments, decision)
            )
        self._launched.append(launched)
        if launched.status not in ("FINISHED", REUSED, PLANNED):
            raise StepFailed(name, launched.reasons, launched.command)
        return launched

    def note(self, text: str) -> None:
        """Add a line under the summary."""
        self._notes.append(text)

    def outputs(self) -> dict[str, str]:
        """The results of all steps: name to URI."""
        return {name: uri for launched in self._launched for name, uri in launched.outputs.items()}

    def report(self) -> None:
        """Print the summary (step, what it made, seconds, why it ran) and log workflow.json."""
        if not self._launched:
            return
        print("\n".join(["", *summary(self._launched), *self._notes]), flush=True)
        steps = [asdict(launched) for launched in self._launched]
        mlflow.log_dict({"run_id": self._run.run_id, "steps": steps, "notes": self._notes}, "workflow.json")
        if not self._dry_run:
            workflow_run.describe(self._settings, self._launched, self._notes, experiment_id=self._run.experiment_id)

    def _decide(self, spec: StepSpec[Any], arguments: Mapping[str, str]) -> earlier_runs.Decision:
        """An earlier run that has done this already, or why there is none."""
        if UNKNOWN in arguments.values():
            planned = [launched.step for launched in self._launched if launched.status == PLANNED]
            return earlier_runs.Decision(reason=f"follows {planned[-1]}")
        if not self._reuse:
            return earlier_runs.Decision(reason="reuse=false")
        if spec.reuses_itself:
            return earlier_runs.Decision(reason="it finds out what is new")
        content = kinds.source_of(self._settings.source).fingerprint() if "content" in spec.works_on else ""
        if content is None:
            return earlier_runs.Decision(reason="only its rows tell whether the source has changed")
        inputs = inputs_of(spec, self._settings, **{"content": content, **arguments})
        return earlier_runs.find_reusable(
            spec.name, inputs, workflow=self._settings.name, experiment_id=self._run.experiment_id
        )

    def _reused(self, spec: StepSpec[Any], earlier: Run, arguments: Mapping[str, str]) -> Launched:
        run_id = earlier.info.run_id
        if not self._dry_run:
            mlflow.set_tag(f"reused.{spec.name}", run_id)
        return Launched(
            step=spec.name,
            run_id=run_id,
            status=REUSED,
            seconds=0.0,
            command=self._command(spec.name, arguments),
            outputs=run_tags.outputs(earlier),
            reasons=earlier.data.tags.get(run_tags.REASONS, ""),
            because=f"reused, run {run_id[:8]}",
        )

    def _planned(self, spec: StepSpec[Any], arguments: Mapping[str, str], reason: str) -> Launched:
        return Launched(
            step=spec.name,
            run_id="",
            status=PLANNED,
            seconds=0.0,
            command=self._command(spec.name, arguments),
            outputs=dict.fromkeys(spec.outputs, UNKNOWN),
            reasons="",
            because=reason,
        )

    def _executed(self, spec: StepSpec[Any], arguments: Mapping[str, str], decision: earlier_runs.Decision) -> Launched:
        warm_process.serve(str(Path(self._storage, "warm-process")))
        if not self._has_spark and self._needs_spark(spec, arguments):
            self._start_spark()
        console.message(f"{spec.name} ... ({decision.reason})")
        began = time.monotonic()
        failure = self._run_to_its_end(spec.name, arguments)
        seconds = round(time.monotonic() - began, 1)
        if not (child := self._newest_child(spec.name)):
            raise StepFailed(spec.name, failure, self._command(spec.name, arguments))
        return Launched(
            step=spec.name,
            run_id=child.info.run_id,
            status=child.info.status,
            seconds=seconds,
            command=self._command(spec.name, arguments),
            outputs=run_tags.outputs(child),
            reasons=child.data.tags.get(run_tags.ERROR if failure else run_tags.REASONS, failure),
            because=_reason_in_hindsight(decision, child),
        )

    def _run_to_its_end(self, name: str, arguments: Mapping[str, str]) -> str:
        """Run an entry point; why it failed, as far as MLflow knows, "" where it did not."""
        try:
            mlflow.run(
                str(PROJECT),
                entry_point=name,
                parameters=dict(arguments),
                experiment_id=self._run.experiment_id,
                run_name=name,
                env_manager="local",
                storage_dir=self._storage,
            )
        except ExecutionException as err:
            return f"it ended without a message: {err}"
        except interruption.Interrupted:
            processes.end_children(of_mlflow=True)  # before Spark, which the step may be using
            raise
        return ""

    def _needs_spark(self, spec: StepSpec[Any], arguments: Mapping[str, str]) -> bool:
        if spec.spark == "large tables":
            return snapshot.open(location.parse_table(arguments["table"])).is_for_workers
        if spec.spark == "large sources":
            return kinds.source_of(self._settings.source).is_for_spark()
        return spec.spark == "always"

    def _start_spark(self) -> None:
        # PySpark takes half a second, which a workflow that runs no step does not pay
        from steps.core.spark import connect_server

        source = kinds.source_of(self._settings.source)
        self._resources.enter_context(connect_server.serve(self._lake, source.uri, data_bytes=source.size_bytes()))
        self._has_spark = True

    def _newest_child(self, name: str) -> Run | None:
        """The child's run: mlflow.run tells its id only when the child succeeds. None where it began none."""
        child_tags = {mlflow_constants.PARENT_RUN_ID: self._run.run_id, mlflow_constants.ENTRY_POINT: name}
        return next(iter(runs.newest(self._run.experiment_id, child_tags, count=1)), None)

    def _command(self, name: str, arguments: Mapping[str, str]) -> str:
        source = self._run.source_name
        if not source or urlparse(source).scheme == "file" or os.path.exists(source.partition("#")[0]):
            is_here = location.is_embedded() and location.home() == PROJECT
            project = ["." if is_here else str(PROJECT)]
        else:
            project = [source, *(["-v", self._run.git_commit] if self._run.git_commit else [])]
        parameters = [word for key, value in arguments.items() for word in ("-P", f"{key}={value}")]
        return shlex.join(["mlflow", "run", *project, "-e", name, *parameters, "--env-manager", "local"])


def _reason_in_hindsight(decision: earlier_runs.Decision, child: Run) -> str:
    """Why the step ran, by what it wrote down itself; where it did not get to that, by what was decided on."""
    receipt, _ = earlier_runs.read_receipt(child)
    return decision.in_hindsight(receipt["inputs"]) if "inputs" in receipt else decision.reason
