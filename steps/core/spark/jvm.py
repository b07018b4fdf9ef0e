"""The JVM that Spark runs in: how much memory it gets, and why it ended."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from steps.core.errors import SettingInvalid

MEMORY = "SPARK_DRIVER_MEMORY"  # environment variable, Spark's own


def heap_mebibytes() -> int:
    """SPARK_DRIVER_MEMORY, else half of the memory that this process may use, 1 to 31 GiB (above which pointers double
    in size)."""
    if given := os.environ.get(MEMORY, ""):
        size = re.fullmatch(r"(\d+)([mg])b?", given.lower())
        if not size:
            raise SettingInvalid(MEMORY, given, expected="a size such as 4g or 1500m")
        return int(size[1]) * (1024 if size[2] == "g" else 1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.exists() and limit.read_text().strip().isdigit():
            memory = min(memory, int(limit.read_text()))
    return max(1024, min(31 * 1024, memory // 2 // 2**20))


def why_it_ended(log: str, *, exit_code: int | None, killed_by_kernel: bool) -> tuple[str, str]:
    """Why a JVM ended, and what to do about it: "" where only its log can tell. The exit code is None for one that
    did not start."""
    last = next((line.strip() for line in reversed(log.splitlines()) if "rror" in line or "xception" in line), "")
    memory = f"it may use {heap_mebibytes()} MiB"
    if "java.lang.OutOfMemoryError" in log:
        line = next(line.strip() for line in reversed(log.splitlines()) if "java.lang.OutOfMemoryError" in line)
        return f"its JVM ran out of memory, of which {memory}: {line}", f"set {MEMORY} to more, such as 8g"
    if killed_by_kernel:
        return (
            f"the kernel ended its JVM because the machine is out of memory, of which {memory}",
            f"end other programs, or set {MEMORY} to less, such as 2g",
        )
    if exit_code == -signal.SIGKILL:
        return (
            "its JVM was ended by SIGKILL, from outside",
            f"run it again; if a limit of memory ended it, set {MEMORY} to less: {memory} now",
        )
    if exit_code is None:
        return f"its JVM did not start: {last or 'it said nothing'}", ""
    return f"its JVM ended with exit code {exit_code}: {last or 'it said nothing'}", ""


def is_not_downloaded(log: str) -> bool:
    return "unresolved dependency" in log or "UNRESOLVED DEPENDENCIES" in log


def exit_code_of(jvm: subprocess.Popen[bytes]) -> int | None:
    """None for one that lives; its connections may break a moment before it can be waited for."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return jvm.wait(timeout=1)
    return None


def kernel_kills() -> int:
    """How many processes the kernel has ended on this machine for want of memory; 0 where it does not tell."""
    try:
        counts = Path("/proc/vmstat").read_text()
    except OSError:  # not Linux
        return 0
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found[1]) if found else 0


def keep_log(folder: Path) -> str:
    """Where the log of the JVM stays when `folder` goes; for this user alone."""
    opened, kept = tempfile.mkstemp(prefix="workflow-spark-", suffix=".log")
    with os.fdopen(opened, "wb") as copy, contextlib.suppress(FileNotFoundError):
        copy.write((folder / "spark.log").read_bytes())
    return kept
