"""How good predictions are. METRICS is the one place that says which metrics there are, and which way is better.

A number that is not defined is left out: it is never nan, infinite or a stand-in. Beside the config, which takes the
names in METRICS for `gate.metric`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

LABEL_CHARACTERS = 200  # of a metric's name, which MLflow lets have 250
SHUFFLES = 99  # of the labels, so that the smallest p-value is 1 in 100
CLASS_MEASURES = ("precision", "recall", "f1")  # of a single class
SAME = 1e-9  # scores that differ by less are equal: that is how far the order of additions can move one

type Labels = Sequence[str | int | bool]


class Predictions:
    """`probabilities` (n, classes), and what metrics need of them again and again: a p-value takes a hundred scores.

    Not by scikit-learn, which takes 5 ms for a set of scores of 30 rows.
    """

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities
        self.classes = probabilities.shape[1]

    @cached_property
    def predicted(self) -> np.ndarray:
        """The position of each row's most probable class, (n,)."""
        predicted: np.ndarray = self.probabilities.argmax(axis=1)
        return predicted

    @cached_property
    def ranks(self) -> np.ndarray:
        """The rank of each probability among those of its class, (n, classes); equal ones share their mean."""
        ranks: np.ndarray = pd.DataFrame(self.probabilities).rank().to_numpy()
        return ranks

    def confusion(self, codes: np.ndarray) -> np.ndarray:
        """How many rows of each class (first axis) are predicted as each class (second axis)."""
        cells = np.bincount(codes * self.classes + self.predicted, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes)


def accuracy(codes: np.ndarray, predictions: Predictions) -> float:
    return float((codes == predictions.predicted).mean())


def precision_macro(codes: np.ndarray, predictions: Predictions) -> float:
    return _macro_average(codes, predictions, "precision")


def recall_macro(codes: np.ndarray, predictions: Predictions) -> float:
    return _macro_average(codes, predictions, "recall")


def f1_macro(codes: np.ndarray, predictions: Predictions) -> float:
    return _macro_average(codes, predictions, "f1")


def log_loss(codes: np.ndarray, predictions: Predictions) -> float:
    """Mean of -ln p(true class) in nats, p no smaller than the resolution of a double, as scikit-learn does."""
    true_class = predictions.probabilities[np.arange(len(codes)), codes]
    return float(-np.log(np.clip(true_class, np.finfo(float).eps, 1.0)).mean())


def roc_auc(codes: np.ndarray, predictions: Predictions) -> float:
    """Mean over the classes of the share of pairs, one of the class and one of the rest, in the right order.

    By the sum of the ranks of the class's rows (Mann and Whitney); a tie counts half.
    """
    positives = np.bincount(codes, minlength=predictions.classes)
    negatives = len(codes) - positives
    if not (positives * negatives).all():
        return float("nan")
    sums = np.array([predictions.ranks[codes == code, code].sum() for code in range(predictions.classes)])
    return float(((sums - positives * (positives + 1) / 2) / (positives * negatives)).mean())


@dataclass(frozen=True, kw_only=True)
class Metric:
    """`score` takes the true classes as codes, (n,) positions in the model's classes, and the predictions. It returns
    nan where the metric is not defined; `needs` says which rows it takes to be."""

    score: Callable[[np.ndarray, Predictions], float]
    greater_is_better: bool
    needs: str = ""


METRICS = {
    "accuracy": Metric(score=accuracy, greater_is_better=True),
    "f1_macro": Metric(score=f1_macro, greater_is_better=True),
    "precision_macro": Metric(score=precision_macro, greater_is_better=True),
    "recall_macro": Metric(score=recall_macro, greater_is_better=True),
    "log_loss": Metric(score=log_loss, greater_is_better=False),
    "roc_auc": Metric(score=roc_auc, greater_is_better=True, needs="rows of every class"),
}


def scores(truth: np.ndarray, probabilities: np.ndarray, classes: Labels) -> dict[str, float]:
    """Every metric that is defined, of labels `truth` (n,) and `probabilities` (n, classes).

    Macro averages run over the classes that `truth` holds, whatever is predicted, so they are over the same classes for
    every model on the same rows. A class without a row in `truth` has no recall, and an F1 of 0 however right a model
    is, so it is in none of them; a row that is taken for it counts as missed by its own class. A class that is never
    predicted has no precision; in the average it counts as 0, as in scikit-learn, since an average without it would
    reward a model for never trying the rare class.
    """
    codes, predictions = _codes(truth, classes), Predictions(probabilities)
    values = {name: metric.score(codes, predictions) for name, metric in METRICS.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def permutation_p_value(metric_name: str, truth: np.ndarray, probabilities: np.ndarray, classes: Labels) -> float:
    """How often these predictions would score as well by the metric if the labels had nothing to do with them.

    By a permutation test (Ojala and Garriga, JMLR 11, 2010): the share of shuffles of `truth` that score as well or
    better, `truth` itself among them. Near 0: they know something of it; 1: nothing is learnt, or the metric is not
    defined. The same rows get the same shuffles.
    """
    metric, predictions, codes = METRICS[metric_name], Predictions(probabilities), _codes(truth, classes)
    sign = 1 if metric.greater_is_better else -1
    reached = sign * metric.score(codes, predictions)
    random = np.random.default_rng(0)
    shuffled = [sign * metric.score(random.permutation(codes), predictions) for _ in range(SHUFFLES)]
    worse = sum(score < reached - SAME for score in shuffled)  # nan is not
    return (1 + SHUFFLES - worse) / (1 + SHUFFLES)


def per_class(truth: np.ndarray, probabilities: np.ndarray, classes: Labels) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of rows of each class.

    A class that is never predicted has no precision, one without rows no recall, one with neither no F1.
    """
    counts = confusion(truth, probabilities, classes)
    columns = dict(zip(CLASS_MEASURES, _by_class(counts), strict=True)) | {"rows": counts.sum(axis=1)}
    return {
        str(label): {name: float(column[i]) for name, column in columns.items() if np.isfinite(column[i])}
        for i, label in enumerate(classes)
    }


def confusion(truth: np.ndarray, probabilities: np.ndarray, classes: Labels) -> np.ndarray:
    """How many rows of each class (first axis) are predicted as each class (second axis)."""
    return Predictions(probabilities).confusion(_codes(truth, classes))


def names_of(labels: Iterable[str]) -> dict[str, str]:
    """Each label as it can be in the name of a metric to MLflow, and as no other label is."""
    names: dict[str, str] = {}
    for position, label in enumerate(labels):
        name = re.sub(r"[^\w .:-]", "_", label)[:LABEL_CHARACTERS]
        while name in names.values():
            name += f".{position}"
        names[label] = name
    return names


def baseline(train_labels: np.ndarray, classes: Labels, *, rows: int) -> np.ndarray:
    """(rows, classes): what one predicts who knows how frequent the classes are in training and nothing else."""
    shares = np.array([(train_labels == label).mean() for label in classes])
    return np.tile(shares, (rows, 1))


def _codes(truth: np.ndarray, classes: Labels) -> np.ndarray:
    position = {label: code for code, label in enumerate(classes)}
    return np.array([position[label] for label in truth.tolist()], dtype=np.intp)


def _macro_average(codes: np.ndarray, predictions: Predictions, measure: str) -> float:
    """The mean of a measure over the classes that have rows."""
    counts = predictions.confusion(codes)
    of_classes = _by_class(counts)[CLASS_MEASURES.index(measure)]
    return float(np.nan_to_num(of_classes)[counts.sum(axis=1) > 0].mean())


def _by_class(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The CLASS_MEASURES of each class; nan where one is not defined."""
    hits, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return hits / predicted, hits / actual, 2 * hits / (actual + predicted)
