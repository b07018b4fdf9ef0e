"""Text files as UTF-8, however they are compressed and encoded, which their first bytes tell and their names do not."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import posixpath
import re
import zlib
from collections.abc import Buffer, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, TextIO, cast

import pyarrow as pa

from steps.core.errors import FormUnclear, NotText, SourceChanged, SourceUnreadable
from steps.core.sources import encoding_guess
from steps.core.storage import filesystem

COMPRESSIONS = {  # by the first bytes of a file
    b"\x1f\x8b": "gzip",
    b"BZh91AY&SY": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
OTHER_FORMATS = {  # which nobody means by text, by the first bytes of a file
    b"PAR1": "Parquet: say source.format: parquet in the config",
    b"PK\x03\x04": "a zip archive, as .xlsx files of Excel are: save its sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Office document, as .xls files of Excel are: save its sheet as CSV",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database: export its table as CSV",
    b"ORC": "ORC: convert it to Parquet",
    b"Obj\x01": "Avro: convert it to Parquet",
    b"ARROW1": "Arrow or Feather: convert it to Parquet",
    b"\x89HDF": "HDF5: convert it to Parquet",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a rar archive: unpack it",
}
BYTE_ORDER_MARKS = {  # the longer ones first, of which one begins with another
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
MAGIC_BYTES = 16  # at the start of a file, enough for all of these
SAMPLE_BYTES = 2**16  # of a text, by which its encoding is told
UTF16_ZERO_SHARE = 0.2  # of every second byte: few texts in UTF-16 have less, as blanks and digits have a zero byte
CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # which no text has but by accident
FEWEST_CONTROL_BYTES, CONTROL_SHARE = 100, 0.05  # of binary data; of random bytes it is 0.11
LINE_END = re.compile(r"\r\n|\n|\r")
READ_BYTES = 2**20  # that are decoded at once
READ_AHEAD_BYTES = 2**23
EXAMPLE_ENCODINGS = "cp1252 (Western Windows), cp1250, cp1251, iso-8859-15, shift_jis, utf-16"


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """How the bytes of a file become text. `encoding` is a codec of Python, `mark_bytes` the byte-order mark's size."""

    compression: str = ""  # one of COMPRESSIONS
    encoding: str = "utf-8"
    mark_bytes: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the bytes of the file, but for the mark, are the text in UTF-8."""
        return not self.compression and self.encoding == "utf-8"


def look_at(file: str, size_bytes: int, *, encoding: str = "") -> TextForm:
    """The form of a file that is not empty. A byte-order mark goes before the `encoding` of the config.

    SourceUnreadable for a file that is no text, for an encoding that Python does not know, and without an encoding for
    a text that is neither UTF-8 nor UTF-16.
    """
    with explaining(file), filesystem.opened(file, size_bytes) as stored:
        compression = _first_match(_read_all(stored, MAGIC_BYTES), COMPRESSIONS)
        stored.seek(0)
        with _decompressed(stored, compression) as stream:
            sample = _read_all(stream, SAMPLE_BYTES)
    if other := _first_match(sample, OTHER_FORMATS):
        raise NotText(file, other)
    mark = next((mark for mark in BYTE_ORDER_MARKS if sample.startswith(mark)), b"")
    codec = BYTE_ORDER_MARKS[mark] if mark else _encoding(file, sample, given=encoding)
    return TextForm(compression=compression, encoding=codec, mark_bytes=len(mark))


def check_one_encoding(files: Mapping[str, int], *, guessed: str, in_file: str) -> None:
    """SourceUnreadable when an encoding guessed for one file would turn the letters of another, in UTF-8, into others.

    `files` are names with sizes in bytes. A file in ASCII fits every encoding; one with a byte-order mark has its own.
    """
    for file, size_bytes in files.items():
        if size_bytes and _is_utf8_beyond_ascii(file, size_bytes):
            reason = f"its files have two encodings: {file} is UTF-8, and {in_file} is not (most likely {guessed})"
            raise SourceUnreadable(posixpath.dirname(file), reason, next="save all files in UTF-8")


def _is_utf8_beyond_ascii(file: str, size_bytes: int) -> bool:
    try:
        form = look_at(file, size_bytes)
    except FormUnclear:
        return False
    if form.encoding != "utf-8" or form.mark_bytes:
        return False
    with open_utf8(file, size_bytes, form, read_ahead_bytes=SAMPLE_BYTES) as stream:
        return not stream.read(SAMPLE_BYTES).isascii()


@contextlib.contextmanager
def open_utf8(
    file: str, size_bytes: int, form: TextForm, *, start: int = 0, read_ahead_bytes: int = READ_AHEAD_BYTES
) -> Iterator["Utf8Reader"]:
    """The text of a file as UTF-8, without its byte-order mark; `start` is the byte of that to begin at.

    `read_ahead_bytes` are asked for at once from an object store.
    """
    with contextlib.ExitStack() as stack:
        with explaining(file):
            stored = stack.enter_context(filesystem.opened(file, size_bytes))
            if filesystem.is_remote(file):
                stored = stack.enter_context(io.BufferedReader(cast(io.RawIOBase, stored), read_ahead_bytes))
            stream = stack.enter_context(_decompressed(stored, form.compression))
            if form.is_plain:
                stream.seek(form.mark_bytes + start)
            else:
                _read_all(stream, form.mark_bytes)
        reader = Utf8Reader(file, stream, form.encoding)
        if not form.is_plain:
            reader.read(start)
        yield reader


@contextlib.contextmanager
def open_text(file: str, size_bytes: int, form: TextForm) -> Iterator[TextIO]:
    """The text of a file, without its byte-order mark; U+FFFD, which the contract refuses, for what is not UTF-8."""
    with open_utf8(file, size_bytes, form) as reader:
        yield io.TextIOWrapper(io.BufferedReader(_Raw(reader), READ_BYTES), encoding="utf-8", errors="replace")


class Utf8Reader:
    """Reads a text as UTF-8. What a file in UTF-8 holds is passed on as it is, valid or not."""

    def __init__(self, file: str, stream: IO[bytes], encoding: str) -> None:
        self._file, self._stream, self._encoding = file, stream, encoding
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
        self._is_at_end = False
        self._decoded = bytearray()
        self._lines_before = 0

    def read(self, size_bytes: int) -> bytes:
        """That many bytes, fewer only at the end of the text. SourceUnreadable for bytes that are no text."""
        if self._decoder is None:
            return self._read_bytes(size_bytes)
        while len(self._decoded) < size_bytes and not self._is_at_end:
            self._decode_some()
        text, self._decoded = bytes(self._decoded[:size_bytes]), self._decoded[size_bytes:]
        return text

    def _read_bytes(self, size_bytes: int) -> bytes:
        with explaining(self._file):
            return _read_all(self._stream, size_bytes)

    def _decode_some(self) -> None:
        encoded = self._read_bytes(READ_BYTES)
        self._is_at_end = len(encoded) < READ_BYTES
        decoder = cast(codecs.IncrementalDecoder, self._decoder)
        try:
            text = decoder.decode(encoded, final=self._is_at_end).encode(errors="replace")
        except UnicodeDecodeError as err:
            before = err.object[: err.start].decode(self._encoding, "replace")
            line = self._lines_before + len(LINE_END.findall(before)) + 1
            bad_bytes = err.object[err.start : err.end][:4].hex(" ")
            reason = f"line {line} is not {self._encoding}: it has the bytes {bad_bytes}"
            raise _wrong_encoding(self._file, reason) from err
        self._lines_before += text.count(b"\n") or text.count(b"\r")
        self._decoded += text


class _Raw(io.RawIOBase):
    """A reader as Python's own streams read from one."""

    def __init__(self, reader: Utf8Reader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        text = self._reader.read(len(view))
        view[: len(text)] = text
        return len(text)


@contextlib.contextmanager
def explaining(file: str) -> Iterator[None]:
    """Turns what a disk or a damaged compression raises into SourceUnreadable, and Replaced into SourceChanged."""
    try:
        yield
    except filesystem.Replaced as err:
        raise SourceChanged(file) from err
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, pa.ArrowInvalid) as err:
        reason = f"its compressed content is damaged or ends too early ({err})"
        raise SourceUnreadable(file, reason, next="copy the file again, or leave it out") from err
    except OSError as err:
        reason = f"it cannot be read: {err.strerror or err}"
        raise SourceUnreadable(
            file, reason, next="copy the file again, give the right to read it, or leave it out"
        ) from err


@contextlib.contextmanager
def _decompressed(stored: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    """By Python's own modules where there is one: they tell a file that was cut off, and read several members."""
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    if compression in openers:
        with openers[compression](stored, "rb") as stream:
            yield stream
    elif compression:
        with pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), compression) as stream:
            yield stream
    else:
        yield stored


def _read_all(stream: IO[bytes], size_bytes: int) -> bytes:
    """That many bytes, fewer only at the end: a stream may give fewer at a time."""
    chunks: list[bytes] = []
    while size_bytes and (chunk := stream.read(size_bytes)):
        chunks.append(chunk)
        size_bytes -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _first_match(start: bytes, names: dict[bytes, str]) -> str:
    return next((name for magic, name in names.items() if start.startswith(magic)), "")


def _encoding(file: str, sample: bytes, *, given: str) -> str:
    if not given:
        return _utf16_by_zeros(sample) or _utf8(file, sample)
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=given)  # refuses codecs that are not of text as well, such as hex
    except LookupError as err:
        raise _wrong_encoding(file, f"source.options.encoding: {given!r} is no encoding that Python knows") from err
    name = codecs.lookup(given).name
    if name in ("utf-16", "utf-32"):
        return _utf16_by_zeros(sample) if name == "utf-16" and _utf16_by_zeros(sample) else f"{name}-le"
    return "utf-8" if name in ("utf-8", "utf-8-sig", "ascii") else name


def _utf16_by_zeros(sample: bytes) -> str:
    """The encoding of a text in UTF-16 without a mark, or ""."""
    pairs = len(sample) // 2
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    if second > UTF16_ZERO_SHARE * pairs and first <= second / 20:
        return "utf-16-le"
    return "utf-16-be" if first > UTF16_ZERO_SHARE * pairs and second <= first / 20 else ""


def _utf8(file: str, sample: bytes) -> str:
    """The encoding UTF-8, also of a sample in which a few letters are not: they are told by row."""
    if len(CONTROL_BYTES.findall(sample)) > max(FEWEST_CONTROL_BYTES, CONTROL_SHARE * len(sample)):
        raise NotText(file, f"binary data, which begins with {sample[:8]!r}")
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)
    broken = text.count("\ufffd")
    if broken and broken * 2 > len(text) - len(text.encode("ascii", "ignore")):
        before = text[: text.index("\ufffd")]
        line = len(LINE_END.findall(before)) + 1
        byte = sample[len(before.encode())]
        shown = LINE_END.split(text)[line - 1][:80]
        likely = encoding_guess.likely_encoding(sample)
        said = f": {likely}" if likely else f", such as {EXAMPLE_ENCODINGS},"
        raise FormUnclear(
            file,
            f"it is not UTF-8 (line {line} has the byte {byte:#04x}): {shown!r}",
            likely={"encoding": likely} if likely else {},
            next=f"say source.options.encoding{said} in the config",
        )
    return "utf-8"


def _wrong_encoding(file: str, reason: str) -> SourceUnreadable:
    return SourceUnreadable(file, reason, next=f"say source.options.encoding, such as {EXAMPLE_ENCODINGS}")
