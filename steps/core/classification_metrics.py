"""How good predicted probabilities of classes are. metrics.METRICS names the metrics; here are their formulas.

Each takes the true classes as codes, (n,) positions among the classes, the Predictions, and `weights` (samples, n): how
often each row is in each sample. It gives the score of each sample, (samples,), nan where it is not defined. So a
hundred bootstrap samples take little more than one, which scikit-learn (5 ms for the scores of 30 rows) has no way for.

Averages over classes run over those that have rows in the sample.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np

from steps.core.regression_metrics import average

CALIBRATION_BINS = 10
LEAST_PROBABILITY = float(np.finfo(float).eps)  # of the true class in a log loss, as scikit-learn has it
CLASS_MEASURES = ("precision", "recall", "f1")  # of a single class


class Predictions:
    """`probabilities` (n, classes), and what metrics need of them again and again: a p-value takes a hundred scores.

    `labels` are those of the classes in their order, by which a metric of one class finds it."""

    def __init__(self, probabilities: np.ndarray, labels: Sequence[str | int | bool] = ()) -> None:
        self.probabilities = probabilities
        self.labels = list(map(str, labels))
        self.classes = probabilities.shape[1]
        self._ascending: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def predicted(self) -> np.ndarray:
        """The position of each row's most probable class, (n,)."""
        predicted: np.ndarray = self.probabilities.argmax(axis=1)
        return predicted

    def ascending(self, code: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows by the probability of a class, (n,), and where in them each different probability begins."""
        if code not in self._ascending:
            order = np.argsort(self.probabilities[:, code], kind="stable")
            values = self.probabilities[order, code]
            self._ascending[code] = (order, np.flatnonzero(np.r_[True, values[1:] != values[:-1]]))
        return self._ascending[code]


def accuracy(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of the rows whose class is the predicted one, 0 to 1; (samples,)."""
    return average(codes == predictions.predicted, weights)


def precision_macro(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes of the share of the rows predicted as one that are of it; (samples,)."""
    return _macro_average(codes, predictions, weights, "precision")


def recall_macro(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes of the share of its rows that are predicted as it; (samples,)."""
    return _macro_average(codes, predictions, weights, "recall")


def f1_macro(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes of the harmonic mean of precision and recall; (samples,)."""
    return _macro_average(codes, predictions, weights, "f1")


def log_loss(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean of log_losses(), in nats."""
    return average(log_losses(codes, predictions.probabilities), weights)


def brier(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean of squared_distances(): 0 is perfect, 2 the worst. Of two classes it is twice what scikit-learn gives by
    default."""
    return average(squared_distances(codes, predictions.probabilities), weights)


def roc_auc(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes of the share of pairs, one of the class and one of the rest, in the right order.

    A tie counts half (Mann and Whitney).
    """
    return _mean_of_areas(codes, predictions, weights, "roc_auc")


def average_precision(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes of the area under precision and recall: the precision at each probability of a row of the
    class, averaged over these rows, as scikit-learn does."""
    return _mean_of_areas(codes, predictions, weights, "average_precision")


def of_class(
    codes: np.ndarray, predictions: Predictions, weights: np.ndarray, *, measure: str, label: str
) -> np.ndarray:
    """One of CLASS_MEASURES or AREAS of a single class against the rest, (samples,).

    nan where a sample has no row of the class, or for an area none of another one. As in a macro average, a class that
    is never predicted has a precision of 0: else a model that never tries it could not be told from one that does.
    """
    if label not in predictions.labels:
        return np.full(len(weights), np.nan)
    code = predictions.labels.index(label)
    if measure in AREAS:
        return _area(codes, predictions, weights, code, measure)
    of_classes = by_class(codes, predictions, weights)
    return np.where(of_classes["rows"][:, code] > 0, np.nan_to_num(of_classes[measure][:, code]), np.nan)


def class_in(name: str) -> tuple[str, str] | None:
    """The measure and the class of a metric of one class, as in recall.fraud; None where it is no such."""
    measure, _, label = name.partition(".")
    return (measure, label) if label and (measure in CLASS_MEASURES or measure in AREAS) else None


def unknown_classes(names: Iterable[str], classes: Sequence[str]) -> list[str]:
    """The classes that metrics by these names are of and that are none of `classes`."""
    labels = [of_class[1] for of_class in map(class_in, names) if of_class]
    return [label for label in labels if label not in classes]


def expected_calibration_error(codes: np.ndarray, predictions: Predictions) -> float:
    """How far the probability of the predicted class is from how often it is right (Guo et al., ICML 2017).

    The mean over the rows of |share of right rows in the row's bin - mean probability in it|: 0 is perfect, 1 the
    worst.
    """
    stated, right, rows = calibration_bins(codes, predictions)
    return float(np.average(np.abs(right - stated), weights=rows))


def calibration_bins(codes: np.ndarray, predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin that has rows: the mean probability of the predicted class, the share that is right, the rows.

    Rows are put into ten bins of equal width by that probability, (0, 0.1] to (0.9, 1].
    """
    stated, right = predictions.probabilities.max(axis=1), codes == predictions.predicted
    bins = np.clip(np.ceil(stated * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1).astype(np.intp)
    rows, stated_sum, right_sum = (np.bincount(bins, weights, CALIBRATION_BINS) for weights in (None, stated, right))
    some = rows > 0
    return stated_sum[some] / rows[some], right_sum[some] / rows[some], rows[some]


def log_losses(codes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """-ln of the probability of the true class, no smaller than LEAST_PROBABILITY, (n,) nats."""
    losses: np.ndarray = -np.log(np.clip(_of_true_class(codes, probabilities), LEAST_PROBABILITY, 1.0))
    return losses


def squared_distances(codes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared differences between probabilities and truth, summed over the classes, (n,) (Brier 1950)."""
    distances: np.ndarray = np.square(probabilities).sum(axis=1) - 2 * _of_true_class(codes, probabilities) + 1
    return distances


def confusion(codes: np.ndarray, predictions: Predictions) -> np.ndarray:
    """How many rows of each class (first axis) are predicted as each class (second axis)."""
    cells = np.bincount(codes * predictions.classes + predictions.predicted, minlength=predictions.classes**2)
    return cells.reshape(predictions.classes, predictions.classes)


def measures(hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """The CLASS_MEASURES by how many rows of a class are predicted as it, are of it, and are predicted as it; nan where
    one is not defined."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        values = (hits / predicted, hits / actual, 2 * hits / (actual + predicted))
    return dict(zip(CLASS_MEASURES, values, strict=True))


def by_class(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The CLASS_MEASURES and the number of `rows` of each class in each sample, (samples, classes); nan where one is
    not defined."""

    def of_classes(positions: np.ndarray, of_rows: np.ndarray) -> np.ndarray:
        counts = [np.bincount(positions, weights=sample, minlength=predictions.classes) for sample in of_rows]
        return np.stack(counts)

    is_hit = codes == predictions.predicted
    hits = of_classes(codes[is_hit], weights[:, is_hit])
    actual, predicted = of_classes(codes, weights), of_classes(predictions.predicted, weights)
    return measures(hits, actual, predicted) | {"rows": actual}


def _macro_average(codes: np.ndarray, predictions: Predictions, weights: np.ndarray, measure: str) -> np.ndarray:
    of_classes = by_class(codes, predictions, weights)
    is_there = of_classes["rows"] > 0
    return _mean_where(is_there, np.nan_to_num(of_classes[measure]))


def _area_under_roc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    below = np.cumsum(negatives, axis=1) - negatives
    pairs: np.ndarray = (positives * (below + negatives / 2)).sum(axis=1)
    share: np.ndarray = pairs / (positives.sum(axis=1) * negatives.sum(axis=1))
    return share


def _area_under_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    hits, misses = (np.cumsum(rows[:, ::-1], axis=1)[:, ::-1] for rows in (positives, negatives))
    precision = hits / np.maximum(hits + misses, 1)  # 0 where no row is as probable
    mean: np.ndarray = (positives * precision).sum(axis=1) / positives.sum(axis=1)
    return mean


# Of a class against the rest, by how many rows of each have each of its probabilities, from the smallest up, both
# (samples, probabilities); (samples,).
AREAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "roc_auc": _area_under_roc,
    "average_precision": _area_under_precision,
}


def _area(codes: np.ndarray, predictions: Predictions, weights: np.ndarray, code: int, name: str) -> np.ndarray:
    """One of AREAS of a class, (samples,); nan where a sample has no row of it or none of the rest."""
    order, begins = predictions.ascending(code)
    ordered, is_of_class = weights[:, order], codes[order] == code
    of_class, of_rest = (np.add.reduceat(ordered * side, begins, axis=1) for side in (is_of_class, ~is_of_class))
    has_both = of_class.any(axis=1) & of_rest.any(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return np.where(has_both, AREAS[name](of_class, of_rest), np.nan)


def _mean_of_areas(codes: np.ndarray, predictions: Predictions, weights: np.ndarray, name: str) -> np.ndarray:
    areas = np.full((len(weights), predictions.classes), np.nan)
    for code in np.unique(codes):
        areas[:, code] = _area(codes, predictions, weights, code, name)
    return _mean_where(~np.isnan(areas), areas)


def _of_true_class(codes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    of_true_class: np.ndarray = probabilities[np.arange(len(codes)), codes]
    return of_true_class


def _mean_where(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean over the second axis of the `values` that are `chosen`; nan where none is."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        means: np.ndarray = np.where(chosen, values, 0).sum(axis=1) / chosen.sum(axis=1)
    return means
