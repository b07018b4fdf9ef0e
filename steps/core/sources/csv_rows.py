"""Where the rows of delimited text begin and end, in blocks of whole rows, so that memory is bounded by a block.

Fields are those of RFC 4180: a quote opens a field where the field begins, and is doubled within it. Most blocks hold
no quotes, or only such as are where the standard has them: numpy finds their rows. Other blocks are walked row by row.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from steps.core.errors import SourceUnreadable
from steps.core.sources.csv_dialect import STAND_IN, Dialect, Row, line_count, rows_of, split
from steps.core.sources.refusals import NOT_UTF8
from steps.core.sources.rows import Malformed

BLOCK_BYTES = 2**21  # above, pyarrow's parser gets slower
LONGEST_ROW_BYTES = 2**26
SHOWN_CHARACTERS = 10_000  # of a malformed row
REPEATED_HEADER = "repeat the header"
BAD_QUOTE = "have text behind a closing quote, or a quote within quotes that is not doubled"
HAS_STAND_IN = "hold the control character 0x1F"
NEWLINE, RETURN = 10, 13


@dataclass(frozen=True, kw_only=True)
class Block:
    """Whole rows as pyarrow is to parse them, and beside them the rows that it cannot.

    `row_lines` is (n,) int64, the line at which each row of `text` begins, blank ones left out; None where the block
    was not walked and they are to be found when they are needed.
    """

    text: bytes
    line: int  # of its first byte; 1 is a text's first
    line_count: int
    size_bytes: int  # in the source
    row_lines: np.ndarray | None = None
    malformed: list[Malformed] = field(default_factory=list)

    @property
    def was_walked(self) -> bool:
        """Whether its rows were cut one by one, so that the line of each is known."""
        return self.row_lines is not None

    def lines_of(self, row_count: int, dialect: Dialect) -> np.ndarray:
        """(row_count,) int64, the line at which each row begins; `row_count` is how many pyarrow found in `text`."""
        if self.row_lines is not None:
            return self.row_lines
        if row_count == self.line_count:
            return np.arange(self.line, self.line + row_count)
        return self.line + _lines_before_rows(self.text, dialect.quote)


class UnclosedQuote(Exception):
    """A row that does not end, or not within LONGEST_ROW_BYTES: a quote in it would swallow what follows."""

    def __init__(self, line: int, text: bytes, dialect: Dialect) -> None:
        opens_quote = dialect.quote and dialect.quote.encode() in text
        reason = "opens a quote that is not closed" if opens_quote else f"is longer than {LONGEST_ROW_BYTES:,} bytes"
        super().__init__(f"line {line} {reason}")

    def explained(self, file: str) -> SourceUnreadable:
        """The error for the user, with the file."""
        next_step = "close it in the file, or say source.options.quote: '' where quotes are letters like others"
        return SourceUnreadable(file, str(self), next=next_step)


def blocks(
    read: Callable[[int], bytes], dialect: Dialect, *, line: int = 1, header: bytes = b"", size_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """All rows of a text in UTF-8, of which `read` gives the next bytes, fewer than it is asked for only at the end.

    `line` is that of the first byte. `header` is a row that is malformed where it comes again. UnclosedQuote for that,
    and for a row that is longer than LONGEST_ROW_BYTES.
    """
    text, wanted, is_at_end = b"", size_bytes, False
    while not is_at_end or text:
        if not is_at_end:
            more = read(wanted)
            is_at_end = len(more) < wanted
            text += more
        block = _next_block(text, dialect, line=line, header=header, is_at_end=is_at_end) if text else None
        if block:
            text, wanted, line = text[block.size_bytes :], size_bytes, line + block.line_count
            yield block
        elif text and (is_at_end or len(text) > LONGEST_ROW_BYTES):
            raise UnclosedQuote(line, text, dialect)
        else:
            wanted = max(len(text), size_bytes)  # twice as much as before, until there is a whole row


def _next_block(text: bytes, dialect: Dialect, *, line: int, header: bytes, is_at_end: bool) -> Block | None:
    """The whole rows at the start of a text; None when there is none."""
    end = _end_of_regular_rows(text, dialect, is_at_end=is_at_end)
    if end is None:
        return _walk(text, dialect, line=line, header=header, is_at_end=is_at_end)
    if not end:
        return None
    rows = text[:end]
    if _begins_a_line(header, rows) or _begins_a_line(dialect.comment.encode(), rows) or not _is_utf8(rows):
        return _walk(rows, dialect, line=line, header=header, is_at_end=True)
    return Block(text=rows, line=line, line_count=_line_count_to_end(rows), size_bytes=end)


def _end_of_regular_rows(text: bytes, dialect: Dialect, *, is_at_end: bool) -> int | None:
    """Where the last whole row ends, 0 when there is none; None for a text that has to be walked."""
    quote, escape, comment = (letter.encode() for letter in (dialect.quote, dialect.escape, dialect.comment))
    if not dialect.is_for_arrow or (escape and escape in text):
        return None
    if quote and quote in text:
        is_commented = comment and comment in text  # by a comment that may hold a single quote
        return None if is_commented else _end_of_quoted_rows(text, dialect, is_at_end=is_at_end)
    if is_at_end:
        return len(text)
    searched = len(text) - text.endswith(b"\r")  # which may be half of a CRLF
    return max(text.rfind(b"\n", 0, searched), text.rfind(b"\r", 0, searched)) + 1


def _end_of_quoted_rows(text: bytes, dialect: Dialect, *, is_at_end: bool) -> int | None:
    """Where the last whole row ends, if every quote up to there is where the standard has it.

    Then a line end behind an even number of quotes ends a row: each opening quote stands behind a separator, a line
    end, or the quote that it doubles, and each closing one before such.
    """
    letters = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(letters == ord(dialect.quote))
    end = len(text)
    if not is_at_end:
        line_ends = np.flatnonzero((letters == NEWLINE) | (letters == RETURN))
        line_ends = line_ends[(line_ends < len(text) - 1) | (letters[line_ends] == NEWLINE)]
        row_ends = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
        if not len(row_ends):
            return None
        end = int(row_ends[-1]) + 1
        quotes = quotes[: np.searchsorted(quotes, end)]
    if len(quotes) % 2:
        return None
    is_border = np.zeros(256, bool)
    is_border[[NEWLINE, RETURN, ord(dialect.separator), ord(dialect.quote)]] = True
    before, behind = quotes[0::2] - 1, quotes[1::2] + 1
    is_regular = is_border[letters[before[before >= 0]]].all() and is_border[letters[behind[behind < end]]].all()
    return end if is_regular else None


def _walk(text: bytes, dialect: Dialect, *, line: int, header: bytes, is_at_end: bool) -> Block | None:
    """The whole rows at the start of a text, one by one; None when there is none."""
    rows = list(rows_of(text, dialect, is_at_end=is_at_end))
    if not rows:
        return None
    size_bytes = rows[-1].next_start
    lines = line + np.searchsorted(_line_ends(text[:size_bytes]), [row.start for row in rows])
    if _are_all_regular(rows, text[:size_bytes], dialect, header):
        is_row = np.fromiter((bool(row.text) for row in rows), bool, len(rows))
        line_count = _line_count_to_end(text[:size_bytes])
        return Block(
            text=text[:size_bytes], line=line, line_count=line_count, size_bytes=size_bytes, row_lines=lines[is_row]
        )
    kept, malformed = [], []
    for row, row_line in zip(rows, lines.tolist(), strict=True):
        if row.is_comment or not row.text:
            continue
        if reason := _malformed_reason(row, dialect, header):
            malformed += _by_line(row, row_line, reason)
        else:
            kept.append((_for_arrow(row.text, dialect), row_line))
    return Block(
        text=b"".join(row for row, _ in kept),
        line=line,
        line_count=_line_count_to_end(text[:size_bytes]),
        size_bytes=size_bytes,
        row_lines=np.array([row_line for _, row_line in kept], np.int64),
        malformed=malformed,
    )


def _are_all_regular(rows: list[Row], text: bytes, dialect: Dialect, header: bytes) -> bool:
    """Whether pyarrow takes these rows as they stand: as a rule only the quotes in them made them be walked."""
    if not dialect.is_for_arrow or not _is_utf8(text):
        return False
    return not any(row.is_bad or row.is_comment or (header and row.text == header) for row in rows)


def _malformed_reason(row: Row, dialect: Dialect, header: bytes) -> str:
    if header and row.text == header:
        return REPEATED_HEADER
    if not _is_utf8(row.text):
        return NOT_UTF8
    if dialect.separator_for_arrow == STAND_IN and STAND_IN.encode() in row.text:
        return HAS_STAND_IN
    return BAD_QUOTE if row.is_bad else ""


def _by_line(row: Row, line: int, reason: str) -> list[Malformed]:
    """One for each line of a row: a quote that is out of place may have joined what were several rows."""
    lines = re.split(r"\r\n|\n|\r", row.text.decode(errors="replace"))
    return [
        Malformed(reason=reason, line=line + place, text=text[:SHOWN_CHARACTERS]) for place, text in enumerate(lines)
    ]


def _for_arrow(row: bytes, dialect: Dialect) -> bytes:
    if dialect.is_for_arrow:
        return row + b"\n"
    return dialect.separator_for_arrow.encode().join(split(row, dialect)) + b"\n"


def _begins_a_line(row: bytes, text: bytes) -> bool:
    return bool(row) and (text.startswith(row) or b"\n" + row in text or b"\r" + row in text)


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_count_to_end(text: bytes) -> int:
    """How many lines there are, of which the last need not end."""
    return line_count(text) + (not text.endswith((b"\n", b"\r")))


def _line_ends(text: bytes) -> np.ndarray:
    """Where lines end: at an LF, or at a CR that no LF follows."""
    letters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero((letters == NEWLINE) | (letters == RETURN))
    following = letters[np.minimum(ends + 1, len(letters) - 1)]
    return np.asarray(ends[(letters[ends] == NEWLINE) | (following != NEWLINE)])


def _lines_before_rows(text: bytes, quote: str) -> np.ndarray:
    """How many lines end before each row that is not blank, of a text whose quotes are regular."""
    letters, line_ends = np.frombuffer(text, np.uint8), _line_ends(text)
    quotes = np.flatnonzero(letters == ord(quote)) if quote else np.zeros(0, np.int64)
    row_ends = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
    starts = np.concatenate([[0], row_ends + 1])
    starts = starts[starts < len(letters)]
    starts = starts[(letters[starts] != NEWLINE) & (letters[starts] != RETURN)]
    return np.asarray(np.searchsorted(line_ends, starts))
