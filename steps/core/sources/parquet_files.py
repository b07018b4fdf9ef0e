"""Parquet files: the columns and types of each stand in its footer."""

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceUnreadable
from steps.core.sources.file_source import FILE_OPTIONS, Files, Header
from steps.core.sources.source import quoted
from steps.core.storage import filesystem

# Beginnings of Arrow's names for types.
NANOSECONDS = "timestamp[ns"  # of timestamps as pandas writes them, which Spark reads as whole numbers
UNREADABLE = ("time32", "time64", "halffloat")  # Spark has no type for them


class ParquetFiles(Files):
    format = "parquet"
    endings = (".parquet",)
    options = (*FILE_OPTIONS, "mergeSchema", "datetimeRebaseMode", "int96RebaseMode")

    def header_of(self, name: str, size_bytes: int) -> Header | None:
        try:
            with filesystem.opened(name, size_bytes) as file:
                footer = pq.ParquetFile(file)
                schema, row_count = footer.schema_arrow, footer.metadata.num_rows
        except pa.ArrowException as err:
            next = "remove it, or write it again"
            raise SourceUnreadable(name, f"it is not a Parquet file: {err}", next=next) from err
        header = Header(names=tuple(schema.names), types=tuple(map(str, schema.types)))
        if unreadable := [f"{column} ({kind})" for column, kind in _typed(header) if kind.startswith(UNREADABLE)]:
            raise SourceUnreadable(
                name,
                f"Spark has no type for its columns {', '.join(unreadable)}",
                next="write the file without them, or with another type",
            )
        return header if row_count else None

    def load(self, spark: SparkSession, paths: list[str], header: Header, **defaults: str | bool | int) -> DataFrame:
        """With timestamps in nanoseconds as Spark's own, which have microseconds."""
        spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
        rows = super().load(spark, paths, header, **defaults)
        nanoseconds = [column for column, kind in _typed(header) if kind.startswith(NANOSECONDS)]
        return rows.selectExpr(*[_as_timestamp(c) if c in nanoseconds else quoted(c) for c in rows.columns])


def _typed(header: Header) -> list[tuple[str, str]]:
    return list(zip(header.names, header.types, strict=True))


def _as_timestamp(column: str) -> str:
    name = quoted(column)
    return f"timestamp_micros(({name} - pmod({name}, 1000)) div 1000) AS {name}"
