"""Open a table's newest version, also one that delta-rs cannot: Spark may have written a collation into its log."""

import json
import os
import re
import time
from typing import Any

from steps.core.errors import TableNotFound, TableUnreadable
from steps.core.storage import filesystem
from steps.core.tables import log, snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot


def open_newest(table: TableUri) -> Snapshot | None:
    """The newest version, None where there is no table yet. A table with collations has plain types afterwards.

    TableNotFound when something else than a folder is in its place. It is opened without a look whether it is there:
    DeltaTable.is_deltatable() holds the interpreter's lock until a store answers, and all threads with it.
    """
    if os.path.exists(table.path) and not os.path.isdir(table.path):
        raise TableNotFound(table.path, next="move that file away, or choose another lake")
    try:
        return snapshot.find(TableUri(table.path))
    except TableUnreadable:
        if not _remove_collations(table):
            raise
        return snapshot.open(TableUri(table.path))


def _remove_collations(table: TableUri) -> bool:
    """Whether a table that delta-rs cannot open, because text columns have a collation in its log, has plain types now.

    Spark writes such types for columns whose schema came from Arrow. Rows and files stay as they are: a commit that
    changes nothing but the schema is added to the log.
    """
    newest, metadata = _newest_metadata(table.path)
    plain = re.sub(r" collate \w+", "", metadata.get("schemaString", ""))
    if not metadata or plain == metadata["schemaString"]:
        return False
    commit_info = {"timestamp": time.time_ns() // 10**6, "operation": "CHANGE COLUMN"}
    actions = [{"commitInfo": commit_info}, {"metaData": {**metadata, "schemaString": plain}}]
    text = "\n".join(json.dumps(action) for action in actions)
    return filesystem.create(log.entry(table.path, newest + 1), text.encode())


def _newest_metadata(path: str) -> tuple[int, dict[str, Any]]:
    """The newest version in a table's log, and the newest metadata among its entries: {} where no entry has any."""
    versions = log.versions(path)
    for version in versions:
        for metadata in log.actions(path, version, kind="metaData"):
            return versions[0], metadata
    return -1, {}
