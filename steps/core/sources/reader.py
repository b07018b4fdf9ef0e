"""Read a source so that the rows that are written are the rows that were checked, also while others write to it."""

from collections.abc import Collection

from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceChanged
from steps.core.sources.source import Source
from steps.core.spark import connect_server


class SourceReader:
    """Reads a small source once, and keeps the rows. A large one is read twice, and compared in between.

    To be made before anything else looks at the content.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._change_token = source.change_token()
        self.size_bytes = source.size_bytes()
        self._keeps_rows = self.size_bytes < connect_server.SMALL_BYTES

    def read(self, spark: SparkSession, *, columns: Collection[str]) -> DataFrame:
        """The source's rows, of which the caller needs `columns`. They are computed when they are first used."""
        rows = self._source.read(spark, columns=columns)
        if self._keeps_rows and self._change_token:
            return rows.localCheckpoint(eager=False)
        return rows

    def check_unchanged(self) -> None:
        """SourceChanged when rows that were read again need not be those that were read first."""
        if not self._keeps_rows and self.source_has_changed():
            raise SourceChanged(self._source.uri)

    def source_has_changed(self) -> bool:
        """Whether it was written to since this reader was made."""
        return self._source.change_token() != self._change_token
