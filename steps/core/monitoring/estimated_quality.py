"""How good a classifier is on rows without labels, as far as its probabilities tell.

A row whose predicted class has probability p is right with probability p, if probabilities are as often right as they
say. So the expected confusion follows from them alone ("confidence-based performance estimation"; Guillory et al.,
ICCV 2021; Białek et al., 2024). That is blind to what the probabilities do not show: when the truth behind the same
features changes, they stay as they are. Of a regression nothing can be estimated so: it states no probabilities.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steps.core import significance
from steps.core.config_monitor_quality import Quality
from steps.core.metrics import Labels, logged_label
from steps.core.monitoring.findings import Finding, Level
from steps.core.monitoring.probability_sums import ProbabilitySums
from steps.core.significance import Interval

SUBJECT = "estimated quality"
DRAWS = 1_000  # of the true labels, for an interval
NORMAL_95 = 1.96  # standard deviations on either side
ROWS_OF_A_CLASS = 0.5  # expected; a class with fewer is taken to have none, and is in no average


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Of the test part by ten bins of the predicted class's probability, each (10,): `rows`, the mean probability that
    was `stated`, and the share that was `right`; both 0 in a bin without rows."""

    rows: np.ndarray
    stated: np.ndarray
    right: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1 (classification_metrics.expected_calibration_error)."""
        return float(np.average(self._gaps, weights=self.rows)) if self.rows.any() else 1.0

    def error_where(self, shares: np.ndarray) -> float:
        """The same, of rows of which these `shares`, (10,), are in each bin. Where the test part had none, the gap is
        taken to be the largest of all."""
        gaps = np.where(self.rows > 0, self._gaps, self._gaps[self.rows > 0].max(initial=0))
        return float(shares @ gaps)

    @property
    def _gaps(self) -> np.ndarray:
        gaps: np.ndarray = np.abs(self.right - self.stated)
        return gaps


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`interval` holds the score in 95% of cases: what chance does to the labels, and then as much more on either side
    as the probabilities were off on the test part."""

    value: float
    interval: Interval


def estimate(sums: ProbabilitySums, calibration: Calibration, *, classes: Labels) -> dict[str, Estimate]:
    """accuracy, f1_macro and roc_auc; of two classes `f1.<the second>`. {} of no row; without what is not defined."""
    if not sums.rows:
        return {}
    hits, misses = _drawn(sums)
    off = calibration.error_where(sums.confidence_shares(len(calibration.rows)))
    drawn = {"accuracy": hits.sum(axis=1) / sums.rows, **_f1(hits, hits + misses, sums.predicted, classes)}
    expected = {"accuracy": np.array([sums.accuracy])}
    expected |= _f1(sums.hits[None], sums.actual[None], sums.predicted, classes)
    estimates = {name: _estimate(float(expected[name][0]), drawn[name], off) for name in expected}
    if len(classes) == 2:
        of_class = _f1_of(classes[1])
        estimates[of_class] = _as_unsure_as_its_class(estimates[of_class], sums.actual[1])
    area, deviation = _area(sums)
    spread = area + NORMAL_95 * deviation * np.array([-1, 1])
    return _defined(estimates | {"roc_auc": _between(area, spread, off)})


def findings(
    sums: ProbabilitySums,
    calibration: Calibration | None,
    *,
    classes: Labels,
    seen: Mapping[str, tuple[float, Interval]],
    settings: Quality,
) -> list[Finding]:
    """What is expected of a window's predictions beside what the gate has `seen`: scores with their 95% intervals.

    `calibration` is None where it is not known. An estimate never alerts: it warns, and labels decide.
    """
    if reason := _obstacle(sums, calibration, settings):
        return [Finding(level="too little data", subject=SUBJECT, reason=reason)]
    assert calibration is not None
    found = []
    for name, of_metric in estimate(sums, calibration, classes=classes).items():
        low, high = of_metric.interval
        level: Level = "ok"
        reason = f"{name} is expected to be {of_metric.value:.4f} (95% interval {low:.4f} to {high:.4f})"
        if name in seen:
            score, (least, most) = seen[name]
            is_worse = high < least and of_metric.value < score * (1 - settings.drop.warn)
            level = "warn" if is_worse else "ok"
            beside = "below" if is_worse else "beside"
            reason += f", {beside} the {score:.4f} that the gate saw ({least:.4f} to {most:.4f})"
        numbers = {f"estimated_{name}": of_metric.value}
        numbers |= {f"estimated_{name}_low": low, f"estimated_{name}_high": high}
        found.append(Finding(level=level, subject=SUBJECT, reason=reason, numbers=numbers))
    return found


def of_regression() -> Finding:
    """The finding on a regression, which has no probabilities to estimate its quality from."""
    reason = "a regression states no probabilities, so that its quality shows when labels come (-P labels=...)"
    return Finding(level="too little data", subject=SUBJECT, reason=reason)


def _obstacle(sums: ProbabilitySums, calibration: Calibration | None, settings: Quality) -> str:
    """Why nothing can be said; "" where something can."""
    if sums.rows < settings.predictions_at_least:
        return f"{sums.rows} predictions are too few to say what quality they have: {settings.predictions_at_least}"
    if calibration is None:
        return (
            "how often the model's probabilities were right on its test part is not known, so that they tell nothing "
            "of its quality: run `mlflow run . -e evaluate` with it"
        )
    limit = settings.calibration_error_at_most
    error = max(calibration.error, calibration.error_where(sums.confidence_shares(len(calibration.rows))))
    if error > limit:
        return (
            f"no estimate can be trusted: the model's probabilities were off by {error:.1%} on its test part, and "
            f"monitor.quality.calibration_error_at_most is {limit:.1%}"
        )
    return ""


def _drawn(sums: ProbabilitySums) -> tuple[np.ndarray, np.ndarray]:
    """The rows of each class that are predicted as it, and those that are not, as DRAWS draws of the labels have them,
    (draws, classes). The right ones of a predicted class are normal, by their mean and variance; which class the others
    are of is drawn by the expected confusion."""
    random, classes = np.random.default_rng(0), len(sums.hits)
    drawn = random.normal(sums.hits, np.sqrt(sums.hits_variance), (DRAWS, classes))
    right: np.ndarray = np.rint(np.clip(drawn, 0, sums.predicted)).astype(np.int64)
    wrong: Any = sums.predicted.astype(np.int64) - right
    if not len(sums.confusion):
        of_others = random.multinomial(wrong.sum(axis=1), _shares(sums.actual - sums.hits))
        return right, of_others
    of_others = np.zeros((DRAWS, classes), dtype=np.int64)
    for code in range(classes):
        expected = sums.confusion[code].copy()
        expected[code] = 0
        if expected.any():
            of_others += random.multinomial(wrong[:, code], _shares(expected))
    return right, of_others


def _shares(expected: np.ndarray) -> np.ndarray:
    positive = np.maximum(expected, 0)
    shares: np.ndarray = positive / max(positive.sum(), np.finfo(float).tiny)
    return shares


def _f1(hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray, classes: Labels) -> dict[str, np.ndarray]:
    """F1 of each draw, (draws,); `hits` and `actual` are (draws, classes), `predicted` (classes,)."""
    with np.errstate(invalid="ignore"):  # 0 / 0
        of_classes = np.nan_to_num(2 * hits / (actual + predicted))
    is_there = actual >= ROWS_OF_A_CLASS
    with np.errstate(invalid="ignore"):
        macro = np.where(is_there, of_classes, 0).sum(axis=1) / is_there.sum(axis=1)
    if len(classes) != 2:
        return {"f1_macro": macro}
    return {"f1_macro": macro, _f1_of(classes[1]): of_classes[:, 1]}


def _f1_of(label: object) -> str:
    return f"f1.{logged_label(str(label))}"


def _as_unsure_as_its_class(of_class: Estimate, rows: float) -> Estimate:
    """With an interval that is at least that of a share of the class's expected rows; not defined where it has none."""
    if rows < ROWS_OF_A_CLASS:
        return Estimate(value=math.nan, interval=(math.nan, math.nan))
    interval = significance.as_unsure_as_a_share(of_class.interval, of_class.value, max(1, round(rows)))
    return replace(of_class, interval=interval)


def _area(sums: ProbabilitySums) -> tuple[float, float]:
    """The area under the ROC curve, the mean over the classes of each against the rest, and its standard deviation by
    Hanley and McNeil (1982); the classes' deviations are taken as if they went together. nan where not defined."""
    positives, negatives = sums.sums, sums.counts - sums.sums
    below = np.cumsum(negatives, axis=1) - negatives
    of_class, of_rest = positives.sum(axis=1), negatives.sum(axis=1)
    is_there = np.minimum(of_class, of_rest) >= ROWS_OF_A_CLASS
    if not is_there.any():
        return float("nan"), float("nan")
    with_itself = sums.actual_variance[is_there]  # what a row as one of the class has with itself as one of the rest
    pairs = (positives * (below + negatives / 2)).sum(axis=1)[is_there] - with_itself / 2
    of_class, of_rest = of_class[is_there], of_rest[is_there]
    area = pairs / (of_class * of_rest - with_itself)
    both, twice = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (of_class - 1) * (both - area**2) + (of_rest - 1) * (twice - area**2)
    deviations = np.sqrt(np.maximum(spread, 0) / (of_class * of_rest))
    return float(area.mean()), float(deviations.mean())


def _estimate(value: float, drawn: np.ndarray, off: float) -> Estimate:
    return _between(value, np.array(significance.interval(drawn) or (value, value)), off)


def _between(value: float, ends: Sequence[float] | np.ndarray, off: float) -> Estimate:
    return Estimate(value=value, interval=(max(0.0, float(ends[0]) - off), min(1.0, float(ends[1]) + off)))


def _defined(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    return {name: one for name, one in estimates.items() if np.isfinite([one.value, *one.interval]).all()}
