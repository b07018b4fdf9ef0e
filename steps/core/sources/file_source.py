"""What all kinds of files have in common: they are listed, their headers compared, and read together by name."""

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceUnreadable
from steps.core.sources import listing
from steps.core.sources.source import Source, quoted
from steps.core.storage import filesystem

# Options of Spark's reader for files of every format.
FILE_OPTIONS = (
    "pathGlobFilter", "modifiedBefore", "modifiedAfter", "recursiveFileLookup", "ignoreCorruptFiles",
    "ignoreMissingFiles", "basePath", "compression", "codec",
)  # fmt: skip
READERS = 16  # threads that look at files, as each waits for a disk or an object store


@dataclass(frozen=True)
class Header:
    """What a file says of its columns. Files with equal headers are read together, others apart.

    `names` are in the file's order, () where they do not show. `types` and `text` are as the file's format writes them.
    """

    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files with rows, by their headers, and those without rows."""

    groups: Mapping[Header, list[str]]
    without_rows: list[str]


class Files(Source):
    """A file, a folder or a glob in a format that Spark reads.

    A format is a subclass: `format`, `endings` and `options` are enough where Spark finds the columns of each file by
    itself. Where it takes one file's columns for all, header_of() tells them apart.
    """

    endings: ClassVar[Sequence[str]]  # of the names of its files, in lower case
    options: ClassVar[Sequence[str]] = FILE_OPTIONS
    spark_defaults: ClassVar[Mapping[str, str | bool | int]] = {}  # options where the config has none

    def header_of(self, name: str, size_bytes: int) -> Header | None:
        """What a file that is not empty says of its columns; None when it has no rows."""
        return Header()

    def load(self, spark: SparkSession, paths: list[str], header: Header, **defaults: str | bool | int) -> DataFrame:
        """The rows of files with one header. `defaults` are options beside `spark_defaults`."""
        options = self.spark_options(**self.spark_defaults, **defaults)
        rows = spark.read.format(self.format).options(**options).load(paths)
        rows.schema  # noqa: B018  # asks Spark, which looks at the files now
        return rows

    @classmethod
    def recognizes(cls, path: str, files: Collection[str]) -> bool:
        return bool(files) and all(cls.is_named_so(name) for name in files)

    @classmethod
    def is_named_so(cls, name: str) -> bool:
        return PurePath(listing.uncompressed(name)).suffix.lower() in cls.endings

    def data_files(self) -> dict[str, filesystem.Stored]:
        """The data files that are there now."""
        return dict(sorted(listing.data_files(self.uri).items()))

    def check(self) -> None:
        files = self.data_files()
        if not files:
            raise listing.nothing_to_read(self.uri)
        listing.check_names(files, below=self.uri)
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(listing.check_compression, files, files.values()))

    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.data_files().values())

    def change_token(self) -> str:
        return json.dumps([(name, file.size_bytes, file.version) for name, file in self.data_files().items()])

    def fingerprint(self) -> str:
        """A digest of the bytes of all files. An object store has digests of its objects, their ETags."""
        if filesystem.is_remote(self.uri):
            return self.change_token()
        digest = hashlib.sha256()
        try:
            for name in self.data_files():
                with open(name, "rb") as file:
                    digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
        except OSError as err:
            raise SourceUnreadable(self.uri, f"{err.filename} cannot be read: {err.strerror}") from err
        return digest.hexdigest()

    @functools.cached_property
    def layout(self) -> Layout:
        """The headers of all files, which are looked at once."""
        files = self.data_files()
        sizes = [file.size_bytes for file in files.values()]
        with ThreadPoolExecutor(READERS) as pool:
            headers = pool.map(lambda name, size: self.header_of(name, size) if size else None, files, sizes)
        groups: dict[Header, list[str]] = {}
        without_rows: list[str] = []
        for name, header in zip(files, headers, strict=True):
            names = without_rows if header is None else groups.setdefault(header, [])
            names.append(name)
        return Layout(groups=groups, without_rows=without_rows)

    def remarks(self) -> list[str]:
        hidden = [name for name in listing.hidden_files(self.uri) if self.is_named_so(name)]
        reasons = {"skipped, as the name begins with _ or .": hidden, "without rows": self.layout.without_rows}
        return [f"{self.uri}: {reason}: {self._shown(names)}" for reason, names in reasons.items() if names]

    def read(self, spark: SparkSession, *, columns: Collection[str] = ()) -> DataFrame:
        """The rows of all files, with the columns that all of them have.

        SourceUnreadable when a file lacks one of `columns` that another one has.
        """
        layout = self.layout
        if not layout.groups:
            raise SourceUnreadable(self.uri, f"no file has rows: {self._shown(layout.without_rows)}")
        for header, names in layout.groups.items():
            check_names_differ(names[0], header, columns)
        spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")  # hour=01 is "01"
        with self.explaining_errors():
            if len(layout.groups) == 1 and not layout.without_rows:
                return self.load(spark, [self._path_for_spark()], next(iter(layout.groups)))
            parts = {
                names[0]: self.load(spark, [_escaped(name) for name in names], header, **self._base_path(names))
                for header, names in layout.groups.items()
            }
            self._check_parts({name: part.columns for name, part in parts.items()}, columns)
            return _union(list(parts.values()))

    def check_names_for_spark(self) -> None:
        """SourceUnreadable for names with letters of globs, where Spark learns the schema from files as a whole.

        It then takes them for globs, escaped or not, and learns from other files or from none.
        """
        for names in self.layout.groups.values():
            if unfit := [name for name in names if _escaped(name) != filesystem.for_spark(name)]:
                reason = r"in a file of this kind Spark takes * ? [ ] { } and \ in its name for a pattern"
                raise SourceUnreadable(unfit[0], reason, next="rename the file, or the folder that it is in")

    def misread_reason(self, columns: Sequence[str]) -> str:
        undecoded = [name for name in columns if "\ufffd" in name]
        if not undecoded:
            return ""
        return f"the source's column {undecoded[0]!r} is not UTF-8: say source.options.encoding, such as iso-8859-1"

    def _check_parts(self, parts: Mapping[str, list[str]], columns: Collection[str]) -> None:
        """`parts` are the columns of files with different headers, by the name of one of these files."""
        for column in columns:
            having = [name for name, present in parts.items() if column in present]
            lacking = [name for name in parts if name not in having]
            if having and lacking:
                lines = (f"{self._shown([name])} has {', '.join(parts[name])}" for name in (lacking[0], having[0]))
                raise SourceUnreadable(
                    self.uri,
                    f"not all of its files have the column {column!r}: {'; '.join(lines)}",
                    next="give all files the same header, or pass those that belong together as a folder or glob",
                )

    def _path_for_spark(self) -> str:
        return _escaped(self.uri) if listing.is_literal(self.uri) else filesystem.for_spark(self.uri)

    def _base_path(self, names: Iterable[str]) -> dict[str, str]:
        """Where the source is one folder: that names of folders below it (day=1) are values of columns."""
        is_folder = all(name.startswith(f"{self.uri}/") for name in names)
        return {"basePath": filesystem.for_spark(self.uri)} if is_folder else {}

    def _shown(self, names: Iterable[str]) -> str:
        return listing.shown(names, below=self.uri)


def check_names_differ(file: str, header: Header, columns: Collection[str]) -> None:
    """SourceUnreadable when another column of the file has the name of one of `columns` but for case."""
    counts = Counter(name.lower() for name in header.names)
    needed = {column.lower() for column in columns}
    if equal := [name for name in header.names if counts[name.lower()] > 1 and name.lower() in needed]:
        raise SourceUnreadable(
            file,
            f"of its columns {', '.join(map(repr, equal))} the names are equal but for upper and lower case, "
            "which Spark does not tell apart",
            next="rename one of them in the source",
        )


def _union(parts: Sequence[DataFrame]) -> DataFrame:
    """All rows, with the columns that all parts have, in the order of the first."""
    common = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    selected = [part.select(*map(quoted, common)) for part in parts]
    return functools.reduce(lambda one, other: one.unionByName(other), selected)


def _escaped(path: str) -> str:
    """A path for Spark in which the letters of its globs stand for themselves."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", filesystem.for_spark(path))
