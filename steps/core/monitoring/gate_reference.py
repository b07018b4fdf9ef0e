"""What a model was like when the gate judged it: what evaluate keeps of the test part, beside which windows are held.

It is an artifact of evaluate's run, so that it outlives the rows themselves, which a vacuum may delete.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from steps.core import metrics, significance
from steps.core.classification_metrics import CALIBRATION_BINS, Predictions, calibration_bins
from steps.core.config import Config
from steps.core.metrics import Labels, Task
from steps.core.models.evaluation import Evaluation
from steps.core.models.grouping import groups_in
from steps.core.models.registry import VERDICT
from steps.core.monitoring import prediction_drift
from steps.core.monitoring.estimated_quality import Calibration
from steps.core.monitoring.groups import rows_together
from steps.core.monitoring.probability_sums import ProbabilitySums
from steps.core.significance import Interval
from steps.core.tracking import runs

ARTIFACT = "monitor_reference.json"
FORMAT_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)  # in 1 the rows of each class are not known, before 3 not which rows belong together
ARRAYS = ("predicted", "confidence", "edges")
SHARES = (  # metrics from 0 to 1 that are shares of rows, or are as uncertain as these, of all classes or one
    *("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1"),
    *("roc_auc", "average_precision", "precision", "recall"),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class GateReference:
    """Of `rows` of the test part: the model's `scores`, and the 95% `interval` of that by the gate's `metric`, None
    where there is none, by the names that MLflow has; `rows_of_class` are those of each class, {} where not known. What
    was predicted, as counts: of a classification `predicted`, by these `classes` (those of the model, and any that only
    rows have), and `confidence` (ProbabilitySums), with the `calibration`; of a regression `predicted`, by bins between
    these `edges` (prediction_drift.counts_of). `rows_together` is how many rows a row's group has at the mean, and
    `correlations` how alike their predictions are (prediction_drift.correlations)."""

    task: Task
    rows: int
    metric: str
    scores: Mapping[str, float]
    interval: Interval | None
    predicted: np.ndarray
    classes: Labels = ()
    confidence: np.ndarray | None = None
    calibration: Calibration | None = None
    edges: np.ndarray | None = None
    rows_of_class: Mapping[str, int] = field(default_factory=dict)
    rows_together: float = 1.0
    correlations: Mapping[str, float] = field(default_factory=dict)

    def seen(self) -> dict[str, tuple[float, Interval]]:
        """The scores with their 95% intervals, of which there are those of shares, and of the gate's metric; none of a
        class without rows."""
        found = {}
        for name, score in self.scores.items():
            interval = self.interval if name == self.metric else None
            measure, _, label = name.partition(".")
            rows = self.rows_of_class.get(label, self.rows)
            if not rows:
                continue
            if measure in SHARES:
                interval = significance.as_unsure_as_a_share(interval or (score, score), score, rows)
            if interval:
                found[name] = (score, interval)
        return found

    def dumps(self) -> str:
        """As JSON, which loads() reads."""
        written = {"format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(written, default=lambda array: array.tolist(), allow_nan=False)

    @classmethod
    def loads(cls, text: str) -> "GateReference | None":
        """What dumps() wrote; None for what a later version of the project did in another way."""
        written = json.loads(text)
        if written.pop("format_version") not in READABLE_VERSIONS:
            return None
        arrays = {name: np.array(written[name]) for name in ARRAYS if written[name] is not None}
        interval = tuple(written["interval"]) if written["interval"] else None
        of_bins = {name: np.array(values) for name, values in (written["calibration"] or {}).items()}
        calibration = Calibration(**of_bins) if of_bins else None
        return cls(**{**written, **arrays, "interval": interval, "calibration": calibration})


def of(evaluation: Evaluation, test: pd.DataFrame, settings: Config, *, model_uri: str) -> GateReference | None:
    """What to keep of an evaluation on these rows of the test part; None where nothing could be scored."""
    truth = test[settings.target].to_numpy()
    scores = {metrics.logged_name(name): score for name, score in evaluation.scores.get(model_uri, {}).items()}
    by_class = evaluation.per_class(truth)
    scores |= {f"f1.{metrics.logged_label(label)}": row["f1"] for label, row in by_class.items() if "f1" in row}
    rows_of_class = {metrics.logged_label(label): round(row["rows"]) for label, row in by_class.items()}
    threshold = next((rule for rule in evaluation.verdict.rules if rule.name == "threshold"), None)
    interval = threshold.interval if threshold else None
    known: dict[str, Any] = {"rows": len(truth), "scores": scores, "interval": interval}
    known |= {"metric": metrics.logged_name(settings.gate.metric), "rows_of_class": rows_of_class}
    groups = groups_in(test, settings)
    if evaluation.probabilities is not None:
        sums = ProbabilitySums.of(evaluation.probabilities)
        return GateReference(
            **known,
            task="classification",
            classes=tuple(evaluation.classes),
            predicted=sums.predicted,
            confidence=sums.confidence,
            calibration=calibration_of(metrics.codes_of(truth, evaluation.classes), evaluation.probabilities),
            **_together(evaluation.probabilities, np.empty(0), groups),
        )
    if evaluation.predicted is None:
        return None
    edges = prediction_drift.edges_of(evaluation.predicted)
    counts = prediction_drift.counts_of(evaluation.predicted, edges)
    together = _together(evaluation.predicted, edges, groups)
    return GateReference(**known, task="regression", predicted=counts, edges=edges, **together)


def _together(output: np.ndarray, edges: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    if groups is None:
        return {}
    return {
        "rows_together": rows_together(np.bincount(groups)),
        "correlations": prediction_drift.correlations(output, edges, groups),
    }


def calibration_of(codes: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Of true classes as positions, (n,), and probabilities (n, classes)."""
    stated, right, rows = calibration_bins(codes, Predictions(probabilities))
    positions = np.clip(np.ceil(np.round(stated * CALIBRATION_BINS, 9)) - 1, 0, CALIBRATION_BINS - 1).astype(np.intp)
    of_bins = np.zeros((3, CALIBRATION_BINS))
    of_bins[:, positions] = rows, stated, right
    return Calibration(rows=of_bins[0], stated=of_bins[1], right=of_bins[2])


def run_id_of(version: ModelVersion) -> str:
    """The run whose evaluation gave a version its verdict; "" where none has."""
    run_id: str = version.tags.get(f"{VERDICT}.run_id", "")
    return run_id


def find(version: ModelVersion) -> GateReference | None:
    """What the evaluation that gave a version its verdict kept; None where there is none, or it kept nothing."""
    run = runs.find(run_id_of(version))
    if run is None or ARTIFACT not in {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}:
        return None
    return GateReference.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{ARTIFACT}"))
