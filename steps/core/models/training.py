"""Boost a model on the train part of a table: what its schema is, and how many rounds are best."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import xgboost
from mlflow.exceptions import MlflowException

from steps.core import config
from steps.core.errors import TableUnfit
from steps.core.models import scorer
from steps.core.models.split import Parts, SplitSettings, more_rows

METRIC = "mlogloss"  # XGBoost's multi-class log loss, nats per row


@dataclass(frozen=True, kw_only=True)
class Fit:
    """`booster` holds the best rounds only; `history` the metric of each part after each round that was tried."""

    booster: xgboost.Booster
    best_round: int
    history: dict[str, list[float]]

    @property
    def total_gain(self) -> dict[str, float]:
        """How much each feature that is in a tree has lowered the loss, over all its splits."""
        gain = self.booster.get_score(importance_type="total_gain")
        return {name: float(value) for name, value in gain.items()}  # type: ignore[arg-type]


def fit_booster(parts: Parts, schema: scorer.Schema, *, model: config.Model) -> Fit:
    """Boost on `parts.train` until `parts.validation` has not got better for early_stopping_rounds."""
    train, validation = (_labelled_matrix(rows, schema) for rows in (parts.train, parts.validation))
    evaluations: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        {
            "objective": "multi:softprob",
            "num_class": len(schema.classes),
            "eval_metric": METRIC,
            "max_depth": model.max_depth,
            "learning_rate": model.learning_rate,
            "seed": model.seed,
            "nthread": scorer.threads(train.num_row() * train.num_col()),
        },
        train,
        num_boost_round=model.num_boost_round,
        evals=[(train, "train"), (validation, "validation")],
        early_stopping_rounds=model.early_stopping_rounds,
        evals_result=evaluations,
        verbose_eval=False,
    )
    best_round = booster.best_iteration + 1
    history = {part: values[METRIC] for part, values in evaluations.items()}
    return Fit(booster=booster[:best_round], best_round=best_round, history=history)


def learn_schema(
    parts: Parts, settings: config.Config, *, split_settings: SplitSettings, table_uri: str
) -> scorer.Schema:
    """What the train part says of the features and the classes. TableUnfit when there is nothing to learn."""
    label_type = {"long": int, "boolean": bool, "string": str}[settings.columns[settings.target].type]
    labels = sorted({label_type(label) for label in parts.train[settings.target]})
    mistakes = [f"its {name} part has no labelled row" for name, rows in asdict(parts).items() if rows.empty]
    if len(labels) == 1:
        mistakes.append(f"{settings.target} has one value ({labels[0]}) in its train part")
    if labels and not parts.validation.empty and not parts.validation[settings.target].isin(labels).any():
        mistakes.append(f"no value of {settings.target} in its validation part is in its train part")
    if mistakes:
        with_label = pd.concat([parts.train, parts.validation, parts.test])
        raise TableUnfit(
            table_uri,
            mistakes,
            expected=f"rows in all three parts, with at least two values of {settings.target} to tell apart",
            next=f"{more_rows(with_label, split_settings)}, or change split or target in the config",
        )
    features = [
        scorer.Feature(
            name=name,
            type=settings.columns[name].type,  # type: ignore[arg-type]  # Config allows no dates among features
            levels=_levels(parts.train[name]) if settings.columns[name].type == "string" else None,
        )
        for name in settings.features
    ]
    return scorer.Schema(
        features=tuple(features),
        target=settings.target,
        classes=tuple(labels),
        split=asdict(split_settings),
        table_uri=table_uri,
    )


def _labelled_matrix(rows: pd.DataFrame, schema: scorer.Schema) -> xgboost.DMatrix:
    known = rows[rows[schema.target].isin(schema.classes)]
    codes = {label: code for code, label in enumerate(schema.classes)}
    try:
        matrix = scorer.design_matrix(known, schema.features)
    except MlflowException as err:
        raise TableUnfit(
            schema.table_uri,
            [err.message],
            expected="values of the types that the config has under `columns`",
            next="ingest the table with this config, or pass another table",
        ) from err
    return xgboost.DMatrix(
        matrix,
        label=np.array([codes[label] for label in known[schema.target]]),
        feature_names=[feature.name for feature in schema.features],
        feature_types=scorer.feature_types(schema.features),
        enable_categorical=True,
    )


def _levels(values: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(values.dropna().unique()))
