"""See that the tracking store can be used: a server answers, and the embedded database is whole and can be written.

MLflow makes that database in place, by fifty migrations in a second. A process that is killed meanwhile, or a second
one that does the same, leaves a database that fails every later command (docs/decisions.md).
"""

import contextlib
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

import psutil
from sqlalchemy.engine import make_url

from steps.core.errors import RunUnusable, TrackingUnavailable, UserError, causes
from steps.core.process import console, locks, processes, waiting

DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's own
SQLITE = "sqlite:///"
SERVERS = ("http://", "https://")
REQUESTS = ("mlflow.utils.rest_utils", "mlflow.utils.request_utils", "mlflow.store.", "mlflow.tracking.")  # modules
DEFAULT_PORTS = {"http": 80, "https": 443}
ANSWER_SECONDS = 5
QUIET_SECONDS = 5  # MLflow writes all the time while it makes a database; after these it was given up
BUSY_SECONDS = 2  # for a transaction of another process; longer ones are waited for, and told
LOCKED_MINUTES = 10  # for a backup, a VACUUM or another program's transaction
BOOKKEEPING = {"alembic_version", "workspaces", "sqlite_sequence"}  # tables that MLflow's migrations fill
REASONS = {  # what SQLite says, by its primary error code
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
NEXT = (
    "make room, give the right to write, or wait for the process that has it locked; else correct MLFLOW_TRACKING_URI"
)
ACTIVE = "active"  # MLflow's lifecycle_stage of what was not deleted
DENIED = "PERMISSION_DENIED"  # MLflow's code for what a user may not do
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for an id that is none

type State = Literal["missing", "locked", "unfinished", "usable"]


def make_whole(uri: str) -> None:
    """Have a whole database at a `sqlite:///` URI, which can be written.

    One that another process has locked is waited for. One that MLflow began and did not finish, and that holds nothing,
    is moved aside and made anew. TrackingUnavailable where it cannot be used.
    """
    path = Path(os.path.realpath(make_url(uri).database or ""))
    wait = locks.Wait(f"the database {path}", minutes=LOCKED_MINUTES)
    while (state := _state(path)) != "usable":
        if state == "locked":
            wait.go_on(lambda: locks.lock_holder(path))
        elif state == "unfinished" and (maker := _who_has_open(path)):
            wait.go_on(lambda: maker)
        else:
            with locks.exclusive_lock("database", str(path)):
                _make_anew(uri, path)


def silence_tracebacks() -> None:
    """Let MLflow not log the traceback of each error of the database, which it raises as well."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def check_answers(uri: str) -> None:
    """TrackingUnavailable when there is a server at `uri` that does not answer: MLflow would try for minutes."""
    if uri.startswith(SERVERS):
        import requests  # a fifth of a second, which a database is not worth

        try:
            status = requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS).status_code
        except requests.RequestException as err:
            raise TrackingUnavailable(without_password(uri), "it does not answer") from err
        if status >= 500:  # a proxy whose server is gone
            raise TrackingUnavailable(without_password(uri), f"it answers with {status}")


def watched(uri: str, on_failure: Callable[[Exception], None]) -> contextlib.AbstractContextManager[object]:
    """A block in which a server at `uri` that goes silent fails whatever waits for it; a database is not watched."""
    if not uri.startswith(SERVERS):
        return contextlib.nullcontext()
    shown = without_password(uri)
    service = waiting.Service(
        name=f"the tracking server {shown}",
        unavailability=lambda: _silence(uri),
        error=lambda reason: TrackingUnavailable(shown, reason),
    )
    return waiting.Watch(service, on_failure=on_failure, matters=_waits_for_mlflow)


def _silence(uri: str) -> str:
    """Why a server does not answer what it must ask its database for; "" when it does. A refusal is an answer."""
    import requests

    question = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    try:
        auth = (user, password) if user else None
        status = requests.get(question, auth=auth, timeout=waiting.PROBE_SECONDS).status_code
    except requests.RequestException:
        return "it does not answer"
    return f"it answers with {status}" if status >= 500 else ""


def _waits_for_mlflow() -> bool:
    """Whether the main thread is in a request of MLflow's, rather than at work."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame:
        if str(frame.f_globals.get("__name__")).startswith(REQUESTS):
            return True
        frame = frame.f_back
    return False


def without_password(uri: str) -> str:
    """`uri` as it may be shown: a user may be a token, but for ssh, where it is part of the address."""
    parsed = urlparse(uri)
    user, _, host = parsed.netloc.rpartition("@")
    is_address = parsed.scheme.endswith("ssh") and user
    return parsed._replace(netloc=f"{user.partition(':')[0]}@{host}" if is_address else host).geturl()


def check_run(uri: str) -> None:
    """RunUnusable when the environment names a run or an experiment that is not there or was deleted.

    MLflow says so in a traceback, and of an experiment only after the first work.
    """
    if uri.startswith(SQLITE) and _is_experiment_active(Path(make_url(uri).database or "")):
        return
    from mlflow import MlflowClient  # takes a second, which an ordinary start does not pay

    client = MlflowClient(uri)
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    if run_id := os.environ.get("MLFLOW_RUN_ID", ""):
        run = _found("MLFLOW_RUN_ID", run_id, client.get_run)
        if run.info.lifecycle_stage != ACTIVE:
            restore = f"unset it, or restore the run: `mlflow runs restore --run-id {run_id}`"
            raise RunUnusable("MLFLOW_RUN_ID", run_id, "this run was deleted", next=restore)
        experiment_id = run.info.experiment_id
    elif name := os.environ.get("MLFLOW_EXPERIMENT_NAME", ""):
        experiment = _found("MLFLOW_EXPERIMENT_NAME", name, client.get_experiment_by_name)
        if experiment is None:
            return  # MLflow makes it
        experiment_id = experiment.experiment_id
    experiment = _found("MLFLOW_EXPERIMENT_ID", experiment_id, client.get_experiment)
    if experiment.lifecycle_stage != ACTIVE:
        restore = f"run `mlflow experiments restore -x {experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another one"
        reason = f"the experiment {experiment.name!r} was deleted"
        raise RunUnusable("MLFLOW_EXPERIMENT_ID", experiment_id, reason, next=restore)


def _found[T](variable: str, value: str, find: Callable[[str], T]) -> T:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return find(value)
    except MlflowException as err:
        if err.error_code == DENIED:
            raise
        if err.error_code not in NOT_THERE:  # such as a user whom the server does not know
            raise TrackingUnavailable(without_password(mlflow.get_tracking_uri()), err.message) from err
        raise RunUnusable(variable, value, err.message, next=f"unset {variable}, or correct it") from err


def _is_experiment_active(path: Path) -> bool:
    """Whether no run is named and the experiment that is meant is active; read without MLflow, which takes long."""
    if "MLFLOW_RUN_ID" in os.environ or not path.exists():
        return False
    name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    where, value = (
        ("name", name) if name and "MLFLOW_EXPERIMENT_ID" not in os.environ else ("experiment_id", experiment_id)
    )
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database,
    ):
        stages = database.execute(f"select lifecycle_stage from experiments where {where} = ?", [value]).fetchall()
        return stages == [(ACTIVE,)]
    return False


def database_failure(error: BaseException | None, uri: str) -> TrackingUnavailable | None:
    """What SQLite said of the database at `uri`, where `error` follows from that."""
    for cause in causes(error):
        if isinstance(cause, sqlite3.Error) and _code(cause) in REASONS:
            return _unusable(cause, identity(uri))
    return None


def identity(uri: str) -> str:
    """What tells a store from others however its URI is spelt: the path of its database, or its server's address."""
    if uri.startswith(SQLITE):
        return os.path.realpath(make_url(uri).database or "")
    parsed = urlparse(uri)
    host, port = (parsed.hostname or "").lower(), parsed.port or DEFAULT_PORTS.get(parsed.scheme.lower(), 0)
    name = "localhost" if host in ("127.0.0.1", "::1") else host
    return f"{parsed.scheme.lower()}://{name}:{port}{parsed.path.rstrip('/')}"


def _state(path: Path) -> State:
    if not path.exists():
        return "missing"
    try:
        with _locked(path) as database:
            return "unfinished" if _is_unfinished(database) else "usable"
    except sqlite3.Error as err:
        if _code(err) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return "locked"
        raise _unusable(err, str(path)) from err


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[sqlite3.Connection]:
    """The database while nobody else reads or writes it. What a killed process has left of a transaction is undone."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    with contextlib.closing(connection) as database:
        database.execute("begin exclusive")
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):  # where SQLite keeps its journal
            raise TrackingUnavailable(str(path), "it or its folder may not be written", next=NEXT)
        yield database


def _is_unfinished(database: sqlite3.Connection) -> bool:
    """Whether MLflow began here and has not got to its last act, the experiment Default, and no table holds a row.

    A database of another program is not MLflow's, and MLflow says so.
    """
    tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    if tables and not tables & {"alembic_version", "experiments"}:
        return False
    questions = (f'select exists(select * from "{name}")' for name in tables - BOOKKEEPING)
    return not any(database.execute(question).fetchone()[0] for question in questions)


def _make_anew(uri: str, path: Path) -> None:
    """Make the database, after an unfinished one is moved aside; nothing where MLflow is still at work on that."""
    if path.exists() and not _is_moved_aside(path):
        return
    _make(uri, path)


def _is_moved_aside(path: Path) -> bool:
    before = path.stat()
    time.sleep(QUIET_SECONDS)
    try:
        with _locked(path) as database:
            now = path.stat()
            is_same = (before.st_ino, before.st_mtime_ns) == (now.st_ino, now.st_mtime_ns)
            if not is_same or _who_has_open(path) or not _is_unfinished(database):
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


def _who_has_open(path: Path) -> str:
    """Another process that this one may see and that has the file open, as text; "" when there is none."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(file.path == str(path) for file in process.open_files()):
                return processes.describe(process)
    return ""


def _unusable(error: sqlite3.Error, path: str) -> TrackingUnavailable:
    reason = REASONS.get(_code(error), str(error)).replace("another process", locks.lock_holder(path))
    return TrackingUnavailable(path, reason, next=NEXT)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary error code; 0 for an error of Python's own module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make(uri: str, path: Path) -> None:
    from mlflow import MlflowClient  # takes a second, which is needed once
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    draft = Path(f"{path}.{os.getpid()}")
    draft_uri = make_url(uri).set(database=str(draft)).render_as_string(hide_password=False)
    try:
        MlflowClient(tracking_uri=draft_uri).search_experiments()
        with contextlib.suppress(FileExistsError):  # MLflow's command, started by hand meanwhile
            os.link(draft, path)
    except (MlflowException, SQLAlchemyError) as err:
        if "'" in os.getcwd() and not database_failure(err, uri):  # MLflow writes this folder's name into its SQL
            reason = f"MLflow cannot make it in {os.getcwd()}, whose name has an apostrophe"
            raise TrackingUnavailable(str(path), reason, next="stand in another folder, or rename this one") from err
        raise database_failure(err, uri) or err from err
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    given = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    silence_tracebacks()
    try:
        check_answers(given)
        if given.startswith(SQLITE):
            make_whole(given)
        check_run(given)
    except UserError as err:
        sys.exit(str(err))
