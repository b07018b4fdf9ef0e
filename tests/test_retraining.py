"""A model in use, from its first version to the next: served, watched, trained again when the world has moved."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import yaml
from place import Place, until
from served import Server

FEATURES = ["age", "income", "visits"]
ROWS = 5  # of a request
CONFIG: dict[str, Any] = {
    "name": "offers",
    "source": {"uri": "answers"},
    "columns": {
        "customer": {"type": "long"},
        "day": {"type": "date", "feature": False},
        **{name: {"type": "double"} for name in FEATURES},
        "accepted": {"type": "string", "allowed": ["no", "yes"]},
    },
    "key": ["customer"],
    "mode": "append",
    "target": "accepted",
    "split": {"train_on": "window", "window": {"column": "day", "days": 30}},
    "model": {"name": "offers_model", "num_boost_round": 40, "max_depth": 3},
    "monitor": {"current": "requests"},
}


def customers(count: int, *, day: str, first: int, income: float) -> pd.DataFrame:
    """Those of a day; who accepts follows from the income beside what is usual then, and from the visits."""
    random = np.random.default_rng(first)
    rows = pd.DataFrame(
        {
            "customer": np.arange(first, first + count),
            "day": day,
            "age": random.normal(45, 12, count).round(),
            "income": random.normal(income, 1, count).round(3),
            "visits": random.poisson(3, count).astype(float),
        }
    )
    rows["accepted"] = np.where(rows["income"] - income + (rows["visits"] > 3) > 0.3, "yes", "no")
    return rows


class Clients:
    """Four that ask all the time about some rows; `counts` has the rows answered by status and by model."""

    def __init__(self, url: str) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()
        self.rows: Iterator[list[float]] = itertools.cycle([[45.0, 1.0, 3.0]])
        self._url, self._ended, self._lock = url, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def ask_about(self, customers: pd.DataFrame) -> None:
        self.rows = itertools.cycle(customers[FEATURES].to_numpy().tolist())

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._ended.wait(0.1):
                with self._lock:
                    rows = list(itertools.islice(self.rows, ROWS))
                body = json.dumps({"dataframe_split": {"columns": FEATURES, "data": rows}})
                headers = {"Content-Type": "application/json"}
                answer = session.post(f"{self._url}/invocations", data=body, headers=headers, timeout=30)
                with self._lock:
                    self.counts[answer.status_code, answer.headers.get("X-Model-Uri", "")] += ROWS


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "answers").mkdir()
    (tmp_path / "offers.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return Place(tmp_path)


@pytest.fixture
def clients(place: Place) -> Iterator[Clients]:
    answer(place, customers(1500, day="2026-01-10", first=0, income=0))
    assert place.step("main", config="offers.yaml").exit_code == 0
    assert place.step("promote", config="offers.yaml").exit_code == 0
    server = Server(place.folder, config="offers.yaml", model="", log="true", log_seconds=1)
    server.start()
    clients = Clients(server.url)
    yield clients
    clients.end()
    server.stop()


def answer(place: Place, rows: pd.DataFrame) -> None:
    """What these customers did is known now."""
    rows.to_csv(place.folder / "answers" / f"{rows['customer'].iloc[0]}.csv", index=False)


@pytest.mark.spark
def test_a_world_that_moves_is_told_learnt_and_served_without_a_failed_request(place: Place, clients: Clients) -> None:
    def when_alert() -> str:
        ended = place.step("main", config="offers.yaml", when="alert")
        assert ended.exit_code == 0, ended.text
        return ended.text

    first, second = (f"models:/offers_model/{version}" for version in (1, 2))
    clients.ask_about(customers(2000, day="2026-01-11", first=10_000, income=0))
    assert until(lambda: clients.counts[200, first] > 400)
    told = when_alert()
    assert f"No new version is due: monitor says ok of {first}" in told

    later = customers(2000, day="2026-03-20", first=20_000, income=4)
    clients.ask_about(later)
    before = clients.counts[200, first]
    assert until(lambda: clients.counts[200, first] > before + 1500, seconds=60)
    told = when_alert()
    assert f"A new version is due: monitor says alert of {first}: " in told
    assert "income: PSI" in told
    assert "There is nothing new to learn from" in told

    answer(place, later)
    told = when_alert()
    assert "A new version is due: monitor says alert" in told
    assert "nothing new" not in told
    named = place.client.get_registered_model("offers_model").aliases
    assert {alias: int(version) for alias, version in named.items()} == {"staging": 2, "production": 1}
    assert place.step("promote", config="offers.yaml").exit_code == 0
    assert until(lambda: clients.counts[200, second] > 500, seconds=60)
    assert f"No new version is due: monitor says ok of {second}" in when_alert()
    assert set(clients.counts) == {(200, first), (200, second)}
