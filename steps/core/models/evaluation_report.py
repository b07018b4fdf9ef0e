"""What the report and the model card say of an evaluation, gathered from its rows and its model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from steps.core import classification_metrics, metrics
from steps.core.config import Config
from steps.core.models import evaluation_pictures, explanations
from steps.core.models.evaluation import Evaluation
from steps.core.models.loading import LoadedModel
from steps.core.models.report import Report
from steps.core.models.verdict import Candidate


def report_of(
    evaluation: Evaluation,
    test: pd.DataFrame,
    model: LoadedModel,
    *,
    settings: Config,
    facts: Mapping[str, str],
    warnings: Sequence[str] = (),
) -> Report:
    """The report on `model`, which was judged on the rows of `test`; without pictures where it could not be scored."""
    truth = test[settings.target].to_numpy()
    told = Report(
        title=model.uri,
        verdict=evaluation.verdict,
        facts=_facts(facts, evaluation.champion),
        warnings=warnings,
        scores=_scores(evaluation),
        metric=settings.gate.metric,
        per_class=evaluation.per_class(truth),
    )
    if evaluation.probabilities is None and evaluation.predicted is None:
        return told
    if evaluation.probabilities is not None:
        pictures = evaluation_pictures.of_classification(truth, evaluation.probabilities, evaluation.classes)
        codes = metrics.codes_of(truth, evaluation.classes)
        losses = classification_metrics.log_losses(codes, evaluation.probabilities)
        answers = [evaluation.classes[code] for code in evaluation.probabilities.argmax(axis=1)]
        unit = "nats: -ln of the true class's probability"
    else:
        assert evaluation.predicted is not None
        truth = truth.astype(np.float64)
        pictures = evaluation_pictures.of_regression(truth, evaluation.predicted)
        losses = np.abs(truth - evaluation.predicted)
        answers = evaluation.predicted.tolist()
        unit = "true minus predicted, without its sign"
    return replace(
        told,
        pictures=pictures,
        importances=explanations.importances(model.scorer.booster, model.schema, test),
        slices=evaluation.slices,
        worst_rows=explanations.worst_rows(
            test, losses, truth=truth.tolist(), predicted=answers, columns=_shown_columns(test, settings)
        ),
        unit=unit,
    )


def _facts(facts: Mapping[str, str], champion: Candidate | None) -> dict[str, str]:
    """`facts`, and on which rows the version is compared with the champion where these are not the whole test part."""
    return {**facts, **({f"compared with {champion.name} on": champion.rows} if champion and champion.rows else {})}


def _scores(evaluation: Evaluation) -> dict[str, Mapping[str, float]]:
    """The scores by what they are of: the champion's on some of the rows have the version's own beside them."""
    scores, champion = dict(evaluation.scores), evaluation.champion
    if champion is None or champion.against is None:
        return scores
    where = "on the rows new to both"
    return {
        **{name: of_one for name, of_one in scores.items() if name != champion.name},
        f"{champion.name} {where}": champion.scores,
        f"this version {where}": champion.against,
    }


def _shown_columns(test: pd.DataFrame, settings: Config) -> list[str]:
    """The key, the slices' columns and the features, as far as they are there."""
    names = dict.fromkeys([*settings.key, *settings.gate.slices, *settings.features])
    return [name for name in names if name in test and name != settings.target]
