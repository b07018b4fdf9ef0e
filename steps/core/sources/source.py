"""The interface of a source: what `ingest` and the driver ask of it, whatever kind it is. kinds.py lists the kinds."""

import contextlib
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from steps.core import config
from steps.core.errors import UserError
from steps.core.sources.listing import uncompressed
from steps.core.sources.rows import Part, RawRows, SparkRows
from steps.core.tables import in_memory

if TYPE_CHECKING:  # PySpark takes half a second, which small sources do not pay
    from pyspark.sql import SparkSession

SOURCE_MEBIBYTES = 1024  # up to which a source is read by the step itself, in half a minute


class Source(ABC):
    """One source of rows. A kind of source is a subclass, in a module of its own, that kinds.KINDS lists.

    `settings` are those of the config; the `uri` is absolute once kinds.resolve() has found the source.
    """

    format: ClassVar[str] = ""  # the value of source.format that means this kind; "" where the URI's scheme does
    scheme: ClassVar[str] = ""  # of this kind's URIs, as in sklearn:iris; "" for files and tables, which have a path
    options: ClassVar[Sequence[str]] = ()  # the keys that source.options may have
    instead: ClassVar[Mapping[str, str]] = {}  # of options that there are elsewhere: what says the same in the config
    has_files: ClassVar[bool] = True  # of which some may be new, for `mode: append`
    needs_spark: ClassVar[bool] = False  # whether Spark reads it, however small it is: read_by_spark() for parts()

    def __init__(self, settings: config.Source) -> None:
        self.settings = settings

    @property
    def uri(self) -> str:
        return self.settings.uri

    @property
    def is_text(self) -> bool:
        """Whether it has no types of its own, so that all of its values are texts."""
        return False

    @property
    def named_after(self) -> str:
        """What a table of these rows may be named after: churn for /data/churn.csv.gz, iris for sklearn:iris."""
        return PurePath(uncompressed(re.split(r"[/:\\]", self.uri.rstrip("/"))[-1])).stem

    @classmethod
    def recognizes(cls, path: str, files: Collection[str]) -> bool:
        """Whether what is at a path, with these data files, is of this kind. Not asked for a kind with a scheme."""
        return False

    @abstractmethod
    def check(self) -> None:
        """SourceUnreadable for what is wrong and shows without Spark; called when the source is found."""

    def size_bytes(self) -> int:
        """How much there is to read; 0 for next to nothing."""
        return 0

    def is_for_spark(self, size_bytes: int | None = None) -> bool:
        """Whether its rows are read by Spark's workers, rather than by the step itself; `size_bytes` are those of the
        files that are read, by default of all."""
        size_bytes = self.size_bytes() if size_bytes is None else size_bytes
        return self.needs_spark or size_bytes > in_memory.limit_bytes(SOURCE_MEBIBYTES)

    @abstractmethod
    def fingerprint(self) -> str | None:
        """A digest of the content, by which `ingest` is reused; "" for content that never changes.

        None when nothing but all of its rows would tell: then no `ingest` of it is reused.
        """

    def has_changed(self, files: Collection[str] | None = None) -> bool:
        """Whether the fingerprint may be that of other rows than those that were read, as something was written to
        meanwhile; `files` are those that were read, by default all. Asked when all is read. Never for a source that
        reads what was there when it was first asked."""
        return False

    def digests(self) -> dict[str, str]:
        """A digest of what each file holds, by which no row is appended twice; of the whole where it has no files."""
        return {self.uri: hashlib.sha256(f"{self.uri} {self.fingerprint()}".encode()).hexdigest()}

    def remarks(self) -> list[str]:
        """What of the source is not read, a line for each reason."""
        return []

    def opened(self) -> AbstractContextManager[object]:
        """A block in which several questions share what the source needs for them, such as a session of Spark's."""
        return contextlib.nullcontext()

    @abstractmethod
    def columns(self) -> dict[str, pa.DataType]:
        """The names of all columns, as the source writes them, and their types: pa.string() where it has no types.

        Of several files, all that any of them has. Nested fields by their path: "customer.tier".
        """

    @abstractmethod
    def parts(self, columns: Mapping[str, config.Column]) -> list[Part]:
        """What is to be read of these columns of the contract, which are looked up by Column.source or their name.

        Together the parts are all rows, each once, in an order that does not change. Only the columns that are asked
        for are read. ContractBroken for a column that the source does not have (every one at once, with the nearest
        name), or that a file of several does not have while the contract does not say `nullable: true`.
        SourceUnreadable for a column whose type no type of the contract can take (a list, a time of day), by name.
        """

    def first_rows(self, columns: Mapping[str, config.Column], count: int) -> Iterator[RawRows]:
        """The rows, at least as many as these where there are as many; whoever asks stops when there are enough."""
        for part in self.parts(columns):
            yield from part.read()

    def read_by_spark(self, session: "SparkSession", columns: Mapping[str, config.Column]) -> SparkRows:
        """The rows of a source that needs Spark. Raises what parts() does."""
        raise NotImplementedError

    def failure(self, error: Exception) -> UserError | None:
        """What an error of Spark's says of a source that needs it; None for one that is not about the source."""
        return None

    def with_missing(self, columns: Mapping[str, config.Column]) -> dict[str, config.Column]:
        """The columns of a contract, with what stands for missing values in all of this source."""
        return dict(columns)

    def option(self, *names: str, default: str = "") -> str:
        """The value of the first of these options that is set. Upper and lower case are the same, as for Spark."""
        values = {name.lower(): str(value) for name, value in self.settings.options.items()}
        return next((values[name.lower()] for name in names if values.get(name.lower())), default)
