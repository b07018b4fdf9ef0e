"""Hand a step over to the driver's warm process (warm_process.py), and wait for it as if it ran here.

What `python -m steps` runs first, so it imports the standard library alone. Where there is no warm process, it is gone,
or it is not as this process would be (another Python, files or packages that changed since), the step runs here.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from steps.core.process import startup

SOCKET_VARIABLE = "WORKFLOW_WARM_PROCESS"  # environment variable: the path of the warm process's socket
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
END_SECONDS = 10  # for a step to end whose exit code nobody can tell


def to_warm_process() -> None:
    """Run this process's command in a fork of the warm process, and end as that ends; return where it cannot be."""
    if not (path := os.environ.get(SOCKET_VARIABLE)) or None in (sys.stdin, sys.stdout, sys.stderr):
        return
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile() as answers, _signals_held() as mask:
        try:
            os.close(os.pidfd_open(os.getpid()))  # where it is not allowed, nothing is handed over
            connection.connect(path)
            _send(connection, mask)
            if not (pid := answers.readline()):
                return
        except OSError:  # the warm process is gone, or nothing can watch the step
            return
        step = _opened(int(pid))  # from here on it never runs here as well
        for signum in FORWARDED:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, lambda number, _: _send_signal(step, number))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        exit_code = answers.readline()
    _end_as(int(exit_code) if exit_code else _end_without_keeper(step))


def identity() -> list[str]:
    """What must be the same in the warm process and in this one: the Python, its packages, and the files that both run.

    The text is of the moment of the call. A package that is installed changes the time of its folder.
    """
    packages = [path for path in sys.path if path.endswith("site-packages") and os.path.isdir(path)]
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("steps", "__main__")]
    files = [str(module.__file__) for module in modules]
    changed = [f"{path} {os.stat(path).st_mtime_ns}" for path in sorted({*packages, *files})]
    flags = [*sys.flags, sys.getfilesystemencoding(), sys.stdout.encoding, sys.stdout.errors]
    return [sys.executable, sys.version, *map(str, flags), *changed]


@contextlib.contextmanager
def _signals_held() -> Iterator[set[int]]:
    """In this block no signal arrives until the mask of before, which this yields, is set again."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _send(connection: socket.socket, mask: set[int]) -> None:
    """Ask for this process's command. The answers are the step's number, unless it is refused, and its exit code."""
    folder = os.open(".", os.O_RDONLY)
    try:
        request = json.dumps({**_request(), "mask": [int(signum) for signum in mask]}).encode() + b"\n"
        socket.send_fds(connection, [request[:1]], [0, 1, 2, folder])
        connection.sendall(request[1:])
    finally:
        os.close(folder)


def _request() -> dict[str, Any]:
    """This process as its step must find it, but for what is open."""
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "identity": identity(),
        "pid": os.getpid(),
        "launched_by": startup.launched_by,
        "arguments": sys.argv,
        "path": sys.path,
        "environment": dict(os.environ),
        "umask": umask,
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "ignored": [int(signum) for signum in FORWARDED if signal.getsignal(signum) is signal.SIG_IGN],
    }


def _opened(pid: int) -> int | None:
    """A file by which the step can be watched; None where it has ended already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _send_signal(step: int | None, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended just now
        if step is not None:
            signal.pidfd_send_signal(step, signum)


def _end_without_keeper(step: int | None) -> int:
    """End a step whose keeper was killed, as nobody will tell its exit code."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        _send_signal(step, signum)
        if step is None or select.select([step], [], [], END_SECONDS)[0]:
            break
    sys.stderr.write("the process that waited for this step was killed, and the step was ended: run it again\n")
    return 1


def _end_as(exit_code: int) -> None:
    """End this process by the exit code, or by the signal, by which the step has ended."""
    if exit_code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the step has left its own
        with contextlib.suppress(OSError):  # SIGKILL needs no more
            signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    sys.exit(exit_code)
