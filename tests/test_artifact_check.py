"""Whether a registered version can be used by others: by a real process, on a real registry."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from place import Place, new_database, until
from small import flower_parts, flowers_model, tracked

from steps.core.models import artifact_check, registration, registry
from steps.core.models.verdict import Rule

COLUMNS = ["petal_length", "petals", "wild", "color", "species"]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a registered version."""
    folder = tmp_path_factory.mktemp("registry")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    with tracked(new_database(folder)):
        model = flowers_model()
        example = flower_parts().train[[feature.name for feature in model.schema.features]].head(3)
        registered = registration.register(model.booster, model.schema, example=example, name="flowers_model", tags={})
        yield registry.uri_of(registered)
    patch.undo()


def checked(uri: str, columns: list[str] = COLUMNS) -> Rule:
    with artifact_check.started(uri) as check:
        return check.rule(columns)


def files_of(uri: str) -> Path:
    source = str(registry.resolve(uri).source).rpartition("/")[2]
    return next(Path.cwd().glob(f"mlruns/**/{source}")) / "artifacts"


@pytest.mark.spark
def test_a_version_that_loads_and_scores_its_example_passes(version: str) -> None:
    rule = checked(version)
    assert (rule.outcome, rule.told) == ("pass", False), rule.sentence


@pytest.mark.spark
def test_what_lies_in_the_working_folder_and_on_the_path_counts_for_nothing(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["relative", str(tmp_path)]))
    for folder in (tmp_path, Path("relative")):
        for module in ("steps", "mlflow", "xgboost"):
            (folder / module).mkdir(parents=True)
            (folder / module / "__init__.py").write_text("raise ImportError('of somebody else')")
    rule = checked(version)
    assert rule.outcome == "pass", rule.sentence


@pytest.mark.spark
def test_a_version_whose_inputs_the_table_has_not_fails(version: str) -> None:
    rule = checked(version, ["petals", "wild", "species"])
    assert rule.outcome == "fail"
    assert rule.sentence == (
        f"{version} cannot be used as it is registered: its signature has petal_length, color, which the table has not"
    )


@pytest.mark.spark
def test_a_version_that_does_not_score_its_example_fails_with_the_message(version: str) -> None:
    schema = files_of(version) / "artifacts" / "schema.json"
    text = schema.read_text()
    try:
        written = json.loads(text)
        written["features"][0]["name"] = "sepal_length"
        schema.write_text(json.dumps(written))
        rule = checked(version)
    finally:
        schema.write_text(text)
    assert rule.outcome == "fail"
    assert "sepal_length" in rule.sentence
    assert "\n" not in rule.sentence


def test_a_version_that_is_not_there_fails(version: str) -> None:
    assert "cannot be used as it is registered: " in checked("models:/flowers_model/99").sentence


def test_the_process_does_not_outlive_its_block(version: str) -> None:
    with pytest.raises(KeyboardInterrupt, match="now"), artifact_check.started(version) as check:
        raise KeyboardInterrupt("now")
    assert check.process.returncode is not None
    assert MlflowClient().search_model_versions("name = 'flowers_model'")


@pytest.mark.spark
def test_evaluate_alone_has_it_done_by_a_fork_of_its_own_and_leaves_no_process(tmp_path: Path) -> None:
    new_database(tmp_path)
    place = Place(tmp_path)
    names: set[str] = set()
    for step in ("ingest", "train"):
        assert place.step(step).exit_code == 0
    with ThreadPoolExecutor() as beside:
        running = beside.submit(replace(place, is_forked=False).step, "evaluate")
        while not running.done():
            names.update(place.processes().values())
            time.sleep(0.02)
    assert running.result().out.startswith("evaluate: verdict = pass\n"), running.result().text
    assert {"steps-warm", "steps-without-p"} <= names  # as they name themselves, in 15 characters
    assert until(lambda: place.processes() == {})
