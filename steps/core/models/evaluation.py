"""Score a model, the baseline and the champion on the same test part, and let the gate decide."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from steps.core import config, metrics
from steps.core.errors import TableUnfit
from steps.core.models import gate, loading, split

BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`scores` of every candidate that could be scored, by name; `probabilities` (rows, classes) of the model that is
    judged, None when it could not be scored."""

    verdict: gate.Verdict
    scores: dict[str, Mapping[str, float]]
    classes: tuple[str | int | bool, ...]
    probabilities: np.ndarray | None

    def per_class(self, truth: np.ndarray) -> dict[str, dict[str, float]]:
        """The model's precision, recall, F1 and rows by class; {} when it could not be scored."""
        return {} if self.probabilities is None else metrics.per_class(truth, self.probabilities, self.classes)


def parts_to_judge_on(rows: pd.DataFrame, settings: config.Config, *, table_uri: str) -> split.Parts:
    """The labelled rows of a table in their parts. TableUnfit when none is in the test part."""
    with_label, split_settings = split.labelled(rows, settings), split.settings_of(settings)
    parts = split.split(with_label, split_settings)
    if parts.test.empty:
        raise TableUnfit(
            table_uri,
            ["its test part has no labelled row"],
            expected="rows to judge the model on",
            next=f"{split.more_rows(with_label, split_settings)}, or change split in the config",
        )
    return parts


def evaluate(
    parts: split.Parts,
    model: loading.LoadedModel,
    *,
    settings: config.Config,
    champion: loading.LoadedModel | None,
    lost_champion: str = "",
) -> Evaluation:
    """Score `model`, the baseline and `champion` on `parts.test` and ask the gate.

    `lost_champion` says why the champion cannot be among them, "" when it is or there is none.
    """
    truth = parts.test[settings.target].to_numpy()
    classes = model.schema.classes
    judged, probabilities = score_candidate(model, parts.test, target=settings.target)
    if probabilities is not None:
        p_value = metrics.permutation_p_value(settings.gate.metric, truth, probabilities, classes)
        judged = replace(judged, p_value=p_value)
    shares = metrics.baseline(parts.train[settings.target].to_numpy(), classes, rows=len(truth))
    baseline = gate.Candidate(name=BASELINE, scores={} if judged.unfit else metrics.scores(truth, shares, classes))
    previous = score_candidate(champion, parts.test, target=settings.target)[0] if champion else None
    test_rows = {str(label): int((truth == label).sum()) for label in dict.fromkeys([*classes, *truth.tolist()])}
    verdict = gate.judge(settings.gate, model=judged, baseline=baseline, champion=previous, test_rows=test_rows)
    if lost_champion:
        verdict = replace(verdict, reasons=[*verdict.reasons, lost_champion])
    candidates = [judged, baseline, *([previous] if previous and previous.name != judged.name else [])]
    return Evaluation(
        verdict=verdict,
        scores={candidate.name: candidate.scores for candidate in candidates if candidate.scores},
        classes=classes,
        probabilities=probabilities,
    )


def score_candidate(
    model: loading.LoadedModel, test: pd.DataFrame, *, target: str
) -> tuple[gate.Candidate, np.ndarray | None]:
    """`model` scored on `test`, with its probabilities (n, classes), or the reason why it cannot be."""
    if obstacles := _obstacles(model, test, target=target):
        return gate.Candidate(name=model.uri, scores={}, unfit=" and ".join(obstacles)), None
    try:
        probabilities = model.scorer.probabilities(test)
    except MlflowException as err:  # a column has another type than this model was trained on
        return gate.Candidate(name=model.uri, scores={}, unfit=f"the test part, {err.message}"), None
    scores = metrics.scores(test[target].to_numpy(), probabilities, model.schema.classes)
    return gate.Candidate(name=model.uri, scores=scores, trained_on=_trained_on(model, test)), probabilities


def _obstacles(model: loading.LoadedModel, test: pd.DataFrame, *, target: str) -> list[str]:
    """What `test` has that `model` does not know, and lacks that it needs."""
    unknown_labels = sorted(set(test[target]) - set(model.schema.classes))
    labels = ", ".join(str(label) for label in unknown_labels)
    unknown = [f"the test part has {target} {labels}, which it never saw"] if unknown_labels else []
    absent = [feature.name for feature in model.schema.features if feature.name not in test]
    return [*unknown, *(f"the table has no column {name}" for name in absent)]


def _trained_on(model: loading.LoadedModel, test: pd.DataFrame) -> int:
    """How many rows of `test` the model's own split puts outside its test part; 0 when the settings are the same."""
    settings = split.recorded(model.schema.split)
    if any(name not in test for name in (*settings.columns, *settings.without_group)):
        return len(test)
    return int((split.parts(test, settings) != "test").sum())
