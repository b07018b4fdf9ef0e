"""One entry point of the project as a task: started in the project's own environment, its results handed on by XCom."""

import ctypes
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from workflow_dags import parameters, settings

END_SECONDS = 20  # for a step to end by itself; it takes up to eight
MESSAGE = re.compile(r"^\w+: .*", re.MULTILINE)  # the first line of an error, others are indented
PR_SET_PDEATHSIG = 1  # of prctl(2)


class StepFailed(SystemExit):
    """A step ended with an error. Its code is the step's own message, which Airflow logs without a traceback."""


class Step(BaseOperator):
    """Run `python -m steps <step>`; its return value is what the step hands on, by name.

    The step gets those of the DAG's params that it declares in MLproject, and `inputs`, results of earlier tasks.
    With `announces` the table is an event of that asset where it is a new version, else the task is skipped. With
    `given_by` a run that such an event has started takes its table, and the step is not run.
    """

    template_fields = ("inputs",)

    def __init__(
        self,
        *,
        step: str,
        inputs: Mapping[str, str] | None = None,
        announces: Asset | None = None,
        given_by: Asset | None = None,
        **task: Any,
    ) -> None:
        assets = {"inlets": [announces], "outlets": [announces]} if announces else {}
        super().__init__(task_id=step, multiple_outputs=True, **assets, **task)
        self.step = step
        self.inputs = dict(inputs or {})
        self.announces = announces
        self.given_by = given_by
        self.process: subprocess.Popen[str] | None = None

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The results of the step, from an event or by running it. StepFailed."""
        if self.given_by and (events := context["triggering_asset_events"].get(self.given_by)):
            self.log.info("This run was started by the new version %s", events[-1].extra["table"])
            return dict(events[-1].extra)
        results = self.run_step(self.arguments(context))
        if self.announces:
            self.announce(results["table"], context)
        return results

    def arguments(self, context: Mapping[str, Any]) -> dict[str, str]:
        """The step's parameters by name."""
        declared = settings.entry_point(self.step)
        given = {name: parameters.as_text(value) for name, value in context["params"].items() if name in declared}
        if "{{ ds }}" in given.get("source", ""):
            given["source"] = given["source"].replace("{{ ds }}", context["ds"])
        return {**given, **self.inputs}

    def run_step(self, arguments: Mapping[str, str]) -> dict[str, Any]:
        """Run the command to its end, with its output in the task's log."""
        settings.FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder, "outputs")
            command = [str(settings.PYTHON), "-m", "steps", self.step, *parameters.words(arguments)]
            self.log.info("%s", " ".join(command))
            self.process = subprocess.Popen(
                command,
                cwd=settings.FOLDER,
                env=settings.step_environment(WORKFLOW_OUTPUTS=str(outputs)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
            printed = self._logged(self.process)
            if exit_code := self.process.wait():
                raise StepFailed(_message(self.step, exit_code, printed))
            results: dict[str, Any] = dict(line.split("=", 1) for line in outputs.read_text("utf-8").splitlines())
        because = [line.removeprefix(f"{self.step}: because ") for line in printed if ": because " in line]
        return {**results, "because": because} if because else results

    def announce(self, table: str, context: Mapping[str, Any]) -> None:
        """Make `table` an event of the asset, unless it was that of the newest one."""
        newest = context["inlet_events"][self.announces].ascending(False).limit(1)
        if len(newest) and newest[0].extra.get("table") == table:
            raise AirflowSkipException(f"{table} was there already: no new version")
        context["outlet_events"][self.announces].extra = {"table": table}

    def on_kill(self) -> None:
        """End the step's processes: the task was cleared, marked, or took too long."""
        if not self.process or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)

    def _logged(self, process: subprocess.Popen[str]) -> list[str]:
        printed = []
        for line in process.stdout or ():
            self.log.info("%s", line.rstrip())
            printed.append(line.rstrip())
        return printed


def _message(step: str, exit_code: int, printed: Sequence[str]) -> str:
    """What the step says of its end: the last error that it printed, with its indented lines."""
    if exit_code < 0:
        return f"{step} was ended by {signal.Signals(-exit_code).name}: what was finished is kept, and a retry goes on"
    text = "\n".join(printed)
    errors = list(MESSAGE.finditer(text))
    return text[errors[-1].start() :] if errors else text[-2000:] or f"{step} ended with exit code {exit_code}"


def _end_with_parent() -> None:
    """Called in the new process: Linux sends it SIGTERM when Airflow's process of the task is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
