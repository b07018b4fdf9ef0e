"""The entry point `serve` as its user starts it: load while the alias moves, its end, and mistakes."""

import contextlib
import datetime as dt
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
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


def test_a_csv_body_is_read_by_the_rules_of_the_config_as_its_source_was(tmp_path: Path) -> None:
    """Numbers with a comma, days, moments of a zone, words for true and false, and what stands for a missing value."""
    place = Place(tmp_path)
    rows = [
        f"{1000 + number % 7},{number % 10};{number % 5 or -9};{'WAHR' if number % 3 else 'FALSCH'};"
        f"{1 + number % 28:02}.0{1 + number % 9}.2024;0{1 + number % 9}/07/2024 23:30;{number % 4 or 'k.A.'};"
        f"{'ja' if number % 7 > 3 else 'nein'}"
        for number in range(400)
    ]
    rows[1] = "1.004,5; -9 ;WAHR;31.12.1899;01/07/2024 00:10; k.A.;ja"
    names = ["price", "visits", "member", "born", "seen", "shop"]
    (tmp_path / "rows.csv").write_text("\n".join([";".join([*names, "buys"]), *rows]))
    columns = {
        "price": {"type": "double", "decimal_mark": ","},
        "visits": {"type": "long", "missing": [-9]},
        "member": {"type": "boolean", "true_texts": ["WAHR"], "false_texts": ["FALSCH"]},
        "born": {"type": "date", "format": "%d.%m.%Y", "missing": ["31.12.1899"]},
        "seen": {"type": "timestamp", "format": "%d/%m/%Y %H:%M", "zone": "Europe/Berlin"},
        "shop": {"type": "string", "missing": ["k.A."]},
        "buys": {"type": "string"},
    }
    config = place.config(
        name="shop", source={"uri": "rows.csv"}, columns=columns, target="buys", model={"name": "shop_model"}, gate={}
    )
    for step in ("ingest", "train"):
        ended = place.step(step, config=config)
        assert ended.exit_code == 0, ended.text
    table = rows_of(place.lake("shop")).select(names)
    assert [table[name].null_count for name in names] == [0, 81, 0, 1, 0, 101]
    given = [",".join(f'"{cell}"' for cell in row.split(";")[:-1]) for row in rows]

    server = Server(tmp_path, model="models:/shop_model/1", log="true", lake=tmp_path / "lake")
    server.start()

    def send(*rows: str) -> requests.Response:
        body = "\n".join([",".join(names), *rows])
        return requests.post(f"{server.url}/invocations", body, headers={"Content-Type": "text/csv"}, timeout=30)

    answer = send(*given)
    assert answer.status_code == 200, answer.text
    of_json = {"price": 1.5, "visits": -9, "member": True, "born": "2024-05-28", "seen": None, "shop": "k.A."}
    alike = [
        of_json,
        {**of_json, "visits": None, "shop": None},
        {**of_json, "born": "28.05.2024", "visits": "", "seen": " ", "shop": ""},
    ]
    told = server.post({"dataframe_records": alike}).json()["predictions"]
    assert told == [told[0]] * 3
    for born, seen, why in (
        ("2024-05-28", "01/07/2024 00:10", "column 'born': values such as '2024-05-28' are not of type date by the"),
        ("28.05.2024", "31/03/2024 02:30", "column 'seen': values such as '31/03/2024 02:30' are at an hour that does"),
    ):
        refused = send(f'"1,5",1,WAHR,{born},{seen},1')
        assert refused.status_code == 400
        assert f"row 0, {why}" in refused.json()["message"]
    assert server.ended_by(signal.SIGTERM) == 0

    logged = rows_of(str(tmp_path / "lake" / "shop_requests")).to_pylist()
    of_csv = sorted(
        (row for row in logged if row["request_id"] == answer.headers["X-Request-Id"]), key=itemgetter("row")
    )
    assert [{name: row[name] for name in names} for row in of_csv] == table.to_pylist()
    assert answer.json()["predictions"] == [
        {
            "prediction": row["prediction"],
            "probability": row["probability"],
            "probabilities": dict(row["probabilities"]),
        }
        for row in of_csv
    ]
    of_json_rows = [[row[name] for name in ("born", "visits", "seen", "shop")] for row in logged if row not in of_csv]
    assert of_json_rows == [[dt.date(2024, 5, 28), None, None, None]] * 3
