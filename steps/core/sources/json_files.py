"""JSON files: an object a line, one array of objects, or an answer that has them under a key. Values are text.

Numbers keep the digits that they are written with. Nested fields are columns by their path: customer.tier.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import FormUnclear, SourceUnreadable
from steps.core.sources import json_objects, listing, text_files
from steps.core.sources.file_source import Files, Header
from steps.core.sources.rows import Malformed, Part, RawRows
from steps.core.sources.text_files import TextForm

BATCH_ROWS = 10_000
SAMPLED_ROWS = 10_000  # by which the columns of a file are known
MOST_SAMPLED_ROWS = 200_000  # where columns() is to tell all of them
# Types of a path whose values are missing, objects, lists or of one value, of which the last that any row has counts:
# where others are wanted as a column, those that are none are refused when they are read.
KINDS = (pa.string(), pa.struct([]), pa.list_(pa.string()), pa.string())
TEXT_CHARACTERS = 10_000
LINES = (".jsonl", ".ndjson")  # endings of files that have an object a line, also where there is one line
SAMPLE_BYTES = 2**18  # of a text, which tell whether it is one document
FIRST_LINES = 20  # of which one is an object where a file has an object a line


class JsonFiles(Files):
    """Files of JSON: a row a line, an array of rows, or rows under a key."""

    format = "json"
    endings = (".json", ".jsonl", ".ndjson")
    options = ("rows", "encoding", "charset", "multiLine")
    has_fixed_columns = False  # a key may be missing in any row
    _sampled_rows: int | None = SAMPLED_ROWS  # None for all

    def header_of(self, file: str, size_bytes: int) -> Header | None:
        kinds: dict[str, int] = {}  # by path, a place in KINDS
        first: dict[str, Any] = {}
        row_count, first_refused = 0, ""
        for row, line, written in islice(self._part(file, size_bytes, {}).objects(), self._sampled_rows):
            if isinstance(row, str):
                first_refused = first_refused or f"its lines {row}; line {line} is {written[:80]!r}"
                continue
            first, row_count = first or row, row_count + 1
            fields = list(json_objects.fields(row))
            _check_paths([path for path, _ in fields], file)
            for path, value in fields:
                kinds[path] = max(kinds.get(path, 0), _kind(value))
        if first_refused and not row_count:
            raise SourceUnreadable(file, first_refused, next="write an object a line, or an array of objects")
        if row_count == 1 and json_objects.is_by_columns(first):
            next_step = "write an object for each row; pandas does by to_json(..., orient='records')"
            raise SourceUnreadable(file, "it holds the values of each column together, not rows", next=next_step)
        types = tuple(KINDS[kind] for kind in kinds.values())
        return Header(names=tuple(kinds), types=types) if row_count else None

    def columns(self) -> dict[str, pa.DataType]:
        if self._sampled_rows == SAMPLED_ROWS:
            self._look_at(MOST_SAMPLED_ROWS)
        return super().columns()

    def parts(self, columns: Mapping[str, Column]) -> list[Part]:
        """As for all files; a column that the first rows do not have is looked for in all rows."""
        wanted = {column.source or name for name, column in columns.items()}
        known = {source: any(header.find(source) for header in self.headers.values()) for source in wanted}
        if self.headers and not all(known.values()):
            self._look_at(None)
        return super().parts(columns)

    def _look_at(self, rows: int | None) -> None:
        """Take the columns from so many rows of each file, None for all."""
        self._sampled_rows = rows
        self.__dict__.pop("headers", None)

    def parts_of(self, file: str, size_bytes: int, columns: Mapping[str, str]) -> list[Part]:
        return [self._part(file, size_bytes, columns)]

    def _part(self, file: str, size_bytes: int, columns: Mapping[str, str]) -> "JsonPart":
        form = text_files.look_at(file, size_bytes, encoding=self.option("encoding", "charset"))
        return JsonPart(
            file=file,
            size_bytes=size_bytes,
            form=form,
            rows_key=self.option("rows"),
            is_document=self._is_document(file, size_bytes, form),
            columns=dict(columns),
        )

    def _is_document(self, file: str, size_bytes: int, form: TextForm) -> bool:
        """Whether a file is one array or object, rather than an object a line."""
        with text_files.open_utf8(file, size_bytes, form, read_ahead_bytes=SAMPLE_BYTES) as stream:
            start = stream.read(SAMPLE_BYTES).decode(errors="ignore").lstrip("\ufeff \t\r\n")
        if start.startswith("[") or (start.startswith("{") and self.option("rows")):
            return True
        first_lines = start.splitlines()[:FIRST_LINES]
        objects = [row for line in first_lines if isinstance(row := json_objects.loads_or_none(line), dict)]
        if not start.startswith("{") or listing.uncompressed(file).lower().endswith(LINES):
            return False
        return not objects or (len(first_lines) == 1 and bool(json_objects.paths_of_rows(objects[0])))


def _kind(value: Any) -> int:
    """A value's place in KINDS."""
    if value is None:
        return 0
    return 1 if isinstance(value, dict) else 2 if isinstance(value, list) else 3


def _check_paths(paths: Sequence[str], file: str) -> None:
    """SourceUnreadable for a row with a key that is the path of a nested field as well."""
    if len(set(paths)) < len(paths):
        twice = next(path for place, path in enumerate(paths) if path in paths[:place])
        reason = f"{twice!r} is both a key with a dot and the path of a nested field"
        raise SourceUnreadable(file, reason, next="rename one of them in the source")


@dataclass(frozen=True, kw_only=True)
class JsonPart(Part):
    """A file, of which `columns` are wanted: names in the contract to paths in an object."""

    file: str
    size_bytes: int
    form: TextForm
    rows_key: str  # of a document: under which its rows are; "" where it is the array of them
    is_document: bool  # rather than an object a line; read whole
    columns: dict[str, str]

    def read(self) -> Iterator[RawRows]:
        objects = self.objects()
        while batch := list(islice(objects, BATCH_ROWS)):
            rows = [(row, line) for row, line, _ in batch if isinstance(row, dict)]
            malformed = [
                Malformed(reason=row, line=line, text=written[:TEXT_CHARACTERS])
                for row, line, written in batch
                if isinstance(row, str)
            ]
            columns = {
                name: pa.array([self._text(json_objects.at(row, path), path) for row, _ in rows], pa.string())
                for name, path in self.columns.items()
            }
            lines = np.array([line for _, line in rows if line is not None], dtype=np.int64)
            table = pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))})
            yield RawRows(columns=table, lines=None if self.is_document else lines, malformed=malformed)

    def objects(self) -> Iterator[tuple[dict[str, Any] | str, int | None, str]]:
        """Each row, its line, and its text; instead of a row what is wrong with a line that is none."""
        with text_files.open_text(self.file, self.size_bytes, self.form) as stream:
            try:
                if self.is_document:
                    yield from map(json_objects.element, self._rows_of(json_objects.documents(stream.read())))
                    return
                for number, line in enumerate(stream, 1):
                    if not line.strip():
                        continue
                    yield json_objects.row_of(line.removeprefix("\ufeff")), number, line.rstrip("\n")
            except (ValueError, RecursionError) as err:
                raise SourceUnreadable(self.file, f"it is not JSON: {err}", next="correct the file") from err

    def _rows_of(self, document: Any) -> list[Any]:
        """The rows of a document. SourceUnreadable when it has none, or elsewhere than is said."""
        rows = json_objects.at(document, self.rows_key) if self.rows_key and isinstance(document, dict) else document
        if isinstance(rows, list) and (not rows or any(isinstance(row, dict) for row in rows)):
            return rows
        if lists := json_objects.paths_of_rows(document) if isinstance(document, dict) else []:
            beside = ", ".join(repr(key) for key in document if key != lists[0].partition(".")[0])
            reason = f"its rows are under {' or '.join(map(repr, lists))}{f', beside {beside}' if beside else ''}"
            likely = {"rows": lists[0]} if len(lists) == 1 else {}
            raise FormUnclear(
                self.file, reason, likely=likely, next=f"say source.options.rows: {lists[0]} in the config"
            )
        if self.rows_key:
            reason = f"it has no rows under {self.rows_key!r}, which source.options.rows says"
            raise SourceUnreadable(self.file, reason, next="correct source.options.rows in the config")
        if isinstance(rows, dict):
            return [rows]
        raise SourceUnreadable(self.file, "it is no array of objects", next="write an object for each row")

    def _text(self, value: Any, path: str) -> str | None:
        """A value as it is written. SourceUnreadable for one that is not of one value."""
        if value is None or isinstance(value, str):
            return value and json_objects.without_surrogates(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, dict):
            inner = ", ".join(f"{path}.{key}" for key in value)
            raise SourceUnreadable(
                self.file, f"{path} is an object with {inner}", next="name one of these as the source"
            )
        raise SourceUnreadable(self.file, f"{path} is a list, which is no value of a column", next="leave it out")
