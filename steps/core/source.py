"""Where a source is, in which format, and a digest of what is in it; nothing of it is understood here."""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from steps.core import config, lake, object_store, storage
from steps.core.errors import SourceUnreadable, did_you_mean

SKLEARN = "sklearn:"
COMPRESSIONS = (".gz", ".bz2", ".deflate", ".lz4", ".snappy", ".zst")  # endings by which Spark uncompresses text
GZIP_MAGIC = b"\x1f\x8b"
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}


def resolve(source: config.Source, instead: str = "") -> config.Source:
    """`source`, or the one at `instead`, with an absolute path and a format. SourceUnreadable when nothing is there."""
    if instead:
        source = source.model_copy(update={"uri": instead})
    if source.uri.startswith(SKLEARN):
        return source
    kind = lake.scheme(source.uri)
    if kind not in ("", "file", "s3", "s3a"):
        raise SourceUnreadable(source.uri, f"{kind}: is not supported{did_you_mean(kind + ':', [SKLEARN])}")
    path = next(filter(_is_there, _candidates(source.uri)), None)
    if path is None:
        raise SourceUnreadable(lake.absolute(source.uri), "there is no such file or folder")
    if storage.is_delta(path):
        return source.model_copy(update={"uri": path, "format": source.format or "delta"})
    found = files(path)
    _check_compression(path, found)
    return source.model_copy(update={"uri": path, "format": source.format or _format(path, found)})


def size_bytes(source: config.Source) -> int:
    """How much there is to read. `source` is resolved."""
    if source.uri.startswith(SKLEARN):
        return 0
    return sum(file.size_bytes for file in files(source.uri).values())


def files(path: str) -> dict[str, storage.Stored]:
    """The data files that a path, folder or glob means; names with a leading _ or . are not data to Spark."""
    return {
        name: file
        for name, file in storage.meant(path).items()
        if not os.path.basename(name).startswith(("_", ".")) and "_delta_log" not in name.split("/")
    }


def stamp(source: config.Source) -> str:
    """What changes when a source is written to, at the cost of a look at its files. `source` is resolved."""
    if source.uri.startswith(SKLEARN):
        return ""
    if source.format == "delta":
        pinned = lake.pin(lake.TableUri(source.uri))
        return f"{pinned} {lake.identity(pinned)}"
    return json.dumps([(name, file.size_bytes, file.version) for name, file in sorted(files(source.uri).items())])


def fingerprint(source: config.Source) -> str:
    """A digest of all that is in a source: the bytes of its files, or a Delta table's version. `source` is resolved.

    An object store has digests of its objects, its ETags.
    """
    if source.uri.startswith((SKLEARN, object_store.SCHEME)) or source.format == "delta":
        return stamp(source)
    digest = hashlib.sha256()
    try:
        for file in sorted(files(source.uri)):
            with open(file, "rb") as opened:
                digest.update(f"{file}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\0".encode())
    except OSError as err:
        raise SourceUnreadable(source.uri, f"{err.filename} cannot be read: {err.strerror}") from err
    return digest.hexdigest()


def _candidates(uri: str) -> list[str]:
    """Where a source may be: a relative path starts beside the tracking store, else in the working directory."""
    return [lake.absolute(uri), *([] if lake.scheme(uri) else [os.path.abspath(os.path.expanduser(uri))])]


def _is_there(path: str) -> bool:
    if storage.is_remote(path):
        object_store.check(path)
        return bool(storage.meant(path))
    return bool(glob.glob(path)) or os.path.exists(path)


def _format(path: str, files: Iterable[str]) -> str:
    """The one format that all file names mean; a folder that holds anything else as well is not guessed at."""
    suffixes = {PurePath(_uncompressed(file)).suffix.lower() for file in files}
    formats = {FORMATS.get(suffix, "") for suffix in suffixes}
    if len(formats) != 1 or "" in formats:
        endings = ", ".join(sorted(suffix or "no ending" for suffix in suffixes))
        reason = f"its format does not follow from its files' names ({endings})"
        raise SourceUnreadable(path, reason, next="say source.format: csv, json, parquet or delta in the config")
    return formats.pop()


def _check_compression(path: str, files: Mapping[str, storage.Stored]) -> None:
    """Spark goes by the ending alone: text named .gz stops it, and gzip under another name becomes letters."""
    if not files:
        raise SourceUnreadable(path, "there are no files in it")
    for name, file in files.items():
        is_gzip = file.size_bytes > 0 and storage.start_of(name, len(GZIP_MAGIC)) == GZIP_MAGIC
        if is_gzip != name.lower().endswith(".gz"):
            raise SourceUnreadable(
                name,
                "it is compressed with gzip and not named so"
                if is_gzip
                else "it is named .gz and not compressed with gzip",
                next="rename the file",
            )


def _uncompressed(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in COMPRESSIONS else name
