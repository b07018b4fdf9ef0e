"""Airflow's services as processes of the tests: what compose.yaml starts in profile airflow, on this machine."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from composed import COMPOSE, services
from place import PROJECT, Ended, Place, until
from services import PASSWORD, Postgres, free_port

SERVICES = ("airflow-api-server", "airflow-dag-processor", "airflow-scheduler")
HERE = PROJECT / "infrastructure" / "airflow"
LIMIT_SECONDS = 600  # for one run of a DAG


def installed() -> Path:
    """The folder of Airflow's commands."""
    made = subprocess.run([HERE / "environment.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


class Airflow:
    """On a PostgreSQL of its own, with the runs, models and tables of its workflows in `place`."""

    def __init__(self, folder: Path, place: Place, settings: Mapping[str, str]) -> None:
        self.place = place
        self._folder = folder
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        self._bin = installed()
        self._port = free_port()
        self._postgres = Postgres()
        self._postgres.start()
        self._postgres.create("mlflow")
        self._services = services({**settings, "AIRFLOW_PORT": str(self._port), "AIRFLOW_ADMIN_PASSWORD": PASSWORD})
        self._processes: list[subprocess.Popen[bytes]] = []
        self._session = requests.Session()
        self.url = f"http://127.0.0.1:{self._port}"

    def initialize(self) -> Ended:
        """What the service airflow-init runs."""
        words = shlex.split(self._here(self._services["airflow-init"]["command"]))
        address = {"PGHOST": "127.0.0.1", "PGPORT": str(self._postgres.port), "PGPASSWORD": PASSWORD}
        return self._as_service("airflow-init", address).run(*words)

    def start(self) -> None:
        for name in SERVICES:
            words = shlex.split(self._here(self._services[name]["command"]))
            with (self._folder / name).open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        words,
                        cwd=self._home,
                        env=self._as_service(name).environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        assert until(self._answers, seconds=90), self.log("airflow-api-server")[-3000:]
        token = self._session.post(
            f"{self.url}/auth/token", json={"username": "admin", "password": PASSWORD}, timeout=30
        )
        assert token.status_code == 201, token.text
        self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"

    def stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._postgres.remove()

    def run(self, *words: str, **variables: str) -> Ended:
        """A command, as in the scheduler's container."""
        return self._as_service("airflow-scheduler", variables).run(*words)

    def processes(self) -> dict[int, str]:
        """Those of the services and of the steps that they have started, with their command lines."""
        return Place(self._home).processes()

    def started(self, step: str) -> int:
        """The number of the process of a step, once a task has started it."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (found := [pid for pid, words in self.processes().items() if f"-m steps {step} " in words]):
            assert time.monotonic() < deadline, self.log("airflow-scheduler")[-5000:]
            time.sleep(0.2)
        return found[0]

    def kill(self, name: str) -> None:
        os.killpg(self._processes[SERVICES.index(name)].pid, signal.SIGKILL)

    def is_healthy(self, name: str) -> bool:
        """What Docker takes a service for."""
        words = [self._here(word) for word in self._services[name]["healthcheck"]["test"][1:]]
        return self._as_service(name).run(*words).exit_code == 0

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """The answer of Airflow's REST API."""
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body or None, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def trigger(self, dag: str, **conf: object) -> str:
        return str(self.ask("POST", f"dags/{dag}/dagRuns", logical_date=None, conf=conf)["dag_run_id"])

    def runs(self, dag: str, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"dags/{dag}/dagRuns?run_type={kind}&order_by=id")["dag_runs"]
        return found

    def ended(self, dag: str, run: str) -> str:
        """The state of a run after its end."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while (state := self.ask("GET", f"dags/{dag}/dagRuns/{run}")["state"]) not in ("success", "failed"):
            assert time.monotonic() < deadline, self.log("airflow-scheduler")[-5000:]
            time.sleep(0.25)
        return str(state)

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        found = self.ask("GET", f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self, dag: str, run: str) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks(dag, run).items()}

    def xcom(self, dag: str, run: str, task: str, key: str) -> Any:
        return self.ask("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}")["value"]

    def everything_kept(self) -> Iterator[tuple[str, str]]:
        """All that Airflow keeps of its runs and prints, by where it stands; not its own secrets."""
        yield "the database", self._postgres.dump("airflow")
        for path in [*(self._home / "logs").rglob("*.log"), *(self._folder / name for name in SERVICES)]:
            yield str(path), path.read_text(encoding="utf-8", errors="replace")

    def log(self, service: str) -> str:
        return (self._folder / service).read_text(encoding="utf-8", errors="replace")

    def task_log(self, run: str, task: str) -> str:
        files = sorted(self._home.glob(f"logs/dag_id=*/run_id={run}/task_id={task}/*.log"))
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return self._session.get(f"{self.url}/api/v2/version", timeout=2).status_code == 200
        return False

    def _as_service(self, name: str, extra: Mapping[str, str] | None = None) -> Place:
        service = self._services[name]
        image = dict(word.split("=", 1) for line in _image("ENV") for word in shlex.split(line))
        values = {key: self._here(value) for key, value in {**image, **service["environment"]}.items()}
        for stack in ("MLFLOW_TRACKING_URI", "LAKE_URI", "AWS_ENDPOINT_URL"):  # embedded: they take half the time
            values.pop(stack, None)
        values["PATH"] = os.pathsep.join([str(self._bin), os.environ["PATH"]])
        values["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"] = "600"  # seconds: no test edits a DAG
        values["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] = "1"  # seconds until the end of a task that fails is seen
        values["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD"] = (
            "15"  # seconds until a service that is gone is told
        )
        here = {"WORKFLOW_FOLDER": str(self.place.folder), "WORKFLOW_PYTHON": str(PROJECT / ".venv" / "bin" / "python")}
        return Place(self._home, {**values, **here, **(extra or {})}, is_forked=False)

    def _here(self, text: str) -> str:
        """`text` of the image or of compose.yaml, with the folders and addresses of this machine."""
        for inside, outside in {
            "/opt/compose": str(COMPOSE / "airflow"),
            "/opt/project": str(PROJECT),
            "/opt/airflow/bin": str(self._bin),
            "/var/lib/airflow": str(self._home),
            "airflow-api-server:8080": f"127.0.0.1:{self._port}",
            "127.0.0.1:8080": f"127.0.0.1:{self._port}",
            "0.0.0.0 --port 8080": f"127.0.0.1 --port {self._port}",
        }.items():
            text = text.replace(inside, outside)
        return text


def _image(instruction: str) -> list[str]:
    text = (COMPOSE / "airflow" / "Dockerfile").read_text(encoding="utf-8")
    return re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)
