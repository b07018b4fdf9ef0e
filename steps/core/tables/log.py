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

import pyarrow.parquet as pq

from steps.core.errors import TableUnreadable
from steps.core.storage import filesystem

FOLDER = "_delta_log"
# A version's checkpoint: one file, or one of several; not that of V2, which needs a reader with that table feature.
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.\d{10}\.(\d{10}))?\.parquet")

PLAIN_NAME = re.compile(r"[\w.=-][\w.=/-]*", re.ASCII)  # of a file below the table, without escapes


@dataclass(frozen=True, kw_only=True)
class ChangeOfFiles:
    """The names of the data files that a version has and the one before has not, and the other way around."""

    added: frozenset[str]
    removed: frozenset[str]

    def follows(self, names: frozenset[str]) -> bool:
        """Whether it may be that of the version after one with these files."""
        return self.removed <= names and self.added.isdisjoint(names)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """How a version was written: `metadata` is the userMetadata that our steps write, {} for commits of others. `when`
    is what the commit says or, as Delta's readers have it, when the file of it was written. `replaces` tells that no
    row of the version is of an earlier one."""

    version: int
    when: datetime
    operation: str
    replaces: bool
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


def change_of_files(path: str, version: int) -> ChangeOfFiles | None:
    """What a version's entry says of data files; None where it says more than that, or is not as Delta writes it."""
    names: dict[str, set[str]] = {"add": set(), "remove": set()}
    try:
        for line in filesystem.read(entry(path, version)).splitlines():
            ((kind, action),) = json.loads(line).items()
            if kind in names and PLAIN_NAME.fullmatch(action["path"]) and not action.get("deletionVector"):
                names[kind].add(action["path"])
            elif kind not in ("commitInfo", "txn"):
                return None
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return (
        ChangeOfFiles(added=frozenset(names["add"]), removed=frozenset(names["remove"]))
        if any(names.values())
        else None
    )


def checkpoints(path: str) -> set[int]:
    """The versions that have a checkpoint of any form, whole or not."""
    names = filesystem.files(f"{path}/{FOLDER}")
    return {int(name[:20]) for name in names if re.match(r"\d{20}\.checkpoint\.", name)}


def transactions(path: str, version: int) -> dict[str, int]:
    """The application transactions (`txn`) that a version knows: the newest number of each by its application's id.

    Delta keeps them in checkpoints, so they outlive the entries. Read at once: DeltaTable.transaction_version() reads
    the log anew for each id.
    """
    checkpoint, files = _newest_checkpoint(path, version)
    known: dict[str, int] = {}
    for name, size_bytes in files.items():
        known |= _transactions_in(f"{path}/{FOLDER}/{name}", size_bytes)
    for later in range(checkpoint + 1, version + 1):
        try:
            known |= {action["appId"]: action["version"] for action in actions(path, later, kind="txn")}
        except FileNotFoundError as err:
            raise TableUnreadable(f"{path}@v{version}", f"the log entry of version {later} is gone") from err
    return known


def commit(path: str, version: int) -> Commit:
    """The commit of a version; nothing is known of it where its entry is no longer kept."""
    try:
        info = next(actions(path, version, kind="commitInfo"), {})
    except FileNotFoundError:
        info = {}
    timestamp = info.get("timestamp")
    seconds = _written_at(path, version) if timestamp is None else timestamp / 1000
    mode = (info.get("operationParameters") or {}).get("mode")
    return Commit(
        version=version,
        when=datetime.fromtimestamp(seconds, UTC),
        operation=str(info.get("operation", "unknown")),
        replaces=version == 0 or mode == "Overwrite",
        metadata=_user_metadata(info),
    )


def _written_at(path: str, version: int) -> float:
    """When the entry or the checkpoint of a version was written, in seconds since 1970; 0 where neither is kept."""
    files = filesystem.files(f"{path}/{FOLDER}")
    return min((file.modified for name, file in files.items() if name.startswith(f"{version:020}.")), default=0.0)


def _newest_checkpoint(path: str, version: int) -> tuple[int, dict[str, int]]:
    """The version of the newest whole checkpoint up to `version`, and the sizes in bytes of its files; -1 for none."""
    checkpoints: dict[tuple[int, int], dict[str, int]] = {}  # by version and number of files
    for name, file in filesystem.files(f"{path}/{FOLDER}").items():
        if (match := CHECKPOINT.fullmatch(name)) and int(match[1]) <= version:
            checkpoints.setdefault((int(match[1]), int(match[2] or 1)), {})[name] = file.size_bytes
    whole = {key: files for key, files in checkpoints.items() if len(files) == key[1]}
    newest = max(whole, default=(-1, 0))
    return newest[0], whole.get(newest, {})


def _transactions_in(checkpoint: str, size_bytes: int) -> dict[str, int]:
    with filesystem.opened(checkpoint, size_bytes) as content:
        file = pq.ParquetFile(content)
        if "txn" not in file.schema_arrow.names:
            return {}
        rows = file.read(columns=["txn"])["txn"].drop_null().to_pylist()
    return {action["appId"]: action["version"] for action in rows}


def _user_metadata(commit_info: Mapping[str, Any]) -> dict[str, Any]:
    try:
        metadata = json.loads(commit_info.get("userMetadata", ""))
    except (TypeError, ValueError):  # what another writer keeps there
        return {}
    return metadata if isinstance(metadata, dict) else {}
