"""What a source hands to the contract: rows as they were read, and the parts of a source that can be read apart."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:  # workers and small sources do without it
    from pyspark.sql import DataFrame


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """A row that has no columns to check: what is wrong with it, its line (1 is a file's first), and its text."""

    reason: str  # ends the sentence "rows that ...": "have more or fewer values than the header"
    line: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """Some rows of one file, before the contract, n rows of which `columns` has the values.

    `columns` are named as in the contract. A column is pa.string() where the format has no types of its own (CSV,
    JSON), with the text exactly as it stands, blanks included, and null only where the format itself says that nothing
    is there (an empty unquoted field, JSON's null or no such key); else it has the source's own type.
    `lines` is (n,) int64, the line at which each row begins; None where a format has no lines.
    """

    columns: pa.Table
    lines: np.ndarray | None = None
    malformed: list[Malformed] = field(default_factory=list)  # beside the n rows
    blank_count: int = 0  # of rows beside them that are separators and nothing else


class Part(ABC):
    """A piece of a source that is read by itself: a file, or a range of one.

    Parts are pickled and read by Spark's workers where a source is large; workers have pyarrow, numpy and pandas.
    """

    file: str  # its path or URI, for rejects and counts
    size_bytes: int

    @abstractmethod
    def read(self) -> Iterator[RawRows]:
        """All rows, in the order of the file, up to some ten thousand at a time; memory is bounded by that.

        SourceUnreadable for a file that cannot be read at all.
        """


@dataclass(frozen=True, kw_only=True)
class SparkRows:
    """The rows of a source that Spark reads. `to_raw_rows` is called by the workers, for each batch of them."""

    dataframe: "DataFrame"
    to_raw_rows: Callable[[pa.RecordBatch], RawRows]


@dataclass(frozen=True, kw_only=True)
class BatchesPart(Part):
    """Rows that come by themselves, once, such as those of a task of Spark's."""

    file: str
    size_bytes: int
    batches: Iterator[RawRows]

    def read(self) -> Iterator[RawRows]:
        return self.batches
