"""Launch entry points as child runs of the driver's run, or take again what earlier runs made, and tell why."""

import contextlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException

from steps.core.config import PROJECT, Config
from steps.core.errors import NothingToInferWith, ProjectBroken, StepFailed
from steps.core.process import console, interruption, processes, scratch
from steps.core.sources import kinds
from steps.core.tables import location, snapshot
from steps.core.tracking import mlflow_names, runs
from steps.core.workflow import reuse as earlier_runs
from steps.core.workflow import step_run

NOT_KNOWN = "?"  # stands for what a step would hand on, where nothing is run
HANDS_ON = {"ingest": ["table"], "train": ["model"], "evaluate": ["verdict", "champion"], "infer": ["predictions"]}
REUSED, PLANNED = "reused", "would run"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """One step: what it handed on (name to URI) and why, why it ran, and the command that runs it alone."""

    step: str
    run_id: str
    status: str  # of the child run; REUSED where an earlier run's results are taken, PLANNED in a dry run
    seconds: float
    command: str
    outputs: dict[str, str]
    reasons: str
    because: str


@contextlib.contextmanager
def workflow(
    run: step_run.StepRun, settings: Config, lake_uri: str, *, reuse: bool, dry_run: bool
) -> Iterator["Workflow"]:
    """A Workflow whose children use this Python; at the end, good or bad, its summary is printed and logged.

    `settings` has all parameters applied, and its source is resolved. Spark starts with the first step that needs it.
    """
    # mlflow.run takes `python` from PATH; without a storage_dir it leaves a folder behind (mlflow/mlflow#8437).
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    _check_syntax()
    os.environ[step_run.WORKFLOW_RUN] = run.run_id
    logging.getLogger("mlflow.projects").setLevel(logging.WARNING)
    try:
        with scratch.scratch_folder("workflow-") as storage, contextlib.ExitStack() as resources:
            running = Workflow(run, settings, lake_uri, str(storage), resources, reuse=reuse, dry_run=dry_run)
            try:
                yield running
            except NothingToInferWith as err:
                if not dry_run:
                    raise
                running.note(str(err))
            finally:
                running.report()
            if not dry_run:
                run.writes(**running.outputs())
    finally:
        del os.environ[step_run.WORKFLOW_RUN]


class Workflow:
    """The steps of one driver run, in their order."""

    def __init__(
        self,
        run: step_run.StepRun,
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
        self._reused: list[str] = []  # links to their runs
        self._notes: list[str] = []

    def launch(self, name: str, **parameters: object) -> Launched:
        """The results of one entry point: those of an earlier run where that is right, else it is run to its end.

        Parameters that are None or "" are left to its defaults. StepFailed carries the message that the step left on
        its run.
        """
        given = {key: str(value) for key, value in parameters.items() if value not in (None, "")}
        decision = self._decide(name, given)
        if decision.run:
            launched = self._take(name, decision.run, given)
        elif self._dry_run:
            launched = self._plan(name, given, decision.because)
        else:
            launched = self._execute(name, given, decision)
        self._launched.append(launched)
        if launched.status not in ("FINISHED", REUSED, PLANNED):
            raise StepFailed(name, launched.reasons, launched.command)
        return launched

    def note(self, text: str) -> None:
        """A line under the summary."""
        self._notes.append(text)

    def outputs(self) -> dict[str, str]:
        """What all steps handed on."""
        return {name: uri for each in self._launched for name, uri in each.outputs.items()}

    def report(self) -> None:
        """Print the summary (step, what it made, seconds, why it ran) and log workflow.json."""
        if not self._launched:
            return
        rows = [("step", "made", "seconds", "because")]
        for each in self._launched:
            made = ", ".join(uri for uri in each.outputs.values() if uri not in ("", NOT_KNOWN))
            rows.append((each.step, made or each.status, f"{each.seconds:.1f}" if each.seconds else "", each.because))
        print("\n".join(["", *_aligned(rows), *self._notes]), flush=True)
        record = {"run_id": self._run.run_id, "steps": [asdict(each) for each in self._launched], "notes": self._notes}
        mlflow.log_dict(record, "workflow.json")

    def _decide(self, name: str, given: Mapping[str, str]) -> earlier_runs.Decision:
        """An earlier run that has done this already, or why there is none."""
        if NOT_KNOWN in given.values():
            planned = [each.step for each in self._launched if each.status == PLANNED]
            return earlier_runs.Decision(because=f"follows {planned[-1]}")
        if not self._reuse:
            return earlier_runs.Decision(because="reuse=false")
        content = kinds.source_of(self._settings.source).fingerprint() if name == "ingest" else ""
        inputs = earlier_runs.inputs(name, self._settings, **{"content": content, **given})
        return earlier_runs.find_reusable(
            name, inputs, workflow=self._settings.name, experiment_id=self._run.experiment_id
        )

    def _take(self, name: str, earlier: Run, given: Mapping[str, str]) -> Launched:
        run_id = earlier.info.run_id
        link = f"[{name}](#/experiments/{earlier.info.experiment_id}/runs/{run_id})"
        if not self._dry_run:
            self._reused.append(f"{link}: reused")
            mlflow.set_tags({f"reused.{name}": run_id, mlflow_names.RUN_NOTE: "  \n".join(self._reused)})
        return Launched(
            step=name,
            run_id=run_id,
            status=REUSED,
            seconds=0.0,
            command=self._command(name, given),
            outputs=step_run.outputs(earlier),
            reasons=earlier.data.tags.get(step_run.REASONS, ""),
            because=f"reused, run {run_id[:8]}",
        )

    def _plan(self, name: str, given: Mapping[str, str], because: str) -> Launched:
        return Launched(
            step=name,
            run_id="",
            status=PLANNED,
            seconds=0.0,
            command=self._command(name, given),
            outputs=dict.fromkeys(HANDS_ON[name], NOT_KNOWN),
            reasons="",
            because=because,
        )

    def _execute(self, name: str, given: Mapping[str, str], decision: earlier_runs.Decision) -> Launched:
        if _needs_spark(name, given) and not self._has_spark:
            self._start_spark()
        console.message(f"{name} ... ({decision.because})")
        began = time.monotonic()
        failure = ""
        try:
            mlflow.run(
                str(PROJECT),
                entry_point=name,
                parameters=dict(given),
                experiment_id=self._run.experiment_id,
                run_name=name,
                env_manager="local",
                storage_dir=self._storage,
            )
        except ExecutionException as err:
            failure = f"it ended without a message: {err}"
        except interruption.Interrupted:
            processes.end_children(of_mlflow=True)  # before Spark, which the step may be using
            raise
        seconds = round(time.monotonic() - began, 1)
        child = self._newest_child(name)
        return Launched(
            step=name,
            run_id=child.info.run_id,
            status=child.info.status,
            seconds=seconds,
            command=self._command(name, given),
            outputs=step_run.outputs(child),
            reasons=child.data.tags.get(step_run.ERROR if failure else step_run.REASONS, failure),
            because=self._because(decision, child),
        )

    def _because(self, decision: earlier_runs.Decision, child: Run) -> str:
        """Why the step ran, by what it wrote down itself; where it did not get to that, by what was decided on."""
        receipt, _ = earlier_runs.receipt_of(child)
        return decision.in_hindsight(receipt["inputs"]) if "inputs" in receipt else decision.because

    def _start_spark(self) -> None:
        # PySpark takes half a second, which a workflow that runs no step does not pay
        from steps.core.spark import server

        source = kinds.source_of(self._settings.source)
        self._resources.enter_context(server.serve(self._lake, source.uri, data_bytes=source.size_bytes()))
        self._has_spark = True

    def _newest_child(self, name: str) -> Run:
        """The child's run: mlflow.run tells its id only when the child succeeds."""
        tags = {mlflow_names.PARENT_RUN_ID: self._run.run_id, mlflow_names.ENTRY_POINT: name}
        return runs.newest(self._run.experiment_id, tags, count=1)[0]

    def _command(self, name: str, given: Mapping[str, str]) -> str:
        source = self._run.source_name
        if not source or urlparse(source).scheme == "file" or os.path.exists(source.partition("#")[0]):
            is_here = location.is_embedded() and location.home() == PROJECT
            project = ["." if is_here else str(PROJECT)]
        else:
            project = [source, *(["-v", self._run.git_commit] if self._run.git_commit else [])]
        parameters = [word for key, value in given.items() for word in ("-P", f"{key}={value}")]
        return shlex.join(["mlflow", "run", *project, "-e", name, *parameters, "--env-manager", "local"])


def _needs_spark(name: str, given: Mapping[str, str]) -> bool:
    """Whether a step needs Spark, or starts it for infer, which will, unless the gate refuses the version."""
    if name in ("train", "infer"):
        return not snapshot.open(location.parse_table(given["table"])).fits_in_memory
    return name == "ingest"


def _check_syntax() -> None:
    """ProjectBroken when a file of the project is not Python: said before any step has run."""
    for path in sorted((PROJECT / "steps").rglob("*.py")):
        try:
            compile(path.read_bytes(), path, "exec")
        except (SyntaxError, ValueError) as err:
            name, line = str(path.relative_to(PROJECT)), getattr(err, "lineno", None) or 0
            raise ProjectBroken(name, line, getattr(err, "msg", str(err))) from err


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The cells of each row one under another; numbers, in the third column, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, made, seconds, because in rows:
        lines.append(f"{name:<{widths[0]}}  {made:<{widths[1]}}  {seconds:>{widths[2]}}  {because}".rstrip())
    return lines
