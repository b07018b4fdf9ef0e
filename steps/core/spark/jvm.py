"""The JVM that Spark runs in: how much memory it gets, and why it ended."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from steps.core.errors import SettingInvalid

MEMORY_VARIABLE = "SPARK_DRIVER_MEMORY"  # environment variable, Spark's own
LOG = "spark.log"  # in the server's folder
MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)  # a container's
LEAST_MEBIBYTES, MOST_MEBIBYTES = 1024, 31 * 1024  # with a larger heap pointers double in size


def heap_mebibytes() -> int:
    """SPARK_DRIVER_MEMORY, else half of the memory that this process may use. SettingInvalid if it is no size."""
    if text := os.environ.get(MEMORY_VARIABLE, ""):
        size = re.fullmatch(r"(\d+)([mg])b?", text.lower())
        if not size:
            raise SettingInvalid(MEMORY_VARIABLE, text, expected="a size such as 4g or 1500m")
        return int(size[1]) * (1024 if size[2] == "g" else 1)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in MEMORY_LIMITS:
        if limit.exists() and limit.read_text().strip().isdigit():
            memory_bytes = min(memory_bytes, int(limit.read_text()))
    return max(LEAST_MEBIBYTES, min(MOST_MEBIBYTES, memory_bytes // 2 // 2**20))


def end_reason(log: str, *, exit_code: int | None, killed_by_kernel: bool) -> tuple[str, str]:
    """Why a JVM ended, and what to do next: "" if only its log can tell.

    `log` is the text of its log. The exit code is None for a JVM that did not start.
    """
    memory = f"it may use {heap_mebibytes()} MiB"
    if out_of_memory := _last_line(log, "java.lang.OutOfMemoryError"):
        reason = f"its JVM ran out of memory, of which {memory}: {out_of_memory}"
        return reason, f"set {MEMORY_VARIABLE} to more, such as 8g"
    if killed_by_kernel:
        return (
            f"the kernel ended its JVM because the machine is out of memory, of which {memory}",
            f"end other programs, or set {MEMORY_VARIABLE} to less, such as 2g",
        )
    if exit_code == -signal.SIGKILL:
        return (
            "its JVM was ended by SIGKILL, from outside",
            f"run it again; if a limit of memory ended it, set {MEMORY_VARIABLE} to less: {memory} now",
        )
    end = "did not start" if exit_code is None else f"ended with exit code {exit_code}"
    return f"its JVM {end}: {_last_line(log, 'rror', 'xception') or 'its log names no error'}", ""


def is_download_failure(log: str) -> bool:
    """Whether a JVM did not start because its jars could not be downloaded, by the text of its log."""
    return "unresolved dependency" in log or "UNRESOLVED DEPENDENCIES" in log


def exit_code_of(jvm: subprocess.Popen[bytes]) -> int | None:
    """The exit code, None while the JVM lives. Its connections may break a moment before it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return jvm.wait(timeout=1)
    return None


def count_oom_kills() -> int:
    """How many processes of this machine the kernel has killed because memory ran out; 0 if it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:  # not Linux
        return 0
    count = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(count[1]) if count else 0


def keep_log(folder: Path) -> str:
    """Copy the log to where it stays when the server's `folder` is removed, for this user alone; the copy's path."""
    descriptor, path = tempfile.mkstemp(prefix="workflow-spark-", suffix=".log")
    with os.fdopen(descriptor, "wb") as copy, contextlib.suppress(FileNotFoundError):
        copy.write((folder / LOG).read_bytes())
    return path


def _last_line(log: str, *words: str) -> str:
    """The last line with one of these words, "" if there is none."""
    return next((line.strip() for line in reversed(log.splitlines()) if any(word in line for word in words)), "")
