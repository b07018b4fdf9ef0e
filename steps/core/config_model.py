"""The `model` part of a config: what is learnt, by which hyperparameters, and under which constraints."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from steps.core.columns import NUMBERS, Column, Strict
from steps.core.config_types import Seed, matches
from steps.core.errors import did_you_mean
from steps.core.metrics import Task

# What a models:/ URI and MLflow's filters can hold.
ModelName = Annotated[
    str,
    Field(max_length=256),  # as MLflow's databases hold it
    matches(
        r"[^/:@%\x22.\s][^/:@%\x22]*",
        "a model's name is not empty, has none of / : @ % and \", and does not begin with a blank or a dot",
    ),
]
Rounds = Annotated[int, Field(ge=1, le=100_000)]
MaxDepth = Annotated[int, Field(ge=1, le=64)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
SampledShare = Annotated[float, Field(gt=0, le=1)]  # of rows or columns; below 1 the seed says which
Penalty = Annotated[float, Field(ge=0, allow_inf_nan=False)]
type EngineName = Literal["local", "spark"]  # what boosts: this process, or Spark's workers

type RegressionObjective = Literal[
    "reg:squarederror", "reg:absoluteerror", "reg:quantileerror", "count:poisson", "reg:tweedie", "reg:gamma"
]
LOG_LINKED = ("count:poisson", "reg:tweedie", "reg:gamma")  # these learn the logarithm of the target's mean themselves
DEFAULT_QUANTILE = 0.5
LABEL_TYPES: dict[str, type] = {"string": str, "int": int, "long": int, "boolean": bool}  # of a class, by its kind

NAMED = {  # XGBoost's names of what stands beside `params`, or among the columns, by its own name
    **{name: name for name in ("max_depth", "learning_rate", "early_stopping_rounds", "seed", "subsample")},
    **{name: name for name in ("colsample_bytree", "min_child_weight", "reg_lambda", "reg_alpha", "gamma")},
    **{"num_boost_round": "num_boost_round", "n_estimators": "num_boost_round", "eta": "learning_rate"},
    **{"random_state": "seed", "lambda": "reg_lambda", "alpha": "reg_alpha", "min_split_loss": "gamma"},
    **{"objective": "objective", "quantile_alpha": "quantile", "monotone_constraints": "monotone"},
}
# What follows from the config, from the machine, or from how a model is read again.
SET_BY_THE_PROJECT = (
    *("num_class", "eval_metric", "disable_default_eval_metric", "nthread", "n_jobs", "booster", "verbosity"),
    *("validate_parameters", "process_type", "updater", "refresh_leaf", "multi_strategy"),
)


class Model(Strict):
    """Hyperparameters by the names that xgboost.train() gives them, and what is learnt under which constraints."""

    name: ModelName
    """Of the registered model in MLflow."""
    num_boost_round: Rounds = 200
    """How many rounds at most; the best one on the validation part is kept."""
    max_depth: MaxDepth = 6
    """Of each tree."""
    learning_rate: LearningRate = 0.1
    """How much of what a tree learns is taken."""
    early_stopping_rounds: Rounds = 20
    """Training stops after so many rounds without a better one on the validation part."""
    seed: Seed = 0
    """Of the rows and columns that are sampled."""
    subsample: SampledShare = 1.0
    """The share of the rows that each tree sees."""
    colsample_bytree: SampledShare = 1.0
    """The share of the columns that each tree sees."""
    min_child_weight: Penalty = 1.0
    """The least sum of weights (of second derivatives) in a leaf."""
    reg_lambda: Penalty = 1.0
    """Penalty on the squares of what leaves say."""
    reg_alpha: Penalty = 0.0
    """Penalty on the sizes of what leaves say."""
    gamma: Penalty = 0.0
    """The least that a split must lower the loss by."""
    objective: RegressionObjective | None = None
    """Of a regression; by default `reg:squarederror`."""
    quantile: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_QUANTILE
    """Which one `reg:quantileerror` learns."""
    target_transform: Literal["log"] | None = None
    """log: learns ln(1 + target), and predicts targets all the same."""
    class_weights: Literal["balanced"] | dict[str | int | bool, float] | None = None
    """How much a row of each class counts; balanced: all classes the same. A class that is not named weighs 1."""
    monotone: dict[str, Literal["increasing", "decreasing"]] = {}
    """How predictions may move with a feature."""
    params: dict[str, bool | int | float | str] = {}
    """Further parameters by XGBoost's names; `train` asks XGBoost whether it has use for them."""
    engine: EngineName | None = None
    """What boosts: the step's process, or Spark's workers; by default it follows from the size of the table."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights_are_above_zero(cls, given: Any) -> Any:
        """One message in place of one for each type that there may be."""
        if given is None or given == "balanced":
            return given
        if not isinstance(given, dict):
            raise ValueError(f"{given!r} given; it is balanced, or a weight of each class, such as {{rare: 3}}")
        for label, weight in given.items():
            is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not isinstance(label, (str, int)) or not is_number or not 0 < weight < math.inf:
                raise ValueError(f"{weight!r} given for {label!r}; a weight of a class is a number above 0")
        return given

    @field_validator("params", mode="before")
    @classmethod
    def _params_are_free(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError(f"{given!r} given; they are names and values, such as {{max_bin: 512}}")
        wrong = [f"{name!r} is model.{NAMED[name]}" for name in given if name in NAMED]
        wrong += [f"{name!r} is set by the project" for name in given if name in SET_BY_THE_PROJECT]
        wrong += [
            f"{value!r} given for {name!r}, no number, text or truth value"
            for name, value in given.items()
            if not isinstance(value, (bool, int, float, str))
        ]
        if wrong:
            raise ValueError(", ".join(wrong))
        return given

    def mistakes(self, task: Task, *, target: Column, features: Mapping[str, Column]) -> list[str]:
        """What of these settings does not fit the rest of a config, a line each."""
        found = list(self._of_regression(task)) if task == "classification" else list(self._of_classes(task))
        if isinstance(self.class_weights, dict) and task == "classification":
            wanted = LABEL_TYPES.get(target.kind, str)
            found += [
                f"model.class_weights: {label!r} is no {target.kind}, which the target is"
                for label in self.class_weights
                if type(label) is not wanted
            ]
        return [*found, *self._of_constraints(features)]

    def _of_regression(self, task: Task) -> Iterable[str]:
        for name in ("objective", "target_transform"):
            if (given := getattr(self, name)) is not None:
                yield f"model.{name}: {given!r} is for `task: regression`, not {task}"
        if self.quantile != DEFAULT_QUANTILE:
            yield f"model.quantile: {self.quantile} is for `task: regression`, not {task}"

    def _of_classes(self, task: Task) -> Iterable[str]:
        if self.class_weights is not None:
            yield f"model.class_weights: is for `task: classification`, not {task}; `weight` names a column of weights"
        if self.quantile != DEFAULT_QUANTILE and self.objective != "reg:quantileerror":
            yield f"model.quantile: {self.quantile} is for `objective: reg:quantileerror`"
        if self.target_transform and self.objective in LOG_LINKED:
            yield (
                f"model.target_transform: {self.objective} learns the logarithm of the mean by itself; leave the "
                "transform out, or say `objective: reg:squarederror`"
            )

    def _of_constraints(self, features: Mapping[str, Column]) -> Iterable[str]:
        for name in self.monotone:
            if name not in features:
                yield f"model.monotone: {name!r} is no feature{did_you_mean(name, features)}"
            elif features[name].kind not in NUMBERS or features[name].categorical:
                kind = "categories" if features[name].categorical else features[name].kind
                yield f"model.monotone: {name!r} is {kind}; increasing and decreasing are for numbers"
