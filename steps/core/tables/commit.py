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
from deltalake import CommitProperties, DeltaTable, Schema, convert_to_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from steps.core.errors import ObjectStoreUnavailable, TableBusy, TableNotWritten, TableUnfit, TableUnreadable
from steps.core.storage import filesystem, s3
from steps.core.tables import location, snapshot

ATTEMPTS = 100  # each that is lost takes a hundredth of a second, and means that another writer got through
# What every reader of Delta takes without a table feature (https://github.com/delta-io/delta/blob/master/PROTOCOL.md).
PLAIN_TYPES = r"string|long|integer|short|byte|float|double|decimal\(\d+,\d+\)|boolean|binary|date|timestamp"
LOG = "_delta_log"


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The pinned version, and whether it was written now or was there already."""

    table: location.TableUri
    written: bool


@dataclass(frozen=True, kw_only=True)
class _Staged:
    """Parquet files that belong to no version yet, with their statistics, and the columns in them."""

    schema: Schema
    files: list[AddAction]


def once(
    table: location.TableUri,
    *,
    made_of: Mapping[str, str],
    made_by: Mapping[str, str],
    write: Callable[[str], None],
) -> Committed:
    """Make what `write` leaves in the folder that it is handed the newest version of `table`, whatever that held.

    Nothing is written when the newest version is made of the same already, by its commit's metadata. `made_by` goes
    into that metadata too; its `run_id` is one that no other commit has. Raises TableUnfit for a column that not every
    reader of Delta takes, TableNotWritten, TableBusy when other writers are always first.
    """
    if already := _made_already(table, _opened(table), made_of):
        return Committed(table=already, written=False)
    folder = f"{table.path}/{made_by['run_id']}"
    try:
        write(folder)
        staged = _stage(table, folder)
    except Exception:
        with contextlib.suppress(Exception):  # of the store that is the reason; a vacuum removes what stays
            filesystem.remove_folder(folder)
        raise
    metadata = json.dumps({**made_of, **made_by})
    for _ in range(ATTEMPTS):
        newest = _opened(table)
        if already := _made_already(table, newest, made_of):
            filesystem.remove_folder(folder)  # the log holds another's commit wherever ours was tried
            return Committed(table=already, written=False)
        version = newest.version() + 1 if newest else 0
        try:
            _put(table, newest, staged, metadata=metadata)
        except (DeltaError, OSError) as err:
            now = _opened(table)
            if now and (written := snapshot.committed_by(made_by["run_id"], now)) is not None:
                version = written  # only the answer was lost
            elif now and now.version() >= version:
                continue  # another writer's has this number
            else:
                raise _not_written(table, err) from err
        return Committed(table=location.TableUri(table.path, version), written=True)
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


def mend(table: location.TableUri) -> bool:
    """Whether a table that delta-rs cannot open, as its text has a collation in the log, was given plain types.

    Spark writes such types for columns whose schema came from Arrow. Rows and files stay as they are: a commit that
    changes nothing but the schema is added to the log.
    """
    newest, metadata = _newest_metadata(table.path)
    plain = re.sub(r" collate \w+", "", metadata.get("schemaString", ""))
    if not metadata or plain == metadata["schemaString"]:
        return False
    actions = [{"commitInfo": {"operation": "CHANGE COLUMN"}}, {"metaData": {**metadata, "schemaString": plain}}]
    text = "\n".join(json.dumps(action) for action in actions)
    return filesystem.create(f"{table.path}/{LOG}/{newest + 1:020}.json", text.encode())


def _opened(table: location.TableUri) -> DeltaTable | None:
    """The newest version, None where there is no table yet."""
    if not snapshot.exists(table):
        return None
    try:
        return snapshot.open_table(location.TableUri(table.path))
    except TableUnreadable:
        if not mend(table):
            raise
        return snapshot.open_table(location.TableUri(table.path))


def _made_already(
    table: location.TableUri, newest: DeltaTable | None, made_of: Mapping[str, str]
) -> location.TableUri | None:
    """The newest version, if it is made of the same and all its files are there."""
    if newest is None or not made_of.items() <= snapshot.newest_commit(newest).metadata.items():
        return None
    return None if snapshot.lost_files(table.path, newest) else location.TableUri(table.path, newest.version())


def _stage(table: location.TableUri, folder: str) -> _Staged:
    """The files in `folder`, with the statistics in their footers, which delta-rs reads into a log of that folder."""
    options = filesystem.options(folder)
    convert_to_deltalake(folder, storage_options=options)
    log = filesystem.read(f"{folder}/{LOG}/{0:020}.json").decode()
    filesystem.remove_folder(f"{folder}/{LOG}")
    actions = [json.loads(line) for line in log.splitlines()]
    schema = json.loads(next(action["metaData"]["schemaString"] for action in actions if "metaData" in action))
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
        for file in (action["add"] for action in actions if "add" in action)
    ]
    return _Staged(schema=Schema.from_json(json.dumps({**schema, "fields": fields})), files=files)


def _put(table: location.TableUri, newest: DeltaTable | None, staged: _Staged, *, metadata: str) -> None:
    """Add the log entry after `newest`, with all of `staged` and nothing else, unless there is one of its number."""
    properties = CommitProperties(custom_metadata={"userMetadata": metadata}, max_commit_retries=0)
    if newest:
        newest.create_write_transaction([*staged.files], "overwrite", staged.schema, commit_properties=properties)
        return
    create_table_with_add_actions(
        table.path,
        staged.schema,
        staged.files,
        configuration=snapshot.RETENTION_PROPERTIES,
        storage_options=filesystem.options(table.path),
        commit_properties=properties,
    )


def _check_types(table: location.TableUri, schema: Mapping[str, Any]) -> None:
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


def _newest_metadata(path: str) -> tuple[int, dict[str, Any]]:
    """The newest version in a table's log, and the newest metadata among its entries: {} where no entry has any."""
    entries = [name for name in filesystem.files(f"{path}/{LOG}") if re.fullmatch(r"\d{20}\.json", name)]
    for name in sorted(entries, reverse=True):
        for line in filesystem.read(f"{path}/{LOG}/{name}").splitlines():
            if metadata := json.loads(line).get("metaData"):
                return int(max(entries)[:20]), metadata
    return -1, {}


def _not_written(table: location.TableUri, error: Exception) -> Exception:
    if filesystem.is_remote(table.path) and (reason := s3.unavailability(table.path)):
        return ObjectStoreUnavailable(table.path, s3.endpoint(), reason)
    return TableNotWritten(table.path, snapshot.reason_of(error))
