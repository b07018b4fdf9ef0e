"""What a table's rows must be: each value of its column's type, and every row that breaks a rule set apart."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import did_you_mean
from steps.core.sources import column_rules, values
from steps.core.sources.arrow_values import arrow_type
from steps.core.sources.rows import RawRows
from steps.core.tables.repeated_rows import is_among

REJECTS_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("rules", pa.list_(pa.string())),
        pa.field("values", pa.map_(pa.string(), pa.string())),  # as they stand in the source, by the contract's names
        pa.field("text", pa.string()),  # of a row that has no columns
    ]
)
EXAMPLE_CHARACTERS = 80
MALFORMED_CHARACTERS = 10_000  # of the text of a row that has no columns


@dataclass(frozen=True)
class Rule:
    """What rows must not be or do, such as "are missing"; whose values, and in which column, "" of a row as a whole."""

    predicate: str
    subject: str = ""
    column: str = ""

    @classmethod
    def of_column(cls, name: str, predicate: str) -> "Rule":
        """Of the values of one column."""
        return cls(predicate, subject=f"column {name!r}", column=name)

    def __str__(self) -> str:
        return f"{self.subject}: {self.predicate}" if self.subject else self.predicate


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Rows after the contract: `rows` that keep it, `rejects` that do not; how many break each rule, and an example."""

    rows: pa.Table
    rejects: pa.Table
    broken: Counter[Rule]
    examples: dict[Rule, str]
    missing_counts: Mapping[str, int]  # of all rows, by column

    def missing(self, column: str) -> int:
        """How many of the rows, good and bad, have no value in a column; 0 for a column that is none."""
        return self.missing_counts.get(column, 0)


def schema_of(columns: Mapping[str, Column]) -> pa.Schema:
    """The table's columns; `unit` is the comment of a column that has one, as Delta keeps comments."""
    return pa.schema(
        [
            pa.field(name, arrow_type(column), metadata={"comment": column.unit} if column.unit else None)
            for name, column in columns.items()
        ]
    )


def check(
    raw: RawRows,
    columns: Mapping[str, Column],
    *,
    file: str,
    key: Sequence[str] = (),
    refused_keys: Mapping[str, pa.Table] | None = None,
) -> Checked:
    """Rows of a file against the contract. A row is rejected for any rule that it breaks, with all of them.

    `key` are columns that are never missing, `refused_keys` values of theirs that break a rule, by that rule.
    """
    converted = {name: values.convert(raw.columns[name], column) for name, column in columns.items()}
    rows = pa.table([converted[name].values for name in columns], schema=schema_of(columns))
    broken = {
        Rule.of_column(name, predicate): mask
        for name, column in columns.items()
        for predicate, mask in column_rules.broken_rules(converted[name], column, is_key=name in key)
        if mask.any()
    }
    for predicate, keys in (refused_keys or {}).items():
        if (is_refused := is_among(rows.select(list(key)), keys)).any():
            broken[Rule(predicate, subject=f"key {', '.join(key)}")] = is_refused
    is_bad = np.logical_or.reduce([*broken.values(), np.zeros(len(rows), dtype=bool)])
    rejects = _rejects(raw, np.flatnonzero(is_bad), broken, file=file)
    counts = Counter({rule: int(mask.sum()) for rule, mask in broken.items()})
    counts.update(Rule(malformed.reason) for malformed in raw.malformed)
    return Checked(
        rows=rows.filter(pa.array(~is_bad)) if is_bad.any() else rows,
        rejects=rejects,
        broken=counts,
        examples=_examples(raw, broken),
        missing_counts={name: value.values.null_count - _refused(value) for name, value in converted.items()},
    )


def violations(broken: Counter[Rule], examples: Mapping[Rule, str], row_count: int) -> list[str]:
    """A line for each rule that rows break, the most frequent first."""
    return [
        f"{_with_count(rule, count, row_count)}{f', such as {_shown(examples[rule])}' if rule in examples else ''}"
        for rule, count in broken.most_common()
    ]


def _shown(value: str) -> str:
    """A value as Python writes it: by its characters where others look the same."""
    return repr(value) if unicodedata.is_normalized("NFC", value) else ascii(value)


def missing_columns(columns: Mapping[str, str], present: Iterable[str]) -> dict[str, str]:
    """A message for each column that the source does not have. `columns` are its names in the contract and there."""
    present = list(present)
    return {
        name: f"column {name!r}: the source has no {source_name!r}{did_you_mean(source_name, present)}"
        f"; it has {', '.join(present)}"
        for name, source_name in columns.items()
        if source_name not in present
    }


def _with_count(rule: Rule, count: int, row_count: int) -> str:
    return str(replace(rule, predicate=f"{count} of {row_count} rows {rule.predicate}"))


def _refused(converted: values.Converted) -> int:
    return sum(int(mask.sum()) for mask in converted.broken.values())


def _examples(raw: RawRows, broken: Mapping[Rule, np.ndarray]) -> dict[Rule, str]:
    """The first value that breaks each rule, as it stands in the source."""
    examples = {}
    for rule, mask in broken.items():
        if rule.column:
            text = _texts(raw.columns[rule.column].slice(int(mask.argmax()), 1))[0]
            if text is not None:
                examples[rule] = text[:EXAMPLE_CHARACTERS]
    for malformed in raw.malformed:
        examples.setdefault(Rule(malformed.reason), malformed.text[:EXAMPLE_CHARACTERS])
    return examples


def _rejects(raw: RawRows, bad: np.ndarray, broken: Mapping[Rule, np.ndarray], *, file: str) -> pa.Table:
    taken = raw.columns.take(pa.array(bad)) if len(bad) else raw.columns.slice(0, 0)
    texts = {name: _texts(column) for name, column in zip(taken.column_names, taken.columns, strict=True)}
    rows = [
        {
            "file": file,
            "line": int(raw.lines[row]) if raw.lines is not None else None,
            "rules": [str(rule) for rule, mask in broken.items() if mask[row]],
            "values": [(name, column[place]) for name, column in texts.items()],
            "text": None,
        }
        for place, row in enumerate(bad)
    ]
    rows += [
        {
            "file": file,
            "line": malformed.line,
            "rules": [malformed.reason],
            "values": [],
            "text": malformed.text[:MALFORMED_CHARACTERS],
        }
        for malformed in raw.malformed
    ]
    return pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Values as they stand in the source, as text; dates that Python does not have as Arrow writes them."""
    try:
        return [None if value is None else str(value) for value in column.to_pylist()]
    except (OverflowError, ValueError):
        return list(column.cast(pa.string()).to_pylist())
