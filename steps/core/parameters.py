"""An entry point's parameters: `--name=value` strings from MLproject into a frozen dataclass, strictly."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from steps.core.config import LearningRate, MaxDepth, Rounds, Seed
from steps.core.errors import ParametersInvalid, did_you_mean


@dataclass_transform(kw_only_default=True, frozen_default=True)
def parameters[P](cls: type[P]) -> type[P]:
    """Class decorator: a frozen, keyword-only dataclass whose fields are the parameters of one entry point."""
    made: type[P] = pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))(cls)  # type: ignore[assignment]
    return made


@parameters
class Hyperparameters:
    """The parameters of every entry point that trains; None leaves a value to the config."""

    rounds: Rounds | None = None
    max_depth: MaxDepth | None = None
    learning_rate: LearningRate | None = None
    seed: Seed | None = None

    def hyperparameters(self) -> dict[str, Any]:
        """Those that were given."""
        values = {each.name: getattr(self, each.name) for each in fields(Hyperparameters)}
        return {name: value for name, value in values.items() if value is not None}


def parse[P](cls: type[P], argv: Sequence[str], *, entry_point: str) -> P:
    """`argv` as an instance of `cls`. An empty value means the default; every mistake is reported at once."""
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in known:
        parser.add_argument(f"--{name}", default="")
    try:
        given, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as err:
        raise ParametersInvalid(entry_point, [str(err)], known) from err
    unknown = [word.removeprefix("--").partition("=")[0] for word in rest if word.startswith("--")]
    mistakes = [f"{name!r} is not one of them{did_you_mean(name, known)}" for name in unknown]
    if rest and not unknown:
        mistakes = [f"{rest[0]!r} does not belong to any parameter"]
    try:
        values: dict[str, Any] = {name: value for name, value in vars(given).items() if value != ""}
        parsed = TypeAdapter(cls).validate_python(values)
    except ValidationError as err:
        mistakes += [_mistake(details) for details in err.errors()]
    if mistakes:
        raise ParametersInvalid(entry_point, mistakes, known)
    return parsed


def _mistake(details: Any) -> str:
    message = details["msg"]
    return f"{'.'.join(map(str, details['loc']))}={details['input']!r}: {message[0].lower()}{message[1:]}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)
