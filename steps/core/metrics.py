"""How good predictions are, by scikit-learn. A number that cannot be had is left out, never nan or infinite."""

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn import metrics as sklearn_metrics

SMALLER_IS_BETTER = {"log_loss"}
LABEL_CHARACTERS = 200  # of a metric's name, which MLflow lets have 250


def scores(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> dict[str, float]:
    """Of labels `truth` (n,) and `probabilities` (n, classes): accuracy, macro averages, log loss (nats per row), AUC.

    AUC is one class against the rest, averaged over the classes, and needs all of them in `truth`. Averages are
    over the classes that `truth` holds.
    """
    predicted = np.asarray(classes)[probabilities.argmax(axis=1)]
    present = sorted(set(truth.tolist()), key=list(classes).index)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=present, average="macro", zero_division=0.0
    )
    found = {
        "accuracy": sklearn_metrics.accuracy_score(truth, predicted),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "log_loss": _log_loss(truth, probabilities, classes),
    }
    if len(present) == len(classes):
        positives = truth[:, None] == np.asarray(classes)[None, :]
        found["roc_auc"] = np.mean(
            [sklearn_metrics.roc_auc_score(positives[:, i], probabilities[:, i]) for i in range(len(classes))]
        )
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def per_class(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of rows (support) of each class."""
    predicted = np.asarray(classes)[probabilities.argmax(axis=1)]
    columns = sklearn_metrics.precision_recall_fscore_support(truth, predicted, labels=list(classes), zero_division=0.0)
    names = ("precision", "recall", "f1", "rows")
    return {
        str(label): {name: float(column[i]) for name, column in zip(names, columns, strict=True)}
        for i, label in enumerate(classes)
    }


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


def _log_loss(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> float:
    """Mean of -ln p(true class), p no smaller than the resolution of a double, as scikit-learn does."""
    position = {label: i for i, label in enumerate(classes)}
    true_class = probabilities[np.arange(len(truth)), [position[label] for label in truth.tolist()]]
    return float(-np.log(np.clip(true_class, np.finfo(float).eps, 1.0)).mean())
