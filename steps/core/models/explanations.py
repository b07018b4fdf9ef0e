"""Why a model answers as it does, and where it errs most, on rows of the test part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xgboost

from steps.core.models import boosting, scorer

EXPLAINED_ROWS = 1_000  # of the test part, at most: a mean over more hardly moves, and each row takes all trees
WORST_ROWS = 10


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much a model uses a feature, as shares of all: `gain` is how much its splits lowered the loss in training,
    `contribution` its mean absolute SHAP value on test rows."""

    feature: str
    gain: float
    contribution: float


@dataclass(frozen=True, kw_only=True)
class WorstRow:
    """A test row with a large `loss`: of a classification in nats, of a regression in the target's unit. `values`
    are those of its key and features."""

    loss: float
    true: str
    predicted: str
    values: dict[str, str]


def importances(booster: xgboost.Booster, schema: scorer.Schema, rows: pd.DataFrame) -> list[Importance]:
    """Of every column of the model, the one that contributes most first."""
    gain = boosting.total_gain(booster)
    names = list(booster.feature_names or [])
    gains = np.array([gain.get(name, 0.0) for name in names])
    contributed = np.abs(contributions(booster, schema, rows)[..., :-1])  # the last is the bias
    by_feature = contributed.reshape(-1, len(names)).mean(axis=0)
    shares = zip(names, gains / (gains.sum() or 1), by_feature / (by_feature.sum() or 1), strict=True)
    found = [Importance(feature=name, gain=float(g), contribution=float(c)) for name, g, c in shares]
    return sorted(found, key=lambda one: (-one.contribution, -one.gain))


def contributions(booster: xgboost.Booster, schema: scorer.Schema, rows: pd.DataFrame) -> np.ndarray:
    """SHAP values by XGBoost itself (Lundberg and others 2020), of at most EXPLAINED_ROWS: (rows, features + 1), or
    (rows, classes, features + 1) of several classes. They and the bias, which is last, sum to the raw output."""
    matrix = scorer.design_matrix(rows.head(EXPLAINED_ROWS), schema.features)  # in the order of their hashes
    data = scorer.dmatrix(matrix, schema.features)
    values: np.ndarray = booster.predict(data, pred_contribs=True).astype(np.float64)
    return values


def worst_rows(
    rows: pd.DataFrame, losses: np.ndarray, *, truth: Sequence[Any], predicted: Sequence[Any], columns: Sequence[str]
) -> list[WorstRow]:
    """The WORST_ROWS with the largest loss, the worst first; `columns` are those to show."""
    worst = np.argsort(-losses, kind="stable")[:WORST_ROWS]
    return [
        WorstRow(
            loss=float(losses[row]),
            true=_shown(truth[row]),
            predicted=_shown(predicted[row]),
            values={column: _shown(rows[column].iloc[row]) for column in columns},
        )
        for row in worst.tolist()
    ]


def _shown(value: Any) -> str:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "–"
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
