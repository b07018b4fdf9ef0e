"""Where the project lies and how its commands are started, from the environment of Airflow's processes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(os.environ.get("WORKFLOW_PROJECT") or Path(__file__).resolve().parents[4])
PYTHON = Path(os.environ.get("WORKFLOW_PYTHON") or PROJECT / ".venv" / "bin" / "python")  # of the project's environment
FOLDER = Path(os.environ.get("WORKFLOW_FOLDER") or Path.home() / "workflow")  # where commands are given; it stays
POOL = "workflow_writer"  # one slot: one step at a time


def entry_point(name: str) -> Mapping[str, str]:
    """The parameters that MLproject declares for an entry point, with their defaults."""
    declared = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))["entry_points"][name]["parameters"]
    return {parameter: text["default"] for parameter, text in declared.items()}


def config(path: str) -> Mapping[str, Any]:
    """A config by a path that is absolute or relative to the project."""
    parsed: Mapping[str, Any] = yaml.safe_load((PROJECT / path).read_text(encoding="utf-8"))
    return parsed


def step_environment(**variables: str) -> dict[str, str]:
    """The environment of a step: Airflow's, without Airflow's own settings, which hold its secrets."""
    kept = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name and name != "VIRTUAL_ENV"}
    path = os.pathsep.join([str(PYTHON.parent), kept.get("PATH", os.defpath)])
    return {"MLFLOW_LOGGING_LEVEL": "CRITICAL", **kept, "PATH": path, "PYTHONPATH": str(PROJECT), **variables}
