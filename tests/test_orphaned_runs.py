"""Runs whose process was killed are set to KILLED by the next start; nobody else's are touched."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from place import new_database
from small import tracked

from steps.core.config import PROJECT
from steps.core.process import processes
from steps.core.workflow import orphaned_runs

HERE = processes.this_process()
GONE = HERE.rsplit(":", 2)[0] + ":1:99"  # process 1 began at another time
BEFORE = HERE.replace(HERE.split(":")[1], "an-earlier-boot")
ELSEWHERE = "elsewhere/1:a-boot:1:99"
LONG_AGO = int(psutil.Process(1).create_time() - 3600) * 1000  # before any process that is there
OF_THE_PROJECT = {"mlflow.source.name": str(PROJECT), "mlflow.project.entryPoint": "train", "mlflow.user": "ada"}


@dataclass(frozen=True)
class Experiment:
    """One of its own for each test."""

    client: MlflowClient
    number: str

    def run(self, tags: Mapping[str, str], *, began: int | None = None) -> Run:
        return self.client.create_run(self.number, start_time=began, tags=dict(tags))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    with tracked(new_database(tmp_path_factory.mktemp("store"))):
        yield MlflowClient()


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> Experiment:
    return Experiment(client, client.create_experiment(request.node.name))


@pytest.fixture
def own(experiment: Experiment) -> Run:
    """The run of the process that looks."""
    return experiment.run({"process": HERE, "mlflow.user": "ada", "mlflow.source.name": "main.py"})


def status(run: Run) -> str:
    return str(mlflow.get_run(run.info.run_id).info.status)


def after_a_start(run: Run, own: Run) -> str:
    orphaned_runs.mark_orphaned_runs(own)
    assert status(own) == "RUNNING"
    return status(run)


@contextmanager
def command(*words: str) -> Iterator[None]:
    """A process with these words in its command line."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *words])
    try:
        time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (GONE, "KILLED"),
        (BEFORE, "KILLED"),
        (HERE, "RUNNING"),
        (ELSEWHERE, "RUNNING"),
        ("a word of the user's", "RUNNING"),
    ],
    ids=["gone", "before the machine was started again", "living", "on another machine", "no process"],
)
def test_a_run_goes_by_its_process(experiment: Experiment, own: Run, process: str, expected: str) -> None:
    assert after_a_start(experiment.run({"process": process}), own) == expected


def test_a_run_that_has_ended_stays_as_it_is(experiment: Experiment, own: Run) -> None:
    run = experiment.run({"process": GONE})
    experiment.client.set_terminated(run.info.run_id, "FAILED")
    assert after_a_start(run, own) == "FAILED"


@pytest.mark.parametrize(
    ("driver", "driver_status", "expected"),
    [
        (GONE, "RUNNING", "KILLED"),
        (GONE, "FAILED", "KILLED"),
        (HERE, "RUNNING", "RUNNING"),
        (HERE, "KILLED", "KILLED"),
        (ELSEWHERE, "RUNNING", "RUNNING"),
        ("", "FINISHED", "RUNNING"),
    ],
    ids=["gone", "gone and marked", "living", "that gave it up", "on another machine", "that is none of ours"],
)
def test_a_run_that_its_process_never_got_to_goes_by_its_driver(
    experiment: Experiment, own: Run, driver: str, driver_status: str, expected: str
) -> None:
    parent = experiment.run({"process": driver} if driver else {})
    if driver_status != "RUNNING":
        experiment.client.set_terminated(parent.info.run_id, driver_status)
    child = experiment.run({**OF_THE_PROJECT, "mlflow.parentRunId": parent.info.run_id})
    assert after_a_start(child, own) == expected


def test_a_run_without_a_driver_is_not_left_while_the_mlflow_run_that_made_it_may_be_there(
    experiment: Experiment, own: Run
) -> None:
    with command("/usr/bin/mlflow", "run", "."):
        assert after_a_start(experiment.run(OF_THE_PROJECT), own) == "RUNNING"


def test_it_is_when_only_a_younger_mlflow_run_is_there(experiment: Experiment, own: Run) -> None:
    run = experiment.run(OF_THE_PROJECT, began=LONG_AGO)
    with command("/usr/bin/mlflow", "run", "."):
        assert after_a_start(run, own) == "KILLED"


@pytest.mark.parametrize(
    "other",
    [{"mlflow.source.name": "/home/ada/else"}, {"mlflow.project.entryPoint": None}, {"mlflow.user": "bob"}],
    ids=["another project's", "a notebook's", "another user's"],
)
def test_others_runs_are_left_alone(experiment: Experiment, own: Run, other: dict[str, str | None]) -> None:
    tags = {key: value for key, value in {**OF_THE_PROJECT, **other}.items() if value is not None}
    assert after_a_start(experiment.run(tags, began=LONG_AGO), own) == "RUNNING"


def test_another_experiments_runs_are_left_alone(experiment: Experiment, own: Run) -> None:
    other = experiment.client.create_run("0", tags={"process": GONE})
    assert after_a_start(other, own) == "RUNNING"


def test_an_interrupted_run_takes_its_running_children_with_it(experiment: Experiment, own: Run) -> None:
    parent = {"mlflow.parentRunId": own.info.run_id}
    running, finished = experiment.run(parent), experiment.run(parent)
    stranger = experiment.run({})
    experiment.client.set_terminated(finished.info.run_id)
    orphaned_runs.mark_killed(own.info.run_id, {"error": "interrupted"})
    assert [status(run) for run in (own, running, finished, stranger)] == ["KILLED", "KILLED", "FINISHED", "RUNNING"]
    assert mlflow.get_run(own.info.run_id).data.tags["error"] == "interrupted"
