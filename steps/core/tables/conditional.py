"""One conditional commit to a Delta table, tried until it is in: what once, append and upsert have in common."""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from deltalake import CommitProperties, Schema, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import create_table_with_add_actions

from steps.core.errors import SourceIngestedMeanwhile, TableBusy, TableNotWritten, TableUnfit, UpsertTooLarge
from steps.core.storage import filesystem
from steps.core.tables import collation, evolution, log, snapshot, staged
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot
from steps.core.tables.staged import Staged

ATTEMPTS = 100  # each that is lost takes a hundredth of a second, and means that another writer got through

Write = Callable[[str], Collection[str] | None]  # files into this folder; the names of those that count, None for all


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The version that holds the rows, and whether it was written now or was there already."""

    table: Snapshot
    written: bool


def already(table: TableUri, is_there: Callable[[Snapshot], bool], *, run_id: str) -> Committed | None:
    """The newest version where it holds the rows already, None else. What a run has staged for them is removed then."""
    newest = collation.open_newest(table)
    if newest is None or not is_there(newest):
        return None
    remove_staged(table, run_id)
    return Committed(table=newest, written=False)


def commit(
    table: TableUri,
    *,
    metadata: Mapping[str, str],
    is_there: Callable[[Snapshot], bool],
    prepare: Callable[[Snapshot], bool],
    put: Callable[[Snapshot | None], bool],
) -> Committed:
    """Put a version right after the newest one, whichever that is, unless what it would hold is there.

    Of each version that is the newest it is asked: is_there(), whether it holds the rows already; prepare(), whether it
    is not the newest any more, as columns were added; then put() is to add one log entry with `metadata`, by a put on
    condition, and says whether there was anything to change. TableNotWritten, TableBusy when others are always first.
    """
    run_id = metadata["run_id"]
    for _ in range(ATTEMPTS):
        newest = collation.open_newest(table)
        with removing_refused(table, run_id):
            there = newest is not None and is_there(newest)
            changed_meanwhile = newest is not None and not there and prepare(newest)
        if newest and there:
            remove_staged(table, run_id)  # the log holds another's commit wherever ours was tried
            return Committed(table=newest, written=False)
        if changed_meanwhile:
            continue
        version: int | None = newest.version + 1 if newest else 0  # asked now: a merge moves `newest` itself on
        try:
            if not put(newest) and newest:
                return Committed(table=newest, written=False)
        except (DeltaError, OSError) as err:
            version = _version_after(err, newest, table, run_id)
        if version is not None:
            return Committed(table=snapshot.open(TableUri(table.path, version)), written=True)
    raise TableBusy(table.path, attempts=ATTEMPTS)


def add(newest: Snapshot | None, rows: Staged, properties: CommitProperties, *, table: TableUri, mode: str) -> None:
    """Add the log entry after `newest`, with all files of `rows`; of mode "overwrite" in place of those before."""
    if newest:
        newest.delta_table.create_write_transaction([*rows.files], mode, rows.schema, commit_properties=properties)
        return
    create_table_with_add_actions(
        table.path,
        rows.schema,
        rows.files,
        configuration=snapshot.RETENTION_PROPERTIES,
        storage_options=filesystem.options(table.path),
        commit_properties=properties,
    )


def evolve(newest: Snapshot, schema: Schema, *, made_by: Mapping[str, str], required: Collection[str]) -> bool:
    """Add columns and units of `schema` that a table lacks, by a commit of its own without rows; False when none is.

    TableUnfit when rows of that schema do not fit, or when files of the table are gone.
    """
    check_whole(newest)
    return change_columns(newest, evolution.change(newest, schema, required=required), made_by=made_by)


def change_columns(newest: Snapshot, change: evolution.Change, *, made_by: Mapping[str, str]) -> bool:
    """Commit a change of columns, or find that another writer was first; False when there is none to make."""
    if not change:
        return False
    try:
        change.commit(newest.delta_table, properties(made_by))
    except (DeltaError, OSError) as err:
        _version_after(err, newest, newest.uri, made_by["run_id"])
    return True


def check_whole(newest: Snapshot) -> None:
    """TableUnfit when data files are gone: rows that are added would hide that others are lost."""
    if lost := newest.lost_files():
        raise TableUnfit(
            str(newest),
            [f"its file {name} {fate}" for name, fate in list(lost.items())[:3]],
            expected="a version with all of its files, to which rows can be added",
            next="restore them; or set `mode: replace` and ingest a source that has all rows",
        )


def properties(metadata: Mapping[str, str], transactions: Collection[Transaction] = ()) -> CommitProperties:
    """Of a commit that is tried once: delta-rs would repeat it after another's without asking what that one holds."""
    return CommitProperties(
        custom_metadata={"userMetadata": json.dumps(dict(metadata))},
        max_commit_retries=0,
        app_transactions=list(transactions),
    )


def is_made_of(newest: Snapshot, made_of: Mapping[str, str]) -> bool:
    """Whether a version is made of the same, and all its files are there."""
    return bool(made_of) and made_of.items() <= newest.commit.metadata.items() and not newest.lost_files()


def committed_by(run_id: str, newest: Snapshot) -> int | None:
    """The version that a run has written, which need not be the newest any more; None if there is none.

    Not one that only changes the columns, which comes before the rows.
    """
    for version in newest.logged_versions[:ATTEMPTS]:
        found = log.commit(newest.path, version)
        if found.metadata.get("run_id") == run_id and found.operation not in evolution.OPERATIONS:
            return version
    return None


def stage(table: TableUri, run_id: str, write: Write) -> Staged:
    """What `write` leaves in the run's folder; nothing stays there when it fails, unless the store is silent."""
    try:
        names = write(folder_of(table, run_id))
        return staged.stage(table, folder_of(table, run_id), names)
    except Exception as err:
        if failure := filesystem.unavailability(table.path):
            raise failure from err
        remove_staged(table, run_id)
        raise


def folder_of(table: TableUri, run_id: str) -> str:
    """Where a run writes Parquet files that it is to commit."""
    return f"{table.path}/{run_id}"


def remove_staged(table: TableUri, run_id: str) -> None:
    """The run's folder, with all that is in it, where it can be removed; a vacuum removes what stays."""
    with contextlib.suppress(Exception):  # there is none, or the store is the reason why it is removed
        filesystem.remove_folder(folder_of(table, run_id))
        filesystem.remove_if_empty(table.path)


@contextlib.contextmanager
def removing_refused(table: TableUri, run_id: str) -> Iterator[None]:
    """A block after which nothing is staged where the rows are refused."""
    try:
        yield
    except (TableUnfit, SourceIngestedMeanwhile, UpsertTooLarge):
        remove_staged(table, run_id)
        raise


def _version_after(error: Exception, newest: Snapshot | None, table: TableUri, run_id: str) -> int | None:
    """The version that a run has written although its put failed; None when another writer was first."""
    if failure := filesystem.unavailability(table.path):
        raise failure from error
    after = collation.open_newest(table)
    if after and (version := committed_by(run_id, after)) is not None:
        return version  # only the answer was lost
    if after and after.version > (newest.version if newest else -1):
        return None
    raise TableNotWritten(table.path, snapshot.reason_of(error)) from error
