"""What pydantic finds wrong with a config or a parameter, in words: one line a mistake, with the name of the key."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from steps.core.errors import did_you_mean

RENAMED_KEYS = {  # old key, by its path in the config, to the new name of its last part
    "model.rounds": "num_boost_round",
    "gate.over_baseline": "min_gain_over_baseline",
    "gate.below_champion": "max_drop_below_champion",
}


def of_config(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """The path of each key, what is wrong with it and, for an unknown key, its new name or the nearest known one."""
    return [line for details in error.errors() for line in _of_key(details, model).splitlines()]


def of_parameters(error: ValidationError) -> list[str]:
    """The name of each parameter, its value and what is wrong with it."""
    return [_of_parameter(details) for details in error.errors()]


def of_unknown_parameter(name: str, known: Sequence[str]) -> str:
    """The mistake in a name that no parameter has, with its new name or the nearest one."""
    new_name = RENAMED_KEYS.get(f"model.{name}")  # hyperparameters are called as in the config
    if new_name in known:
        return f"{name!r} was renamed to {new_name!r}"
    return f"{name!r} is not one of them{did_you_mean(name, known)}"


def _of_parameter(details: Any) -> str:
    path, message = _path(details), details["msg"]
    if details["type"] == "value_error":
        return f"{path}: {message.removeprefix('Value error, ')}"
    return f"{path}={details['input']!r}: {message[0].lower()}{message[1:]}"


def _of_key(details: Any, model: type[BaseModel]) -> str:
    path, message = _path(details), re.sub(r"^Value error, ", "", details["msg"])
    if details["type"] == "extra_forbidden" and re.fullmatch(r"columns\.\w+\.required", path):
        return f"{path} is `nullable: {str(not details['input']).lower()}` now"
    if details["type"] == "extra_forbidden" and path in RENAMED_KEYS:
        return f"{path} was renamed to {RENAMED_KEYS[path]!r}"
    if details["type"] == "extra_forbidden":
        return f"{path} is not a key{did_you_mean(str(details['loc'][-1]), _keys_beside(details['loc'], model))}"
    if details["type"] == "missing":
        return f"{path} is missing"
    if details["type"] == "value_error":
        return f"{path}: {message}" if path else message
    if details["type"] == "model_type" and path:
        keys = ", ".join(_keys_beside((*details["loc"], ""), model))
        return f"{path}: {details['input']!r} given; it has the keys {keys}"
    return f"{path}: {details['input']!r} given, {message[0].lower()}{message[1:]}"


def _path(details: Any) -> str:
    return ".".join(str(part) for part in details["loc"] if part != "[key]")


def _keys_beside(location: tuple[int | str, ...], model: type[BaseModel]) -> Iterable[str]:
    """The keys that are known where the last part of `location` stands. The names of columns are passed over."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        model = next(_models_in(field.annotation), model) if field else model
    return model.model_fields


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, also as values of a mapping and beside None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
