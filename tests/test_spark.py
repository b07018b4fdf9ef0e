"""The JVM of a workflow: who can reach it, and that it ends with the process that started it, however that ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from place import PROJECT, Place, until
from pyspark.sql.connect.proto import AnalyzePlanRequest, SparkConnectServiceStub

pytestmark = pytest.mark.spark

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")  # in /proc/net/tcp*
LISTENING = "0A"


@dataclass(frozen=True, kw_only=True)
class Started:
    """A running `python main.py` and the JVM that it started."""

    place: Place
    driver: subprocess.Popen[bytes]
    jvm: int

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return "java" in Path(f"/proc/{self.jvm}/cmdline").read_text().split("\0")[0]
        return False

    def environment(self) -> dict[str, str]:
        words = Path(f"/proc/{self.jvm}/environ").read_text().rstrip("\0").split("\0")
        return dict(word.split("=", 1) for word in words)


@contextlib.contextmanager
def started(place: Place) -> Iterator[Started]:
    """`python main.py` where `place` is; whatever it started is ended afterwards."""
    # What a shell starts in the background ignores SIGINT, and so would its children: not this one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (place.folder / "output.txt").open("wb") as output:
        driver = subprocess.Popen(
            [sys.executable, PROJECT / "main.py"],
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    signal.signal(signal.SIGINT, before)

    def jvms() -> list[int]:
        return [pid for pid, command in place.processes().items() if "SparkSubmit" in command and "/java " in command]

    try:
        assert until(jvms, seconds=60), (place.folder / "output.txt").read_text()
        yield Started(place=place, driver=driver, jvm=jvms()[0])
    finally:
        with contextlib.suppress(ProcessLookupError):
            driver.kill()
        driver.wait()
        for pid in place.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def place_in(folder: Path) -> Place:
    """A place whose scratch files stay in `folder`: a process that is killed leaves them."""
    (folder / "tmp").mkdir()
    return Place(folder, {"TMPDIR": str(folder / "tmp")})


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A workflow whose server is up and whose driver is held still, so that it does not end during the tests."""
    with started(place_in(tmp_path_factory.mktemp("held"))) as workflow:
        assert until((_folder(workflow) / "port").exists, seconds=60)
        workflow.driver.send_signal(signal.SIGSTOP)
        yield workflow


def _folder(workflow: Started) -> Path:
    return Path(os.readlink(f"/proc/{workflow.jvm}/cwd"))


def _listening(pid: int) -> list[tuple[str, int]]:
    """(address in hexadecimal, port) of each socket on which a process listens."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == LISTENING and inode in inodes:
                address, port = local.split(":")
                found.append((address, int(port, 16)))
    return found


def _spark_version(port: int, token: str | None) -> str:
    """What the server answers to a client that shows `token`."""
    request = AnalyzePlanRequest(
        session_id="0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a", spark_version=AnalyzePlanRequest.SparkVersion()
    )
    shown = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return str(SparkConnectServiceStub(channel).AnalyzePlan(request, metadata=shown).spark_version.version)


def test_the_jvm_listens_on_the_loopback_interface_only(held: Started) -> None:
    listening = _listening(held.jvm)
    assert int((_folder(held) / "port").read_text()) in [port for _, port in listening]
    assert {address for address, _ in listening} <= set(LOOPBACK)


@pytest.mark.parametrize("token", [None, "", "0" * 32], ids=["none", "empty", "wrong"])
def test_the_server_refuses_a_client_without_its_token(held: Started, token: str | None) -> None:
    with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        _spark_version(int((_folder(held) / "port").read_text()), token)


def test_the_server_answers_a_client_with_its_token(held: Started) -> None:
    token = held.environment()["SPARK_CONNECT_AUTHENTICATE_TOKEN"]
    assert len(token) >= 32
    assert _spark_version(int((_folder(held) / "port").read_text()), token).startswith("4.2")


def test_the_servers_folder_can_be_read_by_its_owner_only(held: Started) -> None:
    assert _folder(held).stat().st_mode & 0o077 == 0


def test_the_token_is_on_no_command_line_and_in_no_file(held: Started) -> None:
    token = held.environment()["SPARK_CONNECT_AUTHENTICATE_TOKEN"]
    assert held.jvm in held.place.processes()
    assert [command for command in held.place.processes().values() if token in command] == []
    files = [file for root in (held.place.folder, _folder(held)) for file in root.rglob("*") if file.is_file()]
    assert "mlflow.db" in [file.name for file in files]
    assert [file.name for file in files if token.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_the_jvm_ends_when_its_driver_does(tmp_path: Path, name: str) -> None:
    with started(place_in(tmp_path)) as workflow:
        assert workflow.is_up()
        workflow.driver.send_signal(signal.Signals[name])
        assert until(lambda: not workflow.is_up(), seconds=10)
        assert until(lambda: workflow.driver.poll() is not None, seconds=10)


def test_workers_run_this_python_whatever_the_machine_says(tmp_path: Path) -> None:
    script = """
import sys
from steps.core import spark
def version(batches):
    for batch in batches:
        yield batch.assign(id=sys.version_info.minor)
with spark.session(data_bytes=0) as session:
    print(session.range(1).mapInPandas(version, "id long").collect()[0].id == sys.version_info.minor)
"""
    elsewhere = {"PYSPARK_PYTHON": "/nowhere/python", "PYSPARK_DRIVER_PYTHON": "/nowhere/python"}
    ended = Place(tmp_path, {**elsewhere, "PYTHONPATH": str(PROJECT)}).run(sys.executable, "-c", script)
    assert ended.out == "True\n", ended.text
