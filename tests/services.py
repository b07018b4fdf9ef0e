"""The services of the stack as processes of the tests: PostgreSQL, an S3 object store, MLflow servers."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from place import BIN, Place, until

from steps.core.storage import s3

REQUIRED = "STACK_TESTS_REQUIRED"  # environment variable: a service that is not installed fails the tests
# What nobody writes by chance, so that it can be looked for in all that a run leaves.
KEY, SECRET, PASSWORD = "key-5f0c1a7be2", "secret-93d1c06f5e7a42", "password-c47ae19b03d8"

# For Java that works for seconds: half the time, as it compiles little and collects by one thread.
SHORT_LIVED_JAVA = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


def needed(name: str, *folders: Path) -> Path:
    """The program `name`, on PATH or in one of `folders`; where it is not installed the test is skipped."""
    places = [*map(str, folders), os.environ["PATH"]]
    if found := shutil.which(name, path=os.pathsep.join(places)):
        return Path(found)
    reason = f"{name} is not installed; .ci/run shows how to install it"
    if REQUIRED in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A process that serves HTTP at `url` until stop(); start() brings it back where it was."""

    health = "/"
    start_seconds = 60

    def __init__(self, folder: Path, command: Sequence[object], environment: Mapping[str, str], port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = [str(word) for word in command]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert until(self.answers, seconds=self.start_seconds), self.log.read_text(encoding="utf-8", errors="replace")[
            -3000:
        ]

    def stop(self) -> None:
        """At once, as a machine that loses its power."""
        self._send(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def pause(self) -> None:
        """It goes on accepting connections, and answers none."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, signum: int) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signum)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{self.health}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class ObjectStore(Service):
    health = "/minio/health/cluster"  # "live" says 200 while it still prepares its disks

    def __init__(self, folder: Path, *, data: Path | None = None) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tabular-workflow" / "bin"
        port, data = free_port(), data or folder / "data"
        command = [needed("minio", cache), "server", data, "--address", f"127.0.0.1:{port}"]
        command += ["--console-address", "127.0.0.1:0"]
        super().__init__(folder, command, {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "HOME": "/"}, port)

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a client that has the keys."""
        return {"MLFLOW_S3_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def client(self, service: str = "s3") -> Any:
        import boto3

        return boto3.client(
            service, endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    @property
    def deltalake_options(self) -> dict[str, str]:
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_region": "us-east-1"}
        return {**keys, "aws_endpoint": self.url, "aws_allow_http": "true"}


class Postgres:
    """A cluster of its own. PostgreSQL refuses root, which then becomes the user postgres."""

    def __init__(self) -> None:
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self._programs = needed("pg_ctl", *installed).resolve().parent
        self._folder = folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own are closed to other users
        self.port = free_port()
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")
        given = ["-D", folder / "data", "-U", "mlflow", "--auth=scram-sha-256", "--pwfile", folder / "password"]
        self._run("initdb", *given, "--no-sync")

    def uri(self, database: str) -> str:
        return f"postgresql+psycopg://mlflow:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", self._folder / "data", "-o", options, "-l", self._folder / "log", "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def answers(self) -> bool:
        try:
            return bool(self.query("select 1", database="postgres"))
        except psycopg.OperationalError:
            return False

    def create(self, database: str) -> None:
        self.query(f'create database "{database}"', database="postgres")

    def query(self, text: str, *, database: str = "mlflow") -> list[tuple[Any, ...]]:
        where = self.uri(database).replace("+psycopg", "")
        with psycopg.connect(where, autocommit=True) as connection:
            answer = connection.execute(text.encode())
            return answer.fetchall() if answer.description else []

    def dump(self, database: str) -> str:
        """All that a database holds, as text."""
        command = [str(self._programs / "pg_dump"), self.uri(database).replace("+psycopg", "")]
        return str(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def _run(self, program: str, *given: object) -> None:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        command = [*as_user, str(self._programs / program), *map(str, given)]
        ended = subprocess.run(command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert ended.returncode == 0, ended.stdout


class MlflowServer(Service):
    """`app` is "" or "basic-auth"; its artifacts go to the bucket `mlflow`."""

    health = "/health"

    def __init__(self, folder: Path, postgres: Postgres, store: ObjectStore, *, database: str, app: str = "") -> None:
        port = free_port()
        postgres.create(database)
        # The address of the database holds a password: in the environment, not on the command line.
        environment = {
            **Place(folder, store.settings).environment,
            "MLFLOW_BACKEND_STORE_URI": postgres.uri(database),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRET,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, as compose.yaml says
        }
        command: list[object] = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1]
        command += ["--serve-artifacts", "--artifacts-destination", "s3://mlflow"]
        if app:
            command += ["--app-name", app]
            settings = folder / "basic-auth.ini"
            folder.mkdir(parents=True)
            settings.write_text(
                "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
                f"admin_password = {PASSWORD}\nauth_cache_ttl_seconds = 60\n"  # a hash takes longer than a request
                f"database_uri = sqlite:///{folder}/users.db\n"
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
            environment["MLFLOW_AUTH_CONFIG_PATH"] = str(settings)
        super().__init__(folder, command, environment, port)


@contextlib.contextmanager
def reaching(store: ObjectStore) -> Iterator[None]:
    """A block in which this process reaches the object store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.settings.items():
            patch.setenv(name, value)
        s3._client.cache_clear()
        yield
        s3._client.cache_clear()


@contextlib.contextmanager
def object_store(folder: Path, *, bucket: str) -> Iterator[ObjectStore]:
    """An object store with one bucket, for this block."""
    store = ObjectStore(folder)
    store.start()
    try:
        store.client().create_bucket(Bucket=bucket)
        yield store
    finally:
        store.stop()


class Stack:
    """All of them. `place()` is a folder where a user stands who has the three settings of the stack."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = ObjectStore(folder / "object-store")
        self.postgres = Postgres()
        self.store.start()
        for bucket in ("mlflow", "delta"):
            self.store.client().create_bucket(Bucket=bucket)
        self.postgres.start()
        self.mlflow = MlflowServer(folder / "mlflow", self.postgres, self.store, database="mlflow")
        self.mlflow.start()

    def place(self, name: str, *, lake: str = "s3://delta", **extra: str) -> Place:
        folder = self._folder / name
        (folder / "tmp").mkdir(parents=True)
        settings = {"MLFLOW_TRACKING_URI": self.mlflow.url, "LAKE_URI": lake, **self.store.settings}
        return Place(folder, {**settings, "TMPDIR": str(folder / "tmp"), **extra})

    def repair(self) -> None:
        """Start again what a test has stopped or paused."""
        self.store.resume()
        self.mlflow.resume()
        if not self.store.answers():
            self.store.start()
        if not self.postgres.answers():
            self.postgres.start()
        if not self.mlflow.answers():
            self.mlflow.stop()
            self.mlflow.start()

    def stop(self) -> None:
        self.mlflow.stop()
        self.postgres.remove()
        self.store.stop()


class HeldRequests:
    """A proxy before a service that holds back a request whose path matches, a put of an object by default, until it is
    released.

    It holds the next one after hold(), and no other. With `lose_answers` that one is passed on and its answer is not.
    """

    def __init__(self, port: int, *, name: str, method: str = "PUT", lose_answers: bool = False) -> None:
        self._port = port
        self._pattern = re.compile(rf"{method} \S*{name}[? ]".encode())
        self._lose_answers = lose_answers
        self._is_to_hold = threading.Event()
        self._held, self._released = threading.Semaphore(0), threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "HeldRequests":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()

    def hold(self) -> None:
        self._is_to_hold.set()

    def wait_for_request(self) -> None:
        """Until the service would have the next one, if this proxy were not."""
        assert self._held.acquire(timeout=60)

    def release(self) -> None:
        """Let the request that is held back through."""
        self._released.release()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(ConnectionRefusedError):  # by a service that is gone
            self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            answers = threading.Thread(target=self._answer, args=(client, server), daemon=True)
            answers.start()
            with contextlib.suppress(OSError):
                while chunk := client.recv(2**20):
                    if self._pattern.match(chunk) and self._is_to_hold.is_set():
                        self._is_to_hold.clear()
                        self._held.release()
                        assert self._released.acquire(timeout=60)
                        if self._lose_answers:
                            self._pass_on_alone(client, chunk)
                            break
                    server.sendall(chunk)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _pass_on_alone(self, client: socket.socket, chunk: bytes) -> None:
        """Ask by a connection of its own, so that the answer is read here, and hang up."""
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            server.sendall(chunk)
            client.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while more := client.recv(2**20):
                    server.sendall(more)
            assert b" 200 " in server.recv(2**16)
        client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _answer(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(2**20):
                client.sendall(chunk)
            client.shutdown(socket.SHUT_RDWR)
