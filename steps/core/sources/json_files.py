"""JSON files: an object a line, one array of objects, or an answer that has them under a key. Values are text.

Numbers keep the digits that they are written with. Nested fields are columns by their path: customer.tier.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import FormUnclear, SourceUnreadable
from steps.core.process import memory
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
MOST_NESTED = 0.01  # of the values of a column that are objects or lists, where it is taken for one without a config
TEXT_CHARACTERS = 10_000
LINES = (".jsonl", ".ndjson")  # endings of files that have an object a line, also where there is one line
BYTES_A_LETTER = 10  # about, of the memory that a document takes while it is read: of keys and short numbers
SAMPLE_BYTES = 2**18  # of a text, which tell whether it is one document
FIRST_LINES = 20  # of which one is an object where a file has an object a line


@dataclass(frozen=True)
class JsonHeader(Header):
    """`nested` are the paths at which no row has a value, but objects or lists; `partly_nested` those at which some
    rows have, and what they have."""

    nested: frozenset[str] = frozenset()
    partly_nested: Mapping[str, str] = field(default_factory=dict, hash=False)


class JsonFiles(Files):
    """Files of JSON: a row a line, an array of rows, or rows under a key."""

    format = "json"
    endings = (".json", ".jsonl", ".ndjson")
    options = ("rows", "encoding", "charset", "multiLine")
    has_fixed_columns = False  # a key may be missing in any row
    _sampled_rows: int | None = SAMPLED_ROWS  # None for all
    _with_comma: frozenset[str] = frozenset()  # columns of the contract whose decimal mark it is

    @property
    def is_text(self) -> bool:
        return True

    def header_of(self, file: str, size_bytes: int) -> "JsonHeader | None":
        kinds: dict[str, Counter[int]] = {}  # by path, of how many rows a value has which place in KINDS
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
                kinds.setdefault(path, Counter())[_kind(value)] += 1
        if first_refused and not row_count:
            is_twice = json_objects.HAS_A_KEY_TWICE in first_refused
            next_step = json_objects.KeyTwice.next if is_twice else "write an object a line, or an array of objects"
            raise SourceUnreadable(file, first_refused, next=next_step)
        if row_count == 1 and json_objects.is_by_columns(first):
            next_step = "write an object for each row; pandas does by to_json(..., orient='records')"
            raise SourceUnreadable(file, "it holds the values of each column together, not rows", next=next_step)
        if not row_count:
            return None
        types = tuple(KINDS[max(counts)] for counts in kinds.values())
        nested = {path: counts for path, counts in kinds.items() if _is_nested(counts)}
        return JsonHeader(
            names=tuple(kinds),
            types=types,
            nested=frozenset(path for path, counts in nested.items() if not counts[3]),
            partly_nested={path: _in_words(counts) for path, counts in nested.items() if counts[3]},
        )

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
        self._with_comma = frozenset(name for name, column in columns.items() if column.decimal_mark == ",")
        return super().parts(columns)

    def first_rows(self, columns: Mapping[str, Column], count: int) -> Iterator[RawRows]:
        """As for all sources. SourceUnreadable for a column that has objects or lists in more than a few rows: without
        a config it is none, and with one these rows are rejects."""
        for file, header in self.headers.items():
            for source in (column.source or name for name, column in columns.items()):
                if isinstance(header, JsonHeader) and (held := header.partly_nested.get(header.find(source) or source)):
                    raise SourceUnreadable(file, f"{source} is {held}", next="leave it out")
        return super().first_rows(columns, count)

    def _look_at(self, rows: int | None) -> None:
        """Take the columns from so many rows of each file, None for all."""
        self._sampled_rows = rows
        self.__dict__.pop("headers", None)

    def parts_of(self, file: str, size_bytes: int, columns: Mapping[str, str]) -> list[Part]:
        header = self.headers[file]
        nested = header.nested if isinstance(header, JsonHeader) else frozenset()
        return [self._part(file, size_bytes, columns, nested=nested)]

    def _part(
        self, file: str, size_bytes: int, columns: Mapping[str, str], *, nested: frozenset[str] = frozenset()
    ) -> "JsonPart":
        form = text_files.look_at(file, size_bytes, encoding=self.option("encoding", "charset"))
        return JsonPart(
            file=file,
            size_bytes=size_bytes,
            form=form,
            rows_key=self.option("rows"),
            is_document=self._is_document(file, size_bytes, form),
            columns=dict(columns),
            nested=nested,
            with_comma=self._with_comma,
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


def _is_nested(counts: Counter[int]) -> bool:
    """Whether objects and lists are no exception among the values of a path."""
    nested = counts[1] + counts[2]
    return nested > MOST_NESTED * (nested + counts[3])


def _in_words(counts: Counter[int]) -> str:
    """What the objects and lists among the values of a path are, and how many."""
    what = " or ".join(name for place, name in ((1, "an object"), (2, "a list")) if counts[place])
    return f"{what} in {counts[1] + counts[2]:,} of {counts.total():,} rows, and a value in others"


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
    """A file, of which `columns` are wanted: names in the contract to paths in an object. At a `nested` path no row
    has one value. Of a column `with_comma`, texts have it as their decimal mark, and numbers not."""

    file: str
    size_bytes: int
    form: TextForm
    rows_key: str  # of a document: under which its rows are; "" where it is the array of them
    is_document: bool  # rather than an object a line; read whole
    columns: dict[str, str]
    nested: frozenset[str]
    with_comma: frozenset[str]

    def read(self) -> Iterator[RawRows]:
        objects = self.objects()
        while batch := list(islice(objects, BATCH_ROWS)):
            rows: list[list[str | None]] = []
            lines: list[int] = []
            malformed = []
            for row, line, written in batch:
                values = row if isinstance(row, str) else self._values(row)
                if isinstance(values, str):
                    malformed.append(Malformed(reason=values, line=line, text=written[:TEXT_CHARACTERS]))
                    continue
                rows.append(values)
                lines += [] if line is None else [line]
            columns = {
                name: pa.array([values[place] for values in rows], pa.string())
                for place, name in enumerate(self.columns)
            }
            table = pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))})
            of_lines = None if self.is_document else np.array(lines, dtype=np.int64)
            yield RawRows(columns=table, lines=of_lines, malformed=malformed)

    def _values(self, row: dict[str, Any]) -> list[str | None] | str:
        """The values of a row as they are written, or what is wrong with it."""
        values = []
        for name, path in self.columns.items():
            value = json_objects.at(row, path)
            if isinstance(value, dict | list) and path not in self.nested:
                return f"have {'an object' if isinstance(value, dict) else 'a list'} in {path!r}, not a value"
            values.append(self._text(value, path, has_comma=name in self.with_comma))
        return values

    def objects(self) -> Iterator[tuple[dict[str, Any] | str, int | None, str]]:
        """Each row, its line, and its text; instead of a row what is wrong with a line that is none."""
        with text_files.open_text(self.file, self.size_bytes, self.form) as stream:
            try:
                if self.is_document:
                    yield from map(json_objects.element, self._rows_of(json_objects.documents(self._whole(stream))))
                    return
                for number, line in enumerate(stream, 1):
                    if not line.strip():
                        continue
                    yield json_objects.row_of(line.removeprefix("\ufeff")), number, line.rstrip("\n")
            except json_objects.KeyTwice as err:
                raise SourceUnreadable(self.file, str(err), next=err.next) from err
            except (ValueError, RecursionError) as err:
                raise SourceUnreadable(self.file, f"it is not JSON: {err}", next="correct the file") from err

    def _whole(self, stream: TextIO) -> str:
        """The text of a document. SourceUnreadable for one that memory does not hold as objects."""
        available_bytes = memory.available_bytes()
        most_letters = available_bytes // BYTES_A_LETTER
        text = stream.read(most_letters + 1)
        if len(text) <= most_letters:
            return text
        reason = (
            f"it is one document, which is read as a whole, of more than {most_letters:,} letters; it takes "
            f"{BYTES_A_LETTER} bytes of memory for each, and {available_bytes / 2**30:.1f} GiB are free"
        )
        raise SourceUnreadable(self.file, reason, next="write an object a line (.jsonl), which are read some at a time")

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

    def _text(self, value: Any, path: str, *, has_comma: bool) -> str | None:
        """A value as it is written. SourceUnreadable for one that is not of one value."""
        if has_comma and isinstance(value, json_objects.Number):
            return value.replace(".", ",")
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
