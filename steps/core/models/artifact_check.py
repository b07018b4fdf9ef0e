"""Whether a registered version can be used: loaded from the registry by a process that knows nothing of the project."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow

from steps.core.models import load_version
from steps.core.models.verdict import Rule
from steps.core.process import loaded_code, processes, scratch, warm_process

SECONDS = 300  # for the whole of it; half of one is usual where a warm process has the libraries, else 3
PROGRAM = Path(load_version.__file__)
END_SECONDS = 10  # for its process to end when it is told to


@dataclass(frozen=True, kw_only=True)
class Check:
    """A process that loads the version `uri` and scores its input example."""

    uri: str
    process: subprocess.Popen[str]

    def rule(self, columns: Sequence[str]) -> Rule:
        """What came of it, on a table with these `columns`. Waits for the process."""
        try:
            out, err = self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return _failed(self.uri, f"no answer in {SECONDS} seconds")
        if self.process.returncode:
            lines = [line for line in err.splitlines() if line.strip()]
            return _failed(self.uri, lines[-1].strip() if lines else f"exit code {self.process.returncode}")
        answer = json.loads(out.splitlines()[-1])
        if absent := [name for name in answer["inputs"] if name not in columns]:
            return _failed(self.uri, f"its signature has {', '.join(absent)}, which the table has not")
        if not answer["example"]:
            return _failed(self.uri, "it has no input example, or gives no prediction for it")
        sentence = f"{self.uri} loads in a process of its own and scores its input example"
        return Rule(name="artifact", outcome="pass", sentence=sentence, told=False)


@contextlib.contextmanager
def started(uri: str) -> Iterator[Check]:
    """The check of a version, begun; its process does not outlive this block.

    It runs beside the judging, so it is begun before it is known to be needed.
    """
    with scratch.scratch_folder("workflow-") as folder, warm_process.serving(folder / "warm-process"):
        process = _start(uri)
        try:
            yield Check(uri=uri, process=process)
        finally:
            process.terminate()  # not kill(): it may stand for one that a warm process has started
            try:
                process.communicate(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _start(uri: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != processes.STARTED_BY_MLFLOW}
    environment["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()
    environment["MLFLOW_REGISTRY_URI"] = mlflow.get_registry_uri()
    project = loaded_code.PROJECT
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [project, environment.get("PYTHONPATH")]))
    return subprocess.Popen(  # not by -m, as the working folder may have something else of the name steps
        [sys.executable, f"{project}/steps/__main__.py", "without-project", PROGRAM, uri],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _failed(uri: str, reason: str) -> Rule:
    return Rule(name="artifact", outcome="fail", sentence=f"{uri} cannot be used as it is registered: {reason}")
