"""How different the counts of two sets of rows are, whether chance would do that, and how many rows it takes to tell.

Effect and significance are two questions: of millions of rows the smallest difference is significant, of few a large
one may be chance.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, stats
from scipy.spatial import distance

PRIOR = 0.5  # rows that each bin is taken to have beside its own, so that an empty one makes nothing infinite
EXPECTED_AT_LEAST = 5  # rows in each bin of a chi-square test (Cochran 1954)
POWER = 0.8  # with which a change of LARGE has to be found where something is to be said
LARGE = 1.0  # a population stability index: that of a normal column which moves by one standard deviation
MOST_ROWS = 1e9  # in which a limit is looked for


def stability_index(reference: np.ndarray, current: np.ndarray) -> float:
    """The population stability index of two (bins,) counts: the sum over the bins of (q - p) ln(q / p), where p and q
    are their shares (Siddiqi 2006; Jeffreys' divergence). 0 is none. Bins that are empty in both do not count."""
    used = (reference + current) > 0
    if not used.any():
        return 0.0
    p, q = _shares(reference[used]), _shares(current[used])
    return float(((q - p) * np.log(q / p)).sum())


def index_by_chance(bins: int, *, reference_rows: float, current_rows: float) -> float:
    """What stability_index() is at the mean for one distribution: (bins - 1)(1 / n + 1 / m) (Yurdakul 2018)."""
    if min(reference_rows, current_rows) <= 0:
        return 0.0
    return (bins - 1) * (1 / reference_rows + 1 / current_rows)


def jensen_shannon(reference: np.ndarray, current: np.ndarray) -> float:
    """The Jensen-Shannon distance of two counts to base 2: 0 for equal shares, 1 for nothing in common."""
    if not reference.sum() or not current.sum():
        return 0.0
    found = float(distance.jensenshannon(reference / reference.sum(), current / current.sum(), base=2))
    return found if np.isfinite(found) else 0.0  # rounding below 0 has no root


def kolmogorov_smirnov(
    reference: np.ndarray, current: np.ndarray, *, reference_rows: float, current_rows: float
) -> tuple[float, float]:
    """The largest distance of two distributions at the ends of their bins, and its p-value for as many independent rows
    as are given. In bins the distance is smaller than by the values themselves, so the p-value is an upper bound."""
    p, q = np.cumsum(reference) / reference.sum(), np.cumsum(current) / current.sum()
    largest = float(np.abs(p - q).max())
    together = reference_rows * current_rows / (reference_rows + current_rows)
    return largest, float(stats.kstwo.sf(largest, max(1, round(together))))


def chi_square(reference: np.ndarray, current: np.ndarray, *, reference_rows: float, current_rows: float) -> float:
    """The p-value of the chi-square test that two counts are of one distribution, as if they were of so many
    independent rows (the first-order correction of Rao and Scott 1981). Bins of which too few rows are expected are
    one; 1.0 where that leaves one bin."""
    counts = np.array(
        [reference * (reference_rows / reference.sum()), current * (current_rows / current.sum())], dtype=np.float64
    )
    counts = counts[:, counts.sum(axis=0) > 0]
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    order = np.argsort(expected, kind="stable")
    rare = int((expected < EXPECTED_AT_LEAST).sum())
    if rare and expected[order[:rare]].sum() < EXPECTED_AT_LEAST:
        rare += 1  # the rare ones together are still too few: with the next
    pooled = counts[:, order[rare:]]
    if rare:
        pooled = np.column_stack([pooled, counts[:, order[:rare]].sum(axis=1)])
    if pooled.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(pooled, correction=False).pvalue)


def shares_differ(*, reference: tuple[float, float], current: tuple[float, float]) -> float:
    """The p-value of Fisher's exact test that two shares are one, each given as (share, rows as independent ones)."""
    table = []
    for share, rows in (reference, current):
        hits = round(share * rows)
        table.append([hits, max(0, round(rows) - hits)])
    return float(stats.fisher_exact(table).pvalue)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The p-values for as many tests as there are, so that a limit on them is one on the rate of false discoveries
    (Benjamini and Hochberg 1995); where nothing has changed it is one on the rate of any alarm at all."""
    if not p_values:
        return []
    adjusted_values: list[float] = stats.false_discovery_control(np.clip(p_values, 0, 1)).tolist()
    return adjusted_values


def rows_needed(bins: int, *, tests: int, significance: float, reference_rows: float) -> float:
    """As many independent current rows as it takes to find a change of LARGE with POWER, by a chi-square test on so
    many bins that is one of `tests`; infinite where the reference has too few rows itself.

    n rows and m of the reference have a noncentrality of LARGE n m / (n + m).
    """
    together = _rows_together(bins, tests, significance)
    return 1 / (1 / together - 1 / reference_rows) if reference_rows > together else float("inf")


@cache
def _rows_together(bins: int, tests: int, significance: float) -> float:
    freedom = max(1, bins - 1)
    limit = stats.chi2.isf(significance / max(1, tests), freedom)

    def missing_power(rows: float) -> float:
        return float(stats.ncx2.sf(limit, freedom, rows * LARGE)) - POWER

    return float(optimize.brentq(missing_power, 1e-6, MOST_ROWS))


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = (counts + PRIOR) / (counts.sum() + PRIOR * len(counts))
    return shares
