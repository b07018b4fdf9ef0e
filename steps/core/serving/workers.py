"""Several processes that answer at one socket, each with the model in its own memory and its own look at the alias.

uvicorn's supervisor starts them, and one anew that has died. Prometheus's numbers add up in a folder of theirs.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import SIGNALS, Multiprocess

from steps.core.errors import UserError
from steps.core.process import console, scratch
from steps.core.serving import http_server, metrics
from steps.core.serving.invocations import MODEL_URI
from steps.core.serving.service import Service, Settings

START_SECONDS = 120  # for a process that imports and loads the model beside others; a silent one is ended then
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Worker:
    """What one process runs to make its application."""

    settings: Settings

    def __call__(self) -> FastAPI:
        console.hide_secrets()
        threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
        try:
            return Service(self.settings).app
        except UserError as err:
            console.message(str(err))
            sys.exit(STARTUP_FAILURE)  # the supervisor starts no other one


class Supervisor(Multiprocess):
    """uvicorn's supervisor of processes, which tells Prometheus's client when one is gone."""

    def init_processes(self) -> None:
        super().init_processes()
        self._leave_their_ends()

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            multiprocess.mark_process_dead(pid)
        self._leave_their_ends()

    def _leave_their_ends(self) -> None:
        """Else one that dies while it is asked whether it lives would be waited for, as its end stays open here."""
        for process in self.processes:
            process.child_conn.close()


def run(settings: Settings, bound_socket: socket.socket, *, workers: int, on_start: Callable[[str], None]) -> bool:
    """Serve until a signal; whether the processes could. `on_start` is called with the model's URI when one answers."""
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # XGBoost's, of each process
    with scratch.scratch_folder("workflow-metrics-") as folder, http_server.signals_as_before(SIGNALS):
        os.environ[metrics.FOLDER] = str(folder)
        config = http_server.settings(
            Worker(settings),
            grace_seconds=settings.limits.seconds,
            factory=True,
            workers=workers,
            timeout_worker_healthcheck=START_SECONDS,
        )
        supervisor = Supervisor(config, [bound_socket])
        address = http_server.url_of(bound_socket)
        threading.Thread(target=_tell_when_ready, args=(address, on_start), name="ready", daemon=True).start()
        supervisor.run()
        return all(process.exitcode != STARTUP_FAILURE for process in supervisor.processes)


def _tell_when_ready(address: str, on_start: Callable[[str], None]) -> None:
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine as localhost
    while True:
        with contextlib.suppress(OSError), directly.open(f"{address}/ping", timeout=START_SECONDS) as answer:
            return on_start(str(answer.headers[MODEL_URI]))
        time.sleep(POLL_SECONDS)


def _end_with_supervisor() -> None:
    """A supervisor that is killed leaves nobody behind who would hold the port."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
