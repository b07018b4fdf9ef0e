"""How a process ends early: by a signal, or because the process that started it is gone.

The first SIGINT, SIGTERM or SIGHUP raises Interrupted in the main thread; later ones are ignored. The clean-up that
follows has GRACE_SECONDS. Then a thread ends the process, even if the main thread is in foreign code.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from steps.core.process import processes, startup

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILURE = signal.SIGUSR1  # from this process to itself, by fail_main_thread()

POLL_SECONDS = 0.5  # how often a process checks that the processes that launched it are alive
AGAIN_SECONDS = 0.02  # until what Python has dropped is raised again
GRACE_SECONDS = 8  # for the clean-up: end the step, end the JVM, mark the runs
SHELLS = ("bash", "sh", "dash", "zsh")  # MLflow starts a command by one, which may replace itself by the command

type Handler = Callable[[int, FrameType | None], Any] | int | None  # as signal.signal() takes and returns it


class Interrupted(SystemExit):
    """The process was interrupted by a signal. The exit code is that of a shell: 128 and the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


@contextlib.contextmanager
def handling_signals() -> Iterator[None]:
    """In this block signals raise Interrupted, and a process that MLflow started ends with whoever launched it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Python's own handlers wait until the main thread returns from foreign code. The byte in this pipe does not.
    previous_wakeup_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # An ignored signal stays ignored: by nohup, or because a shell runs this process in the background.
    handled = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    previous_handlers = {signum: signal.signal(signum, _interrupt) for signum in handled}
    previous_handlers[FAILURE] = signal.signal(FAILURE, _raise_failure)
    previous_hook, sys.unraisablehook = sys.unraisablehook, _raise_again
    threading.Thread(target=_watch_or_end, args=(reader, _launchers()), name="interruption", daemon=True).start()
    if _is_orphan():
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        yield
    except Interrupted:
        raise  # the process is about to end: signals stay ignored, and the thread limits the clean-up
    except BaseException:
        _stop_handling(previous_handlers, previous_wakeup_fd, previous_hook, writer)
        raise
    else:
        _stop_handling(previous_handlers, previous_wakeup_fd, previous_hook, writer)


def fail_main_thread(error: Exception) -> None:
    """Raise `error` in the main thread, which is in handling_signals(), even while it waits for a socket."""
    _failures.append(error)
    signal.pthread_kill(threading.main_thread().ident or 0, FAILURE)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    for later in SIGNALS:
        # Not SIG_IGN: Python prints a warning for a signal that came a moment before it was ignored.
        if signal.getsignal(later) is _interrupt:
            signal.signal(later, _ignore)
    raise Interrupted(signum)


_failures: list[Exception] = []


_raised_failure: Exception | None = None  # the newest


def _raise_failure(signum: int, frame: FrameType | None) -> None:
    global _raised_failure
    if _failures:
        _raised_failure = _failures.pop()
        raise _raised_failure


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Handle a later signal."""


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Python drops an exception where it cannot go on, as in the __del__ of an object: raise it a moment later."""
    error = lost.exc_value
    if isinstance(error, Interrupted):
        signum = error.signum
        signal.signal(signum, _interrupt)
    elif isinstance(error, Exception) and error is _raised_failure:
        signum = FAILURE
        _failures.append(error)
    else:
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(AGAIN_SECONDS, os.kill, [os.getpid(), signum])
    again.daemon = True
    again.start()


def _stop_handling(
    previous_handlers: Mapping[signal.Signals, Handler],
    previous_wakeup_fd: int,
    previous_hook: Callable[["sys.UnraisableHookArgs"], object],
    writer: int,
) -> None:
    for signum, handler in previous_handlers.items():
        signal.signal(signum, handler)
    signal.set_wakeup_fd(previous_wakeup_fd)
    sys.unraisablehook = previous_hook
    os.close(writer)  # the thread ends


def _watch_or_end(reader: int, launchers: list[psutil.Process]) -> None:
    try:
        _watch(reader, launchers)
    except Exception:  # an unwatched process could outlive its launcher
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGTERM)


def _watch(reader: int, launchers: list[psutil.Process]) -> None:
    """Until the block ends: turn the end of a launcher into SIGTERM, and cut off a clean-up that takes too long."""
    while True:
        if not select.select([reader], [], [], POLL_SECONDS)[0]:
            if not all(map(processes.is_alive, launchers)):
                os.kill(os.getpid(), signal.SIGTERM)
        elif not (signum := os.read(reader, 1)):
            return os.close(reader)
        elif signum[0] in SIGNALS:  # others, such as SIGCHLD, write a byte too
            time.sleep(GRACE_SECONDS)
            processes.kill_process_tree(128 + signum[0])


def _launchers() -> list[psutil.Process]:
    """The process that has handed this one over, and of what MLflow started the Python that runs MLflow and the shells
    between; [] if a user started this process."""
    client = [startup.client] if startup.client else []
    launchers: list[psutil.Process] = []
    if processes.STARTED_BY_MLFLOW not in os.environ or _is_orphan():
        return client
    for parent in (startup.client or psutil.Process()).parents():
        launchers.append(parent)
        with contextlib.suppress(psutil.Error):
            if parent.name() not in SHELLS:
                return [*client, *(launchers if "python" in Path(parent.cmdline()[0]).name else [])]
    return client


def _is_orphan() -> bool:
    """Whether the process that launched this one ended during the imports."""
    if processes.STARTED_BY_MLFLOW not in os.environ or startup.launched_by is None:
        return False
    try:
        return (startup.client or psutil.Process()).ppid() != startup.launched_by
    except psutil.NoSuchProcess:
        return True
