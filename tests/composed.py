"""The services of compose/ as processes of the tests: compose.yaml's commands and environment, on this machine."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyspark
import yaml
from place import Ended, Place
from services import SHORT_LIVED_JAVA, Postgres, Service, free_port

from steps.core.config import PROJECT
from steps.core.spark.jars import for_object_stores

COMPOSE = PROJECT / "compose"


def services(settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Those of every profile, as docker compose understands them with `settings` in compose/.env."""
    parsed = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))
    declared: dict[str, Any] = _interpolated(parsed, settings or {})["services"]
    return declared


def _interpolated(node: Any, settings: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _interpolated(value, settings) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, settings) for value in node]
    if isinstance(node, str):
        variable = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}")
        return variable.sub(lambda match: settings.get(match[1]) or match[2] or "", node).replace("$$", "$")
    return node


def command(service: Mapping[str, Any], addresses: Mapping[str, str]) -> list[str]:
    """What its container runs: `addresses` are what stands for those inside the stack."""
    entrypoint = service.get("entrypoint") or _image(service, "ENTRYPOINT")
    line = shlex.join([*entrypoint, *_words(service["command"])])
    words = shlex.split(here(line, addresses))
    return [sys.executable if word == "python" else word for word in words]


def environment(service: Mapping[str, Any], addresses: Mapping[str, str], folder: Path) -> dict[str, str]:
    image = dict(word.split("=", 1) for word in _image(service, "ENV"))
    values = {name: here(value, addresses) for name, value in {**image, **service["environment"]}.items()}
    return Place(folder, {**values, "PYTHONPATH": str(folder / "site-packages")}).environment


def install(service: Mapping[str, Any], folder: Path) -> None:
    """Install the packages of the project that the service's image does."""
    dockerfile = (PROJECT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    for source in re.findall(r"^RUN pip install --no-cache-dir --no-deps (/opt/\S+)$", dockerfile, re.MULTILINE):
        shutil.copytree(_installed(here(source, {})).name, folder / "site-packages", dirs_exist_ok=True)


@cache
def _installed(source: str) -> tempfile.TemporaryDirectory[str]:
    """A package of the project, once for all tests, as pip makes it from a copy: a build may leave files."""
    target = tempfile.TemporaryDirectory()
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(source, Path(folder, Path(source).name))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", target.name, str(copy)], check=True)
    return target


def _words(line: str | list[str]) -> list[str]:
    return shlex.split(line) if isinstance(line, str) else line


def _image(service: Mapping[str, Any], instruction: str) -> list[str]:
    dockerfile = (PROJECT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    lines = re.findall(rf"^{instruction} (.*)$", dockerfile, re.MULTILINE)
    return [word for line in lines for word in (json.loads(line) if line.startswith("[") else shlex.split(line))]


def here(text: str, addresses: Mapping[str, str]) -> str:
    """`text` of an image or of compose.yaml, with the folders and addresses of this machine."""
    folders = {"/opt/mlflow": str(COMPOSE / "mlflow"), "/opt/spark": str(COMPOSE / "spark")}
    for inside, outside in {**folders, **addresses}.items():
        text = text.replace(inside, outside)
    return text


class Tracking(Service):
    """A service of MLflow's image that publishes a port, on a database of its own."""

    health = "/health"
    start_seconds = 180

    def __init__(
        self, folder: Path, service: Mapping[str, Any], *, postgres: Postgres, store: Service, database: str
    ) -> None:
        port = free_port()
        inside = service["ports"][0].rpartition(":")[2]
        addresses = {
            **{"http://object-store:9000": store.url, "0.0.0.0": "127.0.0.1", inside: str(port)},
            **{"--workers 2": "--workers 1"},  # the second one's start would only take time
        }
        database_at = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGDATABASE": database}
        values = {**environment(service, addresses, folder), **database_at}
        install(service, folder)
        super().__init__(folder, command(service, addresses), values, port)


class ModelServer(Service):
    """The service of the profile serve, of the packages that its image has: they are installed into `folder`."""

    health = "/ping"
    start_seconds = 120

    def __init__(self, folder: Path, settings: Mapping[str, str], *, store: Service, tracking: Service) -> None:
        service, port = services(settings)["serve"], free_port()
        for name in ("steps", "configs"):  # what Dockerfile.dockerignore lets in
            shutil.copytree(PROJECT / name, folder / "project" / name, ignore=shutil.ignore_patterns("__pycache__"))
        size = [sys.executable, str(COMPOSE / "serve" / "size.py"), str(folder / "packages")]
        self.size = subprocess.run(size, capture_output=True, text=True, check=True).stdout
        self._addresses = {
            **{"http://object-store:9000": store.url, "http://mlflow:5000": tracking.url, "0.0.0.0": "127.0.0.1"},
            **{
                "5002": str(port),
                "/opt/project": str(folder / "project"),
                "/var/spool/requests": str(folder / "spool"),
            },
        }
        values = {**environment(service, self._addresses, folder), "PYTHONPATH": str(folder / "project")}
        self._healthcheck = service["healthcheck"]["test"][1:]
        self._python = str(folder / "packages" / "bin" / "python")
        super().__init__(folder, [self._python, *command(service, self._addresses)[1:]], values, port)

    @property
    def is_healthy(self) -> bool:
        """What Docker takes it for."""
        words = [self._python, *(here(word, self._addresses) for word in self._healthcheck[1:])]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def end(self) -> int:
        """As `docker stop`: its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=30)


class Restarting:
    """A process that is started again whenever it ends, until stop(): Docker's `restart: unless-stopped`."""

    def __init__(self, folder: Path, words: list[str], environment: Mapping[str, str]) -> None:
        self._folder, self._words, self._environment = folder, words, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep)

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stopped.clear()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def kill(self) -> None:
        """With its children, as a container ends."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self._stopped.set()
        while self._keeper.is_alive():
            self.kill()
            self._keeper.join(0.2)

    def log(self) -> str:
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def _keep(self) -> None:
        while not self._stopped.wait(0.2):
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._words,
                    cwd=self._folder,
                    env=dict(self._environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._process.wait()
            self.kill()


class SparkCluster:
    """The services of the profile spark, each started again when it ends, as Docker does it."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._services = folder, services(settings)
        self.port, master, page = free_port(), free_port(), free_port()
        self.master_page = f"http://127.0.0.1:{page}"
        self._addresses = {
            **{"spark://spark-master:7077": f"spark://127.0.0.1:{master}", "--port 7077": f"--port {master}"},
            **{"http://spark-master:8080": self.master_page, "--host spark-master": "--host 127.0.0.1"},
            **{"/tmp/spark-work": str(folder / "work"), "15002": str(self.port)},
        }
        self._elsewhere = {
            **{"SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_CONF_DIR": str(self._settings())},
            **{"PYSPARK_PYTHON": sys.executable, "SPARK_MASTER_WEBUI_PORT": str(page), "SPARK_LOCAL_IP": "127.0.0.1"},
            **SHORT_LIVED_JAVA,
        }
        self.master, self.worker, self.server = map(self._process, ("spark-master", "spark-worker", "spark"))

    def start(self) -> None:
        for process in (self.master, self.worker, self.server):
            process.start()

    def stop(self) -> None:
        for process in (self.server, self.worker, self.master):
            process.stop()

    def health(self, *, seconds: int = 40, **changes: str) -> Ended:
        """What Docker runs to ask how the Connect server is, with `seconds` for the query."""
        words = [word if word != "40" else str(seconds) for word in self._services["spark"]["healthcheck"]["test"][1:]]
        values = {**self._values("spark"), **changes}
        return Place(self._folder, values).run(*[here(word, self._addresses) for word in words])

    def _process(self, name: str) -> Restarting:
        place = Place(self._folder, self._values(name))
        return Restarting(self._folder / name, command(self._services[name], self._addresses), place.environment)

    def _values(self, name: str) -> dict[str, str]:
        return {**self._services[name]["environment"], **self._elsewhere}

    def _settings(self) -> Path:
        """The image's, with the addresses of this machine; the jars are those that the tests have already."""
        text = (COMPOSE / "spark" / "spark-defaults.conf").read_text(encoding="utf-8")
        text = re.sub(
            r"^(spark\.driver\.host +)spark$", r"\g<1>127.0.0.1", here(text, self._addresses), flags=re.MULTILINE
        )
        jars = ":".join(map(str, for_object_stores().downloaded()))
        folder = self._folder / "settings"
        folder.mkdir(parents=True)
        paths = [f"spark.{part}.extraClassPath {jars}" for part in ("driver", "executor")]
        (folder / "spark-defaults.conf").write_text("\n".join([text, *paths, ""]), encoding="utf-8")
        return folder
