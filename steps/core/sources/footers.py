"""What stands below a table, or below its header, and is no row of it: a total, lines of text, a line of dashes."""

import re
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import NUMBERS, Column
from steps.core.sources import values
from steps.core.sources.source_sample import SourceSample

TOTAL = re.compile(
    r"(grand |sub-?)?totals?\b|sums?\b|averages?\b|mean\b|summe\b|(ins)?gesamt|mittelwert\b|durchschnitt\b"
    r"|somme\b|moyenne\b|totale\b|suma\b|totaal\b",
    re.IGNORECASE,
)
DASHES = re.compile(r":?-{2,}:?")  # as databases and Markdown have them between a header and its rows
FEWEST_ROWS = 3  # of which the last may be a total of the others
FEWEST_COLUMNS = 3  # of which one value alone shows that it is no row
SHOWN_CHARACTERS = 80  # of a line


def notes(sample: SourceSample, columns: Mapping[str, Column]) -> Iterator[str]:
    """A line on a first row of dashes, on a last one that seems to be a total of the others, and on lines below it.

    `columns` are those of the contract, of which the sample has values. Of the end nothing is told where it has not all
    rows.
    """
    if (first := _texts(sample.rows.slice(0, 1))) and all(map(DASHES.fullmatch, first)):
        yield f"  rows     the first one is a line of dashes, {first[0]!r}; take it out of the source"
    if not sample.is_whole:
        return
    if reason := _reason(sample.rows, columns):
        yield f"  rows     the last one may be a total or a note, as {reason}; if it is, take it out of the source"
    if sample.below:
        lines = f"{len(sample.below)} lines" if len(sample.below) > 1 else "a line"
        yield (
            f"  rows     {lines} below them, such as {sample.below[0][:SHOWN_CHARACTERS]!r}, cannot be one: a reject, "
            "of which `rejects_at_most` allows one in a hundred; take it out of the source, or allow more in a config"
        )


def _reason(rows: pa.Table, columns: Mapping[str, Column]) -> str:
    """Why the last row seems to be none; "" where it does not."""
    if len(rows) < FEWEST_ROWS:
        return ""
    texts = _texts(rows.slice(len(rows) - 1))
    word = next(filter(TOTAL.match, texts), "")
    has_gap = len(texts) < rows.num_columns
    if not word and not has_gap:
        return ""
    if len(texts) == 1 and rows.num_columns >= FEWEST_COLUMNS:
        return f"it has {texts[0][:SHOWN_CHARACTERS]!r} and no other value"
    sums = [name for name, column in columns.items() if column.kind in NUMBERS and _ends_with_sum(rows[name], column)]
    if word and (has_gap or sums):
        return f"it says {word[:SHOWN_CHARACTERS]!r}"
    return f"its {sums[0]} is the sum of theirs" if sums else ""


def _texts(row: pa.Table) -> list[str]:
    """The values of one row, or of none, as texts, without those that are missing."""
    values_of_row = [value for values_of_column in row.to_pydict().values() for value in values_of_column]
    return [text for value in values_of_row if value is not None and (text := str(value).strip())]


def _ends_with_sum(raw: pa.ChunkedArray, column: Column) -> bool:
    numbers = values.convert(raw, column).values.cast(pa.float64(), safe=False)
    last, others = numbers[-1].as_py(), pc.sum(numbers.slice(0, len(numbers) - 1)).as_py()
    return bool(last and others) and abs(last - others) <= 1e-9 * abs(last)
