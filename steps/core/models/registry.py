"""Registered models: text to one version, verdicts, and aliases that keep their history. Reads and writes MLflow."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from steps.core.config import matches
from steps.core.errors import ModelNotFound, ModelProtected
from steps.core.process import locks, processes
from steps.core.tracking import artifacts, mlflow_names, runs, store

STAGING = "staging"  # what the gate moves, and what names the champion
PRODUCTION = "production"
HISTORY = "alias_history."  # tags on the registered model: alias_history.<alias>.<when> = Move
VERDICT = "verdict"  # tags on a version: verdict, verdict.reasons, verdict.run_id
TABLE_IDENTITY = "table_identity"  # tag on a version, beside table_uri: which table of that URI it was trained on
BOOSTER_SHA256 = "booster_sha256"  # tag on a version
# Without them it is no model of ours.
ARTIFACT_FILES = ("MLmodel", "scorer.py", "artifacts/booster.ubj", "artifacts/schema.json")
# What MLflow takes as an alias: it keeps `latest`, numbers and v<number> for itself. It is part of a tag's key, too.
Alias = Annotated[
    str,
    matches(
        r"(?![vV]?\d+$)(?!(?i:latest)$)[A-Za-z0-9_-]{1,200}",
        "an alias has at most 200 letters, digits, _ and -, and is not 'latest', a number or v<number>",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Move:
    """One move of an alias: `when` in ISO 8601 UTC; `from_version` is "" the first time, `to_version` never."""

    when: str
    who: str
    from_version: str
    to_version: str
    how: Literal["gate", "promote", "previous"]


def uri_of(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def resolve(uri: str) -> ModelVersion:
    """The version that `models:/<name>/<version>` or `models:/<name>@<alias>` names now. ModelNotFound else."""
    parsed = re.fullmatch(r"models:/([^/:@\x22]+)(?:/(\d+)|@([^/@]+))", uri)
    if parsed is None:
        raise ModelNotFound(f"{uri!r} does not name a version of a model", known=_model_names())
    name, number, alias = parsed.groups()
    version = find(name, number) if number else champion(name, alias)
    if version is None:
        known = [uri_of(each) for each in newest(name)] + [f"models:/{name}@{each}" for each in aliases(name)]
        raise ModelNotFound(f"{uri} does not exist", known=known or _model_names())
    return version


def newest_uri(name: str) -> str:
    """The URI of the version registered last. ModelNotFound when there is none."""
    versions = newest(name)
    if not versions:
        raise ModelNotFound(f"model {name} has no version", known=_model_names())
    return uri_of(versions[0])


def newest(name: str, *, count: int = 10) -> list[ModelVersion]:
    """The versions that were registered last, the newest first; [] when there is no such model."""
    # MLflow's filters know no escape; a model's name has no double quote
    found = MlflowClient().search_model_versions(
        f'name = "{name}"', max_results=count, order_by=["version_number DESC"]
    )
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def find(name: str, number: str) -> ModelVersion | None:
    if int(number) >= 2**31:  # what a version is in MLflow's stores; PostgreSQL fails on more
        return None
    try:
        return MlflowClient().get_model_version(name, number)
    except MlflowException as err:
        if err.error_code != mlflow_names.RESOURCE_DOES_NOT_EXIST:
            raise
        return None


def find_uri(uri: str) -> ModelVersion | None:
    """The version that `models:/<name>/<version>` named once, None when it is not there any more."""
    name, _, number = uri.removeprefix("models:/").rpartition("/")
    return find(name, number)


def all_versions(condition: str = "") -> list[ModelVersion]:
    """The versions of all models that fit a condition in MLflow's filter language."""
    return runs.all_pages(lambda token: MlflowClient().search_model_versions(condition, page_token=token))


def champion(name: str, alias: str = STAGING) -> ModelVersion | None:
    """The version that an alias names, None when it names none or there is no such model."""
    number = aliases(name).get(alias)
    return find(name, number) if number else None


def staleness_reason(uri: str, *, source: str, files: Mapping[str, Any] | None = None) -> str:
    """Why `models:/<name>/<version>` is not what was registered from `source`, with these files; "" when it is."""
    version = find_uri(uri)
    if version is None:
        return f"{uri} was deleted"
    if version.source != source:
        return f"{uri} was made anew"
    kept = _files(version)
    if kept is None:
        return f"the logged model of {uri} was deleted"
    if lost := [file for file in ARTIFACT_FILES if file not in kept]:
        return f"{', '.join(lost)} of {uri} is gone"
    return artifacts.damage(files or {}, kept, of=uri)


def files(uri: str) -> artifacts.Files:
    """The files of the version that `models:/<name>/<version>` names, with what tells damaged ones."""
    return _files(resolve(uri)) or {}


def champion_staleness(judged: str, champion_uri: str) -> str:
    """Why `staging` of a judged version's model no longer names `champion_uri` ("" for nothing); "" when it does."""
    now = champion(judged.removeprefix("models:/").rpartition("/")[0])
    named = uri_of(now) if now else ""
    return "" if named == champion_uri else f"{STAGING} names {named or 'nothing'} now"


def verdict_staleness(judged: str, run_id: str) -> str:
    """Why a version's verdict is not the one of this run any more; "" when it is."""
    version = find_uri(judged)
    return "" if version and version.tags.get(f"{VERDICT}.run_id") == run_id else f"{judged} was judged again since"


def lost_files(uri: str) -> list[str]:
    """Which of a version's files are not in the artifact store, which has to answer."""
    folders = (uri, f"{uri}/artifacts")
    kept = [file.path for folder in folders for file in mlflow.artifacts.list_artifacts(artifact_uri=folder)]
    return [file for file in ARTIFACT_FILES if file not in kept]


def aliases(name: str) -> dict[str, str]:
    """Alias to version number. Read from the model: searching versions leaves aliases out (mlflow/mlflow#9783)."""
    try:
        return {alias: str(number) for alias, number in MlflowClient().get_registered_model(name).aliases.items()}
    except MlflowException as err:
        if err.error_code != mlflow_names.RESOURCE_DOES_NOT_EXIST:
            raise
        return {}


@contextlib.contextmanager
def changing(name: str) -> Iterator[None]:
    """In this block a server's refusal to change model `name` is ModelProtected."""
    try:
        yield
    except MlflowException as err:
        if err.error_code != mlflow_names.PERMISSION_DENIED:
            raise
        raise ModelProtected(name, _user()) from err


def tag(version: ModelVersion, tags: Mapping[str, str]) -> None:
    with changing(version.name):
        for key, value in tags.items():
            MlflowClient().set_model_version_tag(version.name, version.version, key, value)


def deciding(name: str) -> AbstractContextManager[None]:
    """Wait until nobody else on this machine decides about the aliases of model `name`.

    What an alias names when the block begins is then what a move in it replaces. Other machines are held off only where
    they share the database's folder.
    """
    return locks.exclusive_lock("model", store.identity(mlflow.get_registry_uri()), name)


def record_verdict(version: ModelVersion, *, verdict: str, reasons: list[str], run_id: str) -> None:
    """Tag a version with the gate's verdict on it; a later verdict replaces an earlier one."""
    reasons_text = "; ".join(reasons)[: runs.TAG_CHARACTERS]
    # The verdict last: nobody goes by one whose reasons were not written any more.
    tag(version, {f"{VERDICT}.reasons": reasons_text, f"{VERDICT}.run_id": run_id, VERDICT: verdict})


def move_alias(version: ModelVersion, alias: str, *, how: Literal["gate", "promote", "previous"]) -> bool:
    """Write the move into the model's history and let `alias` name `version`. False when it named it already.

    A move that was written down and not made, because its process died in between, is only made.
    """
    client = MlflowClient()
    now, to = aliases(version.name).get(alias, ""), str(version.version)
    if now == to:
        return False
    moves = _written_moves(client.get_registered_model(version.name), alias)
    with changing(version.name):
        if not (moves and (moves[-1].from_version, moves[-1].to_version, moves[-1].how) == (now, to, how)):
            when = datetime.now(UTC).isoformat(timespec="microseconds")
            move = Move(when=when, who=_user(), from_version=now, to_version=to, how=how)
            tag = f"{HISTORY}{alias}.{when.replace('+00:00', 'Z')}"  # "+" is not allowed in the key of a tag
            client.set_registered_model_tag(version.name, tag, json.dumps(asdict(move)))
        client.set_registered_model_alias(version.name, alias, version.version)
    return True


def history(name: str, alias: str) -> list[Move]:
    """The moves of an alias, oldest first, without one that was written down and then not made."""
    model = MlflowClient().get_registered_model(name)
    moves, now = _written_moves(model, alias), str(model.aliases.get(alias, ""))
    unmade = bool(moves) and moves[-1].to_version != now and moves[-1].from_version == now
    return moves[:-1] if unmade else moves


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


def _files(version: ModelVersion) -> artifacts.Files | None:
    return artifacts.of_model(str(version.source).rpartition("/")[2])


def _written_moves(model: RegisteredModel, alias: str) -> list[Move]:
    prefix = f"{HISTORY}{alias}."
    return [Move(**json.loads(model.tags[key])) for key in sorted(model.tags) if key.startswith(prefix)]


def _user() -> str:
    """Who moves an alias: the user of the tracking server, else of this machine."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or processes.user()


def _model_names() -> list[str]:
    return [f"models:/{model.name}" for model in MlflowClient().search_registered_models(max_results=10)]
