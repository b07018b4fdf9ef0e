"""What is asked of a place that keeps files, a folder or an object store, and what is known of a file in it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Protocol


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file: how large, when it was written (seconds since 1970), and what changes when it is written again."""

    size_bytes: int
    modified: float
    version: str
    problem: str = ""  # why it cannot be read; matching() says it of what is no file as well


class Replaced(Exception):
    """A file was replaced by another while it was read."""


class Files(Protocol):
    """Implemented by two modules: local_files and s3_files. Paths are absolute, or begin with s3://."""

    def matching(self, pattern: str) -> Iterator[tuple[str, Stored]]:
        """The files that a path, folder or glob means, by their paths, also in folders that are links. `**` in a glob
        stands for any number of folders, or none.

        What is there and cannot be read (a folder without permission, a link that leads nowhere or in a circle, a pipe)
        is among them, with its problem.
        """

    def below(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """All files in a folder, at any depth, by their paths."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, be it one that may not be read."""

    def subfolders(self, folder: str) -> list[str]:
        """The names of the folders right below a folder."""

    def sizes(self, folder: str, names: Collection[str]) -> dict[str, int]:
        """The size in bytes of those of these files, named relative to `folder`, that are there."""

    def read(self, path: str) -> bytes:
        """All of a file. FileNotFoundError when there is none."""

    def open(self, path: str, size_bytes: int) -> IO[bytes]:
        """A file to read and seek in, of which only what is asked for is transferred; `size_bytes` is its size. Reading
        an object raises Replaced where another is in its place by then."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file, new or in place of another, in a folder that need not be there yet."""

    def create(self, path: str, content: bytes) -> bool:
        """Write a file whole unless there is one; whether there was none."""

    def remove_file(self, path: str) -> None:
        """Remove a file that is there."""

    def remove(self, folder: str) -> None:
        """Remove a folder and all files below it."""

    def remove_if_empty(self, folder: str) -> None:
        """Remove a folder in which nothing is left."""
