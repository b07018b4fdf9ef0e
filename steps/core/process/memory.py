"""How much memory this process may still take: of the machine, or of the container that it is in."""

import contextlib
import ctypes
from pathlib import Path

import psutil

CGROUPS = (  # a container's limit, and what is in use of it: of version 2 and of version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_bytes() -> int:
    """What can be taken without swapping, by the kernel's estimate, and within the container's limit."""
    available = int(psutil.virtual_memory().available)
    for limit, usage in CGROUPS:
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            available = min(available, max(0, int(text) - int(usage.read_text())))
    return available


def in_words(size_bytes: int) -> str:
    """A size as a message has it."""
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.1f} MiB"


def give_back() -> None:
    """Return to the system what was freed and is still held, for the next of several needs of a process."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
