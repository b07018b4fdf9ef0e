"""The entries of a table's Delta log, read as they are: which versions have one, and what a version's commit says.

Not by DeltaTable.history(): it lists the newest commits that the store has, and numbers them as if the version that was
opened were the newest, so that after another writer's commit each is taken for the one before it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from steps.core.errors import TableUnreadable
from steps.core.storage import filesystem

FOLDER = "_delta_log"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """How a version was written: `metadata` is the userMetadata that our steps write, {} for commits of others."""

    version: int
    when: datetime
    operation: str
    metadata: Mapping[str, Any]


def versions(path: str) -> list[int]:
    """The versions whose entries are kept, the newest first."""
    names = filesystem.files(f"{path}/{FOLDER}")
    return sorted((int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name)), reverse=True)


def entry(path: str, version: int) -> str:
    """The path of a version's entry."""
    return f"{path}/{FOLDER}/{version:020}.json"


def actions(path: str, version: int, *, kind: str) -> Iterator[dict[str, Any]]:
    """The actions of one kind in a version's entry. TableUnreadable when it is not as Delta writes it."""
    for line in filesystem.read(entry(path, version)).splitlines():
        try:
            action = json.loads(line).get(kind) if f'"{kind}"'.encode() in line else None
        except ValueError as err:
            raise TableUnreadable(f"{path}@v{version}", f"its log entry is no JSON: {err}") from err
        if action:
            yield action


def commit(path: str, version: int) -> Commit:
    """The commit of a version; nothing is known of it where its entry is no longer kept."""
    try:
        info = next(actions(path, version, kind="commitInfo"), {})
    except FileNotFoundError:
        info = {}
    return Commit(
        version=version,
        when=datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC),
        operation=str(info.get("operation", "unknown")),
        metadata=_user_metadata(info),
    )


def _user_metadata(commit_info: Mapping[str, Any]) -> dict[str, Any]:
    try:
        metadata = json.loads(commit_info.get("userMetadata", ""))
    except (TypeError, ValueError):  # what another writer keeps there
        return {}
    return metadata if isinstance(metadata, dict) else {}
