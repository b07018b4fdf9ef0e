"""Parquet files that lie in a table's folder and belong to no version of it yet."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema, convert_to_deltalake
from deltalake.transaction import AddAction

from steps.core.errors import TableNotWritten, TableUnfit
from steps.core.storage import filesystem
from steps.core.tables import log
from steps.core.tables.location import TableUri

# What every reader of Delta takes without a table feature (https://github.com/delta-io/delta/blob/master/PROTOCOL.md).
PLAIN_TYPES = r"string|long|integer|short|byte|float|double|decimal\(\d+,\d+\)|boolean|binary|date|timestamp"
BATCH_ROWS = 16_384  # that are read at once


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The files in `folder` that are to be committed, with their statistics, and the columns in them."""

    folder: str
    schema: Schema
    files: list[AddAction]

    @property
    def row_count(self) -> int:
        """By the files' statistics."""
        return sum(json.loads(file.stats)["numRecords"] for file in self.files)

    @cached_property
    def uncompressed_bytes(self) -> int:
        """Of the values in the files, by their footers; repeated ones may count once."""
        total = 0
        for file in self.files:
            with self._opened(file) as content:
                metadata = pq.ParquetFile(content).metadata
            total += sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        return total

    def rows(self) -> pa.RecordBatchReader:
        """All rows, some at a time."""
        schema = pa.schema(self.schema.to_arrow())
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def read(self, columns: list[str]) -> pa.Table:
        """These columns of all rows, in memory."""
        schema = pa.schema([pa.schema(self.schema.to_arrow()).field(name) for name in columns])
        return pa.Table.from_batches(self._batches(schema), schema)

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            with self._opened(file) as content:
                for batch in pq.ParquetFile(content).iter_batches(BATCH_ROWS, columns=schema.names):
                    yield batch.select(schema.names).cast(schema)

    def _opened(self, file: AddAction) -> AbstractContextManager[IO[bytes]]:
        return filesystem.opened(f"{self.folder}/{unquote(file.path.partition('/')[2])}", file.size)


def stage(table: TableUri, folder: str, names: Collection[str] | None) -> Staged:
    """The files of these names in `folder`, None for all, with what their footers tell; others are removed.

    delta-rs reads the footers, into a log of that folder. TableUnfit for a column that not every reader of Delta
    takes, TableNotWritten when one of `names` is not there.
    """
    if names is not None:
        _keep_only(table, folder, names)
    convert_to_deltalake(folder, storage_options=filesystem.options(folder))
    metadata, *_ = log.actions(folder, 0, kind="metaData")
    added = [file for file in log.actions(folder, 0, kind="add") if names is None or unquote(file["path"]) in names]
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
    return Staged(folder=folder, schema=Schema.from_json(json.dumps({**schema, "fields": fields})), files=files)


def _keep_only(table: TableUri, folder: str, names: Collection[str]) -> None:
    """Remove what attempts that failed have left: their files may be torn, or repeat rows."""
    found = filesystem.files(folder)
    if missing := sorted(set(names) - set(found)):
        raise TableNotWritten(table.path, f"{folder}/{missing[0]} was written and is gone")
    for name in found.keys() - set(names):
        filesystem.remove_file(f"{folder}/{name}")


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
