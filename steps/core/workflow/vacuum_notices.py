"""Keep a vacuum and a step apart that choose the same version of a table at the same moment, on whatever machines.

Each writes to the tracking store what it is about to do before it reads what the other has written there: the vacuum
which versions it is about to delete (post), the step which version it reads (StepRun.reads). So at least one of them
sees the other. The vacuum leaves out what a step reads; the step waits for a vacuum that has not seen it.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag

from steps.core.errors import LockNotReleased
from steps.core.process import waiting
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import runs
from steps.core.workflow import orphaned_runs

NOTICE = "deleting."  # a tag on a vacuum's run: deleting.<identity of a version> = its URI
WAIT_MINUTES = 30  # a vacuum deletes some thousand files in a minute
LOOK_SECONDS = 1  # from one look at the vacuum to the next
AT_WORK = timedelta(days=1)  # no vacuum takes longer; one of another machine that does not end was killed there


def post(run_id: str, versions: Mapping[str, str]) -> None:
    """Announce that the vacuum of this run is about to delete `versions`: URIs by identity."""
    tags = [RunTag(f"{NOTICE}{identity}", uri) for identity, uri in versions.items()]
    MlflowClient().log_batch(run_id, tags=tags)


def wait_for_vacuums(table: Snapshot, own: Run) -> None:
    """Return when `table`, which the tags of this process's run `own` name already, is there and stays.

    A vacuum that is about to delete it is waited for. TableVersionGone when it was deleted, LockNotReleased when the
    vacuum takes too long.
    """
    if vacuums := _vacuums_of(table):
        holder = f"vacuum (run {vacuums[0].info.run_id[:8]})"
        with waiting.announced(f"{holder}, which may delete {table}"):
            _wait(table, own, holder=holder)
    table.check_files()


def _wait(table: Snapshot, own: Run, *, holder: str) -> None:
    deadline = time.monotonic() + WAIT_MINUTES * 60
    while vacuums := _vacuums_of(table):
        if time.monotonic() > deadline:
            raise LockNotReleased(str(table), holder, minutes=WAIT_MINUTES)
        for vacuum in vacuums:
            orphaned_runs.mark_if_orphaned(vacuum, own)
        time.sleep(LOOK_SECONDS)


def _vacuums_of(table: Snapshot) -> list[Run]:
    """The runs of vacuums at work that have announced to delete this version, wherever its table lies for them."""
    runs.forget_experiments()  # a vacuum may be the first run of a new one
    since = runs.milliseconds(datetime.now(UTC) - AT_WORK)
    return runs.unfinished(f"attributes.start_time >= {since} and tags.`{NOTICE}{table.identity}` LIKE '%'")
