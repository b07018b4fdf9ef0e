"""The JVM of a workflow: who can reach it, that it ends with the process that started it, and what its own end does."""

import contextlib
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pyarrow.parquet as pq
import pytest
from place import PROJECT, Place, new_database, until
from py4j.clientserver import ClientServer, JavaParameters, PythonParameters
from py4j.protocol import Py4JError
from pyspark.sql.connect.proto import AnalyzePlanRequest, SparkConnectServiceStub
from sklearn.datasets import load_iris

from steps.core.errors import SettingInvalid, SparkUnavailable
from steps.core.process import waiting
from steps.core.spark import connect_server, jvm, session
from steps.core.spark.session import spark_session

pytestmark = pytest.mark.spark

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")  # in /proc/net/tcp*
LISTENING = "0A"


@dataclass(frozen=True, kw_only=True)
class Started:
    """A running `python main.py` and the JVM that it started."""

    place: Place
    driver: subprocess.Popen[bytes]
    jvm: int

    @property
    def text(self) -> str:
        return (self.place.folder / "output.txt").read_text()

    @property
    def step(self) -> int | None:
        """The process of the step that is at work."""
        commands = self.place.processes().items()
        return next((pid for pid, words in commands if "-m steps " in words and "/java " not in words), None)

    def is_gone(self) -> bool:
        return self.driver.poll() is not None and self.place.processes() == {}

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return "java" in Path(f"/proc/{self.jvm}/cmdline").read_text().split("\0")[0]
        return False

    def environment(self) -> dict[str, str]:
        words = Path(f"/proc/{self.jvm}/environ").read_text().rstrip("\0").split("\0")
        return dict(word.split("=", 1) for word in words)


@contextlib.contextmanager
def started(place: Place, *command: str | Path) -> Iterator[Started]:
    """`python main.py`, or another command of Python's, where `place` is; what it started is ended afterwards."""
    with (place.folder / "output.txt").open("wb") as output:
        driver = subprocess.Popen(
            [sys.executable, *(command or [PROJECT / "main.py", "--source=iris.csv"])],
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Processes are stopped here. When a step ends, Linux sends SIGHUP to a group that has a stopped one in it.
            start_new_session=True,
        )

    def jvms() -> list[int]:
        found = place.processes().items()
        return [
            pid for pid, words in found if "SparkSubmit" in words and "/java " in words and ".launcher." not in words
        ]

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


def place_in(folder: Path, **extra: str) -> Place:
    """A place whose scratch files stay in `folder`: a process that is killed leaves them. Spark reads its iris.csv."""
    (folder / "tmp").mkdir()
    new_database(folder)
    flowers = load_iris(as_frame=True)
    flowers.frame.assign(target=flowers.target_names[flowers.target]).to_csv(folder / "iris.csv", index=False)
    settings = {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(PROJECT), "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"}
    return Place(folder, {**settings, **extra})


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A workflow whose server is up and whose driver is held still, so that it does not end during the tests."""
    with started(place_in(tmp_path_factory.mktemp("held"))) as workflow:
        assert until((_folder(workflow) / "port").exists, seconds=60)
        workflow.driver.send_signal(signal.SIGSTOP)
        yield workflow


def workers(workflow: Started) -> list[int]:
    """Python's processes that work for its JVM, with the one that forks them."""
    return [pid for pid, words in workflow.place.processes().items() if "pyspark.daemon" in words]


def is_running(place: Place, step: str) -> bool:
    return any(run.info.run_name == step and run.info.status == "RUNNING" for run in place.runs())


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


def test_files_have_their_names_and_workers_this_python_whatever_the_machine_says(tmp_path: Path) -> None:
    (tmp_path / "fêtes").mkdir()
    (tmp_path / "fêtes" / "é 日.csv").write_text("x\n1\n", encoding="utf-8")
    script = f"""
import sys
from steps.core.spark.session import spark_session
def version(batches):
    for batch in batches:
        yield batch.assign(id=sys.version_info.minor)
with spark_session(data_bytes=0) as session:
    rows = session.read.option("header", True).csv("file:{tmp_path}/fêtes/é 日.csv")
    rows.selectExpr("lower('I') as i", "x").write.parquet("file:{tmp_path}/fêtes/out")
    print(session.range(1).mapInPandas(version, "id long").collect()[0].id == sys.version_info.minor)
"""
    elsewhere = {"PYSPARK_PYTHON": "/nowhere/python", "PYSPARK_DRIVER_PYTHON": "/nowhere/python", "LC_ALL": "C"}
    ended = Place(tmp_path, {**elsewhere, "PYTHONPATH": str(PROJECT)}).run(sys.executable, "-c", script)
    assert ended.out == "True\n", ended.text
    assert pq.read_table(tmp_path / "fêtes" / "out").to_pylist() == [{"i": "i", "x": "1"}]
    assert [path.name for path in tmp_path.iterdir() if "?" in path.name] == []


WAITS = """
import time
from steps.core import errors
from steps.core.spark.session import spark_session
def wait(batches):
    time.sleep(300)
    yield from batches
try:
    with spark_session(data_bytes=0) as session:
        print("up", flush=True)
        {query}
except errors.UserError as err:
    raise SystemExit(str(err))
"""
FOR_EVER = 'session.range(1).mapInPandas(wait, "id long").collect()'


def is_one_message(text: str, reason: str) -> None:
    """SparkUnavailable, for a reason that fits the pattern, and no more but what a step says of its progress."""
    *before, given, expected, following = text.splitlines()
    assert re.match(rf"SparkUnavailable: Spark cannot be used: {reason}", given), text
    assert (expected[:12], following[:12]) == ("  expected  ", "  next      ")
    assert [line for line in before if "Traceback" in line or "Error" in line or "Warning" in line] == [], text


class TestAJvmThatIsKilled:
    @pytest.mark.parametrize(
        ("is_up", "reason"),
        [(False, "its JVM did not start"), (True, "its JVM was ended by SIGKILL")],
        ids=["while it starts", "when it is up"],
    )
    def test_ends_the_whole_workflow_within_seconds_with_the_reason(
        self, tmp_path: Path, is_up: bool, reason: str
    ) -> None:
        with started(place_in(tmp_path)) as workflow:
            if is_up:
                assert until((_folder(workflow) / "port").exists, seconds=60)
                assert until(lambda: workflow.step, seconds=60)
            os.kill(workflow.jvm, signal.SIGKILL)
            assert until(workflow.is_gone, seconds=15), workflow.text  # the step's imports are among them
            assert workflow.driver.returncode == 1
            assert f"\ningest failed\nSparkUnavailable: Spark cannot be used: {reason}" in workflow.text
            assert "Traceback" not in workflow.text
        assert {run.info.status for run in workflow.place.runs()} == {"FAILED"}

    def test_ends_a_query_that_would_go_on_without_end(self, tmp_path: Path) -> None:
        with started(place_in(tmp_path), "-c", WAITS.format(query=FOR_EVER)) as session:
            assert until(lambda: "up" in session.text, seconds=60)
            assert until(lambda: workers(session), seconds=60)  # of Python, which work at the query
            os.kill(session.jvm, signal.SIGKILL)
            assert until(session.is_gone, seconds=5)
            is_one_message(session.text, "its JVM was ended by SIGKILL")


def test_a_connection_that_the_jvm_drops_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """It may end while py4j waits for an answer, for which py4j logs a traceback beside the error that it raises."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: _drop(server.accept()[0]), daemon=True).start()
        gateway = ClientServer(JavaParameters(port=server.getsockname()[1]), PythonParameters(port=0))
        root = logging.getLogger()
        root.addFilter(connect_server.is_not_from_py4j)
        try:
            with pytest.raises(Py4JError, match="System does not exist in the JVM"):
                gateway.jvm.System.currentTimeMillis()
        finally:
            gateway.shutdown_callback_server()
            root.removeFilter(connect_server.is_not_from_py4j)
    assert capfd.readouterr().err == ""


def _drop(connection: socket.socket) -> None:
    """Reset it as soon as something was asked, as the kernel does for a process that is killed."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_jvm_that_runs_out_of_memory_says_so_and_which_setting_helps(tmp_path: Path) -> None:
    much = "session.sql(\"select repeat('x', 1500000000)\").collect()"
    place = place_in(tmp_path, SPARK_DRIVER_MEMORY="600m")
    ended = place.run(sys.executable, "-c", WAITS.format(query=much))
    is_one_message(ended.text, r"its JVM ran out of memory, of which it may use 600 MiB: .*OutOfMemoryError")
    assert "set SPARK_DRIVER_MEMORY to more" in ended.text


@pytest.mark.parametrize(
    ("exit_code", "killed_by_kernel", "log", "reason", "advice"),
    [
        (
            -9,
            True,
            "",
            "the kernel ended its JVM because the machine is out of memory",
            "set SPARK_DRIVER_MEMORY to less",
        ),
        (-9, False, "", "its JVM was ended by SIGKILL, from outside", "set SPARK_DRIVER_MEMORY to less"),
        (
            3,
            False,
            "Error: java.lang.OutOfMemoryError: Metaspace",
            "OutOfMemoryError: Metaspace",
            "DRIVER_MEMORY to more",
        ),
        (1, False, "info\nError: no such host\nbye", "its JVM ended with exit code 1: Error: no such host", ""),
        (None, False, "", "its JVM did not start: its log names no error", ""),
    ],
)
def test_the_end_of_a_jvm_is_told_with_what_helps(
    exit_code: int | None, killed_by_kernel: bool, log: str, reason: str, advice: str
) -> None:
    because, next_step = jvm.end_reason(log, exit_code=exit_code, killed_by_kernel=killed_by_kernel)
    assert reason in because
    assert advice in next_step


def test_a_size_of_memory_that_is_none_is_refused_before_a_jvm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_DRIVER_MEMORY", "much")
    with (
        pytest.raises(SettingInvalid, match="SPARK_DRIVER_MEMORY=much in the environment"),
        connect_server.serve(data_bytes=0),
    ):
        pass


def test_a_server_that_stands_still_is_told_within_the_limit(tmp_path: Path) -> None:
    place = place_in(tmp_path, WORKFLOW_ANSWER_SECONDS="5")
    with started(place, "-c", WAITS.format(query=FOR_EVER)) as session:
        assert until(lambda: "up" in session.text, seconds=60)
        os.kill(session.jvm, signal.SIGSTOP)
        assert until(session.is_gone, seconds=20)
        is_one_message(session.text, r"sc://localhost:\d+: it does not answer, for 5 s now")


class TestWhileAJvmStarts:
    """It is held still, as a busy machine does for half a minute."""

    @pytest.fixture
    def starting(self, tmp_path: Path) -> Iterator[Started]:
        with started(place_in(tmp_path)) as workflow:
            os.kill(workflow.jvm, signal.SIGSTOP)
            assert until(lambda: workflow.step, seconds=60)
            yield workflow

    def test_a_step_that_is_killed_ends_the_driver_at_once(self, starting: Started) -> None:
        assert starting.step
        os.kill(starting.step, signal.SIGKILL)
        assert until(starting.is_gone, seconds=15), starting.place.processes()
        assert "ingest failed\nit ended without a message" in starting.text

    def test_a_driver_that_is_told_to_end_does_so_and_marks_its_runs(self, starting: Started) -> None:
        assert until(lambda: is_running(starting.place, "ingest"), seconds=60)  # after its imports
        starting.driver.send_signal(signal.SIGTERM)
        assert until(starting.is_gone, seconds=20), starting.place.processes()
        assert starting.driver.returncode == 128 + signal.SIGTERM
        # Marked last of all, so nothing of it had to wait for the JVM: the time for it is limited.
        assert {run.info.status for run in starting.place.runs()} == {"KILLED"}


@pytest.fixture
def remote(held: Started, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Say how this process is to reach the server of `held` by SPARK_REMOTE."""
    for name in (connect_server.FOLDER_VARIABLE, connect_server.TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    port = (_folder(held) / "port").read_text()
    return lambda parameters: monkeypatch.setenv("SPARK_REMOTE", f"sc://localhost:{port}{parameters}")


class TestAServerThatSparkRemoteNames:
    @pytest.mark.parametrize(
        ("parameters", "reason"),
        [("", "refuses a client without a token"), ("/;token=0000", "refuses this token")],
        ids=["none", "wrong"],
    )
    def test_says_which_token_it_refuses_and_how_one_is_given(
        self, remote: Callable[[str], None], parameters: str, reason: str
    ) -> None:
        remote(parameters)
        with pytest.raises(SparkUnavailable, match=reason) as refused, spark_session(data_bytes=0):
            pass
        assert "set SPARK_REMOTE=sc://host:port/;token=..." in str(refused.value)
        assert "0000" not in str(refused.value)

    @pytest.mark.parametrize("address", ["localhost:15002", "sc://localhost:15002;token=secret-5f", "sc://:15002"])
    def test_is_told_by_an_address_that_is_one(self, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        monkeypatch.setenv("SPARK_REMOTE", address)
        with pytest.raises(SparkUnavailable, match="is no address of a Spark Connect") as refused:
            spark_session(data_bytes=0).__enter__()
        assert "sc://host:port/;token=..." in str(refused.value)
        assert "secret-5f" not in str(refused.value)

    def test_that_is_not_there_is_told_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPARK_REMOTE", "sc://localhost:9")
        began = time.monotonic()
        with pytest.raises(SparkUnavailable, match="sc://localhost:9: it does not answer"):
            spark_session(data_bytes=0).__enter__()
        assert time.monotonic() - began < 20

    def test_that_answers_but_runs_no_query_is_waited_for_with_a_word_and_an_end(
        self,
        held: Started,
        remote: Callable[[str], None],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        token = held.environment()["SPARK_CONNECT_AUTHENTICATE_TOKEN"]
        remote(f"/;token={token}")
        monkeypatch.setenv(waiting.LIMIT, "5")
        monkeypatch.setattr(waiting, "ANNOUNCE_SECONDS", 1)
        monkeypatch.setattr(session, "FIRST_QUERY_LIMITS", 1)
        on_all_cores = 'session.range(0, 64, 1, 64).mapInPandas(wait, "id long").collect()'
        environment = {"SPARK_REMOTE": os.environ["SPARK_REMOTE"], "PYTHONPATH": str(PROJECT)}
        place = Place(tmp_path, environment)
        other = subprocess.Popen(
            [sys.executable, "-c", WAITS.format(query=on_all_cores)], env=place.environment, stdout=subprocess.PIPE
        )
        try:
            assert other.stdout
            assert other.stdout.readline() == b"up\n"
            assert until(lambda: len(workers(held)) > len(os.sched_getaffinity(0)), seconds=60)  # and what forks them
            with pytest.raises(SparkUnavailable, match="it answers, but has run no query for 5 s"):
                spark_session(data_bytes=0).__enter__()
        finally:
            other.terminate()
            other.communicate()
        assert "waiting for Spark at sc://localhost:" in capsys.readouterr().err
