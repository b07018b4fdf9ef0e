"""How sure a score is: what chance would do, and within which limits other rows of the same kind would move it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.stats

from steps.core.metrics import METRICS, SAME

SHUFFLES = 99  # of the labels, so that the smallest p-value is 1 in 100
RESAMPLES = 1_000  # of the rows, the usual number for the ends of a 95% interval
RESAMPLES_AT_LEAST = 200  # on which the ends still move by less than a tenth of the interval
RESAMPLED_ROWS = 20_000_000  # in all: from 20,000 rows on there are fewer resamples, as each moves less
ROWS_AT_ONCE = 1_000_000  # of all resamples that are scored together: what is in memory at a time
CONFIDENCE = 0.95
DEFINED_SHARE = 0.5  # of the resamples in which a metric must be defined for an interval

type Interval = tuple[float, float]


def p_value(metric_name: str, truth: np.ndarray, predictions: Any, *, groups: np.ndarray | None = None) -> float:
    """How often these predictions would score as well by the metric if the labels had nothing to do with them.

    `truth` and `predictions` are as Metric.score takes them. A permutation test (Ojala and Garriga, JMLR 11, 2010):
    the share of shuffles of `truth` that score as well or better, `truth` itself among them. Near 0: something is
    learnt; 1: nothing is, or the metric is not defined. The same rows get the same shuffles. With `groups`, as
    resampled_scores() takes them, each group gets the labels of another one.
    """
    metric, shuffles = METRICS[metric_name], _shuffles(truth, groups)
    sign = 1 if metric.greater_is_better else -1
    with np.errstate(all="ignore"):
        reached = sign * metric.of(truth, predictions)
        shuffled = [sign * metric.of(next(shuffles), predictions) for _ in range(SHUFFLES)]
    worse = sum(score < reached - SAME for score in shuffled)  # nan is not
    return (1 + SHUFFLES - worse) / (1 + SHUFFLES)


def resampled_scores(
    metric_name: str, truth: np.ndarray, candidates: Sequence[Any], *, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """The scores of each candidate's predictions on resamples of the rows, (resamples,); nan where not defined.

    The bootstrap (Efron 1979): each resample draws as many rows as there are, with replacement. All candidates are
    scored on the same ones, so that differences of their scores are paired. The same rows get the same resamples.
    Rows that belong together tell less than as many others: with `groups`, (n,) the number of each row's from 0, as
    many groups are drawn as there are, each with all of its rows (Davison and Hinkley 1997, 3.8).
    """
    score = METRICS[metric_name].score
    with np.errstate(all="ignore"):
        chunks = [[score(truth, one, weights) for one in candidates] for weights in _resamples(len(truth), groups)]
    return [np.concatenate(of_one) for of_one in zip(*chunks, strict=True)]


def interval(scores: np.ndarray) -> Interval | None:
    """The middle 95% of resampled scores, or of differences of them (the percentile method); None where they are
    defined too seldom to say."""
    defined = scores[np.isfinite(scores)]
    if len(defined) < DEFINED_SHARE * len(scores) or not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def share_interval(share: float, rows: int) -> Interval:
    """The 95% interval of a share of so many rows by Wilson (1927). The bootstrap has none for a model without a
    mistake: 30 of 30 right rows do not show that no other row is wrong."""
    limits = scipy.stats.binomtest(round(share * rows), rows).proportion_ci(CONFIDENCE, method="wilson")
    return float(limits.low), float(limits.high)


def as_unsure_as_a_share(interval: Interval, share: float, rows: int) -> Interval:
    """An interval of a share of so many rows, widened to hold that of share_interval()."""
    low, high = share_interval(share, rows)
    return min(low, interval[0]), max(high, interval[1])


def gain_interval(metric_name: str, scores: np.ndarray, others: np.ndarray) -> Interval | None:
    """interval() of how much better `scores` are than `others` of the same resamples; positive is better."""
    sign = 1 if METRICS[metric_name].greater_is_better else -1
    return interval(sign * (scores - others))


def resample_count(rows: int) -> int:
    """How many bootstrap samples are drawn of so many rows: fewer of a large table."""
    return max(RESAMPLES_AT_LEAST, min(RESAMPLES, RESAMPLED_ROWS // max(rows, 1)))


def _shuffles(truth: np.ndarray, groups: np.ndarray | None) -> Iterator[np.ndarray]:
    """`truth` in random orders, without end. With groups each gets the labels of another one, in their order, repeated
    or cut to its own number of rows."""
    random = np.random.default_rng(0)
    if groups is None:
        while True:
            yield random.permutation(truth)
    by_group, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    begins, place = np.cumsum(sizes) - sizes, np.empty(len(truth), dtype=np.int64)
    place[by_group] = np.arange(len(truth)) - np.repeat(begins, sizes)  # of each row in its group
    while True:
        other = random.permutation(len(sizes))[groups]
        yield truth[by_group[begins[other] + place % sizes[other]]]


def _resamples(rows: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """How often each row is in each resample, some resamples at a time, (resamples, rows)."""
    drawn_units = rows if groups is None else int(groups.max()) + 1
    random, left = np.random.default_rng(0), resample_count(rows)
    at_once = max(1, ROWS_AT_ONCE // max(rows, 1))
    while left:
        count = min(at_once, left)
        drawn = random.integers(drawn_units, size=(count, drawn_units)) + np.arange(count)[:, None] * drawn_units
        times = np.bincount(drawn.ravel(), minlength=count * drawn_units).reshape(count, drawn_units)
        yield (times if groups is None else times[:, groups]).astype(np.float64)
        left -= count
