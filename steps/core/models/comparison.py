"""A version beside another one on the test rows that neither was trained on: scores, and how sure the gain is."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from steps.core import metrics, significance
from steps.core.classification_metrics import Predictions
from steps.core.config import Config
from steps.core.metrics import Labels
from steps.core.models import aliases, loading, split
from steps.core.models.answers import Answers, answers_of
from steps.core.models.grouping import FEWEST_GROUPS, grouping_of, groups_in
from steps.core.models.verdict import Candidate

ENOUGH_ROWS = 30  # for a comparison on a part of the test rows: on fewer, each moves a share by more than 3 points


@dataclass(frozen=True, kw_only=True)
class TestPart:
    """The rows that all are compared on, with the true values (n,) and the `classes` that any model or row has."""

    __test__ = False  # no test of pytest's

    rows: pd.DataFrame
    truth: np.ndarray
    classes: Labels
    settings: Config

    @cached_property
    def encoded(self) -> np.ndarray:
        """The truth as metrics take it."""
        if self.settings.task == "regression":
            return self.truth
        # A label may be written as in another type of the target
        return metrics.codes_of(np.array([str(label) for label in self.truth.tolist()]), list(map(str, self.classes)))

    def groups(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray | None:
        """The number from 0 of the group of each of some rows, for significance; None where each row is alone. Of rows
        that are grouped by day, but are of few days, each counts alone too."""
        grouping = grouping_of(self.settings)
        if grouping is None or self._groups is None:
            return None
        numbers, groups = np.unique(self._groups[rows], return_inverse=True)
        return None if len(numbers) == len(groups) or grouping.are_few_days(len(numbers)) else groups

    def few_groups(self, rows: np.ndarray | slice = slice(None)) -> int | None:
        """How many groups some rows are of, where these are too few to tell what other groups would show; else None."""
        groups = self.groups(rows)
        count = FEWEST_GROUPS if groups is None else int(groups.max()) + 1
        return count if count < FEWEST_GROUPS else None

    @cached_property
    def _groups(self) -> np.ndarray | None:
        return groups_in(self.rows, self.settings)

    def scores(self, output: np.ndarray, rows: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """Every metric that is defined of `output` (n, classes) or (n,), on some of the rows."""
        if self.settings.task == "regression":
            return metrics.regression_scores(self.truth[rows], output[rows], also=self.settings.gate.metrics)
        predictions = self.predictions(output[rows])
        return metrics.scores_of_codes(self.encoded[rows], predictions, also=self.settings.gate.metrics)

    def predictions(self, output: np.ndarray) -> Any:
        """`output` as the metrics take it."""
        return output if self.settings.task == "regression" else Predictions(output, self.classes)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Another version as the gate takes it; its `output` on the whole test part, None where there is none; the `rows`,
    (n,) bool, on which the two are compared; and what is to be said of it."""

    candidate: Candidate
    output: np.ndarray | None
    rows: np.ndarray
    doubts: list[str]


def compare(
    test: TestPart, judged: np.ndarray, model: loading.LoadedModel, *, judged_uri: str, is_resampled: bool = True
) -> Comparison:
    """`model` beside the version `judged_uri`, whose output on the test part is `judged`. The interval of the gain is
    not known where nothing `is_resampled`, which is most of the work."""
    settings, rows = test.settings, held_out_of(model, test.rows)
    answers = answers_of(model, test.rows, target=settings.target, task=settings.task)
    if answers.output is None:
        candidate = Candidate(name=model.uri, scores={}, incomparable=answers.obstacle)
        return Comparison(candidate=candidate, output=None, rows=rows, doubts=[])
    doubts = unknown_classes(test, answers)
    test, judged = _with_classes_of(answers, test, judged)
    if not rows.all() and (few := _too_few(test, rows)):
        why = _few_rows_reason(test, model, judged_uri=judged_uri, few=few)
        candidate = Candidate(name=model.uri, scores={}, undecidable=why)
        return Comparison(candidate=candidate, output=None, rows=rows, doubts=doubts)
    output = answers.of(test.classes)
    candidate = _candidate(test, judged, output, rows, name=model.uri)
    if is_resampled:
        candidate = replace(candidate, interval=_gain_interval(test, judged, output, rows))
    return Comparison(candidate=candidate, output=output, rows=rows, doubts=doubts)


def _with_classes_of(answers: Answers, test: TestPart, judged: np.ndarray) -> tuple[TestPart, np.ndarray]:
    """The test part and the version's output with the classes that only the other model knows, of probability 0."""
    known = [str(label) for label in test.classes]
    more = [label for label in answers.classes if str(label) not in known]
    if not more:
        return test, judged
    return replace(test, classes=[*test.classes, *more]), np.pad(judged, ((0, 0), (0, len(more))))


def _candidate(test: TestPart, judged: np.ndarray, output: np.ndarray, rows: np.ndarray, *, name: str) -> Candidate:
    is_whole = bool(rows.all())
    return Candidate(
        name=name,
        scores=test.scores(output, rows),
        against=None if is_whole else test.scores(judged, rows),
        rows="" if is_whole else f"the {rows.sum()} of {len(rows)} test rows that neither was trained on",
    )


def _gain_interval(
    test: TestPart, judged: np.ndarray, output: np.ndarray, rows: np.ndarray
) -> significance.Interval | None:
    metric, truth = test.settings.gate.metric, test.encoded[rows]
    predictions = [test.predictions(one[rows]) for one in (judged, output)]
    resampled = significance.resampled_scores(metric, truth, predictions, groups=test.groups(rows))
    return significance.gain_interval(metric, *resampled)


def held_out_of(model: loading.LoadedModel, rows: pd.DataFrame) -> np.ndarray:
    """Which rows the model was certainly not trained on, (n,) bool."""
    return split.held_out(rows, split_of(model))


def split_of(model: loading.LoadedModel) -> split.SplitSettings:
    """The split that set the model's training rows apart."""
    types = {feature.name: feature.type for feature in model.schema.features}
    return split.recorded(model.schema.split, types)


def unknown_classes(test: TestPart, answers: Answers) -> list[str]:
    """A line about the test rows whose class the model never knew, [] when there are none."""
    known = {str(label) for label in answers.classes}
    unknown = [label for label in map(str, test.truth.tolist()) if label not in known]
    if not answers.classes or not unknown:
        return []
    names = ", ".join(sorted(set(unknown)))
    return [f"{answers.name} never saw {test.settings.target} {names}: {len(unknown)} test rows count as its mistakes"]


def _few_rows_reason(test: TestPart, model: loading.LoadedModel, *, judged_uri: str, few: str) -> str:
    """Why a comparison has no answer yet, and what leads on: the split of the other model in the config, where that is
    another one, or the command that lets the version take its place."""
    name, _, version = judged_uri.removeprefix("models:/").rpartition("/")
    command = aliases.promote_command(name, version, alias=aliases.STAGING, reason="the split has changed")
    line = config_line(split_of(model), test.settings)
    keep = f"to keep its split, put `{line}` into the config and run again; " if line else ""
    return (
        f"{model.uri} was trained on other rows than the config's split sets apart, and {few}: {keep}to go on with the "
        f"new one, run `{command}`"
    )


def config_line(settings: split.SplitSettings, config: Config) -> str:
    """The line of a config that splits as `settings` do; "" when it does already, or none can, as columns have gone or
    have another type."""
    now = split.settings_of(config)
    names = ("test", "validation", "seed", "columns", "time", "without_group", "window", "window_days")
    types = {name: _hashed_as(column.type) for name, column in config.columns.items()}
    is_same = all(getattr(settings, name) == getattr(now, name) for name in names)
    needed = [*settings.columns, *settings.times]
    recorded = {name: _hashed_as(type_) for name, type_ in settings.types.items()}
    is_gone = any(name not in types or types[name] != recorded.get(name, types[name]) for name in needed)
    if is_same or is_gone or config.target in needed:
        return ""
    deciding = f"columns: [{', '.join(settings.columns)}]"
    if settings.time or settings.without_group:
        deciding = f"time: {settings.time}" if settings.time else f"group: {settings.columns[0]}"
    shares = f"test: {settings.test:g}, validation: {settings.validation:g}, seed: {settings.seed}"
    window = f", train_on: window, window: {{column: {settings.window}, days: {settings.window_days:g}}}"
    return f"split: {{{deciding}, {shares}{window if settings.window else ''}}}"


def _hashed_as(type_: str) -> str:
    return "long" if type_ == "int" else type_


def _too_few(test: TestPart, untrained: np.ndarray) -> str:
    """What the rows that neither was trained on lack for an answer; "" when they are enough."""
    rows = int(untrained.sum())
    if rows < ENOUGH_ROWS:
        return f"only {rows} of the {len(untrained)} test rows are new to both ({ENOUGH_ROWS} are needed)"
    if few := test.few_groups(untrained):
        groups = f"{few} groups of {test.settings.split.group}"
        return f"the {rows} test rows that are new to both are of {groups} ({FEWEST_GROUPS} are needed)"
    if test.settings.task == "classification" and len(np.unique(test.encoded[untrained])) < 2:
        return f"the {rows} test rows that are new to both are all of one class"
    return ""
