"""The entry point `serve` as its user starts it: load while the alias moves, its end, and mistakes."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow.pyfunc import load_model
from place import Place, rows_of, until
from served import FEATURES, FOLLOWED, NAME, ROW, Server, point, register, registry_in
from small import FLOWERS, fit, flower_parts, flowers, flowers_config, flowers_model, sqlite


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry with two versions that answer differently."""
    folder = tmp_path_factory.mktemp("registry")
    with registry_in(folder):
        register(flowers_model())
        register(fit(flowers_config(model={**FLOWERS["model"], "max_depth": 1}), flower_parts()))
        point("production", "1")
        yield folder


def expected_answers() -> dict[str, Any]:
    """What each version answers to five flowers, by MLflow's own way to load it."""
    answers = {}
    for version in ("1", "2"):
        uri = f"models:/{NAME}/{version}"
        predicted: Any = load_model(uri).predict(flowers(5)[FEATURES])
        answers[uri] = json.loads(json.dumps(predicted.to_dict(orient="records")))
    return answers


def test_answers_are_of_one_version_each_and_none_fails_while_the_alias_moves(folder: Path) -> None:
    rows = flowers(5)[FEATURES].astype(object)
    body = {"dataframe_split": {"columns": FEATURES, "data": rows.where(rows.notna(), None).to_numpy().tolist()}}
    expected = expected_answers()
    assert len({json.dumps(answer) for answer in expected.values()}) == 2
    server = Server(folder)
    server.start()
    ended, counts, failures = threading.Event(), Counter[str](), list[str]()

    def ask() -> None:
        with requests.Session() as session:
            while not ended.is_set():
                response = session.post(f"{server.url}/invocations", json=body, timeout=30)
                uri = response.headers.get("X-Model-Uri", "")
                counts[uri] += 1
                if response.status_code != 200 or response.json()["predictions"] != expected[uri]:
                    failures.append(f"{response.status_code} {uri} {response.text}")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in ("2", "1", "2", "1", "2"):
        point("production", version)
        uri = f"models:/{NAME}/{version}"
        before = counts[uri]
        assert until(lambda uri=uri, before=before: counts[uri] > before + 20, seconds=20), server.told  # type: ignore[misc]
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(counts.values()) > 50
    assert server.told.count("answers in place of") == 5
    assert server.ended_by(signal.SIGTERM) == 0
    point("production", "1")


def test_it_says_where_it_answers_and_a_signal_lets_it_finish_what_was_begun(folder: Path) -> None:
    server = Server(folder)
    server.start()
    assert f"serve: models:/{NAME}/1 (production, followed) answers at {server.url}, described at" in server.told
    head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    body = json.dumps({"dataframe_records": [ROW]})
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.format(len(body)).encode() + body[:10].encode())
        time.sleep(0.3)
        ended: list[int] = []
        stopping = threading.Thread(target=lambda: ended.append(server.ended_by(signal.SIGTERM)))
        stopping.start()
        time.sleep(1)
        with pytest.raises(requests.ConnectionError, match="refused"):
            server.post({"dataframe_records": [ROW]})
        connection.sendall(body[10:].encode())
        assert b" 200 OK" in connection.recv(2**16)
    stopping.join()
    assert ended == [0]
    assert "Traceback" not in server.told
    runs = mlflow.MlflowClient().search_runs(["0"], "tags.mlflow.runName = 'serve'", max_results=1)
    assert runs[0].info.status == "FINISHED"


def test_ctrl_c_ends_it_well(folder: Path) -> None:
    server = Server(folder, model=f"models:/{NAME}/2")
    server.start()
    assert f"serve: models:/{NAME}/2 answers at" in server.told
    assert server.ended_by(signal.SIGINT) == 0
    assert "Traceback" not in server.told


def test_several_workers_follow_the_alias_and_count_together(folder: Path) -> None:
    point("production", "1")
    server = Server(folder, workers=2)
    server.start()
    assert until(lambda: f"serve: models:/{NAME}/1 (production, followed) answers at {server.url}" in server.told)
    workers = [pid for pid, command in server.place.processes().items() if "spawn_main" in command]
    assert len(workers) == 2
    assert until(lambda: server.metric("serving_model_loads_total") == 2, seconds=60)
    for _ in range(40):
        assert server.post({"dataframe_records": [ROW, ROW]}).status_code == 200
    assert server.metric("serving_rows_total") == 80
    point("production", "2")
    answered = [f"models:/{NAME}/2"] * 20
    assert until(
        lambda: [server.post({"dataframe_records": [ROW]}).headers["X-Model-Uri"] for _ in range(20)] == answered
    )
    os.kill(workers[0], signal.SIGKILL)  # as the kernel does for want of memory
    assert until(lambda: len(server.place.processes()) >= 3 and workers[0] not in server.place.processes())
    assert until(lambda: server.metric("serving_model_loads_total") == 5, seconds=60), server.told
    assert server.ended_by(signal.SIGTERM) == 0
    assert until(lambda: not server.place.processes())
    point("production", "1")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"port": "http"}, "port='http': input should be a valid integer"),
        ({"port": 70000}, "port='70000': input should be less than or equal to 65535"),
        ({"rows_at_most": 0}, "rows_at_most='0': input should be greater than or equal to 1"),
        ({"model": "models:/nobody/1"}, "ModelNotFound: models:/nobody/1 does not exist"),
        ({"model": f"models:/{NAME}@nowhere"}, f"ModelNotFound: models:/{NAME}@nowhere does not exist"),
        ({"model": f"models:/{NAME}@nowhere"}, "next      let the alias name a version (`mlflow run . -e promote`"),
        ({"model": NAME}, f"ModelNotFound: '{NAME}' does not name a version of a model"),
        ({"name": "nobody"}, "ModelNotFound: models:/nobody@production does not exist"),
        ({"port": "taken"}, "AddressUnusable: the server cannot listen at 127.0.0.1, port"),
    ],
)
def test_a_mistake_is_one_message(folder: Path, given: dict[str, object], told: str) -> None:
    place = Place(folder, {"MLFLOW_TRACKING_URI": sqlite(folder)})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = {name: taken.getsockname()[1] if value == "taken" else value for name, value in given.items()}
        ended = place.step("serve", **{"port": 0, **({} if "name" in given else {"model": FOLLOWED}), **given})
    assert ended.exit_code == 1
    assert told in ended.err
    assert "Traceback" not in ended.text
    assert ended.out == ""


def test_each_answered_row_is_in_the_request_log_once_though_the_server_is_killed(folder: Path) -> None:
    lake = folder / "lake"
    server = Server(folder, log="true", lake=lake)
    server.start()
    ended, answered = threading.Event(), list[str]()

    def ask(who: int) -> None:
        for number in range(10**6):
            if ended.is_set():
                return
            name = f"{who}-{number}"
            with contextlib.suppress(requests.RequestException):  # it was killed
                response = requests.post(
                    f"{server.url}/invocations",
                    json={"dataframe_records": [ROW, ROW]},
                    headers={"X-Request-Id": name},
                    timeout=30,
                )
                answered.extend([name] if response.status_code == 200 else [])

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    assert until(lambda: len(answered) > 50, seconds=30), server.told
    server.stop()
    before = len(answered)
    server.start()
    assert until(lambda: len(answered) > before, seconds=30), server.told
    ended.set()
    for thread in threads:
        thread.join()
    log = requests.get(f"{server.url}/health", timeout=30).json()["log"]
    assert (log["status"], log["dropped_rows"]) == ("ok", 0)
    assert server.ended_by(signal.SIGTERM) == 0
    rows = rows_of(str(lake / "flowers_requests")).to_pylist()
    counts = Counter(row["request_id"] for row in rows)
    assert set(counts.values()) == {2}
    assert set(answered) <= set(counts)
    assert len(counts) <= len(answered) + len(threads)  # those that were on their way when it was killed
    assert {(row["model_uri"], row["petals"], row["color"]) for row in rows} == {(f"models:/{NAME}/1", 5, "red")}
