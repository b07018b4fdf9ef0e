"""One pass over the predictions of a model: of each window what tells its quality, and what follows from that.

Memory is bounded by the number of windows and by the labels, not by that of the predictions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.config_monitor_quality import Quality
from steps.core.metrics import Labels
from steps.core.models.grouping import Grouping
from steps.core.monitoring import estimated_quality, live_quality, prediction_drift
from steps.core.monitoring.bins import Bins
from steps.core.monitoring.findings import Finding
from steps.core.monitoring.gate_reference import GateReference
from steps.core.monitoring.groups import GroupSizes, effective_rows
from steps.core.monitoring.labelled_rows import LabelledRows
from steps.core.monitoring.labels import LabelIndex, TruthReader, in_predictions
from steps.core.monitoring.probability_sums import ProbabilitySums, matrix_of
from steps.core.monitoring.summary import Summary, summarize
from steps.core.monitoring.trained_on import TrainedOn

LEFT_OUT = -1  # in place of a window's number
NEEDED = ("prediction", "model_uri")  # columns without which rows are no predictions


@dataclass(frozen=True, eq=False, kw_only=True)
class Predicted:
    """How the rows of one model are read: its `classes`, or of a regression none, and the `edges` of the bins in which
    its numbers are counted; `target` is the column that may hold labels, `trained_on` tells rows that count for
    nothing, as it was trained on them. The features of labelled rows are counted by `bins`. `grouping` tells rows that
    belong together, as those that it was trained on were."""

    model_uri: str
    classes: Labels
    target: str
    trained_on: TrainedOn
    edges: np.ndarray = field(default_factory=lambda: np.empty(0))
    bins: Sequence[Bins] = ()
    grouping: Grouping | None = None

    @classmethod
    def by(
        cls,
        model_uri: str,
        reference: GateReference | None,
        *,
        classes: Labels,
        target: str,
        trained_on: TrainedOn,
        **others: Any,
    ) -> "Predicted":
        """As the test part was read, so that both can be compared; without it by the model's own `classes`."""
        known: dict[str, Any] = {"model_uri": model_uri, "target": target, "trained_on": trained_on, **others}
        if reference is None:
            return cls(**known, classes=classes)
        edges = np.empty(0) if reference.edges is None else reference.edges
        return cls(**known, classes=reference.classes, edges=edges)

    @cached_property
    def reader(self) -> TruthReader:
        """What reads true values to compare these predictions with."""
        return TruthReader(classes=self.classes)

    def columns(self, present: Sequence[str], key: Sequence[str]) -> list[str]:
        """Those to read of the columns that there are."""
        probabilities = ["probabilities"] if self.classes else []
        counted = self.counted_columns(present)
        names = [*NEEDED, *probabilities, self.target, *key, *self.trained_on.needs(present), *counted]
        return [name for name in dict.fromkeys(names) if name in present]

    def counted_columns(self, present: Sequence[str]) -> list[str]:
        """Those of features, and that of the grouping, of the columns that there are."""
        names = [*(one.name for one in self.bins), *([self.grouping.column] if self.grouping else [])]
        return [name for name in dict.fromkeys(names) if name in present]


class WindowQuality:
    """What one pass keeps of a window; `features` are those of the rows in `labelled`."""

    def __init__(self, predicted: Predicted) -> None:
        classes = len(predicted.classes)
        self._predicted, self.features, self.groups = predicted, Summary(), GroupSizes()
        self.probabilities = ProbabilitySums.empty(classes) if classes else None
        self.values = np.zeros(len(predicted.edges) + 1, dtype=np.int64)
        self.labelled = LabelledRows(predicted.reader, grouping=predicted.grouping)

    @property
    def rows(self) -> int:
        """How many predictions there are."""
        return int(self.values.sum()) if self.probabilities is None else self.probabilities.rows

    def add(self, rows: pa.Table, output: np.ndarray, truth: np.ndarray | None, groups: np.ndarray | None) -> None:
        """Rows (their counted_columns) with their predictions, (n, classes) probabilities or (n,) numbers, with their
        labels where there may be any, and the groups of the rows where some belong together."""
        self.groups += GroupSizes.of(rows, self._predicted.grouping)
        if self.probabilities is not None:
            self.probabilities += ProbabilitySums.of(output)
        else:
            self.values += prediction_drift.counts_of(output, self._predicted.edges)
        if truth is not None:
            self.labelled.add(truth, output, groups)
            scored = rows.filter(pa.array(self._predicted.reader.is_class(truth)))
            self.features += summarize(scored, self._predicted.bins, grouping=self._predicted.grouping)


@dataclass(kw_only=True)
class CountedQuality:
    """Windows by their numbers. In none are rows that another version has scored, that have no prediction, or that the
    model may have been trained on."""

    windows: dict[int, WindowQuality] = field(default_factory=dict)
    of_others: int = 0
    unpredicted: int = 0
    trained_on: int = 0

    def lines(self, predicted: Predicted) -> list[str]:
        """What the user is told of rows that count for nothing."""
        told = {
            f"{self.of_others:,} predictions are of other versions than {predicted.model_uri}": self.of_others,
            f"{self.unpredicted:,} rows have no prediction": self.unpredicted,
            f"{self.trained_on:,} predictions are of rows that the model may have been trained on": self.trained_on,
        }
        return [f"quality: {line}, and count for nothing" for line, count in told.items() if count]


def count(
    batches: Iterable[pa.RecordBatch],
    predicted: Predicted,
    *,
    window_of: Callable[[pa.Table], np.ndarray],
    labels: LabelIndex | None,
) -> CountedQuality:
    """`window_of` gives the number of each row's window, (n,), LEFT_OUT for none. `labels` are those that were passed;
    where there are none, they are those that the rows have themselves."""
    counted = CountedQuality()
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        is_own = pc.equal(rows["model_uri"], predicted.model_uri).fill_null(False)
        counted.of_others += int(pc.sum(pc.invert(is_own)).as_py() or 0)
        truth = _truth(rows, predicted, labels)  # of all rows, so that a label of another version's is no unknown one
        is_there = pc.and_(is_own, rows["probabilities" if predicted.classes else "prediction"].is_valid())
        counted.unpredicted += int(pc.sum(is_own).as_py() or 0) - int(pc.sum(is_there).as_py() or 0)
        is_seen = predicted.trained_on.may_have(rows)
        mask = is_there.to_numpy()
        counted.trained_on += int((mask & is_seen).sum())
        mask &= ~is_seen
        _add(counted, rows.filter(pa.array(mask)), None if truth is None else truth[mask], predicted, window_of)
    return counted


def _truth(rows: pa.Table, predicted: Predicted, labels: LabelIndex | None) -> np.ndarray | None:
    if labels is not None:
        return labels.of(rows)
    return in_predictions(rows, predicted.target, predicted.reader) if predicted.target in rows.schema.names else None


def _add(
    counted: CountedQuality,
    rows: pa.Table,
    truth: np.ndarray | None,
    predicted: Predicted,
    window_of: Callable[[pa.Table], np.ndarray],
) -> None:
    if not len(rows):
        return
    if predicted.classes:
        output = matrix_of(rows["probabilities"], predicted.classes)
    else:
        output = rows["prediction"].cast(pa.float64()).to_numpy()
    grouping, numbers = predicted.grouping, window_of(rows)
    groups = grouping.hashes(rows) if grouping and grouping.column in rows.schema.names else None
    counted_columns = rows.select(predicted.counted_columns(rows.schema.names))
    for number in np.unique(numbers[numbers != LEFT_OUT]).tolist():
        mask = numbers == number
        window = counted.windows.setdefault(number, WindowQuality(predicted))
        truth_there, groups_there = (None if values is None else values[mask] for values in (truth, groups))
        window.add(counted_columns.filter(pa.array(mask)), output[mask], truth_there, groups_there)


def findings(
    window: WindowQuality,
    predicted: Predicted,
    reference: GateReference | None,
    *,
    metric: str,
    has_labels: bool,
    features: Sequence[Finding],
    settings: Quality,
    windows: int = 1,
    significance: float = 2 * prediction_drift.SIGNIFICANCE_LEVEL,
) -> dict[str, list[Finding]]:
    """What a window says, by section: "prediction drift", "estimated quality" and, if it `has_labels`, "live quality".

    `metric` is the gate's, `features` are the findings of the drift of the labelled rows. So many `windows` have enough
    labels, and are held against the gate together; `significance` is the limit on false alarms of prediction drift.
    """
    found = {
        "prediction drift": _drift(window, predicted, reference, settings, significance),
        "estimated quality": _estimated(window, predicted, reference, settings),
    }
    if has_labels:
        found["live quality"] = live_quality.findings(
            window.labelled,
            metric=metric,
            reference=reference,
            features=features,
            settings=settings,
            windows=windows,
        )
    return found


def _drift(
    window: WindowQuality,
    predicted: Predicted,
    reference: GateReference | None,
    settings: Quality,
    significance: float,
) -> list[Finding]:
    if reference is None:
        reason = f"what {predicted.model_uri} predicted on its test part is not kept: run `mlflow run . -e evaluate`"
        return [Finding(level="too little data", subject=prediction_drift.SUBJECT, reason=reason)]

    def limits(what: str, tests: int) -> dict[str, Any]:
        sides = (reference.rows, reference.rows_together), (window.rows, window.groups.rows_together)
        correlation = reference.correlations.get(what, 0.0)
        rows = tuple(effective_rows(count, rows_together=size, correlation=correlation) for count, size in sides)
        return {"settings": settings, "significance": significance / tests, "rows": rows}

    if window.probabilities is None:
        of_values = prediction_drift.of_values
        return [of_values(reference.predicted, window.values, predicted.edges, **limits("values", 1))]
    sums, known, classes = window.probabilities, reference.confidence, predicted.classes
    assert known is not None
    return [
        prediction_drift.of_classes(reference.predicted, sums.predicted, classes=classes, **limits("classes", 2)),
        prediction_drift.of_confidence(known, sums.confidence, **limits("confidence", 2)),
    ]


def _estimated(
    window: WindowQuality, predicted: Predicted, reference: GateReference | None, settings: Quality
) -> list[Finding]:
    if window.probabilities is None:
        return [estimated_quality.of_regression()]
    seen: Mapping[str, tuple[float, tuple[float, float]]] = reference.seen() if reference else {}
    calibration = reference.calibration if reference else None
    return estimated_quality.findings(
        window.probabilities, calibration, classes=predicted.classes, seen=seen, settings=settings
    )
