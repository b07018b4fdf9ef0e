"""Run one command to its end: how long it took, and how much memory each kind of process under it needed.

Memory is the kernel's own account in /proc, so it is known on Linux only; elsewhere the peaks stay empty.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SAMPLE_SECONDS = 0.1  # between two looks at the processes
TIMEOUT_SECONDS = 900  # a command that takes longer hangs
FAREWELL_SECONDS = 30  # for a JVM to end after its parent, so that it does not disturb the next measurement
OUTPUT_TAIL_CHARACTERS = 8000  # of a failed command
WARM_PROCESS = "warm process"  # the kind of the one that forks itself for each step, and of those that wait for them
ARTIFACT_CHECK = "check of the artifact"  # the kind of the one in which evaluate loads a version as others would
ALL_TOGETHER = "all together"  # the kind that stands for the whole tree at one moment


class CommandFailed(Exception):
    """A command that failed, hung or left processes behind, with the end of what it printed."""

    def __init__(self, command: Sequence[str], reason: str, output: str) -> None:
        super().__init__(f"{' '.join(command)}: {reason}\n{output[-OUTPUT_TAIL_CHARACTERS:]}")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Wall seconds from start to exit, and by kind of process the peak in MiB of its largest process."""

    name: str
    seconds: float
    peaks: Mapping[str, float]


def measure(name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> Measurement:
    """Run `command` in `folder`, its output in `folder`/`name`.log; CommandFailed if it fails or leaves processes."""
    log_path = folder / f"{name}.log"
    start = time.perf_counter()
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    tree = _Tree(process.pid)
    try:
        reason = _watch(process, tree)
        seconds = time.perf_counter() - start
        if reason is None and not tree.is_gone_within(FAREWELL_SECONDS):
            reason = f"left processes behind: {', '.join(sorted(tree.living_kinds()))}"
    finally:
        tree.kill()  # finds nothing, unless the command failed, hangs, or we are interrupted
        process.kill()
        process.wait()
    if reason is not None:
        raise CommandFailed(command, reason, log_path.read_text(errors="replace"))
    return Measurement(name=name, seconds=seconds, peaks=tree.peaks)


def _watch(process: subprocess.Popen[bytes], tree: "_Tree") -> str | None:
    """Look at the tree until the command exits; why it failed, None when it did not."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        tree.sample()
        try:
            status = process.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return None if status == 0 else f"exit {status}"
    return f"not done after {TIMEOUT_SECONDS} s"


class _Tree:
    """A process and all that descend from it, also those whose parent has ended since."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._living: dict[int, str] = {root: ""}  # pid to kind
        self.peaks: dict[str, float] = {}  # kind to MiB

    def sample(self) -> None:
        """Find the living and raise the peaks."""
        parents = _parents()
        living = {pid for pid in self._living if pid in parents}
        while found := {pid for pid, parent in parents.items() if parent in living and pid not in living}:
            living |= found
        self._living = {pid: _kind(pid) for pid in living}
        resident = 0.0
        for pid, kind in self._living.items():
            now, peak = _memory_mebibytes(pid)
            resident += now
            self._raise_peak(kind, peak)
        self._raise_peak(ALL_TOGETHER, resident)

    def _raise_peak(self, kind: str, mebibytes: float) -> None:
        if mebibytes:
            self.peaks[kind] = max(mebibytes, self.peaks.get(kind, 0.0))

    def is_gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._living and time.monotonic() < deadline:
            self.sample()
            time.sleep(SAMPLE_SECONDS)
        return not self._living

    def living_kinds(self) -> set[str]:
        return set(self._living.values())

    def kill(self) -> None:
        self.sample()
        for pid in self._living:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _parents() -> dict[int, int]:
    """Parent by pid of every living process; zombies hold no memory and are left out."""
    parents = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            # "pid (name) state parent ...", where the name may hold blanks and brackets
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # it ended while we looked
            continue
        if state not in "ZX":
            parents[int(folder.name)] = int(parent)
    return parents


def _memory_mebibytes(pid: int) -> tuple[float, float]:
    """Resident memory of one process, now and at its highest so far; zeros when it has ended."""
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return 0.0, 0.0
    kibibytes = {key: value.split()[0] for key, _, value in (line.partition(":") for line in lines) if key[:2] == "Vm"}
    return float(kibibytes.get("VmRSS", 0)) / 1024, float(kibibytes.get("VmHWM", 0)) / 1024


def _kind(pid: int) -> str:
    """What the process is by its own name or command line: JVM, mlflow CLI, Python workers, main.py, a step, other."""
    try:
        words = (PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
        name = (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        words, name = [""], ""
    if name.startswith("steps-"):
        step = name.removeprefix("steps-")
        return {"warm": WARM_PROCESS, "keeper": WARM_PROCESS, "without-p": ARTIFACT_CHECK}.get(step, step)
    program = Path(words[0]).name
    if program == "java":
        return "JVM"
    if not program.startswith("python"):
        return "shells, git and the like"
    if "pyspark.daemon" in words or "pyspark.worker" in words:
        return "Python workers"
    if words[1:3] == ["-m", "steps"]:
        return "main.py" if words[3] == "main" else words[3]
    script = Path(words[1]).name if len(words) > 1 else ""
    if script == "mlflow":
        return "mlflow CLI"
    return script.removesuffix(".py") if "plain" in Path(words[1]).parts else "other Python"
