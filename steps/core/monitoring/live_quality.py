"""How good a model is where it is used, by the labels that have come, beside what the gate saw when it judged it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import scipy.stats

from steps.core.classification_metrics import class_in
from steps.core.config_monitor_quality import Quality
from steps.core.metrics import METRICS, logged_name
from steps.core.models.grouping import FEWEST_GROUPS
from steps.core.monitoring.findings import Finding, Level
from steps.core.monitoring.gate_reference import GateReference
from steps.core.monitoring.labelled_rows import LabelledRows, Scored
from steps.core.significance import CONFIDENCE, Interval

SUBJECT, CONCEPT, LABELS = "quality", "concept", "labels"
LEAST_SCORE = 1e-9  # of the gate, of which a drop is a share


def scores(rows: LabelledRows, metrics: Iterable[str]) -> dict[str, Scored]:
    """Those of these metrics that are defined on a window's labelled rows."""
    found = {name: rows.score(name) for name in dict.fromkeys(metrics)}
    return {name: scored for name, scored in found.items() if scored is not None}


def findings(
    rows: LabelledRows,
    *,
    metric: str,
    reference: GateReference | None,
    features: Sequence[Finding],
    settings: Quality,
    windows: int = 1,
) -> list[Finding]:
    """Which labels are no class of the model, whether a window's quality by the gate's `metric` fell on the others, and
    whether that is concept drift: quality that fell while none of the `features` moved.

    It fell when the window's 95% interval is wholly on the worse side of that which the gate saw, by `drop.warn` or
    more; `drop.alert` is an alert. `features` are the findings of the drift of the features of these rows. `windows` is
    how many are looked at together: of many, one is below by chance, unless the interval that decides is as much wider.
    The model is wrong on each row whose label it does not know, so that their share is held against the same levels.
    """
    quality = _quality(rows, metric, reference, settings, windows)
    return [*_unknown_labels(rows, settings), quality, *_concept(metric, quality.level, features)]


def _unknown_labels(rows: LabelledRows, settings: Quality) -> Iterator[Finding]:
    if not (count := rows.unknown.total()):
        return
    share = count / (count + rows.rows)
    level: Level = "ok" if share < settings.drop.warn else "alert" if share >= settings.drop.alert else "warn"
    if count + rows.rows < settings.labels_at_least:
        level = "too little data"
    numbers = {"unknown_labels": float(count)}
    yield Finding(level=level, subject=LABELS, reason=rows.told_unknown(), numbers=numbers)


def _quality(
    rows: LabelledRows, metric: str, reference: GateReference | None, settings: Quality, windows: int
) -> Finding:
    if rows.rows < settings.labels_at_least:
        labels = "a label" + (" that is a class of the model" if rows.unknown else "")
        predictions = rows.rows + rows.unlabelled + rows.unknown.total()
        reason = f"{rows.rows} of {predictions} predictions have {labels}, too few to say anything: "
        reason += f"monitor.quality.labels_at_least is {settings.labels_at_least}"
        return _unknown(reason)
    if rows.group_count is not None and rows.group_count < FEWEST_GROUPS:
        reason = (
            f"the {rows.rows:,} labels are of {rows.group_count} groups of rows that belong together (split.group), "
        )
        return _unknown(f"{reason}too few to say anything: {FEWEST_GROUPS}")
    of_metrics = scores(rows, [metric, *settings.metrics])
    numbers = _numbers(rows, of_metrics)
    others = "".join(f"; {name} {_shown(one)}" for name, one in of_metrics.items() if name != metric)
    others += "".join(f"; {name} {_not_defined(name, rows)}" for name in settings.metrics if name not in of_metrics)
    scored = of_metrics.get(metric)
    if scored is None or scored.interval is None:
        return _unknown(f"{metric} of {rows.rows:,} labels {_not_defined(metric, rows)}{others}", numbers)
    seen = reference.seen().get(logged_name(metric)) if reference else None
    if seen is None:
        known = "is not kept: run `mlflow run . -e evaluate` with this model"
        return _unknown(f"{metric} is {_shown(scored)}; what the gate saw {known}{others}", numbers)
    interval = _for_one_of(windows, scored.value, scored.interval)
    level, drop = _fall(metric, scored.value, interval, *seen, settings=settings)
    of_class = "" if scored.of_class is None else f", {scored.of_class:,} of the class"
    verb = "is" if level == "ok" else f"{_worsened(metric)} to"
    reason = (
        f"{metric} {verb} {_shown(scored)} on {scored.rows:,} labels{of_class}; the gate saw {_ends(*seen)}{others}"
    )
    numbers |= {"gate": seen[0], "gate_low": seen[1][0], "gate_high": seen[1][1], "drop": drop}
    return Finding(level=level, subject=SUBJECT, reason=reason, numbers=numbers)


def _fall(
    metric: str, value: float, interval: Interval, score: float, seen: Interval, *, settings: Quality
) -> tuple[Level, float]:
    """How serious it is, and by which share of the score it fell; below 0 where it is better."""
    if METRICS[metric].greater_is_better:
        is_worse, lost = interval[1] < seen[0], score - value
    else:
        is_worse, lost = interval[0] > seen[1], value - score
    drop = lost / max(abs(score), LEAST_SCORE)
    if not is_worse or drop < settings.drop.warn:
        return "ok", drop
    return ("alert" if drop >= settings.drop.alert else "warn"), drop


def _worsened(metric: str) -> str:
    """What a score did that has become worse, in a word."""
    return "fell" if METRICS[metric].greater_is_better else "rose"


def _for_one_of(windows: int, value: float, interval: Interval) -> Interval:
    """A 95% interval as wide as it has to be to hold in 95% of cases in all windows at once (Bonferroni), by the normal
    distribution: the bootstrap has too few resamples out there."""
    tail = (1 - CONFIDENCE) / 2
    wider = float(scipy.stats.norm.isf(tail / windows) / scipy.stats.norm.isf(tail))
    return value - wider * (value - interval[0]), value + wider * (interval[1] - value)


def _concept(metric: str, level: Level, features: Sequence[Finding]) -> list[Finding]:
    """Concept drift, where quality fell and what is known of the features is that none moved."""
    known = [finding for finding in features if finding.level != "too little data"]
    if level not in ("warn", "alert") or not known or any(finding.level != "ok" for finding in known):
        return []
    names = {finding.subject for finding in known}
    reason = (
        f"{metric} {_worsened(metric)} while none of {len(names)} features moved: concept drift, as the same values "
        "mean something else now; train on rows that were labelled since"
    )
    return [Finding(level=level, subject=CONCEPT, reason=reason)]


def _not_defined(metric: str, rows: LabelledRows) -> str:
    of_class = class_in(metric)
    if of_class and of_class[1] not in rows.labels:
        return f"is not defined: {of_class[1]!r} is no class of the model"
    return f"is not defined: it needs {METRICS[metric].needs or 'more labels'}"


def _unknown(reason: str, numbers: Mapping[str, float] | None = None) -> Finding:
    return Finding(level="too little data", subject=SUBJECT, reason=reason, numbers=numbers or {})


def _numbers(rows: LabelledRows, of_metrics: Mapping[str, Scored]) -> dict[str, float]:
    numbers = {"labels": float(rows.rows)}
    for name, scored in ((logged_name(name), scored) for name, scored in of_metrics.items()):
        numbers[name] = scored.value
        if scored.interval:
            numbers[f"{name}_low"], numbers[f"{name}_high"] = scored.interval
    return numbers


def _shown(scored: Scored) -> str:
    return _ends(scored.value, scored.interval)


def _ends(value: float, interval: Interval | None) -> str:
    return f"{value:.4f} (95% interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else f"{value:.4f}"
