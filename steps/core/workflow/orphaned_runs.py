"""Mark the runs of dead processes KILLED: they were killed before they could do it themselves.

The tag `process` of a run names the process that works on it. Until that process has set the tag (its imports take
seconds), the run counts as alive while whoever created it is: the driver, by the tag of the driver's run, or a command
`mlflow run`. A wrong guess corrects itself, as the process sets its run to RUNNING when it starts.
"""

import contextlib
import os
from collections.abc import Mapping

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException

from steps.core.config import PROJECT
from steps.core.process import processes
from steps.core.tracking import mlflow_constants, runs
from steps.core.workflow.run_tags import PROCESS

RUNNING, KILLED = (RunStatus.to_string(status) for status in (RunStatus.RUNNING, RunStatus.KILLED))


def at_work() -> list[Run]:
    """The runs of all experiments that a process may be at work on, for as long as it takes.

    Only those are left out whose process ran on this machine and has ended: a wrong guess would cost what it needs.
    """
    return [run for run in runs.unfinished() if not processes.has_ended(run.data.tags.get(PROCESS, ""))]


def mark_orphaned_runs(own: Run) -> None:
    """Set the runs of this machine's dead processes to KILLED, in the experiment of `own`, the run of this process."""
    for run in MlflowClient().search_runs([own.info.experiment_id], f"attributes.status = '{RUNNING}'"):
        if run.info.run_id != own.info.run_id:
            mark_if_orphaned(run, own)


def mark_if_orphaned(run: Run, own: Run) -> None:
    """Set a run to KILLED where this machine can tell that nobody works on it; `own` is the run of this process."""
    client = MlflowClient()
    with contextlib.suppress(MlflowException):  # a server may forbid access to other users' runs
        if _is_orphaned(run, own, client):
            client.set_terminated(run.info.run_id, KILLED)


def mark_killed(run_id: str, tags: Mapping[str, str]) -> None:
    """Set a run of this process, with these tags, and its running children to KILLED; nothing for run_id "".

    What fails here (a store that is gone) is left to the next start.
    """
    if not run_id:
        return
    client = MlflowClient()
    with contextlib.suppress(MlflowException):
        _mark(run_id, tags, client)
        experiment = client.get_run(run_id).info.experiment_id
        for child in client.search_runs([experiment], f"tags.`{mlflow_constants.PARENT_RUN_ID}` = '{run_id}'"):
            if child.info.status == RUNNING:
                _mark(child.info.run_id, tags, client)


def _mark(run_id: str, tags: Mapping[str, str], client: MlflowClient) -> None:
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id, KILLED)


def _is_orphaned(run: Run, own: Run, client: MlflowClient) -> bool:
    tags = run.data.tags
    if PROCESS in tags:
        return _has_ended(tags[PROCESS])
    if parent_id := tags.get(mlflow_constants.PARENT_RUN_ID):
        parent = client.get_run(parent_id)
        driver = parent.data.tags.get(PROCESS, "")
        return _has_ended(driver) or (bool(driver) and parent.info.status != RUNNING)
    sources = (own.data.tags.get(mlflow_constants.SOURCE_NAME), str(PROJECT))
    of_this_project = mlflow_constants.ENTRY_POINT in tags and tags.get(mlflow_constants.SOURCE_NAME) in sources
    of_this_user = tags.get(mlflow_constants.USER) == own.data.tags.get(mlflow_constants.USER)
    return of_this_project and of_this_user and not _is_being_started(since=run.info.start_time / 1000)


def _has_ended(process: str) -> bool:
    return processes.has_ended(process) or processes.ran_before_boot(process)


def _is_being_started(*, since: float) -> bool:
    """Whether a command `mlflow run` is alive that may have created a run at `since`, in seconds after 1970."""
    for process in psutil.process_iter(["cmdline", "create_time"]):
        words = [os.path.basename(word) for word in process.info["cmdline"] or []]
        if "mlflow" in words and "run" in words and process.info["create_time"] <= since:
            return True
    return False
