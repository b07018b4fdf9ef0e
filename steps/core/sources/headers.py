"""The columns of each file of a source; Spark itself looks at one CSV or Parquet file and takes it for all."""

import bz2
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from steps.core import config
from steps.core.errors import SourceUnreadable
from steps.core.sources import source
from steps.core.storage import filesystem

START_BYTES = 2**16  # of a CSV file: enough for its header
GZIP_WRAPPED = 16  # zlib: what to add to the window size for its wrapper
LINE_CHARACTERS = 200  # of a row, in a message
READERS = 16  # threads, as each waits for a disk or an object store


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`names` in their order; () where a CSV file's header cannot be told. `content` is what else tells files apart.

    `nanoseconds` are the Parquet timestamps that Spark has no type for, `unreadable` other columns, as `name (type)`.
    """

    names: tuple[str, ...] = ()
    content: str = ""
    nanoseconds: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def twice(self) -> list[str]:
        """Names that Spark cannot tell from another one: it does not look at case."""
        counts = Counter(name.lower() for name in self.names)
        return [name for name in self.names if counts[name.lower()] > 1]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files with rows by what columns they have, and those with none."""

    groups: Mapping[Columns, list[str]]
    without_rows: list[str]


def layout(given: config.Source) -> Layout:
    """What the files of a source hold. `given` is resolved."""
    if given.uri.startswith(source.SKLEARN) or given.format == "delta":
        return Layout(groups={}, without_rows=[])
    files = {name: file.size_bytes for name, file in sorted(source.files(given.uri).items())}
    filled = [name for name, size_bytes in files.items() if size_bytes]
    options = {name.lower(): str(value) for name, value in given.options.items()}

    def look(name: str) -> Columns | None:
        if given.format == "parquet":
            return _of_parquet(name, files[name])
        if given.format == "csv" and options.get("header", "true").lower() == "true":
            return _of_csv(name, files[name], options)
        return Columns()  # JSON has them in each row, CSV without a header has none

    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(filled, pool.map(look, filled), strict=True))
    groups: dict[Columns, list[str]] = {}
    for name, columns in found.items():
        if columns is not None:
            groups.setdefault(columns, []).append(name)
    return Layout(groups=groups, without_rows=[name for name in files if found.get(name) is None])


def ragged_rows(given: config.Source) -> str:
    """How many rows of a CSV source have more or fewer values than its header, and the first; "" for none found.

    Looked for in files on a disk, as far as Python's csv can read them with the source's options.
    """
    options = {name.lower(): str(value) for name, value in given.options.items()}
    names = sorted(source.files(given.uri))
    if any(map(filesystem.is_remote, names)):
        return ""
    first, count = None, 0
    try:
        for name in names:
            for row in _ragged_rows(name, options):
                first, count = first or (name, *row), count + 1
    except (OSError, EOFError, LookupError, UnicodeError, csv.Error, TypeError):
        return ""
    if first is None:
        return ""
    name, line, values, header, text = first
    where = f"line {line} of {source.shown([name], below=given.uri)}"
    rows = f"{count:,} such row{'s' if count > 1 else ''} in all"
    return f"{where} has {values} values and the header {header} ({rows}): {text!r}"


def _ragged_rows(name: str, options: Mapping[str, str]) -> Iterator[tuple[int, int, int, str]]:
    """Each row of another length than its file's header: its first line, its length, the header's, and its text."""
    encoding, separator = options.get("encoding") or options.get("charset") or "utf-8-sig", _separator(options)
    with _text(name, encoding) as lines:
        rows = csv.reader(lines, delimiter=separator, quotechar=options.get("quote") or '"')
        header, line = next(rows, []), rows.line_num + 1
        for row in rows:
            if row and len(row) != len(header):
                yield line, len(row), len(header), separator.join(row)[:LINE_CHARACTERS]
            line = rows.line_num + 1


def start_of_text(name: str, size_bytes: int) -> bytes:
    """The first bytes of a text file, uncompressed; b"" where it is compressed in a way that is not known here."""
    start = filesystem.start_of(name, size_bytes)
    ending = name.lower().rpartition(".")[2]
    if ending == "gz":
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | GZIP_WRAPPED).decompress(start, size_bytes)
    if ending == "bz2":
        return bz2.BZ2Decompressor().decompress(start, size_bytes)
    return b"" if f".{ending}" in source.COMPRESSIONS else start


def _of_csv(name: str, size_bytes: int, options: Mapping[str, str]) -> Columns | None:
    """The columns of a CSV file; None when nothing follows its header."""
    start = start_of_text(name, START_BYTES)
    comment = options.get("comment", "").encode()
    lines = [line for line in start.splitlines() if line.strip() and not (comment and line.startswith(comment))]
    if start and size_bytes < START_BYTES and len(lines) < 2:
        return None
    header = lines[0] if lines else b""
    text = header.decode(options.get("encoding") or options.get("charset") or "utf-8-sig", errors="replace")
    text = text.lstrip("\ufeff")
    separator, quote = _separator(options), options.get("quote") or '"'
    if len(separator) != 1 or len(quote) != 1 or text.count(quote) % 2:  # not for csv, or a line break in a name
        return Columns(content=text)
    names = next(csv.reader(io.StringIO(text), delimiter=separator, quotechar=quote), [])
    return Columns(names=tuple(names), content=text)


def _separator(options: Mapping[str, str]) -> str:
    return options.get("sep") or options.get("delimiter") or ","


def _text(name: str, encoding: str) -> IO[str]:
    if name.lower().endswith(".gz"):
        return gzip.open(name, "rt", encoding=encoding, errors="replace", newline="")
    return open(name, encoding=encoding, errors="replace", newline="")


def _of_parquet(name: str, size_bytes: int) -> Columns | None:
    """The columns of a Parquet file; None when it has no rows."""
    try:
        with filesystem.opened(name, size_bytes) as file:
            footer = pq.ParquetFile(file)
            schema, rows = footer.schema_arrow, footer.metadata.num_rows
    except pa.ArrowException as err:
        raise SourceUnreadable(name, f"it is no Parquet file: {err}", next="remove it, or write it anew") from err
    if not rows:
        return None
    return Columns(
        names=tuple(schema.names),
        content=", ".join(map(str, schema.types)),
        nanoseconds=tuple(field.name for field in schema if _is_in_nanoseconds(field.type)),
        unreadable=tuple(f"{field.name} ({field.type})" for field in schema if _is_unreadable(field.type)),
    )


def _is_in_nanoseconds(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns")


def _is_unreadable(kind: pa.DataType) -> bool:
    """Whether Spark has no type for it."""
    return bool(pa.types.is_time(kind) or pa.types.is_float16(kind))
