"""What to tell the user of an error that ends a step, and what to do when the tracking server stops answering."""

import os
import sys
import time

import mlflow
from mlflow.exceptions import MlflowException

from steps.core.errors import TrackingUnavailable, UserError
from steps.core.process import interruption, processes
from steps.core.storage import disk, s3
from steps.core.tables import location
from steps.core.tracking import database, mlflow_constants, server, store

WORKFLOW_RUN = "WORKFLOW_RUN_ID"  # environment variable: the run of the driver, which reports a step's error itself

_server_failure: UserError | None = None  # set by the thread that watches the tracking server
_is_reported = False  # whether the user knows why this process ends


def report(text: str) -> None:
    """Print why this process ends, unless the driver will."""
    global _is_reported
    _is_reported = True
    if WORKFLOW_RUN not in os.environ:
        print(text, file=sys.stderr)


def explain(error: Exception) -> UserError | None:
    """The user's mistake, or the service that is gone, from which an error follows; None for a bug of ours."""
    if _server_failure:  # MLflow may have put an error of its own around it
        _stop_retrying()
        return _server_failure
    if isinstance(error, UserError):
        return error
    uri = mlflow.get_tracking_uri()
    if isinstance(error, MlflowException) and error.error_code == mlflow_constants.PERMISSION_DENIED:
        return TrackingUnavailable(uri, "this user may not do that there")
    try:
        server.check_answers(uri)
    except TrackingUnavailable as gone:
        _stop_retrying()
        return gone
    return database.failure(error, uri) or s3.store_failure(error) or disk.failure(error)


def end_on_server_failure(failure: Exception) -> None:
    """Called in the thread that watches the tracking server: end the main thread's wait, then the process.

    The process itself must be ended because other threads of MLflow's may wait on.
    """
    global _server_failure
    _server_failure = failure if isinstance(failure, UserError) else None
    interruption.fail_main_thread(failure)
    time.sleep(interruption.GRACE_SECONDS)
    if not _is_reported:
        report(str(failure))
    processes.kill_process_tree(1)


def check_tracking() -> None:
    """Fail at once where MLflow would try for minutes, or would make a second, empty database."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(server.SCHEMES):
        server.check_answers(uri)
    elif uri.startswith(database.SCHEME):
        path = location.sqlite_path(uri)
        if "MLFLOW_RUN_ID" in os.environ and not os.path.exists(path):
            raise TrackingUnavailable(uri, f"{path} is relative, and not in {os.getcwd()}, where the project runs")
        database.ensure_usable(uri)
    else:
        raise TrackingUnavailable(uri, "it is neither a server nor SQLite")
    store.check_run(uri)


def _stop_retrying() -> None:
    """Let MLflow not try for long to tell a server that is gone how this run ended."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "1"
