"""The step `monitor` by its entry point: what it says, keeps and hands on, and that it does the same work once."""

import datetime as dt
import json
import re
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from place import Ended, Place, new_database, rows_of
from small import flowers

pytestmark = pytest.mark.spark

DAY = dt.timedelta(days=1)
COLUMNS = {
    **{"petal_length": {"type": "double"}, "petals": {"type": "long"}, "wild": {"type": "boolean"}},
    **{"color": {"type": "string"}, "species": {"type": "string"}},
}


def done(ended: Ended) -> Ended:
    assert ended.exit_code == 0, ended.text
    return ended


def shifted(rows: int, *, seed: int) -> pd.DataFrame:
    moved = flowers(rows, seed=seed)
    return moved.assign(petal_length=moved["petal_length"] + 4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """Where a model was trained on a table of 1,000 rows, whose source is a folder; nothing is predicted yet."""
    place = Place(tmp_path_factory.mktemp("monitor"))
    new_database(place.folder)
    (place.folder / "source").mkdir()
    flowers(1_000).to_csv(place.folder / "source" / "1.csv", index=False)
    config = place.config(
        name="flowers",
        source={"uri": "source"},
        columns=COLUMNS,
        target="species",
        mode="append",
        model={"name": "flowers_model", "num_boost_round": 5},
    )
    done(place.step("ingest", config=config))
    done(place.step("train", config=config))
    return place, config


def monitor(trained: tuple[Place, Path], **parameters: object) -> Ended:
    place, config = trained
    return place.step("monitor", config=config, model="models:/flowers_model/1", **parameters)


def artifact(place: Place, name: str, run_id: str = "") -> str:
    run_id = run_id or place.runs()[0].info.run_id
    return Path(place.client.download_artifacts(run_id, name)).read_text(encoding="utf-8")


class TestMonitor:
    """In the order of the tests, as a user would."""

    def test_without_predictions_says_how_to_make_some(self, trained: tuple[Place, Path]) -> None:
        ended = monitor(trained)
        assert ended.exit_code == 1
        assert ended.err.splitlines()[0].startswith("NothingToWatch: there are no predictions yet: ")
        assert "Traceback" not in ended.text

    def test_predictions_of_the_training_rows_have_not_moved(self, trained: tuple[Place, Path]) -> None:
        place, config = trained
        done(place.step("infer", config=config, model="models:/flowers_model/1"))
        ended = done(monitor(trained))
        assert "monitor: monitor = ok\n" in ended.out
        assert re.search(r"monitor: report = runs:/\w{32}/report.html\n", ended.out)
        run = place.runs()[0]
        assert run.data.tags["output.monitor"] == "ok"
        assert run.data.tags["input.current"] == f"{place.lake('flowers_predictions')}@v0"
        assert run.data.tags["input.model"] == "models:/flowers_model/1"
        assert run.data.metrics["rows"] == 1_000
        assert run.data.metrics["psi.petal_length"] < 0.05

    def test_the_same_again_is_reused_and_said(self, trained: tuple[Place, Path]) -> None:
        first = trained[0].runs()[0]
        ended = done(monitor(trained))
        assert f"monitor: run {first.info.run_id[:8]} has compared these already" in ended.err
        assert f"monitor: report = runs:/{first.info.run_id}/report.html\n" in ended.out
        assert f"run {first.info.run_id[:8]} has" in done(monitor(trained)).err  # the first, not the one that reused it

    def test_other_levels_are_other_work(self, trained: tuple[Place, Path]) -> None:
        place, config = trained
        other = place.folder / "other.yaml"
        other.write_text(config.read_text() + "monitor: {significance: 0.02}\n")
        ended = done(place.step("monitor", config=other, model="models:/flowers_model/1"))
        assert "has compared these already" not in ended.err

    def test_rows_that_came_and_have_moved_are_an_alert(self, trained: tuple[Place, Path]) -> None:
        place, config = trained
        shifted(400, seed=2).to_csv(place.folder / "source" / "2.csv", index=False)
        done(place.step("ingest", config=config))
        ended = done(monitor(trained, current="table"))
        assert "monitor: monitor = alert\n" in ended.out
        assert re.search(r"monitor: because petal_length: PSI \d\.\d+ ", ended.out)
        found = json.loads(artifact(place, "monitor.json"), parse_constant=pytest.fail)
        assert found["verdict"] == "alert"
        assert found["windows"][0]["rows"] == 400
        assert [one["subject"] for one in found["windows"][0]["findings"] if one["level"] == "alert"] == [
            "petal_length"
        ]
        assert [one["level"] for one in found["findings"] if one["subject"] == "rejects"] == ["ok"]

    def test_a_run_that_failed_by_its_exit_code_alone_is_reused(self, trained: tuple[Place, Path]) -> None:
        place, config = trained
        model = "models:/flowers_model/1"
        given = {"config": config, "model": model, "current": f"{place.lake('flowers')}@v1", "fail_on": "alert"}
        place.step("monitor", config=config, model=model, current="table")
        for run in place.runs():
            if run.data.tags.get("output.monitor") == "alert":
                place.client.set_terminated(run.info.run_id, "FAILED")  # as the command `mlflow run` has it
        ended = place.step("monitor", **given)
        assert ended.exit_code == 1
        assert "has compared these already" in ended.err

    def test_the_exit_code_is_0_unless_it_is_asked_for(self, trained: tuple[Place, Path]) -> None:
        """Also where the work was done before; the run itself has not failed."""
        ended = monitor(trained, current="table", fail_on="alert")
        assert ended.exit_code == 1
        assert "monitor: monitor = alert\n" in ended.out
        assert "Traceback" not in ended.text
        assert trained[0].runs()[0].info.status == "FINISHED"
        assert monitor(trained, fail_on="warn").exit_code == 0

    def test_metrics_of_windows_are_at_their_beginnings(self, trained: tuple[Place, Path]) -> None:
        place, _ = trained
        path = place.lake("flowers_predictions")
        scored = rows_of(path)
        at = scored["scored_at"].to_pylist()[0]
        earlier = [at - (1 + number % 2) * DAY for number in range(len(scored))]
        column = pa.array(earlier, pa.timestamp("us", "UTC"))
        moved = scored.set_column(scored.schema.get_field_index("scored_at"), "scored_at", column)
        write_deltalake(path, moved, mode="overwrite")
        done(monitor(trained, window="1d", since="2d"))
        history = place.client.get_metric_history(place.runs()[0].info.run_id, "rows")
        days = [dt.datetime.fromtimestamp(metric.timestamp / 1000, dt.UTC) for metric in history]
        assert [int(metric.value) for metric in history] == [500, 500, 0]
        assert [later - day for day, later in pairwise(days)] == [DAY, DAY]
        assert {day.time() for day in days} == {dt.time()}

    def test_a_model_without_a_summary_says_what_to_do(self, trained: tuple[Place, Path]) -> None:
        place, _ = trained
        version = place.client.get_model_version("flowers_model", "1")
        folder = place.folder / "mlruns/0/models" / str(version.source).rpartition("/")[2] / "artifacts"
        file = folder / "artifacts" / "reference.json"
        kept = file.read_text()
        assert len(kept) < 10_000
        file.unlink()
        try:
            ended = monitor(trained, current="table", since="1d")
        finally:
            file.write_text(kept)
        assert ended.exit_code == 1
        assert "does not tell what its training rows looked like" in ended.err

    def test_spark_counts_what_this_process_does(self, trained: tuple[Place, Path], served: dict[str, str]) -> None:
        place, config = trained
        done(monitor(trained, current="table"))
        by_process = artifact(
            place, "monitor.json", re.findall(r"runs:/(\w+)/", place.runs()[0].data.tags["output.report"])[0]
        )
        there = Place(place.folder, {**served, "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"})
        other = place.folder / "spark.yaml"
        other.write_text(config.read_text() + "monitor: {significance: 0.0100001}\n")
        done(there.step("monitor", config=other, model="models:/flowers_model/1", current="table"))
        assert json.loads(artifact(place, "monitor.json"))["windows"] == json.loads(by_process)["windows"]
