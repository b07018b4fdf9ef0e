"""Read delimited text by pyarrow: a file, or a range of a large one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from steps.core.sources import csv_rows, text_files
from steps.core.sources.csv_dialect import WHITESPACE
from steps.core.sources.csv_form import CsvForm
from steps.core.sources.csv_options import CsvOptions
from steps.core.sources.csv_rows import SHOWN_CHARACTERS, Block, UnclosedQuote
from steps.core.sources.rows import Malformed, Part, RawRows
from steps.core.storage import filesystem

RANGE_BYTES = 2**26  # of a large file, which one worker reads
ROWS_AT_ONCE = 2**16
OTHER_WIDTH = "have more or fewer values than the header"
BLANKS = " \t"


@dataclass(frozen=True, kw_only=True)
class CsvPart(Part):
    """The rows of a file from byte `start` of its text, at `line`, to byte `end`, or to its end where that is None.

    `places` are the contract's columns, and the place of each in a row; None for one that the file lacks.
    """

    file: str
    size_bytes: int  # of this part
    file_bytes: int
    form: CsvForm
    options: CsvOptions
    places: Mapping[str, int | None]
    start: int
    line: int
    end: int | None = None

    def read(self) -> Iterator[RawRows]:
        with text_files.open_utf8(self.file, self.file_bytes, self.form.text, start=self.start) as text:
            read = text.read if self.end is None else _limited(text.read, self.end - self.start)
            rows = csv_rows.blocks(read, self.form.dialect, line=self.line, header=self.form.header)
            try:
                for block in rows:
                    yield from self._in_slices(self._parse(block))
            except UnclosedQuote as err:
                raise err.explained(self.file) from err

    def _parse(self, block: Block) -> RawRows:
        """The rows of a block, with the contract's columns as text."""
        invalid: list[csv.InvalidRow] = []
        table = self._table(block.text, self._places_to_read, invalid)
        lines = block.lines_of(table.num_rows + len(invalid), self.form.dialect)
        is_valid = np.ones(len(lines), bool)
        is_valid[[row.number - 1 for row in invalid]] = False
        with_values = [row for row in invalid if not self.form.dialect.is_blank(row.text.encode())]
        malformed = block.malformed + [self._malformed(row.text, int(lines[row.number - 1])) for row in with_values]
        lines = lines[is_valid]
        has_more, is_blank = self._has_unnamed_value(table), self._is_blank(block.text, table)
        malformed += self._with_unnamed_values(block.text, lines, has_more)
        if (is_left_out := has_more | is_blank).any():
            table, lines = table.filter(pa.array(~is_left_out)), lines[~is_left_out]
        of_separators = sum(not self.form.dialect.is_empty(row.text.encode()) for row in invalid) - len(with_values)
        blank_count = int(is_blank.sum()) + of_separators
        return RawRows(columns=self._named(table), lines=lines, malformed=malformed, blank_count=blank_count)

    @property
    def _places_to_read(self) -> list[int]:
        """The asked-for columns, the one without a name, whose values are to be empty, or any column for the count."""
        asked = {place for place in self.places.values() if place is not None}
        return sorted(asked | set(range(len(self.form.names), self.form.width))) or [0]

    def _table(self, text: bytes, places: list[int], invalid: list[csv.InvalidRow]) -> pa.Table:
        """The values at these places of a row, as text; `invalid` gets the rows that have another width."""
        if not text:
            return pa.table({str(place): pa.array([], pa.string()) for place in places})

        def set_aside(row: csv.InvalidRow) -> str:
            invalid.append(row)
            return "skip"

        names = [str(place) for place in places]
        dialect = self.form.dialect
        return csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(
                use_threads=False,  # else pyarrow does not say which rows are invalid
                block_size=len(text) + 1,
                column_names=[str(place) for place in range(self.form.width)],
            ),
            parse_options=csv.ParseOptions(
                delimiter=dialect.separator_for_arrow,
                quote_char=dialect.quote or False,
                escape_char=dialect.escape or False,
                newlines_in_values=True,
                invalid_row_handler=set_aside,
            ),
            convert_options=csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _malformed(self, text: str, line: int) -> Malformed:
        dialect = self.form.dialect
        if dialect.separator != dialect.separator_for_arrow:
            shown = "  " if dialect.separator == WHITESPACE else dialect.separator
            text = text.replace(dialect.separator_for_arrow, shown)
        return Malformed(reason=OTHER_WIDTH, line=line, text=text[:SHOWN_CHARACTERS])

    def _is_blank(self, text: bytes, table: pa.Table) -> np.ndarray:
        """(n,) whether a row is separators and nothing else, as spreadsheets write them below a table."""
        if self.form.width < 2 or not _has_no_value(table).any():
            return np.zeros(len(table), bool)
        return _has_no_value(self._table(text, list(range(self.form.width)), []))

    def _has_unnamed_value(self, table: pa.Table) -> np.ndarray:
        """(n,) whether a row has a value behind the last separator, where others have nothing."""
        if self.form.width == len(self.form.names):
            return np.zeros(len(table), bool)
        unnamed = pc.utf8_trim_whitespace(table[str(self.form.width - 1)])
        return np.asarray(pc.fill_null(pc.not_equal(unnamed, ""), False))

    def _with_unnamed_values(self, text: bytes, lines: np.ndarray, has_more: np.ndarray) -> list[Malformed]:
        """The rows that have more values than the header."""
        if not has_more.any():
            return []
        rows = self._table(text, list(range(self.form.width)), []).filter(pa.array(has_more)).to_pylist()
        separator = self.form.dialect.separator
        return [
            self._malformed(separator.join(value or "" for value in row.values()), line)
            for row, line in zip(rows, lines[has_more].tolist(), strict=True)
        ]

    def _named(self, table: pa.Table) -> pa.Table:
        nothing = pa.nulls(table.num_rows, pa.string())
        columns = {
            name: nothing if place is None else self._stripped(table[str(place)]) for name, place in self.places.items()
        }
        return pa.table(columns) if columns else table.select([])

    def _stripped(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """The values, without blanks around them where the options say so."""
        if self.options.strips_leading:
            values = pc.utf8_ltrim(values, BLANKS)
        if self.options.strips_trailing:
            values = pc.utf8_rtrim(values, BLANKS)
        return values

    @staticmethod
    def _in_slices(rows: RawRows) -> Iterator[RawRows]:
        count = len(rows.lines) if rows.lines is not None else 0
        for start in range(0, max(count, 1), ROWS_AT_ONCE):
            end = start + ROWS_AT_ONCE
            yield RawRows(
                columns=rows.columns.slice(start, ROWS_AT_ONCE),
                lines=rows.lines[start:end] if rows.lines is not None else None,
                malformed=[] if start else rows.malformed,
                blank_count=0 if start else rows.blank_count,
            )


def parts_of(
    file: str, size_bytes: int, form: CsvForm, options: CsvOptions, places: Mapping[str, int | None]
) -> list[CsvPart]:
    """The parts of one file: itself, or ranges of about RANGE_BYTES of a large one on a disk that is plain UTF-8."""
    if not form.has_rows:
        return []
    whole = _whole(file, size_bytes, form, options, places)
    # An object of a store is transferred when it is read, and would be twice.
    if size_bytes < 2 * RANGE_BYTES or not form.text.is_plain or filesystem.is_remote(file):
        return [whole]
    starts = _range_starts(file, size_bytes, form)
    ends = [start for start, _ in starts[1:]] + [size_bytes - form.text.mark_bytes]
    return [
        replace(whole, size_bytes=end - start, start=start, line=line, end=end)
        for (start, line), end in zip(starts, ends, strict=True)
    ]


def places_of(form: CsvForm, columns: Mapping[str, str]) -> dict[str, int | None]:
    """The place in a row of each column of the contract, by its name in the file; None where the file has none."""
    places = {name: place for place, name in enumerate(form.names)}
    return {name: places.get(source) for name, source in columns.items()}


def _whole(file: str, size_bytes: int, form: CsvForm, options: CsvOptions, places: Mapping[str, int | None]) -> CsvPart:
    return CsvPart(
        file=file,
        size_bytes=size_bytes,
        file_bytes=size_bytes,
        form=form,
        options=options,
        places=places,
        start=form.data_offset,
        line=form.data_line,
    )


def _has_no_value(table: pa.Table) -> np.ndarray:
    """(n,) whether all values of a row are null, empty or blanks."""
    is_empty = np.ones(len(table), bool)
    for texts in table.columns:
        is_blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
        is_empty &= np.asarray(pc.fill_null(is_blank, True))
        if not is_empty.any():
            break
    return is_empty


def _range_starts(file: str, size_bytes: int, form: CsvForm) -> list[tuple[int, int]]:
    """Where ranges begin, as byte of the text and line. What has to be walked row by row is left to the last range."""
    starts = [(form.data_offset, form.data_line)]
    with text_files.open_utf8(file, size_bytes, form.text, start=form.data_offset) as text:
        offset = form.data_offset
        try:
            for block in csv_rows.blocks(text.read, form.dialect, line=form.data_line, header=form.header):
                if offset - starts[-1][0] >= RANGE_BYTES:
                    starts.append((offset, block.line))
                if block.was_walked:
                    break
                offset += block.size_bytes
        except UnclosedQuote as err:
            raise err.explained(file) from err
    return starts


def _limited(read: Callable[[int], bytes], size_bytes: int) -> Callable[[int], bytes]:
    """`read` for so many bytes in all."""
    left = size_bytes

    def read_some(wanted: int) -> bytes:
        nonlocal left
        text = read(min(wanted, left))
        left -= len(text)
        return text

    return read_some
