"""Servers of a model for tests: in this process on a real socket, or as the entry point `serve`; models to register."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import requests
from place import PROJECT, Place, new_database, until
from services import Service as ServiceProcess
from services import free_port
from small import flowers, sqlite, tracked

from steps.core.models import registration
from steps.core.models.scorer import Scorer
from steps.core.serving import http_server
from steps.core.serving.http_server import HttpServer
from steps.core.serving.invocations import Limits
from steps.core.serving.service import Service, Settings

JSON, PARQUET, CSV = "application/json", "application/vnd.apache.parquet", "text/csv"
NAME = "flowers_model"
FEATURES = ["petal_length", "petals", "wild", "color"]
FOLLOWED = f"models:/{NAME}@production"
ROW: dict[str, Any] = {"petal_length": 4.25, "petals": 5, "wild": True, "color": "red"}


@contextlib.contextmanager
def registry_in(folder: Path) -> Iterator[str]:
    """MLflow of this process on a store of its own in `folder`, whose artifacts are there too."""
    with tracked(new_database(folder)) as uri:
        yield uri


def register(model: Scorer, *, example: pd.DataFrame | None = None) -> str:
    """`model` as the step `train` registers it, as the next version of NAME: its number."""
    example = flowers(3)[FEATURES] if example is None else example
    with mlflow.start_run():
        version = registration.register(
            model.booster, model.schema, example=example, name=NAME, tags={"table_uri": "/lake/flowers@v0"}
        )
    return str(version.version)


def point(alias: str, version: str) -> None:
    mlflow.MlflowClient().set_registered_model_alias(NAME, alias, version)


@dataclass(frozen=True)
class Running:
    """A server that answers at `url`."""

    url: str
    service: Service

    def post(self, body: Any, kind: str | None = JSON, **headers: str) -> requests.Response:
        data = json.dumps(body) if isinstance(body, dict | list) else body
        given = {**({"Content-Type": kind} if kind else {}), **headers}
        return requests.post(f"{self.url}/invocations", data=data, headers=given, timeout=30)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=30)


@contextlib.contextmanager
def running(model: str, *, open_log: Any = None, poll_seconds: float = 3600, **limits: Any) -> Iterator[Running]:
    """A server in a thread of this process; by default it looks at no alias again of itself."""
    given = Limits(**{"body_bytes": 2**20, "rows": 1000, "seconds": 30, **limits})
    service = Service(Settings(model=model, poll_seconds=poll_seconds, limits=given, open_log=open_log))
    with http_server.bound("127.0.0.1", 0) as bound_socket:
        server = HttpServer(http_server.settings(service.app, grace_seconds=1))
        url = http_server.url_of(bound_socket)
        thread = threading.Thread(target=server.run, args=([bound_socket],), daemon=True)
        thread.start()
        assert until(lambda: server.started)
        yield Running(url, service)
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


class Server(ServiceProcess):
    """`python -m steps serve` in a folder, of the registry there."""

    health = "/ping"

    def __init__(self, folder: Path, **parameters: object) -> None:
        settings = {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": sqlite(folder)}
        self.place = Place(folder, {**settings, "WORKFLOW_SPOOL": str(folder / "spool")})
        port = free_port()
        given = {"model": FOLLOWED, "port": port, "poll_seconds": 0.2, **parameters}
        options = [f"--{name}={value}" for name, value in given.items()]
        command = [sys.executable, "-m", "steps", "serve", *options]
        super().__init__(folder / f"server-{port}", command, self.place.environment, port)

    def post(self, body: Any) -> requests.Response:
        return requests.post(f"{self.url}/invocations", json=body, timeout=30)

    def ended_by(self, signum: int, *, seconds: float = 20) -> int:
        """The exit code of the process after a signal to it alone."""
        assert self._process is not None
        os.kill(self._process.pid, signum)
        return self._process.wait(timeout=seconds)

    def metric(self, name: str) -> float:
        """One of its numbers for Prometheus, 0 where it is not there yet."""
        lines = requests.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.partition(" ")[0] == name), 0)

    @property
    def told(self) -> str:
        return self.log.read_text(encoding="utf-8")
