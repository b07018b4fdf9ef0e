"""Earlier versions that count beside the champion, from a real registry: slow decay is seen."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sklearn.metrics
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from place import new_database
from small import fit, flower_parts, flowers_config, flowers_model, loaded, tracked

from steps.core.errors import ModelUnreadable
from steps.core.models import aliases, loading, model_files, registration, registry
from steps.core.models.earlier import Earlier, load_earlier
from steps.core.models.evaluation import evaluate
from steps.core.models.scorer import Scorer
from steps.core.models.split import Parts

NAME = "flowers_model"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ModelVersion]]:
    """Five: a good one that was released, one that failed, two weak ones that passed, and a new weak one."""
    folder = tmp_path_factory.mktemp("registry")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    with tracked(new_database(folder)):
        weak = fit(flowers_config(model={"name": NAME, "num_boost_round": 2, "max_depth": 2}), flower_parts())
        made = [register(model) for model in (flowers_model(), flowers_model(), weak, weak, weak)]
        for version, verdict in zip(made, ("pass", "fail", "pass", "pass"), strict=False):
            digest = {"verdict.test_rows_digest": "rows"}
            registry.tag(version, {registry.VERDICT: verdict, **digest})
        aliases.move_alias(made[0], aliases.PRODUCTION, how="promote")
        aliases.move_alias(made[3], aliases.STAGING, how="gate")
        yield made
    patch.undo()


def register(model: Scorer) -> ModelVersion:
    example = flower_parts().train[[feature.name for feature in model.schema.features]].head(3)
    return registration.register(model.booster, model.schema, example=example, name=NAME, tags={})


def uris(earlier: Earlier) -> list[str]:
    return [model.uri for model in earlier.passed]


def test_they_are_the_release_and_those_that_passed_newest_first(versions: list[ModelVersion]) -> None:
    champion, _ = loading.load_champion(NAME)
    assert champion is not None
    earlier = load_earlier(versions[4], loaded=champion)
    assert earlier.production is not None
    assert earlier.production.uri == f"models:/{NAME}/1"
    assert uris(earlier) == [f"models:/{NAME}/{number}" for number in (4, 3, 1)]
    assert earlier.passed[0] is champion


def test_the_version_that_is_judged_is_none_of_them(versions: list[ModelVersion]) -> None:
    assert uris(load_earlier(versions[3], loaded=None)) == [f"models:/{NAME}/{number}" for number in (3, 1)]


def test_a_version_as_weak_as_the_champion_fails_by_what_is_in_production(versions: list[ModelVersion]) -> None:
    """Each step down was small enough; all of them are not."""
    version, (champion, _) = loading.load(versions[4]), loading.load_champion(NAME)
    settings = flowers_config(gate={"max_drop_below_champion": 0.01})
    alone = evaluate(flower_parts(), version, settings=settings, champion=champion)
    assert alone.verdict.outcome == "pass"
    result = evaluate(
        flower_parts(),
        version,
        settings=settings,
        champion=champion,
        earlier=lambda: load_earlier(versions[4], loaded=champion),
    )
    outcomes = {rule.name: rule.outcome for rule in result.verdict.rules if rule.outcome == "fail"}
    assert outcomes == {"production": "fail", "best of the last 10 that passed": "fail"}
    assert f"of models:/{NAME}/1: " in result.verdict.reasons[-1]


def test_they_are_loaded_for_a_version_only_that_passes_so_far(versions: list[ModelVersion]) -> None:
    def load() -> Earlier:
        raise AssertionError("loaded in vain")

    settings = flowers_config(gate={"at_least": 1.0})
    version = loading.load(versions[4])
    assert evaluate(flower_parts(), version, settings=settings, champion=None, earlier=load).verdict.outcome == "fail"


def test_versions_that_were_judged_on_the_same_rows_are_counted_each_once(versions: list[ModelVersion]) -> None:
    assert registry.doubts_of_rows(versions[0], "rows") == ["these test rows have judged 4 versions"]
    assert registry.doubts_of_rows(versions[4], "rows") == ["these test rows have judged 5 versions"]
    assert registry.doubts_of_rows(versions[4], "other rows") == []
    assert registry.doubts_of_rows(versions[4], "") == []


def test_one_that_is_lost_stops_nobody(versions: list[ModelVersion]) -> None:
    source = str(registry.resolve(f"models:/{NAME}/1").source).rpartition("/")[2]
    folder = next(Path.cwd().glob(f"mlruns/**/{source}"))
    kept = folder.rename(folder.with_name("kept"))
    try:
        earlier = load_earlier(versions[4], loaded=None)
    finally:
        shutil.move(kept, folder)
    assert earlier.production is None
    [doubt] = earlier.doubts
    assert re.fullmatch(rf"models:/{NAME}/1, which is in production, is lost \(.+\), so it is not compared with", doubt)
    assert uris(earlier) == [f"models:/{NAME}/{number}" for number in (4, 3)]
    assert MlflowClient().get_registered_model(NAME).aliases["production"] == 1


def test_what_is_in_production_stops_the_gate_where_its_store_does_not_answer(
    versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there for all that is known, so that nothing passes without it."""

    def fetch(version: ModelVersion) -> Path:
        raise ModelUnreadable(registry.uri_of(version), "its store does not answer")

    monkeypatch.setattr(model_files, "fetch", fetch)
    with pytest.raises(ModelUnreadable, match=rf"models:/{NAME}/1.*its store does not answer"):
        load_earlier(versions[4], loaded=None)


def test_a_class_that_only_an_earlier_version_knew_is_a_mistake_of_that_version() -> None:
    """It answers with a class that is in no row and that the version does not know."""
    parts = flower_parts()
    small = {name: rows[rows["species"] != "setosa"] for name, rows in vars(parts).items()}
    two = Parts(**small)
    version = loaded(fit(flowers_config(), two), "models:/flowers_model/2")
    before = loaded(flowers_model(), "models:/flowers_model/1")
    result = evaluate(
        two, version, settings=flowers_config(), champion=None, earlier=lambda: Earlier(production=before, passed=())
    )
    (rule,) = [rule for rule in result.verdict.rules if rule.name == "production"]
    predicted = flowers_model().predict(None, two.test)["prediction"]
    known = sorted(set(two.test["species"]))
    f1 = sklearn.metrics.f1_score(two.test["species"], predicted, average="macro", labels=known)
    assert rule.outcome in ("pass", "fail")
    assert f"against {f1:.4f} of models:/flowers_model/1: " in rule.sentence
