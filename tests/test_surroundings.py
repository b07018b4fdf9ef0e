"""What is wrong around a step (its disk, its database, its run, its Python) is one message, and not a traceback."""

import contextlib
import errno
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from place import PROJECT, Ended, Place, new_database
from small import sqlite

from steps.core.storage import disk
from steps.core.tracking import database as tracking_database
from steps.core.tracking import store

MAKE_CHECK = (sys.executable, "-m", "steps.core.tracking.store")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    new_database(tmp_path)
    return Place(tmp_path, {"PYTHONPATH": str(PROJECT)})


def one_message(ended: Ended, *said: str) -> None:
    assert ended.exit_code == 1, ended.text
    assert "Traceback" not in ended.text
    assert ended.text.count("\n  expected  ") == ended.text.count("\n  next      ") == 1, ended.text
    assert [text for text in said if text not in ended.text] == [], ended.text


def with_(place: Place, **extra: str) -> Place:
    return Place(place.folder, {**place.extra, **extra})


def no_run(client: MlflowClient) -> dict[str, str]:
    return {"MLFLOW_RUN_ID": "0" * 32}


def deleted_run(client: MlflowClient) -> dict[str, str]:
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    return {"MLFLOW_RUN_ID": run_id}


def no_experiment(client: MlflowClient) -> dict[str, str]:
    return {"MLFLOW_EXPERIMENT_ID": "77"}


def deleted_experiment(client: MlflowClient) -> dict[str, str]:
    client.delete_experiment(experiment_id := client.create_experiment("mine"))
    return {"MLFLOW_EXPERIMENT_ID": experiment_id}


def deleted_experiment_by_name(client: MlflowClient) -> dict[str, str]:
    deleted_experiment(client)
    return {"MLFLOW_EXPERIMENT_NAME": "mine"}


def deleted_default(client: MlflowClient) -> dict[str, str]:
    client.delete_experiment("0")
    return {}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (no_run, "MLFLOW_RUN_ID=00000000000000000000000000000000: "),
        (deleted_run, "this run was deleted"),
        (no_experiment, "MLFLOW_EXPERIMENT_ID=77: "),
        (deleted_experiment, "the experiment 'mine' was deleted"),
        (deleted_experiment_by_name, "`mlflow experiments restore -x 1`"),
        (deleted_default, "the experiment 'Default' was deleted"),
    ],
)
def test_a_run_or_an_experiment_that_is_gone_is_told_by_a_step_and_by_what_make_runs_first(
    place: Place, names: Callable[[MlflowClient], dict[str, str]], said: str
) -> None:
    there = with_(place, **names(place.client))
    one_message(there.step("promote"), "RunUnusable", said)
    one_message(there.run(*MAKE_CHECK), "RunUnusable", said)


def test_what_is_there_passes_the_check_that_make_runs_first(place: Place) -> None:
    experiment_id = place.client.create_experiment("mine")
    for names in ({}, {"MLFLOW_EXPERIMENT_NAME": "mine"}, {"MLFLOW_EXPERIMENT_NAME": "new"},
                  {"MLFLOW_EXPERIMENT_ID": experiment_id}):  # fmt: skip
        assert with_(place, **names).run(*MAKE_CHECK).text == ""


def test_a_folder_of_any_name_gets_a_database_or_is_told_why_not(tmp_path: Path) -> None:
    """MLflow quotes the folder's name by Python's rules in its SQL: an apostrophe and double quotes are too much."""
    for name, works in (("l'été", True), ('l\'été "x"', False)):
        (tmp_path / name).mkdir()
        ended = Place(tmp_path / name, {"PYTHONPATH": str(PROJECT)}).run(*MAKE_CHECK)
        assert (tmp_path / name / "mlflow.db").exists() is works
        if not works:
            one_message(ended, f"MLflow cannot make it in {tmp_path / name}, whose name has an apostrophe")


def test_artifacts_that_cannot_be_written_are_told(place: Place) -> None:
    """Nobody, not even root, may make a folder in /sys."""
    place.client.create_experiment("elsewhere", artifact_location="/sys/artifacts")
    ended = with_(place, MLFLOW_EXPERIMENT_NAME="elsewhere").step("main", dry_run="true")
    assert "would run" in ended.out
    one_message(ended, "DiskUnusable: /sys/artifacts", "Operation not permitted")


def test_a_database_of_another_mlflow_is_told_with_the_way_out(tmp_path: Path) -> None:
    uri = new_database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = '728d730b5ebd'")
    ended = Place(tmp_path).step("main", dry_run="true")
    one_message(ended, "another version of MLflow made it: its schema is 728d730b5ebd", f"`mlflow db upgrade {uri}`")


def test_a_database_that_cannot_grow_is_told(place: Place) -> None:
    """As on a full disk: no file may be written beyond its first page."""
    program = "import os, sys; os.execv(sys.executable, [sys.executable, '-m', 'steps', 'promote'])"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "TrackingUnavailable: the tracking store" in ended.stderr
    assert "its disk" in ended.stderr


def test_a_lock_on_the_database_during_a_run_is_told_as_such(tmp_path: Path) -> None:
    new_database(tmp_path)
    path = tmp_path / "mlflow.db"
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        contextlib.closing(sqlite3.connect(path, timeout=0)) as database,
    ):
        other.execute("begin exclusive")
        with pytest.raises(MlflowException, match="locked") as failure:
            as_mlflow_asks(database)
    assert f"the tracking store {path} cannot be used: another process has it locked" in str(
        tracking_database.failure(failure.value, sqlite(tmp_path))
    )


def as_mlflow_asks(database: sqlite3.Connection) -> None:
    try:
        database.execute("select * from runs")
    except sqlite3.OperationalError as err:
        raise MlflowException(message=str(err)) from err


def test_what_delta_says_of_a_disk_is_understood() -> None:
    with pytest.raises(Exception, match="not permitted|denied") as failure:
        write_deltalake("/sys/lake/iris", pa.table({"x": [1]}))
    assert "DiskUnusable" in str(disk.failure(failure.value))


def test_a_bug_is_not_taken_for_a_disk() -> None:
    for error in (FileNotFoundError(2, "No such file or directory"), KeyError("x"), ValueError("permission")):
        assert disk.failure(error) is None
        assert tracking_database.failure(error, store.DEFAULT_URI) is None


def test_errors_that_follow_from_each_other_are_looked_at_once_each() -> None:
    """As where a library raises an error from one that was raised while it was handled."""
    error, other = ValueError("one"), KeyError("other")
    error.__cause__, other.__cause__ = other, error
    assert tracking_database.failure(error, store.DEFAULT_URI) is None
    assert disk.failure(error) is None


@pytest.mark.parametrize("entry_point", ["promote", "main"])
def test_a_python_without_the_projects_packages_is_named_with_the_way_out(entry_point: str) -> None:
    """MLflow takes the first `python` on PATH; -S keeps the installed packages from this one."""
    ended = Place(PROJECT).run(sys.executable, "-S", "-m", "steps", entry_point)
    one_message(ended, f"PackageMissing: {sys.executable}", "No module named")


def test_a_file_of_the_project_that_is_not_python_is_named_before_any_step_runs(place: Place) -> None:
    project = place.folder / "project"
    shutil.copytree(PROJECT / "steps", project / "steps", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("main.py", "conda.yaml", "MLproject", "configs"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project / name)
    (project / "steps" / "infer.py").write_text("x = 1\ndef broken(:\n")
    ended = place.run(sys.executable, project / "main.py")
    one_message(ended, "ProjectBroken: steps/infer.py, line 2, is not Python: ")
    assert "ingest ..." not in ended.text
    assert place.runs()[0].info.run_name == "main"


def test_mlflow_that_may_not_make_its_folder_by_a_quoted_name_has_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "jörg").mkdir()
    quoted = f"{tmp_path}/j%C3%B6rg"
    told = str(disk.failure(PermissionError(errno.EACCES, "Permission denied", quoted)))
    assert told.startswith(f"DiskUnusable: {quoted}: Permission denied")
    assert "next      set MLFLOW_TRACKING_URI=sqlite:///mlflow.db:" in told
    other = str(disk.failure(PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/100%")))
    assert "make room or give the right" in other


def test_the_database_is_made_in_a_folder_of_any_name_and_nothing_beside_it(tmp_path: Path) -> None:
    (folder := tmp_path / "jörg b").mkdir()
    tracking_database.ensure_usable(f"sqlite:///{folder}/mlflow.db")
    assert [*tmp_path.iterdir()] == [folder]
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
