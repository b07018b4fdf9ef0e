"""The interface of a source: what `ingest` and the driver ask of it, whatever kind it is. kinds.py lists the kinds."""

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from steps.core import config
from steps.core.errors import SourceUnreadable

ERROR_CHARACTERS = 400  # of Spark's text, in a message


class Source(ABC):
    """One source of rows. A kind of source is a subclass, in a module of its own, that kinds.KINDS lists.

    `settings` are those of the config; the `uri` is absolute once kinds.resolve() has found the source.
    """

    format: ClassVar[str] = ""  # the value of source.format that means this kind; "" where the URI's scheme does
    scheme: ClassVar[str] = ""  # of this kind's URIs, as in sklearn:iris; "" for files and tables, which have a path
    options: ClassVar[Sequence[str]] = ()  # the keys that source.options may have

    def __init__(self, settings: config.Source) -> None:
        self.settings = settings

    @property
    def uri(self) -> str:
        return self.settings.uri

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

    @abstractmethod
    def change_token(self) -> str:
        """A text that changes when the source is written to, at the cost of a look; "" for one that never changes."""

    def fingerprint(self) -> str:
        """A digest of the content, by which `ingest` is reused. Where the change token is not one, read the content."""
        return self.change_token()

    def remarks(self) -> list[str]:
        """What of the source is not read, a line for each reason."""
        return []

    @abstractmethod
    def read(self, spark: SparkSession, *, columns: Collection[str] = ()) -> DataFrame:
        """The rows, with the source's own names and types; text where it has no types.

        `columns` are those that the caller needs: SourceUnreadable where they cannot be read, though they are there.
        """

    def misread_reason(self, columns: Sequence[str]) -> str:
        """What the names of the columns that were read say of a wrong option; "" when they look like names."""
        return ""

    def explain(self, error: PySparkException) -> SourceUnreadable:
        """What Spark says about this source, in one line: what failed, and the innermost of its causes."""
        message = str(error).split("JVM stacktrace")[0]
        causes = re.findall(r"^Caused by: [\w.$]+: (.+)$", str(error), re.MULTILINE)
        text = " ".join(" ".join([message, *causes[-1:]]).split())
        return SourceUnreadable(
            self.uri,
            f"cannot be read as {self.format or self.scheme}: {text[:ERROR_CHARACTERS]}",
            next="correct the source, or source.format and source.options (Spark's reader options) in the config",
        )

    @contextlib.contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """SourceUnreadable in place of Spark's own errors. Reading is lazy: some show when the rows are first used."""
        try:
            yield
        except PySparkException as err:
            raise self.explain(err) from err

    def option(self, *names: str, default: str = "") -> str:
        """The value of the first of these options that is set. As for Spark, upper and lower case are the same."""
        values = {name.lower(): str(value) for name, value in self.settings.options.items()}
        return next((values[name.lower()] for name in names if values.get(name.lower())), default)

    def spark_options(self, **defaults: str | bool | int) -> dict[str, str | bool | int]:
        """The options for Spark's reader: those of the config, and `defaults` for the others."""
        return {name.lower(): value for name, value in {**defaults, **self.settings.options}.items()}


def quoted(column: str) -> str:
    """A column's name as Spark's SQL takes it, whatever letters are in it."""
    return "`" + column.replace("`", "``") + "`"
