"""The embedded database: healthy ones are waited for and never moved, whatever keeps them from being used is told."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from place import PROJECT, new_database, until
from small import sqlite

from steps.core.errors import LockNotReleased, TrackingUnavailable
from steps.core.process import processes
from steps.core.tracking import database as tracking_database
from steps.core.tracking import store

# A process that has the database locked, until it is told to end.
LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(path: Path, *, by: str = "begin exclusive") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LOCK, str(path), by]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    try:
        yield process
    finally:
        process.communicate()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a run in it."""
    folder = tmp_path_factory.mktemp("whole")
    MlflowClient(new_database(folder)).create_run("0")
    return folder / "mlflow.db"


@pytest.fixture
def database(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, last written to an hour ago."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(whole.read_bytes())
    os.utime(path, (time.time() - 3600,) * 2)
    return path


def unfinished(whole: Path, path: Path, *, revision: str | None = "451aebb31d03") -> Path:
    """A database whose maker was killed: some tables, and no row but the revision of its schema."""
    with contextlib.closing(sqlite3.connect(whole)) as source, contextlib.closing(sqlite3.connect(path)) as target:
        for (statement,) in source.execute("select sql from sqlite_master where name in ('experiments', 'runs')"):
            target.execute(statement)
        if revision:
            target.execute("create table alembic_version (version_num text)")
            target.execute("insert into alembic_version values (?)", [revision])
        target.commit()
    return path


@pytest.mark.parametrize("by", ["begin exclusive", "begin immediate"])
def test_one_that_is_locked_is_waited_for_and_stays(
    database: Path, by: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than SQLite's drivers wait, and than MLflow needs to make one."""
    monkeypatch.setattr(tracking_database, "BUSY_SECONDS", 0.2)
    content = database.read_bytes()
    with locked(database, by=by) as holder:
        threading.Timer(tracking_database.QUIET_SECONDS + 1.5, holder.terminate).start()
        began = time.monotonic()
        tracking_database.ensure_usable(sqlite(database.parent))
        assert time.monotonic() - began > tracking_database.QUIET_SECONDS + 1
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]
    assert database.read_bytes() == content
    err = capfd.readouterr().err
    assert err.startswith(f"waiting for process {holder.pid} (python")
    assert err.endswith(f"which is at work on the database {database}\n")
    assert err.count("\n") == 1


def test_a_lock_that_is_not_released_is_told_with_its_holder(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_database, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(tracking_database, "LOCKED_MINUTES", 0.01)
    message = rf"at work on the database {database} for more than 0.01 minutes\n"
    with locked(database) as holder, pytest.raises(LockNotReleased, match=rf"process {holder.pid} .*{message}"):
        tracking_database.ensure_usable(sqlite(database.parent))
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("revision", ["451aebb31d03", None], ids=["between two migrations", "before the first"])
def test_one_that_mlflow_did_not_finish_is_moved_with_a_word_and_made_anew(
    revision: str | None,
    whole: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking_database, "QUIET_SECONDS", 0.2)
    path = unfinished(whole, tmp_path / "mlflow.db", revision=revision)
    (tmp_path / "mlflow.db.half-made").write_text("an earlier one")
    tracking_database.ensure_usable(sqlite(tmp_path))
    assert [experiment.name for experiment in MlflowClient(sqlite(tmp_path)).search_experiments()] == ["Default"]
    assert (tmp_path / "mlflow.db.half-made").read_text() == "an earlier one"
    with contextlib.closing(sqlite3.connect(f"{path}.half-made-2")) as moved:
        assert moved.execute("select count(*) from experiments").fetchone() == (0,)
    assert f"MLflow did not finish {path}, which holds no run and no model: moved to {path}.half-made-2" in (
        capfd.readouterr().err
    )


def test_what_a_killed_process_left_of_the_database_that_it_made_is_removed_by_the_next(tmp_path: Path) -> None:
    program = f"from steps.core.tracking import database; database.ensure_usable({sqlite(tmp_path)!r})"
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT) as maker:
        assert until(lambda: bool(list(tmp_path.glob("mlflow.db.*"))), seconds=60)
        maker.kill()
    assert list(tmp_path.glob("mlflow.db.*"))
    tracking_database.ensure_usable(sqlite(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_what_another_process_is_making_stays_whoever_has_had_its_number(database: Path) -> None:
    here = processes.this_process()
    its_number_before = here.rpartition(":")[0] + ":1"
    for process in (here, its_number_before, its_number_before + "-journal"):
        Path(f"{database}.{process.replace('/', '%2F')}").touch()
    Path(f"{database}.{os.getpid()}").touch()  # of anybody
    tracking_database.ensure_usable(sqlite(database.parent))
    left = {path.name.removeprefix("mlflow.db") for path in database.parent.iterdir()}
    assert left == {"", f".{os.getpid()}", f".{here.replace('/', '%2F')}"}


@pytest.mark.parametrize(
    "row", ["insert into runs (run_uuid) values ('1')", "create table mine (x); insert into mine values (1)"]
)
def test_one_that_holds_anything_is_never_moved(row: str, whole: Path, tmp_path: Path) -> None:
    path = unfinished(whole, tmp_path / "mlflow.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("pragma foreign_keys = off")
        database.executescript(row)
    tracking_database.ensure_usable(sqlite(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["mlflow.db"]


def test_one_that_a_process_is_at_work_on_is_not_moved(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The process has it open between two transactions, and ends later."""
    monkeypatch.setattr(tracking_database, "QUIET_SECONDS", 0.2)
    path = unfinished(whole, tmp_path / "mlflow.db")
    with locked(path, by="select count(*) from experiments") as maker:
        threading.Timer(2, maker.terminate).start()
        began = time.monotonic()
        tracking_database.ensure_usable(sqlite(tmp_path))
        assert time.monotonic() - began > 1.5
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.half-made"]
    assert capfd.readouterr().err.startswith(f"waiting for process {maker.pid} (python")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no database" * 99, "it is no SQLite database"), (None, "it, or a file beside it, cannot be")],
)
def test_what_cannot_be_used_is_told_and_stays(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(TrackingUnavailable, match=f"the tracking store {path} cannot be used: {said}"):
        tracking_database.ensure_usable(sqlite(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(("kind", "mode"), [("file", 0o444), ("folder", 0o555)])
def test_a_user_who_may_not_write_is_told_before_any_work(kind: str, mode: int, whole: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where other users get to
        folder = Path(name)
        path = folder / "mlflow.db"
        path.write_bytes(whole.read_bytes())
        folder.chmod(0o777)
        path.chmod(0o666)
        (path if kind == "file" else folder).chmod(mode)
        program = f"import os; from steps.core.tracking import database; os.setuid(65534); database.ensure_usable('sqlite:///{path}')"
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        folder.chmod(0o777)
    assert f"TrackingUnavailable: the tracking store {path} cannot be used: it" in ended.stderr
    assert "may not be written" in ended.stderr


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sqlite:////a/mlflow.db", "sqlite:////a//./mlflow.db", True),
        ("sqlite:////a/mlflow.db", "sqlite:////a/b/../mlflow.db?timeout=5", True),
        ("sqlite:////a/mlflow.db", "sqlite:////b/mlflow.db", False),
        ("http://Host:80/x/", "http://ada:secret@host/x", True),
        ("http://127.0.0.1:5000", "http://localhost:5000", True),
        ("http://host:5000", "http://host:5001", False),
        ("http://host", "https://host", False),
    ],
)
def test_a_store_is_the_same_however_its_uri_is_spelt(one: str, other: str, same: bool) -> None:
    assert (store.identity(one) == store.identity(other)) is same
