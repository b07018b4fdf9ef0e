"""Run the console blocks of pages in a copy of the project, and compare what they print, or write it down anew.

    python -m automation.docs.console check README.md
    python -m automation.docs.console write docs/how-to/*.md

The blocks of a page are run in order by one shell, as the user ada in her folder /home/ada/workflow: a fresh copy of
the project or, where the page names /home/ada/project, an empty folder beside that copy.
"""

import os
import random
import re
import select
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from automation.docs.console_blocks import OF_MLFLOW, Command, blocks_of, ids_in, with_blocks
from steps.core.config import PROJECT

ADA = "/home/ada"
LIMIT_SECONDS = 600  # for one command
QUIET_SECONDS = 3.0  # after which what is in the background has printed all that there is
FIRST_WORD_SECONDS = 90.0  # within which it begins to
LAST_SECONDS = 15.0  # which it has to end when it is told to


class Home:
    """A home for ada, as a context: a folder whose path is as long as hers, so that tables are as wide."""

    def __init__(self, page: str) -> None:
        name = "".join(random.choices(string.ascii_lowercase, k=len(ADA) - len("/tmp/")))
        self.folder = Path("/tmp", name)
        self._copy_name = "project" if f"{ADA}/project" in page else "workflow"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        (self.folder / "workflow").mkdir()
        (self.folder / ".tmp").mkdir()
        _copy_project(self.folder / self._copy_name)
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a fresh terminal has, after `source .venv/bin/activate`; and the caches of this machine's user."""
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        path = f"{self.folder / self._copy_name}/.venv/bin:{os.environ['PATH']}"
        ada = {"HOME": str(self.folder), "LOGNAME": "ada", "USER": "ada"}
        temporary = str(self.folder / ".tmp")  # the folder of ada's work is not below it, as below /tmp it would be
        return {**ada, "PATH": path, "XDG_CACHE_HOME": cache, "TMPDIR": temporary, "LANG": "C.UTF-8"}


class Shell:
    """A bash, as a context, that is given one command after the other."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self._home = home
        self._outputs: list[Path] = []  # of the commands so far
        self._background: list[Path] = []  # of those that were left in the background
        self._shown: dict[Path, int] = {}  # how much of each was shown
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=home / "workflow",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End it, and what it has in the background."""
        os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.communicate()
        deadline = time.monotonic() + LAST_SECONDS
        while not self.has_ended and time.monotonic() < deadline:
            time.sleep(0.1)
        if not self.has_ended:
            os.killpg(self._bash.pid, signal.SIGKILL)

    @property
    def has_ended(self) -> bool:
        """Whether nothing that it started is there any more."""
        try:
            os.killpg(self._bash.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def run(self, command: Command) -> str:
        """What the command prints, as ada sees it; of one in the background until it is quiet."""
        if command.text:
            self._give(command.text)
        if command.is_in_background:
            self._background.append(self._outputs[-1])
        shown = self._outputs[-1:] if command.text else self._background
        if command.is_in_background or not command.text:
            self._wait_until_quiet(shown)
        output = self._new_output(shown)
        for path in shown:
            self._shown[path] = path.stat().st_size
        return output

    def _give(self, text: str) -> None:
        script = self._home / f".command-{len(self._outputs)}"
        output = script.with_suffix(".out")
        script.write_text(text.replace(ADA, str(self._home)), encoding="utf-8")
        self._outputs.append(output)
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f'eval "$(<{script})" </dev/null >{output} 2>&1; echo ended\n')
        self._bash.stdin.flush()
        ready, _, _ = select.select([self._bash.stdout], [], [], LIMIT_SECONDS)
        if not ready or self._bash.stdout.readline() != "ended\n":
            raise RuntimeError(f"not ended after {LIMIT_SECONDS} s, or with the shell: {text}")

    def _wait_until_quiet(self, outputs: list[Path]) -> None:
        began = changed = time.monotonic()
        output = self._new_output(outputs)
        while not output or time.monotonic() < changed + QUIET_SECONDS:
            if time.monotonic() > began + FIRST_WORD_SECONDS:
                return
            time.sleep(0.1)
            if (now := self._new_output(outputs)) != output:
                output, changed = now, time.monotonic()

    def _new_output(self, outputs: list[Path]) -> str:
        """What has been printed since it was shown, as ada sees it, without MLflow's own lines."""
        pieces = [path.read_bytes()[self._shown.get(path, 0) :].decode() for path in outputs]
        text = "".join(pieces).replace(str(self._home), ADA)
        text = re.sub(r"^bash: line \d+: +\d+ (Killed) .*", r"\1", text, flags=re.MULTILINE)  # as to ada at a terminal
        text = OF_MLFLOW.sub("", re.sub(r"[ \t\r]+$", "", text, flags=re.MULTILINE)).lstrip("\r\n")
        return text if text.endswith("\n") or not text else f"{text}\n"


def run_page(page: str) -> list[list[tuple[Command, str]]]:
    """Each command of the console blocks of a page, by blocks, with what it printed."""
    ran: list[list[tuple[Command, str]]] = []
    renamed: dict[str, str] = {}  # ids of runs that stand on the page to those of now
    with Home(page) as home, Shell(home.folder, home.environment) as shell:
        for block in blocks_of(page):
            ran.append([])
            for command in block:
                output = shell.run(command.with_ids(renamed))
                ran[-1].append((command, output))
                renamed |= zip(ids_in(command.output), ids_in(output), strict=False)
    return ran


def differences(page: str) -> list[str]:
    """The commands of a page that print something else than stands below them, each with what it printed."""
    ran = [pair for block in run_page(page) for pair in block]
    return [f"{command}-- but it printed:\n{output}" for command, output in ran if not command.agrees_with(output)]


def anew(page: str) -> str:
    """A page with what its commands print now, where that is something else than stands there."""
    ran = run_page(page)
    known: dict[str, str] = {}  # ids of runs of now to those that stand on the page
    for command, output in (pair for block in ran for pair in block):
        if command.agrees_with(output):
            known |= zip(ids_in(output), ids_in(command.output), strict=False)
    return with_blocks(page, [[command.anew(output, known) for command, output in block] for block in ran])


def _copy_project(folder: Path) -> None:
    """What git keeps, or would keep, as a repository of its own, with this project's environment."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    (folder / ".venv").mkdir()
    for path in (PROJECT / ".venv").iterdir():
        (folder / ".venv" / path.name).symlink_to(path.resolve())
    os.utime(folder / "conda.yaml", (0, 0))
    (folder / ".venv" / "installed").unlink(missing_ok=True)
    (folder / ".venv" / "installed").touch()  # after conda.yaml, so that make takes the environment as it is
    for words in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message=The project"],
    ):
        subprocess.run(["git", "-c", "user.name=ada", "-c", "user.email=ada@localhost", *words], cwd=folder, check=True)


def main(argv: Sequence[str]) -> None:
    how, *names = argv or [""]
    if how not in ("check", "write"):
        sys.exit("usage: python -m automation.docs.console check|write <page> ...")
    differing = []
    for path in map(Path, names):
        page = path.read_text(encoding="utf-8")
        if not blocks_of(page):
            continue
        if how == "check":
            differing += [f"{path}: {difference}" for difference in differences(page)]
        else:
            path.write_text(anew(page), encoding="utf-8")
    if differing:
        sys.exit("\n".join(differing))


if __name__ == "__main__":
    main(sys.argv[1:])
