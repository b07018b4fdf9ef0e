"""What a file of delimited text looks like, by its first rows: its separator, its header, and where its rows begin."""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import NoReturn

from steps.core.errors import FormUnclear, SourceUnreadable
from steps.core.sources import csv_dialect, csv_rows, text_files
from steps.core.sources.csv_dialect import Dialect, Row
from steps.core.sources.csv_options import CsvOptions
from steps.core.sources.csv_separator import MOST, SHOWN_CHARACTERS, Sample, dialect_of, is_number
from steps.core.sources.text_files import TextForm

SAMPLE_BYTES = 2**18
SHOWN_LINES = 5  # of a file, in a message
FEWEST_BELOW_TITLE = 3  # columns; of two, one may well have no name
SPREADSHEET_SEPARATOR = re.compile(rb'\A"?sep=([^\r\n])"?(\r\n|\n|\r)', re.IGNORECASE)
OTHER_TEXTS = {  # what files that are named .csv turn out to be, by how they begin
    re.compile(rb"\s*(\{\s*\"|\[\s*[\[{])"): "JSON: say source.format: json in the config",
    re.compile(rb"\s*<(!doctype|html|table|head|body|div|p|h1)\b", re.IGNORECASE): "HTML, such as a server's error",
    re.compile(rb"\s*<\?xml", re.IGNORECASE): "XML: convert it to CSV",
}


@dataclass(frozen=True, kw_only=True)
class CsvForm:
    """How to read one file. `names` is () for a file without rows.

    A column without a name is called _c and its place, from _c0. A row has `width` values: one more than there are
    names where each row ends with a separator.
    """

    text: TextForm = TextForm()
    dialect: Dialect = Dialect()
    names: tuple[str, ...] = ()
    width: int = 0
    header: bytes = b""  # the row with the names, as it stands
    data_offset: int = 0  # bytes of the text in UTF-8 above the first row, without a byte-order mark
    data_line: int = 1  # of the first row
    has_rows: bool = False


def look_at(file: str, size_bytes: int, options: CsvOptions | None = None) -> CsvForm:
    """The form of a file, by its first rows and the options of the config.

    SourceUnreadable for a file that is no delimited text, and for one whose first lines are not its header.
    """
    options = options or CsvOptions()
    if not size_bytes:
        return CsvForm()
    text_form = text_files.look_at(file, size_bytes, encoding=options.encoding)
    sample = _sample(file, size_bytes, text_form)
    if other := next((what for begin, what in OTHER_TEXTS.items() if begin.match(sample.text)), ""):
        what, _, advice = other.partition(": ")
        next_step = advice or "pass the data itself as CSV"
        raise SourceUnreadable(file, f"it is not delimited text, it is {what}", next=next_step)
    start, separator = _start(sample.text, options)
    sample = replace(sample, start=start)
    dialect = dialect_of(file, sample, options, said_separator=separator)
    if (endless := sample.endless_row(dialect)) is not None:
        line = csv_dialect.line_count(sample.text[:endless]) + 1
        raise csv_rows.UnclosedQuote(line, sample.text[endless:], dialect).explained(file)
    rows = sample.rows(dialect)
    while len(rows) > 1 and dialect.is_blank(rows[0].text):  # as spreadsheets write them above a table
        rows = rows[1:]
    if not rows:
        return CsvForm(text=text_form, dialect=dialect)
    values = [csv_dialect.fields_of(row.text, dialect) for row in rows]
    _check_first_row(file, sample.text, rows, values, options)
    form = _form(text_form, dialect, sample.text, rows, values, options)
    return replace(form, has_rows=not sample.is_whole or len(rows) > (options.header is not False))


def _form(
    text_form: TextForm, dialect: Dialect, text: bytes, rows: list[Row], values: list[list[str]], options: CsvOptions
) -> CsvForm:
    first, others = values[0], values[1:]
    width = _usual_width(values if options.header is False else others or [first])
    if options.header is not False and not _ends_fit(len(first), width, values):
        width = len(first)
    has_empty_ends = width > 1 and not any(row[-1] for row in others if len(row) == width)
    names = [f"_c{place}" for place in range(width)] if options.header is False else first[:width]
    if options.header is not False and has_empty_ends and len(names) == width and not names[-1].strip():
        names = names[:-1]
    data_start = rows[0].start if options.header is False else rows[0].next_start
    return CsvForm(
        text=text_form,
        dialect=dialect,
        names=tuple(name if name.strip() else f"_c{place}" for place, name in enumerate(map(str.strip, names))),
        width=width,
        header=b"" if options.header is False else rows[0].text,
        data_offset=data_start,
        data_line=csv_dialect.line_count(text[:data_start]) + 1,
    )


def _ends_fit(header_width: int, width: int, values: list[list[str]]) -> bool:
    """Whether a header and rows differ by an empty value at the end alone."""
    rows = [row for row in values[1:] if len(row) == width]
    if header_width == width + 1:
        return not values[0][-1].strip()
    return header_width == width - 1 and not any(row[-1].strip() for row in rows)


def _sample(file: str, size_bytes: int, form: TextForm) -> Sample:
    """The first rows: more than usual of a file with long ones."""
    with text_files.open_utf8(file, size_bytes, form, read_ahead_bytes=SAMPLE_BYTES) as stream:
        text, wanted = b"", SAMPLE_BYTES
        while True:
            more = stream.read(wanted)
            text, is_whole = text + more, len(more) < wanted
            if is_whole or len(text) > csv_rows.LONGEST_ROW_BYTES or csv_dialect.line_count(text) > SHOWN_LINES:
                return Sample(text=text, is_whole=is_whole)
            wanted = len(text)


def _start(text: bytes, options: CsvOptions) -> tuple[int, str]:
    """Where the table begins, and the separator that a spreadsheet's first line says."""
    said = SPREADSHEET_SEPARATOR.match(text)
    start, separator = (said.end(), said[1].decode(errors="replace")) if said else (0, "")
    line_ends = itertools.islice(re.finditer(rb"\r\n|\n|\r", text), options.skip_lines)
    return max([start, *(line_end.end() for line_end in line_ends)]), separator


def _usual_width(values: list[list[str]]) -> int:
    return Counter(map(len, values)).most_common(1)[0][0]


def _check_first_row(file: str, text: bytes, rows: list[Row], values: list[list[str]], options: CsvOptions) -> None:
    """SourceUnreadable when the first row is not of the table's width, is a title, or holds values where names are
    due."""
    if b"\0" in rows[0].text:
        reason = f"its first line has bytes that are zero, {_shown(rows[0].text, 1)[0]!r}: it is no text"
        raise SourceUnreadable(file, reason, next="pass another file, or say source.options.encoding")
    width = _usual_width(values[1:] or values)
    count = sum(len(row) == width for row in values[1:])
    is_other = count > max(1, MOST * (len(values) - 1)) and len(values[0]) != width
    if is_other and not (options.header is not False and _ends_fit(len(values[0]), width, values)):
        _refuse_first_row(file, text, rows, values, width)
    if options.header is None and (table := _row_below_title(values)):
        _refuse_title(file, text, rows, table)
    if options.header is None and len(values) > 1 and _are_values(values[0], values[1:]):
        raise SourceUnreadable(
            file,
            f"its first line seems to hold values, not the names of columns: {_shown(text, 1)[0]!r}",
            next="say source.options.header: false, and source: _c0, _c1, ... of each column; or header: true. Where "
            "other files beside it have a line of names, put that into this one too",
        )


def _refuse_first_row(file: str, text: bytes, rows: list[Row], values: list[list[str]], width: int) -> NoReturn:
    table = next(row for row, fields in zip(rows[1:], values[1:], strict=True) if len(fields) == width)
    line = csv_dialect.line_count(text[: table.start]) + 1
    first_line = csv_dialect.line_count(text[: rows[0].start]) + 1
    shown = " / ".join(map(repr, _shown(text, min(line, SHOWN_LINES))))
    first = values[0][0].lstrip()[:1]
    likely = {"skip_lines": line - 1}
    next_step = (
        f"say source.options.skip_lines: {line - 1}, the lines above line {line}, where the table seems to begin"
    )
    if line == first_line + 1 and len(values[0]) == width - 1:
        likely = {}
        next_step = f"give each column a name, or say source.options.skip_lines: {first_line} and header: false"
    if any(field.startswith("'") and not field.endswith("'") for fields in values for field in fields):
        likely, next_step = {}, f"""say source.options.quote: "'", if that stands around its values; else {next_step}"""
    if any(field.endswith("\\") for fields in values for field in fields):
        likely, next_step = {}, f"say source.options.escape: '\\', if that stands before a separator; else {next_step}"
    comment = f", or source.options.comment: {first!r}" if first and not first.isalnum() and first != '"' else ""
    count = f"{len(values[0])} value{'s' if len(values[0]) > 1 else ''}"
    raise FormUnclear(
        file,
        f"line {first_line} has {count} where most rows have {width}; the file begins with {shown}",
        likely=likely,
        next=next_step + comment,
    )


def _row_below_title(values: list[list[str]]) -> int:
    """Which row has the names where the first has one value alone, as a spreadsheet writes a title; 0 where it has
    not, or where no row below has a name for each column: text, above numbers."""
    filled = [sum(bool(value.strip()) for value in row) for row in values]
    if len(values[0]) < FEWEST_BELOW_TITLE or filled[0] != 1:
        return 0
    table = next((place for place, count in enumerate(filled) if count > 1), 0)
    are_names = filled[table] == len(values[0]) and not any(map(is_number, values[table]))
    return table if are_names and any(map(is_number, itertools.chain(*values[table + 1 :]))) else 0


def _refuse_title(file: str, text: bytes, rows: list[Row], table: int) -> NoReturn:
    line, title_line = (csv_dialect.line_count(text[: row.start]) + 1 for row in (rows[table], rows[0]))
    raise FormUnclear(
        file,
        f"line {title_line} has one value alone, as a title has, and line {line} one for each column",
        likely={"skip_lines": line - 1},
        next=f"say source.options.skip_lines: {line - 1}; or header: true, where line {title_line} has the names",
    )


def _are_values(first: list[str], others: list[list[str]]) -> bool:
    """Whether a first row has a number in every column of numbers. Years and counts in order may be names."""
    rows = [row for row in others if len(row) == len(first)]
    of_numbers = [
        name
        for name, *column in zip(first, *rows, strict=True)
        if any(map(is_number, column)) and sum(map(is_number, column)) > MOST * sum(bool(v.strip()) for v in column)
    ]
    if not of_numbers or not all(map(is_number, of_numbers)):
        return False
    whole = [int(name) for name in of_numbers if name.strip().isdecimal()]
    in_order = len(whole) == len(of_numbers) and (len(whole) > 1 or len(first) > 1) and whole == sorted(set(whole))
    return not (in_order and (len(whole) == 1 or whole[-1] - whole[0] < 10 * len(whole)))


def _shown(text: bytes, count: int) -> list[str]:
    return [line[:SHOWN_CHARACTERS] for line in text[: 2**16].decode(errors="replace").splitlines()[:count]]
