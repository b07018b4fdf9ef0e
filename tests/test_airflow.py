"""infrastructure/airflow in the real Airflow: from nothing to predictions, past days, new tables, and failures."""

import json
import operator
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from airflow_services import SERVICES, Airflow
from place import COLUMNS, FEATURES, PROJECT, Ended, Place, new_database, rows_of, until
from pydantic import TypeAdapter
from receiver import SECRET as WEBHOOK
from receiver import Receiver, serving
from services import PASSWORD, SECRET
from sklearn.datasets import load_iris

from main import MainParameters

pytestmark = pytest.mark.spark

INGEST, WORKFLOW = "iris_ingest", "iris_workflow"
DAYS = ("2026-11-01", "2026-11-02", "2026-11-03")  # the last one brings the rows of the day before
FIRST_ROWS, ROWS_OF_A_DAY = 90, 15
MODEL = "iris_xgboost_classifier"
POSSIBLE, IMPOSSIBLE = 0.05, 0.99  # gains over a baseline of more than a hundredth, in a score that is one at most


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A file of rows, one more for each day, their config, and an Airflow that has its workflow."""

    folder: Path
    place: Place
    config: Path
    airflow: Airflow
    receiver: Receiver
    first: Ended  # `airflow dags test`, from nothing

    def messages(self, event: str) -> list[dict[str, Any]]:
        return [body for _, _, body in self.receiver.received if body.get("event") == event]

    def change(self, part: str, **values: Any) -> None:
        """Change a part of the config."""
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        settings[part] |= values
        self.config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def versions(self) -> list[str]:
        found = self.place.client.search_model_versions(f"name='{MODEL}'")
        return sorted(str(version.version) for version in found)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("airflow")
    place = Place(folder / "stand")
    place.folder.mkdir()
    new_database(place.folder)
    config = place.config(source={"uri": str(folder / "first.csv")}, mode="append", columns=COLUMNS)
    _write_rows(folder)
    with serving() as receiver:
        settings = {
            **{"WORKFLOW_CONFIG": str(config), "ALERT_WEBHOOK_URL": receiver.url, "WORKFLOW_RETRY_MINUTES": "0.02"},
            **{"MINIO_ROOT_PASSWORD": SECRET, "WORKFLOW_PASSWORD": PASSWORD, "WORKFLOW_DEADLINE_MINUTES": "0.05"},
        }
        airflow = Airflow(folder / "airflow", place, settings)
        try:
            made = airflow.initialize()
            assert made.exit_code == 0, made.text
            first = airflow.run("airflow", "dags", "test", WORKFLOW, WORKFLOW_DEADLINE_MINUTES="0")
            airflow.start()
            yield Scene(folder=folder, place=place, config=config, airflow=airflow, receiver=receiver, first=first)
        finally:
            airflow.stop()


def _write_rows(folder: Path) -> None:
    iris = load_iris(as_frame=True)
    rows = iris.frame.set_axis([*FEATURES, "species"], axis=1).drop_duplicates().sample(frac=1, random_state=7)
    rows["species"] = iris.target_names[rows["species"]]
    rows[:FIRST_ROWS].to_csv(folder / "first.csv", index=False)
    parts = [rows[begin : begin + ROWS_OF_A_DAY] for begin in (FIRST_ROWS, FIRST_ROWS + ROWS_OF_A_DAY)]
    for day, part in zip(DAYS, [*parts, parts[-1]], strict=True):
        part.to_csv(folder / f"{day}.csv", index=False)
    rows[FIRST_ROWS + 2 * ROWS_OF_A_DAY :].to_csv(folder / "new.csv", index=False)


class TestFromNothing:
    """`airflow dags test`, before any service runs."""

    def test_it_ends_in_predictions(self, scene: Scene) -> None:
        assert scene.first.exit_code == 0, scene.first.text[-5000:]
        first = rows_of(scene.place.lake("iris_predictions"), 0)
        assert first.num_rows == FIRST_ROWS
        assert set(first["model_uri"].to_pylist()) == {f"models:/{MODEL}/1"}

    def test_uris_are_handed_on_by_xcom(self, scene: Scene) -> None:
        run = scene.airflow.runs(WORKFLOW, "manual")[0]["dag_run_id"]
        assert _handed_on(scene, run) == {
            ("ingest", "table"): scene.place.lake("iris@v0"),
            ("train", "model"): f"models:/{MODEL}/1",
            ("evaluate", "champion"): f"models:/{MODEL}/1",
            ("infer", "predictions"): scene.place.lake("iris_predictions@v0"),
            ("monitor", "monitor"): "ok",
        }


@pytest.fixture(scope="module")
def last_night(scene: Scene) -> str:
    """The run of the last night, which starts when the DAG is switched on. The config names a model that has no version
    yet, and a gate that none passes."""
    scene.change("gate", min_gain_over_baseline=IMPOSSIBLE)
    scene.change("model", name="other_model")
    assert until(lambda: scene.airflow.ask("GET", "dags")["total_entries"] == 2, seconds=60)
    scene.airflow.ask("PATCH", f"dags/{WORKFLOW}", is_paused=False)
    assert until(lambda: scene.airflow.runs(WORKFLOW, "scheduled"), seconds=60)
    (run,) = scene.airflow.runs(WORKFLOW, "scheduled")
    assert scene.airflow.ended(WORKFLOW, run["dag_run_id"]) == "failed"
    return str(run["dag_run_id"])


class TestSchedule:
    def test_without_a_champion_nothing_is_predicted_and_the_run_fails(self, scene: Scene, last_night: str) -> None:
        assert scene.airflow.xcom(WORKFLOW, last_night, "ingest", "table") == scene.place.lake("iris@v0")
        states = scene.airflow.states(WORKFLOW, last_night)
        assert (states["gate"], states["infer"], states["no_champion"]) == ("success", "skipped", "failed")
        (message,) = [told["message"] for told in scene.messages("failed") if told["run_id"] == last_night]
        assert message.startswith(
            "NothingToInferWith: the gate's verdict on models:/other_model/1 is fail and there is"
        )
        assert "at least 0.99 better is required" in message


@dataclass(frozen=True, kw_only=True)
class Backfill:
    runs: list[dict[str, Any]]
    environment: set[str]  # the names of the variables of the step that was killed


@pytest.fixture(scope="module")
def backfill(scene: Scene, last_night: str) -> Backfill:
    """The runs of three past days, each with a file of its own. In the first one `train` is killed at its work."""
    scene.change("gate", min_gain_over_baseline=POSSIBLE)
    scene.change("model", name=MODEL)
    made = scene.airflow.run(
        *("airflow", "backfill", "create", "--dag-id", WORKFLOW),
        *("--from-date", DAYS[0], "--to-date", f"{DAYS[-1]}T23:59"),
        *("--max-active-runs", "1", "--dag-run-conf", json.dumps({"source": f"{scene.folder}/{{{{ ds }}}}.csv"})),
    )
    assert made.exit_code == 0, made.text
    process = scene.airflow.started("train")
    assert until(lambda: _running(scene, "train"), seconds=60), scene.airflow.log("airflow-scheduler")[-5000:]
    variables = Path(f"/proc/{process}/environ").read_text(encoding="utf-8").split("\0")
    os.kill(process, signal.SIGKILL)
    assert scene.versions() == ["1"]
    runs = scene.airflow.runs(WORKFLOW, "backfill")
    for run in runs:
        run["state"] = scene.airflow.ended(WORKFLOW, run["dag_run_id"])
    return Backfill(runs=runs, environment={variable.partition("=")[0] for variable in variables})


def _running(scene: Scene, step: str) -> list[str]:
    return [run.info.run_id for run in scene.place.runs() if run.info.run_name == step and run.info.status == "RUNNING"]


def _handed_on(scene: Scene, run: str) -> dict[tuple[str, str], str]:
    keys = [("ingest", "table"), ("train", "model"), ("evaluate", "champion")]
    keys += [("infer", "predictions"), ("monitor", "monitor")]
    return {(task, key): scene.airflow.xcom(WORKFLOW, run, task, key) for task, key in keys}


class TestPastDays:
    def test_each_has_one_run_that_ends_well(self, scene: Scene, backfill: Backfill) -> None:
        assert [(run["logical_date"][:10], run["state"]) for run in backfill.runs] == [(day, "success") for day in DAYS]

    def test_each_is_of_its_own_rows(self, scene: Scene, backfill: Backfill) -> None:
        tables = [scene.airflow.xcom(WORKFLOW, run["dag_run_id"], "ingest", "table") for run in backfill.runs]
        assert tables == [scene.place.lake(f"iris@v{version}") for version in (1, 2, 2)]
        counts = [rows_of(scene.place.lake("iris"), version).num_rows for version in (1, 2)]
        assert counts == [FIRST_ROWS + number * ROWS_OF_A_DAY for number in (1, 2)]

    def test_nothing_is_made_again_of_what_has_not_changed(self, scene: Scene, backfill: Backfill) -> None:
        before, last = (_handed_on(scene, run["dag_run_id"]) for run in backfill.runs[1:])
        assert last == before

    def test_no_row_is_predicted_twice(self, scene: Scene, backfill: Backfill) -> None:
        table = rows_of(scene.place.lake("iris"), 2).select(FEATURES).to_pylist()
        predicted = rows_of(scene.place.lake("iris_predictions"), 2)
        assert predicted["deleted_at"].null_count == predicted.num_rows == FIRST_ROWS + 2 * ROWS_OF_A_DAY
        key = operator.itemgetter(*FEATURES)
        assert sorted(map(key, predicted.to_pylist())) == sorted(map(key, table))

    def test_a_step_that_is_killed_is_tried_again(self, scene: Scene, backfill: Backfill) -> None:
        """And leaves nothing: there is one version for each training that ended."""
        trained = [scene.airflow.tasks(WORKFLOW, run["dag_run_id"])["train"] for run in backfill.runs]
        assert [(task["state"], task["try_number"]) for task in trained] == [("success", n) for n in (2, 1, 1)]
        models = [scene.airflow.xcom(WORKFLOW, run["dag_run_id"], "train", "model") for run in backfill.runs]
        assert models == [f"models:/{MODEL}/{version}" for version in (2, 3, 3)]
        statuses = [run.info.status for run in scene.place.runs() if run.info.run_name == "train"]
        assert (statuses.count("KILLED"), statuses.count("RUNNING")) == (1, 0)
        log = scene.airflow.task_log(backfill.runs[0]["dag_run_id"], "train")
        assert "train was ended by SIGKILL" in log

    def test_a_step_gets_no_setting_of_airflows(self, scene: Scene, backfill: Backfill) -> None:
        """These hold the keys to Airflow's database."""
        assert {"WORKFLOW_OUTPUTS", "MLFLOW_TRACKING_PASSWORD", "PYTHONPATH"} <= backfill.environment
        assert [name for name in backfill.environment if "AIRFLOW" in name] == []

    def test_who_is_told_of_a_late_run_is_told_of_each(self, scene: Scene, backfill: Backfill) -> None:
        ids = {run["dag_run_id"] for run in backfill.runs}
        until(lambda: ids <= {message["run_id"] for message in scene.messages("late")}, seconds=90)
        assert ids - {message["run_id"] for message in scene.messages("late")} == set()
        told = [message["text"] for message in scene.messages("late") if message["run_id"] in ids]
        assert [text for text in told if not text.startswith(f"{WORKFLOW} late in run backfill__2026-11-0")] == []


@pytest.fixture(scope="module")
def turned_down(scene: Scene, backfill: Backfill) -> str:
    """The run that a new version of the table has started, whose model the gate turns down. Airflow's process of one of
    its tasks is killed, and the step ends with it."""
    scene.change("gate", min_gain_over_baseline=IMPOSSIBLE)
    scene.change("source", uri=str(scene.folder / "new.csv"))
    scene.airflow.ask("PATCH", f"dags/{INGEST}", is_paused=False)  # which starts its run of the last hour
    process = scene.airflow.started("evaluate")
    (run,) = scene.airflow.runs(WORKFLOW, "asset_triggered")
    os.kill(psutil.Process(process).ppid(), signal.SIGKILL)  # Airflow's own
    assert until(lambda: process not in scene.airflow.processes(), seconds=30)
    assert scene.airflow.ended(WORKFLOW, run["dag_run_id"]) == "success"
    return str(run["dag_run_id"])


class TestNewTable:
    def test_a_new_version_starts_the_workflow_on_it(self, scene: Scene, turned_down: str) -> None:
        assert scene.airflow.xcom(WORKFLOW, turned_down, "ingest", "table") == scene.place.lake("iris@v3")
        assert "This run was started by the new version" in scene.airflow.task_log(turned_down, "ingest")

    def test_predictions_are_those_of_the_champion_where_the_gate_turns_its_model_down(
        self, scene: Scene, turned_down: str
    ) -> None:
        handed_on = [scene.airflow.xcom(WORKFLOW, turned_down, "evaluate", key) for key in ("verdict", "champion")]
        assert handed_on == ["fail", f"models:/{MODEL}/3"]
        assert scene.airflow.xcom(WORKFLOW, turned_down, "train", "model") == f"models:/{MODEL}/4"
        predicted = rows_of(scene.place.lake("iris_predictions"))
        assert set(predicted["model_uri"].to_pylist()) == {f"models:/{MODEL}/3"}
        assert predicted.num_rows == rows_of(scene.place.lake("iris"), 3).num_rows

    def test_a_task_whose_process_is_killed_is_tried_again(self, scene: Scene, turned_down: str) -> None:
        task = scene.airflow.tasks(WORKFLOW, turned_down)["evaluate"]
        assert (task["state"], task["try_number"]) == ("success", 2)

    def test_the_same_version_starts_nothing(self, scene: Scene, turned_down: str) -> None:
        again = scene.airflow.trigger(INGEST)
        assert scene.airflow.ended(INGEST, again) == "success"
        assert scene.airflow.states(INGEST, again) == {"ingest": "skipped"}
        assert "no new version" in scene.airflow.task_log(again, "ingest")
        assert len(scene.airflow.runs(WORKFLOW, "asset_triggered")) == 1


@pytest.fixture(scope="module")
def no_source(scene: Scene, turned_down: str) -> str:
    """A run of a source that is not there."""
    run = scene.airflow.trigger(WORKFLOW, source="nowhere.csv")
    assert scene.airflow.ended(WORKFLOW, run) == "failed"
    return run


class TestFailures:
    def test_a_failure_is_told_in_the_words_of_the_step(self, scene: Scene, no_source: str) -> None:
        told = {message["run_id"]: message for message in scene.messages("failed")}
        message = told[no_source]
        assert (message["dag"], message["task"]) == (WORKFLOW, "ingest")
        assert message["message"].splitlines() == [
            f"SourceUnreadable: source {scene.place.folder}/nowhere.csv: there is no such file or folder",
            "  expected  a source that is there and can be read: files or a table by path, a URL, sklearn:<name>, jdbc:postgresql://",
            "  next      correct source.uri in the config, or pass -P source=URI",
        ]
        assert scene.airflow.tasks(WORKFLOW, no_source)["ingest"]["try_number"] == 3

    def test_it_is_told_once(self, scene: Scene, last_night: str, no_source: str) -> None:
        assert [message["run_id"] for message in scene.messages("failed")] == [last_night, no_source]

    def test_the_log_of_the_task_has_no_traceback(self, scene: Scene, no_source: str) -> None:
        log = scene.airflow.task_log(no_source, "ingest")
        assert "SourceUnreadable" in log
        assert "Traceback" not in log


class TestParameters:
    def test_they_are_those_of_main_with_its_types(self, scene: Scene) -> None:
        params = scene.airflow.ask("GET", f"dags/{WORKFLOW}/details")["params"]
        declared = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))["entry_points"]["main"]
        texts = {name: parameter["default"] for name, parameter in declared["parameters"].items()}
        assert {name: _text(param["value"]) for name, param in params.items()} == {**texts, "config": str(scene.config)}
        schemas = TypeAdapter(MainParameters).json_schema()
        expected = {name: _flat(schema, schemas["$defs"]) for name, schema in schemas["properties"].items()}
        assert {name: _flat(param["schema"], {}) for name, param in params.items()} == expected
        assert [name for name, param in params.items() if len(param["description"]) < 10] == []

    def test_main_decides_where_its_parameters_say_which_steps_run(self, scene: Scene, no_source: str) -> None:
        run = scene.airflow.trigger(WORKFLOW, dry_run=True)
        assert scene.airflow.ended(WORKFLOW, run) == "success"
        states = scene.airflow.states(WORKFLOW, run)
        assert {name for name, state in states.items() if state == "success"} == {"who_decides", "main"}
        plan = scene.airflow.task_log(run, "main")
        assert [step for step in ("ingest", "train", "evaluate", "infer") if f'"event":"{step}  ' not in plan] == []


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value or "")


def _flat(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema without its words; one of several that may be null has both types."""
    parts = schema.get("anyOf", [schema])
    merged: dict[str, Any] = {"type": set()}
    for part in parts:
        part = definitions.get(part.get("$ref", "").rpartition("/")[2], part)
        kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
        merged["type"] |= set(kinds)
        merged |= {key: value for key, value in part.items() if "inimum" in key or "aximum" in key}
        if "enum" in part:
            merged["enum"] = {choice for choice in part["enum"] if choice is not None}
    return merged


class TestServices:
    def test_they_are_healthy(self, scene: Scene, no_source: str) -> None:
        with ThreadPoolExecutor() as threads:
            assert list(threads.map(scene.airflow.is_healthy, SERVICES)) == [True] * len(SERVICES)

    def test_no_secret_is_kept_or_printed(self, scene: Scene, no_source: str) -> None:
        found = [
            (where, secret)
            for where, text in scene.airflow.everything_kept()
            for secret in (SECRET, PASSWORD, WEBHOOK)
            if secret in text
        ]
        assert found == []

    def test_a_start_changes_nothing_of_what_is_there(self, scene: Scene, no_source: str) -> None:
        again = scene.airflow.initialize()
        assert again.exit_code == 0, again.text
        assert scene.airflow.states(WORKFLOW, no_source)["ingest"] == "failed"

    def test_one_that_is_gone_is_not_healthy(self, scene: Scene, no_source: str) -> None:
        scene.airflow.kill("airflow-scheduler")
        assert until(lambda: not scene.airflow.is_healthy("airflow-scheduler"), seconds=60, every_seconds=1)
        assert scene.airflow.is_healthy("airflow-dag-processor")
        scene.airflow.kill("airflow-api-server")
        assert not scene.airflow.is_healthy("airflow-api-server")
