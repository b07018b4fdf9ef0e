"""The whole workflow, run once by `mlflow run` on Iris: what it prints, what it leaves, and that this is right."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import xgboost
from deltalake import DeltaTable
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from place import BOOSTER_SHA256, Finished, datasets_of, rows_of
from sklearn.datasets import load_iris

from steps.core.metrics import metrics_of
from steps.core.workflow.step_spec import read_spec

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"
STEPS = ["ingest", "train", "evaluate", "infer"]
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPECIES = ["setosa", "versicolor", "virginica"]
LINEAGE = ["prediction", "probability", "probabilities", "model_uri", "table_uri", "run_id", "scored_at", "deleted_at"]


@pytest.fixture(scope="module")
def runs(finished: Finished) -> dict[str, Run]:
    """The runs by the step's name; other tests ask for the status of this place."""
    runs = [run for run in finished.place.runs() if run.info.run_name != "status"]
    found = {run.info.run_name: run for run in runs}
    assert len(found) == len(runs)
    return found


@pytest.fixture
def client(finished: Finished) -> MlflowClient:
    return finished.place.client


@pytest.fixture
def version(client: MlflowClient) -> ModelVersion:
    return client.get_model_version(MODEL, "1")


@pytest.fixture(scope="module")
def model_folder(finished: Finished) -> Path:
    (marker,) = (finished.place.folder / "mlruns").rglob("MLmodel")
    return marker.parent


@pytest.fixture
def tracking(finished: Finished) -> Iterator[None]:
    """This process's MLflow looks at the finished workflow's store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{finished.place.folder / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(before)


def test_main_prints_a_summary_with_what_each_step_made(finished: Finished) -> None:
    lines = [line for line in finished.ended.out.splitlines() if line.strip()]
    table, predictions = (re.escape(finished.place.lake(name)) for name in ("iris@v0", "iris_predictions@v0"))
    wanted = [
        r"step +made +seconds  because",
        rf"ingest +{table} +\d+\.\d  first run",
        rf"train +models:/{MODEL}/1 +\d+\.\d  first run",
        rf"evaluate +pass, models:/{MODEL}/1 +\d+\.\d  first run",
        rf"infer +{predictions} +\d+\.\d  first run",
    ]
    assert [bool(re.fullmatch(want, line)) for want, line in zip(wanted, lines, strict=True)] == [True] * 5


def test_main_says_which_step_it_is_at_and_no_traceback(finished: Finished) -> None:
    said = [line for line in finished.ended.err.splitlines() if " ... (" in line]
    assert said == [f"{name} ... (first run)" for name in STEPS]
    assert "Traceback" not in finished.ended.text


def test_its_tables_are_as_private_as_their_users_other_files(finished: Finished) -> None:
    files = [path for path in Path(finished.place.lake("")).rglob("*")]
    assert {path.suffix for path in files} >= {".json", ".parquet"}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_steps_are_finished_child_runs_of_main(runs: dict[str, Run]) -> None:
    assert set(runs) == {"main", *STEPS}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert parents == {"main": None, **dict.fromkeys(STEPS, runs["main"].info.run_id)}


def test_steps_hand_on_uris_in_their_tags(finished: Finished, runs: dict[str, Run]) -> None:
    handed_on = {
        name: {key[7:]: value for key, value in run.data.tags.items() if key.startswith("output.")}
        for name, run in runs.items()
    }
    table, predictions = finished.place.lake("iris@v0"), finished.place.lake("iris_predictions@v0")
    judged = {"verdict": "pass", "champion": f"models:/{MODEL}/1"}
    each = {"ingest": {"table": table}, "train": {"model": f"models:/{MODEL}/1"}, "evaluate": judged}
    each["infer"] = {"predictions": predictions}
    assert handed_on == {**each, "main": {key: value for made in each.values() for key, value in made.items()}}


@pytest.mark.parametrize("step", STEPS)
def test_a_steps_tags_have_the_names_that_it_declares(runs: dict[str, Run], step: str) -> None:
    spec, names = read_spec(step), runs[step].data.tags
    assert {name.removeprefix("output.") for name in names if name.startswith("output.")} == set(spec.outputs)
    assert {f"input.{name}" for name in spec.works_on_uris} <= set(names)


def test_what_a_step_read_is_in_its_tags_too(finished: Finished, runs: dict[str, Run]) -> None:
    read = {
        name: {key[6:]: value for key, value in run.data.tags.items() if key.startswith("input.")}
        for name, run in runs.items()
    }
    table, model = finished.place.lake("iris@v0"), f"models:/{MODEL}/1"
    assert read == {
        "main": {},
        "ingest": {"source": "sklearn:iris"},
        "train": {"table": table},
        "evaluate": {"table": table, "model": model, "champion": ""},
        "infer": {"table": table, "model": model},
    }


def test_workflow_json_names_the_steps_their_runs_and_their_commands(
    client: MlflowClient, runs: dict[str, Run]
) -> None:
    record = json.loads(mlflow.artifacts.load_text(f"{runs['main'].info.artifact_uri}/workflow.json"))
    assert record["run_id"] == runs["main"].info.run_id
    assert [(each["step"], each["run_id"], each["status"]) for each in record["steps"]] == [
        (step, runs[step].info.run_id, "FINISHED") for step in STEPS
    ]
    assert all(f" -e {each['step']} " in each["command"] for each in record["steps"])
    assert record["notes"] == []


def test_every_run_has_a_receipt_of_what_it_read_and_wrote(finished: Finished, runs: dict[str, Run]) -> None:
    receipts = {
        name: json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/receipt.json"))
        for name, run in runs.items()
    }
    table, model = finished.place.lake("iris@v0"), f"models:/{MODEL}/1"
    assert {name: receipts[name]["read"] for name in STEPS} == {
        "ingest": {"source": "sklearn:iris"},
        "train": {"table": table},
        "evaluate": {"table": table, "model": model, "champion": ""},
        "infer": {"table": table, "model": model},
    }
    assert {name: receipt["run_id"] for name, receipt in receipts.items()} == {
        name: run.info.run_id for name, run in runs.items()
    }
    assert receipts["train"]["parameters"]["model__max_depth"] == 4


def test_the_table_holds_scikit_learns_iris_under_the_configs_names(finished: Finished) -> None:
    table = rows_of(finished.place.lake("iris"), version=0)
    iris = load_iris()
    expected = Counter(
        (*map(float, row), str(iris.target_names[code])) for row, code in zip(iris.data, iris.target, strict=True)
    )
    assert table.column_names == [*FEATURES, "species"]
    assert table.num_rows == 150
    assert Counter(tuple(row.values()) for row in table.to_pylist()) == expected


def test_the_tables_commit_names_the_run_that_wrote_it(finished: Finished, runs: dict[str, Run]) -> None:
    for table, step in {"iris": "ingest", "iris_predictions": "infer"}.items():
        (commit,) = DeltaTable(finished.place.lake(table)).history()
        metadata = json.loads(commit["userMetadata"])
        assert (metadata["step"], metadata["run_id"]) == (step, runs[step].info.run_id)


def test_predictions_are_the_tables_rows_with_predictions_and_lineage(finished: Finished, runs: dict[str, Run]) -> None:
    predictions = rows_of(finished.place.lake("iris_predictions"), version=0)
    table = rows_of(finished.place.lake("iris"), version=0)
    assert predictions.num_rows == 150
    assert predictions.column_names == [*table.column_names, *LINEAGE]
    given = Counter(tuple(row.values()) for row in table.to_pylist())
    assert Counter(tuple(row.values()) for row in predictions.select(table.column_names).to_pylist()) == given
    missing = {name: predictions[name].null_count for name in LINEAGE}
    assert missing == {**dict.fromkeys(LINEAGE, 0), "deleted_at": 150}
    assert predictions["model_uri"].unique().to_pylist() == [f"models:/{MODEL}/1"]
    assert predictions["table_uri"].unique().to_pylist() == [finished.place.lake("iris@v0")]
    assert predictions["run_id"].unique().to_pylist() == [runs["infer"].info.run_id]


def test_predictions_agree_with_xgboost_alone(finished: Finished, model_folder: Path) -> None:
    predictions = rows_of(finished.place.lake("iris_predictions"))
    booster = xgboost.Booster(model_file=model_folder / "artifacts" / "booster.ubj")
    features = np.column_stack([predictions[name].to_numpy() for name in FEATURES])
    answers = booster.predict(xgboost.DMatrix(features, feature_names=FEATURES))
    assert predictions["prediction"].to_pylist() == [SPECIES[i] for i in answers.argmax(axis=1)]
    stored = np.array([[dict(row)[name] for name in SPECIES] for row in predictions["probabilities"].to_pylist()])
    np.testing.assert_allclose(stored, answers, atol=1e-6)
    np.testing.assert_allclose(predictions["probability"].to_numpy(), answers.max(axis=1), atol=1e-6)


def test_the_model_is_right_about_28_of_the_30_flowers_of_the_test_part(runs: dict[str, Run]) -> None:
    """In Iris versicolor and virginica overlap: one flower of each is taken for the other."""
    metrics = runs["evaluate"].data.metrics
    assert {name: metrics[f"rows.{name}"] for name in SPECIES} == {"setosa": 12, "versicolor": 9, "virginica": 9}
    assert metrics["accuracy"] == pytest.approx(28 / 30)
    for name, right in {"setosa": 12 / 12, "versicolor": 8 / 9, "virginica": 8 / 9}.items():
        for metric in ("precision", "recall", "f1"):
            assert metrics[f"{metric}.{name}"] == pytest.approx(right)
    assert metrics["f1_macro"] == pytest.approx((1 + 8 / 9 + 8 / 9) / 3)


def test_all_other_flowers_are_predicted_as_what_they_are(finished: Finished) -> None:
    predictions = rows_of(finished.place.lake("iris_predictions"))
    pairs = zip(predictions["species"].to_pylist(), predictions["prediction"].to_pylist(), strict=True)
    assert Counter(pair for pair in pairs if pair[0] != pair[1]) == {
        ("versicolor", "virginica"): 1,
        ("virginica", "versicolor"): 1,
    }


def test_the_baseline_answers_the_most_frequent_class_of_the_train_part(runs: dict[str, Run]) -> None:
    """It is virginica or versicolor, with 9 of the 30 flowers of the test part each."""
    metrics = runs["evaluate"].data.metrics
    assert metrics["baseline_accuracy"] == pytest.approx(9 / 30)
    assert metrics["baseline_f1_macro"] == pytest.approx(2 * 9 / (30 + 9) / 3)
    assert metrics["baseline_roc_auc"] == pytest.approx(0.5)


def test_the_three_parts_hold_every_row(runs: dict[str, Run]) -> None:
    metrics = runs["train"].data.metrics
    parts = [metrics[f"{part}_rows"] for part in ("train", "validation", "test")]
    assert (sum(parts), parts[2], metrics["unlabelled_rows"]) == (150, 30, 0)


def test_params_are_logged_as_they_were_resolved(finished: Finished, runs: dict[str, Run]) -> None:
    params = runs["train"].data.params
    assert {key: params[f"model.{key}"] for key in ("num_boost_round", "max_depth", "learning_rate", "seed")} == {
        "num_boost_round": "200",
        "max_depth": "4",
        "learning_rate": "0.1",
        "seed": "7",
    }
    assert params["table.uri"] == finished.place.lake("iris@v0")
    assert runs["ingest"].data.params["source.uri"] == "sklearn:iris"
    assert runs["evaluate"].data.params["gate.metric"] == "f1_macro"
    assert runs["infer"].data.params["model.uri"] == f"models:/{MODEL}/1"


def test_train_logs_its_metric_for_every_round(client: MlflowClient, runs: dict[str, Run]) -> None:
    for part in ("train", "validation"):
        history = client.get_metric_history(runs["train"].info.run_id, f"{part}_mlogloss")
        assert [metric.step for metric in history] == list(range(1, 201))
        assert history[-1].value < history[0].value < np.log(3)  # better than no knowledge of three classes


@pytest.mark.parametrize(
    ("step", "picture"),
    [
        ("train", "learning_curve.png"),
        ("train", "feature_importance.png"),
        ("evaluate", "confusion_matrix.png"),
        ("evaluate", "roc.png"),
        ("evaluate", "precision_recall.png"),
        ("evaluate", "calibration.png"),
    ],
)
def test_pictures_are_png_files_with_something_in_them(runs: dict[str, Run], step: str, picture: str) -> None:
    content = (Path(runs[step].info.artifact_uri) / picture).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    assert len(content) > 5000


def test_the_report_is_one_page_with_verdict_metrics_and_pictures(runs: dict[str, Run]) -> None:
    page = (Path(runs["evaluate"].info.artifact_uri) / "report.html").read_text(encoding="utf-8")
    assert f"models:/{MODEL}/1" in page
    assert re.search(r'<p class="verdict">Verdict: <strong class="outcome pass">pass</strong></p>', page)
    assert re.search(r'<th scope="row">accuracy</th><td>0\.9333</td>', page)
    assert page.count("data:image/") == 4
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', page)


def test_the_parent_run_can_be_compared_with_others_without_a_look_at_its_steps(
    finished: Finished, runs: dict[str, Run]
) -> None:
    parent, evaluated = runs["main"].data, runs["evaluate"].data
    names = [*metrics_of("classification"), "baseline_f1_macro"]
    assert parent.metrics == {name: evaluated.metrics[name] for name in names}
    assert parent.tags["verdict"] == "pass"
    note = parent.tags["mlflow.note.content"].replace("&nbsp;", "")
    assert note.startswith(
        "Workflow iris: a classification of species from sklearn:iris\n\n"
        f"Verdict: pass on [models:/{MODEL}/1](#/models/{MODEL}/versions/1), f1_macro 0.9259\n\n"
    )
    assert f"| [models:/{MODEL}/1](#/models/{MODEL}/versions/1) |" in note
    assert all(f"| [{step}](#/experiments/0/runs/{runs[step].info.run_id}) |" in note for step in STEPS)


def test_the_models_page_tells_its_aliases_and_how_to_move_them(client: MlflowClient) -> None:
    page = (client.get_registered_model(MODEL).description or "").replace("&nbsp;", "")
    assert "A classification of species, by the config iris." in page
    assert f"| staging | [version 1](#/models/{MODEL}/versions/1) | pass |" in page
    command = f"mlflow run . -e promote -P name={MODEL} -P version=staging -P alias=production --env-manager local"
    assert f"\n{command}\n" in page
    assert re.search(r"\| 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC \| – \| 1 \| \w+ \(gate\) \|", page)


def test_the_version_has_a_model_card_with_its_verdict(version: ModelVersion, runs: dict[str, Run]) -> None:
    description = version.description or ""
    card = description.replace("&nbsp;", "")
    assert card.startswith("Verdict: pass, by [run ")
    assert f"#/experiments/0/runs/{runs['evaluate'].info.run_id}" in card
    for cell in ("max_depth | 4", "rows | train 107, validation 13, test 30", "f1_macro (the gate's) | 0.9259"):
        assert f"| {cell} |" in card
    assert f'mlflow.pyfunc.load_model("models:/{MODEL}/1")' in card
    assert version.tags["git_commit"] in card
    whole = mlflow.artifacts.load_text(f"{runs['evaluate'].info.artifact_uri}/model_card.md")
    assert description.startswith(whole)


def test_ingest_logs_a_profile_of_each_column(runs: dict[str, Run]) -> None:
    profile = json.loads((Path(runs["ingest"].info.artifact_uri) / "profile.json").read_text(encoding="utf-8"))
    assert list(profile["columns"]) == [*FEATURES, "species"]
    width = profile["columns"]["petal_width"]
    assert [width[name] for name in ("type", "missing", "distinct", "min", "max")] == ["double", 0, 22, 0.1, 2.5]
    assert dict(profile["columns"]["species"]["top"]) == dict.fromkeys(("setosa", "versicolor", "virginica"), 50)
    assert runs["ingest"].data.metrics["rows"] == 150


@pytest.mark.parametrize("step", STEPS)
def test_each_step_logs_the_tables_version_as_its_dataset(runs: dict[str, Run], step: str) -> None:
    assert datasets_of(runs[step]) == [("iris", "v0", step)]


def test_staging_names_the_version_that_passed_and_its_history_says_so(client: MlflowClient) -> None:
    model = client.get_registered_model(MODEL)
    assert {alias: str(number) for alias, number in model.aliases.items()} == {"staging": "1"}
    ((key, move),) = model.tags.items()
    assert key.startswith("alias_history.staging.20")
    assert {k: v for k, v in json.loads(move).items() if k not in ("when", "who")} == {
        "from_version": "",
        "to_version": "1",
        "how": "gate",
    }


def test_the_version_says_where_it_comes_from_and_how_it_was_judged(
    finished: Finished, version: ModelVersion, runs: dict[str, Run]
) -> None:
    tags = version.tags
    assert tags["verdict"] == "pass"
    said = r"f1_macro 0\.9259 \(95% interval 0\.\d{4} to 1\.0000\) is at least 0\.85; f1_macro 0\.9259 against "
    assert re.match(said, tags["verdict.reasons"])
    assert tags["verdict.run_id"] == runs["evaluate"].info.run_id
    assert tags["verdict.test_rows"] == "30"
    assert (tags["config"], tags["task"], tags["target"]) == ("iris", "classification", "species")
    assert re.fullmatch(r"[0-9a-f]{64}", tags["config_sha256"])
    assert tags["table_uri"] == finished.place.lake("iris@v0")
    assert tags["run_id"] == version.run_id == runs["train"].info.run_id
    assert re.fullmatch(r"[0-9a-f]{40}", tags["git_commit"])
    assert tags["git_commit"] == runs["main"].data.tags["mlflow.source.git.commit"]


def test_the_booster_is_the_same_one_every_time(version: ModelVersion) -> None:
    assert version.tags["booster_sha256"] == BOOSTER_SHA256


def test_the_model_has_a_signature_and_an_input_example(tracking: None) -> None:
    info = mlflow.models.get_model_info(f"models:/{MODEL}/1")
    assert info.signature is not None
    assert info.signature.inputs.input_names() == FEATURES
    assert info.signature.outputs.input_names() == LINEAGE[:3]
    assert info.saved_input_example_info is not None


def test_the_loaded_model_takes_columns_by_name(finished: Finished, tracking: None) -> None:
    rows = rows_of(finished.place.lake("iris_predictions"))
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
    for order in (FEATURES, FEATURES[::-1], ["species", *FEATURES]):
        predicted = model.predict(rows.select(order).to_pandas())
        assert predicted["prediction"].tolist() == rows["prediction"].to_pylist()


def test_nothing_else_appears_where_the_user_stands(finished: Finished) -> None:
    assert {entry.name for entry in finished.place.folder.iterdir()} == {"mlflow.db", "mlruns", "lake"}
    assert {entry.name for entry in (finished.place.folder / "lake").iterdir()} == {"iris", "iris_predictions"}


def test_nothing_appears_in_the_project(finished: Finished) -> None:
    before, after = finished.git_status
    assert after == before


def test_no_process_and_no_scratch_folder_is_left(finished: Finished) -> None:
    assert finished.place.processes() == {}
    left = [entry.name for entry in Path(finished.place.extra["TMPDIR"]).iterdir()]
    assert not [name for name in left if name.startswith("workflow")]
