"""How much memory this process may still take: of the machine, or of the container that it is in."""

import contextlib
import ctypes
from pathlib import Path

import psutil

# A container's limit, what is in use of it, and the line of memory.stat with what of that the kernel takes back when it
# is needed, as files are cached in it: of version 2 and of version 1.
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)


def available_bytes() -> int:
    """What can be taken without swapping, by the kernel's estimate, and within the container's limit."""
    available = int(psutil.virtual_memory().available)
    for limit, usage, cached in CGROUPS:
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            in_use = int(usage.read_text()) - _statistic(usage.with_name("memory.stat"), cached)
            available = min(available, max(0, int(text) - in_use))
    return available


def _statistic(file: Path, name: str) -> int:
    """A line of memory.stat in bytes; 0 where there is none."""
    lines = file.read_text().splitlines() if file.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def in_words(size_bytes: int) -> str:
    """A size as a message has it."""
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.1f} MiB"


def give_back() -> None:
    """Return to the system what was freed and is still held, for the next of several needs of a process."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
