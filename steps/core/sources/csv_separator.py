"""Which letter separates the values of a delimited text, by its first rows."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace

from steps.core.errors import SourceUnreadable
from steps.core.sources import csv_dialect
from steps.core.sources.csv_dialect import WHITESPACE, Dialect, Row
from steps.core.sources.csv_options import CsvOptions

SAMPLE_ROWS = 200
SEPARATORS = ("\t", ";", "|", ",")  # that are looked for; of two that fit alike the first
MOST = 0.5  # share of the rows that make a width the table's
SHOWN_CHARACTERS = 80  # of a line, in a message
RUN_OF_BLANKS = re.compile(rb"[ \t]{2}")
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)*|[.,]\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The start of a text in UTF-8, of which the table begins at byte `start`."""

    text: bytes
    is_whole: bool
    start: int = 0

    def rows(self, dialect: Dialect) -> list[Row]:
        """The first rows that are neither blank nor comments."""
        rows: list[Row] = []
        for row in csv_dialect.rows_of(self.text, dialect, is_at_end=self.is_whole, start=self.start):
            if not dialect.is_empty(row.text) and not row.is_comment:
                rows.append(row)
            if len(rows) == SAMPLE_ROWS:
                break
        return rows

    def endless_row(self, dialect: Dialect) -> int | None:
        """Where a row begins that does not end in all of the text; None where each ends, or there are many."""
        end, count = self.start, 0
        for row in csv_dialect.rows_of(self.text, dialect, is_at_end=self.is_whole, start=self.start):
            end, count = row.next_start, count + 1
            if count == SAMPLE_ROWS:
                return None
        return end if end < len(self.text) and (self.is_whole or not count) else None

    def widths(self, dialect: Dialect) -> list[int]:
        """How many values each of these rows has."""
        return [len(csv_dialect.split(row.text, dialect)) for row in self.rows(dialect)]


def dialect_of(file: str, sample: Sample, options: CsvOptions, *, said_separator: str = "") -> Dialect:
    """How to split the text. The options go before `said_separator`, which the text says, and that before a look.

    SourceUnreadable for runs of blanks where no option says so, and for a separator that is not there while another is.
    """
    dialect = Dialect(quote=options.quote, escape=options.escape, comment=options.comment)
    separator = options.separator or said_separator
    if separator in ("", " ") and _is_aligned(sample, dialect, separator=separator):
        if not separator:
            raise SourceUnreadable(
                file,
                f"its values are separated by runs of blanks, see line 1: {_first_line(sample)!r}",
                next="say source.options.sep: whitespace, and header: false where no line names the columns",
            )
        separator = WHITESPACE
    if not separator:
        separator = _likely_separator(sample, dialect, options)
    elif other := _separator_instead(sample, replace(dialect, separator=separator), options):
        raise SourceUnreadable(
            file,
            f"its lines have no {separator!r}, they are separated by {other!r}, see line 1: {_first_line(sample)!r}",
            next=f"say source.options.sep: {json.dumps(other)}, or leave it out",
        )
    dialect = replace(dialect, separator=separator)
    return replace(dialect, blanks_before_quotes=_has_blanks_before_quotes(sample.text, dialect))


def is_number(text: str) -> bool:
    """Whether a text looks like a number, with a point or a comma in it."""
    return NUMBER.fullmatch(text.strip()) is not None


def _likely_separator(sample: Sample, dialect: Dialect, options: CsvOptions) -> str:
    """The letter that splits most rows, and the first of them, into the same number of values.

    One blank is thought of last, where it tells numbers apart; a comma stands for none.
    """
    fits = _fits(sample, dialect, options)
    if fits:
        return max(fits, key=lambda separator: fits[separator])
    return " " if _is_separated_by_blanks(sample, replace(dialect, separator=" ")) else ","


def _fits(sample: Sample, dialect: Dialect, options: CsvOptions) -> dict[str, tuple[bool, float]]:
    """For each letter that splits most rows alike, whether it splits the first of them so, and the share of rows."""
    fits: dict[str, tuple[bool, float]] = {}
    for separator in SEPARATORS:
        widths = sample.widths(replace(dialect, separator=separator))
        width, count = Counter(widths or [1]).most_common(1)[0]
        if width > 1 and count >= MOST * len(widths):
            fits[separator] = (options.header is False or widths[0] == width, round(count / len(widths), 2))
    return fits


def _separator_instead(sample: Sample, dialect: Dialect, options: CsvOptions) -> str:
    """The letter that splits all rows alike where the dialect's own splits none; "" for none such."""
    if dialect.separator == WHITESPACE or set(sample.widths(dialect)) != {1}:
        return ""
    return next((other for other, fit in _fits(sample, dialect, options).items() if fit == (True, 1.0)), "")


def _is_separated_by_blanks(sample: Sample, dialect: Dialect) -> bool:
    """Whether single blanks split all rows but perhaps the header alike, into values of which some are numbers."""
    first, *others = [csv_dialect.fields_of(row.text, dialect) for row in sample.rows(dialect)] or [[]]
    widths = set(map(len, others))
    if len(widths) != 1 or len(first) < 2 or len(first) not in (widths | {width - 1 for width in widths}):
        return False
    return any(all(map(is_number, column)) for column in zip(*others, strict=True))


def _is_aligned(sample: Sample, dialect: Dialect, *, separator: str) -> bool:
    """Whether runs of blanks split the rows evenly, and no separator splits them as well."""
    aligned = replace(dialect, separator=WHITESPACE)
    widths = sample.widths(aligned)
    if len(widths) < 2 or widths[0] < 2 or len(set(widths)) > 1:
        return False
    for other in (separator,) if separator else SEPARATORS:
        others = sample.widths(replace(dialect, separator=other))
        if len(set(others)) == 1 and (separator or others[0] >= widths[0]):
            return False
    quote = re.escape(dialect.quote.encode())
    texts = [re.sub(b"%b[^%b]*%b" % (quote, quote, quote), b"x", row.text.strip()) for row in sample.rows(aligned)]
    return sum(RUN_OF_BLANKS.search(text) is not None for text in texts) >= MOST * len(texts)


def _has_blanks_before_quotes(text: bytes, dialect: Dialect) -> bool:
    """Whether quotes stand behind a separator and blanks, and none right behind a separator."""
    if not dialect.quote or dialect.separator in (WHITESPACE, " "):
        return False
    separator, quote = re.escape(dialect.separator.encode()), re.escape(dialect.quote.encode())
    behind_blanks = re.search(separator + b" +" + quote, text)
    return behind_blanks is not None and not re.search(separator + quote, text)


def _first_line(sample: Sample) -> str:
    lines = sample.text[sample.start :][: 2**16].decode(errors="replace").splitlines()
    return next((line[:SHOWN_CHARACTERS] for line in lines if line.strip()), "")
