"""What a column is good for: a feature, a key, or neither, from a sample of its values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import TIMES, Column
from steps.core.sources import values as contract_values
from steps.core.sources.written_forms import are_mostly_dates

MOST_CLASSES = 20  # different whole numbers of a target; more are numbers to predict
FEWEST_ROWS_OF_A_CLASS = 5  # on average, where a target has more different texts than that; fewer are names
MOST_LEVELS = 100  # of a text that is a feature
FEW_LEVELS = 20  # that a text may have even where most rows have one of their own
FIRST_ROWS = 1_000  # of a sample, which follow each other
FEWEST_ROWS = 10  # of which one can say that a column is different in each
KEY_TYPES = ("int", "long", "string")  # of columns that may tell rows apart
FREE_TEXT_WORDS = 4  # on average, of texts that are sentences
ID_NAME = re.compile(r"(.*_)?(id|uuid|guid)|.*[a-z](Id|ID)", re.ASCII)  # of a column that tells rows apart
ID_NAME_IN_CAPITALS = re.compile(r"(.*_)?(ID|UUID|GUID|Id)", re.ASCII)
FRAME_INDEX = re.compile(r"__index_level_\d+__")  # as pandas calls one without a name in Parquet


@dataclass(frozen=True, kw_only=True)
class ColumnSample:
    """A column's different values in the sample, in the type of its contract, and how many rows have one."""

    name: str
    kind: str
    values: list[Any]
    row_count: int  # without those in which it is missing
    missing_count: int

    @classmethod
    def of(cls, raw: pa.ChunkedArray, keys: Mapping[str, object], *, name: str) -> "ColumnSample":
        """`keys` are those of the column in the config."""
        column = Column.model_validate(dict(keys))
        converted = contract_values.convert(raw, column).values
        return cls(
            name=name,
            kind=column.kind,
            values=pc.unique(converted.drop_null()).to_pylist(),
            row_count=len(converted) - converted.null_count,
            missing_count=converted.null_count,
        )

    @property
    def distinct_count(self) -> int:
        """How many different values there are, missing ones aside."""
        return len(self.values)

    @property
    def is_whole_numbers(self) -> bool:
        """Whether all values are whole numbers, of whatever type."""
        return self.kind in ("int", "long") or all(value == int(value) for value in self.values)

    @property
    def is_unique(self) -> bool:
        """Whether each row has a value of its own."""
        return self.missing_count == 0 and self.row_count >= FEWEST_ROWS and self.distinct_count == self.row_count

    @property
    def is_named_as_id(self) -> bool:
        """Whether the name is that of an id, such as customer_id."""
        return bool(ID_NAME.fullmatch(self.name) or ID_NAME_IN_CAPITALS.fullmatch(self.name))

    @property
    def counts_rows(self) -> bool:
        """Whether it is a row's number: 0, 1, 2, ... or from another number on; behind the first rows, which follow
        each other, there may be gaps in a sample."""
        if not self.is_unique or self.kind not in ("int", "long"):
            return False
        first = self.values[:FIRST_ROWS]
        steps = {after - before for before, after in zip(first, first[1:], strict=False)}
        return steps == {1} and self.values == sorted(self.values)


@dataclass(frozen=True, kw_only=True)
class KeyCandidates:
    """Columns that tell each row from another: those whose names say so, and all."""

    clear: list[str]
    all: list[str]


def key_candidates(columns: Mapping[str, ColumnSample], *, first: str) -> KeyCandidates:
    """Of columns of KEY_TYPES: those named as an id, or the `first` of the source, where each row has its own value."""
    possible = {
        name: sample
        for name, sample in columns.items()
        if sample.is_unique and (name == first or sample.is_named_as_id)
    }
    clear = [name for name, sample in possible.items() if sample.is_named_as_id]
    clear.sort(key=lambda name: name.lower() not in ("id", "uuid", "guid"))
    return KeyCandidates(clear=clear, all=[*clear, *(name for name in possible if name not in clear)])


def unseen_reason(sample: ColumnSample) -> str:
    """Why a column is no feature, "" where it is one."""
    if FRAME_INDEX.fullmatch(sample.name):
        return "as it is the index of a data frame"
    if not sample.distinct_count:
        return "as it has no value"
    if sample.distinct_count == 1 and not sample.missing_count:  # else missing is the other one: a box that is ticked
        value = sample.values[0]
        return f"as it has one value, {value!r}" if isinstance(value, str) else f"as it has one value, {value}"
    if sample.kind in TIMES:
        return f"as rows to come have a later {sample.kind} than any that training sees"
    if sample.is_unique and sample.is_named_as_id and sample.kind in KEY_TYPES:
        return "as it is an id: each row has its own"
    if sample.counts_rows:
        return "as it counts the rows"
    return _text_reason(sample) if sample.kind == "string" else ""


def _text_reason(sample: ColumnSample) -> str:
    if are_mostly_dates(sample.values):
        return "as rows to come have later dates than any that training sees"
    words = sum(len(text.split()) for text in sample.values) / sample.distinct_count
    is_varied = sample.distinct_count > max(FEW_LEVELS, sample.row_count / 2)
    if is_varied and words >= FREE_TEXT_WORDS:
        return f"as it is free text: {words:.0f} words a value"
    if is_varied or sample.distinct_count > MOST_LEVELS:
        return f"as it has {sample.distinct_count} different texts in {sample.row_count} rows"
    return ""
