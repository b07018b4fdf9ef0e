"""Processes of this machine: who they are, whether they live, and how to end them."""

import contextlib
import getpass
import os
import re
import socket
import time
from pathlib import Path
from typing import NoReturn

import psutil

STARTED_BY_MLFLOW = "MLFLOW_RUN_ID"  # environment variable: the run that MLflow made for this process
CHILD_SECONDS = 4  # of these, for a child to end by itself


def user() -> str:
    """The name of whoever runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without one
        return f"uid {os.getuid()}"


def describe(process: psutil.Process) -> str:
    """A process for a message, without its arguments, which may hold a password."""
    return f"process {process.pid} ({process.name()})"


def this_process() -> str:
    """This process as `<machine>:<boot>:<pid>:<start>`, which names no other one before or after."""
    return ":".join([*_here(), str(os.getpid()), _start(os.getpid())])


def has_ended(process: str) -> bool:
    """Whether what this_process() said once is a process of this machine, since it was started, that is gone."""
    machine, boot, pid, start = _parts(process)
    if (machine, boot) != _here():
        return False  # not ours to judge
    try:
        return not is_alive(psutil.Process(int(pid))) or _start(int(pid)) != start
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def is_of_an_earlier_boot(process: str) -> bool:
    """Whether what this_process() said once was before this machine was started again.

    Copies of one machine under one name are taken for it, so whoever goes by this must bear to be wrong.
    """
    machine, boot, _, _ = _parts(process)
    return machine == _here()[0] and boot != _here()[1]


def kill_process_tree(exit_code: int) -> NoReturn:
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
        for each in filter(is_alive, family):
            with contextlib.suppress(psutil.Error):
                end(each)
        deadline = time.monotonic() + CHILD_SECONDS
        while any(map(is_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
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
