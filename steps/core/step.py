"""The frame around a step: parameters in, one MLflow run, outputs as tags, a receipt, errors that end in a message."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlparse

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NAME, MLFLOW_SOURCE_NAME

from steps.core import lake
from steps.core import parameters as step_parameters
from steps.core.errors import TrackingUnavailable, UserError

OUTPUT = "output."  # a step's results are tags on its run: output.<name> = URI
REASONS = "reasons"  # the tag with the reasons for a verdict
ERROR = "error"  # the tag with the message of what went wrong
WORKFLOW_RUN = "WORKFLOW_RUN_ID"  # environment variable: the run of the driver, which reports a step's error itself
DRIVER = "main"  # the entry point that launches the others, and prints their outputs itself
TAG_CHARACTERS = 5000  # MLflow's limit for the value of a tag
ANSWER_SECONDS = 5


class StepRun:
    """One run of a step: what it read, ran with and wrote. These make its receipt.json and its output tags."""

    def __init__(self, step: str, run: mlflow.ActiveRun) -> None:
        self.step = step
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.git_commit: str = run.data.tags.get(MLFLOW_GIT_COMMIT, "")
        self.source_name: str = run.data.tags.get(MLFLOW_SOURCE_NAME, "")
        self.receipt: dict[str, Any] = {"step": step, "run_id": self.run_id, "git_commit": self.git_commit}
        self.receipt |= {"read": {}, "parameters": {}, "wrote": {}}

    def reads(self, **uris: object) -> None:
        self.receipt["read"] |= {name: str(uri) for name, uri in uris.items()}

    def ran_with(self, **values: object) -> None:
        """Log resolved values as parameters, under their keys in the config (MLproject's own names are taken)."""
        self.receipt["parameters"] |= values
        mlflow.log_params({name.replace("__", "."): value for name, value in values.items()})

    def writes(self, **uris: object) -> None:
        """Hand results on to whoever reads this run's tags."""
        self.receipt["wrote"] |= {name: str(uri) for name, uri in uris.items()}
        mlflow.set_tags({f"{OUTPUT}{name}": str(uri) for name, uri in uris.items()})

    def print_outputs(self) -> None:
        for name, uri in self.receipt["wrote"].items():
            print(f"{self.step}: {name} = {uri or 'none'}", flush=True)

    def logs_table(self, table: lake.TableUri, *, context: str) -> None:
        """The table's version as a dataset of this run, with digest v<N>. `table` is pinned."""
        source = DeltaDatasetSource(path=table.path, delta_table_version=table.version)
        dataset = MetaDataset(source, name=table.name, digest=f"v{table.version}")  # type: ignore[abstract]
        mlflow.log_input(dataset, context=context)


@contextlib.contextmanager
def start[P](step: str, cls: type[P], argv: Sequence[str] | None) -> Iterator[tuple[P, StepRun]]:
    """A run of `step` with its parsed parameters: the child run that MLflow made, or one of its own.

    A UserError ends the process with its message and exit code 1; every error fails the run and is kept on it.
    """
    try:
        _check_tracking()
        with mlflow.start_run() as active:
            mlflow.set_tag(MLFLOW_RUN_NAME, step)
            try:
                parameters = step_parameters.parse(cls, sys.argv[1:] if argv is None else argv, entry_point=step)
                run = StepRun(step, active)
                yield parameters, run
                mlflow.log_dict(run.receipt, "receipt.json")
                if WORKFLOW_RUN not in os.environ and step != DRIVER:
                    run.print_outputs()
            except Exception as err:
                text = str(err) if isinstance(err, UserError) else f"{type(err).__name__}: {err}"
                mlflow.set_tag(ERROR, text[:TAG_CHARACTERS])
                raise
    except UserError as err:
        if WORKFLOW_RUN not in os.environ:
            print(err, file=sys.stderr)
        sys.exit(1)


def outputs(run: Run) -> dict[str, str]:
    """What a run handed on: name to URI."""
    tags: dict[str, str] = run.data.tags
    return {key.removeprefix(OUTPUT): value for key, value in tags.items() if key.startswith(OUTPUT)}


def _check_tracking() -> None:
    """Fail at once where MLflow would try for minutes, or would make a second, empty database."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http://", "https://")):
        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS)
        except requests.RequestException as err:
            raise TrackingUnavailable(_without_password(uri), "it does not answer") from err
    elif uri.startswith("sqlite:///"):
        path = lake.sqlite_path(uri)
        if "MLFLOW_RUN_ID" in os.environ and not os.path.exists(path):
            raise TrackingUnavailable(uri, f"{path} is relative, and not in {os.getcwd()}, where the project runs")
    else:
        raise TrackingUnavailable(_without_password(uri), "it is neither a server nor SQLite")
    _check_experiment()


def _check_experiment() -> None:
    """A deleted experiment fails every run in it with a late error; say so before any work."""
    try:
        experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
        experiment = MlflowClient().get_experiment(experiment_id)
    except MlflowException as err:
        raise TrackingUnavailable(_without_password(mlflow.get_tracking_uri()), err.message) from err
    if experiment.lifecycle_stage != "active":
        restore = f"`mlflow experiments restore -x {experiment_id}` brings it back"
        reason = f"experiment {experiment.name!r} was deleted; {restore}"
        raise TrackingUnavailable(_without_password(mlflow.get_tracking_uri()), reason)


def _without_password(uri: str) -> str:
    parsed = urlparse(uri)
    return parsed._replace(netloc=parsed.netloc.rpartition("@")[2]).geturl()
