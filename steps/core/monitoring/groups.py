"""Rows that come in groups (of one customer, of one day) tell less than as many independent ones.

How much less is Kish's design effect, 1 + (m - 1) * rho (Kish 1965, Survey Sampling, 5.4): m is how many rows a row's
group has at the mean over the rows, and rho the intraclass correlation. So many rows count as rows / design effect.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from steps.core.models.grouping import ALONE, Grouping

MOST_GROUPS = 4_096  # whose sizes are kept: those with the smallest hashes, so a uniform sample of all


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupSizes:
    """How many rows groups have; parts of a table add up. `hashes` are those of up to MOST_GROUPS groups, (g,) uint64
    in order, `rows` how many rows each has; `grouped` and `alone` are how many rows have a group and none."""

    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    grouped: int = 0
    alone: int = 0

    @classmethod
    def of(cls, rows: pa.Table, grouping: Grouping | None) -> "GroupSizes":
        """The sizes of the groups among some rows; without a grouping each row stands alone."""
        if grouping is None or grouping.column not in rows.schema.names:
            return cls(alone=len(rows))
        hashes = grouping.hashes(rows)
        hashes = hashes[hashes != ALONE]
        groups, counts = np.unique(hashes, return_counts=True)
        return cls(
            hashes=groups[:MOST_GROUPS],
            rows=counts[:MOST_GROUPS].astype(np.int64),
            grouped=len(hashes),
            alone=len(rows) - len(hashes),
        )

    def __add__(self, other: "GroupSizes") -> "GroupSizes":
        groups, position = np.unique(np.concatenate([self.hashes, other.hashes]), return_inverse=True)
        rows = np.bincount(position, np.concatenate([self.rows, other.rows]), len(groups)).astype(np.int64)
        return GroupSizes(
            hashes=groups[:MOST_GROUPS],
            rows=rows[:MOST_GROUPS],
            grouped=self.grouped + other.grouped,
            alone=self.alone + other.alone,
        )

    @property
    def rows_together(self) -> float:
        """How many rows a row's group has at the mean over all rows, itself among them; 1.0 where all are alone."""
        total = self.grouped + self.alone
        if not self.grouped:
            return 1.0
        return (self.grouped * rows_together(self.rows) + self.alone) / total


def rows_together(sizes: np.ndarray) -> float:
    """How many rows a row's group has at the mean over the rows of groups of these sizes."""
    return float((sizes.astype(np.float64) ** 2).sum() / sizes.sum())


def intraclass_correlation(groups: np.ndarray, indicators: np.ndarray) -> float:
    """How alike rows of one group are: 0.0 as any rows, 1.0 all the same.

    `groups` are the numbers of the rows' groups, (n,), `indicators` what is looked at, (n, k) bool. The estimator by
    analysis of variance (Donner 1986), of all indicators together, held between 0 and 1. 1.0 where all rows are of one
    group, of which nothing can be said; 0.0 where no two are.
    """
    _, code, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n, count = len(groups), len(sizes)
    if n < 2 or count == n:
        return 0.0
    if count == 1:
        return 1.0
    hits = np.array([np.bincount(code, column, count) for column in indicators.T])  # (k, groups)
    explained, in_all = float((hits**2 / sizes).sum()), hits.sum(axis=1)
    between = (explained - float((in_all**2).sum()) / n) / (count - 1)
    within = (float(in_all.sum()) - explained) / (n - count)
    size = (n - float((sizes.astype(np.float64) ** 2).sum()) / n) / (count - 1)
    spread = between + (size - 1) * within
    return min(max((between - within) / spread, 0.0), 1.0) if spread > 0 else 0.0


def effective_rows(rows: int, *, rows_together: float, correlation: float) -> float:
    """As how many independent rows so many count."""
    return rows / (1 + (max(rows_together, 1.0) - 1) * correlation)
