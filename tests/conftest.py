"""What is made once for all tests: one finished workflow, and one Spark for the steps that run alone."""

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from place import PROJECT, Finished, Place, new_database
from services import ObjectStore, Stack, object_store
from small import sqlite, tracked
from xdist.scheduler import LoadScopeScheduling

from steps.core.spark import connect_server

# Else what a shell starts in the background, and so all that tests start there, ignores the first; by nohup the second.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

WORKERS = 3  # of the whole suite, on two cores, as much of it is waiting; a file is run by one of them
TOGETHER = {  # files that share what is made once
    **dict.fromkeys(("test_stack", "test_stack_security"), "the stack"),
    **dict.fromkeys(("test_spark_inference", "test_vacuum", "test_spark_ingestion"), "one Spark"),
    **dict.fromkeys(("test_modes_in_spark", "test_scoring_in_spark"), "one Spark"),
    **dict.fromkeys(("test_spark_training", "test_monitor"), "one Spark"),
    **dict.fromkeys(("test_workflow", "test_status", "test_bad_input", "test_schedule"), "a finished workflow"),
}
LONGEST = (  # files that are begun first, so that no worker is left alone with one of them
    *(
        "test_airflow",
        "test_retraining",
        "test_serve_step",
        "test_request_log",
        "test_notebook",
        "test_serve",
        "test_rollout",
    ),
    *("test_interruption", "test_stack", "test_stack_security", "test_reuse", "test_spark_inference", "test_vacuum"),
    *("test_spark_ingestion", "test_modes_in_spark", "test_spark_training", "test_monitor", "test_scoring_in_spark"),
    *("test_spark", "test_stack_faults", "test_docs_console"),
    *("test_workflow", "test_status", "test_bad_input", "test_schedule", "test_single_steps", "test_compose"),
    *("test_soak", "test_several_at_once", "test_own_data", "test_tuning", "test_git_url", "test_contributing"),
    *("test_model_files", "test_ingest", "test_ingest_cases", "test_jdbc", "test_upsert", "test_train_step"),
    *("test_serving", "test_commit", "test_vacuum_notices", "test_lineage", "test_nameless_user", "test_engines"),
    *("test_train_and_report",),
    *("test_cluster", "test_warm_process", "test_infer_step", "test_scoring_plan"),
)
OF_A_CLUSTER = """<configuration>
<property><name>fs.defaultFS</name><value>hdfs://nowhere.invalid:8020</value></property>
</configuration>"""


class ByFile(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).stem
        return TOGETHER.get(name, name)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None beside this process when one file is asked for."""
    return 0 if len(config.args) == 1 and ".py" in config.args[0] else WORKERS


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False  # the order of pytest_collection_modifyitems
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`mlflow run <project> -e main`, once for all workers, in a folder whose name has a blank and a letter that is not
    ASCII. Its user keeps all files to themselves, on a machine that is set to use a cluster."""
    base = tmp_path_factory.getbasetemp()
    of_all_workers = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (of_all_workers / "finished.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = of_all_workers / "finished.pickle"
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_finish(tmp_path_factory.mktemp("finished"))))
    made: Finished = pickle.loads(kept.read_bytes())
    return made


def _finish(base: Path) -> Finished:
    folder, temporary = base / "my project é", base / "tmp"
    folder.mkdir()
    temporary.mkdir()
    cluster = base / "cluster"
    cluster.mkdir()
    (cluster / "core-site.xml").write_text(OF_A_CLUSTER)
    (cluster / "spark-defaults.conf").write_text("spark.master yarn\n")
    of_the_machine = {"HADOOP_CONF_DIR": str(cluster), "SPARK_CONF_DIR": str(cluster)}
    place = Place(folder, {"TMPDIR": str(temporary), **of_the_machine}, umask=0o077, is_forked=False)
    before = _git_status()
    ended = place.mlflow_run("main")
    assert ended.exit_code == 0, ended.text
    return Finished(place=place, ended=ended, git_status=(before, _git_status()))


@pytest.fixture(scope="session")
def served() -> Iterator[dict[str, str]]:
    """The environment of a process that is to use this session's one Spark server."""
    with _serving() as environment:
        yield environment


@pytest.fixture(scope="module")
def served_at_store(stack: Stack) -> Iterator[dict[str, str]]:
    """The environment of a process that is to use one Spark server for the object store of its module."""
    with _serving("s3://delta", **stack.store.settings) as environment:
        yield environment


@pytest.fixture(scope="module")
def served_with_driver() -> Iterator[dict[str, str]]:
    """The environment of a process that is to use its module's one Spark server for databases, which is in New York."""
    with _serving("jdbc:", TZ="America/New_York") as environment:
        yield environment


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A fresh folder for the tests of one module."""
    folder = tmp_path_factory.mktemp("stand")
    new_database(folder)
    return Place(folder)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[None]:
    """MLflow in this process has a store of the test's own, which is made where it is asked for."""
    with tracked(sqlite(tmp_path)):
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store with the bucket `delta`, for tests that do not stop it and write where no other does."""
    with object_store(tmp_path_factory.mktemp("object-store"), bucket="delta") as store:
        yield store


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, an object store with its buckets, and an MLflow server on both: for tests that stop none of them."""
    made = Stack(tmp_path_factory.mktemp("stack"))
    yield made
    made.stop()


@contextlib.contextmanager
def _serving(*paths: str, **settings: str) -> Iterator[dict[str, str]]:
    kept = dict(os.environ)
    os.environ.update(settings)
    for name in (connect_server.FOLDER_VARIABLE, connect_server.TOKEN_VARIABLE, "SPARK_REMOTE"):
        os.environ.pop(name, None)
    with connect_server.serve(*paths, data_bytes=0):
        variables = (connect_server.FOLDER_VARIABLE, connect_server.TOKEN_VARIABLE)
        environment = {name: os.environ[name] for name in variables}
        for name in environment:
            del os.environ[name]
        yield environment
        os.environ.update(environment)  # serve() takes them back
    os.environ.clear()
    os.environ.update(kept)


def _git_status() -> str:
    command = ["git", "status", "--porcelain"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
