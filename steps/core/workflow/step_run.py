"""The frame around a step: parameters in, one MLflow run, outputs as tags, a receipt, errors that end in a message."""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from steps.core import parameters as step_parameters
from steps.core.errors import TrackingUnavailable, UserError
from steps.core.process import console, interruption, processes, scratch
from steps.core.storage import disk, s3
from steps.core.tables import location
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import database, mlflow_names, runs, server, store
from steps.core.workflow import deletion_notices, orphaned_runs, reuse

INPUT = "input."  # what a step read is on its run too: input.<name> = URI, so that runs are found by it
OUTPUT = "output."  # a step's results are tags on its run: output.<name> = URI
REMARKS = "remarks"  # the tag with what a step has told and what stopped nothing
REASONS = "reasons"  # the tag with the reasons for a verdict
ERROR = "error"  # the tag with the message of what went wrong
WORKFLOW_RUN = "WORKFLOW_RUN_ID"  # environment variable: the run of the driver, which reports a step's error itself
UNQUOTED = "unquoted"  # a logged parameter: <name>.unquoted, where <name> has a shell's quotes
INTERRUPTED = "interrupted: what was finished is kept, and the same command goes on from there"
DRIVER = "main"  # the entry point that launches the others, and prints their outputs itself
FOR_SERVERS = {  # MLflow's settings, where the user has none
    # A server hands out addresses of its object store, which need not be valid here; a client then hangs for minutes.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # backing off, half a minute or one: time for a server to restart
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the command says where to look at its run, once
}


class StepRun:
    """One run of a step: what it read, ran with and wrote. These make its receipt.json and its output tags."""

    def __init__(self, step: str, run: mlflow.ActiveRun) -> None:
        self.step = step
        self._run = run
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.git_commit: str = run.data.tags.get(mlflow_names.GIT_COMMIT, "")
        self.source_name = server.without_password(run.data.tags.get(mlflow_names.SOURCE_NAME, ""))
        self._reasons: list[str] = []
        self._written_tables: dict[str, Snapshot] = {}  # by URI
        self.receipt: dict[str, Any] = {"step": step, "run_id": self.run_id, "git_commit": self.git_commit}
        self.receipt |= {"read": {}, "parameters": {}, "wrote": {}}

    def reads(self, **inputs: object) -> None:
        """Say what this run works on: pinned URIs, and opened tables. No vacuum deletes one of these from then on.

        TableVersionGone, LockNotReleased when one is just doing so.
        """
        self.receipt["read"] |= {name: str(thing) for name, thing in inputs.items()}
        tables = {name: thing for name, thing in inputs.items() if isinstance(thing, Snapshot)}
        identities = {f"{reuse.INPUT_IDENTITY}{name}": table.identity for name, table in tables.items()}
        mlflow.set_tags({**identities, **{f"{INPUT}{name}": str(thing) for name, thing in inputs.items()}})
        for table in tables.values():  # now that the run says what it reads
            deletion_notices.wait_for_vacuums(table, self._run)

    def rename(self, name: str) -> None:
        """What the run is called in MLflow, in place of the entry point's name."""
        mlflow.set_tag(mlflow_names.RUN_NAME, name)

    def remark(self, lines: Sequence[str]) -> None:
        """Tell the user what is worth knowing and stops nothing; it is kept on the run."""
        if lines:
            console.message("\n".join(lines))
            mlflow.set_tag(REMARKS, "\n".join(lines)[: runs.TAG_CHARACTERS])

    def depends_on(self, inputs: Mapping[str, str], *, workflow: str) -> None:
        """Say what the results follow from (reuse.inputs) beside code, so that a later workflow can take them again."""
        self.receipt["inputs"] = dict(inputs)
        key = reuse.key_of(self.step, inputs)
        mlflow.set_tags({reuse.KEY: key, reuse.WORKFLOW: f"{workflow}.{self.step}"})
        read = {name: inputs.get(f"{name}.identity") for name in self.receipt["read"]}
        mlflow.set_tags({f"{reuse.INPUT_IDENTITY}{name}": identity for name, identity in read.items() if identity})

    def is_not_reusable(self, reason: str) -> None:
        """Take depends_on() back."""
        del self.receipt["inputs"]
        MlflowClient().delete_tag(self.run_id, reuse.KEY)
        self.warns(f"{reason}; this run will not be reused")

    def warns(self, text: str) -> None:
        """Tell the user at once, also under the driver."""
        console.message(f"{self.step}: {text}")

    def finish(self) -> None:
        """Write the receipt."""
        reuse.write_receipt(self._run, self.receipt, tables=self._written_tables)
        if WORKFLOW_RUN not in os.environ and self.step != DRIVER:
            self.print_outputs()

    def ran_with(self, **values: object) -> None:
        """Log resolved values as parameters, under their keys in the config (MLproject's own names are taken)."""
        self.receipt["parameters"] |= values
        mlflow.log_params({name.replace("__", "."): value for name, value in values.items()})

    def writes(self, **results: object) -> None:
        """Hand results on, pinned URIs and opened tables, to whoever reads this run's tags."""
        self.receipt["wrote"] |= {name: str(thing) for name, thing in results.items()}
        self._written_tables |= {str(thing): thing for thing in results.values() if isinstance(thing, Snapshot)}
        mlflow.set_tags({f"{OUTPUT}{name}": str(thing) for name, thing in results.items()})

    def explains(self, reasons: Sequence[str]) -> None:
        """Say why the results are what they are."""
        self._reasons = list(reasons)
        mlflow.set_tag(REASONS, "; ".join(reasons)[: runs.TAG_CHARACTERS])

    def print_outputs(self) -> None:
        for name, uri in self.receipt["wrote"].items():
            print(f"{self.step}: {name} = {uri or 'none'}", flush=True)
        for reason in self._reasons:
            print(f"{self.step}: because {reason}", flush=True)

    def logs_table(self, table: Snapshot, *, context: str) -> None:
        """The table's version as a dataset of this run, with digest v<N>."""
        source = DeltaDatasetSource(path=table.path, delta_table_version=table.version)
        dataset = MetaDataset(source, name=table.uri.name, digest=f"v{table.version}")  # type: ignore[abstract]
        try:
            mlflow.log_input(dataset, context=context)
        except MlflowException:  # another run logged the same one just now, and MLflow took it for new in both
            mlflow.log_input(dataset, context=context)


@contextlib.contextmanager
def start[P](step: str, cls: type[P], argv: Sequence[str] | None) -> Iterator[tuple[P, StepRun]]:
    """A run of `step` with its parsed parameters: the child run that MLflow made, or one of its own.

    A UserError ends the process with its message and exit code 1; every error fails the run and is kept on it. A run
    that is interrupted is KILLED.
    """
    for name, value in FOR_SERVERS.items():
        os.environ.setdefault(name, value)
    run_id = os.environ.get(processes.STARTED_BY_MLFLOW, "")  # start_run() takes it away
    known: UserError | None = None
    database.silence_tracebacks()
    try:
        _check_tracking()  # before the guard: an interrupted import leaves an MLflow that cannot be used
        # Called from Python (argv is given), signals are the caller's.
        with _guarded() if argv is None else contextlib.nullcontext():
            scratch.remove_abandoned_folders()
            with mlflow.start_run(run_name=step, tags={orphaned_runs.PROCESS: processes.this_process()}) as active:
                run_id = active.info.run_id
                _hide_passwords(active)
                if WORKFLOW_RUN not in os.environ:  # else the driver has done so
                    orphaned_runs.mark_orphaned_runs(active)
                _log_unquoted(active)
                try:
                    parameters = step_parameters.parse(cls, sys.argv[1:] if argv is None else argv, entry_point=step)
                    run = StepRun(step, active)
                    yield parameters, run
                    run.finish()
                except Exception as err:
                    known = _explained(err)
                    text = str(known) if known else f"{type(err).__name__}: {err}"
                    with contextlib.suppress(MlflowException, OSError):  # the store may be what is wrong
                        mlflow.set_tag(ERROR, text[: runs.TAG_CHARACTERS])
                    raise known or err from err
    except interruption.Interrupted:
        _say(INTERRUPTED)
        orphaned_runs.mark_killed(run_id, {ERROR: INTERRUPTED})
        raise
    except Exception as err:
        if not (known := known or _explained(err)):  # what comes after the first is its consequence
            raise
        _say(str(known))
        sys.exit(1)


def outputs(run: Run) -> dict[str, str]:
    """What a run handed on: name to URI."""
    return tagged(run, OUTPUT)


def inputs(run: Run) -> dict[str, str]:
    """What a run read: name to URI."""
    return tagged(run, INPUT)


def tagged(run: Run, prefix: str) -> dict[str, str]:
    """The tags of a run whose names begin with `prefix`, by the rest of their names."""
    tags: dict[str, str] = run.data.tags
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    with interruption.handling_signals(), server.watched(mlflow.get_tracking_uri(), _give_up):
        yield


_silent: UserError | None = None  # the tracking server, by the thread that watches it
_told = False  # whether the user knows why this process ends


def _give_up(failure: Exception) -> None:
    """In that thread: end the main thread's wait, and then the process, if other threads of MLflow's wait on."""
    global _silent
    _silent = failure if isinstance(failure, UserError) else None
    interruption.fail_main_thread(failure)
    time.sleep(interruption.GRACE_SECONDS)
    if not _told:
        _say(str(failure))
    processes.kill_process_tree(1)


def _say(text: str) -> None:
    """Under the driver a step leaves the talking to it."""
    global _told
    _told = True
    if WORKFLOW_RUN not in os.environ:
        print(text, file=sys.stderr)


def _hide_passwords(run: Run) -> None:
    """MLflow keeps the URL of a git project as it was given, with a token in it."""
    shown = {name: server.without_password(value) for name, value in run.data.tags.items() if "://" in value}
    mlflow.set_tags({name: value for name, value in shown.items() if value != run.data.tags[name]})


def _log_unquoted(run: Run) -> None:
    """MLflow logs a project's parameters as its shell reads them, quoted; log beside them what arrived."""
    unquoted = {}
    for name, text in run.data.params.items():
        with contextlib.suppress(ValueError):  # not MLflow's quotes
            words = shlex.split(text)
            if len(words) == 1 and words[0] not in ("", text):
                unquoted[f"{name}.{UNQUOTED}"] = words[0]
    mlflow.log_params(unquoted)


def _explained(error: Exception) -> UserError | None:
    """What to tell the user: the mistake itself, or the service that is gone, from which the error follows."""
    if _silent:  # MLflow may have put an error of its own around it
        _expect_no_answer()
        return _silent
    if isinstance(error, UserError):
        return error
    if isinstance(error, MlflowException) and error.error_code == mlflow_names.PERMISSION_DENIED:
        return TrackingUnavailable(
            server.without_password(mlflow.get_tracking_uri()), "this user may not do that there"
        )
    try:
        server.check_answers(mlflow.get_tracking_uri())
    except TrackingUnavailable as gone:
        _expect_no_answer()
        return gone
    of_database = database.failure(error, mlflow.get_tracking_uri())
    return of_database or s3.store_failure(error) or disk.failure(error)


def _expect_no_answer() -> None:
    """Nobody is there to be told how this run ended."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "1"


def _check_tracking() -> None:
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
        raise TrackingUnavailable(server.without_password(uri), "it is neither a server nor SQLite")
    store.check_run(uri)
