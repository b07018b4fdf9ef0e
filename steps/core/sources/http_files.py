"""A file at http:// or https://: loaded into a scratch folder once, and read as a file of its format."""

import contextlib
import functools
import shutil
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from steps.core.columns import Column
from steps.core.errors import SourceUnreadable, UserError
from steps.core.process import scratch
from steps.core.redaction import is_secret
from steps.core.sources import listing
from steps.core.sources.csv_files import CsvFiles
from steps.core.sources.file_source import Files
from steps.core.sources.json_files import JsonFiles
from steps.core.sources.parquet_files import ParquetFiles
from steps.core.sources.rows import Part, RawRows
from steps.core.sources.source import Source

if TYPE_CHECKING:
    import requests

FORMATS: tuple[type[Files], ...] = (CsvFiles, JsonFiles, ParquetFiles)
ENDINGS = {  # by media type, where the URL's path has no ending that is known
    "text/csv": ".csv",
    "application/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
}
CONNECT_SECONDS = 10
SILENCE_SECONDS = 60  # after which a server that sends nothing is given up
BLOCK_BYTES = 2**20
REVOKE = "where it was a parameter of `mlflow run`, MLflow has kept it: revoke it too"


class HttpFile(Source):
    """One file. Who has to log in is looked up in ~/.netrc, as MLflow keeps a URL with its parameters."""

    scheme = "http"

    @property
    def named_after(self) -> str:
        return PurePosixPath(listing.uncompressed(unquote(urlsplit(self.uri).path).rstrip("/"))).stem

    @property
    def is_text(self) -> bool:
        return self._file.is_text

    def check(self) -> None:
        try:
            parsed = urlsplit(self.settings.uri)
        except ValueError as err:
            raise SourceUnreadable(self.uri, f"it is no URL: {err}", next="correct it") from err
        if not parsed.hostname:
            raise SourceUnreadable(self.uri, "it names no server")
        if secret := next((name for name, _ in parse_qsl(parsed.query) if is_secret(name)), ""):
            shown = parsed._replace(netloc=parsed.netloc.rpartition("@")[2], query="").geturl()
            reason = f"its parameter {secret} holds a secret, which would be kept with the run"
            next_step = f"load the file yourself and pass its path, or put a login for {parsed.hostname} into ~/.netrc"
            raise SourceUnreadable(shown, reason, next=f"{next_step}; {REVOKE}")
        if "@" in parsed.netloc:
            shown = parsed._replace(netloc=parsed.netloc.rpartition("@")[2]).geturl()
            reason = "it holds a user or password, which would be kept with the run"
            next_step = f"put them into ~/.netrc (machine {parsed.hostname} login ... password ...), and pass {shown}"
            raise SourceUnreadable(shown, reason, next=f"{next_step}; {REVOKE}")
        self._ending(self._headers)

    def is_for_spark(self, size_bytes: int | None = None) -> bool:
        """Never: it is loaded onto this machine, where the workers may not be."""
        return False

    def size_bytes(self) -> int:
        return int(self._headers.get("Content-Length", 0))

    def fingerprint(self) -> str:
        [digest] = self._file.digests().values()  # without the file's name, which is another one each time
        return digest

    def remarks(self) -> list[str]:
        with self._told_by_url():
            return [remark.replace(self._file.uri, self.uri) for remark in self._file.remarks()]

    def columns(self) -> dict[str, pa.DataType]:
        with self._told_by_url():
            return self._file.columns()

    def parts(self, columns: Mapping[str, Column]) -> list[Part]:
        with self._told_by_url():
            return [_LoadedPart(self, part) for part in self._file.parts(columns)]

    def first_rows(self, columns: Mapping[str, Column], count: int) -> Iterator[RawRows]:
        with self._told_by_url():
            yield from self._file.first_rows(columns, count)

    def with_missing(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        return self._file.with_missing(columns)

    @contextlib.contextmanager
    def _told_by_url(self) -> Iterator[None]:
        """A block whose errors name the URL in place of the file on this machine, which nobody knows."""
        file = self._file
        try:
            yield
        except UserError as err:
            err.about(self.uri, instead_of=file.uri)
            raise

    @functools.cached_property
    def _file(self) -> Files:
        """The file on this machine, for as long as this source is there."""
        resources = contextlib.ExitStack()
        weakref.finalize(self, resources.close)
        folder = resources.enter_context(scratch.scratch_folder("workflow-source-"))
        with self._response() as response:
            ending = self._ending(response.headers)
            path = folder / f"source{ending}"
            self._load(response, path)
        kind = self._kind(ending)
        file = kind(self.settings.model_copy(update={"uri": str(path), "format": kind.format}))
        file.check()
        return file

    @functools.cached_property
    def _headers(self) -> Mapping[str, str]:
        """Of the first answer, which tells what kind of file it is."""
        with self._response() as response:
            return response.headers

    def _response(self) -> "requests.Response":
        """The server's answer, of which nothing but the head is there yet."""
        import requests  # a tenth of a second that only these sources pay

        headers = {"Accept-Encoding": "identity"}
        try:
            timeout = (CONNECT_SECONDS, SILENCE_SECONDS)
            response = requests.get(self.settings.uri, headers=headers, stream=True, timeout=timeout)
        except requests.RequestException as err:
            raise self._unreachable(err) from err
        if not response.ok:
            response.close()
            reason = f"its server answers {response.status_code} {response.reason}"
            login = " (for a login, say user and password in ~/.netrc)" if response.status_code in (401, 403) else ""
            raise SourceUnreadable(self.uri, f"{reason}{login}")
        return response

    def _load(self, response: "requests.Response", path: Path) -> None:
        """The file as `path`. SourceUnreadable when it does not come whole, or is larger than the disk."""
        import requests

        is_encoded = "Content-Encoding" in response.headers  # then its length is another one
        size_bytes = None if is_encoded else response.headers.get("Content-Length")
        free_bytes = shutil.disk_usage(path.parent).free
        if size_bytes is not None and int(size_bytes) > free_bytes:
            reason = f"it has {int(size_bytes):,} bytes, and {path.parent} has room for {free_bytes:,}"
            raise SourceUnreadable(self.uri, reason, next="make room there, or set TMPDIR to a folder that has it")
        try:
            with path.open("wb") as stream:
                for block in response.iter_content(BLOCK_BYTES):
                    stream.write(block)
        except requests.RequestException as err:
            raise self._unreachable(err) from err
        loaded_bytes = path.stat().st_size
        if size_bytes is not None and loaded_bytes != int(size_bytes):
            reason = f"its server ended after {loaded_bytes:,} of {int(size_bytes):,} bytes"
            raise SourceUnreadable(self.uri, reason, next="run it again")

    def _unreachable(self, error: Exception) -> SourceUnreadable:
        """Without the error's own text, which holds addresses in memory."""
        import requests

        if isinstance(error, requests.Timeout):
            reason = f"its server does not answer within {SILENCE_SECONDS} seconds"
        elif isinstance(error, requests.exceptions.SSLError):
            reason = "its server's certificate is not trusted"
        elif isinstance(error, requests.TooManyRedirects):
            reason = "its server redirects in a circle"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            reason = "its server ended before it had sent all"
        elif isinstance(error, requests.ConnectionError):
            reason = "its server cannot be reached"
        else:
            reason = f"it cannot be loaded ({type(error).__name__})"
        return SourceUnreadable(self.uri, reason, next="correct the URL, or run it again when its server is there")

    def _ending(self, headers: Mapping[str, str]) -> str:
        """The file's ending by the config, the URL's path, or the answer's media type."""
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        path = unquote(urlsplit(self.settings.uri).path)
        if media_type == "text/html":
            reason = "its server answers with a web page, as for a login or a preview"
            raise SourceUnreadable(self.uri, reason, next="pass the URL of the file itself")
        name = PurePosixPath(path).name
        suffixes = f"{PurePosixPath(listing.uncompressed(name)).suffix}{name[len(listing.uncompressed(name)) :]}"
        by_format = next((kind.endings[0] for kind in FORMATS if kind.format == self.settings.format), "")
        if any(kind.is_named_so(name) for kind in FORMATS):
            return suffixes.lower()
        if ending := by_format or ENDINGS.get(media_type, ""):
            return ending
        known = ", ".join(kind.format for kind in FORMATS)
        reason = f"its format follows neither from its name nor from its media type ({media_type or 'none'})"
        raise SourceUnreadable(self.uri, reason, next=f"say source.format in the config, one of {known}")

    def _kind(self, ending: str) -> type[Files]:
        by_name = next(kind for kind in FORMATS if kind.is_named_so(f"source{ending}"))
        return next((kind for kind in FORMATS if kind.format == self.settings.format), by_name)


class HttpsFile(HttpFile):
    """A file at an https:// address."""

    scheme = "https"


class _LoadedPart(Part):
    """A part of the file on this machine, by the name that the file has elsewhere."""

    def __init__(self, source: HttpFile, part: Part) -> None:
        self.file, self.size_bytes = source.uri, part.size_bytes
        self._source, self._part = source, part

    def read(self) -> Iterator[RawRows]:
        with self._source._told_by_url():
            yield from self._part.read()
