"""Some of the data files of a version of a table, read without the others: those that were added, for one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from steps.core.storage import filesystem
from steps.core.tables import in_memory
from steps.core.tables.snapshot import Snapshot

if TYPE_CHECKING:  # PySpark takes half a second, which small tables do not pay
    from pyspark.sql import DataFrame, SparkSession

BATCH_ROWS = 65_536  # that are read at once
# Table features by which a row need not stand in its file as it is in the table, or be one at all.
FILES_ARE_NOT_ROWS = {"columnMapping", "deletionVectors"}


@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """Data files of `table`, by their names relative to it. Read as a Snapshot of all its rows is; known to be rows as
    they stand in the files by added_since(), or as this project has written the table."""

    table: Snapshot
    names: list[str]

    def __str__(self) -> str:
        return str(self.table)

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    @property
    def row_count(self) -> int:
        """How many rows these files have together."""
        return sum(self.table.rows_of_files[name] for name in self.names)

    @property
    def fits_in_memory(self) -> bool:
        """Whether this process may hold all of their rows."""
        return in_memory.fits(self.schema, rows=self.row_count)

    @property
    def is_for_workers(self) -> bool:
        """Whether Spark's workers read them, as they are too large for one process that streams."""
        return not in_memory.fits(self.schema, rows=self.row_count, mebibytes=in_memory.STREAMED_MEBIBYTES)

    def read(self, columns: list[str]) -> pa.Table:
        """`columns` of all rows, in memory."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_batches(self.batches(columns), schema)

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """`columns`, some rows at a time. A column that a file has not is missing in all of its rows."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        for name in self.names:
            path, size_bytes = f"{self.table.path}/{name}", self.table.data_files[name]
            with filesystem.opened(path, size_bytes) as content:
                file = pq.ParquetFile(content, coerce_int96_timestamp_unit="us")  # Spark's old type for a moment
                present = [column for column in columns if column in file.schema_arrow.names]
                for batch in file.iter_batches(BATCH_ROWS, columns=present or None):
                    yield _of_schema(batch, schema)

    def read_by_spark(self, session: "SparkSession") -> "DataFrame":
        """All columns of these rows, read when the result is asked for."""
        from pyspark.sql.pandas.types import from_arrow_schema

        paths = [f"{filesystem.for_spark(self.table.path)}/{name}" for name in self.names]
        schema = pa.schema([field.with_nullable(True) for field in self.schema])
        return session.read.schema(from_arrow_schema(schema)).parquet(*paths)


def added_since(before: Snapshot, table: Snapshot) -> DataFiles | None:
    """The files that were added to a table since its version `before`; None where files or rows of them have gone, or
    rows are not as they stand in the files."""
    known, metadata = before.data_files, table.delta_table.metadata()
    is_same_table = before.delta_table.metadata().id == metadata.id
    features = set(table.delta_table.protocol().reader_features or ())
    mode = metadata.configuration.get("delta.columnMapping.mode", "none")
    if not is_same_table or metadata.partition_columns or features & FILES_ARE_NOT_ROWS or mode != "none":
        return None
    if not known.items() <= table.data_files.items():
        return None
    return DataFiles(table=table, names=[name for name in table.data_files if name not in known])


def with_values(table: Snapshot, column: str) -> DataFiles:
    """The files that have a value in a column: all of which the log does not tell otherwise."""
    missing = table.missing_values(column)
    names = [name for name, rows in table.rows_of_files.items() if missing.get(name) != rows]
    return DataFiles(table=table, names=names)


def _of_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch[field.name].cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
