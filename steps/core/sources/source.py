"""Where a source is, in which format, and a digest of what is in it; nothing of it is understood here."""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from steps.core import config
from steps.core.errors import SourceUnreadable, did_you_mean
from steps.core.storage import filesystem, s3
from steps.core.tables import location, snapshot

SKLEARN = "sklearn:"
COMPRESSIONS = (".gz", ".bz2", ".deflate", ".lz4", ".snappy", ".zst")  # endings by which Spark uncompresses text
GZIP_MAGIC = b"\x1f\x8b"
OPTIONS: dict[str, tuple[str, ...]] = {  # of Spark's readers: those of all files, and those of each format
    "": ("pathGlobFilter", "modifiedBefore", "modifiedAfter", "recursiveFileLookup", "ignoreCorruptFiles",
         "ignoreMissingFiles", "basePath", "compression", "codec"),
    "csv": ("sep", "delimiter", "encoding", "charset", "quote", "escape", "charToEscapeQuoteEscaping", "comment",
            "header", "inferSchema", "preferDate", "enforceSchema", "ignoreLeadingWhiteSpace",
            "ignoreTrailingWhiteSpace", "nullValue", "nanValue", "positiveInf", "negativeInf", "dateFormat",
            "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback", "maxColumns",
            "maxCharsPerColumn", "mode", "columnNameOfCorruptRecord", "multiLine", "samplingRatio", "emptyValue",
            "locale", "lineSep", "unescapedQuoteHandling", "timeZone"),
    "json": ("primitivesAsString", "prefersDecimal", "allowComments", "allowUnquotedFieldNames", "allowSingleQuotes",
             "allowNumericLeadingZeros", "allowBackslashEscapingAnyCharacter", "allowNonNumericNumbers",
             "allowUnquotedControlChars", "mode", "columnNameOfCorruptRecord", "dateFormat", "timestampFormat",
             "timestampNTZFormat", "enableDateTimeParsingFallback", "multiLine", "encoding", "charset", "lineSep",
             "samplingRatio", "dropFieldIfAllNull", "locale", "timeZone"),
    "parquet": ("mergeSchema", "datetimeRebaseMode", "int96RebaseMode"),
    "delta": ("versionAsOf", "timestampAsOf"),
}  # fmt: skip
SHOWN = 5  # of a list of files, in a message
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}


def resolve(source: config.Source, instead: str = "") -> config.Source:
    """`source`, or the one at `instead`, with an absolute path and a format. SourceUnreadable when nothing is there."""
    if instead:
        source = source.model_copy(update={"uri": instead})
    _check_options(source)
    if source.uri.startswith(SKLEARN):
        return source
    kind = location.scheme(source.uri)
    if kind not in ("", "file", "s3", "s3a"):
        raise SourceUnreadable(source.uri, f"{kind}: is not supported{did_you_mean(kind + ':', [SKLEARN])}")
    path = next(filter(_is_there, _candidates(source.uri)), None)
    if path is None:
        raise SourceUnreadable(location.absolute(source.uri), "there is no such file or folder")
    if filesystem.is_delta(path):
        return source.model_copy(update={"uri": path, "format": source.format or "delta"})
    found = files(path)
    _check_compression(path, found)
    return source.model_copy(update={"uri": path, "format": source.format or _format(path, found)})


def size_bytes(source: config.Source) -> int:
    """How much there is to read. `source` is resolved."""
    if source.uri.startswith(SKLEARN):
        return 0
    return sum(file.size_bytes for file in files(source.uri).values())


def files(path: str) -> dict[str, filesystem.Stored]:
    """The data files that a path, folder or glob means, without those that Spark passes over."""
    return {name: file for name, file in filesystem.matching_files(path).items() if not _is_hidden(name, path)}


def passed_over(path: str) -> list[str]:
    """Files that look like data and are none to Spark, for a leading _ or . of their names."""
    return sorted(
        name
        for name in filesystem.matching_files(path)
        if _is_hidden(name, path)
        and not any(map(_is_hidden_name, _below(name, path)[:-1]))  # a folder of left-overs is hidden on purpose
        and PurePath(_uncompressed(name)).suffix.lower() in FORMATS
    )


def shown(names: Iterable[str], *, below: str) -> str:
    """Some of the files that a path means, for a message."""
    names = [name.removeprefix(f"{below}/") for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def change_token(source: config.Source) -> str:
    """What changes when a source is written to, at the cost of a look at its files. `source` is resolved."""
    if source.uri.startswith(SKLEARN):
        return ""
    if source.format == "delta":
        table = snapshot.open(location.TableUri(source.uri))
        return f"{table} {table.identity}"
    return json.dumps([(name, file.size_bytes, file.version) for name, file in sorted(files(source.uri).items())])


def fingerprint(source: config.Source) -> str:
    """A digest of all that is in a source: the bytes of its files, or a Delta table's version. `source` is resolved.

    An object store has digests of its objects, its ETags.
    """
    if source.uri.startswith((SKLEARN, s3.SCHEME)) or source.format == "delta":
        return change_token(source)
    digest = hashlib.sha256()
    try:
        for file in sorted(files(source.uri)):
            with open(file, "rb") as opened:
                digest.update(f"{file}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\0".encode())
    except OSError as err:
        raise SourceUnreadable(source.uri, f"{err.filename} cannot be read: {err.strerror}") from err
    return digest.hexdigest()


def _check_options(source: config.Source) -> None:
    """Spark ignores an option that it does not know."""
    known = {name.lower(): name for names in OPTIONS.values() for name in names}
    if source.format:
        known = {name.lower(): name for name in [*OPTIONS[""], *OPTIONS[source.format]]}
    for name in source.options:
        if name.lower() not in known:
            raise SourceUnreadable(
                source.uri,
                f"source.options.{name} is no option of Spark's reader{did_you_mean(name, known.values())}",
                next="correct the option in the config, or leave it out",
            )


def _candidates(uri: str) -> list[str]:
    """Where a source may be: a relative path starts beside the tracking store, else in the working directory."""
    return [location.absolute(uri), *([] if location.scheme(uri) else [os.path.abspath(os.path.expanduser(uri))])]


def _is_there(path: str) -> bool:
    if filesystem.is_remote(path):
        s3.check(path)
        return bool(filesystem.matching_files(path))
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


def _check_compression(path: str, files: Mapping[str, filesystem.Stored]) -> None:
    """Spark goes by the ending alone: text named .gz stops it, and gzip under another name becomes letters."""
    if not files and (hidden := passed_over(path)):
        reason = f"of {shown(hidden, below=path)} the name begins with _ or ., which Spark passes over"
        raise SourceUnreadable(path, reason, next="rename what is to be read")
    if not files:
        raise SourceUnreadable(path, "there are no files in it")
    for name, file in files.items():
        is_gzip = file.size_bytes > 0 and filesystem.start_of(name, len(GZIP_MAGIC)) == GZIP_MAGIC
        if is_gzip != name.lower().endswith(".gz"):
            raise SourceUnreadable(
                name,
                "it is compressed with gzip and not named so"
                if is_gzip
                else "it is named .gz and not compressed with gzip",
                next="rename the file",
            )


def _is_hidden(name: str, path: str) -> bool:
    """Whether Spark passes over a file that `path` means, for its own name or for that of a folder that it is in."""
    return any(map(_is_hidden_name, _below(name, path)))


def _below(name: str, path: str) -> list[str]:
    """The folders below one that `path` means in which a file is, and its own name."""
    parts, depth = name.split("/"), path.rstrip("/").count("/") + 1
    return parts[depth:] or parts[-1:]


def _is_hidden_name(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)  # _day=1 is a partition


def _uncompressed(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in COMPRESSIONS else name
