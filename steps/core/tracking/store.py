"""The tracking store, a SQLite database or a server: which one a URI names, and whether the environment's run is in it.

`python -m steps.core.tracking.store` sees that the store of the environment can be used, as `make run` does first.
"""

import os
import sys
from collections.abc import Callable

from steps.core.errors import RunUnusable, TrackingUnavailable, UserError
from steps.core.tracking import database, mlflow_constants, server

DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's own
ACTIVE = "active"  # MLflow's lifecycle_stage of what was not deleted


def identity(uri: str) -> str:
    """The path of a database or the address of a server, the same for every spelling of the store's URI."""
    return str(database.path_of(uri)) if uri.startswith(database.SCHEME) else server.address(uri)


def check_run(uri: str) -> None:
    """RunUnusable if the environment names a run or an experiment that does not exist or was deleted.

    MLflow itself ends in a traceback, and for an experiment only after the first work.
    """
    if uri.startswith(database.SCHEME) and "MLFLOW_RUN_ID" not in os.environ and _is_experiment_active(uri):
        return
    from mlflow import MlflowClient  # takes a second, which an ordinary start does not pay

    client = MlflowClient(uri)
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    if run_id := os.environ.get("MLFLOW_RUN_ID", ""):
        run = _get("MLFLOW_RUN_ID", run_id, client.get_run)
        if run.info.lifecycle_stage != ACTIVE:
            restore = f"unset it, or restore the run: `mlflow runs restore --run-id {run_id}`"
            raise RunUnusable(f"MLFLOW_RUN_ID={run_id}", "this run was deleted", next=restore)
        experiment_id = run.info.experiment_id
    elif name := os.environ.get("MLFLOW_EXPERIMENT_NAME", ""):
        experiment = _get("MLFLOW_EXPERIMENT_NAME", name, client.get_experiment_by_name)
        if experiment is None:
            return  # MLflow creates it
        experiment_id = experiment.experiment_id
    experiment = _get("MLFLOW_EXPERIMENT_ID", experiment_id, client.get_experiment)
    if experiment.lifecycle_stage != ACTIVE:
        restore = f"run `mlflow experiments restore -x {experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another one"
        reason = f"the experiment {experiment.name!r} was deleted"
        is_said = any(map(os.environ.get, ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")))
        given = f"MLFLOW_EXPERIMENT_ID={experiment_id}"
        raise RunUnusable(given if is_said else "no variable says which experiment, so 0", reason, next=restore)


def _is_experiment_active(uri: str) -> bool:
    """Whether the environment's experiment, else the default one, is active, as the database says without MLflow."""
    column, value = "experiment_id", os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    if "MLFLOW_EXPERIMENT_ID" not in os.environ and (name := os.environ.get("MLFLOW_EXPERIMENT_NAME", "")):
        column, value = "name", name
    return database.query(uri, f"select lifecycle_stage from experiments where {column} = ?", value) == [(ACTIVE,)]


def _get[T](variable: str, value: str, get: Callable[[str], T]) -> T:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return get(value)
    except MlflowException as err:
        if err.error_code == mlflow_constants.PERMISSION_DENIED:
            raise
        if err.error_code not in (mlflow_constants.RESOURCE_DOES_NOT_EXIST, mlflow_constants.INVALID_PARAMETER_VALUE):
            # such as a user whom the server does not know
            raise TrackingUnavailable(mlflow.get_tracking_uri(), err.message) from err
        raise RunUnusable(f"{variable}={value}", err.message, next=f"unset {variable}, or correct it") from err


def main() -> None:
    """Make sure that the tracking store of this folder or of MLFLOW_TRACKING_URI can be used; a message and exit code
    1     where it cannot."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    database.silence_tracebacks()
    try:
        server.check_answers(uri)
        if uri.startswith(database.SCHEME):
            database.ensure_usable(uri)
        check_run(uri)
    except UserError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
