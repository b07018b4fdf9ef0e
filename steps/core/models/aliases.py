"""The aliases of registered models: what they name, how they move, and the history that lets them go back."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from steps.core.config import matches
from steps.core.models import registry
from steps.core.process import locks
from steps.core.tracking import store

STAGING = "staging"  # what the gate moves, and what names the champion
PRODUCTION = "production"
HISTORY = "alias_history."  # tags on the registered model: alias_history.<alias>.<when> = Move
# What MLflow takes as an alias: it keeps `latest`, numbers and v<number> for itself. It is part of a tag's key, too.
Alias = Annotated[
    str,
    matches(
        r"(?![vV]?\d+$)(?!(?i:latest)$)[A-Za-z0-9_-]{1,200}",
        "an alias has at most 200 letters, digits, _ and -, and is not 'latest', a number or v<number>",
    ),
]
type MoveKind = Literal["gate", "promote", "previous"]


@dataclass(frozen=True, kw_only=True)
class Move:
    """One move of an alias: `when` in ISO 8601 UTC; `from_version` is "" the first time, `to_version` never."""

    when: str
    who: str
    from_version: str
    to_version: str
    how: MoveKind


def champion(name: str) -> ModelVersion | None:
    """The version that `staging` names, None when it names none or there is no such model."""
    return registry.find_alias(name, STAGING)


def champion_staleness(judged: str, champion_uri: str) -> str:
    """Why `staging` of a judged version's model no longer names `champion_uri` ("" for nothing); "" when it does."""
    now = champion(judged.removeprefix("models:/").rpartition("/")[0])
    named = registry.uri_of(now) if now else ""
    return "" if named == champion_uri else f"{STAGING} names {named or 'nothing'} now"


def deciding(name: str) -> AbstractContextManager[None]:
    """Wait until nobody else on this machine decides about the aliases of model `name`.

    What an alias names when the block begins is then what a move in it replaces. Other machines are held off only where
    they share the database's folder.
    """
    return locks.exclusive_lock("model", store.identity(mlflow.get_registry_uri()), name)


def move_alias(version: ModelVersion, alias: str, *, how: MoveKind) -> bool:
    """Write the move into the model's history and let `alias` name `version`. False when it named it already.

    Where the history has this move already, because its process died before it set the alias, only the alias is set.
    """
    client = MlflowClient()
    named = registry.aliases_of(version.name).get(alias, "")
    if named == str(version.version):
        return False
    written = _written_moves(client.get_registered_model(version.name), alias)
    when, who = datetime.now(UTC).isoformat(timespec="microseconds"), registry.acting_user()
    move = Move(when=when, who=who, from_version=named, to_version=str(version.version), how=how)
    with registry.changing(version.name):
        if not (written and replace(written[-1], when=when, who=who) == move):
            tag = f"{HISTORY}{alias}.{when.replace('+00:00', 'Z')}"  # "+" is not allowed in the key of a tag
            client.set_registered_model_tag(version.name, tag, json.dumps(asdict(move)))
        client.set_registered_model_alias(version.name, alias, version.version)
    return True


def history(name: str, alias: str) -> list[Move]:
    """The moves of an alias, oldest first, without a last one whose process died before it set the alias."""
    model = MlflowClient().get_registered_model(name)
    moves, now = _written_moves(model, alias), str(model.aliases.get(alias, ""))
    is_pending = bool(moves) and moves[-1].to_version != now and moves[-1].from_version == now
    return moves[:-1] if is_pending else moves


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


def _written_moves(model: RegisteredModel, alias: str) -> list[Move]:
    prefix = f"{HISTORY}{alias}."
    return [Move(**json.loads(model.tags[key])) for key in sorted(model.tags) if key.startswith(prefix)]
