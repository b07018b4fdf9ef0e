"""A workflow that is ended in its midst: nothing goes on running, nothing is half there, and the next one goes on."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from place import BIN, PROJECT, Finished, Place, new_database, rows_of, until
from sklearn.datasets import load_iris
from small import tracked

from steps.core.models import aliases, registry
from steps.core.process import scratch

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"
PROGRAMS = {
    "command": "mlflow run",
    "driver": "-m steps main",
    "client": "-m steps (?!main)",
    "warm": "^steps-warm$",
    "keeper": "^steps-keeper$",
    "step": "^steps-(?!warm|keeper)",
    "jvm": "org.apache.spark.deploy.SparkSubmit",
}
LARGE_COPIES = 20_000
KILLS = {"keeper": ["steps-train"], "jvm": ["steps-infer", "pyspark.daemon"]}  # each with what is at its work then
OF_THIS_RUN = {"run_id", "scored_at", "model_uri", "table_uri"}  # columns of predictions that differ between workflows


@dataclass(frozen=True, kw_only=True)
class Running:
    """`mlflow run <project> -e main`, in a group of its own as a terminal starts it."""

    place: Place
    command: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def pid_of(self, target: str) -> int | None:
        found = self.place.processes().items()
        commands = {pid: words for pid, words in found if ("/java " in words) == (target == "jvm")}
        return next((pid for pid, words in commands.items() if re.search(PROGRAMS[target], words)), None)

    def send(self, name: str, target: str) -> bool:
        """Send a signal to a process or, as Ctrl-C does, to the whole group; False when there is none such."""
        pid = self.command.pid if target == "group" else self.pid_of(target)
        with contextlib.suppress(ProcessLookupError):
            if pid:
                (os.killpg if target == "group" else os.kill)(pid, signal.Signals[name])
        return pid is not None

    def is_gone(self) -> bool:
        return self.command.poll() is not None and self.place.processes() == {}


@contextlib.contextmanager
def started(place: Place, **parameters: object) -> Iterator[Running]:
    output = place.folder / f"output-{time.monotonic_ns()}.txt"
    given = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    with output.open("wb") as file:
        command = subprocess.Popen(
            [BIN / "mlflow", "run", PROJECT, "-e", "main", *given, "--env-manager", "local"],
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield Running(place=place, command=command, output=output)
    finally:
        for pid in (command.pid, *place.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        command.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where all of them run, one after the other; its database is there, as after `make run`."""
    base = tmp_path_factory.mktemp("interrupted")
    for name in ("stand", "tmp"):
        (base / name).mkdir()
    new_database(base / "stand")
    return Place(base / "stand", {"TMPDIR": str(base / "tmp"), "PYTHONPATH": str(PROJECT)})


@pytest.fixture(scope="module")
def large(place: Place) -> Path:
    """Iris many times over: Spark's workers read it for seconds."""
    flowers = load_iris(as_frame=True)
    frame = flowers.frame.assign(target=flowers.target_names[flowers.target])
    path = place.folder / "large.parquet"
    pd.concat([frame] * LARGE_COPIES).to_parquet(path)
    return path


def with_spark(place: Place) -> Place:
    """Where Spark's workers do what is done in memory otherwise."""
    return replace(place, extra={**place.extra, "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"})


def interrupted(place: Place, name: str, target: str, *, source: Path, by_spark: bool = False) -> str:
    """Start a workflow, send the signal while ingest, or Spark's workers, read `source`; what was printed until the
    end."""
    there = with_spark(place) if by_spark else place

    def is_read() -> bool:
        if by_spark:
            return "pyspark.daemon" in " ".join(place.processes().values())
        return any(run.info.status == "RUNNING" and "source.uri" in run.data.params for run in place.runs())

    with started(there, source=source) as running:
        assert until(is_read, seconds=120), running.text()
        assert running.send(name, target)
        assert until(running.is_gone, seconds=10), place.processes()
        return running.text()


def statuses(place: Place) -> dict[str, str]:
    """Of the runs of the newest workflow, by step."""
    runs = place.runs()
    (main,) = [run for run in runs if run.data.tags["mlflow.project.entryPoint"] == "main"][:1]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == main.info.run_id]
    return {run.data.tags["mlflow.project.entryPoint"]: run.info.status for run in (main, *children)}


class TestTheMomentAfter:
    """A run that MLflow waited for is FAILED: whoever waits sets it so, whatever the run says of itself."""

    def test_ctrl_c_ends_all_with_one_line_and_no_traceback(self, place: Place, large: Path) -> None:
        text = interrupted(place, "SIGINT", "group", source=large, by_spark=True)
        assert text.count("interrupted: what was finished is kept") == 1
        assert "Traceback" not in text
        assert statuses(place) == {"main": "FAILED", "ingest": "KILLED"}
        assert [path.name for path in (place.folder.parent / "tmp").glob("workflow-*")] == []

    def test_sigterm_to_the_driver_ends_its_step_and_its_spark(self, place: Place, large: Path) -> None:
        text = interrupted(place, "SIGTERM", "driver", source=large, by_spark=True)
        assert text.count("interrupted: what was finished is kept") == 1
        assert "Traceback" not in text
        assert statuses(place) == {"main": "FAILED", "ingest": "KILLED"}

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
    def test_whatever_ends_the_command_ends_the_rest(self, place: Place, large: Path, name: str) -> None:
        interrupted(place, name, "command", source=large)
        assert statuses(place) == {"main": "KILLED", "ingest": "KILLED"}

    def test_a_step_does_not_outlive_a_driver_that_is_killed(self, place: Place, large: Path) -> None:
        interrupted(place, "SIGKILL", "driver", source=large, by_spark=True)
        # Its Spark went with the driver: what the step could not mark in the time it had, the next start marks.
        assert place.mlflow_run("status").exit_code == 0
        assert statuses(place) == {"main": "FAILED", "ingest": "KILLED"}

    def test_the_driver_reports_a_step_that_is_killed(self, place: Place, large: Path) -> None:
        text = interrupted(place, "SIGKILL", "step", source=large)
        assert "ingest failed\nit ended without a message" in text
        assert "  again     mlflow run " in text
        assert statuses(place) == {"main": "FAILED", "ingest": "FAILED"}


@pytest.fixture(scope="module")
def went_on(place: Place) -> Place:
    """After kills of processes while train and infer are at their work, a workflow that nobody disturbs."""

    def are_at_work(programs: list[str]) -> bool:
        commands = " ".join(place.processes().values())
        return all(program in commands for program in programs)

    for target, programs in KILLS.items():
        with started(with_spark(place)) as running:
            assert until(partial(are_at_work, programs), seconds=120), running.text()
            assert running.send("SIGKILL", target), running.text()
            assert until(running.is_gone, seconds=15), place.processes()
            assert running.command.returncode != 0, running.text()
    for owned in (place.folder.parent / "tmp").glob(f"workflow-*/{scratch.OWNED}"):
        os.utime(owned, (0, 0))  # the next start leaves young ones alone
    with started(place) as running:
        assert until(running.is_gone, seconds=180)
        assert running.command.returncode == 0, running.text()
    return place


def rows(path: str, *, version: int | None = None) -> Counter[tuple[tuple[str, str], ...]]:
    stored = rows_of(path, version).to_pylist()
    return Counter(tuple((key, repr(row[key])) for key in sorted(set(row) - OF_THIS_RUN)) for row in stored)


class TestTheNextStart:
    def test_it_leaves_no_run_running_and_no_folder(self, went_on: Place) -> None:
        assert {run.info.status for run in went_on.runs()} <= {"FINISHED", "FAILED", "KILLED"}
        ran = statuses(went_on)  # what a workflow before it had finished it reuses, and has no run for
        assert ran == {"main": "FINISHED", **dict.fromkeys(ran, "FINISHED")}
        assert list((went_on.folder.parent / "tmp").glob("workflow-*")) == []

    @pytest.mark.parametrize("name", ["iris", "iris_predictions"])
    def test_its_tables_hold_what_an_undisturbed_workflow_writes(
        self, finished: Finished, went_on: Place, name: str
    ) -> None:
        expected = rows(finished.place.lake(name))
        assert sum(expected.values()) == 150
        for version in range(DeltaTable(went_on.lake(name)).version() + 1):
            assert rows(went_on.lake(name), version=version) == expected

    def test_the_source_is_in_one_version_however_often_it_was_interrupted(self, went_on: Place) -> None:
        assert DeltaTable(went_on.lake("iris")).version() == 0

    def test_it_leaves_nothing_to_do(self, went_on: Place) -> None:
        assert went_on.step("main").out.count("reused, run") == 4

    def test_its_model_is_what_an_undisturbed_workflow_trains(self, finished: Finished, went_on: Place) -> None:
        models = [place.client.get_registered_model(MODEL) for place in (finished.place, went_on)]
        versions = [
            place.client.get_model_version(MODEL, str(model.aliases["staging"]))
            for place, model in zip((finished.place, went_on), models, strict=True)
        ]
        assert versions[0].tags["booster_sha256"] == versions[1].tags["booster_sha256"]
        assert versions[1].tags[registry.VERDICT] == "pass"

    def test_the_history_of_the_alias_has_no_gap(self, went_on: Place) -> None:
        model = went_on.client.get_registered_model(MODEL)
        with tracked(f"sqlite:///{went_on.folder}/mlflow.db"):
            moves = aliases.history(MODEL, "staging")
        assert [move.from_version for move in moves] == ["", *[move.to_version for move in moves[:-1]]]
        assert moves[-1].to_version == str(model.aliases["staging"])
