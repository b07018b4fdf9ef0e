"""What the rows of a table look like, column by column, from one pass over any number of them.

Counts, extremes, means and deviations are exact. The number of different values is estimated from their k smallest
hashes (Bar-Yossef et al. 2002), and exact below k. Quantiles, histograms and the most frequent numbers are those of a
sample: the rows with the smallest hashes, so a uniform one; all rows where they are few. Profiles of parts add up.
"""

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.tables import row_hash

SAMPLE_ROWS, SAMPLE_CELLS = 10_000, 2_000_000  # whichever is less
SKETCH = 1_024  # hashes that are kept of a column: a standard error of 3%
COUNTED_VALUES = 1_000  # a column of text, booleans or whole numbers with more different ones is not counted
TOP = 10
BINS = 20
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Profile:
    """Of a table with this schema; empty at first."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = {field.name: _Column(field.type) for field in schema}
        self._sample = schema.empty_table()
        self._sample_keys = np.empty(0, np.uint64)
        self._sample_rows = max(1, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(schema))))
        self.rows = 0

    def add(self, rows: pa.Table, hashes: np.ndarray) -> None:
        """`rows`, and the (n, columns) hashes of their values."""
        for position, (name, column) in enumerate(self._columns.items()):
            column.add(rows[name].combine_chunks(), hashes[:, position])
        numbers = np.arange(self.rows, self.rows + len(rows), dtype=np.uint64)  # equal rows are drawn one by one
        keys = row_hash.row_hashes(np.column_stack([row_hash.row_hashes(hashes), numbers]))
        self._draw(rows, keys)
        self.rows += len(rows)

    def merge(self, other: "Profile") -> None:
        """Add the profile of other rows of the same columns."""
        for name, column in self._columns.items():
            column.merge(other._columns[name])
        self._draw(other._sample, other._sample_keys)
        self.rows += other.rows

    def sample(self) -> pa.Table:
        """Up to SAMPLE_ROWS of the rows; all of them where there are no more."""
        return self._sample

    def maximum(self, name: str) -> Any:
        """The largest value of a column; None when all are missing."""
        return self._columns[name].largest

    def counts(self, name: str) -> Mapping[Any, int] | None:
        """How many rows have each value of a column of text, booleans or whole numbers; None when more than
        COUNTED_VALUES are different."""
        return self._columns[name].counts

    def as_dict(self, units: Mapping[str, str | None] | None = None) -> dict[str, Any]:
        """For JSON: `rows`, `sampled_rows`, and under `columns` what is known of each, in its own unit."""
        columns = {
            name: {**column.as_dict(self._sample[name]), **_named("unit", (units or {}).get(name))}
            for name, column in self._columns.items()
        }
        return {"rows": self.rows, "sampled_rows": len(self._sample), "columns": columns}

    def _draw(self, rows: pa.Table, keys: np.ndarray) -> None:
        """Keep the rows with the smallest keys, of those that are kept and these."""
        if len(self._sample_keys) == self._sample_rows:
            is_smaller = keys < self._sample_keys.max()
            rows, keys = rows.filter(pa.array(is_smaller)), keys[is_smaller]
        if not len(keys):
            return
        all_rows, all_keys = pa.concat_tables([self._sample, rows]), np.concatenate([self._sample_keys, keys])
        kept = np.argsort(all_keys, kind="stable")[: self._sample_rows]
        self._sample, self._sample_keys = all_rows.take(pa.array(kept)).combine_chunks(), all_keys[kept]


class _Column:
    """What is known of one column so far."""

    def __init__(self, kind: pa.DataType) -> None:
        self._type = kind
        self._missing = 0
        self._present = 0
        self._mean = 0.0
        self._squares = 0.0  # of the distances from the mean
        self.smallest: Any = None
        self.largest: Any = None
        self._sketch = np.empty(0, np.uint64)
        is_counted = pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)
        self.counts: Counter[Any] | None = Counter() if is_counted else None

    @property
    def _is_number(self) -> bool:
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        return any(is_kind(self._type) for is_kind in kinds)

    def add(self, values: pa.Array, hashes: np.ndarray) -> None:
        present = len(values) - values.null_count
        self._missing += values.null_count
        if not present:
            return
        limits = pc.min_max(values).as_py()
        self._extend(limits["min"], limits["max"])
        if self._is_number:
            numbers = values.cast(pa.float64(), safe=False)
            mean = pc.mean(numbers).as_py()
            self._add_moments(present, mean, pc.variance(numbers).as_py() * present)
        else:
            self._present += present
        if values.null_count:
            hashes = hashes[pc.is_valid(values).to_numpy(zero_copy_only=False)]
        self._add_hashes(hashes)
        if self.counts is not None:
            counted = pc.value_counts(values.drop_null())
            self._count(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))

    def merge(self, other: "_Column") -> None:
        self._missing += other._missing
        if not other._present:
            return
        self._extend(other.smallest, other.largest)
        self._add_moments(other._present, other._mean, other._squares)
        self._add_hashes(other._sketch)
        if other.counts is None:
            self.counts = None
        elif self.counts is not None:
            self._count(other.counts)

    def _extend(self, smallest: Any, largest: Any) -> None:
        self.smallest = smallest if self.smallest is None else min(self.smallest, smallest)
        self.largest = largest if self.largest is None else max(self.largest, largest)

    def _add_moments(self, count: int, mean: float, squares: float) -> None:
        """Chan, Golub and LeVeque 1979: mean and squares of two sets together."""
        total, distance = self._present + count, mean - self._mean
        self._squares += squares + distance * distance * self._present * count / total  # inf beyond all doubles
        self._mean += distance * count / total
        self._present = total

    def _add_hashes(self, hashes: np.ndarray) -> None:
        if len(self._sketch) == SKETCH:
            hashes = hashes[hashes < self._sketch[-1]]
        if len(hashes):
            self._sketch = np.unique(np.concatenate([self._sketch, hashes]))[:SKETCH]

    def _count(self, counts: Mapping[Any, int]) -> None:
        assert self.counts is not None
        self.counts.update(counts)
        if len(self.counts) > COUNTED_VALUES:
            self.counts = None

    def _distinct(self) -> int:
        if self.counts is not None:
            return len(self.counts)
        if len(self._sketch) < SKETCH:
            return len(self._sketch)
        return round((SKETCH - 1) / (int(self._sketch[-1]) / 2**64))

    def as_dict(self, sample: pa.ChunkedArray) -> dict[str, Any]:
        known: dict[str, Any] = {
            "type": str(self._type),
            "missing": self._missing,
            "distinct": self._distinct(),
            "min": _json(self.smallest),
            "max": _json(self.largest),
        }
        present = sample.drop_null()
        counts = self.counts
        if counts is None and self._is_number:
            counts = Counter()
        elif counts is None:
            counts = Counter(present.to_pylist())
        known["top"] = [[_json(value), count] for value, count in counts.most_common(TOP)]
        if self._is_number and self._present:
            deviation = math.sqrt(self._squares / self._present)
            numbers = present.cast(pa.float64(), safe=False).to_numpy()
            known |= {"mean": _finite(self._mean), "standard_deviation": _finite(deviation)}
            known |= _distribution(numbers) if len(numbers) else {}  # few values, of which the sample has none
        return known


def _distribution(numbers: np.ndarray) -> dict[str, Any]:
    """Quantiles by their probability, and a histogram of equal bins: `edges`, one more than `counts`."""
    smallest, largest = float(numbers.min()), float(numbers.max())
    shares = np.arange(BINS + 1) / BINS
    edges = smallest * (1 - shares) + largest * shares  # not by their difference, which may be infinite
    if not (np.diff(edges) > 0).all():  # one value, or neighbouring doubles
        edges = np.array([smallest, largest])
    counts = np.bincount(np.searchsorted(edges[1:-1], numbers, side="right"), minlength=len(edges) - 1)
    scale = 1.0 if math.isfinite(largest - smallest) else 4.0  # NumPy subtracts as well
    quantiles = np.quantile(numbers / scale, QUANTILES) * scale
    return {
        "quantiles": dict(zip(map(str, QUANTILES), quantiles.tolist(), strict=True)),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _finite(number: float) -> float | None:
    """None for what is beyond all doubles, which JSON does not have."""
    return number if math.isfinite(number) else None


def _json(value: Any) -> Any:
    if isinstance(value, dt.date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _named(name: str, value: str | None) -> dict[str, str]:
    return {name: value} if value else {}
