"""What XGBoost lowers while it boosts: by the task and the config, with the parameters that it is handed."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xgboost

from steps.core import config
from steps.core.errors import ConfigInvalid, did_you_mean
from steps.core.models import local_training, scorer
from steps.core.models.boosting import Block, Recipe

BINARY, MULTI_CLASS = "binary:logistic", "multi:softprob"  # for two classes, and for more
SQUARED_ERROR, QUANTILE_ERROR = "reg:squarederror", "reg:quantileerror"

type TargetRule = tuple[Callable[[np.ndarray], np.ndarray], str]  # which targets may be learnt, (n,), and that in words

ANY_NUMBER: TargetRule = (np.isfinite, "of any finite number")
AT_LEAST_ZERO: TargetRule = (lambda targets: targets >= 0, "0 or more")
TARGET_RULES: dict[str, TargetRule] = {  # by what asks for them in the config
    "objective: count:poisson": AT_LEAST_ZERO,
    "objective: reg:tweedie": AT_LEAST_ZERO,
    "objective: reg:gamma": (lambda targets: targets > 0, "above 0"),
    "target_transform: log": (lambda targets: targets > -1, "above -1"),
}


def objective_of(model: config.Model, *, class_count: int) -> str:
    """XGBoost's name of the objective of a regression (no class), of two classes or of more."""
    if class_count:
        return BINARY if class_count == 2 else MULTI_CLASS
    return model.objective or SQUARED_ERROR


def parameters_of(schema: scorer.Schema, model: config.Model, *, cells: int) -> dict[str, Any]:
    """What xgboost.train() is told to learn a model on a matrix of so many `cells`.

    XGBoost stops by the objective's own metric, which is its default. The same number of threads adds in the same
    order, so it gives the same trees.
    """
    directions = {name: 1 if direction == "increasing" else -1 for name, direction in model.monotone.items()}
    return {
        **model.params,
        "objective": schema.objective,
        **({"num_class": len(schema.classes)} if schema.objective == MULTI_CLASS else {}),
        **({"quantile_alpha": model.quantile} if schema.objective == QUANTILE_ERROR else {}),
        **({"monotone_constraints": directions} if directions else {}),
        "max_depth": model.max_depth,
        "learning_rate": model.learning_rate,
        "subsample": model.subsample,
        "colsample_bytree": model.colsample_bytree,
        "min_child_weight": model.min_child_weight,
        "reg_lambda": model.reg_lambda,
        "reg_alpha": model.reg_alpha,
        "gamma": model.gamma,
        "seed": model.seed,
        "nthread": scorer.threads(cells),
    }


def check_parameters(schema: scorer.Schema, model: config.Model, *, path: str) -> None:
    """ConfigInvalid when XGBoost has no use for one of `model.params`, or refuses its value; `path` is the config's.

    XGBoost itself is asked, by a training on two rows: it alone knows which parameters go with an objective.
    """
    if not model.params:
        return
    names = scorer.column_names(schema.features)
    rows = Block(
        features=np.zeros((2, len(names)), dtype=np.float32),
        target=np.array([0.0, 1.0] if schema.classes else [1.0, 2.0]),
    )
    recipe = Recipe(
        parameters=parameters_of(schema, model, cells=rows.features.size),
        num_boost_round=1,
        early_stopping_rounds=None,
        names=names,
        types=scorer.feature_types(schema.features),
        encode=lambda _: rows,
    )
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            booster = local_training.boost(recipe, lambda: [rows], lambda: [rows]).booster
    except xgboost.core.XGBoostError as err:
        raise ConfigInvalid(path, [f"model.params: XGBoost refuses them: {_reason(err)}"]) from err
    known = sorted(set(_names_in(json.loads(booster.save_config()))))
    if unused := _unused_names([str(warning.message) for warning in told]):
        raise ConfigInvalid(
            path,
            [
                f"model.params: XGBoost has no use for {name!r} with {schema.objective}{did_you_mean(name, known)}"
                for name in unused
            ],
        )


def _reason(error: Exception) -> str:
    """What XGBoost says, without the place in its own source and the addresses that follow."""
    first = str(error).strip().partition("\nStack trace")[0].replace("\n", " ")
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", first).strip()


def _unused_names(messages: list[str]) -> list[str]:
    listed = [match[1] for message in messages if (match := re.search(r"Parameters: \{(.*)\} are not used", message))]
    return sorted({name for names in listed for name in re.findall(r'"([^"]+)"', names)})


def _names_in(settings: Any) -> Iterator[str]:
    """The names of all parameters in what XGBoost says of itself."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            if isinstance(value, str):
                yield name
            yield from _names_in(value)
    if isinstance(settings, list):
        for value in settings:
            yield from _names_in(value)
