"""The files of a registered version, and whether they are those that train logged. Imports no XGBoost."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.entities.model_registry import ModelVersion

from steps.core.errors import ModelDamaged, ModelUnreadable
from steps.core.models import registry
from steps.core.storage import disk
from steps.core.tracking import server

DESCRIPTION, CODE, BOOSTER, SCHEMA = registry.ARTIFACT_FILES
REFERENCE = "artifacts/reference.json"  # what its training rows looked like; versions of earlier releases have none
REQUIREMENTS = "requirements.txt"  # MLflow compares it with what is installed, and can do without it


def fetch(version: ModelVersion, *, into: Path | None = None) -> Path:
    """The folder on this machine that holds the version's files, a copy where it is to be one `into` a folder.
    ModelDamaged when some are gone or not as logged.

    A store that does not answer is no damage: it raises ModelUnreadable, DiskUnusable, or an error of its own.
    """
    uri = registry.uri_of(version)
    try:
        # By its own address: for models:/ MLflow writes a note into the store's folder, which a reader may not.
        address = mlflow.MlflowClient().get_model_version_download_uri(version.name, version.version)
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(into) if into else None))
    except Exception as err:  # each kind of store has its own
        if failure := disk.failure(err):
            raise failure from err
        if lost := _lost_in_store(uri):
            raise ModelDamaged(uri, f"{', '.join(lost)} is gone") from err
        raise ModelUnreadable(uri, err) from err
    if damage := _damage(folder, booster_sha256=version.tags.get(registry.BOOSTER_SHA256, "")):
        raise ModelDamaged(uri, damage)
    return folder


def _lost_in_store(uri: str) -> list[str]:
    server.check_answers(mlflow.get_tracking_uri())
    try:
        return registry.lost_files(uri)
    except Exception as err:
        raise ModelUnreadable(uri, err) from err


def _damage(folder: Path, *, booster_sha256: str) -> str:
    """What is wrong with the files in `folder`, "" when nothing is, or when they are of a model of another project."""
    if not booster_sha256 and _is_of_another_project(folder):
        return ""
    if lost := [name for name in registry.ARTIFACT_FILES if not (folder / name).is_file()]:
        return f"{', '.join(lost)} is gone"
    booster = (folder / BOOSTER).read_bytes()
    if booster_sha256 and hashlib.sha256(booster).hexdigest() != booster_sha256:
        return f"{BOOSTER} is not what was logged ({len(booster)} bytes)"
    contents = {name: (folder / name).read_bytes() for name in CHECKS if (folder / name).is_file()}
    return next((f"{name} {wrong}" for name, content in contents.items() if (wrong := CHECKS[name](content))), "")


def _is_of_another_project(folder: Path) -> bool:
    description = folder / DESCRIPTION
    flavor = _flavor(description.read_bytes()) if description.is_file() else None
    return flavor is not None and not {"booster", "schema"} <= set(flavor.get("artifacts") or {})


def _flavor(description: bytes) -> dict[str, Any] | None:
    """What an MLmodel says of a Python model; None when it is no MLmodel of one."""
    try:
        return dict(yaml.safe_load(description)["flavors"]["python_function"])
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError):
        return None


def _of_description(description: bytes) -> str:
    return "" if _flavor(description) else "does not describe a Python model"


def _of_code(code: bytes) -> str:
    try:
        compile(code, CODE, "exec")
    except (SyntaxError, ValueError) as err:
        return f"is not Python: {err}"
    return "" if b"\nset_model(" in code else "ends before it sets the model"


def _of_schema(schema: bytes) -> str:
    try:
        fields = json.loads(schema)
    except ValueError as err:  # UnicodeDecodeError too
        return f"is not JSON: {err}"
    if not isinstance(fields, dict):
        return "is not a JSON object"
    # One that says its format may be of a later one: who loads it decides.
    return "" if "format_version" in fields or {"features", "classes"} <= set(fields) else "lacks features or classes"


def _of_requirements(requirements: bytes) -> str:
    try:
        requirements.decode()
    except UnicodeDecodeError as err:
        return f"is not text: {err}"
    return ""


CHECKS: dict[str, Callable[[bytes], str]] = {  # what is wrong with a file of this name, by its content alone
    DESCRIPTION: _of_description,
    CODE: _of_code,
    SCHEMA: _of_schema,
    REQUIREMENTS: _of_requirements,
}
