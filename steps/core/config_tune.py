"""The config's `tune`: how hyperparameters are searched, and in which ranges."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from steps.core.columns import Strict
from steps.core.errors import did_you_mean

Trials = Annotated[int, Field(ge=0, le=10_000)]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Folds = Annotated[int, Field(ge=2, le=50)]


class Range(Strict):
    """The values of one hyperparameter, both limits included."""

    low: float
    """The least value."""
    high: float
    """The greatest value."""
    log: bool = False
    """Small and large values are equally likely."""

    @model_validator(mode="after")
    def _has_values(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: true needs a low above 0, not {self.low:g}")
        return self

    def nearest(self, value: float) -> float:
        """The value of this range that is next to `value`."""
        return type(value)(min(max(value, self.low), self.high))


# The ranges of Optuna's own example (optuna-examples, xgboost/xgboost_simple.py), but for two: its learning rates
# from 1e-8 learn nothing in the rounds that there are, and a min_child_weight of 1 is XGBoost's default.
SPACE: dict[str, Range] = {
    "max_depth": Range(low=3, high=9),
    "learning_rate": Range(low=0.01, high=0.3, log=True),
    "min_child_weight": Range(low=1, high=10),
    "subsample": Range(low=0.2, high=1),
    "colsample_bytree": Range(low=0.2, high=1),
    "gamma": Range(low=1e-8, high=1, log=True),
    "reg_lambda": Range(low=1e-8, high=1, log=True),
    "reg_alpha": Range(low=1e-8, high=1, log=True),
}


class Tune(Strict):
    """A search for better hyperparameters than those under `model`, by the gate's metric on rows of no test part.

    The set of `model` itself is the first that is tried.
    """

    trials: Trials = 0
    """How many sets of hyperparameters are tried, the config's own among them; 0 searches nothing."""
    time_limit_minutes: Minutes | None = None
    """No trial begins after it; by default there is no limit."""
    by: Literal["validation", "cross_validation"] = "validation"
    """What a trial is scored on: the validation part, or folds of all rows outside of the test part."""
    folds: Folds = 5
    """Of cross validation."""
    space: dict[str, Range | None] = {}
    """Ranges in place of those of SPACE, as `[low, high]` or `{low: , high: , log: }`; null: not searched."""

    @field_validator("space", mode="before")
    @classmethod
    def _ranges(cls, given: Any) -> Any:
        """Ranges as [low, high] too, and on a parameter's usual scale where `log` is not said."""
        if not isinstance(given, Mapping):
            return given
        if unknown := [name for name in given if name not in SPACE]:
            hint = did_you_mean(str(unknown[0]), SPACE)
            raise ValueError(f"{unknown[0]!r} is not searched{hint}; what can be is {', '.join(SPACE)}")
        return {name: _range(name, limits) for name, limits in given.items()}

    @property
    def searched(self) -> set[str]:
        """The hyperparameters whose values the search decides; none without trials."""
        return {*self.ranges, "num_boost_round"} if self.trials else set()

    @property
    def stops_early(self) -> bool:
        """Whether the validation part decides the number of rounds of the model that is registered."""
        return not self.trials or self.by == "validation"

    def mistakes(self, model: BaseModel) -> list[str]:
        """The limits under `space` that `model` refuses as values of its hyperparameters, a line each."""
        found = []
        for name, limits in self.space.items():
            for limit in (limits.low, limits.high) if limits else ():
                try:
                    type(model).model_validate({**model.model_dump(), name: limit})
                except ValidationError as err:
                    message = err.errors()[0]["msg"]
                    found.append(f"tune.space.{name}: {limit:g} given, {message[0].lower()}{message[1:]}")
        return found

    @property
    def ranges(self) -> dict[str, Range]:
        """What is searched, by name, always in the same order."""
        ranges = {**SPACE, **self.space}
        return {name: limits for name, limits in ranges.items() if limits is not None}


def _range(name: str, given: Any) -> Any:
    if isinstance(given, (list, tuple)):
        if len(given) != 2:
            raise ValueError(f"{name}: {given!r} given; a range is [low, high] or {{low: ..., high: ..., log: ...}}")
        given = {"low": given[0], "high": given[1]}
    if not isinstance(given, Mapping):
        return given
    if wrong := [limit for limit in (given.get("low"), given.get("high")) if isinstance(limit, bool)]:
        raise ValueError(f"{name}: {wrong[0]!r} given; a range has numbers")
    if "log" in given:
        return given
    try:
        is_positive = float(given.get("low", 0)) > 0
    except (TypeError, ValueError):
        is_positive = False  # pydantic says what is wrong with it
    return {**given, "log": SPACE[name].log and is_positive}
