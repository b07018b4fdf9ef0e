"""An entry point's parameters: `--name=value` strings from MLproject into a frozen dataclass, strictly."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from steps.core.config_model import EngineName, LearningRate, MaxDepth, Penalty, Rounds, SampledShare
from steps.core.config_split import TrainOn
from steps.core.config_tune import Minutes, Trials
from steps.core.config_types import Seed
from steps.core.errors import ParametersInvalid
from steps.core.validation import of_parameters, of_unknown_parameter


@dataclass_transform(kw_only_default=True, frozen_default=True)
def parameters[P](cls: type[P]) -> type[P]:
    """Class decorator: a frozen, keyword-only dataclass whose fields are the parameters of one entry point."""
    dataclass: type[P] = pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))(cls)  # type: ignore[assignment]
    return dataclass


@parameters
class Hyperparameters:
    """The parameters of every entry point that trains; None leaves a value to the config."""

    num_boost_round: Rounds | None = None
    max_depth: MaxDepth | None = None
    learning_rate: LearningRate | None = None
    early_stopping_rounds: Rounds | None = None
    seed: Seed | None = None
    subsample: SampledShare | None = None
    colsample_bytree: SampledShare | None = None
    min_child_weight: Penalty | None = None
    reg_lambda: Penalty | None = None
    reg_alpha: Penalty | None = None
    gamma: Penalty | None = None
    trials: Trials | None = None
    time_limit_minutes: Minutes | None = None
    engine: EngineName | None = None
    train_on: TrainOn | None = None

    def hyperparameters(self) -> dict[str, Any]:
        """Those that were given."""
        values = {field.name: getattr(self, field.name) for field in fields(Hyperparameters)}
        return {name: value for name, value in values.items() if value is not None}


def parse[P](cls: type[P], argv: Sequence[str], *, entry_point: str) -> P:
    """`argv` as an instance of `cls`. An empty value means the default; every mistake is reported at once."""
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    texts: dict[str, str] = {}
    mistakes = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            mistakes.append(f"{word!r} does not belong to any parameter")
            continue
        text = value if equals else next(words, None)  # MLflow hands on what MLproject does not declare as two words
        if name not in known:
            mistakes.append(of_unknown_parameter(name, known))
        elif text is None:
            mistakes.append(f"{name!r} has no value")
        elif name in texts:
            mistakes.append(f"{name!r} is given twice")
        else:
            texts[name] = text
    try:
        parsed = TypeAdapter(cls).validate_python({name: text for name, text in texts.items() if text != ""})
    except ValidationError as err:
        mistakes += of_parameters(err)
    if mistakes:
        raise ParametersInvalid(entry_point, mistakes, known)
    return parsed
