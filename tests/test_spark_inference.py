"""A table that one process cannot hold is scored by Spark's workers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from place import PROJECT, Ended, Place, new_database, rows_of, until
from small import OF_EVERY_TYPE, flowers

pytestmark = pytest.mark.spark

PLAIN = {"double", "long", "boolean", "string", "date", "timestamp"}
BY_WORKERS = {"PYTHONPATH": str(PROJECT), "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"}
SCORED = ["prediction", "probability", "probabilities"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, served: dict[str, str]) -> Place:
    """Where a table with every type was ingested, and a model of it has passed the gate."""
    place = Place(tmp_path_factory.mktemp("workers"), served)
    new_database(place.folder)
    rows = flowers(300)
    rows["day"] = pd.date_range("1990-01-01", periods=len(rows)).date
    rows["at"] = [f"2024-02-29T23:59:{second % 60:02}.123456Z" for second in range(len(rows))]
    rows.loc[::7, ["day", "at"]] = None
    rows.to_csv(place.folder / "flowers.csv", index=False)
    config = place.config(
        name="flowers",
        source={"uri": "flowers.csv"},
        columns=OF_EVERY_TYPE,
        target="species",
        model={"name": "flowers_model", "num_boost_round": 20},
        gate={"at_least": 0.5},
    )
    config.rename(place.folder / "flowers.yaml")
    for step in ("ingest", "train", "evaluate", "infer"):
        ended = place.step(step, config="flowers.yaml")
        assert ended.exit_code == 0, ended.text
    return place


def infer_by_workers(place: Place, name: str, **extra: str) -> Ended:
    """infer of the same table into the predictions of another config, as if it did not fit in memory."""
    elsewhere = Place(place.folder, {**place.extra, **BY_WORKERS, **extra})
    return elsewhere.run(sys.executable, "-m", "steps", "infer", *given_to_infer(place, name))


def given_to_infer(place: Place, name: str) -> list[str]:
    """Its parameters, of which the config is made here."""
    config = (place.folder / "flowers.yaml").read_text().replace("name: flowers\n", f"name: {name}\n", 1)
    (place.folder / f"{name}.yaml").write_text(config)
    return [f"--config={name}.yaml", f"--table={place.lake('flowers')}", "--model=models:/flowers_model@staging"]


def is_equal_to_what_was_scored_in_memory(place: Place, name: str) -> bool:
    expected, scored = (rows_of(place.lake(f"{table}_predictions")) for table in ("flowers", name))
    assert scored.schema.names == expected.schema.names
    columns = [*OF_EVERY_TYPE, *SCORED, "model_uri", "table_uri"]
    return sorted(map(repr, scored.select(columns).to_pylist())) == sorted(
        map(repr, expected.select(columns).to_pylist())
    )


@pytest.fixture(scope="module")
def scored(trained: Place) -> Ended:
    return infer_by_workers(trained, "by_workers")


class TestWorkersOfThisMachine:
    def test_they_score_to_the_last_bit_as_one_process_does(self, trained: Place, scored: Ended) -> None:
        assert scored.exit_code == 0, scored.text
        assert scored.out == f"infer: predictions = {trained.lake('by_workers_predictions@v0')}\n"
        assert is_equal_to_what_was_scored_in_memory(trained, "by_workers")

    def test_every_type_is_plain_for_a_second_reader(self, trained: Place, scored: Ended) -> None:
        for name in ("flowers", "flowers_predictions", "by_workers_predictions"):
            table = DeltaTable(trained.lake(name))
            kinds = {field.name: field.type for field in table.schema().fields}
            assert {getattr(kind, "type", "") for kind in kinds.values()} - {"map"} <= PLAIN, kinds
            assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
        probabilities = pa.schema(DeltaTable(trained.lake("by_workers_predictions")).schema().to_arrow())
        assert str(probabilities.field("probabilities").type).startswith("map<string")

    def test_status_lineage_and_the_next_infer_go_on_from_there(self, trained: Place, scored: Ended) -> None:
        again = infer_by_workers(trained, "by_workers")
        assert again.out == scored.out, again.text
        told = trained.step("lineage", uri=trained.lake("by_workers_predictions@v0"))
        assert f"{trained.lake('flowers@v0')}\n" in told.out, told.text


def test_a_jvm_that_is_killed_while_they_write_ends_infer_and_the_next_one_goes_on(trained: Place) -> None:
    alone = Place(trained.folder, {"WORKFLOW_SPARK": "", **BY_WORKERS})
    process = subprocess.Popen(
        [sys.executable, "-m", "steps", "infer", *given_to_infer(trained, "killed")],
        cwd=alone.folder,
        env=alone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        predictions = Path(trained.lake("killed_predictions"))
        assert until(lambda: process.poll() is not None or list(predictions.rglob("_temporary")), seconds=90)
        for pid, command in trained.processes().items():
            if "/java " in command:
                os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (1, ""), err
    assert "SparkUnavailable: Spark cannot be used: its JVM was ended by SIGKILL" in err
    assert "Traceback" not in err
    assert not DeltaTable.is_deltatable(str(predictions))
    assert infer_by_workers(trained, "killed").out == f"infer: predictions = {predictions}@v0\n"
    assert is_equal_to_what_was_scored_in_memory(trained, "killed")
