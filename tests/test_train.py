"""What training makes of its parts: a schema, a booster and a signature; and that the logged model answers alike."""

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from mlflow.exceptions import MlflowException
from mlflow.models import validate_schema
from mlflow.models.utils import _enforce_schema
from mlflow.types.schema import DataType, Map
from place import new_database
from small import TABLE, fit, flower_parts, flowers, flowers_config, flowers_model, model_of, tracked

from steps.core import config
from steps.core.errors import TableUnfit
from steps.core.models import loading, registration, registry, scorer, split
from steps.core.models.registration import signature_of
from steps.core.models.split import Parts
from steps.core.models.training import Fit, fit_booster, learn_schema

EMPTY = flowers().head(0)


def learn(parts: Parts, settings: config.Config | None = None) -> scorer.Schema:
    settings = settings or flowers_config()
    return learn_schema(parts, settings, split_settings=split.settings_of(settings), table_uri=TABLE)


def boost(parts: Parts | None = None, **changes: object) -> Fit:
    parts = parts or flower_parts()
    return fit_booster(parts, learn(parts), model=flowers_config().model.model_copy(update=changes))


def booster_bytes(fit: Fit) -> bytes:
    return bytes(fit.booster.save_raw("ubj"))


class TestFitBooster:
    def test_the_same_rows_settings_and_seed_give_the_same_bytes(self) -> None:
        assert booster_bytes(boost()) == booster_bytes(boost())

    def test_the_order_of_rows_and_columns_in_the_table_does_not_matter(self) -> None:
        mixed = flowers().sample(frac=1, random_state=3)[["wild", "species", "color", "petals", "petal_length"]]
        parts = split.split(mixed, split.settings_of(flowers_config()))
        assert booster_bytes(boost(parts)) == booster_bytes(boost())

    def test_it_is_what_xgboost_makes_of_these_rows_itself(self) -> None:
        """By its scikit-learn interface and pandas categories, instead of ours."""
        parts, model = flower_parts(), flowers_config().model
        frames, codes = [], []
        for part in (parts.train, parts.validation):
            color = part["color"].astype(pd.CategoricalDtype(["blue", "red", "white"]))
            frames.append(part[["petal_length", "petals", "wild"]].assign(color=color))
            codes.append(part["species"].map({"setosa": 0, "versicolor": 1, "virginica": 2}))
        reference = xgboost.XGBClassifier(
            n_estimators=model.num_boost_round,
            max_depth=model.max_depth,
            learning_rate=model.learning_rate,
            early_stopping_rounds=model.early_stopping_rounds,
            random_state=model.seed,
            eval_metric="mlogloss",
            enable_categorical=True,
        ).fit(frames[0], codes[0], eval_set=[(frames[1], codes[1])], verbose=False)
        ours = model_of(boost().booster, learn(parts)).probabilities(parts.test)
        color = parts.test["color"].astype(pd.CategoricalDtype(["blue", "red", "white"]))
        theirs = reference.predict_proba(parts.test[["petal_length", "petals", "wild"]].assign(color=color))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)

    def test_it_stops_when_validation_gets_no_better_and_keeps_the_best_rounds_only(self) -> None:
        fit = boost(num_boost_round=500, learning_rate=0.5, early_stopping_rounds=5)
        validation = fit.history["validation"]
        assert fit.best_round == validation.index(min(validation)) + 1
        assert len(validation) == fit.best_round + 5 < 500
        assert fit.booster.num_boosted_rounds() == fit.best_round

    def test_its_history_is_the_log_loss_of_each_part(self) -> None:
        fit, parts = boost(num_boost_round=3), flower_parts()
        for name in ("train", "validation"):
            part = getattr(parts, name)
            probabilities = model_of(fit.booster, learn(parts)).probabilities(part)
            codes = part["species"].map({"setosa": 0, "versicolor": 1, "virginica": 2}).to_numpy()
            loss = -np.log(probabilities[np.arange(len(part)), codes]).mean()
            assert fit.history[name][fit.best_round - 1] == pytest.approx(loss, rel=1e-4)
            assert len(fit.history[name]) == 3

    def test_hyperparameters_reach_the_booster(self) -> None:
        trees = boost(num_boost_round=2, max_depth=1).booster.trees_to_dataframe()
        assert trees["Tree"].nunique() == 2 * 3  # one for each class
        assert trees.groupby("Tree").size().max() == 3  # a root and two leaves
        assert booster_bytes(boost(learning_rate=0.1)) != booster_bytes(boost(learning_rate=0.2))

    def test_validation_rows_of_a_class_that_training_does_not_have_are_left_out(self) -> None:
        parts = flower_parts()
        more = dataclasses.replace(
            parts, validation=pd.concat([parts.validation, parts.validation.head(5).assign(species="peony")])
        )
        assert booster_bytes(boost(more)) == booster_bytes(boost())

    @pytest.mark.filterwarnings("ignore:.*Empty dataset at worker:UserWarning")
    def test_validation_rows_of_unknown_classes_only_are_refused(self) -> None:
        parts = flower_parts()
        with pytest.raises(TableUnfit, match="validation"):
            boost(dataclasses.replace(parts, validation=parts.validation.assign(species="peony")))

    def test_a_value_of_another_type_than_the_config_says_is_refused_with_its_column(self) -> None:
        """As in a table that another config has made."""
        parts = flower_parts()
        with pytest.raises(TableUnfit, match=rf"{TABLE}: .*row 0, column 'petals': 3.5 is not a whole number"):
            boost(dataclasses.replace(parts, train=parts.train.assign(petals=3.5)))

    def test_a_feature_that_is_always_missing_is_no_obstacle(self) -> None:
        """I06: a column with only nulls."""
        parts = Parts(**{n: getattr(flower_parts(), n).assign(color=None, petal_length=np.nan) for n in split.PARTS})
        assert boost(parts).booster.num_features() == 4


class TestLearnSchema:
    def test_it_says_what_goes_in_and_what_comes_out(self) -> None:
        schema = learn(flower_parts())
        assert [(feature.name, feature.type, feature.levels) for feature in schema.features] == [
            ("petal_length", "double", None),
            ("petals", "long", None),
            ("wild", "boolean", None),
            ("color", "string", ("blue", "red", "white")),
        ]
        assert (schema.target, schema.classes) == ("species", ("setosa", "versicolor", "virginica"))
        assert schema.table_uri == TABLE
        settings = split.SplitSettings(**{**schema.split, "columns": tuple(schema.split["columns"])})
        assert settings == split.settings_of(flowers_config())

    def test_it_is_learnt_from_the_train_part_alone(self) -> None:
        parts = flower_parts()
        unknown = {"color": "green", "species": "peony"}
        some_unknown = pd.concat([parts.validation, parts.validation.assign(**unknown)])
        seen = dataclasses.replace(parts, validation=some_unknown, test=parts.test.assign(**unknown))
        assert learn(seen) == learn(parts)

    def test_it_does_not_depend_on_the_order_of_rows(self) -> None:
        parts = flower_parts()
        assert learn(dataclasses.replace(parts, train=parts.train[::-1])) == learn(parts)

    @pytest.mark.parametrize("empty", ["train", "validation", "test"])
    def test_an_empty_part_is_refused_by_name(self, empty: str) -> None:
        with pytest.raises(TableUnfit, match=f"{TABLE}: its {empty} part has no labelled row\n"):
            learn(dataclasses.replace(flower_parts(), **{empty: EMPTY}))

    def test_a_table_without_labels_is_refused_with_all_its_parts(self) -> None:
        with pytest.raises(TableUnfit, match="its train part.*\n.*its validation part.*\n.*its test part"):
            learn(Parts(train=EMPTY, validation=EMPTY, test=EMPTY))

    def test_few_different_rows_are_counted(self) -> None:
        """However many there are of each: all that are equal are in one part."""
        rows = pd.concat([flowers(2)] * 75, ignore_index=True)
        settings = split.settings_of(flowers_config())
        parts = split.split(rows, settings)
        message = (
            "part has no labelled row(\n.*)+ingest rows that differ more: the 150 that have a label hold 2 different "
            "values of color, petal_length, petals, wild, and equal ones are always in the same part, or change split"
        )
        with pytest.raises(TableUnfit, match=message):
            learn(parts)

    @pytest.mark.parametrize(
        ("rows", "advice"), [(0, "rows that have a label"), (3, "more rows than the 3 that have a")]
    )
    def test_few_rows_that_all_differ_are_counted(self, rows: int, advice: str) -> None:
        with pytest.raises(TableUnfit, match=f"\n  next      ingest {advice}"):
            learn(Parts(train=flowers(rows), validation=EMPTY, test=EMPTY))

    def test_one_class_is_refused_with_its_value(self) -> None:
        """T03."""
        parts = Parts(**{name: getattr(flower_parts(), name).assign(species="setosa") for name in split.PARTS})
        message = r"species has one value \(setosa\) in its train part\n.*at least two values of species"
        with pytest.raises(TableUnfit, match=message):
            learn(parts)

    @pytest.mark.parametrize(
        ("kind", "labels", "expected"),
        [
            ("long", pa.array([10, 3, 7] * 40), (3, 7, 10)),
            ("boolean", pa.array([True, False] * 60), (False, True)),
            pytest.param(
                "long",
                pa.array([10, 3, None] * 40),
                (3, 10),
            ),
            ("boolean", pa.array([True, False, None] * 40), (False, True)),
        ],
        ids=["long", "boolean", "long with missing", "boolean with missing"],
    )
    def test_classes_are_the_targets_own_labels_in_its_own_type(
        self, kind: str, labels: pa.Array, expected: tuple[object, ...]
    ) -> None:
        """T01 and T07: as train.main gets them, from Arrow, with the rows that have no label left out."""
        settings = flowers_config(columns={"x": {"type": "double"}, "species": {"type": kind}})
        rows = pa.table({"x": np.arange(120.0), "species": labels}).to_pandas()
        parts = split.split(rows[rows["species"].notna()], split.settings_of(settings))
        classes = learn(parts, settings).classes
        assert classes == expected
        assert [type(label) for label in classes] == [type(label) for label in expected]


class TestSignature:
    def test_columns_go_in_by_name_and_no_value_is_cast_before_the_model_sees_it(self) -> None:
        inputs = signature_of(flowers_model().schema).inputs
        assert inputs.input_names() == ["petal_length", "petals", "wild", "color"]
        frame = pd.DataFrame({"petal_length": [None, "x"], "petals": [1, 2], "wild": [None, True], "color": [7, None]})
        pd.testing.assert_frame_equal(_enforce_schema(frame, inputs), frame)

    @pytest.mark.parametrize(
        ("classes", "kind"), [(("a", "b"), "string"), ((3, 7), "long"), ((False, True), "boolean")], ids=str
    )
    def test_predictions_come_out_in_the_targets_type(self, classes: tuple[str | int | bool, ...], kind: str) -> None:
        outputs = signature_of(dataclasses.replace(flowers_model().schema, classes=classes)).outputs
        types = [column.type for column in outputs.inputs]
        assert types == [DataType[kind], DataType.double, Map(DataType.double)]
        assert outputs.input_names() == ["prediction", "probability", "probabilities"]

    @pytest.mark.parametrize(
        ("classes", "kind"), [(("a", "b", "c"), "string"), ((3, 7, 10), "long"), ((False, True), "boolean")]
    )
    @pytest.mark.parametrize("rows", [0, 20])
    def test_predictions_are_what_it_says(self, classes: tuple[str | int | bool, ...], kind: str, rows: int) -> None:
        known = dict(zip(("setosa", "versicolor", "virginica"), classes, strict=False))
        parts = {name: getattr(flower_parts(), name) for name in split.PARTS}
        relabelled = {name: part[part["species"].isin(known)] for name, part in parts.items()}
        relabelled = {name: part.assign(species=part["species"].map(known)) for name, part in relabelled.items()}
        columns = {**flowers_config().model_dump()["columns"], "species": {"type": kind}}
        model = fit(flowers_config(columns=columns), Parts(**relabelled))
        predicted = model.predict(None, flowers(rows))
        validate_schema(predicted, signature_of(model.schema).outputs)
        assert set(predicted["prediction"].tolist()) == (set(classes) if rows else set())


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loading.LoadedModel]:
    folder = tmp_path_factory.mktemp("train")
    with tracked(new_database(folder)):
        experiment_id = mlflow.create_experiment("e", artifact_location=str(folder / "artifacts"))
        model = flowers_model()
        with mlflow.start_run(experiment_id=experiment_id):
            version = registration.register(
                model.booster,
                model.schema,
                example=flowers(3)[["petal_length", "petals", "wild", "color"]],
                name="flowers_model",
                tags={},
            )
        yield loading.load(version)


class TestRegistered:
    """The model as `train` logs and registers it, loaded again from a real store in SQLite."""

    @pytest.fixture
    def files(self, registered: loading.LoadedModel) -> Path:
        return Path(mlflow.artifacts.download_artifacts(registered.uri))

    def test_it_answers_as_the_model_that_was_trained(self, registered: loading.LoadedModel) -> None:
        rows = flowers(30, seed=8)
        expected = flowers_model().predict(None, rows)
        pd.testing.assert_frame_equal(registered.scorer.predict(None, rows), expected)
        pd.testing.assert_frame_equal(mlflow.pyfunc.load_model(registered.uri).predict(rows), expected)

    def test_it_answers_several_at_once(self, registered: loading.LoadedModel) -> None:
        """As a server does, whose requests are threads: XGBoost uses one core for few values, and all for many."""
        rows = flowers(40_000, seed=8)
        frames = [rows.iloc[:20_000], rows.iloc[20_000:], *(rows.iloc[i : i + 20] for i in range(0, 2_000, 20))] * 2
        scorer = loading.load(registry.resolve(registered.uri)).scorer
        with ThreadPoolExecutor(8) as pool:
            answered = list(pool.map(scorer.probabilities, frames))
        for frame, probabilities in zip(frames, answered, strict=True):
            np.testing.assert_array_equal(probabilities, flowers_model().probabilities(frame))

    def test_its_input_may_be_shuffled_widened_and_full_of_holes(self, registered: loading.LoadedModel) -> None:
        rows = flowers(30, seed=8)
        rows["petals"] = rows["petals"].astype(float).where(rows.index % 3 > 0)
        rows["extra"] = "x"
        predicted = mlflow.pyfunc.load_model(registered.uri).predict(
            rows[["extra", "wild", "color", "petals", "petal_length"]]
        )
        pd.testing.assert_frame_equal(predicted, flowers_model().predict(None, rows))

    def test_a_missing_column_is_refused_by_name(self, registered: loading.LoadedModel) -> None:
        with pytest.raises(MlflowException, match="missing inputs.*color"):
            mlflow.pyfunc.load_model(registered.uri).predict(flowers(3).drop(columns="color"))

    def test_a_model_of_a_whole_number_without_holes_is_registered(self, registered: loading.LoadedModel) -> None:
        """As train.main takes its example: from the train part, where a long without missing values is int64."""
        model, train_part = registered.scorer, flower_parts().train
        example = train_part[[feature.name for feature in model.schema.features]].head(3)
        assert example["petals"].dtype == np.int64
        with mlflow.start_run():
            registration.register(model.booster, model.schema, example=example, name="flowers_model", tags={})

    def test_nothing_in_it_is_pickled(self, files: Path) -> None:
        """R06: it loads where pickles are refused, and under another Python."""
        inside = [path for path in files.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
        assert {path.suffix for path in inside} == {".py", ".ubj", ".json", ".yaml", ".txt", ""}
        assert [path for path in inside if path.read_bytes().startswith(b"\x80")] == []

    def test_it_requires_no_more_than_it_imports_all_pinned(self, files: Path) -> None:
        required = [line.partition("==") for line in (files / "requirements.txt").read_text().split()]
        assert sorted(name for name, _, _ in required) == ["mlflow", "numpy", "pandas", "xgboost"]
        assert all(version for _, _, version in required)

    def test_it_carries_an_example_of_its_input(self, files: Path) -> None:
        example = json.loads((files / "input_example.json").read_text())
        assert example["columns"] == ["petal_length", "petals", "wild", "color"]
        assert len(example["data"]) == 3
