"""Parquet files: the columns and types of each stand in its footer, and only those that are wanted are read."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from steps.core.errors import SourceUnreadable
from steps.core.sources import nested, text_files
from steps.core.sources.file_source import Files, Header
from steps.core.sources.rows import Part, RawRows
from steps.core.storage import filesystem

BATCH_ROWS = 50_000
PART_BYTES = 64 * 2**20  # of row groups, uncompressed, that one worker reads


class ParquetFiles(Files):
    """Parquet files: names and types of the columns are in the footer of each."""

    format = "parquet"
    endings = (".parquet", ".pq")

    def header_of(self, file: str, size_bytes: int) -> Header | None:
        with _opened(file, size_bytes) as stream:
            footer = _footer(file, stream)
            schema = footer.schema_arrow
        leaves = list(nested.leaves(schema))
        names, types = tuple(name for name, _ in leaves), tuple(_plain_type(kind) for _, kind in leaves)
        return Header(names, types) if footer.metadata.num_rows else None

    def parts_of(self, file: str, size_bytes: int, columns: Mapping[str, str]) -> list[Part]:
        with _opened(file, size_bytes) as stream:
            footer = _footer(file, stream)
            metadata = footer.metadata
            leaves = {path: _plain_type(kind) for path, kind in nested.leaves(footer.schema_arrow)}
        for source in columns.values():
            nested.check_is_value(file, source, leaves[source])
        groups: list[list[int]] = [[]]
        group_bytes = 0
        for number in range(metadata.num_row_groups):
            if group_bytes > PART_BYTES:
                groups, group_bytes = [*groups, []], 0
            groups[-1].append(number)
            group_bytes += metadata.row_group(number).total_byte_size
        return [
            ParquetPart(
                file=file,
                size_bytes=size_bytes // len(groups),
                file_bytes=size_bytes,
                row_groups=tuple(group),
                columns=dict(columns),
            )
            for group in groups
        ]


@dataclass(frozen=True, kw_only=True)
class ParquetPart(Part):
    """Row groups of a file, of which `columns` are wanted: names in the contract to paths in the file."""

    file: str
    size_bytes: int
    file_bytes: int
    row_groups: tuple[int, ...]
    columns: dict[str, str]

    def read(self) -> Iterator[RawRows]:
        with _opened(self.file, self.file_bytes) as stream:
            file = _footer(self.file, stream)
            names = list(dict.fromkeys(nested.top(source, file.schema_arrow) for source in self.columns.values()))
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=list(self.row_groups), columns=names):
                    rows = pa.Table.from_batches([batch])
                    leaves = {name: nested.leaf(rows, source) for name, source in self.columns.items()}
                    columns = {name: _plain(values) for name, values in leaves.items()}
                    yield RawRows(columns=pa.table(columns) if columns else rows.select([]))
            except (pa.ArrowException, OSError) as err:
                reason = f"it cannot be read to its end: {' '.join(str(err).split())}"
                raise SourceUnreadable(self.file, reason, next="write or copy the file again") from err


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, whether a file has each of them once, as pandas' categories, or not. A UUID and JSON are
    texts."""
    if isinstance(kind, pa.JsonType):
        return kind.storage_type
    known = {pa.uuid(): pa.string(), pa.bool8(): pa.bool_()}
    return known.get(kind, kind.value_type if pa.types.is_dictionary(kind) else kind)


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of a file as _plain_type() has them."""
    if values.type == pa.uuid():
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return values.cast(_plain_type(values.type))


@contextlib.contextmanager
def _opened(file: str, size_bytes: int) -> Iterator[IO[bytes]]:
    with text_files.explaining(file), filesystem.opened(file, size_bytes) as stream:
        yield stream


def _footer(file: str, stream: object) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream, coerce_int96_timestamp_unit="us")  # Spark's old type for a moment
    except (pa.ArrowException, OSError) as err:
        words = " ".join(str(err).split())[:200]
        if "encrypted" in words:
            raise SourceUnreadable(file, "it is encrypted", next="write it without encryption") from err
        reason = f"it is not a Parquet file, or not whole: {words}"
        raise SourceUnreadable(
            file, reason, next="remove it, write it again, or say source.format: csv for a text"
        ) from err
