"""Processes of this machine: who they are, whether they live, and how to end them."""

import contextlib
import getpass
import os
import pwd
import re
import socket
import time
from pathlib import Path
from typing import NoReturn

import psutil

STARTED_BY_MLFLOW = "MLFLOW_RUN_ID"  # environment variable: the run that MLflow created for this process
CHILD_SECONDS = 4  # for children to end by themselves, before they are killed


def user() -> str:
    """The name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without one
        return f"uid {os.getuid()}"


def is_nameless() -> bool:
    """Whether this process's user id has no name in /etc/passwd, as in containers."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return True
    return False


def describe(process: psutil.Process) -> str:
    """A process for a message, without its arguments, which may hold a password."""
    return f"process {process.pid} ({process.name()})"


def this_process() -> str:
    """The identity of this process, `<machine>:<boot>:<pid>:<start>`: no other process ever has the same."""
    return ":".join([*_machine_and_boot(), str(os.getpid()), _start(os.getpid())])


def has_ended(identity: str) -> bool:
    """Whether the process with this identity ran on this machine, since its last boot, and has ended."""
    machine, boot, pid, start = _parts(identity)
    if (machine, boot) != _machine_and_boot():
        return False  # nothing is known of it here
    try:
        return not is_alive(psutil.Process(int(pid))) or _start(int(pid)) != start
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return True


def ran_before_boot(identity: str) -> bool:
    """Whether the process with this identity ran on this machine before its last boot.

    A copy of a machine under the same name looks like that too, so a wrong answer must do no lasting harm.
    """
    machine, boot, _, _ = _parts(identity)
    return machine == _machine_and_boot()[0] and boot != _machine_and_boot()[1]


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is there, but this process may not look at it
        return True


def end_children(*, of_mlflow: bool = False) -> None:
    """End the processes that this one started (of_mlflow: only those that MLflow started for it), and wait for that.

    They are not reaped: their exit codes are for whoever waits for them.
    """
    children = psutil.Process().children()
    if of_mlflow:
        children = [child for child in children if _environment_variable(child, STARTED_BY_MLFLOW)]
    family = [member for child in children for member in (child, *_descendants(child))]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for member in filter(is_alive, family):
            with contextlib.suppress(psutil.Error):
                end(member)
        deadline = time.monotonic() + CHILD_SECONDS
        while any(map(is_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.02)


def kill_children(*, working_in: Path) -> None:
    """Kill what this process started in that folder, at once."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.cwd() == str(working_in.resolve()):
                for member in (child, *_descendants(child)):
                    member.kill()


def kill_process_tree(exit_code: int) -> NoReturn:
    """End this process at once, without any clean-up, and all that it started."""
    for child in _descendants(psutil.Process()):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(exit_code)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _environment_variable(process: psutil.Process, name: str) -> str:
    try:
        return process.environ().get(name, "")
    except psutil.Error:
        return ""


def _parts(identity: str) -> tuple[str, ...]:
    match = re.fullmatch(r"([^:]*):([^:]*):(\d+):([\d.]+)", identity)
    return match.groups() if match else ("", "", "", "")


def _machine_and_boot() -> tuple[str, str]:
    """This machine (in a container, the namespace of its process ids), and the boot since which it runs."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")[5:-1]
        return f"{socket.gethostname()}/{namespace}", Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return socket.gethostname(), f"{psutil.boot_time():.0f}"


def _start(pid: int) -> str:
    """When a process started: on Linux in ticks since the boot, which no correction of the clock changes."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):  # not Linux, or it ended while it was read
        return f"{psutil.Process(pid).create_time():.2f}"
