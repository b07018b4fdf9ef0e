"""Launch entry points as child runs of the driver's run, and tell what became of each."""

import contextlib
import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import ExecutionException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_PROJECT_ENTRY_POINT

from steps.core import lake, step
from steps.core.config import PROJECT
from steps.core.errors import StepFailed


@dataclass(frozen=True, kw_only=True)
class Launched:
    """One child run: what it handed on (name to URI) and why, and the command that runs it alone."""

    step: str
    run_id: str
    status: str
    seconds: float
    command: str
    outputs: dict[str, str]
    reasons: str


@contextlib.contextmanager
def workflow(run: step.StepRun) -> Iterator["Workflow"]:
    """A Workflow whose children use this Python; at the end, good or bad, its summary is printed and logged."""
    # mlflow.run takes `python` from PATH; without a storage_dir it leaves a folder behind (mlflow/mlflow#8437).
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ[step.WORKFLOW_RUN] = run.run_id
    logging.getLogger("mlflow.projects").setLevel(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="workflow-") as storage:
            running = Workflow(run, storage)
            try:
                yield running
            finally:
                running.report()
    finally:
        del os.environ[step.WORKFLOW_RUN]


class Workflow:
    """The child runs of one driver run, in the order of their launch."""

    def __init__(self, run: step.StepRun, storage: str) -> None:
        self._run = run
        self._storage = storage
        self._launched: list[Launched] = []
        self._notes: list[str] = []

    def launch(self, name: str, **parameters: object) -> Launched:
        """Run one entry point to its end; parameters that are None or "" are left to its defaults.

        StepFailed carries the message that the step left on its run.
        """
        given = {key: str(value) for key, value in parameters.items() if value not in (None, "")}
        command = self._command(name, given)
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        failure = None
        try:
            mlflow.run(
                str(PROJECT),
                entry_point=name,
                parameters=given,
                experiment_id=self._run.experiment_id,
                run_name=name,
                env_manager="local",
                storage_dir=self._storage,
            )
        except ExecutionException as err:
            failure = err
        seconds = round(time.monotonic() - began, 1)
        child = self._newest_child(name)
        launched = Launched(
            step=name,
            run_id=child.info.run_id,
            status=child.info.status,
            seconds=seconds,
            command=command,
            outputs=step.outputs(child),
            reasons=child.data.tags.get(step.REASONS, ""),
        )
        self._launched.append(launched)
        if failure:
            message = child.data.tags.get(step.ERROR, f"it ended without a message: {failure}")
            raise StepFailed(name, message, command) from failure
        return launched

    def note(self, text: str) -> None:
        """A line under the summary."""
        self._notes.append(text)

    def report(self) -> None:
        """Print the summary (step, what it made, seconds) and log workflow.json."""
        rows = [("step", "made", "seconds")]
        for each in self._launched:
            made = ", ".join(value for value in each.outputs.values() if value) or each.status
            rows.append((each.step, made, f"{each.seconds:.1f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{name:<{widths[0]}}  {made:<{widths[1]}}  {seconds:>{widths[2]}}" for name, made, seconds in rows]
        print("\n".join(["", *lines, *self._notes]), flush=True)
        record = {"run_id": self._run.run_id, "steps": [asdict(each) for each in self._launched], "notes": self._notes}
        mlflow.log_dict(record, "workflow.json")

    def _newest_child(self, name: str) -> mlflow.entities.Run:
        """The child's run: mlflow.run tells its id only when the child succeeds."""
        tags = {MLFLOW_PARENT_RUN_ID: self._run.run_id, MLFLOW_PROJECT_ENTRY_POINT: name}
        children = MlflowClient().search_runs(
            [self._run.experiment_id],
            " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items()),
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return children[0]

    def _command(self, name: str, given: dict[str, str]) -> str:
        source = self._run.source_name
        if urlparse(source).scheme in ("", "file"):
            project = ["." if lake.home() == PROJECT else str(PROJECT)]
        else:
            project = [source, *(["-v", self._run.git_commit] if self._run.git_commit else [])]
        parameters = [word for key, value in given.items() for word in ("-P", f"{key}={value}")]
        return shlex.join(["mlflow", "run", *project, "-e", name, *parameters, "--env-manager", "local"])
