"""See that the tracking store can be used: a server answers, and the embedded database is whole.

MLflow makes that database in place, by fifty migrations in a second. A process that is killed meanwhile, or a second
one that does the same, leaves a database that fails every later command (docs/decisions.md).
"""

import contextlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

from sqlalchemy.engine import make_url

from steps.core import machine, waiting
from steps.core.errors import TrackingUnavailable

DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's own
FILLED = {"experiments", "registered_models"}  # tables of which a database in use has one that is not empty
SERVERS = ("http://", "https://")
REQUESTS = ("mlflow.utils.rest_utils", "mlflow.utils.request_utils", "mlflow.store.", "mlflow.tracking.")  # modules
ANSWER_SECONDS = 5
QUIET_SECONDS = 5  # MLflow writes all the time while it makes a database; after these it was given up


def make_whole(uri: str) -> None:
    """Have a usable database at a `sqlite:///` URI. One that MLflow left half made is moved aside, and made anew."""
    path = Path(make_url(uri).database or "").absolute()
    if not _is_half_made(path):
        return
    with machine.alone("database", str(path)):
        while _is_half_made(path):
            if not path.exists():
                _make(uri, path)
            elif time.time() - path.stat().st_mtime > QUIET_SECONDS:
                path.rename(f"{path}.half-made")
            else:
                time.sleep(0.2)


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
        why_not=lambda: _silence(uri),
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


def _is_half_made(path: Path) -> bool:
    """Whether MLflow has not got to its last act there, the experiment Default. Others' databases are left to it.

    Opened for writing, as what a killed process has left of a transaction is undone only so.
    """
    if not path.exists():
        return True
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            if tables and "alembic_version" not in tables and "experiments" not in tables:
                return False
            filled = (f"select exists(select * from {name})" for name in FILLED & tables)
            return not any(database.execute(question).fetchone()[0] for question in filled)
    except sqlite3.DatabaseError as err:  # no database at all, which MLflow says, or locked by its maker
        return "locked" in str(err)


def _make(uri: str, path: Path) -> None:
    from mlflow import MlflowClient  # takes a second, which is needed once

    draft = f".{os.getpid()}"
    try:
        MlflowClient(tracking_uri=uri + draft).search_experiments()
        with contextlib.suppress(FileExistsError):  # MLflow's command, started by hand meanwhile
            os.link(f"{path}{draft}", path)
    finally:
        Path(f"{path}{draft}").unlink(missing_ok=True)


if __name__ == "__main__":
    given = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    try:
        check_answers(given)
        if given.startswith("sqlite:///"):
            make_whole(given)
    except TrackingUnavailable as err:
        sys.exit(str(err))
