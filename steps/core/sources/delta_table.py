"""A Delta table that others write, read at its newest version."""

from collections.abc import Collection

from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceUnreadable
from steps.core.sources import listing
from steps.core.sources.source import Source
from steps.core.storage import filesystem
from steps.core.tables import location, snapshot


class DeltaTable(Source):
    format = "delta"
    options = ("versionAsOf", "timestampAsOf")

    @classmethod
    def recognizes(cls, path: str, files: Collection[str]) -> bool:
        return filesystem.is_delta(path)

    def check(self) -> None:
        if not filesystem.is_delta(self.uri):
            next = "correct source.format in the config, or leave it out"
            raise SourceUnreadable(self.uri, "it is not a Delta table", next=next)

    def size_bytes(self) -> int:
        """Also of files that only older versions have."""
        return sum(file.size_bytes for file in listing.data_files(self.uri).values())

    def change_token(self) -> str:
        table = snapshot.open(location.TableUri(self.uri))
        return f"{table} {table.identity}"

    def read(self, spark: SparkSession, *, columns: Collection[str] = ()) -> DataFrame:
        with self.explaining_errors():
            reader = spark.read.format(self.format).options(**self.spark_options())
            rows = reader.load(filesystem.for_spark(self.uri))
            rows.schema  # noqa: B018  # asks Spark, which looks at the log now
            return rows
