"""A process that has imported the libraries, and forks itself for each step: most of a step's start is these imports.

evaluate that runs alone has one too, for the check of the artifact; what is said of the driver is true of it.

The driver forks it before it has imported anything of the project's but its own start: what a run depends on is which
of the project's files its process loads, and they are read when the step begins. Then it waits. When the driver is
about to run its first step, it imports what the steps need beyond the driver, and serves a socket (hand_over.py).

For each step it forks a keeper, which forks the step, waits for it, and tells the exit code. So neither a step's crash
nor the end of the warm process harms the other. It ends with the driver, by a socket that only the driver holds open.

Linux only: other systems' libraries do not survive a fork.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from steps.core.process import hand_over, startup

OF_THE_DRIVER = (  # what it imports anyway
    *("deltalake", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("numpy", "pandas", "psutil", "pyarrow.parquet", "pydantic", "yaml"),
)
OF_THE_STEPS = (
    *("git", "jinja2", "matplotlib.figure", "matplotlib.backends.backend_agg", "mlflow.pyfunc", "pyarrow.csv"),
    *("mlflow.data.delta_dataset_source", "mlflow.data.meta_dataset", "sklearn.metrics", "xgboost"),
)
# A fork leaves threads behind. OpenBLAS ends its own before a fork, these allocators are told to start none.
WITHOUT_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "_RJEM_MALLOC_CONF": "background_thread:false"}
NAME = "/proc/self/comm"  # what ps and top show, 15 characters

_driver_end: socket.socket | None = None  # in the driver; the warm process ends when it is closed
_pid = 0


def start() -> None:
    """Fork the warm process. Returns at once in the driver, and once more in the process of each step.

    There, all is as in the process that handed the step over: arguments, environment, folder, files, signals.
    """
    global _driver_end, _pid
    if sys.platform != "linux" or None in (sys.stdin, sys.stdout, sys.stderr):
        return
    identity = hand_over.identity()
    with _in_environment(WITHOUT_THREADS):
        for package in OF_THE_DRIVER:
            importlib.import_module(package)
    _driver_end, warm_end = socket.socketpair()
    if (_pid := os.fork()) == 0:
        _driver_end.close()
        _driver_end = None
        return _become(*_wait_for_step(warm_end, identity))
    warm_end.close()


def serve(path: str) -> None:
    """Let the steps that this process launches be handed over from now on, by a socket at `path`."""
    if _driver_end is None or os.environ.get(hand_over.SOCKET_VARIABLE) == path:
        return
    with socket.socket(socket.AF_UNIX) as listener, contextlib.suppress(OSError):  # a path that is too long, for one
        listener.bind(path)
        listener.listen()
        socket.send_fds(_driver_end, [b"\n"], [listener.fileno()])
        os.environ[hand_over.SOCKET_VARIABLE] = path


@contextlib.contextmanager
def serving(path: Path) -> Iterator[None]:
    """Hand over what this process starts by `python -m steps` in this block, where it has a warm process."""
    serve(str(path))
    try:
        yield
    finally:
        end()


def end() -> None:
    """End the warm process, and wait for that."""
    global _driver_end
    if _driver_end is not None:
        os.environ.pop(hand_over.SOCKET_VARIABLE, None)
        _driver_end.close()
        _driver_end = None
        os.waitpid(_pid, 0)


def _wait_for_step(driver: socket.socket, identity: list[str]) -> tuple[dict[str, Any], list[int]]:
    """Serve, and return in the process of each step what it was asked for; the warm process ends here."""
    try:
        os.setpgid(0, 0)  # Ctrl-C is for the driver and the steps
        _name_process("steps-warm")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
        _, listeners, _, _ = socket.recv_fds(driver, 1, 1)
        if not listeners:  # the driver has ended, and has run no step
            os._exit(0)
        listener = socket.socket(fileno=listeners[0])
        preparations: list[Callable[[], object]] = [
            *(partial(importlib.import_module, package) for package in OF_THE_STEPS),
            _map_packages,
        ]
        while driver not in (ready := select.select([driver, listener], [], [], 0 if preparations else None)[0]):
            if listener in ready:  # also while there is more to prepare: the first step may need little of it
                connection, _ = listener.accept()
                if os.fork() == 0:
                    driver.close()
                    listener.close()
                    return _keep(connection, identity)
                connection.close()
            elif preparations:
                preparations.pop(0)()
        os._exit(0)
    except BaseException as err:  # whatever it is: the driver's steps run by themselves then
        if not isinstance(err, ImportError | OSError):
            traceback.print_exc()
        os._exit(1)


def _map_packages() -> None:
    """Have MLflow note which installed package has which module, as it does when a model is logged or loaded."""
    from mlflow.utils import requirements_utils

    requirements_utils.warn_dependency_requirement_mismatches(["mlflow"])


def _keep(connection: socket.socket, identity: list[str]) -> tuple[dict[str, Any], list[int]]:
    """Fork the step, which returns from here; its keeper tells the step's number and exit code, and ends."""
    _name_process("steps-keeper")
    signal.pthread_sigmask(signal.SIG_BLOCK, hand_over.FORWARDED)  # it ends with its step, which is not ready for them
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    start, files, _, _ = socket.recv_fds(connection, 1, 4)
    request: dict[str, Any] = json.loads(start.decode() + connection.makefile().readline())
    if request["identity"] != identity or request["session"] != os.getsid(0):
        os._exit(0)
    if (pid := os.fork()) == 0:
        connection.close()
        return request, files
    with contextlib.suppress(OSError):  # whoever asked was killed
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Be as the process that handed this step over."""
    for standard, file in enumerate(files[:3]):
        os.dup2(file, standard)
    os.fchdir(files[3])
    for file in files:
        os.close(file)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    os.setpgid(0, request["group"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:], sys.path[:] = request["arguments"], request["path"]
    tempfile.tempdir = None  # TMPDIR may be another one
    importlib.invalidate_caches()  # there may be new files
    _name_process(f"steps-{request['arguments'][1]}")
    _restart_random_numbers()
    startup.act_for(request["pid"], launched_by_pid=request["launched_by"])
    for signum in hand_over.FORWARDED:
        signal.signal(signum, signal.SIG_IGN if signum in request["ignored"] else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])


def _restart_random_numbers() -> None:
    """Python's own generator does so itself in a fork."""
    import numpy  # now: the driver's imports begin when it is set up

    numpy.random.seed()


def _name_process(name: str) -> None:
    with contextlib.suppress(OSError), open(NAME, "w") as file:
        file.write(name[:15])


@contextlib.contextmanager
def _in_environment(variables: dict[str, str]) -> Iterator[None]:
    """Set these environment variables in this block, where the user has not."""
    ours = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(ours)
    yield
    for name in ours:
        del os.environ[name]
