"""The pictures of a model, by matplotlib: each function returns a figure to log or to embed.

They are as narrow as a phone, and can be told apart without colours.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from steps.core.config_tune import Range
from steps.core.metrics import METRICS
from steps.core.models.trials import Trial

# Safe for the colour-blind, without its yellow, which is too light for a line (Okabe and Ito, 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", ":", "-.")
GRAY = "#767676"  # the lightest that can be read on white
MOST_FEATURES = 20
MOST_CLASSES = 12  # cell values of more are not to be read
MOST_CURVES = 7  # as many as there are colours
MOST_POINTS = 5_000  # of a scatter plot: the rows are in an order of their hashes, so the first are a sample
LABEL_CHARACTERS = 18
DOTS_PER_INCH = 150
PALETTE = 64  # colours of a PNG, which is a third of its size for it


def learning_curve(history: Mapping[str, Sequence[float]], *, best_round: int, metric: str) -> Figure:
    """One line for each part in `history`, a value per round; the round that was kept is marked."""
    figure, axes = _figure(6.4, 3.8)
    for color, line, (part, values) in zip(COLORS, LINES, history.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, label=part, color=color, linestyle=line)
    axes.axvline(best_round, color=GRAY, linewidth=1, linestyle=":", label=f"round {best_round} kept")
    axes.set(xlabel="boosting round", ylabel=metric, title="Learning curve")
    axes.legend(frameon=False)
    return figure


def feature_importance(gain: Mapping[str, float]) -> Figure:
    """Share of the total gain of the features that gained most, largest on top."""
    total = sum(gain.values()) or 1.0
    top = sorted(gain.items(), key=lambda item: item[1])[-MOST_FEATURES:]
    figure, axes = _figure(6.4, 1.2 + 0.34 * max(len(top), 2))
    bars = axes.barh([_label(name, 60) for name, _ in top], [value / total for _, value in top], color=COLORS[0])
    axes.bar_label(bars, fmt="{:.1%}", padding=3)
    axes.set(xlabel="share of total gain", title="Feature importance")
    axes.margins(x=0.15)
    return figure


def search_history(trials: Sequence[Trial], best: Trial, *, metric: str) -> Figure:
    """The score of each trial that has one, in their order, and the best so far; pruned trials are marks below."""
    figure, axes = _figure(6.4, 3.8)
    scored = [(trial.number, trial.score) for trial in trials if trial.score is not None]
    numbers, scores = [number for number, _ in scored], [score for _, score in scored]
    axes.scatter(numbers, scores, s=16, color=COLORS[0], label="trial")
    so_far = np.maximum.accumulate if METRICS[metric].greater_is_better else np.minimum.accumulate
    if scored:
        axes.step(numbers, so_far(scores), where="post", color=COLORS[1], label="best so far")
    pruned = [trial.number for trial in trials if trial.state == "pruned"]
    if pruned:
        axes.plot(
            pruned, [0.02] * len(pruned), "|", color="#777777", transform=axes.get_xaxis_transform(), label="pruned"
        )
    axes.axvline(best.number, color="#999999", linewidth=1, linestyle="--", label=f"trial {best.number} is best")
    axes.set(xlabel="trial", ylabel=metric, title="Search for hyperparameters")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def parallel_coordinates(trials: Sequence[Trial], best: Trial, ranges: Mapping[str, Range], *, metric: str) -> Figure:
    """A line for each trial that has a score, through its hyperparameters and its score; the best is drawn thick, the
    config's own dashed.

    An axis goes from the smallest to the largest value that was tried; it is logarithmic where the search is.
    """
    scored = sorted((t for t in trials if t.score is not None), key=lambda t: t.score or 0.0)
    if not METRICS[metric].greater_is_better:
        scored.reverse()
    figure, axes = _figure(1.3 * (len(ranges) + 1) + 1.2, 4.4)
    columns = {name: ([t.parameters[name] for t in scored], limits.log) for name, limits in ranges.items()}
    columns[metric] = ([t.score for t in scored if t.score is not None], False)
    heights = np.array([_heights(values, log=log) for values, log in columns.values()])
    colors = colormaps["viridis"](np.linspace(0.9, 0.0, len(scored)))  # the better, the darker
    for position, (trial, color) in enumerate(zip(scored, colors, strict=True)):
        style: dict[str, Any] = {"color": color, "linewidth": 1, "alpha": 0.6}
        if trial.number == 0:
            style = {"color": "black", "linewidth": 2, "linestyle": "--", "zorder": 3, "label": "the config's own"}
        if trial is best:
            style |= {
                "color": COLORS[1],
                "linewidth": 3,
                "alpha": 1,
                "zorder": 4,
                "label": f"trial {trial.number}: best",
            }
        axes.plot(range(len(columns)), heights[:, position], **style)
    for position, (values, _) in enumerate(columns.values()):
        axes.axvline(position, color="#999999", linewidth=1, zorder=1)
        axes.text(position, -0.03, f"{min(values):.3g}", ha="center", va="top", fontsize=8)
        axes.text(position, 1.03, f"{max(values):.3g}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(columns)), list(columns), rotation=20, ha="right")
    axes.set(ylim=(-0.12, 1.12), yticks=[], title="Hyperparameters of the trials; the darker, the better")
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return figure


def confusion_matrix(counts: np.ndarray, labels: Sequence[str]) -> Figure:
    """`counts` (classes, classes): rows are the true classes, columns the predicted ones."""
    readable = len(labels) <= MOST_CLASSES
    size = 2.4 + (0.4 * len(labels) if readable else 0.07 * min(len(labels), 100))
    figure, axes = _figure(max(size, 4.2), max(size - 0.2, 3.2))
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    if readable:
        for (row, column), count in np.ndenumerate(counts):
            dark = count > 0.5 * max(counts[row].sum(), 1)
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    names, positions = [_label(label) for label in labels], range(len(labels))
    font = {"fontsize": 10 if readable else 5}
    if len(labels) <= 100:
        axes.set_xticks(positions, names, rotation=90 if not readable else 30, ha="right" if readable else "center")
        axes.set_yticks(positions, names)
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set(**font)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix (rows)")
    axes.spines[:].set_visible(False)
    return figure


def roc(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> Figure:
    """The ROC curve of each of shown_classes() against the rest."""
    figure, axes = _curves(RocCurveDisplay, truth, probabilities, classes)
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    return figure


def precision_recall(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str | int | bool]) -> Figure:
    """The curve of precision and recall of each of shown_classes() against the rest."""
    figure, axes = _curves(PrecisionRecallDisplay, truth, probabilities, classes)
    axes.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    return figure


def shown_classes(truth: np.ndarray, classes: Sequence[str | int | bool]) -> list[int]:
    """The positions of the classes that curves are drawn of: those with most rows; one with none, or all, has none."""
    counts = np.array([int((truth == label).sum()) for label in classes])
    frequent_first = [code for code in np.argsort(-counts, kind="stable").tolist() if 0 < counts[code] < len(truth)]
    return sorted(frequent_first[:MOST_CURVES])


def calibration(stated: np.ndarray, happened: np.ndarray, rows: np.ndarray) -> Figure:
    """Of each bin of rows the mean probability that was stated, (bins,), and the share in which it came true."""
    figure, axes = _figure(4.2, 3.9)
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":", label="perfect")
    axes.plot(stated, happened, color=COLORS[0], linewidth=1.5, label="this version")
    axes.scatter(stated, happened, s=20 + 180 * rows / max(rows.max(initial=1), 1), color=COLORS[0], alpha=0.7)
    axes.set(xlabel="stated probability of the prediction", ylabel="share that is right", title="Calibration")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.legend(frameon=False, loc="upper left")
    return figure


def predicted_against_true(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """A point for each row of a regression, both (n,); on the line the two are equal."""
    figure, axes = _figure(4.2, 3.9)
    axes.scatter(truth[:MOST_POINTS], predicted[:MOST_POINTS], s=12, alpha=0.6, color=COLORS[0], linewidths=0)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=GRAY, linewidth=1, linestyle=":")
    axes.set(xlabel="true", ylabel="predicted", title="Predicted against true")
    return figure


def residuals(truth: np.ndarray, predicted: np.ndarray) -> Figure:
    """How many rows of a regression are how far off."""
    figure, axes = _figure(4.2, 3.4)
    axes.hist(truth - predicted, bins=min(40, max(5, len(truth) // 5)), color=COLORS[0])
    axes.axvline(0, color=GRAY, linewidth=1, linestyle=":")
    axes.set(xlabel="true - predicted", ylabel="rows", title="Residuals")
    return figure


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG with a small palette."""
    from PIL import Image  # matplotlib's own; train does not need it

    figure.set_dpi(DOTS_PER_INCH)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it
        canvas.draw()
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
    image.convert("RGB").quantize(PALETTE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _curves(
    display: type[RocCurveDisplay | PrecisionRecallDisplay],
    truth: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str | int | bool],
) -> tuple[Figure, Axes]:
    figure, axes = _figure(4.2, 3.8 + 0.2 * len(shown_classes(truth, classes)))
    for color, line, position in zip(COLORS, cycle(LINES), shown_classes(truth, classes), strict=False):
        display.from_predictions(
            truth == classes[position],
            probabilities[:, position],
            ax=axes,
            name=_label(classes[position]),
            curve_kwargs={"color": color, "linestyle": line},
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16))  # below the curves
    return figure, axes


def _label(text: object, characters: int = LABEL_CHARACTERS) -> str:
    """A user's text as it can stand in a picture: on a line, not too long, and no formula."""
    line = " ".join(str(text).split())
    half = characters // 2  # long labels often differ only at their ends
    clipped = line if len(line) <= characters else f"{line[:half]}…{line[1 - half :]}"
    return clipped.replace("$", r"\$")


def _heights(values: Sequence[float], *, log: bool) -> np.ndarray:
    """Values between 0 for the smallest and 1 for the largest of them; 0.5 where all are the same."""
    numbers = np.array(values, dtype=np.float64)
    if log and (numbers > 0).any():  # a config's own value may be 0: it is drawn with the smallest
        numbers = np.log(np.maximum(numbers, numbers[numbers > 0].min()))
    spread = np.ptp(numbers)
    return (numbers - numbers.min()) / spread if spread else np.full(len(numbers), 0.5)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
