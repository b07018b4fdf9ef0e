"""The rows that trials are trained and scored on, in folds, and their scores. None is of the test part."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xgboost

from steps.core import config, metrics
from steps.core.errors import TableUnfit
from steps.core.models import scorer, split
from steps.core.models.split import Parts, SplitSettings


def folds_of(rows: pd.DataFrame, parts: Parts, settings: SplitSettings, *, count: int) -> list[Parts]:
    """`rows`, those outside of the test part, in `count` pairs of a train and a validation part."""
    return [
        replace(parts, train=train, validation=validation) for train, validation in split.folds(rows, settings, count)
    ]


def check(folds: Sequence[Parts], schema: scorer.Schema, settings: config.Config) -> None:
    """TableUnfit where the metric of the config's gate is not defined on the validation rows of each fold."""
    metric, by_folds = settings.gate.metric, settings.tune.by == "cross_validation"
    mistakes = []
    if by_folds and len(folds) < 2:
        mistakes.append("the rows outside of its test part are too few, or differ too little, for cross validation")
    elif undefined := [
        n for n, fold in enumerate(folds, start=1) if metric not in _baseline_scores(fold, schema, metric)
    ]:
        where = f"{len(undefined)} of {len(folds)} folds" if by_folds else "the validation part"
        mistakes.append(f"{metric} is not defined on {where}, as it needs {metrics.METRICS[metric].needs}")
    if mistakes:
        another = "fewer tune.folds" if by_folds else "tune.by: cross_validation"
        raise TableUnfit(
            schema.table_uri,
            mistakes,
            expected=f"rows by which {metric} can compare hyperparameters",
            next=f"set {another} or another gate.metric in the config, ingest more rows, or tune nothing (trials=0)",
        )


def score(booster: xgboost.Booster, schema: scorer.Schema, rows: pd.DataFrame, *, metric: str) -> float:
    """By `metric`, nan where it is not defined; of a classification on the rows of classes that training has."""
    model = scorer.Scorer()
    model.booster, model.schema = booster, schema
    if schema.task == "regression":
        truth = rows[schema.target].to_numpy(dtype=np.float64)
        return metrics.regression_scores(truth, model.values(rows), also=[metric]).get(metric, math.nan)
    known = _known(rows, schema)
    scores = metrics.scores(known[schema.target].to_numpy(), model.probabilities(known), schema.classes, also=[metric])
    return scores.get(metric, math.nan)


def _baseline_scores(fold: Parts, schema: scorer.Schema, metric: str) -> dict[str, float]:
    """The scores on the validation rows of who knows the training targets only: of the metrics that are defined."""
    if schema.task == "regression":
        train, truth = (rows[schema.target].to_numpy(dtype=np.float64) for rows in (fold.train, fold.validation))
        return metrics.regression_baseline(train, truth, also=[metric])
    truth = _known(fold.validation, schema)[schema.target].to_numpy()
    shares = metrics.baseline(fold.train[schema.target].to_numpy(), schema.classes, rows=len(truth))
    return metrics.scores(truth, shares, schema.classes, also=[metric]) if len(truth) else {}


def _known(rows: pd.DataFrame, schema: scorer.Schema) -> pd.DataFrame:
    return rows[rows[schema.target].isin(schema.classes)]
