"""Each entry point alone, on what others left; the gate; aliases and their history."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow.entities import Run
from place import BOOSTER_SHA256, Ended, Place, datasets_of, new_database, rows_of, version_of

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"


def aliases(place: Place, model: str = MODEL) -> dict[str, str]:
    found = place.client.get_registered_model(model).aliases
    return {alias: str(number) for alias, number in found.items()}


def newest(place: Place, step: str) -> Run:
    return next(run for run in place.runs() if run.info.run_name == step)


def done(ended: Ended) -> str:
    """What the command printed, once it has ended well."""
    assert ended.exit_code == 0, ended.text
    return ended.out


def one_by_one(place: Place, **parameters: object) -> None:
    for step in ("ingest", "train", "evaluate", "infer"):
        done(place.step(step, **parameters))


@pytest.fixture(scope="module")
def trained(place: Place) -> Place:
    """Where Iris was ingested and version 1 was trained on it and passed the gate, one step after the other."""
    done(place.step("ingest"))
    done(place.step("train"))
    done(place.step("evaluate"))
    return place


def test_a_version_of_a_table_and_a_hyperparameter_can_be_given_to_train(trained: Place) -> None:
    ended = trained.step("train", table=trained.lake("iris@v0"), max_depth=2)
    version = done(ended).strip().rpartition("/")[2]
    assert ended.out == f"train: model = models:/{MODEL}/{version}\n"
    assert int(version) >= 2
    params = newest(trained, "train").data.params
    assert (params["model.max_depth"], params["table.uri"]) == ("2", trained.lake("iris@v0"))


def test_an_unpinned_table_is_pinned_and_logged_so(trained: Place) -> None:
    done(trained.step("train", num_boost_round=5))
    run = newest(trained, "train")
    assert run.data.params["table.uri"] == trained.lake("iris@v0")
    assert datasets_of(run) == [("iris", "v0", "train")]


def test_train_hands_on_an_earlier_version_where_reuse_is_asked_for(trained: Place) -> None:
    """As a scheduler asks for it, which may have lost the end of a task that was done."""
    first = done(trained.step("train", num_boost_round=6, reuse=True))
    versions = len(trained.client.search_model_versions(f"name='{MODEL}'"))
    again = trained.step("train", num_boost_round=6, reuse=True)
    assert done(again) == first
    assert re.search(r"run [0-9a-f]{8} has trained this already, and nothing has changed since", again.err)
    assert done(trained.step("train", num_boost_round=7, reuse=True)) != first
    assert len(trained.client.search_model_versions(f"name='{MODEL}'")) == versions + 1


def test_a_relative_table_path_starts_where_the_user_stands(trained: Place) -> None:
    done(trained.mlflow_run("train", table="lake/iris@v0", num_boost_round=5))
    assert newest(trained, "train").data.params["table.uri"] == trained.lake("iris@v0")


def test_the_same_parameters_make_the_same_booster_and_others_another(trained: Place) -> None:
    digests = [trained.client.get_model_version(MODEL, "1").tags["booster_sha256"]]
    for _ in range(2):
        version = done(trained.step("train", num_boost_round=20, seed=3, max_depth=2)).strip().rpartition("/")[2]
        digests.append(trained.client.get_model_version(MODEL, version).tags["booster_sha256"])
    assert digests[0] != digests[1] == digests[2]


def test_the_booster_is_the_one_that_main_makes(trained: Place) -> None:
    """Other processes, in another folder: the same rows, the same split, the same trees."""
    assert trained.client.get_model_version(MODEL, "1").tags["booster_sha256"] == BOOSTER_SHA256


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_predictions_are_no_table_to_learn_from(trained: Place, step: str) -> None:
    rows = rows_of(trained.lake("iris"))
    predicted = rows.append_column("deleted_at", pa.nulls(len(rows), pa.timestamp("us", "UTC")))
    write_deltalake(trained.lake("predicted"), predicted, mode="overwrite")
    ended = trained.step(step, table="lake/predicted")
    assert ended.exit_code == 1, ended.text
    assert "TableUnfit: " in ended.err
    assert "has a column 'deleted_at', which predictions have" in ended.err


def test_evaluate_alone_judges_the_model_that_is_named(trained: Place) -> None:
    ended = trained.step("evaluate", model=f"models:/{MODEL}/1", table=trained.lake("iris@v0"))
    assert done(ended).startswith(
        f"evaluate: verdict = pass\nevaluate: champion = models:/{MODEL}/1\nevaluate: because f1_macro 0."
    )
    assert newest(trained, "evaluate").data.metrics["accuracy"] > 0.9


@pytest.fixture(scope="module")
def model(trained: Place) -> str:
    """A model of its own for the tests of aliases: versions 1 and 2 passed the gate, 3 was not judged."""
    name, client = "promoted", trained.client
    source = client.get_model_version_download_uri(MODEL, "1")
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source)
    for version in ("1", "2"):
        client.set_model_version_tag(name, version, "verdict", "pass")
    client.set_registered_model_alias(name, "staging", "2")
    return name


def test_infer_again_changes_nothing_and_another_model_does(trained: Place, model: str) -> None:
    lake = trained.folder / "predicted"
    table = trained.lake("iris@v0")
    first = trained.step("infer", lake=lake, table=table)
    assert done(first) == f"infer: predictions = {lake}/iris_predictions@v0\n"
    run_ids = rows_of(f"{lake}/iris_predictions")["run_id"].unique().to_pylist()
    assert run_ids == [newest(trained, "infer").info.run_id]
    assert trained.step("infer", lake=lake, table=table).out == first.out
    assert version_of(f"{lake}/iris_predictions") == 0
    assert newest(trained, "infer").data.metrics == {"rows": 150, "rows_scored": 0, "rows_kept": 150, "rows_deleted": 0}
    assert rows_of(f"{lake}/iris_predictions")["run_id"].unique().to_pylist() == run_ids
    other = f"models:/{model}/1"
    assert (
        done(trained.step("infer", lake=lake, table=table, model=other))
        == f"infer: predictions = {lake}/iris_predictions@v1\n"
    )
    assert rows_of(f"{lake}/iris_predictions")["model_uri"].unique().to_pylist() == [other]


def test_rows_without_labels_are_predicted_from_a_table_of_their_own(trained: Place) -> None:
    """As ingest says that refuses them."""
    rows = rows_of(trained.lake("iris")).drop_columns(["species"])
    write_deltalake(trained.folder / "new flowers", rows)
    lake = trained.folder / "predicted new"
    ended = trained.step("infer", table=trained.folder / "new flowers", lake=lake)
    assert done(ended) == f"infer: predictions = {lake}/iris_predictions@v0\n"
    assert rows_of(f"{lake}/iris_predictions")["prediction"].null_count == 0
    assert rows_of(f"{lake}/iris_predictions").num_rows == 150


@pytest.fixture(scope="module")
def gated(place: Place) -> Place:
    """A folder of its own beside the module's, on the same Spark."""
    folder = place.folder / "gated"
    folder.mkdir()
    new_database(folder)
    return Place(folder, place.extra)


def test_a_gate_that_fails_infers_with_nothing_or_with_the_champion(gated: Place) -> None:
    strict = gated.config(gate={"min_gain_over_baseline": 0.99})

    done(gated.step("ingest"))
    done(gated.step("train"))
    alone = gated.step("main", config=strict)  # takes the two, and judges

    assert alone.exit_code == 1
    assert "Traceback" not in alone.text
    assert f"NothingToInferWith: the gate's verdict on models:/{MODEL}/1 is fail and there is no champion" in alone.err
    assert "at least 0.99 better is required" in alone.err
    assert alone.err.count("NothingToInferWith") == 1
    assert not Path(gated.lake("iris_predictions")).exists()
    assert aliases(gated) == {}
    assert gated.client.get_model_version(MODEL, "1").tags["verdict"] == "fail"
    assert {run.info.run_name: run.info.status for run in gated.runs()} == {
        "main": "FAILED",
        "ingest": "FINISHED",
        "train": "FINISHED",
        "evaluate": "FINISHED",
    }

    done(gated.step("evaluate", model=f"models:/{MODEL}/1"))  # by the default config's gate
    assert aliases(gated) == {"staging": "1"}
    judged_again = gated.step("main", config=strict)
    assert judged_again.exit_code == 0, judged_again.text
    assert f"The verdict on models:/{MODEL}/1 is fail: f1_macro" in judged_again.out
    done(gated.step("train", config=strict, num_boost_round=9))
    with_champion = gated.step("main", config=strict, num_boost_round=9)

    assert with_champion.exit_code == 0, with_champion.text
    assert f"The verdict on models:/{MODEL}/2 is fail: f1_macro" in with_champion.out
    assert f"The predictions are those of the champion models:/{MODEL}/1." in with_champion.out
    assert aliases(gated) == {"staging": "1"}
    predictions = rows_of(gated.lake("iris_predictions"))
    assert predictions["model_uri"].unique().to_pylist() == [f"models:/{MODEL}/1"]
    record = newest(gated, "main").data.tags
    assert (record["output.verdict"], record["output.champion"]) == ("fail", f"models:/{MODEL}/1")
    assert record["output.model"] == f"models:/{MODEL}/2"


def test_a_lost_champion_stops_no_workflow(place: Place) -> None:
    folder = place.folder / "lost"
    folder.mkdir()
    new_database(folder)
    lost = Place(folder, place.extra)
    for step in ("ingest", "train", "evaluate"):
        done(lost.step(step))
    model_id = str(lost.client.get_model_version(MODEL, "1").source).rpartition("/")[2]
    booster = next(folder.glob(f"mlruns/**/{model_id}/artifacts/artifacts/booster.ubj"))
    booster.write_bytes(booster.read_bytes()[:100])

    ended = lost.step("main", num_boost_round=30)

    assert ended.exit_code == 0, ended.text
    assert (
        f"evaluate: the champion models:/{MODEL}/1 is lost (artifacts/booster.ubj is not what was logged" in ended.err
    )
    assert aliases(lost) == {"staging": "2"}
    assert rows_of(lost.lake("iris_predictions"))["model_uri"].unique().to_pylist() == [f"models:/{MODEL}/2"]


def test_an_absolute_limit_fails_a_model_that_cannot_reach_it(trained: Place) -> None:
    config = trained.config(gate={"metric": "accuracy", "at_least": 1})
    before = aliases(trained)["staging"]
    version = done(trained.step("train", num_boost_round=5)).strip().rpartition("/")[2]
    ended = trained.step("evaluate", config=config, model=f"models:/{MODEL}/{version}")
    assert re.fullmatch(
        f"evaluate: verdict = fail\nevaluate: champion = models:/{MODEL}/{before}\n"
        r"evaluate: because accuracy 0\.\d{4} \(95% interval [\d.]+ to [\d.]+\) is not at least 1\n"
        r"(evaluate: because .*\n)+",
        done(ended),
    )
    assert "not at least 1" in trained.client.get_model_version(MODEL, version).tags["verdict.reasons"]
    assert aliases(trained)["staging"] == before


def test_promote_refuses_a_version_that_was_not_judged_unless_forced(trained: Place, model: str) -> None:
    ended = trained.step("promote", name=model, version=3, alias="unjudged")
    assert ended.exit_code == 1
    assert f"PromotionRefused: the verdict on models:/{model}/3 is: not judged yet" in ended.err
    without_reason = trained.step("promote", name=model, version=3, alias="unjudged", force="true")
    assert (without_reason.exit_code, without_reason.out) == (1, "")
    command = f"mlflow run . -e promote -P name={model} -P version=3 -P alias=unjudged -P force=true -P reason=WHY"
    assert f"`{command} --env-manager local`" in without_reason.err
    assert "unjudged" not in aliases(trained, model)
    reason = "Ada's wish: | & <b> $5"
    ended = trained.step("promote", name=model, version=3, alias="unjudged", force="true", reason=reason)
    assert "now names version 3" in done(ended)
    assert aliases(trained, model)["unjudged"] == "3"
    tags = trained.client.get_registered_model(model).tags
    (move,) = [json.loads(value) for key, value in tags.items() if key.startswith("alias_history.unjudged.")]
    assert move["reason"] == reason


def test_promote_moves_production_back_and_forth_and_keeps_the_history(trained: Place, model: str) -> None:
    assert "production now names version 1" in done(trained.step("promote", name=model, version=1))
    assert "production now names version 2" in done(trained.step("promote", name=model))  # what staging names
    assert "production named already version 2" in done(trained.step("promote", name=model))
    assert "production now names version 1" in done(trained.step("promote", name=model, version="previous"))
    assert aliases(trained, model)["production"] == "1"
    tags = trained.client.get_registered_model(model).tags
    moves = [json.loads(tags[key]) for key in sorted(tags) if key.startswith("alias_history.production.")]
    assert [(move["from_version"], move["to_version"], move["how"]) for move in moves] == [
        ("", "1", "promote"),
        ("1", "2", "promote"),
        ("2", "1", "previous"),
    ]
    assert {move["who"] for move in moves} == {os.environ.get("USER") or "root"}
    assert [move["when"] for move in moves] == sorted(move["when"] for move in moves)
    nothing_before = trained.step("promote", name=model, version="previous")
    assert nothing_before.exit_code == 1
    assert f"PromotionRefused: production of {model} named nothing before version 1" in nothing_before.err


def test_labels_keep_their_values_from_source_to_predictions(trained: Place) -> None:
    """Labels 3, 7 and 10, which XGBoost alone would not take."""
    source = Path(__file__).with_name("cases") / "T01_labels_gap.csv"
    shutil.copy(source, trained.folder / "gap.csv")
    config = trained.config(
        name="gap",
        source={"uri": "gap.csv"},
        columns={"x": {"type": "double"}, "y": {"type": "double"}, "label": {"type": "long"}},
        target="label",
        model={"name": "gap"},
    )
    one_by_one(trained, config=config)
    predictions = rows_of(trained.lake("gap_predictions"))
    assert set(predictions["prediction"].to_pylist()) == {3, 7, 10}
    hits = [row["prediction"] == row["label"] for row in predictions.to_pylist()]
    assert sum(hits) / len(hits) > 0.95


def test_labels_may_hold_what_the_name_of_a_metric_may_not(trained: Place) -> None:
    labels = ["<=50K", ">50K", "it's 50%"]
    lines = [f"{n % 3 + n / 1000},{labels[n % 3]}" for n in range(200)]
    (trained.folder / "incomes.csv").write_text("\n".join(["x,income", *lines]))
    config = trained.config(
        name="incomes",
        source={"uri": "incomes.csv"},
        columns={"x": {"type": "double"}, "income": {"type": "string"}},
        target="income",
        model={"name": "incomes"},
    )
    one_by_one(trained, config=config)
    metrics = newest(trained, "evaluate").data.metrics
    logged = {name for name in metrics if name.startswith("f1.")}
    assert {name.rpartition(".")[0] for name in logged} == {"f1.__50K", "f1._50K", "f1.it_s 50_"}
    assert all(re.fullmatch(r"[0-9a-f]{8}", name.rpartition(".")[2]) for name in logged)
    assert set(rows_of(trained.lake("incomes_predictions"))["prediction"].to_pylist()) == set(labels)


def test_a_model_of_another_make_is_told(trained: Place) -> None:
    script = """
import mlflow
from mlflow.pyfunc import PythonModel
class Other(PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return model_input
mlflow.pyfunc.log_model(name="other", python_model=Other(), pip_requirements=[], registered_model_name="other")
"""
    assert trained.run(sys.executable, "-c", script).exit_code == 0
    for step in ("infer", "evaluate"):
        ended = trained.step(step, model="models:/other/1")
        assert (ended.exit_code, ended.out) == (1, "")
        assert "ModelNotFound: models:/other/1 was not trained by this project\n" in ended.err
        assert "Traceback" not in ended.err


def test_a_model_whose_files_are_gone_is_told(trained: Place) -> None:
    version = done(trained.step("train", num_boost_round=4)).strip().rpartition("/")[2]
    model_id = str(trained.client.get_model_version(MODEL, version).source).rpartition("/")[2]
    shutil.rmtree(next(trained.folder.glob(f"mlruns/**/{model_id}")))
    ended = trained.step("infer", model=f"models:/{MODEL}/{version}")
    assert (ended.exit_code, ended.out) == (1, "")
    assert f"ModelDamaged: models:/{MODEL}/{version} cannot be loaded: MLmodel" in ended.err
    assert "Traceback" not in ended.err


def test_a_source_whose_name_a_shell_would_run_is_read_as_it_is_named(trained: Place) -> None:
    name = 'it\'s "a b" = $HOME; touch run\n`touch run` %a.csv'
    shutil.copy(Path(__file__).with_name("cases") / "T01_labels_gap.csv", trained.folder / name)
    columns = {"x": {"type": "double"}, "y": {"type": "double"}, "label": {"type": "long"}}
    config = trained.config(name="named", columns=columns, target="label")
    ended = trained.mlflow_run("ingest", config=config, source=name, lake="out dir")
    assert done(ended) == f"ingest: table = {trained.folder}/out dir/named@v0\n"
    assert newest(trained, "ingest").data.tags["input.source"] == str(trained.folder / name)
    assert not (trained.folder / "run").exists()
