"""A folder where a user stands: the commands given there, as processes of their own, and what they left behind."""

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import yaml
from deltalake import DeltaTable, QueryBuilder
from mlflow import MlflowClient
from mlflow.entities import Run

from steps.core.tracking import database

PROJECT = Path(__file__).resolve().parents[1]
CASES = Path(__file__).with_name("cases")
BIN = Path(sys.executable).parent
LIMIT_SECONDS = 300  # for one command
STANDING = "TEST_STANDS_IN"  # environment variable that marks every process started from a place
PREFIXES = (
    *("MLFLOW_", "AWS_", "SPARK_", "PYSPARK_", "WORKFLOW_", "GIT_", "LAKE_URI", "PYTHONPATH", STANDING),
    "PYTHONDONTWRITEBYTECODE",  # a user's machine has it seldom, and steps start faster without
)

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
# of the model that main trains on Iris with XGBoost 3.4.1, conda.yaml's pin
BOOSTER_SHA256 = "fe53871d0c4a2fb1b6ff065d2b16ed71b9d3bb7398d70e55f1cae449c25e71ad"
COLUMNS: dict[str, dict[str, Any]] = {  # of Iris where a file has them under the config's names
    **{name: {"type": "double", "min": 0} for name in FEATURES},
    "species": {"type": "string", "allowed": ["setosa", "versicolor", "virginica"]},
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that has ended. `text` is what a terminal would show: its output and its errors."""

    exit_code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Place:
    """`folder` is where the user stands; `extra` are environment variables that the user has set, `umask` too."""

    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    umask: int = -1  # as it is
    is_forked: bool = True  # a command of this Python comes from a process that has imported the packages already

    @property
    def environment(self) -> dict[str, str]:
        """This process's own, without anything that steers MLflow, Spark or the project; and `extra`."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        clean["PATH"] = os.pathsep.join([str(BIN), clean["PATH"]])
        return {**clean, STANDING: str(self.folder), **self.extra}

    def run(self, *command: str | Path) -> Ended:
        """A process of its own; `mlflow` and this Python are forked by one that need not import the packages first."""
        began = time.monotonic()
        words = [str(word) for word in command]
        if words[0] in ("mlflow", str(BIN / "mlflow")):
            words = [sys.executable, str(BIN / "mlflow"), *words[1:]]
        is_python = words[0] == sys.executable and (words[1] in ("-m", "-c") or os.path.isfile(words[1]))
        exit_code, out, err = (self._forked if is_python and self.is_forked else self._started)(words)
        return Ended(exit_code=exit_code, out=out, err=err, seconds=time.monotonic() - began)

    def _started(self, words: list[str]) -> tuple[int, str, str]:
        ended = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            umask=self.umask,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def _forked(self, words: list[str]) -> tuple[int, str, str]:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            for path in (out, err):
                path.touch()
            with self.fork(words[1:], stdin=Path(os.devnull), stdout=out, stderr=err) as answers:
                pid = int(answers.readline())
                try:
                    exit_code = int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise
            return exit_code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")

    def fork(self, words: Sequence[str], *, stdin: Path, stdout: Path, stderr: Path) -> TextIO:
        """A command of this Python with these files: the answers are its number and, at its end, its exit code."""
        request = {"words": words, "folder": str(self.folder), "umask": self.umask, "environment": self.environment}
        request |= {"in": str(stdin), "out": str(stdout), "err": str(stderr)}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_SECONDS)
            connection.connect(_warm_python())
            connection.sendall(f"{json.dumps(request)}\n".encode())
            return connection.makefile()

    def mlflow_run(
        self, entry_point: str, /, *, project: str | Path = PROJECT, at: str = "", **parameters: object
    ) -> Ended:
        """`at` is a tag, branch or commit of a project at a git URL."""
        given = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
        where = ["--version", at] if at else []
        return self.run(BIN / "mlflow", "run", project, *where, "-e", entry_point, *given, "--env-manager", "local")

    def step(self, name: str, /, **parameters: object) -> Ended:
        """The command of an entry point, `python -m steps <name>`, without MLflow's own around it."""
        there = replace(self, extra={"PYTHONPATH": str(PROJECT), **self.extra})
        options = [f"--{parameter}={value}" for parameter, value in parameters.items()]
        return there.run(sys.executable, "-m", "steps", name, *options)

    def config(self, **changes: Any) -> Path:
        """A config file here: configs/iris.yaml with `changes`, which are merged key by key, but for the columns."""
        settings = yaml.safe_load((PROJECT / "configs" / "iris.yaml").read_text(encoding="utf-8"))
        for key, value in changes.items():
            merge = isinstance(value, dict) and key != "columns"
            settings[key] = {**settings.get(key, {}), **value} if merge else value
        path = self.folder / f"config-{len(list(self.folder.glob('config-*.yaml')))}.yaml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.extra.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder / 'mlflow.db'}"))

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        return list(self.client.search_runs(["0"], order_by=["attributes.start_time DESC"]))

    def lake(self, name: str) -> str:
        return str(self.folder / "lake" / name)

    def processes(self) -> dict[int, str]:
        """The processes that were started from here and live, with their command lines, or the names that they took."""
        found, mark = {}, f"{STANDING}={self.folder}".encode()
        for pid in (name for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()):
            try:
                with open(f"/proc/{pid}/environ", "rb") as environment:
                    if mark not in environment.read().split(b"\0"):
                        continue
                alive = " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:  # it has ended, or is not ours to see
                continue
            if alive:
                found[int(pid)] = name if name.startswith("steps-") else command
        return found


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A workflow that has ended well: where, what it printed, and the project's `git status` before and after."""

    place: Place
    ended: Ended
    git_status: tuple[str, str]


@cache
def _warm_python() -> str:
    """The socket of a warm.py that ends with this process, which holds its standard input."""
    path = Path(tempfile.mkdtemp(prefix="warm-"), "socket")
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm.py"), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=Place(path.parent).environment,
    )

    def end() -> None:
        process.communicate()
        shutil.rmtree(path.parent)

    atexit.register(end)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return str(path)


def new_database(folder: Path) -> str:
    """MLflow's database in `folder`, empty: its migrations are run once for all tests. Its URI."""
    path = folder / "mlflow.db"
    path.write_bytes(_empty_database())
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("update experiments set artifact_location = ?", (f"{folder}/mlruns/0",))
    return f"sqlite:///{path}"


@cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        database.ensure_usable(f"sqlite:///{folder}/mlflow.db")
        return Path(folder, "mlflow.db").read_bytes()


def until(condition: Callable[[], object], *, seconds: float = 5, every_seconds: float = 0.05) -> bool:
    """Whether it has come true within that time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(every_seconds)
    return bool(condition())


def rows_of(path: str, version: int | None = None, *, options: dict[str, str] | None = None) -> pa.Table:
    """A Delta table as deltalake alone reads it. Not to_pyarrow_table(): its threads may abort this process."""
    table = DeltaTable(path, version=version, storage_options=options)
    return pa.table(QueryBuilder().register("stored", table).execute("SELECT * FROM stored").read_all())


def datasets_of(run: Run) -> list[tuple[str, str, str]]:
    """Name, digest and context of each dataset that a run has as its input."""
    assert run.inputs is not None
    return [
        (given.dataset.name, given.dataset.digest, ", ".join(tag.value for tag in given.tags))
        for given in run.inputs.dataset_inputs
    ]


def version_of(path: str) -> int:
    return DeltaTable(path).version()


def without_java(folder: Path) -> str:
    """A PATH, made in `folder`, with this Python and git on it but no java."""
    folder.mkdir()
    for name in ("bash", "sh", "git", "uname", "dirname", "env"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return os.pathsep.join([str(BIN), str(folder)])
