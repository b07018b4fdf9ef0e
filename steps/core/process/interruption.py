"""How a process ends before its time: told by a signal, or because the process that started it is gone.

The first SIGINT, SIGTERM or SIGHUP raises Interrupted in the main thread; later ones are passed over. What unwinds has
GRACE_SECONDS; then a thread ends the process, also when the main thread is in foreign code that does not return.
"""

import contextlib
import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from steps.core.process import processes, startup

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILURE = signal.SIGUSR1  # from this process to itself: fail_main_thread()


LOOK_SECONDS = 0.5  # how often a process looks whether those that started it are still there
GRACE_SECONDS = 8  # for the farewell: a step is ended, the JVM is ended, runs are marked
SHELLS = ("bash", "sh", "dash", "zsh")  # MLflow starts a command by one; it may replace itself by the command


class Interrupted(SystemExit):
    """The process was told to end. The exit code is that of a shell: 128 and the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


@contextlib.contextmanager
def handling_signals() -> Iterator[None]:
    """In this block signals raise Interrupted, and a process that MLflow started ends with whoever started it."""
    listen, tell = os.pipe()
    os.set_blocking(tell, False)
    # Python's own handlers wait for the main thread to come back from foreign code; this byte does not.
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    # What is ignored stays so: nohup, or a shell's background job.
    found = {each: signal.getsignal(each) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    for each in found:
        signal.signal(each, _interrupt)
    found[FAILURE] = signal.signal(FAILURE, _raise_failure)
    threading.Thread(target=_watch_or_end, args=(listen, _launchers()), name="lifetime", daemon=True).start()
    if _is_orphan():
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        yield
    except Interrupted:
        raise  # signals stay passed over and the thread waits on: the process is about to end
    except BaseException:
        _let_go(found, before, tell)
        raise
    else:
        _let_go(found, before, tell)


def fail_main_thread(error: Exception) -> None:
    """Raise `error` in the main thread, which is in handling_signals(), also where it waits for a socket."""
    _failures.append(error)
    signal.pthread_kill(threading.main_thread().ident or 0, FAILURE)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    for each in SIGNALS:
        # SIG_IGN would not do: of a signal that came a moment before, Python prints that it was ignored.
        if signal.getsignal(each) is _interrupt:
            signal.signal(each, _pass_over)
    raise Interrupted(signum)


_failures: list[Exception] = []


def _raise_failure(signum: int, frame: FrameType | None) -> None:
    if _failures:
        raise _failures.pop()


def _pass_over(signum: int, frame: FrameType | None) -> None:
    """A later signal."""


def _let_go(found: Mapping[signal.Signals, object], before: int, tell: int) -> None:
    for each, handler in found.items():
        signal.signal(each, handler)  # type: ignore[arg-type]  # what getsignal() gave
    signal.set_wakeup_fd(before)
    os.close(tell)


def _watch_or_end(listen: int, launchers: list[psutil.Process]) -> None:
    try:
        _watch(listen, launchers)
    except Exception:  # unwatched, this process could outlive whoever started it
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGTERM)


def _watch(listen: int, launchers: list[psutil.Process]) -> None:
    """Turn the end of a launcher into a signal, and cut a shutdown that takes too long, until the block ends."""
    while True:
        if not select.select([listen], [], [], LOOK_SECONDS)[0]:
            if not all(map(processes.is_alive, launchers)):
                os.kill(os.getpid(), signal.SIGTERM)
        elif not (signum := os.read(listen, 1)):
            return os.close(listen)
        elif signum[0] in SIGNALS:  # the pipe stays open: another may come
            time.sleep(GRACE_SECONDS)
            processes.kill_process_tree(128 + signum[0])


def _launchers() -> list[psutil.Process]:
    """The Python that runs MLflow and the shells between it and this process; [] for one that was started by hand."""
    found: list[psutil.Process] = []
    if processes.STARTED_BY_MLFLOW not in os.environ:
        return []
    for each in psutil.Process().parents():
        found.append(each)
        with contextlib.suppress(psutil.Error):
            if each.name() not in SHELLS:
                return found if "python" in Path(each.cmdline()[0]).name else []
    return []


def _is_orphan() -> bool:
    """Whether whoever started this process ended while it imported."""
    return processes.STARTED_BY_MLFLOW in os.environ and startup.launched_by not in (None, os.getppid())
