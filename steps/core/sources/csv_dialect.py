"""How a delimited text is split into rows and values, as regular expressions: exact, and slower than pyarrow."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

WHITESPACE = "whitespace"  # the separator of columns that are aligned by blanks
STAND_IN = "\x1f"  # the separator that pyarrow gets where it cannot take the text's own


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How rows are split. `quote`, `escape` and `comment` are "" for none; the separator may be WHITESPACE."""

    separator: str = ","
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    blanks_before_quotes: bool = False  # as in: a, "b"

    @property
    def is_for_arrow(self) -> bool:
        """Whether pyarrow splits the text as it stands: its separator is one byte, and quotes begin fields."""
        return self.separator_for_arrow == self.separator and not self.blanks_before_quotes

    @property
    def separator_for_arrow(self) -> str:
        """The separator, or what is put in its place for Arrow, which takes one byte."""
        return self.separator if len(self.separator.encode()) == 1 else STAND_IN

    def is_blank(self, row: bytes) -> bool:
        """Whether a row has no value: nothing, blanks, or separators alone."""
        for separator in {self.separator, self.separator_for_arrow} - {WHITESPACE}:
            row = row.replace(separator.encode(), b"")
        return not row.strip(b" \t")

    def is_empty(self, row: bytes) -> bool:
        """Whether a row has neither values nor separators."""
        return not row.strip(b" \t".replace(self.separator.encode(), b""))


class Row(NamedTuple):
    """A row without its line end, where it begins, and where the next one does."""

    text: bytes
    start: int
    next_start: int
    is_bad: bool = False  # for BAD_QUOTE
    is_comment: bool = False


def rows_of(text: bytes, dialect: Dialect, *, is_at_end: bool, start: int = 0) -> Iterator[Row]:
    """The rows of a text one by one, also blank ones and comments; without the last where it may go on after `text`."""
    pattern = _row_pattern(dialect)
    while start < len(text) and (found := pattern.match(text, start)):
        end = found.start("end")
        if not is_at_end and found.end() == len(text) and not found["end"].endswith(b"\n"):
            return
        yield Row(
            text[start:end],
            start,
            found.end(),
            found["bad"] is not None or found["bad_2"] is not None,
            found["comment"] is not None,
        )
        start = found.end()


def fields_of(row: bytes, dialect: Dialect) -> list[str]:
    """The values of one row, as pyarrow reads them."""
    quote, escape = dialect.quote.encode(), dialect.escape.encode()
    values = []
    for value in split(row, dialect):
        if quote and value.startswith(quote):
            content, _, behind = value[1:].rpartition(quote)
            value = content.replace(quote * 2, quote) + behind
        if escape:
            value = re.sub(re.escape(escape) + rb"([\s\S])", rb"\1", value)
        values.append(value.decode(errors="replace"))
    return values


def line_count(text: bytes) -> int:
    """How many lines end in a text, by LF, CRLF or CR."""
    returns = text.count(b"\r")
    return text.count(b"\n") + (returns - text.count(b"\r\n") if returns else 0)


def split(row: bytes, dialect: Dialect) -> list[bytes]:
    """The values of a row as they stand, with their quotes."""
    if dialect.separator == WHITESPACE:
        row = row.strip(b" \t")
    return [found["quoted"] or found["plain"] or b"" for found in _field_pattern(dialect).finditer(row)]


class _Pieces(NamedTuple):
    """Of regular expressions: blanks before a quote, a quoted text, blanks behind it, a letter outside of quotes."""

    lead: str
    quoted: str
    tail: str
    plain: str
    separator: str


@functools.cache
def _field_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """A value, with the separator before it."""
    lead, quoted, tail, plain, separator = _pieces(dialect)
    value = rf"(?:{lead}(?P<quoted>{quoted}{tail}{plain}*)|(?P<plain>{plain}*))"
    return re.compile(rf"(?:\A|{separator}){value}".encode())


@functools.cache
def _row_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """A row and its line end. `bad` is text behind a closing quote. A quote that is not closed matches nothing."""
    lead, quoted, tail, plain, separator = _pieces(dialect)
    not_quoted = rf"(?!{lead}{re.escape(dialect.quote)})" if dialect.quote else ""
    comment = rf"{re.escape(dialect.comment)}[^\r\n]*+" if dialect.comment else "(?!)"
    blanks = r"[ \t]*+" if dialect.separator == WHITESPACE else ""
    first, other = (rf"(?:{lead}{quoted}{tail}(?P<{bad}>{plain}+)?|{not_quoted}{plain}*+)" for bad in ("bad", "bad_2"))
    line_end = r"(?P<end>\r\n|\n|\r|\Z)"
    return re.compile(rf"(?:(?P<comment>{comment})|{blanks}{first}(?:{separator}{other})*){line_end}".encode())


def _pieces(dialect: Dialect) -> _Pieces:
    quote, escape, separator = (re.escape(part) for part in (dialect.quote, dialect.escape, dialect.separator))
    tail = "[{}]*+".format("".join({" ", "\t"} - {dialect.separator}))
    if dialect.separator == WHITESPACE:
        separator, plain, tail = r"[ \t]+", rf"[^ \t\r\n{escape}]", ""
    elif len(dialect.separator.encode()) == 1:
        plain = rf"[^{separator}\r\n{escape}]"
    else:
        plain = rf"(?:(?!{separator})[^\r\n{escape}])"
    escaped = rf"|{escape}[\s\S]" if escape else ""
    plain = rf"(?:{plain}{escaped})" if escape else plain
    quoted = rf"{quote}[^{quote}{escape}]*+(?:(?:{quote * 2}{escaped})[^{quote}{escape}]*+)*+{quote}"
    lead = "[ ]*" if dialect.blanks_before_quotes else ""
    return _Pieces(lead, quoted if quote else "(?!)", tail, plain, separator)
