"""What `-e status` tells: all that is there for a config, and what main would do now; and that it does nothing."""

import re
from pathlib import Path

import pytest
from place import Ended, Finished, Place, new_database, version_of, without_java

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"


@pytest.fixture(scope="module")
def quiet(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where a workflow has ended well, for a user who has no Java, and whose steps would need it."""
    no_java = {"PATH": without_java(tmp_path_factory.mktemp("path") / "bin"), "JAVA_HOME": ""}
    return Place(finished.place.folder, {**no_java, "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"})


def sections(text: str) -> dict[str, list[str]]:
    """The lines under each title, without their indent."""
    found: dict[str, list[str]] = {}
    for line in text.partition("\nstep ")[0].splitlines():
        if line and not line.startswith(" "):
            found[line] = []
        elif line:
            found[list(found)[-1]].append(line[2:])
    return found


def plan(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(ingest|train|evaluate|infer) +would run +(.+)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def status(quiet: Place) -> Ended:
    ended = quiet.mlflow_run("status")
    assert ended.exit_code == 0, ended.text
    return ended


@pytest.fixture(scope="module")
def dry_run(quiet: Place) -> Ended:
    return quiet.step("main", seed=8, dry_run="true")


def test_it_tells_tables_versions_verdicts_aliases_and_predictions(quiet: Place, status: Ended) -> None:
    told = sections(status.out)
    assert list(told) == ["table", "predictions", "model", "aliases"]
    line = rf"{re.escape(quiet.lake('iris'))}@v0  150 rows  \d{{4}}-\d\d-\d\d \d\d:\d\d UTC  run [0-9a-f]{{8}}"
    assert [bool(re.fullmatch(line, each)) for each in told["table"]] == [True]
    assert told["predictions"][-1] == f"the newest were made with models:/{MODEL}/1 from {quiet.lake('iris@v0')}"
    assert told["model"] == [f"models:/{MODEL}/1  pass  trained on {quiet.lake('iris@v0')}"]
    assert told["aliases"][0] == "staging = version 1"
    assert re.fullmatch(r"  [\d-]+ [\d:]+ UTC  none -> 1  by \S+ \(gate\)", told["aliases"][1])


def test_it_says_that_nothing_would_run_when_nothing_changed(status: Ended) -> None:
    assert plan(status.out) == {}
    assert status.out.count("reused, run ") == 4


def test_a_dry_run_starts_nothing_and_writes_nothing(quiet: Place, dry_run: Ended) -> None:
    assert dry_run.exit_code == 0, dry_run.text
    assert " ... " not in dry_run.err
    assert [str(version.version) for version in quiet.client.search_model_versions(f"name = '{MODEL}'")] == ["1"]
    assert version_of(quiet.lake("iris")) == version_of(quiet.lake("iris_predictions")) == 0
    newest = quiet.runs()[0]
    assert newest.info.run_name == "status"
    assert not [tag for tag in newest.data.tags if tag.startswith(("output.", "reused."))]


def test_it_says_what_would_run_and_why_and_is_the_dry_run_of_main(quiet: Place, dry_run: Ended) -> None:
    expected = {"train": "model.seed 7 -> 8", "evaluate": "follows train", "infer": "follows evaluate"}
    assert plan(dry_run.out) == expected
    assert quiet.mlflow_run("status", seed=8).out == dry_run.out


def test_where_nothing_is_it_says_so(tmp_path: Path) -> None:
    new_database(tmp_path)
    ended = Place(tmp_path).step("main", dry_run="true")
    assert ended.exit_code == 0, ended.text
    lake = tmp_path / "lake"
    assert sections(ended.out) == {
        "table": [f"{lake}/iris is not there yet"],
        "predictions": [f"{lake}/iris_predictions is not there yet"],
        "model": [f"{MODEL} has no version yet"],
        "aliases": ["none"],
    }
    follows = {"train": "follows ingest", "evaluate": "follows train", "infer": "follows evaluate"}
    assert plan(ended.out) == {"ingest": "first run", **follows}
    assert not lake.exists()


def test_what_is_there_is_told_although_the_source_is_gone(quiet: Place) -> None:
    ended = quiet.step("main", source="gone.csv", dry_run="true")
    assert ended.exit_code == 1
    assert "150 rows" in ended.out
    assert "SourceUnreadable" in ended.err
