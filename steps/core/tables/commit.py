"""Commit rows to a Delta table by delta-rs: Parquet files first, then one conditional put that makes them a version.

Whoever computes the rows, Spark or this process, writes plain Parquet files into a folder of the run's own under the
table. They belong to no version until delta-rs puts the log entry that names them, on condition that there is none of
that number yet. So two writers never replace each other's commit, however late one of them is, and need no lock.
"""

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, Schema, convert_to_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from steps.core.errors import ObjectStoreUnavailable, TableBusy, TableNotWritten, TableUnfit, TableUnreadable
from steps.core.storage import filesystem, s3
from steps.core.tables import log, snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

ATTEMPTS = 100  # each that is lost takes a hundredth of a second, and means that another writer got through
# What every reader of Delta takes without a table feature (https://github.com/delta-io/delta/blob/master/PROTOCOL.md).
PLAIN_TYPES = r"string|long|integer|short|byte|float|double|decimal\(\d+,\d+\)|boolean|binary|date|timestamp"


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The version that holds the rows, and whether it was written now or was there already."""

    table: Snapshot
    written: bool


@dataclass(frozen=True, kw_only=True)
class _Staged:
    """Parquet files that belong to no version yet, with their statistics, and the columns in them."""

    schema: Schema
    files: list[AddAction]


def once(
    table: TableUri,
    *,
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Callable[[str], None],
) -> Committed:
    """Commit the Parquet files that `write` puts into a folder as the newest version of `table`, in place of its rows.

    Nothing is written when the commit of the newest version has `made_of` in its metadata already. `made_by` goes into
    the metadata too; its `run_id` is one that no other commit has. Raises TableUnfit for a column that not every
    reader of Delta takes, TableNotWritten, TableBusy when other writers are always first.
    """
    newest = _newest(table)
    if newest and _is_made_of(newest, made_of):
        return Committed(table=newest, written=False)
    folder = f"{table.path}/{made_by['run_id']}"
    staged = _write(table, folder, write)
    for _ in range(ATTEMPTS):
        newest = _newest(table)
        if newest and _is_made_of(newest, made_of):
            filesystem.remove_folder(folder)  # the log holds another's commit wherever ours was tried
            return Committed(table=newest, written=False)
        version = _commit(table, newest, staged, metadata={**made_of, **made_by})
        if version is not None:
            return Committed(table=snapshot.open(TableUri(table.path, version)), written=True)
    raise TableBusy(table.path, attempts=ATTEMPTS)


def save(rows: Any, folder: str) -> None:
    """`rows`, a Spark DataFrame or an Arrow table, as Parquet files in a new folder."""
    if not isinstance(rows, pa.Table):
        writer = rows.write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", False)
        writer.parquet(filesystem.for_spark(folder))
        return
    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer)
    filesystem.write(f"{folder}/part-00000.parquet", buffer.getvalue().to_pybytes())


def _newest(table: TableUri) -> Snapshot | None:
    """The newest version, None where there is no table yet."""
    if not snapshot.exists(table):
        return None
    try:
        return snapshot.open(TableUri(table.path))
    except TableUnreadable:
        if not _remove_collations(table):
            raise
        return snapshot.open(TableUri(table.path))


def _is_made_of(newest: Snapshot, made_of: Mapping[str, str]) -> bool:
    """Whether a version is made of the same, and all its files are there."""
    return made_of.items() <= newest.commit.metadata.items() and not newest.lost_files()


def _committed_by(run_id: str, newest: Snapshot) -> int | None:
    """The version that a run has just written, which need not be the newest any more; None if there is none."""
    recent = newest.logged_versions[:ATTEMPTS]
    return next((v for v in recent if log.commit(newest.path, v).metadata.get("run_id") == run_id), None)


def _write(table: TableUri, folder: str, write: Callable[[str], None]) -> _Staged:
    """What `write` leaves in `folder`; nothing stays there when it fails."""
    try:
        write(folder)
        return _stage(table, folder)
    except Exception:
        with contextlib.suppress(Exception):  # of the store that is the reason; a vacuum removes what stays
            filesystem.remove_folder(folder)
        raise


def _stage(table: TableUri, folder: str) -> _Staged:
    """The files in `folder`, with the statistics in their footers, which delta-rs reads into a log of that folder."""
    options = filesystem.options(folder)
    convert_to_deltalake(folder, storage_options=options)
    metadata, *_ = log.actions(folder, 0, kind="metaData")
    added = list(log.actions(folder, 0, kind="add"))
    filesystem.remove_folder(f"{folder}/{log.FOLDER}")
    schema = json.loads(metadata["schemaString"])
    _check_types(table, schema)
    fields = [{**field, "nullable": True} for field in schema["fields"]]  # what a contract requires it checks itself
    run = folder.rpartition("/")[2]
    files = [
        AddAction(
            path=f"{run}/{file['path']}",
            size=file["size"],
            partition_values={},
            modification_time=file["modificationTime"],
            data_change=True,
            stats=file["stats"],
        )
        for file in added
    ]
    return _Staged(schema=Schema.from_json(json.dumps({**schema, "fields": fields})), files=files)


def _commit(table: TableUri, newest: Snapshot | None, staged: _Staged, *, metadata: Mapping[str, str]) -> int | None:
    """The version that `staged` has become, right after `newest`; None when another writer's has that number."""
    version = newest.version + 1 if newest else 0
    try:
        _put(table, newest, staged, metadata=json.dumps(metadata))
    except (DeltaError, OSError) as err:
        after = _newest(table)
        if after and (written := _committed_by(metadata["run_id"], after)) is not None:
            return written  # only the answer was lost
        if after and after.version >= version:
            return None
        raise _not_written(table, err) from err
    return version


def _put(table: TableUri, newest: Snapshot | None, staged: _Staged, *, metadata: str) -> None:
    """Add the log entry after `newest`, with all of `staged` and nothing else, unless there is one of its number."""
    properties = CommitProperties(custom_metadata={"userMetadata": metadata}, max_commit_retries=0)
    if newest:
        newest.delta_table.create_write_transaction(
            [*staged.files], "overwrite", staged.schema, commit_properties=properties
        )
        return
    create_table_with_add_actions(
        table.path,
        staged.schema,
        staged.files,
        configuration=snapshot.RETENTION_PROPERTIES,
        storage_options=filesystem.options(table.path),
        commit_properties=properties,
    )


def _check_types(table: TableUri, schema: Mapping[str, Any]) -> None:
    """TableUnfit for types that not every reader of Delta takes; a nested type is as plain as those in it."""
    unfit = {
        field["name"]: kind
        for field in schema["fields"]
        for kind in _primitive_types(field["type"])
        if not re.fullmatch(PLAIN_TYPES, kind)
    }
    if unfit:
        raise TableUnfit(
            table.path,
            [f"column {name!r} would be of type {kind}" for name, kind in unfit.items()],
            expected="columns of types that every reader of Delta takes",
            next="leave these columns out of the table that is read, or convert them there",
        )


def _primitive_types(kind: Any) -> list[str]:
    if isinstance(kind, str):
        return [kind]
    inner = [field["type"] for field in kind.get("fields", [])]
    inner += [kind[name] for name in ("elementType", "keyType", "valueType") if name in kind]
    return [primitive for part in inner for primitive in _primitive_types(part)]


def _remove_collations(table: TableUri) -> bool:
    """Whether a table that delta-rs cannot open, because text columns have a collation in its log, has plain types now.

    Spark writes such types for columns whose schema came from Arrow. Rows and files stay as they are: a commit that
    changes nothing but the schema is added to the log.
    """
    newest, metadata = _newest_metadata(table.path)
    plain = re.sub(r" collate \w+", "", metadata.get("schemaString", ""))
    if not metadata or plain == metadata["schemaString"]:
        return False
    actions = [{"commitInfo": {"operation": "CHANGE COLUMN"}}, {"metaData": {**metadata, "schemaString": plain}}]
    text = "\n".join(json.dumps(action) for action in actions)
    return filesystem.create(log.entry(table.path, newest + 1), text.encode())


def _newest_metadata(path: str) -> tuple[int, dict[str, Any]]:
    """The newest version in a table's log, and the newest metadata among its entries: {} where no entry has any."""
    versions = log.versions(path)
    for version in versions:
        for metadata in log.actions(path, version, kind="metaData"):
            return versions[0], metadata
    return -1, {}


def _not_written(table: TableUri, error: Exception) -> Exception:
    if filesystem.is_remote(table.path) and (reason := s3.unavailability(table.path)):
        return ObjectStoreUnavailable(table.path, s3.endpoint(), reason)
    return TableNotWritten(table.path, snapshot.reason_of(error))
