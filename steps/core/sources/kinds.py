"""The kinds of source, and which of them a config means. A new kind is a module of its own and one entry in KINDS."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import PurePath

from steps.core import config
from steps.core.errors import FormatsMixed, LakeUndefined, SourceUnreadable, did_you_mean
from steps.core.sources import jdbc_address, listing
from steps.core.sources.csv_files import CsvFiles
from steps.core.sources.delta_table import PINNED, DeltaTable
from steps.core.sources.http_files import FORMATS, HttpFile, HttpsFile
from steps.core.sources.jdbc import JdbcTable
from steps.core.sources.json_files import JsonFiles
from steps.core.sources.parquet_files import ParquetFiles
from steps.core.sources.sklearn_dataset import SklearnDataset
from steps.core.sources.source import Source
from steps.core.storage import filesystem, s3
from steps.core.tables import location

# A path is of the first kind that recognizes it: a Delta table holds Parquet files.
KINDS: tuple[type[Source], ...] = (
    SklearnDataset,
    HttpFile,
    HttpsFile,
    JdbcTable,
    DeltaTable,
    CsvFiles,
    JsonFiles,
    ParquetFiles,
)
BY_SCHEME = {kind.scheme: kind for kind in KINDS if kind.scheme}
BY_FORMAT = {kind.format: kind for kind in KINDS if kind.format}
TAB_SEPARATED = "tsv"  # as source.format: CSV whose separator is a tab


def resolve(settings: config.Source, uri: str = "") -> Source:
    """The source of a config, or the one at `uri` in its place: found, with an absolute path and a format.

    SourceUnreadable when nothing is there, when its format does not show, or for a mistake in `settings`.
    """
    if uri:
        settings = settings.model_copy(update={"uri": uri})
    if settings.uri.lower().startswith(f"{JdbcTable.scheme}:"):
        jdbc_address.check(settings.uri)  # first of all, as other messages would show a password in it
    if settings.format == TAB_SEPARATED:
        settings = settings.model_copy(update={"format": "csv", "options": {"sep": "\t", **settings.options}})
    _check_format(settings)
    _check_options(settings)
    if location.scheme(settings.uri) in BY_SCHEME:
        source = source_of(settings)
    else:
        path = _find_path(settings.uri)
        kind = BY_FORMAT[settings.format] if settings.format else _kind_at(path)
        source = kind(settings.model_copy(update={"uri": path, "format": kind.format}))
    source.check()
    return source


def source_of(settings: config.Source) -> Source:
    """The source whose settings were resolved before."""
    return (BY_SCHEME.get(location.scheme(settings.uri)) or BY_FORMAT[str(settings.format)])(settings)


def _check_format(settings: config.Source) -> None:
    if settings.format and settings.format not in BY_FORMAT:
        raise SourceUnreadable(
            settings.uri,
            f"source.format: {settings.format!r} is none of {', '.join(BY_FORMAT)}"
            f"{did_you_mean(settings.format, BY_FORMAT)}",
            next="correct source.format in the config, or leave it out",
        )


def _check_options(settings: config.Source) -> None:
    kinds = [BY_FORMAT[settings.format]] if settings.format else KINDS
    known = {name.lower(): name for kind in kinds for name in kind.options}
    for name in settings.options:
        if name.lower() not in known:
            raise SourceUnreadable(
                settings.uri,
                f"source.options.{name} is not an option of this source{_instead(name, kinds, known.values())}",
                next="correct the option in the config, or leave it out",
            )


def _instead(name: str, kinds: Iterable[type[Source]], known: Iterable[str]) -> str:
    """What says the same, or the nearest name."""
    instead = {option.lower(): words for kind in kinds for option, words in kind.instead.items()}
    return f": say {instead[name.lower()]}" if name.lower() in instead else did_you_mean(name, known)


def _find_path(uri: str) -> str:
    """Where a source is: a relative path starts beside the tracking store, else in the working directory."""
    scheme = location.scheme(uri)
    if scheme not in ("", "file", "s3", "s3a"):
        near = did_you_mean(f"{scheme}:", [f"{known}:" for known in BY_SCHEME])
        if scheme.startswith("postgres"):
            near = " (say jdbc:postgresql://host:5432/database)"
        raise SourceUnreadable(uri, f"{scheme}: is not supported{near}")
    try:
        absolute = location.absolute(uri)
    except LakeUndefined as err:
        raise SourceUnreadable(uri, "it names no bucket that there can be") from err
    if PINNED.search(absolute) and not _exists(absolute) and filesystem.is_delta(PINNED.sub("", absolute)):
        return absolute
    for path in [absolute, *([] if scheme else [os.path.abspath(os.path.expanduser(uri))])]:
        if _exists(path):
            return path
    raise SourceUnreadable(absolute, "there is no such file or folder")


def _exists(path: str) -> bool:
    if filesystem.is_remote(path):
        s3.check(path)
    elif os.path.exists(path):
        return True
    return bool(listing.matching_files(path))


def _kind_at(path: str) -> type[Source]:
    """The kind that a path's files show; a folder that holds anything else as well is not guessed at."""
    files = listing.data_files(path)
    for kind in KINDS:
        if kind.recognizes(path, files):
            return kind
    if not files:
        raise listing.nothing_to_read(path)
    reason = f"its format does not follow from the names of its files ({_endings(files)})"
    say = f"say source.format in the config, one of {', '.join(BY_FORMAT)}"
    if ending := _ending_of_most([name for name in files if any(kind.is_named_so(name) for kind in FORMATS)]):
        data = f"{path.rstrip('/')}/*{ending}"
        raise FormatsMixed(path, reason, next=f"name the data by a glob, such as {data}; or {say}")
    raise SourceUnreadable(path, reason, next=say)


def _endings(names: Collection[str]) -> str:
    return ", ".join(sorted({_ending(name) or "no ending" for name in names}))


def _ending_of_most(names: Collection[str]) -> str:
    """The end of a glob for all files of the most frequent format, compressed or not; "" where none is for all."""
    if not names:
        return ""
    format_ending = Counter(map(_ending, names)).most_common(1)[0][0]
    endings = {
        PurePath(listing.uncompressed(name)).suffix + name[len(listing.uncompressed(name)) :]
        for name in names
        if _ending(name) == format_ending
    }
    common = os.path.commonprefix(list(endings))
    return common if len(endings) == 1 else f"{common}*" if common.lower() == format_ending else ""


def _ending(name: str) -> str:
    return PurePath(listing.uncompressed(name)).suffix.lower()
