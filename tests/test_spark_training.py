"""Spark's workers boost the model that one process boosts: the same artifact, of the same quality."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from place import Place, new_database
from pyspark.sql import SparkSession
from sklearn.metrics import log_loss, root_mean_squared_error
from small import FLOWERS, flowers, flowers_config, model_of, sqlite, tracked
from test_engines import LEARNT, rows_of, schema_of, surveyed, table_of

from steps import evaluate, train
from steps.core import config, metrics
from steps.core.errors import TableUnfit
from steps.core.models import judged_rows, scorer, spark_evaluation, spark_training, training
from steps.core.models.boosting import Block, Recipe
from steps.core.models.engines import Engine
from steps.core.models.training_rows import TrainingRows
from steps.core.spark.session import spark_session

pytestmark = pytest.mark.spark

SAME_QUALITY = 0.05  # relative: how far a test score may be from the other engine's; measured 0.01 and less
LOCAL, SPARK = (Engine(name=name, on_disk=False, reason="") for name in ("local", "spark"))


@pytest.fixture(scope="module", autouse=True)
def spark(served: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> TrainingRows:
    frame = flowers(6000)
    frame.loc[::9, "species"] = None
    return rows_of(table_of([frame[:2000], frame[2000:]], tmp_path_factory.mktemp("flowers")))


def fitted(rows: TrainingRows, engine: Engine) -> tuple[training.Fit, scorer.Schema]:
    survey = surveyed(rows)
    schema = schema_of(rows, survey)
    return training.fit_rows(rows, survey, schema, model=rows.settings.model, engine=engine), schema


def judged_part_of(rows: TrainingRows) -> pd.DataFrame:
    return pd.concat(rows.of("test", survey=surveyed(rows)))


class TestQuality:
    def test_classes_are_told_apart_as_well_by_either_engine(self, rows: TrainingRows) -> None:
        test, losses = judged_part_of(rows), []
        for engine in (LOCAL, SPARK):
            fit, schema = fitted(rows, engine)
            probabilities = model_of(fit.booster, schema).probabilities(test)
            losses.append(log_loss(test["species"], probabilities, labels=list(schema.classes)))
            assert fit.booster.num_boosted_rounds() == fit.best_round
            assert fit.booster.feature_names == ["petal_length", "petals", "wild", "color"]
            assert fit.booster.feature_types == ["q", "q", "q", "c"]
            validation = fit.history["validation"]
            assert fit.best_round == validation.index(min(validation)) + 1
        assert losses[1] == pytest.approx(losses[0], rel=SAME_QUALITY)
        assert losses[0] < 0.5

    def test_numbers_are_predicted_as_well_by_either_engine(self, tmp_path: Path) -> None:
        frame = flowers(6000)[["petal_length", "color", "petals"]]
        noise = np.random.default_rng(0).normal(0, 3, len(frame))
        frame["weight_g"] = frame["petal_length"].fillna(4) ** 2 + 5 * (frame["color"] == "red") + noise
        columns = {name: {"type": "double"} for name in ("petal_length", "weight_g")}
        settings = config.Config.model_validate(
            {
                "name": "flowers",
                "source": {"uri": "flowers.csv"},
                "columns": {**columns, "color": {"type": "string"}, "petals": {"type": "long"}},
                "target": "weight_g",
                "task": "regression",
                "model": {"name": "m", "num_boost_round": 60, "max_depth": 3},
            }
        )
        rows = rows_of(table_of([frame], tmp_path), settings)
        test, errors = judged_part_of(rows), []
        for engine in (LOCAL, SPARK):
            fit, schema = fitted(rows, engine)
            predicted = model_of(fit.booster, schema).values(test)
            errors.append(root_mean_squared_error(test["weight_g"], predicted))
        assert errors[1] == pytest.approx(errors[0], rel=SAME_QUALITY)
        assert errors[0] < 0.3 * test["weight_g"].std()

    @pytest.mark.parametrize("name", ["weights of classes and of rows", "split by time", "quantile"])
    def test_whatever_a_model_learns_it_learns_as_well_by_either_engine(self, name: str, tmp_path: Path) -> None:
        settings, frame = LEARNT[name]
        rows = rows_of(table_of([frame[:1500], frame[1500:]], tmp_path), settings)
        losses = []
        for engine in (LOCAL, SPARK):
            fit, schema = fitted(rows, engine)
            assert fit.booster.feature_names == scorer.column_names(schema.features)
            losses.append((fit.metric, min(fit.history["validation"])))
        assert losses[0][0] == losses[1][0]
        assert losses[1][1] == pytest.approx(losses[0][1], rel=SAME_QUALITY)

    def test_a_constraint_holds_by_either_engine(self, tmp_path: Path) -> None:
        settings, frame = LEARNT["a constraint and parameters"]
        rows = rows_of(table_of([frame[:1500], frame[1500:]], tmp_path), settings)
        one = frame.head(1).drop(columns=["petal_length", "height"])
        lengths = one.merge(pd.DataFrame({"petal_length": np.linspace(0, 8, 200)}), how="cross")
        for engine in (LOCAL, SPARK):
            fit, schema = fitted(rows, engine)
            predicted = model_of(fit.booster, schema).values(lengths)
            assert (np.diff(predicted) <= 0).all()
            assert np.corrcoef(frame["petal_length"].fillna(4), frame["height"])[0, 1] > 0.8

    def test_all_rounds_are_kept_where_nothing_is_to_stop_them(self, rows: TrainingRows) -> None:
        survey, model = surveyed(rows), rows.settings.model.model_copy(update={"num_boost_round": 7})
        schema = schema_of(rows, survey)
        fit = training.fit_rows(rows, survey, schema, model=model, engine=SPARK, stop_early=False)
        assert (fit.best_round, fit.booster.num_boosted_rounds()) == (7, 7)


@pytest.fixture
def session(rows: TrainingRows) -> Iterator[SparkSession]:
    with spark_session(rows.table.path, data_bytes=0) as session:
        yield session


def recipe_of(rows: TrainingRows) -> Recipe:
    survey = surveyed(rows)
    return training.recipe_of(survey.parts.train, schema_of(rows, survey), rows.settings.model)


def weighed(recipe: Recipe) -> Recipe:
    """`recipe` with rows of the first class that weigh twice as much."""
    encode = recipe.encode

    def encode_with_weights(rows: pd.DataFrame) -> Block:
        block = encode(rows)
        return replace(block, weight=np.where(block.target == 0, 2.0, 1.0))

    return replace(recipe, encode=encode_with_weights)


class TestEncoded:
    def test_workers_encode_each_row_as_this_process_does(self, rows: TrainingRows, session: SparkSession) -> None:
        recipe, survey = weighed(recipe_of(rows)), surveyed(rows)
        encoded_by_workers = spark_training.encoded(rows.table, recipe, rows.settings, rows.split_settings, session)
        encoded: pd.DataFrame = encoded_by_workers.toPandas()
        for part in ("train", "validation"):
            blocks = [recipe.encode(batch) for batch in rows.of(part, survey=survey)]
            expected = np.column_stack(
                [np.concatenate([block.features for block in blocks])]
                + [np.concatenate([getattr(block, name) for block in blocks]) for name in ("target", "weight")]
            )
            found = encoded.loc[encoded["is_validation"] == (part == "validation")].to_numpy()[:, :-1].astype(float)
            assert len(found) == len(getattr(survey.parts, part)) > 500
            found, expected = (np.nan_to_num(one, nan=-1) for one in (found, expected))
            np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])

    def test_as_many_workers_boost_as_this_machine_has_cores(self, session: SparkSession) -> None:
        assert spark_training._task_slots(session) == len(os.sched_getaffinity(0))


class TestMetrics:
    def test_of_all_test_rows_they_are_what_one_process_computes(self, rows: TrainingRows) -> None:
        fit, schema = fitted(rows, LOCAL)
        model, test = model_of(fit.booster, schema), judged_part_of(rows)
        columns = rows.settings.training_columns
        by_spark = spark_evaluation.scores(rows.table, model, rows.settings, rows.split_settings, columns=columns)
        of_classes = [f"{measure}.{label}" for measure in metrics.CLASS_MEASURES for label in schema.classes]
        truth, probabilities = test["species"].to_numpy(), model.probabilities(test)
        whole = metrics.scores(truth, probabilities, schema.classes, also=of_classes)
        assert by_spark == pytest.approx({name: whole[name] for name in by_spark}, rel=1e-9)
        assert set(whole) - set(by_spark) == {"roc_auc", "average_precision"}


def test_a_value_of_another_type_is_one_message(tmp_path: Path) -> None:
    frame = flowers(400).astype({"petals": "float64"})
    frame.loc[7, "petals"] = 3.5
    rows = rows_of(table_of([frame], tmp_path))
    with pytest.raises(TableUnfit, match=r"column 'petals': 3\.5 is not a whole number"):
        fitted(rows, SPARK)


def test_train_by_spark_registers_the_same_artifact(served: dict[str, str], tmp_path: Path) -> None:
    place = Place(tmp_path, served)
    new_database(tmp_path)
    flowers(900).to_csv(tmp_path / "flowers.csv", index=False)
    settings = flowers_config()
    config = place.config(
        name="flowers",
        source={"uri": "flowers.csv"},
        columns={name: {"type": settings.columns[name].type} for name in settings.columns},
        target="species",
        model={"name": "flowers_model", "num_boost_round": 20},
        gate={"at_least": 0.5},
    )
    config.rename(tmp_path / "flowers.yaml")
    assert place.step("ingest", config="flowers.yaml").exit_code == 0
    trained = place.step("train", config="flowers.yaml", engine="spark")
    assert trained.exit_code == 0, trained.text
    assert "train: engine spark: it was asked for" in trained.err
    run = next(run for run in place.runs() if run.info.run_name == "train")
    assert run.data.params["model.engine"] == "spark"
    assert run.data.metrics["train_rows"] > 500
    evaluated = place.step("evaluate", config="flowers.yaml")
    assert "verdict = pass" in evaluated.out, evaluated.text


def test_a_test_part_that_is_judged_by_a_sample_has_the_metrics_of_all_its_rows_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    new_database(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite(tmp_path))
    settings = {**FLOWERS, "split": {"time": "day"}, "gate": {"at_least": 0.5}}
    settings["columns"] = {**FLOWERS["columns"], "day": {"type": "timestamp", "feature": False}}
    (tmp_path / "flowers.yaml").write_text(yaml.safe_dump(settings))
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.random.default_rng(0).permutation(2000), unit="h")
    table_of([flowers(2000).assign(day=days.astype("datetime64[us]"))], tmp_path / "lake/flowers")
    monkeypatch.setattr(judged_rows, "read", partial(judged_rows.read, most_rows=150))
    with tracked(sqlite(tmp_path)):
        train.main(["--config=flowers.yaml"])
        evaluate.main(["--config=flowers.yaml"])
        told = "".join(capsys.readouterr())
        (run,) = mlflow.search_runs(filter_string="tags.mlflow.runName = 'evaluate'", output_format="list")
    assert "evaluate: judged on 150 of 400 test rows, chosen by hash" in told
    scores = run.data.metrics
    assert scores["all_rows_accuracy"] == pytest.approx(scores["accuracy"], abs=0.1)
    assert scores["all_rows_accuracy"] * 400 == pytest.approx(round(scores["all_rows_accuracy"] * 400))
    assert scores["accuracy"] * 150 == pytest.approx(round(scores["accuracy"] * 150))
