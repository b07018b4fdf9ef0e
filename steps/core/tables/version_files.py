"""The data files of every version of a table, in one pass through its log.

A version is opened by delta-rs, which reads a checkpoint and the entries after it, for tens of milliseconds and a
megabyte. So only those are opened that have a checkpoint, or whose entry says more than which files come and go; what
the others have follows from the version before.
"""

import sys
from collections.abc import Collection
from dataclasses import dataclass

from steps.core.tables import log, snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot


@dataclass(frozen=True)
class VersionFiles:
    """What tells a version of a table from any other (Snapshot.identity), and the names of its data files."""

    identity: str
    names: Collection[str]


def of_all_versions(newest: Snapshot) -> dict[int, VersionFiles | None]:
    """The files of `newest` and of each earlier version; None for one that cannot be opened, as its entry is gone or
    damaged."""
    checkpoints = log.checkpoints(newest.path)
    files: dict[int, VersionFiles | None] = {}
    table_id, names = "", None  # of the version before
    for version in range(newest.version + 1):
        change = log.change_of_files(newest.path, version) if names is not None and version not in checkpoints else None
        if names is not None and change and change.follows(names):
            names = names - change.removed | {sys.intern(name) for name in change.added}
        else:
            table_id, names = _opened(TableUri(newest.path, version))
        files[version] = None if names is None else VersionFiles(snapshot.identity_of(table_id, names), tuple(names))
    return files


def _opened(version: TableUri) -> tuple[str, frozenset[str] | None]:
    """Delta's id of the table and the names of its files; None where that version cannot be opened."""
    opened = snapshot.find(version)
    if opened is None:
        return "", None
    return str(opened.delta_table.metadata().id), frozenset(map(sys.intern, opened.data_files))
