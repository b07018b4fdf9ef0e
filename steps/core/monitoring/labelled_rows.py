"""The rows of a window whose labels have come: scores of them, and within which limits others of their kind would be.

Few rows are kept as they are. Of many, a sample is, whose size no window exceeds, and what adds up over all of them.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steps.core import significance
from steps.core.classification_metrics import CLASS_MEASURES, Predictions, class_in
from steps.core.metric_sums import ClassificationSums
from steps.core.metrics import METRICS
from steps.core.models.grouping import ALONE, Grouping
from steps.core.monitoring.labels import TruthReader, has_label
from steps.core.significance import Interval

MOST_ROWS = 20_000  # that are kept as they are: so many take the full number of resamples
MOST_CELLS = 2_000_000  # of probabilities: with many classes fewer rows are kept, but at least FEWEST_ROWS
FEWEST_ROWS = 1_000
MOST_CLASSES = 300  # of which all pairs are counted
OF_COUNTS = ("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro")  # and those of one class


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A metric's value on `rows`, which are a sample where there are more, and its 95% interval, None where the metric
    is not defined often enough. `of_class` are the rows of the class that the metric is of, None for one of all."""

    value: float
    interval: Interval | None
    rows: int
    of_class: int | None = None


class LabelledRows:
    """Of one window, with labels as `reader` reads them; empty at first. A label that is no class of the model is
    counted in `unknown`, by its code, and in no score: as a class of its own, which has no right row, it would take a
    third of the mean over two classes. `grouping` told which rows belong together."""

    def __init__(self, reader: TruthReader, *, grouping: Grouping | None = None, most_rows: int | None = None) -> None:
        self._grouping = grouping
        self._reader, self.labels = reader, list(map(str, reader.classes))
        self._classes = len(self.labels)
        self._most_rows = most_rows or min(MOST_ROWS, max(FEWEST_ROWS, MOST_CELLS // max(self._classes, 1)))
        self._truths: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []
        self._groups: list[np.ndarray] = []  # (n,) uint64, the same for rows that belong together
        self._has_groups = False
        self._draws: list[np.ndarray] = []  # a number for each row; those with the smallest are kept
        self._kept = 0
        self._random = np.random.default_rng(0)
        self._sums: ClassificationSums | None = None
        self.rows = 0  # with a label, but for those in `unknown`
        self.unlabelled = 0
        self.unknown = Counter[int]()

    def add(self, truth: np.ndarray, output: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Rows with their labels, (n,), and what was predicted: probabilities (n, classes), or of a regression values
        (n,). Those without a label are counted alone. `groups` are (n,) uint64, the same for rows that belong together
        and ALONE for a row that is a group alone, None where all are."""
        is_there = self._reader.is_class(truth)
        self.unlabelled += int((~has_label(truth)).sum())
        self.unknown.update(truth[self._reader.is_unknown(truth)].tolist())
        self._has_groups |= groups is not None
        groups = np.full(len(truth), ALONE) if groups is None else groups
        truth, output, groups = truth[is_there], output[is_there], groups[is_there]
        if not len(truth):
            return
        self.rows += len(truth)
        if self._classes:
            self._count(truth, output)
        self._truths.append(truth)
        self._outputs.append(output)
        self._groups.append(groups)
        self._draws.append(self._random.random(len(truth)))
        self._kept += len(truth)
        if self._kept > 2 * self._most_rows:
            self._keep_smallest()

    def score(self, metric: str) -> Scored | None:
        """None where the metric is not defined."""
        if not self.rows:
            return None
        with np.errstate(all="ignore"):
            if self.rows > self._most_rows and _follows_from_counts(metric) and self._sums and self._codes() is None:
                scored, counted = self._of_counts(metric, self._sums), self._sums
            else:
                scored, counted = self._of_rows(metric), None
        if not scored or not (of_class := class_in(metric)):
            return scored
        code = self.labels.index(of_class[1])
        rows = counted.confusion[code].sum() if counted else (self._truths[0] == code).sum()
        return _as_unsure_as_its_class(scored, int(rows))

    def told_unknown(self) -> str:
        """What is to be said of the labels that are no class of the model."""
        return self._reader.told_unknown(self.unknown, self.rows + self.unknown.total())

    @property
    def group_count(self) -> int | None:
        """How many groups the rows that are kept have; None where each row counts alone."""
        codes = self._codes()
        return None if codes is None else int(codes.max()) + 1

    def _count(self, codes: np.ndarray, probabilities: np.ndarray) -> None:
        if self._classes < MOST_CLASSES:
            sums = ClassificationSums.of(codes, probabilities)
            self._sums = sums if self._sums is None else self._sums + sums

    def _of_rows(self, metric: str) -> Scored | None:
        self._keep_smallest()
        truth, output = self._truths[0], self._outputs[0]
        predictions: Any = Predictions(output, self.labels) if self._classes else output
        value = METRICS[metric].of(truth, predictions)
        if not np.isfinite(value):
            return None
        resampled = significance.resampled_scores(metric, truth, [predictions], groups=self._codes())[0]
        return Scored(value=value, interval=significance.interval(resampled), rows=len(truth))

    def _of_counts(self, metric: str, sums: ClassificationSums) -> Scored | None:
        """The bootstrap of rows is a multinomial one of how many rows of each class are predicted as each."""
        value = self._from_counts(metric, sums)
        if not np.isfinite(value):
            return None
        cells = sums.confusion.ravel()
        random, draws = np.random.default_rng(0), significance.RESAMPLES
        resampled = np.empty(draws)
        for draw in range(draws):  # one by one, as there may be many classes
            confusion = random.multinomial(self.rows, cells / self.rows).reshape(sums.confusion.shape)
            resampled[draw] = self._from_counts(metric, ClassificationSums(confusion=confusion))
        return Scored(value=value, interval=significance.interval(resampled), rows=self.rows)

    def _from_counts(self, metric: str, sums: ClassificationSums) -> float:
        scores = sums.scores_by_class(self.labels) if class_in(metric) else sums.scores()
        return scores.get(metric, np.nan)

    def _codes(self) -> np.ndarray | None:
        """The numbers of the groups of the rows that are kept from 0, (n,), each row that is ALONE with one of its own.
        None where each row counts alone: so do those of few days, as the gate has it."""
        if not self._has_groups or not self._groups:
            return None
        groups = np.concatenate(self._groups)
        is_alone = groups == ALONE
        known, codes = np.unique(groups, return_inverse=True)
        codes[is_alone] = len(known) + np.arange(is_alone.sum())
        codes = np.unique(codes, return_inverse=True)[1]
        return None if self._grouping and self._grouping.are_few_days(int(codes.max()) + 1) else codes

    def _keep_smallest(self) -> None:
        kept_lists = (self._truths, self._outputs, self._groups, self._draws)
        truth, output, groups, draws = map(np.concatenate, kept_lists)
        kept = np.sort(np.argsort(draws, kind="stable")[: self._most_rows])
        self._truths, self._outputs = [truth[kept]], [output[kept]]
        self._groups, self._draws = [groups[kept]], [draws[kept]]
        self._kept = len(kept)


def _as_unsure_as_its_class(scored: Scored, rows: int) -> Scored:
    """With an interval that is at least that of a share of the class's rows. Of one row each resample has the same."""
    interval = scored.interval and significance.as_unsure_as_a_share(scored.interval, scored.value, rows)
    return replace(scored, interval=interval, of_class=rows)


def _follows_from_counts(metric: str) -> bool:
    of_class = class_in(metric)
    return metric in OF_COUNTS or (of_class is not None and of_class[0] in CLASS_MEASURES)
