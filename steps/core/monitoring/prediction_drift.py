"""Whether a model answers otherwise than it did on the test part: which classes or numbers, and how sure it is.

The size of a difference decides, by the population stability index less what chance makes of it, once chance alone does
not explain the difference: so few rows raise no alarm, and neither does the smallest difference of millions. Rows that
belong together count for as many as are independent, which `rows` say of both sides where they are fewer.
"""

from collections.abc import Sequence

import numpy as np

from steps.core.config_monitor_quality import Quality
from steps.core.monitoring import statistics
from steps.core.monitoring.findings import Finding, Level
from steps.core.monitoring.groups import intraclass_correlation

SUBJECT = "prediction"
CONFIDENCE_BINS = 10  # of equal width, of the probability of the predicted class
VALUE_BINS = 10  # of a regression's predictions, between quantiles of those on the test part
SIGNIFICANCE_LEVEL = 0.005  # of one test, where the caller knows of no other
SHOWN = 3  # bins that moved most, in a reason
MOST_INDICATORS = 30  # bins in which rows of one group are held against each other

type Sides = tuple[float, float]  # as how many independent rows the test part and the window count


def edges_of(predicted: np.ndarray) -> np.ndarray:
    """Between VALUE_BINS bins that hold as many of these predictions each, (bins - 1,); fewer where many are equal."""
    return np.unique(np.quantile(predicted, np.arange(1, VALUE_BINS) / VALUE_BINS))


def counts_of(predicted: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many of these predictions are in each bin, (len(edges) + 1,); counts of parts add up."""
    return np.bincount(np.searchsorted(edges, predicted, side="left"), minlength=len(edges) + 1)


def correlations(output: np.ndarray, edges: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """How alike the predictions of rows of one group are (groups.intraclass_correlation), by what is compared of them:
    of probabilities (n, classes) "classes" and "confidence", of numbers (n,) "values", in bins between `edges`."""
    if output.ndim == 1:
        positions = {"values": np.searchsorted(edges, output, side="left")}
    else:
        confidence = np.ceil(output.max(axis=1) * CONFIDENCE_BINS).astype(np.intp)
        positions = {"classes": output.argmax(axis=1), "confidence": confidence}
    return {what: intraclass_correlation(groups, _indicators(of_rows)) for what, of_rows in positions.items()}


def _indicators(positions: np.ndarray) -> np.ndarray:
    """Whether each row is in each of the bins that have most rows, (n, bins) bool."""
    bins, rows = np.unique(positions, return_counts=True)
    frequent: np.ndarray = positions[:, None] == bins[np.argsort(-rows, kind="stable")[:MOST_INDICATORS]]
    return frequent


def of_classes(
    reference: np.ndarray,
    window: np.ndarray,
    *,
    classes: Sequence[str | int | bool],
    settings: Quality,
    rows: Sides | None = None,
    significance: float = SIGNIFICANCE_LEVEL,
) -> Finding:
    """What became of the predicted classes, by their counts, (classes,). `significance` is the largest p-value of a
    difference that chance does not explain."""
    names = list(map(str, classes))
    return _finding(reference, window, rows, names=names, what="classes", settings=settings, significance=significance)


def of_confidence(
    reference: np.ndarray,
    window: np.ndarray,
    *,
    settings: Quality,
    rows: Sides | None = None,
    significance: float = SIGNIFICANCE_LEVEL,
) -> Finding:
    """What became of the probability of the predicted class, by counts of bins of equal width in which CONFIDENCE_BINS
    divides (ProbabilitySums.confidence)."""
    before, now = (side.reshape(CONFIDENCE_BINS, -1).sum(axis=1) for side in (reference, window))
    names = [f"probability {i / CONFIDENCE_BINS:g} to {(i + 1) / CONFIDENCE_BINS:g}" for i in range(CONFIDENCE_BINS)]
    return _finding(before, now, rows, names=names, what="confidence", settings=settings, significance=significance)


def of_values(
    reference: np.ndarray,
    window: np.ndarray,
    edges: np.ndarray,
    *,
    settings: Quality,
    rows: Sides | None = None,
    significance: float = SIGNIFICANCE_LEVEL,
) -> Finding:
    """What became of a regression's predictions, by counts_of() these `edges`."""
    ends = [f"{edge:.4g}" for edge in edges]
    names = [f"{low} to {high}" for low, high in zip(ends[:-1], ends[1:], strict=True)]
    names = [f"up to {ends[0]}", *names, f"above {ends[-1]}"] if ends else ["all"]
    return _finding(reference, window, rows, names=names, what="values", settings=settings, significance=significance)


def _finding(
    reference: np.ndarray,
    window: np.ndarray,
    rows: Sides | None,
    *,
    names: Sequence[str],
    what: str,
    settings: Quality,
    significance: float,
) -> Finding:
    fewest = int(min(reference.sum(), window.sum()))
    if fewest < settings.predictions_at_least:
        where = "the test part" if reference.sum() == fewest else "the window"
        needed = f"monitor.quality.predictions_at_least is {settings.predictions_at_least}"
        reason = f"{where} has {fewest} predictions, too few to compare their {what}: {needed}"
        return Finding(level="too little data", subject=SUBJECT, reason=reason)
    n, m = rows or (float(reference.sum()), float(window.sum()))
    index = statistics.stability_index(reference, window)
    by_chance = statistics.index_by_chance(int(((reference + window) > 0).sum()), reference_rows=n, current_rows=m)
    p_value = statistics.chi_square(reference, window, reference_rows=n, current_rows=m)
    level: Level = "ok"
    if p_value <= significance and index - by_chance >= settings.prediction_drift.warn:
        level = "alert" if index - by_chance >= settings.prediction_drift.alert else "warn"
    moved = _moved(reference, window, names) if level != "ok" else ""
    reason = f"predicted {what}: PSI {index:.3f} ({by_chance:.3f} by chance), p {p_value:.2g}{moved}"
    numbers = {"psi": index, "js_distance": statistics.jensen_shannon(reference, window), "p_value": p_value}
    numbers = {f"prediction_{what}_{name}": value for name, value in numbers.items()}
    return Finding(level=level, subject=SUBJECT, reason=reason, numbers=numbers)


def _moved(reference: np.ndarray, window: np.ndarray, names: Sequence[str]) -> str:
    before, after = reference / reference.sum(), window / window.sum()
    most = np.argsort(-np.abs(after - before), kind="stable")[:SHOWN]
    return ": " + ", ".join(f"{names[i]} from {before[i]:.1%} to {after[i]:.1%}" for i in most if before[i] != after[i])
