"""The pictures of a model, by matplotlib: each function returns a figure to log or to embed."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = ("#2f6f9f", "#c8553d", "#5b8c5a", "#8e6c8a", "#b08900", "#4d4d4d")
MOST_FEATURES = 20
MOST_CLASSES = 12  # curves and cell values of more are not to be read


def learning_curve(history: Mapping[str, Sequence[float]], *, best_round: int, metric: str) -> Figure:
    """One line for each part in `history`, a value per round; the round that was kept is marked."""
    figure, axes = _figure(6.4, 3.8)
    for color, (part, values) in zip(COLORS, history.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, label=part, color=color)
    axes.axvline(best_round, color="#999999", linewidth=1, linestyle="--", label=f"round {best_round} kept")
    axes.set(xlabel="boosting round", ylabel=metric, title="Learning curve")
    axes.legend(frameon=False)
    return figure


def feature_importance(gain: Mapping[str, float]) -> Figure:
    """Share of the total gain of the features that gained most, largest on top."""
    total = sum(gain.values()) or 1.0
    top = sorted(gain.items(), key=lambda item: item[1])[-MOST_FEATURES:]
    figure, axes = _figure(6.4, 1.2 + 0.34 * max(len(top), 2))
    bars = axes.barh([name for name, _ in top], [value / total for _, value in top], color=COLORS[0])
    axes.bar_label(bars, fmt="{:.1%}", padding=3)
    axes.set(xlabel="share of total gain", title="Feature importance")
    axes.margins(x=0.15)
    return figure


def confusion_matrix(counts: np.ndarray, labels: Sequence[str]) -> Figure:
    """`counts` (classes, classes): rows are the true classes, columns the predicted ones."""
    size = 2.6 + 0.55 * min(len(labels), MOST_CLASSES)
    figure, axes = _figure(size + 0.6, size)
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= MOST_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            dark = count > 0.5 * max(counts[row].sum(), 1)
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix (number of rows)")
    axes.spines[:].set_visible(False)
    return figure


def curves(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> Figure:
    """ROC and precision-recall of each class against the rest. A class with no row, or with all of them, has none."""
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay  # half a second that train does not pay

    figure = Figure(figsize=(9.0, 4.7), layout="constrained")
    roc, precision_recall = figure.subplots(1, 2)
    for color, (position, label) in zip(COLORS * 2, enumerate(classes[:MOST_CLASSES]), strict=False):
        positive = truth == label
        if positive.all() or not positive.any():
            continue
        for display, axes in ((RocCurveDisplay, roc), (PrecisionRecallDisplay, precision_recall)):
            score = probabilities[:, position]
            display.from_predictions(positive, score, ax=axes, name=str(label), curve_kwargs={"color": color})
    roc.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    precision_recall.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    for axes in (roc, precision_recall):
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return figure


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
