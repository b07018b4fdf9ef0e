"""The embedded tracking store, a SQLite database: see that it is whole and can be written, and explain its errors.

MLflow creates that database in place, by fifty migrations in a second. A process that is killed meanwhile, or a second
one that does the same, leaves a database that fails every later command (docs/decisions.md).
"""

import contextlib
import glob
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import psutil
from sqlalchemy.engine import make_url

from steps.core.errors import TrackingUnavailable, causes
from steps.core.process import console, locks, processes

SCHEME = "sqlite:///"
QUIET_SECONDS = 5  # MLflow writes all the time while it creates a database; after these it has given up
BUSY_SECONDS = 2  # for another process's transaction, in silence; a longer one is waited for with a message
LOCKED_MINUTES = 10  # for a backup, a VACUUM or another program's transaction
BOOKKEEPING = {"alembic_version", "workspaces", "sqlite_sequence"}  # tables that MLflow's migrations fill
REASONS = {  # by SQLite's primary error code
    sqlite3.SQLITE_BUSY: "another process has it locked",
    sqlite3.SQLITE_LOCKED: "another process has it locked",
    sqlite3.SQLITE_READONLY: "it or its folder may not be written",
    sqlite3.SQLITE_PERM: "it may not be read and written here",
    sqlite3.SQLITE_CANTOPEN: "it, or a file beside it, cannot be opened",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_IOERR: "its disk cannot be read or written, or is full",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database",
}
OTHER_SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+), but expected (\w+)\)")  # MLflow's words
NEXT = (
    "make room, give the right to write, or wait for the process that has it locked; else correct MLFLOW_TRACKING_URI"
)

type State = Literal["missing", "locked", "unfinished", "usable"]


def path_of(uri: str) -> Path:
    """The path of the database at a `sqlite:///` URI, without symbolic links."""
    return Path(os.path.realpath(make_url(uri).database or ""))


def ensure_usable(uri: str) -> None:
    """Create the database at a `sqlite:///` URI, or see that it can be written. TrackingUnavailable if not.

    If another process has it locked, wait. If MLflow began to create it and did not finish, and it holds nothing, move
    it aside and create it again.
    """
    path = path_of(uri)
    _remove_abandoned_drafts(path)
    wait = locks.Wait(f"the database {path}", minutes=LOCKED_MINUTES)
    while (state := _state(path)) != "usable":
        if state == "locked":
            wait.pause(lambda: locks.lock_holder(path))
        elif state == "unfinished" and (creator := _process_that_opened(path)):
            wait.pause(lambda: creator)
        else:
            with locks.exclusive_lock("database", str(path)):
                if not path.exists() or _move_aside(path):
                    _create(uri, path)


def failure(error: BaseException | None, uri: str) -> TrackingUnavailable | None:
    """The error of the database at `uri` that caused `error`, for the user; None if there is none."""
    for cause in causes(error):
        if versions := OTHER_SCHEMA.search(str(cause)):
            return _of_another_mlflow(uri, *versions.groups())
        if isinstance(cause, sqlite3.Error) and _code(cause) in REASONS:
            return _unusable(cause, path_of(uri))
    return None


def query(uri: str, statement: str, *values: str) -> list[tuple[object, ...]]:
    """The rows of a query without MLflow, whose import takes a second; [] if the database cannot answer it."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path_of(uri).as_uri()}?mode=ro", uri=True)) as connection,
    ):
        return connection.execute(statement, values).fetchall()
    return []


def silence_tracebacks() -> None:
    """Keep MLflow from logging the traceback of each database error, which it raises as well."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _state(path: Path) -> State:
    if not path.exists():
        return "missing"
    try:
        with _locked(path) as connection:
            return "unfinished" if _is_unfinished(connection) else "usable"
    except sqlite3.Error as err:
        if _code(err) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return "locked"
        raise _unusable(err, path) from err


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[sqlite3.Connection]:
    """The database while no other process reads or writes it. SQLite rolls back what a killed process left."""
    uri = f"{path.as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):  # where SQLite keeps its journal
            raise TrackingUnavailable(str(path), "it or its folder may not be written", next=NEXT)
        yield connection


def _is_unfinished(connection: sqlite3.Connection) -> bool:
    """Whether MLflow began here without its last act, the experiment Default, and no table holds a row.

    MLflow itself complains about a database of another program.
    """
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if tables and not tables & {"alembic_version", "experiments"}:
        return False
    statements = (f'select exists(select * from "{name}")' for name in tables - BOOKKEEPING)
    return not any(connection.execute(statement).fetchone()[0] for statement in statements)


def _process_that_opened(path: Path) -> str:
    """Another process that has the file open, as text; "" if this process sees none."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(file.path == str(path) for file in process.open_files()):
                return processes.describe(process)
    return ""


def _move_aside(path: Path) -> bool:
    """Move an unfinished database aside; False if it changes meanwhile, as MLflow is still at work on it."""
    before = path.stat()
    time.sleep(QUIET_SECONDS)
    try:
        with _locked(path) as connection:
            now = path.stat()
            is_same = (before.st_ino, before.st_mtime_ns) == (now.st_ino, now.st_mtime_ns)
            if not is_same or _process_that_opened(path) or not _is_unfinished(connection):
                return False
            aside = next(name for name in _names_aside(path) if not name.exists())
            path.rename(aside)
    except (sqlite3.OperationalError, FileNotFoundError):  # another process is quicker
        return False
    console.message(f"MLflow did not finish {path}, which holds no run and no model: moved to {aside}, and made anew")
    return True


def _names_aside(path: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield Path(f"{path}.half-made" + (f"-{number}" if number > 1 else ""))
        number += 1


def _create(uri: str, path: Path) -> None:
    """Create the database beside its place, and link it there when it is whole."""
    from mlflow import MlflowClient  # takes a second, which is needed once
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    draft = Path(f"{path}.{quote(processes.this_process(), safe=':')}")
    _, mark, query = uri.partition("?")
    quoted = str(draft).replace("%", "%25").replace("?", "%3F")  # no more: MLflow makes its folder as it is written
    draft_uri = f"{SCHEME}{quoted}{mark}{query}"
    try:
        MlflowClient(tracking_uri=draft_uri).search_experiments()
        with contextlib.suppress(FileExistsError):  # by MLflow's own command meanwhile
            os.link(draft, path)
    except (MlflowException, SQLAlchemyError) as err:
        if "'" in os.getcwd() and not failure(err, uri):  # MLflow writes this folder's name into its SQL
            reason = f"MLflow cannot make it in {os.getcwd()}, whose name has an apostrophe"
            raise TrackingUnavailable(str(path), reason, next="stand in another folder, or rename this one") from err
        raise failure(err, uri) or err from err
    finally:
        draft.unlink(missing_ok=True)


def _remove_abandoned_drafts(path: Path) -> None:
    """Remove what processes that were killed while they created the database have left beside it."""
    for file in path.parent.glob(f"{glob.escape(path.name)}.*"):
        creator = unquote(re.sub("-(journal|wal|shm)$", "", file.name.removeprefix(f"{path.name}.")))
        if processes.has_ended(creator) or processes.ran_before_boot(creator):
            with contextlib.suppress(OSError):  # another user's, in a folder like /tmp
                file.unlink()


def _unusable(error: sqlite3.Error, path: Path) -> TrackingUnavailable:
    reason = REASONS.get(_code(error), str(error)).replace("another process", locks.lock_holder(path))
    return TrackingUnavailable(str(path), reason, next=NEXT)


def _of_another_mlflow(uri: str, found: str, expected: str) -> TrackingUnavailable:
    return TrackingUnavailable(
        str(path_of(uri)),
        f"another version of MLflow made it: its schema is {found}, and {expected} is expected",
        next=f"copy it, then run `mlflow db upgrade {uri}` if that MLflow is older; else use that MLflow",
    )


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary error code; 0 for an error of Python's own module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
