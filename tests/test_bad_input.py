"""What a user can get wrong: exit code 1, one message that says what to do, and a run that is FAILED with it."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from mlflow.entities import Run
from place import COLUMNS, PROJECT, Ended, Finished, Place, new_database, rows_of, without_java
from sklearn.datasets import load_iris

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"


def one_message(ended: Ended, *said: str) -> None:
    """The command failed, and told why once, with what was expected and what to do next, and no traceback."""
    assert ended.exit_code == 1, ended.text
    assert "Traceback" not in ended.text
    assert ended.text.count("\n  expected  ") == ended.text.count("\n  next      ") == 1, ended.text
    assert [text for text in said if text not in ended.text] == [], ended.text


def failed_with_it(place: Place, step: str, ended: Ended) -> None:
    """The newest run is the step's; it FAILED and carries the message that the user saw."""
    run = place.runs()[0]
    assert (run.info.run_name, run.info.status) == (step, "FAILED")
    assert run.data.tags["error"] in ended.err


@pytest.fixture(scope="module")
def lake(place: Place, finished: Finished) -> str:
    """A table of Iris with three versions, of which version 0 was vacuumed; read where a step is given no other."""
    path = place.lake("iris")
    rows = rows_of(finished.place.lake("iris"))
    for _ in range(3):
        write_deltalake(path, rows, mode="overwrite")
    write_deltalake(place.lake("vacuumed"), rows)
    write_deltalake(place.lake("vacuumed"), rows, mode="overwrite")
    DeltaTable(place.lake("vacuumed")).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    return str(place.folder / "lake")


CONFIGS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("unknown key", {"gaet": {"metric": "accuracy"}}, ["ConfigInvalid", "gaet is not a key (did you mean 'gate'?)"]),
    ("unknown key below", {"model": {"max_dept": 3}}, ["model.max_dept is not a key (did you mean 'max_depth'?)"]),
    ("wrong value", {"model": {"num_boost_round": "many"}}, ["ConfigInvalid", "model.num_boost_round: 'many' given"]),
    ("missing source", {"source": {"uri": "nowhere.csv"}}, ["SourceUnreadable", "nowhere.csv", "no such file"]),
    (
        "missing column",
        {"columns": {**COLUMNS, "petal_length": {"type": "double", "source": "petal length"}}},
        ["ContractBroken", "the source has no 'petal length' (did you mean 'petal length (cm)'?)"],
    ),
]


@pytest.mark.parametrize(("changes", "said"), [each[1:] for each in CONFIGS], ids=[each[0] for each in CONFIGS])
def test_ingest_says_what_is_wrong_with_config_or_source(
    place: Place, changes: dict[str, Any], said: list[str]
) -> None:
    target = {"target": "target"} if "target" in changes.get("columns", {}) else {}
    ended = place.step("ingest", config=place.config(name="never_made", **changes, **target))
    one_message(ended, *said)
    failed_with_it(place, "ingest", ended)
    assert not Path(place.lake("never_made")).exists()


PARAMETERS: list[tuple[str, str, dict[str, str], list[str]]] = [
    ("config that is not there", "ingest", {"config": "no.yaml"}, ["ConfigNotFound", "'no.yaml'", str(PROJECT)]),
    ("model that does not exist", "infer", {"model": "models:/nobody/1"}, ["ModelNotFound", "models:/nobody/1"]),
    ("alias that does not exist", "infer", {"model": f"models:/{MODEL}@gold"}, ["ModelNotFound", "@gold"]),
    ("text that names no model", "evaluate", {"model": "iris@home/1"}, ["ModelNotFound", "'iris@home/1'"]),
    ("nothing to evaluate", "evaluate", {}, ["ModelNotFound", f"model {MODEL} has no version", "-e train"]),
    ("nothing to promote", "promote", {}, ["ModelNotFound", f"{MODEL}@staging"]),
    ("table that does not exist", "train", {"table": "lake/nothing"}, ["TableNotFound", "lake/nothing", "-e ingest"]),
    ("version to come", "train", {"table": "lake/iris@v9"}, ["TableVersionGone", "iris@v9", "0 to 2"]),
    ("version vacuumed", "train", {"table": "lake/vacuumed@v0"}, ["TableVersionGone", "version 0 was vacuumed"]),
    (
        "source in a bucket that cannot be",
        "ingest",
        {"source": "s3://b/rows.csv"},
        ["SourceUnreadable: source s3://b/rows.csv", "no bucket that there can be"],
    ),
    ("lake that is elsewhere", "ingest", {"lake": "gs://bucket/lake"}, ["LakeUndefined", "gs:"]),
    ("data set that scikit-learn has not", "ingest", {"source": "sklearn:roses"}, ["SourceUnreadable", "'roses'"]),
]


@pytest.mark.parametrize(
    ("step", "parameters", "said"), [each[1:] for each in PARAMETERS], ids=[each[0] for each in PARAMETERS]
)
def test_a_step_says_what_it_cannot_find(
    place: Place, lake: str, step: str, parameters: dict[str, str], said: list[str]
) -> None:
    ended = place.step(step, **parameters)
    one_message(ended, *said)
    failed_with_it(place, step, ended)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"max_dept": "2"}, ["ParametersInvalid", "'max_dept' is not one of them (did you mean 'max_depth'?)"]),
        ({"num_boost_round": "banana", "seed": "-1"}, ["ParametersInvalid", "num_boost_round='banana'", "seed='-1'"]),
    ],
    ids=["misspelt", "bad values"],
)
def test_a_parameter_that_a_step_cannot_take_is_named(
    place: Place, lake: str, parameters: dict[str, str], said: list[str]
) -> None:
    ended = place.mlflow_run("train", **parameters)
    one_message(ended, *said)
    failed_with_it(place, "train", ended)


@pytest.fixture(scope="module")
def broken(place: Place) -> tuple[Ended, list[Run]]:
    """`-e main` with a rule that some rows of Iris break, and the runs that it made."""
    columns = {name: {**rules, "source": f"{name.replace('_', ' ')} (cm)"} for name, rules in COLUMNS.items()}
    columns["petal_width"]["min"] = 0.2
    columns["species"]["source"] = "target"
    before = len(place.runs())
    ended = place.mlflow_run("main", config=place.config(name="broken", columns=columns))
    runs = place.runs()
    return ended, runs[: len(runs) - before]


def test_a_failing_step_of_main_is_told_once_and_no_other_is_started(broken: tuple[Ended, list[Run]]) -> None:
    ended, started = broken
    one_message(ended, "ContractBroken", "rows are below 0.2")
    assert ended.text.count("ContractBroken") == 1
    assert "\ningest failed\n" in ended.err
    assert "train ..." not in ended.text
    assert {run.info.run_name: run.info.status for run in started} == {"main": "FAILED", "ingest": "FAILED"}
    errors = {run.info.run_name: run.data.tags["error"] for run in started}
    assert errors["ingest"] in errors["main"]
    assert errors["main"] in ended.err


def test_the_command_that_is_told_runs_the_failed_step_again(place: Place, broken: tuple[Ended, list[Run]]) -> None:
    (again,) = [line[12:] for line in broken[0].err.splitlines() if line.startswith("  again     ")]
    command = shlex.split(again)
    assert command[:2] == ["mlflow", "run"]
    one_message(place.run(*command), "ContractBroken", "rows are below 0.2")


def test_main_does_not_start_anything_for_a_source_that_is_not_there(place: Place) -> None:
    ended = place.step("main", source="nowhere.csv")
    one_message(ended, "SourceUnreadable", str(place.folder / "nowhere.csv"))
    failed_with_it(place, "main", ended)
    assert "ingest ... " not in ended.err


def test_a_server_that_does_not_answer_is_told_soon(tmp_path: Path) -> None:
    ended = Place(tmp_path, {"MLFLOW_TRACKING_URI": "http://user:secret@127.0.0.1:9"}).step("train")
    one_message(ended, "TrackingUnavailable", "http://127.0.0.1:9", "does not answer")
    assert "secret" not in ended.text
    assert ended.seconds < 30
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_experiment_is_told_with_the_command_that_restores_it(tmp_path: Path) -> None:
    new_database(tmp_path)
    place = Place(tmp_path)
    place.client.delete_experiment("0")
    one_message(place.step("train"), "RunUnusable: no variable says which experiment, so 0: ", "restore -x 0")
    restored = place.run(Path("mlflow"), "experiments", "restore", "-x", "0")
    assert restored.exit_code == 0, restored.text
    assert place.client.get_experiment("0").lifecycle_stage == "active"


def large_source(folder: Path) -> dict[str, str]:
    """The environment in which a source is for Spark's workers, however small, and a file that is one."""
    new_database(folder)
    flowers = load_iris(as_frame=True)
    flowers.frame.assign(target=flowers.target_names[flowers.target]).to_csv(folder / "iris.csv", index=False)
    return {"WORKFLOW_IN_MEMORY_MEBIBYTES": "0"}


def test_main_fails_at_once_without_java_where_it_is_needed(tmp_path: Path) -> None:
    place = Place(tmp_path, {"PATH": without_java(tmp_path / "bin"), "JAVA_HOME": "", **large_source(tmp_path)})
    ended = place.step("main", source="iris.csv")
    one_message(ended, "JavaUnusable: there is no Java on PATH", "Java 17", "apt-get install")
    failed_with_it(place, "main", ended)
    assert [run.info.run_name for run in place.runs()] == ["main"]
    assert ended.seconds < 30


def test_a_source_of_ordinary_size_needs_no_java(tmp_path: Path) -> None:
    large_source(tmp_path)
    ended = Place(tmp_path, {"PATH": without_java(tmp_path / "bin"), "JAVA_HOME": ""}).step("ingest", source="iris.csv")
    assert ended.exit_code == 0, ended.text
    assert rows_of(str(tmp_path / "lake" / "iris")).num_rows == 150


def test_a_java_of_another_version_is_refused_by_main_and_by_ingest(tmp_path: Path) -> None:
    home = tmp_path / "java 11"
    (home / "bin").mkdir(parents=True)
    java = home / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    place = Place(tmp_path, {"JAVA_HOME": str(home), **large_source(tmp_path)})
    for ended in (place.step("main", source="iris.csv"), place.step("ingest", source="iris.csv")):
        one_message(ended, f"JavaUnusable: Java JAVA_HOME={home} is version 11")
    assert {run.info.status for run in place.runs()} == {"FAILED"}


def test_a_limit_that_is_no_number_is_told(tmp_path: Path) -> None:
    new_database(tmp_path)
    ended = Place(tmp_path, {"WORKFLOW_IN_MEMORY_MEBIBYTES": "much"}).step("ingest")
    one_message(ended, "SettingInvalid: WORKFLOW_IN_MEMORY_MEBIBYTES=much", "a whole number of mebibytes")
