"""The pictures of an evaluation, each with a text that says what it shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from steps.core import classification_metrics, metrics
from steps.core.models import plots

NAMED_MISTAKES = 5


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`name` is that of the PNG's file, `alt` what somebody who does not see it is told."""

    name: str
    png: bytes
    alt: str


def of_classification(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]
) -> list[Picture]:
    """Confusion matrix, ROC, precision and recall, calibration; `truth` (n,), `probabilities` (n, classes)."""
    labels = [str(label) for label in classes]
    codes, predictions = metrics.codes_of(truth, classes), classification_metrics.Predictions(probabilities)
    counts = classification_metrics.confusion(codes, predictions)
    bins = classification_metrics.calibration_bins(codes, predictions)
    return [
        Picture(
            name="confusion_matrix",
            png=plots.png(plots.confusion_matrix(counts, labels)),
            alt=_of_counts(counts, labels),
        ),
        Picture(
            name="roc",
            png=plots.png(plots.roc(truth, probabilities, classes)),
            alt=f"ROC curves: area under the curve by class: {_areas(truth, probabilities, classes)}.",
        ),
        Picture(
            name="precision_recall",
            png=plots.png(plots.precision_recall(truth, probabilities, classes)),
            alt=f"Curves of precision and recall: average precision by class: "
            f"{_average_precisions(truth, probabilities, classes)}.",
        ),
        Picture(
            name="calibration",
            png=plots.png(plots.calibration(*bins)),
            alt="Calibration: " + "; ".join(_bin(*one) for one in zip(*bins, strict=True)) + ".",
        ),
    ]


def of_regression(truth: np.ndarray, predicted: np.ndarray) -> list[Picture]:
    """Predicted against true, residuals; both (n,)."""
    low, quarter, middle, three_quarters, high = np.quantile(truth - predicted, [0, 0.25, 0.5, 0.75, 1])
    return [
        Picture(
            name="predicted_against_true",
            png=plots.png(plots.predicted_against_true(truth, predicted)),
            alt=f"A point for each of {len(truth)} rows: true values from {truth.min():.4g} to {truth.max():.4g}, "
            f"predicted ones from {predicted.min():.4g} to {predicted.max():.4g}.",
        ),
        Picture(
            name="residuals",
            png=plots.png(plots.residuals(truth, predicted)),
            alt=f"True minus predicted value: half of the rows are between {quarter:.4g} and {three_quarters:.4g}, the "
            f"median is {middle:.4g}, all are between {low:.4g} and {high:.4g}.",
        ),
    ]


def _of_counts(counts: np.ndarray, labels: Sequence[str]) -> str:
    mistakes = [
        (int(count), f"{labels[row]} taken for {labels[column]} {count}")
        for (row, column), count in np.ndenumerate(counts)
        if row != column and count
    ]
    mistakes.sort(key=lambda mistake: -mistake[0])
    named = ", ".join(text for _, text in mistakes[:NAMED_MISTAKES])
    more = len(mistakes) - NAMED_MISTAKES
    other = f", and {more} other kinds" if more > 0 else ""
    right = f"{counts.trace()} of {counts.sum()} rows are predicted as their own class"
    return (
        f"Confusion matrix: {right}. Most frequent mistakes: {named}{other}."
        if named
        else f"Confusion matrix: {right}."
    )


def _areas(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> str:
    return _of_classes(roc_auc_score, truth, probabilities, classes)


def _average_precisions(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> str:
    return _of_classes(average_precision_score, truth, probabilities, classes)


def _of_classes(
    score: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str | int | bool],
) -> str:
    shown = plots.shown_classes(truth, classes)
    values = [f"{classes[code]} {score(truth == classes[code], probabilities[:, code]):.2f}" for code in shown]
    if not values:
        return "none, as the test part has one class"
    left_out = len(classes) - len(shown)
    return ", ".join(values) + (f"; {left_out} other classes are not shown" if left_out else "")


def _bin(stated: float, right: float, rows: int) -> str:
    return f"where {stated:.0%} was stated, {right:.0%} of {rows} rows {'is' if rows == 1 else 'are'} right"
