"""monitor with labels, through the entry points: quality by window, concept drift, and one message for each change."""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from deltalake import write_deltalake
from mlflow import MlflowClient
from mlflow.entities import Run
from place import Place, rows_of
from receiver import SECRET, Receiver, serving
from services import free_port
from sklearn.metrics import f1_score
from small import FLOWERS, flowers, flowers_home

from steps import evaluate, infer, monitor, train
from steps.core.config import Monitor
from steps.core.monitoring import quality_watch, webhook
from steps.core.tables import location, snapshot
from steps.core.workflow import run_tags, verdict_message

CONFIG = {
    **FLOWERS,
    "columns": {"id": {"type": "long"}, **FLOWERS["columns"]},
    "key": ["id"],
    "model": {**FLOWERS["model"], "num_boost_round": 200, "early_stopping_rounds": 20},  # its probabilities are right
}
type Capture = pytest.CaptureFixture[str]
KNOWN, NEW = 1_500, 1_000  # rows with a label, and rows that came later without one


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder where a model was trained and judged on KNOWN rows, and all rows were predicted when NEW ones came."""
    folder = tmp_path_factory.mktemp("home")
    rows = flowers(KNOWN + NEW)
    rows.insert(0, "id", np.arange(len(rows)))
    with flowers_home(folder, CONFIG):
        table = str(folder / "lake" / "flowers")
        write_deltalake(table, pa.Table.from_pandas(rows[:KNOWN], preserve_index=False))
        train.main(["--config=flowers.yaml"])
        evaluate.main(["--config=flowers.yaml"])
        came = rows.assign(species=rows["species"].where(rows["id"] < KNOWN, None))
        write_deltalake(table, pa.Table.from_pandas(came, preserve_index=False), mode="overwrite")
        infer.main(["--config=flowers.yaml"])
        rows[KNOWN:][["id", "species"]].to_csv(folder / "labels.csv", index=False)
        turned = rows[KNOWN:].assign(species=rows["species"].map({"setosa": "virginica", "virginica": "setosa"}))
        turned.fillna({"species": "versicolor"})[["id", "species"]].to_csv(folder / "turned.csv", index=False)
        yield folder


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with serving() as server:
        monkeypatch.setenv(webhook.URL, server.url)
        yield server


def watched(*words: str) -> Run:
    monitor.main(["--config=flowers.yaml", *words])
    return MlflowClient().search_runs(["0"], order_by=["attributes.start_time DESC"])[0]


def found(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = mlflow.artifacts.load_dict(
        f"{run.data.tags['output.report'].rpartition('/')[0]}/monitor.json"
    )
    return found


def run_of(step: str) -> str:
    [run] = MlflowClient().search_runs(["0"], f"attributes.run_name = '{step}'")
    return str(run.info.run_id)


def levels(run: Run) -> dict[str, list[str]]:
    [window] = found(run)["windows"]
    return {name: [one["level"] for one in section] for name, section in window["quality"].items()}


class TestMonitor:
    """In the order of the tests, as a user would."""

    def test_labels_that_agree_are_no_alarm_and_their_score_is_that_of_scikit_learn(self, home: Path) -> None:
        run = watched("--labels=labels.csv")
        assert run.data.tags["output.monitor"] == "ok"
        assert levels(run) == {
            "prediction drift": ["ok", "ok"],
            "estimated quality": ["ok"] * 3,
            "live quality": ["ok"],
        }
        predicted = rows_of(str(home / "lake" / "flowers_predictions")).select(["id", "prediction"]).to_pandas()
        both = pd.read_csv(home / "labels.csv").merge(predicted, on="id")
        score = f1_score(both["species"], both["prediction"], average="macro")
        metrics = run.data.metrics
        assert metrics["labels"] == NEW
        assert metrics["f1_macro"] == pytest.approx(score)
        assert metrics["f1_macro_low"] < score < metrics["f1_macro_high"]
        right = (both["species"] == both["prediction"]).mean()
        assert metrics["estimated_accuracy_low"] < right < metrics["estimated_accuracy_high"]
        assert f"quality: f1_macro is {score:.4f} (95% interval 0." in run.data.tags["reasons"]
        assert run.data.tags["remarks"].endswith(
            "predictions are of rows that the model may have been trained on, and count for nothing"
        )

    def test_the_report_has_each_way_of_telling_quality_and_a_picture_over_time(self, home: Path) -> None:
        page = mlflow.artifacts.load_text(watched("--labels=labels.csv").data.tags["output.report"])
        assert re.findall(r"<h2>(.*?)</h2>", page)[1:4] == ["Live quality", "Estimated quality", "Prediction drift"]
        assert re.search(r'aria-label="f1_macro of 1 windows, the worst 0\.\d+ .*; the gate saw 0\.\d+ ', page)
        assert "<img" not in page

    def test_the_same_labels_again_are_reused_and_others_are_not(self, home: Path) -> None:
        """As processes, whose code is known. A run that is reused tells what did not get through before it."""
        (home / "some.csv").write_text((home / "turned.csv").read_text())
        url = {webhook.URL: f"http://127.0.0.1:{free_port()}/{SECRET}"}
        words = {"config": "flowers.yaml", "labels": "some.csv"}
        first = Place(home, url).step("monitor", **words)
        assert "the webhook of ALERT_WEBHOOK_URL was not told of the verdict alert: it cannot be reached" in first.err
        assert first.exit_code == 0
        with serving() as receiver:
            again = Place(home, {webhook.URL: receiver.url}).step("monitor", **words)
        assert "has compared these already, and nothing has changed since" in again.err
        [(_, _, body)] = receiver.received
        assert (body["verdict"], f"runs:/{body['id']}/report.html") == ("alert", body["report"])
        assert body["numbers"]["labels"] == NEW
        text = (home / "some.csv").read_text()
        (home / "some.csv").write_text("".join(text.splitlines(keepends=True)[:-100]))
        fewer = Place(home).step("monitor", **words)
        assert "has compared these already" not in fewer.err
        assert all(SECRET not in ended.text for ended in (first, again, fewer))

    def test_a_run_whose_labels_were_written_to_while_it_read_them_is_not_reused(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
    ) -> None:
        read = quality_watch.add

        def meanwhile(*given: Any, **named: Any) -> Any:
            with (home / "growing.csv").open("a") as file:
                file.write("1,setosa\n")
            return read(*given, **named)

        (home / "growing.csv").write_text((home / "labels.csv").read_text())
        monkeypatch.setattr(quality_watch, "add", meanwhile)
        run = watched("--labels=growing.csv")
        assert f"labels {home}/growing.csv were written to meanwhile; this run will not be reused" in (
            capfd.readouterr().err
        )
        assert run_tags.KEY not in run.data.tags
        monkeypatch.undo()
        assert run_tags.KEY in watched("--labels=growing.csv").data.tags

    def test_without_labels_passed_those_of_the_rows_themselves_count(self, home: Path) -> None:
        """Of the known rows, which infer keeps the label of, these are the ones in the test part."""
        run = watched()
        reference = mlflow.artifacts.load_dict(f"runs:/{run_of('evaluate')}/monitor_reference.json")
        assert run.data.metrics["labels"] == reference["rows"]
        assert run.data.metrics["f1_macro"] == pytest.approx(reference["scores"]["f1_macro"])

    def test_labels_that_mean_something_else_now_are_concept_drift_and_one_message(
        self, home: Path, receiver: Receiver
    ) -> None:
        assert watched("--labels=labels.csv").data.tags["webhook.told"] == "ok"
        receiver.received.clear()
        run = watched("--labels=turned.csv")
        assert run.data.tags["output.monitor"] == "alert"
        assert levels(run)["live quality"] == ["alert", "alert"]
        assert "concept: f1_macro fell while none of 4 features moved: concept drift" in run.data.tags["reasons"]
        [(_, _, body)] = receiver.received
        assert (body["verdict"], body["previous_verdict"], body["name"]) == ("alert", "ok", "flowers")
        assert body["report"] == run.data.tags["output.report"]
        assert body["numbers"]["f1_macro"] == run.data.metrics["f1_macro"]
        assert run.data.tags["webhook"] == "delivered"
        again = watched("--labels=turned.csv")
        assert again.data.tags["webhook"] == "unchanged"
        assert len(receiver.received) == 1

    def test_each_way_of_watching_a_config_has_a_verdict_of_its_own(self, home: Path, receiver: Receiver) -> None:
        """Two schedules, of which one knows the labels and the other does not."""
        alternately = [words for _ in range(2) for words in (["--labels=turned.csv"], [])]
        runs = [watched(*words) for words in alternately]
        assert [run.data.tags["output.monitor"] for run in runs] == ["alert", "ok"] * 2
        assert [run.data.tags["webhook"] for run in runs] == ["unchanged"] * 4
        MlflowClient().set_registered_model_alias("flowers_model", "other", "1")
        other = watched("--labels=turned.csv", "--model=models:/flowers_model@other")
        [(_, _, body)] = receiver.received
        assert (other.data.tags["webhook"], body["previous_verdict"]) == ("delivered", "ok")
        assert body["watched"] == "predictions with labels of models:/flowers_model@other"
        assert body["text"].startswith(f"flowers, {body['watched']}: alert (was ok): ")

    def test_an_alert_of_a_release_that_knew_no_ways_of_watching_is_taken_back(
        self, home: Path, receiver: Receiver
    ) -> None:
        alert = watched("--labels=turned.csv", "--since=400d")
        MlflowClient().delete_tag(alert.info.run_id, verdict_message.WATCHED)
        receiver.received.clear()
        assert watched("--labels=labels.csv", "--since=400d").data.tags["webhook"] == "delivered"
        [(_, _, body)] = receiver.received
        assert (body["verdict"], body["previous_verdict"]) == ("ok", "alert")

    @pytest.mark.parametrize(
        ("model", "current", "settings", "words"),
        [
            ("", "requests", {}, "requests"),
            ("models:/m/3", "/lake/t@v7", {}, "/lake/t with labels of models:/m"),
            (
                "models:/m@beta",
                "table",
                {"since": "7d", "window": "1d"},
                "table with labels of models:/m@beta since=7d",
            ),
        ],
    )
    def test_a_way_of_watching_is_that_of_other_versions_too(
        self, model: str, current: str, settings: dict[str, Any], words: str
    ) -> None:
        way = verdict_message.way_of(model, current, has_labels=bool(model), settings=Monitor(**settings))
        assert way == words + (" window=1d" if settings else "")

    def test_quality_that_fell_on_rows_whose_features_moved_is_no_concept_drift(self, home: Path) -> None:
        """Of all predictions these are so few that no feature of them has moved."""
        turned = pd.read_csv(home / "turned.csv")[:110]
        scored = rows_of(str(home / "lake" / "flowers_predictions"))
        is_turned = pc.is_in(scored["id"], value_set=pa.array(turned["id"]))
        lengths = pc.if_else(is_turned, pa.scalar(None, pa.float64()), scored["petal_length"])
        moved = scored.set_column(scored.schema.get_field_index("petal_length"), "petal_length", lengths)
        write_deltalake(str(home / "moved"), moved)
        turned.to_csv(home / "few.csv", index=False)
        [window] = found(watched("--current=moved", "--labels=few.csv"))["windows"]
        assert {one["level"] for one in window["findings"]} == {"ok"}
        assert [(one["subject"], one["level"]) for one in window["quality"]["live quality"]] == [("quality", "alert")]

    @pytest.mark.parametrize("words", [["--window=1d"], ["--window=1d", "--since=150d"]])
    def test_windows_of_rows_that_were_deleted_hide_no_fall_in_the_others(self, home: Path, words: list[str]) -> None:
        """One that is found of one window, and would be chance if there were a hundred with labels."""
        scored = rows_of(str(home / "lake" / "flowers_predictions"))
        labels = pd.read_csv(home / "labels.csv")
        answers = labels.merge(scored.select(["id", "prediction"]).to_pandas(), on="id")
        reference = mlflow.artifacts.load_dict(f"runs:/{run_of('evaluate')}/monitor_reference.json")
        limit, right = reference["interval"][0] - 0.03, answers.index[answers["species"] == answers["prediction"]]
        for wrong in range(0, len(right), 5):
            labels["species"] = answers["species"].where(~answers.index.isin(right[:wrong]), "versicolor")
            if f1_score(labels["species"], answers["prediction"], average="macro") < limit:
                break
        labels.to_csv(home / "fell.csv", index=False)
        gone = scored.slice(0, 1_200)
        days = [dt.timedelta(days=2 + number % 120) for number in range(len(gone))]
        earlier = [at - day for at, day in zip(gone["scored_at"].to_pylist(), days, strict=True)]
        times = pa.array(earlier, pa.timestamp("us", "UTC"))
        for name in ("scored_at", "deleted_at"):
            gone = gone.set_column(gone.schema.get_field_index(name), name, times)
        table = f"{home}/{'since' if len(words) > 1 else 'deleted'}"
        write_deltalake(table, pa.concat_tables([scored, gone]))
        *_, last = found(watched(f"--current={table}", "--labels=fell.csv", *words))["windows"]
        [quality, _] = last["quality"]["live quality"]
        assert (quality["subject"], quality["level"]) == ("quality", "alert")

    def test_what_did_not_get_through_is_told_by_the_next_run_and_the_address_by_none(
        self, home: Path, receiver: Receiver, capfd: Capture
    ) -> None:
        receiver.statuses = [404]
        failed = watched("--labels=labels.csv")
        assert failed.data.tags["output.monitor"] == "ok"
        assert failed.data.tags["webhook"] == "failed"
        told = capfd.readouterr().err
        assert told.count("was not told of the verdict ok: it answered with 404; the next run tells it again") == 1
        assert watched("--labels=labels.csv").data.tags["webhook"] == "delivered"
        assert receiver.received[-1][2]["id"] == failed.info.run_id
        kept = [*home.glob("mlruns/**/*"), home / "mlflow.db"]
        assert [file for file in kept if file.is_file() and SECRET.encode() in file.read_bytes()] == []
        assert SECRET not in told

    def test_labels_of_requests_are_joined_by_request_and_row(self, home: Path) -> None:
        """Of the request log every row is new to the model, whoever else wrote into it."""
        table = snapshot.open(location.TableUri(str(home / "lake" / "flowers_predictions")))
        scored = table.read(table.schema.names)
        new = scored.filter(pc.greater_equal(scored["id"], KNOWN))
        count = len(new)
        requests = new.drop_columns(["id", "species", "table_uri", "run_id", "deleted_at"])
        requests = requests.append_column("request_id", pa.array([f"request {i // 2}" for i in range(count)]))
        requests = requests.append_column("row", pa.array([i % 2 for i in range(count)], pa.int64()))
        write_deltalake(str(home / "lake" / "flowers_requests"), requests)
        species = pd.read_csv(home / "labels.csv").set_index("id")["species"].loc[new["id"].to_pylist()]
        labels = requests.select(["request_id", "row"]).append_column("species", pa.array(species.tolist()))
        late = labels.slice(0, 600)  # the others have not come
        unknown = pa.table({"request_id": ["another"], "row": [0], "species": ["setosa"]})
        write_deltalake(str(home / "outcomes"), pa.concat_tables([late, unknown], promote_options="permissive"))
        run = watched("--current=requests", "--labels=outcomes")
        assert run.data.metrics["labels"] == 600
        right = pc.equal(requests["prediction"], pa.array(species.tolist())).to_pylist()[:600]
        assert found(run)["verdict"] == "ok"
        accuracy = run.data.metrics["estimated_accuracy"]
        assert np.mean(right) == pytest.approx(accuracy, abs=0.05)
        assert "1 of 601 labels are of no prediction that is watched" in run.data.tags["remarks"]
        assert run.data.tags["input.labels"] == f"{home}/outcomes@v0"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--labels=nowhere.csv"], "LabelsUnusable: labels nowhere.csv: "),
            (["--labels=labels.csv", "--current=table"], "LabelsUnusable: labels labels.csv: the rows of "),
            (
                ["--labels=both.csv"],
                "LabelsContradictory: labels {home}/both.csv: 1 keys have labels that contradict each "
                "other: id 1600 has rose and setosa",
            ),
        ],
    )
    def test_labels_that_cannot_be_used_are_one_message(
        self, home: Path, words: list[str], message: str, capfd: Capture
    ) -> None:
        (home / "both.csv").write_text("id,species\n1600,rose\n1600,setosa\n")
        with pytest.raises(SystemExit, match="^1$"):
            watched(*words)
        assert capfd.readouterr().err.startswith(message.format(home=home))

    def test_a_model_of_another_question_and_a_table_without_probabilities_are_no_errors(
        self, home: Path, capfd: Capture
    ) -> None:
        other = {**CONFIG, "target": "petal_length", "task": "regression", "model": {"name": "flowers_model"}}
        (home / "other.yaml").write_text(yaml.safe_dump(other))
        monitor.main(["--config=other.yaml"])
        told = capfd.readouterr().err
        assert "quality: the model is a classification of species, and the config asks for a regression of" in told
        table = snapshot.open(location.TableUri(str(home / "lake" / "flowers_predictions")))
        names = [name for name in table.schema.names if name != "probabilities"]
        write_deltalake(str(home / "lake" / "without"), table.read(names))
        run = watched(f"--current={home}/lake/without")
        assert found(run)["windows"][0]["quality"] == {}
