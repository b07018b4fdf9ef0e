"""What all kinds of files have in common: they are listed, their columns compared, and read together by name."""

import functools
import hashlib
import json
import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import ClassVar
from urllib.parse import unquote

import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import ContractBroken, SourceUnreadable, did_you_mean
from steps.core.sources import listing
from steps.core.sources.rows import Part, RawRows
from steps.core.sources.source import Source
from steps.core.storage import filesystem, local_files

READERS = 16  # threads that look at files, as each waits for a disk or an object store
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # in the name of a folder: the value is missing
SHOWN_COLUMNS = 30  # in a message


@dataclass(frozen=True)
class Header:
    """The columns of a file, in its order."""

    names: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    in_folders_too: tuple[str, ...] = ()  # those that the name of a folder gives a value as well

    def find(self, source_name: str) -> str | None:
        """The column of that name, or the only one that differs from it by case or by how Unicode writes it alone."""
        alike = self._alike.get(_folded(source_name), [])
        if source_name in alike:
            return source_name
        return alike[0] if len(alike) == 1 else None

    def equal_but_for_case(self, source_name: str) -> dict[int, str]:
        """The columns of that name in upper or lower case, by their places from 1 on."""
        return self._places.get(source_name.lower(), {})

    @functools.cached_property
    def _alike(self) -> dict[str, list[str]]:
        alike: dict[str, list[str]] = {}
        for name in self.names:
            alike.setdefault(_folded(name), []).append(name)
        return alike

    @functools.cached_property
    def _places(self) -> dict[str, dict[int, str]]:
        places: dict[str, dict[int, str]] = {}
        for place, name in enumerate(self.names, 1):
            places.setdefault(name.lower(), {})[place] = name
        return places


class Files(Source):
    """A file, a folder or a glob.

    A format is a subclass: `format`, `endings` and `options`; header_of() and parts_of() for one file.
    """

    endings: ClassVar[Sequence[str]]  # of the names of its files, in lower case
    has_fixed_columns: ClassVar[bool] = True  # whether a header says all columns of a file

    def header_of(self, file: str, size_bytes: int) -> Header | None:
        """The columns of a file that is not empty; None when it has no rows."""
        raise NotImplementedError

    def parts_of(self, file: str, size_bytes: int, columns: Mapping[str, str]) -> list[Part]:
        """What is to be read of a file: columns, by their names in the contract, with those in the file."""
        raise NotImplementedError

    @classmethod
    def recognizes(cls, path: str, files: Collection[str]) -> bool:
        return bool(files) and all(cls.is_named_so(name) for name in files)

    @classmethod
    def is_named_so(cls, name: str) -> bool:
        return PurePath(listing.uncompressed(name)).suffix.lower() in cls.endings

    def data_files(self) -> dict[str, filesystem.Stored]:
        """The data files that there were when they were first looked at: no others are read."""
        return self._data_files

    @functools.cached_property
    def _data_files(self) -> dict[str, filesystem.Stored]:
        return dict(sorted(listing.data_files(self.uri).items()))

    def files(self) -> dict[str, int]:
        """The sizes in bytes of the files that are read, by their names below the source."""
        return {"/".join(listing.below(name, self.uri)): file.size_bytes for name, file in self.data_files().items()}

    def check(self) -> None:
        if not self.data_files():
            raise listing.nothing_to_read(self.uri)

    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.data_files().values())

    def has_changed(self, files: Collection[str] | None = None) -> bool:
        """Whether one of these files, by default of all, was written to or removed since it was first looked at. One of
        which only the time, the owner or the links changed was not; files that came beside them are not read."""
        now = listing.matching_files(self.uri)
        read = self.data_files() if files is None else files
        return not all(name in now and self._is_same(name, now[name]) for name in read)

    def _is_same(self, name: str, now: filesystem.Stored) -> bool:
        before = self.data_files()[name]
        if now.version == before.version:
            return True
        if filesystem.is_remote(name) or now.size_bytes != before.size_bytes:
            return False
        content, digested = self._content[name]
        try:  # what was read before its digest was taken is of that content, where it was the same file then
            return digested.version == before.version and _content_of(name)[0] == content
        except OSError:
            return False

    def fingerprint(self) -> str:
        """A digest of the bytes of all files, which are read for it once."""
        digest = hashlib.sha256()
        for name, content in self.digests().items():
            digest.update(f"{name}\0{content}\0".encode())
        return digest.hexdigest()

    def digests(self) -> dict[str, str]:
        """A digest of each file's bytes. An object store has digests of its objects, their ETags."""
        return {name: content for name, (content, _) in self._content.items()}

    @functools.cached_property
    def _content(self) -> dict[str, tuple[str, filesystem.Stored]]:
        """Of each file a digest, and what was known of it then."""
        if filesystem.is_remote(self.uri):
            return {name: (file.version, file) for name, file in self.data_files().items()}
        try:
            return {name: _content_of(name) for name in self.data_files()}
        except OSError as err:
            raise SourceUnreadable(self.uri, f"{err.filename} cannot be read: {err.strerror}") from err

    @functools.cached_property
    def headers(self) -> dict[str, Header]:
        """The columns of each file that has rows, those in the names of its folders among them; looked at once. Files
        with the same columns share a header."""
        files = self.data_files()
        sizes = [file.size_bytes for file in files.values()]
        try:
            with ThreadPoolExecutor(READERS) as pool:
                headers = list(pool.map(lambda name, size: self.header_of(name, size) if size else None, files, sizes))
        except OSError as err:
            raise SourceUnreadable(self.uri, f"{err.filename} cannot be read: {err.strerror}") from err
        found = {name: header for name, header in zip(files, headers, strict=True) if header is not None}
        whole = {name: _with_partitions(header, self._partitions(name)) for name, header in found.items()}
        shared: dict[Header, Header] = {}
        return {name: shared.setdefault(header, header) for name, header in whole.items()}

    def _files_by_header(self) -> list[tuple[Header, list[str]]]:
        """Each header, and the files that have it."""
        files: dict[int, list[str]] = {}
        for file, header in self.headers.items():
            files.setdefault(id(header), []).append(file)
        return [(self.headers[names[0]], names) for names in files.values()]

    def remarks(self) -> list[str]:
        hidden = [name for name in listing.hidden_files(self.uri) if self.is_named_so(name)]
        without_rows = [name for name in self.data_files() if name not in self.headers]
        reasons = {
            "skipped, as the name begins with _ or .": hidden,
            "skipped, as still being written": listing.unfinished_files(self.uri),
            "without rows": without_rows,
            "with the content of another file, so that its rows count twice": self._copies(),
        }
        return [f"{self.uri}: {reason}: {self._shown(names)}" for reason, names in reasons.items() if names]

    def _copies(self) -> list[str]:
        """The files whose rows are, with the values in the names of folders, those of a file before them."""
        seen: set[tuple[str, str]] = set()
        copies = []
        for name, content in self.digests().items():
            rows = (content, json.dumps(self._partitions(name)))
            if name in self.headers and rows in seen:
                copies.append(name)
            seen.add(rows)
        return copies

    def columns(self) -> dict[str, pa.DataType]:
        return {
            name: kind
            for header in reversed(self.headers.values())
            for name, kind in zip(header.names, header.types, strict=True)
        }

    def parts(self, columns: Mapping[str, Column]) -> list[Part]:
        if not self.headers:
            files = self._shown(self.data_files())
            raise ContractBroken(self.uri, [f"it has no rows: {files}"])
        wanted = {name: column.source or name for name, column in columns.items()}
        self._check_columns(wanted, columns)
        return [
            part
            for file, header in self.headers.items()
            for part in self._parts(file, self.data_files()[file].size_bytes, header, wanted)
        ]

    def _parts(self, file: str, size_bytes: int, header: Header, wanted: Mapping[str, str]) -> Iterator[Part]:
        partitions = self._partitions(file)
        found = {name: header.find(source) or source for name, source in wanted.items()}
        named = set(header.names)
        in_file = {name: source for name, source in found.items() if source in named} if named else found
        if not self.has_fixed_columns:
            in_file = found
        in_file = {name: source for name, source in in_file.items() if source not in partitions}
        constants = {name: partitions.get(source) for name, source in found.items() if name not in in_file}
        for part in self.parts_of(file, size_bytes, in_file):
            yield _PartWithConstants(part, constants) if constants else part

    def _check_columns(self, wanted: Mapping[str, str], columns: Mapping[str, Column]) -> None:
        """ContractBroken for columns that no file has, or that one has not and is not let lack."""
        mistakes = {}
        headers = self._files_by_header()
        for name, source in wanted.items():
            for header, files in headers:
                _check_names_differ(files[0], header, source)
                _check_one_place(files[0], header, source)
            lacking = self.files_without(source)
            is_nowhere = len(lacking) == len(self.headers)
            if is_nowhere or (lacking and self.has_fixed_columns and columns[name].nullable is not True):
                mistakes[name] = self._missing_column(name, source, lacking)
        if mistakes:
            raise ContractBroken(self.uri, mistakes.values(), missing={name: wanted[name] for name in mistakes})

    def files_without(self, source_name: str) -> list[str]:
        """The files whose header has no such column."""
        alike = self._files_by_header()
        return sorted(file for header, files in alike if header.find(source_name) is None for file in files)

    def _missing_column(self, name: str, source: str, lacking: Sequence[str]) -> str:
        present = self.headers[lacking[0]].names
        shown = ", ".join(present[:SHOWN_COLUMNS]) + (", ..." if len(present) > SHOWN_COLUMNS else "")
        if len(lacking) == len(self.headers):
            near = did_you_mean(source, present)
            return f"column {name!r}: the source has no {source!r}{near}; it has {shown}"
        return (
            f"column {name!r}: {len(lacking)} of {len(self.headers)} files have no {source!r}, such as "
            f"{self._shown(lacking[:1])}, which has {shown} (`nullable: true` takes it as missing there)"
        )

    def _partitions(self, file: str) -> dict[str, str | None]:
        """The values in the names of the folders below the source that a file is in: day=2024-01-01."""
        folders = [part for part in listing.below(file, self.uri)[:-1] if "=" in part]
        pairs = (folder.partition("=")[::2] for folder in folders)
        return {unquote(name): None if value == NO_PARTITION else unquote(value) for name, value in pairs}

    def _shown(self, names: Iterable[str]) -> str:
        return listing.shown(names, below=self.uri)


class _PartWithConstants(Part):
    """A part with columns that are the same in each row: values in the names of folders, or nulls."""

    def __init__(self, part: Part, constants: Mapping[str, str | None]) -> None:
        self.file, self.size_bytes = part.file, part.size_bytes
        self._part, self._constants = part, dict(constants)

    def read(self) -> Iterator[RawRows]:
        for raw in self._part.read():
            columns = raw.columns
            for name, value in self._constants.items():
                columns = columns.append_column(name, pa.repeat(pa.scalar(value, pa.string()), len(columns)))
            yield replace(raw, columns=columns)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _content_of(file: str) -> tuple[str, filesystem.Stored]:
    with open(file, "rb") as stream:
        known = local_files.stored_as(os.fstat(stream.fileno()))
        return hashlib.file_digest(stream, "sha256").hexdigest(), known


def _with_partitions(header: Header, partitions: Mapping[str, str | None]) -> Header:
    added = [name for name in partitions if name not in header.names]
    return replace(
        header,
        names=(*header.names, *added),
        types=(*header.types, *(pa.string() for _ in added)),
        in_folders_too=tuple(name for name in partitions if name in header.names),
    )


def _check_one_place(file: str, header: Header, source: str) -> None:
    """SourceUnreadable for a column that both the file and the name of its folder have: either may be meant."""
    if header.find(source) in header.in_folders_too:
        reason = f"it has a column {source!r}, and so has the name of its folder"
        raise SourceUnreadable(file, reason, next="rename the column or the folder, or take the column out of the file")


def _check_names_differ(file: str, header: Header, wanted: str) -> None:
    """SourceUnreadable when another column of the file has the name of a wanted one but for case."""
    alike = [f"{name!r} (column {place})" for place, name in header.equal_but_for_case(wanted).items()]
    if len(alike) > 1:
        differ = len(set(header.equal_but_for_case(wanted).values())) > 1
        case = " but for upper and lower case" if differ else ""
        reason = f"of its columns {', '.join(alike)} the names are equal{case}"
        raise SourceUnreadable(file, reason, next="rename one of them in the source")
