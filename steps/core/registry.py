"""Registered models: text to one version, verdicts, and aliases that keep their history. Reads and writes MLflow."""

import getpass
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.pyfunc import PyFuncModel, load_model

from steps.core.errors import ModelNotFound, ParametersInvalid
from steps.core.scorer import Scorer

STAGING = "staging"  # what the gate moves, and what names the champion
PRODUCTION = "production"
HISTORY = "alias_history."  # tags on the registered model: alias_history.<alias>.<when> = Move
VERDICT = "verdict"  # tags on a version: verdict, verdict.reasons, verdict.run_id
_MISSING = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


@dataclass(frozen=True, kw_only=True)
class Move:
    """One move of an alias: `when` in ISO 8601 UTC; `from_version` is "" the first time, `to_version` never."""

    when: str
    who: str
    from_version: str
    to_version: str
    how: Literal["gate", "promote", "previous"]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A version with its model: `enforced` checks its input against the signature, `scorer` is what it wraps."""

    uri: str
    enforced: PyFuncModel
    scorer: Scorer


def uri_of(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def resolve(uri: str) -> ModelVersion:
    """The version that `models:/<name>/<version>` or `models:/<name>@<alias>` names now. ModelNotFound else."""
    parsed = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))", uri)
    if parsed is None:
        raise ModelNotFound(f"{uri!r} does not name a version of a model", known=_model_names())
    name, number, alias = parsed.groups()
    version = find(name, number or "") if number else champion(name, alias)
    if version is None:
        known = [uri_of(each) for each in _versions(name)] + [f"models:/{name}@{each}" for each in aliases(name)]
        raise ModelNotFound(f"{uri} does not exist", known=known or _model_names())
    return version


def newest_uri(name: str) -> str:
    """The URI of the version registered last. ModelNotFound when there is none."""
    versions = _versions(name)
    if not versions:
        raise ModelNotFound(f"model {name} has no version", known=_model_names())
    return uri_of(max(versions, key=lambda version: int(version.version)))


def find(name: str, number: str) -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version(name, number)
    except MlflowException as err:
        if err.error_code != _MISSING:
            raise
        return None


def champion(name: str, alias: str = STAGING) -> ModelVersion | None:
    """The version that an alias names, None when it names none or there is no such model."""
    number = aliases(name).get(alias)
    return find(name, number) if number else None


def aliases(name: str) -> dict[str, str]:
    """Alias to version number. Read from the model: searching versions leaves aliases out (mlflow/mlflow#9783)."""
    try:
        return {alias: str(number) for alias, number in MlflowClient().get_registered_model(name).aliases.items()}
    except MlflowException as err:
        if err.error_code != _MISSING:
            raise
        return {}


def load(version: ModelVersion) -> LoadedModel:
    enforced = load_model(uri_of(version))
    scorer: Scorer = enforced.unwrap_python_model()
    return LoadedModel(uri=uri_of(version), enforced=enforced, scorer=scorer)


def tag(version: ModelVersion, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(version.name, version.version, key, value)


def record_verdict(version: ModelVersion, *, verdict: str, reasons: list[str], run_id: str) -> None:
    """Tag a version with the gate's verdict on it; a later verdict replaces an earlier one."""
    tag(version, {VERDICT: verdict, f"{VERDICT}.reasons": "; ".join(reasons)[:5000], f"{VERDICT}.run_id": run_id})


def move_alias(version: ModelVersion, alias: str, *, how: Literal["gate", "promote", "previous"]) -> bool:
    """Let `alias` name `version` and write the move into the model's history. False when it named it already."""
    client = MlflowClient()
    now = aliases(version.name).get(alias, "")
    if now == str(version.version):
        return False
    when = datetime.now(UTC).isoformat(timespec="microseconds")
    move = Move(when=when, who=getpass.getuser(), from_version=now, to_version=str(version.version), how=how)
    client.set_registered_model_alias(version.name, alias, version.version)
    tag = f"{HISTORY}{alias}.{when.replace('+00:00', 'Z')}"  # "+" is not allowed in the key of a tag
    client.set_registered_model_tag(version.name, tag, json.dumps(asdict(move)))
    return True


def history(name: str, alias: str) -> list[Move]:
    """The moves of an alias, oldest first."""
    prefix = f"{HISTORY}{alias}."
    tags = MlflowClient().get_registered_model(name).tags
    return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(prefix)]


def previous(moves: list[Move]) -> str:
    """The version that an alias with these moves goes back to, "" when there is none.

    Moves forward stack up and a move back takes one off, so going back twice goes back two, not back and forth.
    """
    passed: list[str] = []
    for move in moves:
        if move.how != "previous":
            passed.append(move.from_version)
        elif passed:
            passed.pop()
    return passed[-1] if passed else ""


def check_alias(alias: str) -> None:
    """ParametersInvalid for what MLflow does not take as an alias: `latest`, `v3`, a number, other letters."""
    if alias.lower() == "latest" or not re.fullmatch(r"(?![vV]?\d+$)[A-Za-z0-9_-]{1,200}", alias):
        rule = "an alias has letters, digits, _ and -, and is not 'latest', a number or v<number>"
        raise ParametersInvalid("promote", [f"alias={alias!r}: {rule}"], ["alias"])


def _model_names() -> list[str]:
    return [f"models:/{model.name}" for model in MlflowClient().search_registered_models(max_results=10)]


def _versions(name: str) -> list[ModelVersion]:
    escaped = name.replace("'", "\\'")
    return list(
        MlflowClient().search_model_versions(f"name = '{escaped}'", max_results=10, order_by=["version_number DESC"])
    )
