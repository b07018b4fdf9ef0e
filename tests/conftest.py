"""What is made once for all tests: one finished workflow, and one Spark for the steps that run alone."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest
from place import PROJECT, Finished, Place
from services import Stack

from steps.core.spark import server

OF_A_CLUSTER = """<configuration>
<property><name>fs.defaultFS</name><value>hdfs://nowhere.invalid:8020</value></property>
</configuration>"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`mlflow run <project> -e main`, once, in a folder whose name has a blank and a letter that is not ASCII. Its user
    keeps all files to themselves, on a machine that is set to use a cluster."""
    base = tmp_path_factory.mktemp("finished")
    folder, temporary = base / "my project é", base / "tmp"
    folder.mkdir()
    temporary.mkdir()
    cluster = base / "cluster"
    cluster.mkdir()
    (cluster / "core-site.xml").write_text(OF_A_CLUSTER)
    (cluster / "spark-defaults.conf").write_text("spark.master yarn\n")
    of_the_machine = {"HADOOP_CONF_DIR": str(cluster), "SPARK_CONF_DIR": str(cluster)}
    place = Place(folder, {"TMPDIR": str(temporary), **of_the_machine}, umask=0o077)
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
def place(tmp_path_factory: pytest.TempPathFactory, served: dict[str, str]) -> Place:
    """A fresh folder for the tests of one module, where Spark is served."""
    return Place(tmp_path_factory.mktemp("stand"), served)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, an object store with its buckets, and an MLflow server on both, new for the tests of one module."""
    made = Stack(tmp_path_factory.mktemp("stack"))
    yield made
    made.stop()


@contextlib.contextmanager
def _serving(*paths: str, **settings: str) -> Iterator[dict[str, str]]:
    kept = dict(os.environ)
    os.environ.update(settings)
    for name in (server.FOLDER_VARIABLE, server.TOKEN_VARIABLE, "SPARK_REMOTE"):
        os.environ.pop(name, None)
    with server.serve(*paths, data_bytes=0):
        environment = {name: os.environ[name] for name in (server.FOLDER_VARIABLE, server.TOKEN_VARIABLE)}
        for name in environment:
            del os.environ[name]
        yield environment
        os.environ.update(environment)  # serve() takes them back
    os.environ.clear()
    os.environ.update(kept)


def _git_status() -> str:
    command = ["git", "status", "--porcelain"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
