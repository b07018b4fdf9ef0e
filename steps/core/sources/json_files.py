"""JSON files: an object a line, or one array or object a file. Values that are no text are read as text."""

import json

from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceUnreadable
from steps.core.sources import listing
from steps.core.sources.file_source import FILE_OPTIONS, Files, Header

FIRST_LINE_BYTES = 2**20


class JsonFiles(Files):
    format = "json"
    endings = (".json", ".jsonl", ".ndjson")
    spark_defaults = {"primitivesAsString": True, "mode": "FAILFAST"}
    options = (
        *FILE_OPTIONS, "primitivesAsString", "prefersDecimal", "allowComments", "allowUnquotedFieldNames",
        "allowSingleQuotes", "allowNumericLeadingZeros", "allowBackslashEscapingAnyCharacter",
        "allowNonNumericNumbers", "allowUnquotedControlChars", "mode", "columnNameOfCorruptRecord", "dateFormat",
        "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback", "multiLine", "encoding", "charset",
        "lineSep", "samplingRatio", "dropFieldIfAllNull", "locale", "timeZone",
    )  # fmt: skip

    def load(self, spark: SparkSession, paths: list[str], header: Header, **defaults: str | bool | int) -> DataFrame:
        is_one_document = self.is_one_document()
        if is_one_document:
            self.check_names_for_spark()
        return super().load(spark, paths, header, multiLine=is_one_document, **defaults)

    def is_one_document(self) -> bool:
        """Whether each file is one array or object, rather than an object a line."""
        answers = {_is_one_document(name) for name, file in self.data_files().items() if file.size_bytes}
        if len(answers) > 1:
            raise SourceUnreadable(self.uri, "some of its files are JSON arrays, and some have an object a line")
        return True in answers


def _is_one_document(name: str) -> bool:
    start = listing.start_of_text(name, FIRST_LINE_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    first_line = start.partition(b"\n")[0]
    has_more_lines = len(first_line) < len(start)
    return start.startswith(b"[") or (start.startswith(b"{") and has_more_lines and not _is_json(first_line))


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
