"""The test rows by the values of a column: how a version and the champion do on each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from steps.core import significance
from steps.core.classification_metrics import class_in
from steps.core.columns import TIMES
from steps.core.metrics import METRICS, SAME
from steps.core.models.comparison import ENOUGH_ROWS, TestPart
from steps.core.models.verdict import FEW_ROWS, Rule
from steps.core.significance import Interval
from steps.core.wording import listed

CONTINUOUS = ("float", "double", "decimal", *TIMES)  # kinds of a column that are cut into quartiles
MOST_VALUES = 20  # of whole numbers that are values of their own; more are cut as well
MISSING = "missing"
SHOWN = 3  # slices that are left out, by name


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The `rows` in which `column` has a value, or is between two; `score` and `other` are the version's and the
    champion's by the gate's metric, None where it is not defined or the two cannot be compared on these rows, `gain`
    their difference (positive is better) and `interval` that of the gain."""

    column: str
    value: str
    rows: int
    score: float | None
    other: float | None = None
    gain: float | None = None
    interval: Interval | None = None

    @property
    def name(self) -> str:
        """Column and value, as messages name a slice."""
        return f"{self.column} {self.value}"


def slices_of(
    test: TestPart, judged: np.ndarray, champion: np.ndarray | None, shared: np.ndarray | None
) -> list[Slice]:
    """The slices of at least ENOUGH_ROWS rows by the columns in gate.slices. `shared`, (n,) bool, are the test rows on
    which the version, whose output is `judged`, and the champion are compared: a slice is of these where they are
    enough to compare on, else of all its rows."""
    made = []
    for column in test.settings.gate.slices:
        kind = test.settings.columns[column].kind
        for value, rows in _values(test.rows[column], kind):
            compared = rows if shared is None else rows & shared
            if champion is not None and not _too_few(test, compared):
                made.append(_slice(test, column, value, compared, [judged, champion]))
            elif rows.sum() >= ENOUGH_ROWS:
                made.append(_slice(test, column, value, rows, [judged]))
    return made


def slices_rule(slices: list[Slice], *, max_drop: float, has_champion: bool = True) -> Rule:
    """Whether no slice has fallen below the champion by more than its limit, beyond what few rows explain."""
    compared = [one for one in slices if one.gain is not None and one.interval is not None]
    left_out = [one.name for one in slices if one not in compared] if has_champion else []
    few = f"too few rows to compare with the champion on: {listed(left_out, SHOWN, 'slices')}" if left_out else ""
    if not compared:
        sentence = f"slices: {few or f'none of at least {ENOUGH_ROWS} test rows has a champion to compare with'}"
        return Rule(name="slices", outcome="not applicable", sentence=sentence, told=bool(few))
    worst = min(compared, key=lambda one: one.gain or 0.0)
    fallen = [one for one in compared if one.interval is not None and one.interval[1] < -max_drop - SAME]
    shown = "; ".join(_said(one) for one in fallen) or f"the worst is {_said(worst)}"
    sentence = f"slices: {shown}; at most {max_drop:g} worse, beyond what few rows explain, is allowed"
    first = fallen[0] if fallen else worst
    return Rule(
        name="slices",
        outcome="fail" if fallen else "pass",
        sentence=f"{sentence}; {few}" if few else sentence,
        value=first.gain,
        limit=-max_drop,
        interval=first.interval,
        told=bool(fallen),
    )


def _said(one: Slice) -> str:
    assert one.gain is not None
    assert one.interval is not None
    difference = f"{abs(one.gain):.4f} {'better' if one.gain > 0 else 'worse'}" if one.gain else "a tie"
    low, high = one.interval
    return f"{one.name} ({one.rows} rows) {difference} than the champion (95% interval {low:.4f} to {high:.4f})"


def _slice(test: TestPart, column: str, value: str, rows: np.ndarray, outputs: Sequence[np.ndarray]) -> Slice:
    """Of these rows, with the output of the version and, where the two are compared, the champion's."""
    name, truth = test.settings.gate.metric, test.encoded[rows]
    predictions = [test.predictions(output[rows]) for output in outputs]
    with np.errstate(all="ignore"):
        scores = [METRICS[name].of(truth, one) for one in predictions]
    score, *others = [score if np.isfinite(score) else None for score in scores]
    told = Slice(column=column, value=value, rows=int(rows.sum()), score=score)
    if score is None or not others or others[0] is None:
        return told
    sign = 1 if METRICS[name].greater_is_better else -1
    resampled = significance.resampled_scores(name, truth, predictions, groups=test.groups(rows))
    gain, interval = sign * (score - others[0]), significance.gain_interval(name, *resampled)
    return replace(told, other=others[0], gain=gain, interval=interval)


def _too_few(test: TestPart, rows: np.ndarray) -> bool:
    """Whether these rows are too few to tell two versions apart: of a metric of one class, those of the class."""
    of_class = class_in(test.settings.gate.metric)
    known = [str(label) for label in test.classes]
    if of_class is not None and (test.encoded[rows] == known.index(of_class[1])).sum() <= FEW_ROWS:
        return True
    return bool(rows.sum() < ENOUGH_ROWS or test.few_groups(rows) is not None)


def _values(values: pd.Series, kind: str) -> Iterator[tuple[str, np.ndarray]]:
    """Each value of a column in words, or quarter of a continuous one, and the rows that have it, (n,) bool."""
    present = values.notna().to_numpy(dtype=bool)
    different = values[present].nunique()
    if kind in CONTINUOUS or (kind in ("int", "long") and different > MOST_VALUES):
        yield from _quartiles(values, present)
    else:
        for value in sorted(values[present].unique().tolist(), key=str):
            yield str(value), (values == value).fillna(False).to_numpy(dtype=bool)
    if not present.all():
        yield MISSING, ~present


def _quartiles(values: pd.Series, present: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The rows by the quarter of the values that theirs is in; equal values are in one."""
    ordered = values[present].sort_values().reset_index(drop=True)
    begins = dict.fromkeys(ordered[round(len(ordered) * quarter / 4)] for quarter in range(4)) if len(ordered) else {}
    lows = list(begins)
    names = _short_names(lows)
    for low, high in zip(lows, [*lows[1:], None], strict=True):
        rows = np.zeros(len(values), dtype=bool)
        rows[present] = [low <= value and (high is None or value < high) for value in values[present]]
        yield f"from {names[low]}" if high is None else f"{names[low]} to {names[high]}", rows


def _short_names(values: Sequence[Any]) -> dict[Any, str]:
    """Values in words: of a double its first five digits, where these tell them apart."""
    short = {value: _five_digits(value) if isinstance(value, float) else str(value) for value in values}
    return short if len(set(short.values())) == len(short) else {value: str(value) for value in values}


def _five_digits(value: float) -> str:
    return np.format_float_positional(value, precision=5, fractional=False, trim="-")
