"""Where the lake and its tables lie: URIs, and the folder from which relative ones start."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
from sqlalchemy.engine import make_url

from steps.core.errors import LakeUndefined
from steps.core.storage import filesystem, s3

LAST_VERSION = 10**7  # of no table; a later one is taken for it, as delta-rs would look for each version before it


@dataclass(frozen=True)
class TableUri:
    """`<path>` or, pinned, `<path>@v<version>`: Delta's own path syntax for one version of a table."""

    path: str
    version: int | None = None

    def __str__(self) -> str:
        return self.path if self.version is None else f"{self.path}@v{self.version}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


def home() -> Path:
    """The folder of an embedded tracking store, which MLflow makes where the command is given, else the working one.

    A git-URL run works in a temporary clone, but its store was made, and made absolute, where the user stood.
    """
    if is_embedded():
        return Path(sqlite_path(mlflow.get_tracking_uri())).resolve().parent
    return Path.cwd()


def is_embedded() -> bool:
    """Whether runs are tracked in a SQLite database, rather than by a server."""
    return str(mlflow.get_tracking_uri()).startswith("sqlite:")


def sqlite_path(uri: str) -> str:
    """The file that a `sqlite:///<path>` URI means to MLflow."""
    return make_url(uri).database or ""


def lake_root(lake: str) -> str:
    """The lake at its path: `lake`, else LAKE_URI, else the folder `lake` beside an embedded tracking store."""
    lake = lake or os.environ.get("LAKE_URI", "")
    if not lake and not is_embedded():
        raise LakeUndefined("tracking is on a server, and no lake is given")
    folder = _folder(lake or "lake")
    if "\\" in folder:
        raise LakeUndefined(f"{folder} holds a backslash, which stands for a slash to Delta's readers")
    return folder if filesystem.is_remote(folder) else os.path.realpath(folder)


def absolute(uri: str) -> str:
    """A folder or table as an absolute path, or as s3://; relative paths start at home().

    One place has one path: links on the way to it are followed.
    """
    uri = re.sub("^(s3a?|file)(?=:/)", lambda known: known[1].lower(), uri, flags=re.IGNORECASE)
    kind = scheme(uri)
    if kind in ("s3", "s3a"):
        return _at_object_store(uri)
    if kind not in ("", "file"):
        raise LakeUndefined(f"{uri} is not a folder and not at s3://: {kind}: is not supported")
    path = unquote(urlparse(uri).path) if kind else os.path.expanduser(uri)
    folder, name = os.path.split(os.path.normpath(home() / path))
    return os.path.join(os.path.realpath(folder), name)


def _at_object_store(uri: str) -> str:
    bucket, key = s3.locate(re.sub("^s3a:", "s3:", uri))
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise LakeUndefined(f"{uri} names no bucket that there can be: {bucket!r}")
    return "/".join([f"{s3.SCHEME}{bucket}", *filter(None, key.split("/"))])


def scheme(uri: str) -> str:
    """What stands before the colon of a URI; "" for a path."""
    match = re.match(r"([a-z][a-z0-9+.-]+):", uri)
    return match[1] if match else ""


def parse_table(text: str) -> TableUri:
    """`text` as an absolute table URI, pinned or not."""
    path, version = re.fullmatch(r"(.*?)(?:@v(\d+))?/*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return TableUri(_folder(path), None if version is None else min(int(version), LAST_VERSION))


def _folder(uri: str) -> str:
    """An absolute path that deltalake reads as Spark does, LakeUndefined for one that it would decode; or a usable s3://."""
    path = absolute(uri)
    if filesystem.is_remote(path):
        s3.check(path)
    if re.search(r"%[0-9A-Fa-f]{2}", path):
        raise LakeUndefined(f"{path} holds a percent sequence, which stands for another name to Delta's readers")
    return path
