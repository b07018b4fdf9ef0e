"""The frame around an entry point: parameters in, one MLflow run, and errors that end in one message."""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from steps.core import parameters as step_parameters
from steps.core.errors import UserError
from steps.core.process import interruption, processes, progress, scratch
from steps.core.redaction import redacted
from steps.core.tracking import database, server
from steps.core.workflow import failures, orphaned_runs, outputs_file, run_tags
from steps.core.workflow.step_run import StepRun
from steps.core.workflow.step_spec import StepSpec

UNQUOTED = "unquoted"  # a logged parameter: <name>.unquoted, where <name> has a shell's quotes
INTERRUPTED = "interrupted: what was finished is kept, and the same command goes on from there"
FOR_SERVERS = {  # MLflow's settings, where the user has none
    # A server hands out addresses of its object store, which need not be valid here; a client then hangs for minutes.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # backing off, half a minute or one: time for a server to restart
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the command says where to look at its run, once
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a bar for each file of a model
}


@contextlib.contextmanager
def start[P](spec: StepSpec[P], argv: Sequence[str] | None) -> Iterator[tuple[P, StepRun]]:
    """Yield the parsed parameters and the run: the child run that MLflow made, or one of its own.

    A UserError ends the process with its message and exit code 1; every error fails the run and is kept on it. A run
    that is interrupted is KILLED. `argv` is None in a process of its own; called from Python, signals are the caller's.
    """
    for name, value in FOR_SERVERS.items():
        os.environ.setdefault(name, value)
    run_id = os.environ.get(processes.STARTED_BY_MLFLOW, "")  # start_run() takes it away
    reason: UserError | None = None
    database.silence_tracebacks()
    try:
        failures.check_tracking()  # before the guard: an interrupted import leaves an MLflow that cannot be used
        with _guarded() if argv is None else contextlib.nullcontext(), _active_run(spec.name) as active:
            run_id = active.info.run_id
            try:
                words = sys.argv[1:] if argv is None else argv
                parameters = step_parameters.parse(spec.parameters, words, entry_point=spec.name)
                outputs_file.check()
                run = StepRun(spec, active)
                with progress.of_step(spec.name, _progress_log(run_id)):
                    yield parameters, run
                run.finish()
            except Exception as err:
                reason = failures.explain(err)
                _tag_error(str(reason) if reason else f"{type(err).__name__}: {err}")
                raise reason or err from err
    except interruption.Interrupted:
        failures.report(INTERRUPTED)
        orphaned_runs.mark_killed(run_id, {run_tags.ERROR: INTERRUPTED})
        raise
    except Exception as err:
        if not (reason := reason or failures.explain(err)):  # what comes after the first is its consequence
            raise
        failures.report(str(reason))
        sys.exit(1)


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    with (
        interruption.handling_signals(),
        server.watched(mlflow.get_tracking_uri(), failures.end_on_server_failure),
    ):
        yield


@contextlib.contextmanager
def _active_run(name: str) -> Iterator[mlflow.ActiveRun]:
    scratch.remove_abandoned_folders()
    with mlflow.start_run(run_name=name, tags={run_tags.PROCESS: processes.this_process()}) as active:
        _hide_passwords(active)
        if failures.WORKFLOW_RUN not in os.environ:  # else the driver has done so
            orphaned_runs.mark_orphaned_runs(active)
        _log_unquoted(active)
        yield active


def _tag_error(text: str) -> None:
    with contextlib.suppress(MlflowException, OSError):  # the store may be what is wrong
        mlflow.set_tag(run_tags.ERROR, run_tags.text(text))


def _progress_log(run_id: str) -> progress.Log:
    """What logs how far a step has come, by the seconds that the work takes already; called in a thread."""

    def log(numbers: Mapping[str, float], seconds: int) -> None:
        now = time.time_ns() // 10**6
        metrics = [Metric(f"progress.{name}", value, now, seconds) for name, value in numbers.items()]
        with contextlib.suppress(MlflowException, OSError):  # a store that is away for a while must not end the work
            MlflowClient().log_batch(run_id, metrics)

    return log


def _hide_passwords(run: Run) -> None:
    """MLflow keeps the URL of a git project as it was given, with a token in it."""
    shown = {name: redacted(value) for name, value in run.data.tags.items()}
    mlflow.set_tags({name: value for name, value in shown.items() if value != run.data.tags[name]})


def _log_unquoted(run: Run) -> None:
    """MLflow logs a project's parameters as its shell reads them, quoted; log beside them what arrived."""
    unquoted = {}
    for name, text in run.data.params.items():
        with contextlib.suppress(ValueError):  # not MLflow's quotes
            words = shlex.split(text)
            if len(words) == 1 and words[0] not in ("", text):
                unquoted[f"{name}.{UNQUOTED}"] = redacted(words[0])
    mlflow.log_params(unquoted)
