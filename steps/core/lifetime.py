"""How a process ends before its time: told by a signal, or because the process that started it is gone.

The first SIGINT, SIGTERM or SIGHUP raises Interrupted in the main thread; later ones are passed over. What unwinds has
GRACE_SECONDS; then a thread ends the process, also when the main thread is in foreign code that does not return.
"""

import contextlib
import os
import re
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

import steps

STARTED_BY_MLFLOW = "MLFLOW_RUN_ID"  # environment variable: the run that MLflow made for this process
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILURE = signal.SIGUSR1  # from this process to itself: fail()
GRACE_SECONDS = 8  # for the farewell: a step is ended, the JVM is ended, runs are marked
CHILD_SECONDS = 4  # of these, for a child to end by itself
LOOK_SECONDS = 0.5  # how often a process looks whether those that started it are still there
SHELLS = ("bash", "sh", "dash", "zsh")  # MLflow starts a command by one; it may replace itself by the command


class Interrupted(SystemExit):
    """The process was told to end. The exit code is that of a shell: 128 and the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
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


def fail(error: Exception) -> None:
    """From another thread: raise `error` in the main thread of a guarded() block, also where it waits for a socket."""
    _failures.append(error)
    signal.pthread_kill(threading.main_thread().ident or 0, FAILURE)


def cut(exit_code: int) -> NoReturn:
    """End this process, which does not come to its end by itself, and all that it started."""
    for child in _descendants(psutil.Process()):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(exit_code)


def kill_children(*, working_in: Path) -> None:
    """Kill, without a farewell, what this process started in that folder."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.cwd() == str(working_in.resolve()):
                for each in (child, *_descendants(child)):
                    each.kill()


def end_children(*, of_mlflow: bool = False) -> None:
    """End the processes that this one started (only those that MLflow started for it), and wait until they are gone.

    Their exit codes are left to whoever waits for them.
    """
    children = [each for each in psutil.Process().children() if not of_mlflow or _environment(each, STARTED_BY_MLFLOW)]
    family = [each for child in children for each in (child, *_descendants(child))]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for each in filter(_lives, family):
            with contextlib.suppress(psutil.Error):
                end(each)
        deadline = time.monotonic() + CHILD_SECONDS
        while any(map(_lives, family)) and time.monotonic() < deadline:
            time.sleep(0.02)


def this_process() -> str:
    """This process as `<machine>:<boot>:<pid>:<start>`, which names no other one before or after."""
    return ":".join([*_here(), str(os.getpid()), _start(os.getpid())])


def has_ended(process: str) -> bool:
    """Whether what this_process() said once is a process of this machine, since it was started, that is gone."""
    machine, boot, pid, start = _parts(process)
    if (machine, boot) != _here():
        return False  # not ours to judge
    try:
        return not _lives(psutil.Process(int(pid))) or _start(int(pid)) != start
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def is_of_an_earlier_boot(process: str) -> bool:
    """Whether what this_process() said once was before this machine was started again.

    Copies of one machine under one name are taken for it, so whoever goes by this must bear to be wrong.
    """
    machine, boot, _, _ = _parts(process)
    return machine == _here()[0] and boot != _here()[1]


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
    """Until guarded() lets go: turn the end of a launcher into a signal, and cut a farewell that takes too long."""
    while True:
        if not select.select([listen], [], [], LOOK_SECONDS)[0]:
            if not all(map(_lives, launchers)):
                os.kill(os.getpid(), signal.SIGTERM)
        elif not (signum := os.read(listen, 1)):
            return os.close(listen)
        elif signum[0] in SIGNALS:  # the pipe stays open: another may come
            time.sleep(GRACE_SECONDS)
            cut(128 + signum[0])


def _launchers() -> list[psutil.Process]:
    """The Python that runs MLflow and the shells between it and this process; [] for one that was started by hand."""
    found: list[psutil.Process] = []
    if STARTED_BY_MLFLOW not in os.environ:
        return []
    for each in psutil.Process().parents():
        found.append(each)
        with contextlib.suppress(psutil.Error):
            if each.name() not in SHELLS:
                return found if "python" in Path(each.cmdline()[0]).name else []
    return []


def _is_orphan() -> bool:
    """Whether whoever started this process ended while it imported."""
    return STARTED_BY_MLFLOW in os.environ and os.getppid() != steps.PARENT


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is there, and not ours to see
        return True


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _environment(process: psutil.Process, name: str) -> str:
    try:
        return process.environ().get(name, "")
    except psutil.Error:
        return ""


def _parts(process: str) -> tuple[str, ...]:
    found = re.fullmatch(r"([^:]*):([^:]*):(\d+):([\d.]+)", process)
    return found.groups() if found else ("", "", "", "")


def _here() -> tuple[str, str]:
    """This machine (in a container, the numbering of processes that is valid there), and since when it runs."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")[5:-1]
        return f"{socket.gethostname()}/{namespace}", Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return socket.gethostname(), f"{psutil.boot_time():.0f}"


def _start(pid: int) -> str:
    """When a process was started: on Linux in ticks since the machine was, which no correction of its clock moves."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return f"{psutil.Process(pid).create_time():.2f}"
