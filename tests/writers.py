"""Writers of a table: what puts rows into a version, and processes that write at the same time as others."""

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from place import PROJECT, Place

from steps.core.tables import commit


def save(rows: pa.Table) -> Callable[[str], None]:
    """What writes these rows into the folder that a commit gives it."""
    return lambda folder: commit.save(rows, folder)


class Writer:
    """A process that writes a table once it is told to begin.

    Its `program` prints `ready`, waits for a line, and prints of each commit a number and whether it has written it.
    """

    def __init__(self, place: Place, program: str, *words: object) -> None:
        there = replace(place, extra={"PYTHONPATH": str(PROJECT), **place.extra})
        folder = Path(tempfile.mkdtemp(prefix="writer-", dir=there.folder))
        files = {name: folder / name for name in ("stdin", "stdout", "stderr")}
        for name in ("stdin", "stdout"):
            os.mkfifo(files[name])
        files["stderr"].touch()
        self._answers = there.fork(["-c", program, *map(str, words)], **files)
        self._pid = int(self._answers.readline())
        self._stdin = files["stdin"].open("w", encoding="utf-8")
        self._stdout = files["stdout"].open(encoding="utf-8")
        self._errors = files["stderr"]
        assert self.line() == "ready", self._errors.read_text(encoding="utf-8")

    def line(self) -> str:
        """The next one that it prints."""
        return self._stdout.readline().strip()

    def begin(self, what: object = "") -> None:
        print(what, file=self._stdin, flush=True)

    def written(self) -> list[int]:
        """The numbers of the commits that it has written itself, when it has ended."""
        lines, exit_code = self._end()
        assert exit_code == 0, self._errors.read_text(encoding="utf-8")
        return [int(line.split()[0]) for line in lines if line.endswith("True\n")]

    def exit_code(self) -> int:
        """When it has ended."""
        return self._end()[1]

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._end()

    def _end(self) -> tuple[list[str], int]:
        """What it prints until it has ended, which it does when there is nothing more to read, and its exit code."""
        with self._stdin, self._stdout, self._answers:
            self._stdin.close()
            return self._stdout.readlines(), int(self._answers.readline())
