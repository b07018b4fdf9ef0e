"""Which engine boosts: this process, from memory or from bins on disk, or Spark's workers."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

from steps.core.config_model import EngineName
from steps.core.errors import MatrixTooLarge, SearchTooLarge
from steps.core.process import memory

# What training takes for each value of the matrix, measured: 1 to 2 bytes for its bin, by rows and by columns, and four
# times as much in a matrix that has missing values; and for each row and output: gradients and predictions.
CELL_BYTES = 8
OUTPUT_BYTES = 24
# Of a value that pandas holds, by the kind of its column: a number, or a pointer and an object of Python.
NUMBER_BYTES, OBJECT_BYTES = 8, 80
OBJECTS = ("string", "date", "decimal")
FRAMES = 3  # how often a search holds its rows: as they are read, in their parts, and in the folds of a trial
SHARE = 0.5  # of the memory, or of the scratch folder's disk, that is free now; others use them too


@dataclass(frozen=True, kw_only=True)
class Engine:
    """`on_disk` says whether this process keeps bins in files; `reason` why this engine was chosen."""

    name: EngineName
    on_disk: bool
    reason: str

    @property
    def is_worth_saying(self) -> bool:
        """Not of the usual one, in memory."""
        return self.on_disk or self.name == "spark"


def estimated_bytes(*, rows: int, columns: int, outputs: int) -> int:
    """What training in memory takes at most: of a matrix (rows, columns) with so many outputs, one for each class."""
    return rows * (columns * CELL_BYTES + outputs * OUTPUT_BYTES)


def choose(asked: EngineName | None, *, needed_bytes: int) -> Engine:
    """The engine that was `asked` for, else by size: this process while the matrix fits into half of the free memory,
    else by bins on disk while it fits into half of what is free there, else Spark's workers where SPARK_REMOTE is set.

    MatrixTooLarge when this process cannot, and is to, or no other can.
    """
    needed = f"training takes up to {memory.in_words(needed_bytes)}"
    if asked == "spark":
        return Engine(name="spark", on_disk=False, reason="it was asked for")
    free_memory, folder = memory.available_bytes(), tempfile.gettempdir()
    if needed_bytes <= SHARE * free_memory:
        reason = f"{needed}, and {memory.in_words(free_memory)} of memory are free"
        return Engine(name="local", on_disk=False, reason=reason)
    free_disk = shutil.disk_usage(folder).free
    if needed_bytes <= SHARE * free_disk:
        free = memory.in_words(free_memory)
        reason = f"{needed}, more than half of the {free} of memory that are free: on disk, in {folder}"
        return Engine(name="local", on_disk=True, reason=reason)
    if asked is None and os.environ.get("SPARK_REMOTE"):
        return Engine(name="spark", on_disk=False, reason=f"{needed}, more than this machine has free")
    raise MatrixTooLarge(
        needed=memory.in_words(needed_bytes),
        memory=memory.in_words(free_memory),
        disk=memory.in_words(free_disk),
        folder=folder,
    )


def check_search_fits(kinds: Iterable[str], *, rows: int, matrix_bytes: int) -> None:
    """SearchTooLarge when so many rows with columns of these `kinds`, which trials are made of, and the matrix of a
    trial do not fit into half of the free memory."""
    row_bytes = sum(OBJECT_BYTES if kind in OBJECTS else NUMBER_BYTES for kind in kinds)
    needed, free_memory = FRAMES * rows * row_bytes + matrix_bytes, memory.available_bytes()
    if needed > SHARE * free_memory:
        raise SearchTooLarge(needed=memory.in_words(needed), memory=memory.in_words(free_memory))
