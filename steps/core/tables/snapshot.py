"""A version of a Delta table as its log describes it. Reads the log by deltalake, without a JVM, never writes."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from steps.core.errors import (
    ObjectStoreUnavailable,
    TableNotFound,
    TableUnfit,
    TableUnreadable,
    TableVersionGone,
)
from steps.core.storage import filesystem, s3
from steps.core.tables import location

# Properties of every table of ours, given when it is made: a version stays readable until our own vacuum, which knows
# who needs it. Delta's defaults end that after 30 days for any reader, and after 7 for Spark.
RETENTION_PROPERTIES = {f"delta.{what}RetentionDuration": "interval 36500 days" for what in ("log", "deletedFile")}
IN_MEMORY_BYTES = (
    128 * 2**20
)  # of Parquet: up to it one process reads and scores a table faster than Spark's workers start


def exists(table: location.TableUri) -> bool:
    """Whether there is a table; TableNotFound when something else than a folder is in its place."""
    if os.path.exists(table.path) and not os.path.isdir(table.path):
        raise TableNotFound(table.path, next="move that file away, or choose another lake")
    return DeltaTable.is_deltatable(table.path, filesystem.options(table.path))


def pin(table: location.TableUri) -> location.TableUri:
    """`table` with the version that is the newest now, if none was given. Raises what open_table raises."""
    return location.TableUri(table.path, open_table(table).version())


def open_table(table: location.TableUri) -> DeltaTable:
    """The table at its version.

    TableNotFound, TableUnreadable, or TableVersionGone for a version that was never written or is vacuumed already.
    """
    try:
        newest = _delta_table(table.path)
    except (DeltaError, OSError) as err:
        is_remote = filesystem.is_remote(table.path)
        if is_remote and (reason := s3.unavailability(table.path)):
            raise ObjectStoreUnavailable(table.path, s3.endpoint(), reason) from err
        if isinstance(err, TableNotFoundError) or not (is_remote or os.path.isdir(table.path)):
            raise TableNotFound(str(table)) from err
        raise _unreadable(table, err) from err
    if table.version is None or table.version == newest.version():
        return newest
    versions = f"{_first_version(newest)} to {newest.version()}"
    if table.version > newest.version():
        raise TableVersionGone(str(table), "there is no such version yet", versions=versions)
    try:
        return _delta_table(table.path, version=table.version)
    except (DeltaError, OSError) as err:
        raise TableVersionGone(str(table), "its log entry is no longer kept", versions=versions) from err


def read(table: location.TableUri, *, columns: list[str]) -> pa.Table:
    """`columns` of a pinned table, in memory. Raises what batches() raises."""
    found = list(batches(table, columns=columns))
    stored = schema(table)
    return pa.Table.from_batches(found, found[0].schema if found else pa.schema([stored.field(c) for c in columns]))


def batches(table: location.TableUri, *, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """`columns` of a pinned table, some rows at a time.

    TableUnfit when a column is missing, TableVersionGone after a vacuum.
    """
    opened = open_table(table)
    present = [field.name for field in opened.schema().fields]
    if missing := [name for name in columns if name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}" for name in missing],
            expected=f"the columns {', '.join(columns)}; it has {', '.join(present)}",
            next="pass a table of the same config, or ingest again",
        )
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    try:
        # Not to_pyarrow_table(): its scanner's threads abort one process in three at exit (docs/decisions.md).
        found = QueryBuilder().register("rows", opened).execute(f"SELECT {names} FROM rows")
        plain = pa.schema([field.with_type(_plain(field.type)) for field in pa.schema(found.schema)])
        yield from (pa.record_batch(batch).cast(plain) for batch in found)
    except Exception as err:  # delta-rs has no type of its own for a file that is not there
        if "not found" not in str(err):
            raise
        reason = f"version {opened.version()} was vacuumed: files of it are gone"
        raise TableVersionGone(
            str(table), reason, versions=f"what is left, up to {_delta_table(table.path).version()}"
        ) from err


def schema(table: location.TableUri) -> pa.Schema:
    """The columns of a version, as Arrow types."""
    return pa.schema(open_table(table).schema().to_arrow())


def count(table: location.TableUri) -> int:
    """The rows of a version, from its log."""
    return sum(pa.table(open_table(table).get_add_actions(flatten=True))["num_records"].to_pylist())


def size_bytes(table: location.TableUri) -> int:
    """What the data files of this version take on storage."""
    return sum(pa.table(open_table(table).get_add_actions(flatten=True))["size_bytes"].to_pylist())


def data_files(opened: DeltaTable) -> list[str]:
    """The data files of an opened version, also those that were removed, by their names relative to the table."""
    names = pa.table(opened.get_add_actions(flatten=True))["path"].to_pylist()  # file_uris() would quote the folder too
    return [unquote(name) for name in names]


def lost_files(path: str, opened: DeltaTable) -> dict[str, str]:
    """Those of data_files() that are not there as they were written, and what became of them; `path` is the table's."""
    actions = pa.table(opened.get_add_actions(flatten=True))
    sizes = dict(zip(map(unquote, actions["path"].to_pylist()), actions["size_bytes"].to_pylist(), strict=True))
    return {
        name: "is gone" if size is None else f"is damaged: {size:,} bytes, {sizes[name]:,} expected"
        for name, size in filesystem.damaged(path, sizes).items()
    }


def identity(table: location.TableUri) -> str:
    """What tells a pinned version from any other that had or will have its URI; TableVersionGone when it is not there.

    A table that was deleted and made anew begins at version 0 again, and one that was put back from a backup repeats
    versions under its old id. The names of data files are never repeated, so they are what a version is known by.
    """
    return identity_of(open_table(table))


def identity_of(opened: DeltaTable) -> str:
    """The identity of an opened version: a digest of Delta's id of the table and of the names of its data files."""
    parts = [str(opened.metadata().id), *sorted(data_files(opened))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def staleness_reason(table: location.TableUri, *, identity: str) -> str:
    """Why a pinned table is no longer the newest version, with all of its files; "" when it is."""
    try:
        newest = open_table(location.TableUri(table.path))
    except TableNotFound:
        return f"{table.path} is gone"
    if newest.version() != table.version:
        return f"{table.name} is at version {newest.version()} now"
    if identity_of(newest) != identity:
        return f"{table} was made anew"
    lost = lost_files(table.path, newest)
    more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
    return next((f"a file of {table} {fate}{more}" for fate in lost.values()), "")


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One version of a table: `metadata` is the userMetadata that our steps write, {} for others' commits."""

    version: int
    when: datetime
    operation: str
    metadata: dict[str, Any]


def commits(table: location.TableUri) -> list[Commit]:
    """The versions that the log still tells of, the newest first."""
    return [_commit(each) for each in open_table(location.TableUri(table.path)).history() if "version" in each]


def newest_commit(opened: DeltaTable) -> Commit:
    """The commit of an opened version, which is the newest; a log that was cleaned may tell nothing of it."""
    told = opened.history(limit=1)
    return _commit({"version": opened.version(), **(told or [{}])[0]})


def committed_by(run_id: str, opened: DeltaTable) -> int | None:
    """The version that a run has just written, which need not be the newest any more; None if there is none."""
    told = opened.history(limit=100)
    return next((each["version"] for each in told if _metadata(each).get("run_id") == run_id), None)


def reason_of(error: Exception) -> str:
    """What delta-rs says, on one line, without its colors and without a backtrace of its own code."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).partition("   0: <unknown>")[0]
    return " ".join(text.split())


def _unreadable(table: location.TableUri, error: Exception) -> TableUnreadable:
    reason = reason_of(error)
    if " collate " in reason:  # what an earlier infer wrote of more than IN_MEMORY_BYTES
        next = "run `mlflow run . -e infer`, which writes plain types into its log; all rows are kept"
        return TableUnreadable(str(table), reason, next=next)
    return TableUnreadable(str(table), reason)


def _delta_table(path: str, *, version: int | None = None) -> DeltaTable:
    return DeltaTable(path, version=version, storage_options=filesystem.options(path))


def _commit(told: dict[str, Any]) -> Commit:
    when = datetime.fromtimestamp(told.get("timestamp", 0) / 1000, UTC)
    operation = str(told.get("operation", "unknown"))
    return Commit(version=told["version"], when=when, operation=operation, metadata=_metadata(told))


def _metadata(told: dict[str, Any]) -> dict[str, Any]:
    try:
        metadata = json.loads(told.get("userMetadata", ""))
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _first_version(table: DeltaTable) -> int:
    versions: list[int] = [commit["version"] for commit in table.history() if "version" in commit]
    return min(versions, default=0)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == pa.string_view() else kind


def commits_by_version(path: str) -> dict[int, Commit]:
    """The commits of a table by version, the newest first, as far as its log is kept; {} where there is no table."""
    try:
        return {commit.version: commit for commit in commits(location.TableUri(path))}
    except TableNotFound:
        return {}


def is_readable(table: location.TableUri) -> bool:
    """Whether all files of a version are there: neither its log entry nor they were cleaned away."""
    try:
        return not lost_files(table.path, open_table(table))
    except (TableNotFound, TableVersionGone):
        return False


def identity_if_kept(table: location.TableUri) -> str:
    """identity() of a pinned version, "" where its log entry is gone."""
    try:
        return identity(table)
    except (TableNotFound, TableVersionGone):
        return ""
