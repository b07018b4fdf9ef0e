"""In which bins the values of a feature are counted. They are fixed by the reference, so that counts can be compared.

Numbers have bins between the deciles of the reference, of which equal ones are one. Whole numbers and others with few
different values, and categories, are counted value by value, the most frequent ones; all others are one bin. Dates and
moments move on by nature: only how many are missing is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.models import scorer

DECILES = np.arange(1, 10) / 10
MOST_DISCRETE = 20  # different values of a column of numbers that are counted one by one
MOST_CATEGORIES = 30  # that are counted one by one
ROWS_OF_A_VALUE = 5  # of the reference, at least: rarer categories are counted together
MISSING = -1  # in place of a bin's number

type Kind = Literal["quantiles", "values", "categories", "times"]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Of the feature `name`. Of "quantiles", bin i has the numbers above edges[i - 1] and up to edges[i], the last one
    those above all edges; `low` and `high` are the ends of the reference's values, for pictures. Of "values" and
    "categories", bin i has values[i], and the last one all others. Of "times" there is one. `levels` are the model's,
    None of a feature that has none."""

    name: str
    type: str
    kind: Kind
    edges: tuple[float, ...] = ()
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    levels: tuple[str | int, ...] | None = None
    optional: bool = False

    @property
    def count(self) -> int:
        """How many bins there are."""
        return {"quantiles": len(self.edges) + 1, "times": 1}.get(self.kind, len(self.values) + 1)

    @property
    def is_ordered(self) -> bool:
        """Whether its bins are quantiles, no two of which are equal: the values have no ties to speak of."""
        return self.kind == "quantiles" and len(self.edges) == len(DECILES)

    @property
    def labels(self) -> list[str]:
        """What each bin has, in words."""
        if self.kind == "quantiles":
            ends = [f"{edge:.4g}" for edge in self.edges]
            if not ends:
                return ["all"]
            between = [f"{low} to {high}" for low, high in zip(ends, ends[1:], strict=False)]
            return [f"to {ends[0]}", *between, f"above {ends[-1]}"]
        if self.kind == "times":
            return ["all"]
        names = [_label(value, self.type) for value in self.values]
        return [*names, "other"]

    @cached_property
    def _stored_type(self) -> pa.DataType:
        return pa.string() if self.type == "string" else pa.int64()

    @cached_property
    def _value_set(self) -> pa.Array:
        return pa.array(self.values, self._stored_type)

    @cached_property
    def _level_set(self) -> pa.Array:
        return pa.array(self.levels or (), self._stored_type)

    def positions(self, column: pa.ChunkedArray) -> np.ndarray:
        """The number of each value's bin, (n,) int64; MISSING for a missing one."""
        if self.kind == "times":
            return np.where(pc.is_valid(column).to_numpy(), 0, MISSING)
        if self.kind == "categories":
            stored = column.cast(self._stored_type, safe=False)
            other = pa.scalar(len(self.values), pa.int32())
            found = pc.index_in(stored, value_set=self._value_set).fill_null(other).to_numpy().astype(np.int64)
            return np.where(pc.is_valid(stored).to_numpy(), found, MISSING)
        numbers = _numbers(column)
        if self.kind == "quantiles":
            found = np.searchsorted(np.array(self.edges), numbers, side="left")
        elif not self.values:  # all were missing in the reference
            found = np.zeros(len(numbers), np.int64)
        else:
            known = np.array(self.values, dtype=np.float64)
            nearest = np.searchsorted(known, numbers).clip(max=len(known) - 1)
            found = np.where(known[nearest] == numbers, nearest, len(known))
        return np.where(np.isnan(numbers), MISSING, found)

    def indicators(self, positions: np.ndarray) -> np.ndarray:
        """What a test of the distribution looks at in the bins of values, (n, k) bool: whether a value is in each bin
        or, of an ordered column, whether it is no larger than the end of each."""
        bins = np.arange(self.count - self.is_ordered)
        found: np.ndarray = positions[:, None] <= bins if self.is_ordered else positions[:, None] == bins
        return found

    def unseen(self, column: pa.ChunkedArray) -> int:
        """How many values are categories that training did not have."""
        if self.levels is None:
            return 0
        stored = column.cast(self._stored_type, safe=False).drop_null()
        return len(stored) - int(pc.sum(pc.is_in(stored, value_set=self._level_set)).as_py() or 0)


def of_features(features: Sequence[scorer.Feature], reference: pa.Table) -> list[Bins]:
    """The bins of each feature, by a sample of the rows that a model was trained on."""
    return [_of(feature, reference[feature.name]) for feature in features]


def is_readable(kind: pa.DataType, feature_type: str) -> bool:
    """Whether a column of a table may have values of a feature's type. Any other the model refuses."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    readable = {
        "double": is_number,
        "long": is_number,
        "boolean": is_number or pa.types.is_boolean(kind),
        "string": is_text,
    }.get(feature_type, is_text or pa.types.is_date(kind) or pa.types.is_timestamp(kind))
    return bool(readable or pa.types.is_null(kind))


def _of(feature: scorer.Feature, column: pa.ChunkedArray) -> Bins:
    known: dict[str, Any] = {"name": feature.name, "type": feature.type, "optional": feature.optional}
    if feature.type in scorer.PARTS_OF:
        return Bins(kind="times", **known)
    if feature.levels is not None:
        return Bins(kind="categories", values=_frequent(column, feature), levels=feature.levels, **known)
    numbers = _numbers(column)
    numbers = numbers[np.isfinite(numbers)]
    different = np.unique(numbers)
    if len(different) <= MOST_DISCRETE and (len(different) <= 2 or len(numbers) >= ROWS_OF_A_VALUE * len(different)):
        return Bins(kind="values", values=tuple(different.tolist()), **known)
    edges = np.unique(np.quantile(numbers, DECILES, method="inverted_cdf"))
    edges = edges[edges < numbers.max()]
    low, high = np.quantile(numbers, [0.005, 0.995], method="inverted_cdf").tolist()
    return Bins(kind="quantiles", edges=tuple(edges.tolist()), low=low, high=high, **known)


def _frequent(column: pa.ChunkedArray, feature: scorer.Feature) -> tuple[Any, ...]:
    """The categories of most rows, the most frequent first, and of equal ones in their order."""
    stored = column.cast(pa.string() if feature.type == "string" else pa.int64(), safe=False)
    counted = pc.value_counts(stored.drop_null().combine_chunks())
    pairs = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
    often = sorted((-rows, value) for value, rows in pairs if rows >= ROWS_OF_A_VALUE)
    return tuple(value for _, value in often[:MOST_CATEGORIES])


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) float64, with NaN for missing."""
    numbers: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def _label(value: Any, kind: str) -> str:
    if kind == "boolean":
        return {0.0: "false", 1.0: "true"}.get(value, str(value))
    return f"{value:g}" if isinstance(value, float) else str(value)
