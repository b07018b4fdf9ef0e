"""The parameters of `main` as those of a DAG run: names and defaults from MLproject, types from parameters.json."""

import json
from collections.abc import Mapping
from pathlib import Path

from airflow.sdk import Param

from workflow_dags import settings

SCHEMAS = json.loads(Path(__file__).with_name("parameters.json").read_text(encoding="utf-8"))


def of_main(*, config: str) -> dict[str, Param]:
    """What a user may set when a run is started by hand; `config` is the default of that parameter."""
    defaults = {**settings.entry_point("main"), "config": config}
    return {name: Param(_typed(text, SCHEMAS[name]["type"]), **SCHEMAS[name]) for name, text in defaults.items()}


def as_text(value: object) -> str:
    """A parameter's value as the entry points take it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def words(values: Mapping[str, str]) -> list[str]:
    """The options of a command; what is empty is left to the entry point's default."""
    return [f"--{name}={value}" for name, value in values.items() if value]


def _typed(text: str, kind: str | list[str]) -> object:
    if kind == "boolean":
        return text == "true"
    return text or (None if "null" in kind else "")
