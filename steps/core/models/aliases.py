"""The aliases of registered models: what they name, how they move, and the history that lets them go back."""

import json
import shlex
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Annotated, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from steps.core.config_types import matches
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
    """One move of an alias: `when` in ISO 8601 UTC; `from_version` is "" the first time, `to_version` never. `reason`
    is a user's own, "" where none was given."""

    when: str
    who: str
    from_version: str
    to_version: str
    how: MoveKind
    reason: str = ""


def champion(name: str) -> ModelVersion | None:
    """The version that `staging` names, None when it names none or there is no such model."""
    return registry.find_alias(name, STAGING)


def in_use(name: str) -> ModelVersion | None:
    """The version that answers now: that of `production`, else of `staging`; None where neither names one."""
    return registry.find_alias(name, PRODUCTION) or champion(name)


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


def move_alias(version: ModelVersion, alias: str, *, how: MoveKind, reason: str = "") -> bool:
    """Write the move into the model's history and let `alias` name `version`. False when it named it already.

    Where the history has this move already, because its process died before it set the alias, only the alias is set.
    """
    client = MlflowClient()
    named = registry.aliases_of(version.name).get(alias, "")
    if named == str(version.version):
        return False
    written = _written_moves(client.get_registered_model(version.name), alias)
    when, who = datetime.now(UTC).isoformat(timespec="microseconds"), registry.acting_user()
    to_version = str(version.version)
    move = Move(when=when, who=who, from_version=named, to_version=to_version, how=how, reason=reason)
    with registry.changing(version.name):
        if not (written and replace(written[-1], when=when, who=who) == move):
            tag = f"{HISTORY}{alias}.{when.replace('+00:00', 'Z')}"  # "+" is not allowed in the key of a tag
            given = {name: value for name, value in asdict(move).items() if name != "reason" or value}
            client.set_registered_model_tag(version.name, tag, json.dumps(given))
        client.set_registered_model_alias(version.name, alias, version.version)
    return True


def history(name: str, alias: str) -> list[Move]:
    """The moves of an alias, oldest first, without a last one whose process died before it set the alias."""
    return moves_of(MlflowClient().get_registered_model(name), alias)


def moves_of(model: RegisteredModel, alias: str) -> list[Move]:
    """history() of a model that was read already."""
    moves, now = _written_moves(model, alias), str(model.aliases.get(alias, ""))
    is_pending = bool(moves) and moves[-1].to_version != now and moves[-1].from_version == now
    if is_pending and not now and registry.find(model.name, moves[-1].to_version) is None:
        return moves  # it did name that version, which was deleted, and the alias with it
    return moves[:-1] if is_pending else moves


def aliases_with_history(model: RegisteredModel) -> list[str]:
    """The aliases that the model has or had."""
    keys = [key.removeprefix(HISTORY) for key in model.tags if key.startswith(HISTORY)]
    return sorted({*model.aliases, *(key.partition(".")[0] for key in keys)})


def deleted(name: str, alias: str) -> str:
    """The number of the version that `alias` named last, where it names nothing now as that was deleted; else ""."""
    if alias in registry.aliases_of(name) and registry.find_alias(name, alias):
        return ""
    model = registry.find_model(name)
    moves = _written_moves(model, alias) if model else []
    last = moves[-1].to_version if moves else ""
    return last if last and registry.find(name, last) is None else ""


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


def promote_command(name: str, version: str, *, alias: str = PRODUCTION, reason: str = "") -> str:
    """The whole command that moves an alias; with a `reason`, whatever the verdict."""
    given = {"name": name, "version": version, "alias": alias}
    given |= {"force": "true", "reason": reason} if reason else {}
    words = [word for key, value in given.items() for word in ("-P", f"{key}={value}")]
    return shlex.join(["mlflow", "run", ".", "-e", "promote", *words, "--env-manager", "local"])


def _written_moves(model: RegisteredModel, alias: str) -> list[Move]:
    prefix, known = f"{HISTORY}{alias}.", [field.name for field in fields(Move)]
    written = [json.loads(model.tags[key]) for key in sorted(model.tags) if key.startswith(prefix)]
    return [Move(**{name: move[name] for name in known if name in move}) for move in written]
