"""What a run of train shows in MLflow of how a booster was made."""

import time
from collections.abc import Mapping, Set
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from steps.core import config
from steps.core.models import boosting, plots
from steps.core.models.training import Fit


def settings_of(model: config.Model, *, without: Set[str]) -> Mapping[str, Any]:
    """What a model is trained with, by names of StepRun.ran_with(): all settings that have a value, but `without`."""
    values = {f"model__{name}": value for name, value in model.model_dump(exclude={"params", *without}).items()}
    values |= {f"model__params__{name}": value for name, value in model.params.items()}
    return {name: value for name, value in values.items() if value not in (None, {})}


def log_fit(fit: Fit, run_id: str) -> None:
    """The metric of each part after each round, the round that was kept, and two pictures."""
    now = time.time_ns() // 10**6
    metrics = [
        Metric(f"{part}_{fit.metric}", value, now, round_number)
        for part, values in fit.history.items()
        for round_number, value in enumerate(values, start=1)
    ]
    MlflowClient().log_batch(run_id, metrics=metrics)
    mlflow.log_metric("best_round", fit.best_round)
    curve = plots.learning_curve(fit.history, best_round=fit.best_round, metric=fit.metric)
    mlflow.log_figure(curve, "learning_curve.png")
    mlflow.log_figure(plots.feature_importance(boosting.total_gain(fit.booster)), "feature_importance.png")
