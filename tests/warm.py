"""A Python that has imported the packages that the project needs, and forks itself for each command that is asked for.

A step's start is mostly these imports. The project's own modules are imported after the fork, and folder, environment,
umask and arguments are those of the request: what runs is the command, as a process of its own.

`python warm.py <socket>` listens there until its standard input closes.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
import tempfile
import warnings
from typing import Any

PACKAGES = (
    *("alembic.command", "boto3", "deltalake", "git", "jinja2", "numpy", "pandas", "psutil", "pydantic", "requests"),
    *("matplotlib.backends.backend_agg", "matplotlib.pyplot", "sqlalchemy.dialects.sqlite", "xgboost", "yaml"),
    *("mlflow", "mlflow.cli", "mlflow.data.delta_dataset_source", "mlflow.data.meta_dataset", "mlflow.projects"),
    *("mlflow.pyfunc", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store"),
    *("pyarrow.csv", "pyarrow.parquet", "pyspark.sql.connect.session", "sklearn.datasets", "sklearn.metrics"),
)


_exit_code: int | None = None  # of a command that has come to its end


def main() -> None:
    global _exit_code
    from mlflow.utils import requirements_utils

    atexit.register(_end_at_once)  # the first one that is registered is the last one that is called
    for package in PACKAGES:
        importlib.import_module(package)
    requirements_utils.warn_dependency_requirement_mismatches(["mlflow"])  # it notes which package has which module
    gc.freeze()
    request = _next_request(sys.argv[1])
    if request is None:
        return
    _become(request)
    try:
        _run(request["words"])
        _exit_code = 0
    except SystemExit as ended:
        _exit_code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise  # whatever else it is, the process ends as an interpreter ends


def _run(words: list[str]) -> None:
    match words:
        case ["-m", module, *_]:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", program, *_]:
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
        case [script, *_]:
            runpy.run_path(script, run_name="__main__")


def _end_at_once() -> None:
    """In place of freeing each object of the libraries, and so copying each page of a process that was forked."""
    if _exit_code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_code)


def _next_request(path: str) -> dict[str, Any] | None:
    """Returns once in each command's process with its request, and with None where nobody asks any more.

    Whoever asks is answered with the command's number and, at its end, with its exit code.
    """
    running: dict[int, tuple[int, socket.socket]] = {}  # by a file that is readable when the command has ended
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while sys.stdin not in (readable := select.select([listener, sys.stdin, *running], [], [])[0]):
            for ended in running.keys() & {*readable}:
                pid, connection = running.pop(ended)
                _, status = os.waitpid(pid, 0)
                _answer(connection, os.waitstatus_to_exitcode(status))
                connection.close()
                os.close(ended)
            if listener in readable:
                connection, _ = listener.accept()
                request: dict[str, Any] = json.loads(connection.makefile().readline())
                if (pid := _fork()) == 0:
                    for inherited in running:
                        os.close(inherited)
                    for _, inherited_connection in [*running.values(), (0, connection)]:
                        inherited_connection.close()
                    return request
                _answer(connection, pid)
                running[os.pidfd_open(pid)] = pid, connection
    return None


def _answer(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # whoever asked is gone
        connection.sendall(f"{number}\n".encode())


def _fork() -> int:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of threads, which the libraries mend
        return os.fork()


def _become(request: dict[str, Any]) -> None:
    for stream, name, flags in (
        (0, request["in"], os.O_RDONLY),
        (1, request["out"], os.O_WRONLY),
        (2, request["err"], os.O_WRONLY),
    ):
        os.dup2(os.open(name, flags), stream)
    sys.modules.pop("__mp_main__", None)  # a library's second name for this file, which is none of the command's
    os.chdir(request["folder"])
    tempfile.tempdir = None  # TMPDIR may be another one
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["umask"] >= 0:
        os.umask(request["umask"])
    words = request["words"]
    is_script = not words[0].startswith("-")
    sys.argv = words if is_script else [words[0], *words[2:]]
    behind = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [os.path.dirname(words[0]) if is_script else "", *behind]  # in place of this file's folder


if __name__ == "__main__":
    main()
