"""CSV files: their columns are in their first lines, and their values are text."""

import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceUnreadable
from steps.core.sources import listing
from steps.core.sources.file_source import FILE_OPTIONS, Files, Header, check_names_differ
from steps.core.storage import filesystem

HEADER_BYTES = 2**16  # of a file: enough for its header
LINE_CHARACTERS = 200  # of a row, in a message
SEPARATORS = (";", "\t", "|", ",")  # that a message proposes


class _RaggedRow(NamedTuple):
    """Where a row has another length than its file's header, in words, and its text."""

    where: str
    text: str


class CsvFiles(Files):
    """Standard CSV (RFC 4180): quotes are doubled and may hold line breaks, the first line names the columns.

    A row with more or fewer values than the header stops the reading, where Spark alone would drop or invent values.
    """

    format = "csv"
    endings = (".csv",)
    spark_defaults = {"header": True, "escape": '"', "multiLine": True, "mode": "FAILFAST", "enforceSchema": False}
    options = (
        *FILE_OPTIONS, "sep", "delimiter", "encoding", "charset", "quote", "escape", "charToEscapeQuoteEscaping",
        "comment", "header", "inferSchema", "preferDate", "enforceSchema", "ignoreLeadingWhiteSpace",
        "ignoreTrailingWhiteSpace", "nullValue", "nanValue", "positiveInf", "negativeInf", "dateFormat",
        "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback", "maxColumns", "maxCharsPerColumn",
        "mode", "columnNameOfCorruptRecord", "multiLine", "samplingRatio", "emptyValue", "locale", "lineSep",
        "unescapedQuoteHandling", "timeZone",
    )  # fmt: skip

    def header_of(self, name: str, size_bytes: int) -> Header | None:
        if not self._has_header:
            return Header()
        start = listing.start_of_text(name, HEADER_BYTES)
        comment = self.option("comment").encode()
        lines = [line for line in start.splitlines() if line.strip() and not (comment and line.startswith(comment))]
        if start and size_bytes < HEADER_BYTES and len(lines) < 2:
            return None
        try:
            text = lines[0].decode(self._encoding, errors="replace").lstrip("\ufeff") if lines else ""
        except LookupError:
            return Header()  # Spark then refuses the encoding, and names those that it takes
        if len(self._separator) != 1 or len(self._quote) != 1 or text.count(self._quote) % 2:
            return Header(text=text)  # not for Python's csv, or with a line break in a name
        names = next(csv.reader(io.StringIO(text), delimiter=self._separator, quotechar=self._quote), [])
        header = Header(names=tuple(names), text=text)
        check_names_differ(name, header, names)  # Spark reads them all
        return header

    def load(self, spark: SparkSession, paths: list[str], header: Header, **defaults: str | bool | int) -> DataFrame:
        """With the schema that the header gives: a file is otherwise compared with names that Spark makes up."""
        options = self.spark_options(**self.spark_defaults, **defaults)
        to_read_header = {**options, "mode": "PERMISSIVE"}
        if self._is_first_line(header):
            to_read_header["multiline"] = False
        else:
            self.check_names_for_spark()
        schema = spark.read.format(self.format).options(**to_read_header).load(paths).schema
        rows = spark.read.format(self.format).options(**options).schema(schema).load(paths)
        rows.schema  # noqa: B018  # asks Spark, which looks at the files now
        return rows

    def misread_reason(self, columns: Sequence[str]) -> str:
        name = columns[0] if len(columns) == 1 else ""
        if separator := next((letter for letter in SEPARATORS if letter in name), ""):
            return (
                f"the source has one column, {name!r}: are its values separated by {separator!r}? "
                f"Then say source.options.sep: {json.dumps(separator)}"
            )
        return super().misread_reason(columns)

    def explain(self, error: PySparkException) -> SourceUnreadable:
        if "MALFORMED" in str(error) and (reason := self._ragged_rows_reason()):
            return SourceUnreadable(
                self.uri, reason, next="correct these rows, or source.options (Spark's) in the config"
            )
        return super().explain(error)

    def _is_first_line(self, header: Header) -> bool:
        """Whether the schema follows from the first line of a file, as Spark's splits a file into lines."""
        is_utf8 = self._encoding.lower() in ("utf-8-sig", "utf-8", "utf8")
        return bool(header.names) and is_utf8 and self.option("inferSchema", default="false").lower() == "false"

    @property
    def _has_header(self) -> bool:
        return self.option("header", default="true").lower() == "true"

    @property
    def _separator(self) -> str:
        return self.option("sep", "delimiter", default=",")

    @property
    def _quote(self) -> str:
        return self.option("quote", default='"')

    @property
    def _encoding(self) -> str:
        return self.option("encoding", "charset", default="utf-8-sig")

    def _ragged_rows_reason(self) -> str:
        """How many rows have more or fewer values than their file's header, and the first; "" where none was found.

        Looked for in files on a disk, as far as Python's csv can read them with the source's options.
        """
        if filesystem.is_remote(self.uri):
            return ""
        try:
            ragged_rows = itertools.chain.from_iterable(map(self._ragged_rows, self.data_files()))
            first = next(ragged_rows, None)
            count = sum(1 for _ in ragged_rows) + 1
        except (OSError, EOFError, LookupError, UnicodeError, csv.Error, TypeError):
            return ""
        rows = f"{count:,} such row{'s' if count > 1 else ''} in all"
        return f"{first.where} ({rows}): {first.text!r}" if first else ""

    def _ragged_rows(self, name: str) -> Iterator[_RaggedRow]:
        with _open_text(name, self._encoding) as lines:
            rows = csv.reader(lines, delimiter=self._separator, quotechar=self._quote)
            header, line = next(rows, []), rows.line_num + 1
            for row in rows:
                if row and len(row) != len(header):
                    lengths = f"has {len(row)} values and the header {len(header)}"
                    where = f"line {line} of {listing.shown([name], below=self.uri)} {lengths}"
                    yield _RaggedRow(where, self._separator.join(row)[:LINE_CHARACTERS])
                line = rows.line_num + 1


def _open_text(name: str, encoding: str) -> IO[str]:
    if name.lower().endswith(".gz"):
        return gzip.open(name, "rt", encoding=encoding, errors="replace", newline="")
    return open(name, encoding=encoding, errors="replace", newline="")
