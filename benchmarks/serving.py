"""Time the server beside `mlflow models serve`, each with the same model and number of processes, at the same time.

Reads   the project it lies in; vegeta, a load generator (`make bench` builds it)
Writes  benchmarks/SERVING.md, wholly, when all was measured; the same text on stdout always
Fails   exit 1 with the output of a command that fails, or of a server that does not answer or answers wrongly
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import pandas as pd
import psutil
from mlflow.pyfunc import PyFuncModel

from benchmarks.load_generator import Attack, attack, summary
from benchmarks.process_tree import CommandFailed, measure
from benchmarks.workflow import ROOT, fresh_environment, machine

RESULTS = ROOT / "benchmarks" / "SERVING.md"
MODEL = "models:/iris_xgboost_classifier/1"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
MANY_ROWS = 100_000
WORKERS = 1  # processes of each server; two cores serve two servers and the load generator
STEADY_RATE, STEADY_SECONDS = 50, 20  # requests a second, and for how long
CONCURRENCY = 8  # connections of the greatest rate, for half as long
START_SECONDS, END_SECONDS = 180, 20
ANSWER_SECONDS = 120  # for many rows
OURS, LOGGING, MLFLOW = "serve", "serve with log=true", "mlflow models serve"
IN_PROCESS = "`pyfunc.predict` and JSON, in process"
TARGETS = {  # what is asked of the server
    "median": 2.0,  # ms, of one row at the steady rate
    "p99": 10.0,  # ms
    "rate": 4.0,  # times the requests a second of mlflow models serve
    "many": 1.3,  # times the seconds of pyfunc.predict plus JSON
}

HOW = f"""\
## How it was measured

Each server is whole processes of its own ({WORKERS} that answers), started by its command, and all run at the same
time; they are asked in turn, within each repeat, over loopback, by [vegeta](https://github.com/tsenart/vegeta). The
load generator runs on the same cores. At the steady rate a request is sent every {1000 // STEADY_RATE} ms, whether or
not the one before was answered, so that a slow answer does not thin out the load. The greatest rate is that of
{CONCURRENCY} connections, of which each sends the next request when it has its answer. Latencies are of all requests of
all repeats, of one row as `dataframe_split`; each must be answered with status 200. {MANY_ROWS:,} rows are one request,
from its first byte to the last of the answer, in the same form; in process the same body is read by `json.loads` into a
frame, predicted by MLflow's `load_model(...).predict`, and written by `json.dumps`. With `log=true` each row of a
request is kept in a Delta table beside the lake. CPU is what a
server's processes used, on all cores; memory is their resident size after all."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server's processes, at a port of this machine."""

    port: int
    process: subprocess.Popen[bytes]
    start_seconds: float  # until the first answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/invocations"

    def mebibytes(self) -> float:
        return sum(process.memory_info().rss for process in self._processes()) / 2**20

    def cpu_milliseconds(self) -> float:
        """What its processes have used so far, all cores together."""
        return 1000 * sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time the server beside MLflow's, and write benchmarks/SERVING.md.")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--seconds", type=int, default=STEADY_SECONDS, help="of each load; another writes no file")
    args = parser.parse_args(argv)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            text = run(folder, repeats=args.repeats, seconds=args.seconds, load=load)
        except CommandFailed as err:
            print(err, file=sys.stderr)
            return 1
    print(text)
    if args.seconds == STEADY_SECONDS:
        RESULTS.write_text(text)
    return 0


def run(folder: Path, *, repeats: int, seconds: int, load: float) -> str:
    """Train a model, start the servers, load them in turn. The report."""
    environment = {**fresh_environment(folder), "PYTHONPATH": str(ROOT)}
    for step in ("ingest", "train"):
        measure(step, [sys.executable, "-m", "steps", step], folder=folder, environment=environment)
    one, many = (body(folder, rows=rows) for rows in (1, MANY_ROWS))
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(name, command, folder=folder, environment=environment))
            for name, command in COMMANDS.items()
        }
        for server in servers.values():  # what is loaded with the first requests
            attack(server.url, one, rate=STEADY_RATE, seconds=2)
        steady: dict[str, list[Attack]] = {name: [] for name in servers}
        greatest: dict[str, list[Attack]] = {name: [] for name in servers}
        cpu_milliseconds = dict.fromkeys(servers, 0.0)
        many_seconds: dict[str, list[float]] = {name: [] for name in servers}
        for repeat in range(1, repeats + 1):
            for name, server in servers.items():
                steady[name].append(attack(server.url, one, rate=STEADY_RATE, seconds=seconds))
                before = server.cpu_milliseconds()
                greatest[name].append(attack(server.url, one, connections=CONCURRENCY, seconds=seconds // 2))
                cpu_milliseconds[name] += server.cpu_milliseconds() - before
                many_seconds[name].append(seconds_of(partial(answer, server, many)))
                print(f"repeat {repeat} of {repeats}: {name}", file=sys.stderr, flush=True)
        memory = {name: server.mebibytes() for name, server in servers.items()}
        starts = {name: server.start_seconds for name, server in servers.items()}
    model = load_model(environment)
    many_seconds[IN_PROCESS] = [seconds_of(partial(predict, model, many)) for _ in range(repeats)]
    return report(
        steady={name: summary(attacks) for name, attacks in steady.items()},
        greatest={
            name: {**found, "cpu": cpu_milliseconds[name] / found["requests"]}
            for name, found in ((name, summary(attacks)) for name, attacks in greatest.items())
        },
        many={name: statistics.median(times) for name, times in many_seconds.items()},
        memory=memory,
        starts=starts,
        repeats=repeats,
        load=load,
    )


def ours(port: int, *words: str) -> list[str]:
    return [sys.executable, "-m", "steps", "serve", f"--model={MODEL}", f"--port={port}", *words]


def mlflows(port: int) -> list[str]:
    options = ["--env-manager", "local", "--workers", str(WORKERS)]
    return ["mlflow", "models", "serve", "-m", MODEL, "-p", str(port), *options]


COMMANDS: dict[str, Callable[[int], list[str]]] = {
    OURS: ours,
    LOGGING: lambda port: ours(port, "--log=true"),
    MLFLOW: mlflows,
}


@contextlib.contextmanager
def serving(
    name: str, command: Callable[[int], list[str]], *, folder: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """A server for this block, once it answers. CommandFailed when it ends before, or does not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log_path, words = folder / f"{name}.log", command(port)
    began = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while not is_up(port):
            if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise CommandFailed(words, "does not answer", log_path.read_text(errors="replace"))
            time.sleep(0.05)
        yield Server(port=port, process=process, start_seconds=time.monotonic() - began)
    finally:
        end(process)


def is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, also where it has ended itself."""
    for signum, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def body(folder: Path, *, rows: int) -> Path:
    """A request of so many rows, no two alike, as a file."""
    values = [[round(value + number % 997 / 1000, 3) for value in ROW.values()] for number in range(rows)]
    path = folder / f"{rows}.json"
    path.write_text(json.dumps({"dataframe_split": {"columns": list(ROW), "data": values}}))
    return path


def answer(server: Server, request: Path) -> None:
    """CommandFailed unless each row of the request has its prediction."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", request.read_bytes(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    if response.status != 200 or text.count(b'"prediction"') != MANY_ROWS:
        raise CommandFailed([server.url], f"{MANY_ROWS:,} rows are answered with status {response.status}", str(text))


def predict(model: PyFuncModel, request: Path) -> None:
    rows = json.loads(request.read_bytes())["dataframe_split"]
    predicted: pd.DataFrame = model.predict(pd.DataFrame(rows["data"], columns=rows["columns"]))
    json.dumps({"predictions": predicted.to_dict(orient="records")}).encode()


def load_model(environment: Mapping[str, str]) -> PyFuncModel:
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    model: PyFuncModel = mlflow.pyfunc.load_model(MODEL)
    return model


def seconds_of(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(
    *,
    steady: Mapping[str, Mapping[str, float]],
    greatest: Mapping[str, Mapping[str, float]],
    many: Mapping[str, float],
    memory: Mapping[str, float],
    starts: Mapping[str, float],
    repeats: int,
    load: float,
) -> str:
    """SERVING.md as text. `load` is the machine's load average before the first command."""
    parts = [
        "# How fast the server answers",
        "Written by `python -m benchmarks.serving`; do not edit.",
        machine(load=load),
        f"Iris, {WORKERS} process each; repeats: {repeats}.",
        "\n".join(latency_table(steady, greatest)),
        "\n".join(other_table(many, memory, starts)),
        "\n".join(targets(steady, greatest, many)),
        HOW,
    ]
    return "\n\n".join(parts) + "\n"


def latency_table(
    steady: Mapping[str, Mapping[str, float]], greatest: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    yield "| one row a request | requests/s | median ms | 99th of 100, ms | max ms | CPU, ms a request |"
    yield "|---|--:|--:|--:|--:|--:|"
    for what, numbers in (("steady", steady), (f"{CONCURRENCY} connections", greatest)):
        for name, found in numbers.items():
            times = " | ".join(f"{found[key]:.1f}" for key in ("median", "p99", "max"))
            cpu = f"{found['cpu']:.2f}" if "cpu" in found else ""
            yield f"| `{name}`, {what} | {found['rate']:,.0f} | {times} | {cpu} |"


def other_table(many: Mapping[str, float], memory: Mapping[str, float], starts: Mapping[str, float]) -> Iterator[str]:
    yield f"| | {MANY_ROWS:,} rows, s | start, s | MiB |"
    yield "|---|--:|--:|--:|"
    for name, seconds in many.items():
        rest = f"{starts[name]:.1f} | {memory[name]:.0f}" if name in starts else " | "
        yield f"| {name if name == IN_PROCESS else f'`{name}`'} | {seconds:.2f} | {rest} |"


def targets(
    steady: Mapping[str, Mapping[str, float]], greatest: Mapping[str, Mapping[str, float]], many: Mapping[str, float]
) -> Iterator[str]:
    """Each as a line of a list, with what was found."""
    times = greatest[OURS]["rate"] / greatest[MLFLOW]["rate"]
    share = many[OURS] / many[IN_PROCESS]
    rows = (
        ("ms for one row at the median", steady[OURS]["median"], "at most", TARGETS["median"]),
        ("ms for one row at the 99th of 100", steady[OURS]["p99"], "at most", TARGETS["p99"]),
        ("times the requests a second of `mlflow models serve`", times, "at least", TARGETS["rate"]),
        (f"times the seconds of {IN_PROCESS}, for {MANY_ROWS:,} rows", share, "at most", TARGETS["many"]),
    )
    for what, found, bound, target in rows:
        is_met = found <= target if bound == "at most" else found >= target
        yield f"- {found:.2f} {what}: {bound} {target:g}, {'met' if is_met else 'missed'}"


if __name__ == "__main__":
    sys.exit(main())
