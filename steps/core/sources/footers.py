"""What stands below a table and is no row of it, as spreadsheets and offices write it: a total, and lines of text."""

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
FEWEST_ROWS = 3  # of which the last may be a total of the others
FEWEST_COLUMNS = 3  # of which one value alone shows that it is no row
SHOWN_CHARACTERS = 80  # of a line


def notes(sample: SourceSample, columns: Mapping[str, Column]) -> Iterator[str]:
    """A line on a last row that seems to be a total of the others, and one on lines below the rows.

    `columns` are those of the contract, of which the sample has values. Nothing is told where it has not all rows.
    """
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
    [last] = rows.slice(len(rows) - 1).to_pylist()
    texts = [text for value in last.values() if value is not None and (text := str(value).strip())]
    word = next(filter(TOTAL.match, texts), "")
    has_gap = len(texts) < len(last)
    if not word and not has_gap:
        return ""
    if len(texts) == 1 and len(last) >= FEWEST_COLUMNS:
        return f"it has {texts[0][:SHOWN_CHARACTERS]!r} and no other value"
    sums = [name for name, column in columns.items() if column.kind in NUMBERS and _ends_with_sum(rows[name], column)]
    if word and (has_gap or sums):
        return f"it says {word[:SHOWN_CHARACTERS]!r}"
    return f"its {sums[0]} is the sum of theirs" if sums else ""


def _ends_with_sum(raw: pa.ChunkedArray, column: Column) -> bool:
    numbers = values.convert(raw, column).values.cast(pa.float64(), safe=False)
    last, others = numbers[-1].as_py(), pc.sum(numbers.slice(0, len(numbers) - 1)).as_py()
    return bool(last and others) and abs(last - others) <= 1e-9 * abs(last)
