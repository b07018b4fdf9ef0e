"""What rows look like as counts, which add up: from one pass over any number of them, in any order and in any parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from steps.core.models.grouping import Grouping
from steps.core.monitoring.bins import MISSING, Bins
from steps.core.monitoring.groups import GroupSizes


@dataclass(frozen=True, eq=False, kw_only=True)
class Counts:
    """Of one feature: how many values each bin has, (bins,) int64, how many are missing, and how many are categories
    that training did not have (`unseen`, which are in a bin as well)."""

    bins: np.ndarray
    missing: int = 0
    unseen: int = 0

    @property
    def present(self) -> int:
        """How many rows have a value."""
        return int(self.bins.sum())

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return self.present + self.missing

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            bins=self.bins + other.bins, missing=self.missing + other.missing, unseen=self.unseen + other.unseen
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Summary:
    """Of some rows, with the counts of each feature by its name."""

    rows: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    groups: GroupSizes = field(default_factory=GroupSizes)

    def __add__(self, other: "Summary") -> "Summary":
        if not self.counts or not other.counts:  # of no rows
            return self if self.counts else other
        return Summary(
            rows=self.rows + other.rows,
            counts={name: counts + other.counts[name] for name, counts in self.counts.items()},
            groups=self.groups + other.groups,
        )


def summarize(rows: pa.Table, bins: Sequence[Bins], *, grouping: Grouping | None = None) -> Summary:
    """All values of a feature that `rows` have no column of are missing."""
    return Summary(
        rows=len(rows),
        counts={feature.name: _counts(rows, feature) for feature in bins},
        groups=GroupSizes.of(rows, grouping),
    )


def _counts(rows: pa.Table, feature: Bins) -> Counts:
    if feature.name not in rows.schema.names:
        return Counts(bins=np.zeros(feature.count, np.int64), missing=len(rows))
    column = rows[feature.name]
    positions = feature.positions(column)
    present = positions[positions != MISSING]
    counts = np.bincount(present, minlength=feature.count).astype(np.int64)
    return Counts(bins=counts, missing=len(positions) - len(present), unseen=feature.unseen(column))
