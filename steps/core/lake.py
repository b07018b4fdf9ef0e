"""Where tables live and which version of them is meant. Reads Delta's log by deltalake, without a JVM, never writes."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import mlflow
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError
from sqlalchemy.engine import make_url

from steps.core.errors import LakeUndefined, TableNotFound, TableUnfit, TableVersionGone


@dataclass(frozen=True)
class TableUri:
    """`<path>` or, pinned, `<path>@v<version>`: Delta's own path syntax for one version of a table."""

    path: str
    version: int | None = None

    def __str__(self) -> str:
        return self.path if self.version is None else f"{self.path}@v{self.version}"

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def home() -> Path:
    """Where the command was given: the folder of the SQLite tracking store, else the working directory.

    A git-URL run works in a temporary clone, but its store was made, and made absolute, where the user stood.
    """
    uri = mlflow.get_tracking_uri()
    if uri.startswith("sqlite:"):
        return Path(sqlite_path(uri)).resolve().parent
    return Path.cwd()


def sqlite_path(uri: str) -> str:
    """The file that a `sqlite:///<path>` URI means to MLflow."""
    return make_url(uri).database or ""


def root(given: str) -> str:
    """The lake: `given`, else LAKE_URI, else the folder `lake` beside an embedded tracking store."""
    lake = given or os.environ.get("LAKE_URI", "")
    if not lake and not mlflow.get_tracking_uri().startswith("sqlite:"):
        raise LakeUndefined("tracking is on a server, and no lake is given")
    return absolute(lake or "lake")


def absolute(uri: str) -> str:
    """A folder or table path as an absolute path; relative ones start at home()."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+):", uri)
    if scheme and scheme[1] != "file":
        raise LakeUndefined(f"{uri} is not in a folder: {scheme[1]}: is not supported")
    path = unquote(urlparse(uri).path) if scheme else os.path.expanduser(uri)
    return os.path.normpath(home() / path)


def table_uri(text: str) -> TableUri:
    """`text` as an absolute table URI, pinned or not."""
    path, version = re.fullmatch(r"(.*?)(?:@v(\d+))?/*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return TableUri(absolute(path), None if version is None else int(version))


def exists(table: TableUri) -> bool:
    """Whether there is a table; TableNotFound when something else than a folder is in its place."""
    if os.path.exists(table.path) and not os.path.isdir(table.path):
        raise TableNotFound(table.path, next="move that file away, or choose another lake")
    return DeltaTable.is_deltatable(table.path)


def pin(table: TableUri) -> TableUri:
    """`table` with the version that is the newest now, if none was given. Raises what open_table raises."""
    return TableUri(table.path, open_table(table).version())


def open_table(table: TableUri) -> DeltaTable:
    """The table at its version. TableNotFound, or TableVersionGone for one never written or already vacuumed."""
    try:
        newest = DeltaTable(table.path)
    except (TableNotFoundError, DeltaError, OSError) as err:
        raise TableNotFound(str(table)) from err
    if table.version is None or table.version == newest.version():
        return newest
    versions = f"{_first_version(newest)} to {newest.version()}"
    if table.version > newest.version():
        raise TableVersionGone(str(table), "there is no such version yet", versions=versions)
    try:
        return DeltaTable(table.path, version=table.version)
    except (DeltaError, OSError) as err:
        raise TableVersionGone(str(table), "its log entry is no longer kept", versions=versions) from err


def read(table: TableUri, *, columns: list[str]) -> pa.Table:
    """`columns` of a pinned table, in memory. TableUnfit when one is missing, TableVersionGone after a vacuum."""
    opened = open_table(table)
    present = [field.name for field in opened.schema().fields]
    if missing := [name for name in columns if name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}" for name in missing],
            expected=f"the columns {', '.join(columns)}; it has {', '.join(present)}",
            next="pass a table of the same config, or ingest again",
        )
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    try:
        # Not to_pyarrow_table(): its scanner's threads abort one process in three at exit (docs/decisions.md).
        rows = pa.table(QueryBuilder().register("rows", opened).execute(f"SELECT {names} FROM rows").read_all())
    except Exception as err:  # delta-rs has no type of its own for a file that is not there
        if "not found" not in str(err):
            raise
        reason = f"version {opened.version()} was vacuumed: files of it are gone"
        raise TableVersionGone(
            str(table), reason, versions=f"what is left, up to {DeltaTable(table.path).version()}"
        ) from err
    return rows.cast(pa.schema([field.with_type(_plain(field.type)) for field in rows.schema]))


def schema(table: TableUri) -> pa.Schema:
    """The columns of a version, as Arrow types."""
    return pa.schema(open_table(table).schema().to_arrow())


def count(table: TableUri) -> int:
    """The rows of a version, from its log."""
    return sum(pa.table(open_table(table).get_add_actions(flatten=True))["num_records"].to_pylist())


def size_bytes(table: TableUri) -> int:
    """What the data files of this version take on storage."""
    return sum(pa.table(open_table(table).get_add_actions(flatten=True))["size_bytes"].to_pylist())


def last_commit(table: TableUri) -> dict[str, Any]:
    """The userMetadata that the newest commit of a table carries, {} when it carries none of ours."""
    commit: dict[str, Any] = next(iter(DeltaTable(table.path).history(limit=1)), {})
    try:
        metadata = json.loads(commit.get("userMetadata", ""))
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _first_version(table: DeltaTable) -> int:
    versions: list[int] = [commit["version"] for commit in table.history() if "version" in commit]
    return min(versions, default=0)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == pa.string_view() else kind
