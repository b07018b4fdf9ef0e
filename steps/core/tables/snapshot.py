"""One version of a Delta table as its log describes it. Read by deltalake, without a JVM; nothing is written."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from steps.core.errors import (
    TableNotFound,
    TableUnfit,
    TableUnreadable,
    TableVersionGone,
    UserError,
)
from steps.core.storage import filesystem
from steps.core.tables import in_memory, log
from steps.core.tables.location import TableUri

if TYPE_CHECKING:  # PySpark takes half a second, which small tables do not pay
    from pyspark.sql import DataFrame, SparkSession

# Properties of every table of ours, set when it is created: a version stays readable until our own vacuum, which knows
# who needs it. Delta's defaults end that after 30 days for any reader, and after 7 for Spark.
RETENTION_PROPERTIES = {f"delta.{what}RetentionDuration": "interval 36500 days" for what in ("log", "deletedFile")}
READING = {  # of DataFusion
    # The rows in the same order each time: a pass of training must see those of the pass before.
    "datafusion.execution.target_partitions": "1",
    "datafusion.execution.batch_size": "65536",
    # Spark's old type for a moment; by default in nanoseconds, which turn the year 9999 into 1816.
    "datafusion.execution.parquet.coerce_int96": "us",
}
WITHOUT_FEATURES = "read it by the engine that wrote it, and give what that writes to a table without these features"
RESTORE = "restore its files, or run `mlflow run . -e main`, which writes them anew"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A version whose log is opened once, by open(). Each property is computed when it is first asked for.

    `uri` is pinned. str() gives it, so a snapshot stands wherever a pinned URI does.
    """

    uri: TableUri
    delta_table: DeltaTable

    def __str__(self) -> str:
        return str(self.uri)

    @property
    def path(self) -> str:
        """The table's address without the version."""
        return self.uri.path

    @property
    def version(self) -> int:
        """The number of this version in Delta's log."""
        return self.delta_table.version()

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, as Arrow types."""
        return pa.schema(self.delta_table.schema().to_arrow())

    @cached_property
    def row_count(self) -> int:
        """How many rows this version has."""
        return sum(self.rows_of_files.values())

    @cached_property
    def rows_of_files(self) -> dict[str, int]:
        """How many rows each data file has: by the log or, where its writer left that out, by the file's footer."""
        known = "num_records" in self._add_actions.column_names
        counts = self._add_actions["num_records"].to_pylist() if known else [None] * len(self.data_files)
        return {
            name: _rows_in(f"{self.path}/{name}", size_bytes) if rows is None else rows
            for (name, size_bytes), rows in zip(self.data_files.items(), counts, strict=True)
        }

    def missing_values(self, column: str) -> dict[str, int]:
        """In how many rows of each data file a column has no value, as far as the log tells."""
        name = f"null_count.{column}"
        counts = self._add_actions[name].to_pylist() if name in self._add_actions.column_names else []
        return {file: count for file, count in zip(self.data_files, counts, strict=False) if count is not None}

    @cached_property
    def data_files(self) -> dict[str, int]:
        """The size in bytes of each data file, also of one that is gone, by its name relative to the table."""
        names = map(unquote, self._add_actions["path"].to_pylist())  # file_uris() would quote the folder too
        return dict(zip(names, self._add_actions["size_bytes"].to_pylist(), strict=True))

    @property
    def size_bytes(self) -> int:
        """What the data files of this version take on storage."""
        return sum(self.data_files.values())

    @property
    def fits_in_memory(self) -> bool:
        """Whether one process may hold all rows, by their number and types."""
        return in_memory.fits(self.schema, rows=self.row_count)

    @property
    def is_for_workers(self) -> bool:
        """Whether Spark's workers are to pass through all rows, rather than one process, some at a time."""
        return not in_memory.fits(self.schema, rows=self.row_count, mebibytes=in_memory.STREAMED_MEBIBYTES)

    @cached_property
    def identity(self) -> str:
        """What tells this version from any other that had or will have its URI, wherever the table lies.

        A table that was deleted and created anew begins at version 0 again, and one that was restored from a backup
        repeats versions under its old id. The names of data files are never repeated, so a digest of them and of
        Delta's id of the table is what a version is known by.
        """
        return identity_of(str(self.delta_table.metadata().id), self.data_files)

    @cached_property
    def logged_versions(self) -> list[int]:
        """This version and earlier ones, the newest first, as far as the log is kept."""
        return [version for version in log.versions(self.path) if version <= self.version]

    @cached_property
    def commit(self) -> log.Commit:
        """What the log says of the commit that made this version."""
        return log.commit(self.path, self.version)

    @cached_property
    def commits(self) -> dict[int, log.Commit]:
        """How each of logged_versions was written."""
        return {version: log.commit(self.path, version) for version in self.logged_versions}

    def lost_files(self) -> dict[str, str]:
        """Those of data_files that are not there as they were written, and what became of them."""
        return {
            name: "is gone" if size is None else f"is damaged: {size:,} bytes, {self.data_files[name]:,} expected"
            for name, size in filesystem.damaged(self.path, self.data_files).items()
        }

    @cached_property
    def is_readable(self) -> bool:
        """Whether all data files were there when it was asked first."""
        return not self.lost_files()

    def check_files(self) -> None:
        """TableVersionGone when files of this version were vacuumed, TableUnreadable for the newest version."""
        if filesystem.missing(self.path, self.data_files):
            raise self._files_gone()

    def read(self, columns: list[str]) -> pa.Table:
        """`columns` of all rows, in memory. Raises what batches() raises."""
        batches = list(self.batches(columns))
        return pa.Table.from_batches(batches, batches[0].schema if batches else self.schema_of(columns))

    def schema_of(self, columns: list[str]) -> pa.Schema:
        """The schema of some columns. TableUnfit when one is missing."""
        if missing := [name for name in columns if name not in self.schema.names]:
            raise TableUnfit(
                str(self),
                [f"has no column {name!r}" for name in missing],
                expected=f"the columns {', '.join(columns)}; it has {', '.join(self.schema.names)}",
                next="pass a table of the same config, or ingest again",
            )
        return pa.schema([self.schema.field(name) for name in columns])

    def read_by_spark(self, session: "SparkSession") -> "DataFrame":
        """All columns of this version, and no other, read when the result is asked for."""
        path = filesystem.for_spark(self.path)
        return session.read.format("delta").option("versionAsOf", self.version).load(path)

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """`columns`, some rows at a time, each time in the same order. TableUnfit when a column is missing,
        TableVersionGone after a vacuum, TableUnreadable when files are gone or damaged otherwise."""
        self.schema_of(columns)
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        try:
            # Not to_pyarrow_table(): its scanner's threads abort one process in three at exit (docs/decisions.md).
            query = QueryBuilder(READING).register("rows", self.delta_table)
            rows = query.execute(f"SELECT {names} FROM rows")
            read = pa.schema(rows.schema)  # texts and bytes as views, which Arrow cannot pick rows of
            plain = pa.schema([field.with_type(self.schema.field(field.name).type) for field in read])
            yield from (pa.record_batch(batch).cast(plain) for batch in rows)
        except Exception as err:  # delta-rs has no types of its own for a file that is not there, or is damaged
            if failure := self._failure(err):
                raise failure from err
            raise

    @cached_property
    def _add_actions(self) -> pa.Table:
        return pa.table(self.delta_table.get_add_actions(flatten=True))

    def _failure(self, error: Exception) -> UserError | None:
        """What an error while this version was read says of its files; None where it says nothing of them."""
        text = reason_of(error)
        if "Unsupported table features" in text:
            return TableUnreadable(str(self), text, next=WITHOUT_FEATURES)
        if "not found" not in text and "Parquet" not in text:
            return None
        if unavailable := filesystem.unavailability(self.path):
            return unavailable
        if "not found" in text:
            return self._files_gone()
        damaged = next((f"its file {name} {fate}" for name, fate in self.lost_files().items()), "")
        return TableUnreadable(str(self), damaged, next=RESTORE) if damaged else TableUnreadable(str(self), text)

    def _files_gone(self) -> UserError:
        """What to say of a version whose files are gone. The newest one's no vacuum removes."""
        newest = _load(TableUri(self.path)).version()
        if newest == self.version:
            return TableUnreadable(str(self), "files of it are gone", next=RESTORE)
        reason = f"version {self.version} was vacuumed: files of it are gone"
        return TableVersionGone(str(self), reason, versions=f"what is left, up to {newest}")


def open(table: TableUri) -> Snapshot:
    """The table at its version, or at the newest when it is not pinned.

    TableNotFound, TableUnreadable, ObjectStoreUnavailable, or TableVersionGone for a version that was never written
    or is no longer in the log.
    """
    try:
        delta_table = _load(table)
    except (DeltaError, OSError) as err:
        raise _open_error(table, err) from err
    return Snapshot(TableUri(table.path, delta_table.version()), delta_table)


def find(table: TableUri) -> Snapshot | None:
    """What open() gives; None where there is no table, or its log has no such version, any more or yet.

    TableUnreadable for a table whose log cannot be read, ObjectStoreUnavailable where nobody can tell.
    """
    try:
        return open(table)
    except (TableNotFound, TableVersionGone):
        return None


def identity_of(table_id: str, data_files: Iterable[str]) -> str:
    """Snapshot.identity of a version with these data files, of the table that Delta knows by this id."""
    return hashlib.sha256("\0".join([table_id, *sorted(data_files)]).encode()).hexdigest()[:32]


def staleness_reason(table: TableUri, *, identity: str) -> str:
    """Why a pinned table is no longer the newest version, with all of its files; "" when it is."""
    try:
        newest = open(TableUri(table.path))
    except TableNotFound:
        return f"{table.path} is gone"
    if newest.version != table.version:
        return f"{table.name} is at version {newest.version} now"
    if newest.identity != identity:
        return f"{table} was made anew"
    lost = newest.lost_files()
    more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
    return next((f"a file of {table} {fate}{more}" for fate in lost.values()), "")


def reason_of(error: Exception) -> str:
    """What delta-rs says, on one line, without its colors and without a backtrace of its own code."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).partition("   0: <unknown>")[0]
    return " ".join(text.split())


def _rows_in(path: str, size_bytes: int) -> int:
    with filesystem.opened(path, size_bytes) as content:
        return int(pq.ParquetFile(content).metadata.num_rows)


def _load(table: TableUri) -> DeltaTable:
    return DeltaTable(table.path, version=table.version, storage_options=filesystem.options(table.path))


def _open_error(table: TableUri, error: Exception) -> Exception:
    """What `error` says of a table; for a version of a table that is there, of the version."""
    if unavailable := filesystem.unavailability(table.path):
        return unavailable
    if table.version is not None:
        try:
            return _version_gone(table, error, newest=open(TableUri(table.path)))
        except TableNotFound:
            return TableNotFound(str(table))
        except TableUnreadable as err:
            return err
    if isinstance(error, TableNotFoundError) or not (filesystem.is_remote(table.path) or os.path.isdir(table.path)):
        return TableNotFound(str(table))
    reason = reason_of(error)
    if " collate " in reason:  # what an earlier infer wrote by Spark's workers
        next = "run `mlflow run . -e infer`, which writes plain types into its log; all rows are kept"
        return TableUnreadable(str(table), reason, next=next)
    return TableUnreadable(str(table), reason)


def _version_gone(table: TableUri, error: Exception, *, newest: Snapshot) -> TableVersionGone:
    is_to_come = table.version is not None and table.version > newest.version
    reason = "there is no such version yet" if is_to_come else "its log entry is no longer kept"
    if table.version in newest.logged_versions:
        reason = f"its log entry is there, and cannot be read: {reason_of(error)}"
    versions = f"{min(newest.logged_versions, default=newest.version)} to {newest.version}"
    return TableVersionGone(str(table), reason, versions=versions)
