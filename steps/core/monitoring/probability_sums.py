"""What is kept of predicted probabilities: sums over rows, which add up, so that any number of rows is one pass.

Of each class there is a histogram of its probability. Its bins are of equal width in the log-odds, in which boosted
trees add up: so they are as fine near 0 and 1, where a sure model has most rows, as in the middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_BINS, FEWEST_BINS = 1_000, 100  # of a class
MOST_CELLS = 200_000  # bins of all classes together, as far as each has FEWEST_BINS
MOST_CLASSES = 300  # of which all pairs are kept
LARGEST_LOG_ODDS = 16.0  # of 1 - 1.1e-7, next to 1 in float32; what is beyond counts as this
CONFIDENCE_BINS = 100  # of equal width, of the probability of the predicted class


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbabilitySums:
    """Of `rows` with probabilities of the same classes. Arrays are (classes,), by the class

    predicted         rows that are predicted as it
    hits              sum of its probabilities over these: how many are right, if the probabilities are
    hits_variance     sum of p (1 - p) over these
    actual            sum of its probabilities over all rows: how many are of it, if the probabilities are right
    actual_variance   sum of p (1 - p) over all rows

    `confusion` is (classes, classes): how many rows that are predicted as each class (first axis) are of each (second
    axis), if the probabilities are right; (0, 0) where there are more than MOST_CLASSES. `counts` and `sums` are
    (classes, bins): the rows in each bin of its log-odds, and the sum of its probabilities there. `confidence` is
    (CONFIDENCE_BINS,): rows by the probability of the class that is predicted.
    """

    rows: int
    predicted: np.ndarray
    hits: np.ndarray
    hits_variance: np.ndarray
    actual: np.ndarray
    actual_variance: np.ndarray
    confusion: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray) -> "ProbabilitySums":
        """Of rows' probabilities, (n, classes), each row summing to 1."""
        rows, classes = probabilities.shape
        bins, best = bins_of(classes), probabilities.argmax(axis=1)
        variance = probabilities * (1 - probabilities)
        of_best = np.arange(rows), best
        cells = _bin(probabilities, bins) + np.arange(classes) * bins
        counts, sums = (
            np.bincount(cells.ravel(), weights, classes * bins).reshape(classes, bins)
            for weights in (None, probabilities.ravel())
        )
        return cls(
            rows=rows,
            predicted=np.bincount(best, minlength=classes),
            hits=np.bincount(best, probabilities[of_best], classes),
            hits_variance=np.bincount(best, variance[of_best], classes),
            actual=probabilities.sum(axis=0),
            actual_variance=variance.sum(axis=0),
            confusion=_confusion(probabilities, best),
            counts=counts,
            sums=sums,
            confidence=np.bincount(_confidence_bin(probabilities[of_best]), minlength=CONFIDENCE_BINS),
        )

    @classmethod
    def empty(cls, classes: int) -> "ProbabilitySums":
        """The sums of no row."""
        return cls.of(np.empty((0, classes)))

    def __add__(self, other: "ProbabilitySums") -> "ProbabilitySums":
        return ProbabilitySums(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})

    @property
    def accuracy(self) -> float:
        """The share of rows that are right, if the probabilities are."""
        return float(self.hits.sum() / self.rows)

    def confidence_shares(self, bins: int) -> np.ndarray:
        """The share of rows in each of `bins`, a divisor of CONFIDENCE_BINS, of the predicted class's probability."""
        shares: np.ndarray = self.confidence.reshape(bins, -1).sum(axis=1) / self.rows
        return shares


def bins_of(classes: int) -> int:
    """How many bins the histogram of each class has."""
    return max(FEWEST_BINS, min(MOST_BINS, MOST_CELLS // max(classes, 1)))


def matrix_of(column: pa.ChunkedArray | pa.Array, classes: Sequence[str | int | bool]) -> np.ndarray:
    """(n, classes) from a column of maps, as the predictions table has `probabilities`; no row may be missing. A class
    that a map does not name has probability 0."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no rows
        return np.empty((0, len(classes)))
    entries = np.diff(array.offsets.to_numpy())
    first = array.offsets[0].as_py()
    keys, items = (one.slice(first, int(entries.sum())) for one in (array.keys, array.items))
    labels = pa.array([str(label) for label in classes], pa.string())
    codes = pc.index_in(keys.cast(pa.string()), value_set=labels).fill_null(-1).to_numpy(zero_copy_only=False)
    matrix, known = np.zeros((len(array), len(classes))), codes >= 0
    rows = np.repeat(np.arange(len(array)), entries)
    matrix[rows[known], codes[known]] = items.to_numpy(zero_copy_only=False)[known]
    return matrix


def _confusion(probabilities: np.ndarray, best: np.ndarray) -> np.ndarray:
    classes = probabilities.shape[1]
    if classes > MOST_CLASSES:
        return np.zeros((0, 0))
    return np.stack([probabilities[best == code].sum(axis=0) for code in range(classes)])


def _bin(probabilities: np.ndarray, bins: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        log_odds = np.log(probabilities) - np.log1p(-probabilities)
    share = (np.clip(log_odds, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS) + LARGEST_LOG_ODDS) / (2 * LARGEST_LOG_ODDS)
    positions: np.ndarray = np.minimum(share * bins, bins - 1).astype(np.intp)
    return positions


def _confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """(0, 0.01] to (0.99, 1], so that bins of a tenth are those of calibration_bins()."""
    positions: np.ndarray = np.clip(np.ceil(confidence * CONFIDENCE_BINS) - 1, 0, CONFIDENCE_BINS - 1).astype(np.intp)
    return positions
