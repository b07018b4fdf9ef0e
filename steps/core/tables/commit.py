"""Commit rows to a Delta table by delta-rs: Parquet files first, then one conditional put that makes them a version.

Whoever computes the rows, Spark or this process, writes plain Parquet files into a folder of the run's own under the
table. They belong to no version until delta-rs puts the log entry that names them, on condition that there is none of
that number yet. So two writers never replace each other's commit, however late one of them is, and need no lock.

once() replaces the rows that are there, append() adds to them, upsert.upsert() merges with them; after() does the first
or the second to one version and no other, for rows that follow from those that are there. Which files of the
source a version holds stands in Delta's application transactions (`txn`), a part of the same log entry: rows and that
record are never apart, whenever the process dies, and checkpoints keep it.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema, Transaction

from steps.core.errors import (
    ObjectStoreUnavailable,
    SourceIngestedMeanwhile,
    TableChanged,
    TableNotWritten,
    TableUnfit,
)
from steps.core.storage import filesystem
from steps.core.tables import collation, conditional, log, snapshot
from steps.core.tables.conditional import Committed as Committed
from steps.core.tables.conditional import Write
from steps.core.tables.location import TableUri
from steps.core.tables.parquet_folder import ParquetFolder
from steps.core.tables.snapshot import Snapshot

# Ids of application transactions: of a source file, by its digest, and of the newest commit that replaced all rows.
# Their numbers are versions of the table.
INGESTED, REPLACED = "ingested:", "replaced"
ROWS_READ, ROWS_REJECTED = "rows_read", "rows_rejected"  # in the metadata of a commit by ingest: rows of the source


def once(
    table: TableUri,
    *,
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Write,
    files: Collection[str] | None = None,
) -> Committed:
    """Commit the Parquet files that `write` puts into a folder as the newest version of `table`, in place of its rows.

    Nothing is written when the newest version has no other rows, and `made_of` in its commit already. `made_by` goes
    into the metadata too; its `run_id` is one that no other commit has. `files` are digests of the source's files, from
    then on the only ones of which ingested_files() knows; None for rows to which append() never adds. Raises TableUnfit
    for a column that not every reader of Delta takes, TableNotWritten, TableBusy when other writers are always first.
    """

    def is_there(newest: Snapshot) -> bool:
        return newest.commit.replaces and conditional.is_made_of(newest, made_of)

    def put(newest: Snapshot | None) -> bool:
        replaced = [] if files is None else [Transaction(REPLACED, _version_after(newest))]
        transactions = [*replaced, *ingested(files or (), newest)]
        properties = conditional.properties({**made_of, **made_by}, transactions)
        conditional.add(newest, rows, properties, table=table, mode="overwrite")
        return True

    if done := conditional.already(table, is_there, run_id=made_by["run_id"]):
        return done
    rows = conditional.stage(table, made_by["run_id"], write)
    return conditional.commit(
        table, metadata={**made_of, **made_by}, is_there=is_there, prepare=lambda newest: False, put=put
    )


def append(
    table: TableUri,
    *,
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Write,
    files: Collection[str],
    required: Collection[str] = (),
    keys_checked: str | None = None,
) -> Committed:
    """Commit the Parquet files that `write` puts into a folder as a new version of `table`, beside its rows.

    `files` are digests of the source files that the rows are from. Nothing is written when the newest version holds
    them all; ask ingested_files() beforehand, and read the others only. `required` are columns without nulls.
    `keys_checked` is the identity of the version with whose keys those of the rows were compared, "" for no table, None
    for rows without a key. Raises what once() raises; TableChanged when that is not the newest version any more;
    SourceIngestedMeanwhile when another run has added some of `files`, TableUnfit when the columns do not fit those
    that are there (evolution.py), data files of the newest version are gone, or nobody knows which source files its
    rows are from.
    """

    def is_there(newest: Snapshot) -> bool:
        """Whether `newest` holds all of `files`. Raises where the rows must not be added to it."""
        known = ingested_files(newest).intersection(files)
        if known and known != set(files):
            raise SourceIngestedMeanwhile(table.path, ingested=len(known), files=len(set(files)))
        if known:
            conditional.check_whole(newest)
        elif newest.row_count and not _is_recorded(newest):
            raise _files_unknown(newest)
        elif keys_checked is not None and newest.identity != keys_checked and (keys_checked or newest.row_count):
            raise TableChanged(table.path)
        return bool(known)

    def put(newest: Snapshot | None) -> bool:
        properties = conditional.properties({**made_of, **made_by}, ingested(files, newest))
        conditional.add(newest, rows, properties, table=table, mode="append")
        return True

    if done := conditional.already(table, is_there, run_id=made_by["run_id"]):
        return done
    rows = conditional.stage(table, made_by["run_id"], write)
    return conditional.commit(
        table,
        metadata={**made_of, **made_by},
        is_there=is_there,
        prepare=lambda newest: conditional.evolve(newest, rows.schema, made_by=made_by, required=required),
        put=put,
    )


def with_columns(
    newest: Snapshot, columns: pa.Schema, *, made_by: Mapping[str, str], required: Collection[str]
) -> Snapshot:
    """The newest version of a table to which no rows are to be added, with the columns and units of `columns`: those
    that it lacks are added. TableUnfit when rows of these columns would not fit."""
    schema = Schema.from_arrow(columns)
    while conditional.evolve(newest, schema, made_by=made_by, required=required):
        newest = snapshot.open(TableUri(newest.path))
    return newest


def after(
    newest: Snapshot | None,
    *,
    table: TableUri,
    mode: Literal["append", "overwrite"],
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Write,
) -> Committed:
    """Commit the Parquet files that `write` puts into a folder as the version after `newest`, None for the first one:
    of mode "append" beside its rows, of "overwrite" in their place.

    TableChanged, and nothing is left, when that is not the newest version any more: another writer was first. Raises
    what once() raises.
    """

    def is_there(now: Snapshot) -> bool:
        if newest is None or (now.version, now.identity) != (newest.version, newest.identity):
            raise TableChanged(table.path)
        return False

    def put(now: Snapshot | None) -> bool:
        if now is None and newest:
            raise TableChanged(table.path)
        conditional.add(now, rows, conditional.properties({**made_of, **made_by}), table=table, mode=mode)
        return True

    rows = conditional.stage(table, made_by["run_id"], write)
    try:
        return conditional.commit(
            table, metadata={**made_of, **made_by}, is_there=is_there, prepare=lambda now: False, put=put
        )
    except TableChanged:
        conditional.remove_staged(table, made_by["run_id"])
        raise


def ingested_files(table: Snapshot) -> set[str]:
    """The digests of the source files whose rows a version holds, since all rows were last replaced."""
    transactions = log.transactions(table.path, table.version)
    replaced_at = transactions.get(REPLACED, 0)
    return {
        name.removeprefix(INGESTED)
        for name, version in transactions.items()
        if name.startswith(INGESTED) and version >= replaced_at
    }


def ingested(files: Collection[str], newest: Snapshot | None) -> list[Transaction]:
    """For the commit after `newest`: that it holds the rows of source files with these digests."""
    return [Transaction(f"{INGESTED}{digest}", _version_after(newest)) for digest in sorted(set(files))]


@contextlib.contextmanager
def staging(table: TableUri, run_id: str) -> Iterator[str]:
    """A folder for the Parquet files of a version that a run is to commit; removed at the end if it did not.

    It stays where the store's answer leaves open whether the commit will come yet, and where the store is silent; a
    vacuum removes it then. ObjectStoreUnavailable in place of an error that came of a store that is.
    """
    try:
        yield conditional.folder_of(table, run_id)
    except (TableNotWritten, ObjectStoreUnavailable):
        raise
    except BaseException as err:
        if isinstance(err, Exception) and (failure := filesystem.unavailability(table.path)):
            raise failure from err
        _remove_uncommitted(table, run_id)
        raise
    else:
        _remove_uncommitted(table, run_id)


def save(rows: Any, folder: str) -> None:
    """`rows`, a Spark DataFrame, an Arrow table or batches of one, as Parquet files in a new folder."""
    if not isinstance(rows, (pa.Table, pa.RecordBatchReader)):
        writer = rows.write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", False)
        writer.parquet(filesystem.for_spark(folder))
        return
    files = ParquetFolder(folder, rows.schema)
    for part in [rows] if isinstance(rows, pa.Table) else map(pa.Table.from_batches, ([batch] for batch in rows)):
        files.write(part)
    if not files.close():  # a version of no rows has columns, which a file tells
        pq.write_table(rows.schema.empty_table(), buffer := pa.BufferOutputStream())
        filesystem.write(f"{folder}/part-00000.parquet", buffer.getvalue().to_pybytes())


def _version_after(newest: Snapshot | None) -> int:
    return newest.version + 1 if newest else 0


def _is_recorded(table: Snapshot) -> bool:
    """Whether the log tells of any source file, or that rows were replaced by those of none."""
    names = log.transactions(table.path, table.version)
    return any(name == REPLACED or name.startswith(INGESTED) for name in names)


def _files_unknown(newest: Snapshot) -> TableUnfit:
    return TableUnfit(
        str(newest),
        ["its log does not tell which source files its rows are from, so they might be added twice"],
        expected="rows that `mode: replace`, `append` or `upsert` has written, with the digests of their files",
        next="set `mode: replace` and ingest a source that has all rows, once; then `mode: append` adds new files",
    )


def _remove_uncommitted(table: TableUri, run_id: str) -> None:
    with contextlib.suppress(Exception):  # the store cannot tell; a vacuum removes what stays
        newest = collation.open_newest(table)
        if newest is None or conditional.committed_by(run_id, newest) is None:
            conditional.remove_staged(table, run_id)
