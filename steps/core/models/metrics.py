"""How good predictions are. A number that is not defined is left out: it is never nan, infinite or a stand-in."""

import re
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import pandas as pd

from steps.core.config import Metric

SMALLER_IS_BETTER = {"log_loss"}
LABEL_CHARACTERS = 200  # of a metric's name, which MLflow lets have 250
SHUFFLES = 99  # of the labels, so that the smallest share that by_chance() can answer is 1 in 100
SAME = 1e-9  # scores that differ by less are equal: that is how far the order of additions can move one


def scores(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> dict[str, float]:
    """Of labels `truth` (n,) and `probabilities` (n, classes): accuracy, macro averages, log loss (nats per row), AUC.

    Macro averages run over the classes that `truth` holds, whatever is predicted, so they are over the same classes for
    every model on the same rows. A class without a row in `truth` has no recall, and an F1 of 0 however right a model
    is, so it is in none of them; a row that is taken for it counts as missed by its own class. A class that is never
    predicted has no precision; in the average it counts as 0, as in scikit-learn, since an average without it would
    reward a model for never trying the rare class.

    AUC is one class against the rest, averaged over the classes, and needs all of them, and two at least, in `truth`.
    """
    predictions, codes = _Predictions(probabilities), _codes(truth, classes)
    found = {metric: predictions.score(metric, codes) for metric in get_args(Metric)}
    return {metric: value for metric, value in found.items() if np.isfinite(value)}


def by_chance(
    metric: Metric, truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]
) -> float:
    """How often these predictions would score as well by `metric` if the labels had nothing to do with them.

    That is the p-value of a permutation test (Ojala and Garriga, JMLR 11, 2010): the share of shuffles of `truth` that
    score as well or better, `truth` itself among them. Near 0: they know something of it; 1 where nothing is learnt,
    or the metric is not defined. The same rows get the same shuffles.
    """
    predictions, codes = _Predictions(probabilities), _codes(truth, classes)
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    reached = sign * predictions.score(metric, codes)
    random = np.random.default_rng(0)
    shuffled = [sign * predictions.score(metric, random.permutation(codes)) for _ in range(SHUFFLES)]
    worse = sum(score < reached - SAME for score in shuffled)  # nan is not
    return (1 + SHUFFLES - worse) / (1 + SHUFFLES)


def per_class(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of rows of each class.

    A class that is never predicted has no precision, one without rows no recall, one with neither no F1.
    """
    counts = confusion(truth, probabilities, classes)
    columns = dict(zip(("precision", "recall", "f1"), _by_class(counts), strict=True)) | {"rows": counts.sum(axis=1)}
    return {
        str(label): {name: float(column[i]) for name, column in columns.items() if np.isfinite(column[i])}
        for i, label in enumerate(classes)
    }


def confusion(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> np.ndarray:
    """How many rows of each class (first axis) are predicted as each class (second axis)."""
    return _Predictions(probabilities).confusion(_codes(truth, classes))


def names_of(labels: Iterable[str]) -> dict[str, str]:
    """Each label as it can be in the name of a metric to MLflow, and as no other label is."""
    names: dict[str, str] = {}
    for position, label in enumerate(labels):
        name = re.sub(r"[^\w .:-]", "_", label)[:LABEL_CHARACTERS]
        while name in names.values():
            name += f".{position}"
        names[label] = name
    return names


def baseline(train_labels: np.ndarray, classes: Sequence[str | int | bool], *, rows: int) -> np.ndarray:
    """(rows, classes): what one predicts who knows how frequent the classes are in training and nothing else."""
    shares = np.array([(train_labels == label).mean() for label in classes])
    return np.tile(shares, (rows, 1))


class _Predictions:
    """`probabilities` (n, classes), to be scored against labels as codes, (n,) positions in the classes.

    Not by scikit-learn, which takes 5 ms for a set of scores of 30 rows: by_chance() needs a hundred.
    """

    def __init__(self, probabilities: np.ndarray) -> None:
        self._probabilities = probabilities
        self._classes = probabilities.shape[1]
        self._predicted = probabilities.argmax(axis=1)
        self._ranks: np.ndarray | None = None

    def score(self, metric: Metric, codes: np.ndarray) -> float:
        """nan where the metric is not defined."""
        if metric == "log_loss":
            return self._log_loss(codes)
        if metric == "roc_auc":
            return self._roc_auc(codes)
        counts = self.confusion(codes)
        if metric == "accuracy":
            return float(counts.trace() / len(codes))
        averaged = dict(zip(("precision_macro", "recall_macro", "f1_macro"), _by_class(counts), strict=True))[metric]
        return float(np.nan_to_num(averaged)[counts.sum(axis=1) > 0].mean())

    def confusion(self, codes: np.ndarray) -> np.ndarray:
        cells = np.bincount(codes * self._classes + self._predicted, minlength=self._classes**2)
        return cells.reshape(self._classes, self._classes)

    def _log_loss(self, codes: np.ndarray) -> float:
        """Mean of -ln p(true class), p no smaller than the resolution of a double, as scikit-learn does."""
        true_class = self._probabilities[np.arange(len(codes)), codes]
        return float(-np.log(np.clip(true_class, np.finfo(float).eps, 1.0)).mean())

    def _roc_auc(self, codes: np.ndarray) -> float:
        """Mean over the classes of the share of pairs, one of the class and one of the rest, in the right order.

        By the sum of the ranks of the class's rows (Mann and Whitney); a tie counts half.
        """
        positives = np.bincount(codes, minlength=self._classes)
        negatives = len(codes) - positives
        if not (positives * negatives).all():
            return float("nan")
        if self._ranks is None:
            self._ranks = pd.DataFrame(self._probabilities).rank().to_numpy()
        sums = np.array([self._ranks[codes == i, i].sum() for i in range(self._classes)])
        return float(((sums - positives * (positives + 1) / 2) / (positives * negatives)).mean())


def _codes(truth: np.ndarray, classes: Sequence[str | int | bool]) -> np.ndarray:
    position = {label: i for i, label in enumerate(classes)}
    return np.array([position[label] for label in truth.tolist()], dtype=np.intp)


def _by_class(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class; nan where it is not defined."""
    hits, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return hits / predicted, hits / actual, 2 * hits / (actual + predicted)
