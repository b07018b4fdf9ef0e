"""Each kind of task: what XGBoost is told to learn, compared with XGBoost's own interface and other references."""

import dataclasses
import json
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import xgboost
from place import PROJECT
from sklearn.utils.class_weight import compute_class_weight
from small import TABLE, flowers, flowers_config, model_of

from steps.core import config
from steps.core.errors import ConfigInvalid, TableUnfit
from steps.core.models import objectives, scorer, split, targets, training
from steps.core.models.split import Parts
from steps.core.models.training import Fit

SPECIES = ("setosa", "virginica")


def settings_with(model: dict[str, Any], **changes: Any) -> config.Config:
    return flowers_config(model={"name": "m", "num_boost_round": 30, "max_depth": 3, **model}, **changes)


@cache
def counts() -> pd.DataFrame:
    """Flowers with how many bees visit each, some of them none."""
    rows = flowers(900, seed=4)
    mean = np.exp(0.4 * rows["petal_length"].fillna(4) - 1 + rows["wild"])
    return rows.assign(visits=np.random.default_rng(1).poisson(mean).astype(float)).drop(columns="species")


def regression(model: dict[str, Any], **changes: Any) -> config.Config:
    columns = {name: column for name, column in flowers_config().model_dump()["columns"].items() if name != "species"}
    columns["visits"] = {"type": "double"}
    return settings_with(model, columns=columns, target="visits", task="regression", **changes)


def parts_of(rows: pd.DataFrame, settings: config.Config) -> Parts:
    return split.split(split.labelled(rows, settings), split.settings_of(settings))


def learn(parts: Parts, settings: config.Config) -> scorer.Schema:
    return training.learn_schema(parts, settings, split_settings=split.settings_of(settings), table_uri=TABLE)


def fit(rows: pd.DataFrame, settings: config.Config) -> tuple[Fit, scorer.Scorer, Parts]:
    parts = parts_of(rows, settings)
    schema = learn(parts, settings)
    made = training.fit_booster(parts, schema, model=settings.model)
    return made, model_of(made.booster, schema), parts


def booster_bytes(rows: pd.DataFrame, settings: config.Config) -> bytes:
    return bytes(fit(rows, settings)[0].booster.save_raw("ubj"))


def as_xgboost_takes(rows: pd.DataFrame) -> pd.DataFrame:
    color = rows["color"].astype(pd.CategoricalDtype(["blue", "red", "white"]))
    return rows[["petal_length", "petals", "wild"]].assign(color=color)


def two_species() -> pd.DataFrame:
    rows = flowers(900, seed=6)
    return rows[rows["species"].isin(SPECIES)]


class TestTwoClasses:
    def test_they_are_learnt_by_one_tree_a_round_as_xgboosts_own_classifier_learns_them(self) -> None:
        made, model, parts = fit(two_species(), settings_with({}))
        assert made.metric == "logloss"
        assert made.booster.num_boosted_rounds() == len(made.booster.get_dump())
        reference = xgboost.XGBClassifier(
            n_estimators=30, max_depth=3, learning_rate=0.1, early_stopping_rounds=20, enable_categorical=True
        ).fit(
            as_xgboost_takes(parts.train),
            parts.train["species"] == "virginica",
            eval_set=[(as_xgboost_takes(parts.validation), parts.validation["species"] == "virginica")],
            verbose=False,
        )
        expected = reference.predict_proba(as_xgboost_takes(parts.test))
        np.testing.assert_allclose(model.probabilities(parts.test), expected, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize(
        ("kind", "labels"), [("string", ("no", "yes")), ("boolean", (False, True)), ("long", (-3, 40))]
    )
    def test_their_labels_come_back_as_they_were_written(self, kind: str, labels: tuple[Any, Any]) -> None:
        settings = settings_with({}, columns={**flowers_config().model_dump()["columns"], "species": {"type": kind}})
        rows = two_species()
        rows = rows.assign(species=rows["species"].map(dict(zip(SPECIES, labels, strict=True))))
        _, model, parts = fit(rows, settings)
        predicted = model.predict(None, parts.test)
        assert {type(label) for label in predicted["prediction"].tolist()} == {type(labels[0])}
        accuracy = sklearn.metrics.accuracy_score(parts.test["species"].tolist(), predicted["prediction"].tolist())
        assert accuracy > 0.9
        probabilities = pd.DataFrame(predicted["probabilities"].tolist())
        assert probabilities.columns.tolist() == [str(label) for label in labels]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)


REFERENCES: dict[str, dict[str, Any]] = {
    "reg:squarederror": {},
    "reg:absoluteerror": {},
    "reg:quantileerror": {"quantile": 0.9},
    "count:poisson": {},
    "reg:tweedie": {"params": {"tweedie_variance_power": 1.3}},
}


class TestRegression:
    @pytest.mark.parametrize("objective", REFERENCES)
    def test_it_is_what_xgboosts_own_regressor_learns(self, objective: str) -> None:
        settings = regression({"objective": objective, **REFERENCES[objective]})
        made, model, parts = fit(counts(), settings)
        options = {"quantile_alpha": 0.9} if objective == "reg:quantileerror" else settings.model.params
        reference = xgboost.XGBRegressor(
            objective=objective,
            n_estimators=30,
            max_depth=3,
            learning_rate=0.1,
            early_stopping_rounds=20,
            enable_categorical=True,
            **options,
        ).fit(
            as_xgboost_takes(parts.train),
            parts.train["visits"],
            eval_set=[(as_xgboost_takes(parts.validation), parts.validation["visits"])],
            verbose=False,
        )
        np.testing.assert_allclose(model.values(parts.test), reference.predict(as_xgboost_takes(parts.test)), rtol=1e-4)
        assert made.metric in {"rmse", "mae", "quantile", "poisson-nloglik", "tweedie-nloglik"}

    def test_gamma_is_what_xgboosts_own_regressor_learns(self) -> None:
        rows = counts().assign(visits=counts()["visits"] + 0.5)
        made, model, parts = fit(rows, regression({"objective": "reg:gamma"}))
        assert made.metric == "gamma-deviance"
        reference = xgboost.XGBRegressor(
            objective="reg:gamma", n_estimators=made.best_round, max_depth=3, learning_rate=0.1, enable_categorical=True
        ).fit(as_xgboost_takes(parts.train), parts.train["visits"])
        np.testing.assert_allclose(model.values(parts.test), reference.predict(as_xgboost_takes(parts.test)), rtol=1e-4)

    @pytest.mark.parametrize("quantile", [0.1, 0.9])
    def test_a_quantile_is_above_that_share_of_the_targets(self, quantile: float) -> None:
        settings = regression({"objective": "reg:quantileerror", "quantile": quantile, "num_boost_round": 100})
        _, model, parts = fit(counts(), settings)
        assert (parts.test["visits"] <= model.values(parts.test)).mean() == pytest.approx(quantile, abs=0.12)

    def test_a_log_target_is_learnt_as_its_logarithm_and_predicted_as_itself(self) -> None:
        settings = regression({"target_transform": "log"})
        made, model, parts = fit(counts(), settings)
        reference = xgboost.XGBRegressor(
            n_estimators=30, max_depth=3, learning_rate=0.1, early_stopping_rounds=20, enable_categorical=True
        ).fit(
            as_xgboost_takes(parts.train),
            np.log1p(parts.train["visits"]),
            eval_set=[(as_xgboost_takes(parts.validation), np.log1p(parts.validation["visits"]))],
            verbose=False,
        )
        expected = np.expm1(reference.predict(as_xgboost_takes(parts.test)))
        np.testing.assert_allclose(model.values(parts.test), expected, rtol=1e-4)
        validation = sklearn.metrics.root_mean_squared_log_error(
            parts.validation["visits"], model.values(parts.validation)
        )
        assert made.metric == "log1p_rmse"
        assert made.history["validation"][made.best_round - 1] == pytest.approx(validation, rel=1e-4)

    @pytest.mark.parametrize(
        ("model", "bad", "message"),
        [
            (
                {"objective": "count:poisson"},
                -1.5,
                "visits is -1.5 in its train part; `objective: count:poisson` .* 0 or more\n.*\n.*change model.obj",
            ),
            ({"objective": "reg:tweedie"}, -1.5, "visits is -1.5 in its train part; .* takes targets 0 or more"),
            ({"objective": "reg:gamma"}, 0.0, r"visits is 0 in its train part \(\d+ such rows\); .* above 0"),
            (
                {"target_transform": "log"},
                -1.0,
                "visits is -1 in its train part; `target_transform: log` .* above -1\n.*\n.*change model.target_t",
            ),
            ({}, np.inf, "visits is inf in its train part, no finite number of 32 bits"),
        ],
    )
    def test_a_target_that_cannot_be_learnt_is_told(self, model: dict[str, Any], bad: float, message: str) -> None:
        settings = regression(model)
        parts = parts_of(counts(), settings)
        visits = parts.train["visits"].where(parts.train.index != 3, bad)
        with pytest.raises(TableUnfit, match=message):
            learn(dataclasses.replace(parts, train=parts.train.assign(visits=visits)), settings)


class TestWeights:
    def test_a_row_of_weight_three_is_as_good_as_three_rows(self) -> None:
        rows = counts().assign(times=np.random.default_rng(2).integers(0, 4, len(counts())))
        columns = {**regression({}).model_dump()["columns"], "times": {"type": "int"}}
        weighted = settings_with({}, columns=columns, target="visits", task="regression", weight="times")
        parts = parts_of(rows, weighted)
        schema = learn(parts, weighted)
        assert (schema.weight, [feature.name for feature in schema.features]) == ("times", weighted.features)
        copies = {name: part.loc[part.index.repeat(part["times"])] for name, part in vars(parts).items()}
        by_weight = model_of(training.fit_booster(parts, schema, model=weighted.model).booster, schema)
        bare = dataclasses.replace(schema, weight=None)
        by_copies = model_of(training.fit_booster(Parts(**copies), bare, model=weighted.model).booster, bare)
        np.testing.assert_allclose(by_weight.values(parts.test), by_copies.values(parts.test), rtol=1e-3)
        unweighted = model_of(training.fit_booster(parts, bare, model=weighted.model).booster, bare)
        assert np.abs(unweighted.values(parts.test) / by_weight.values(parts.test) - 1).max() > 0.01

    def test_balanced_classes_weigh_as_scikit_learn_says(self) -> None:
        settings = settings_with({"class_weights": "balanced"})
        parts = parts_of(flowers(), settings)
        schema = learn(parts, settings)
        weights = targets.class_weights(parts.train, schema, settings.model)
        expected = compute_class_weight("balanced", classes=np.array(schema.classes), y=parts.train["species"])
        assert [weights[label] for label in schema.classes] == pytest.approx(expected.tolist())
        of_rows = targets.row_weights(parts.train, schema, weights)
        assert of_rows is not None
        assert [of_rows[parts.train["species"] == label].sum() for label in schema.classes] == pytest.approx(
            [len(parts.train) / 3] * 3
        )

    def test_a_heavier_class_is_predicted_more_often_and_one_that_is_not_named_weighs_one(self) -> None:
        rows = flowers(900, seed=6)
        plain, heavy = (
            fit(rows, settings_with(model))[1].predict(None, rows)["prediction"]
            for model in ({}, {"class_weights": {"versicolor": 30}})
        )
        assert (heavy == "versicolor").sum() > (plain == "versicolor").sum()
        named = {"setosa": 1.0, "versicolor": 30.0, "virginica": 1.0}
        assert booster_bytes(rows, settings_with({"class_weights": named})) == booster_bytes(
            rows, settings_with({"class_weights": {"versicolor": 30}})
        )

    def test_a_class_that_there_is_not_is_told_with_the_nearest(self) -> None:
        settings = settings_with({"class_weights": {"setosae": 2}})
        message = (
            r"names 'setosae', no class of its train part \(did you mean 'setosa'\?\)\n"
            r" *expected *classes of its train part: setosa, versicolor, virginica\n *next *correct model.class_weights"
        )
        with pytest.raises(TableUnfit, match=message):
            learn(parts_of(flowers(), settings), settings)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (
                -1.0,
                "is -1 in its train part\n.*a finite number, 0 or more, as the weight times .*\n.*correct times in the",
            ),
            (np.inf, "the weight times is inf in its train part"),
            (np.nan, "the weight times is missing in its train part"),
        ],
    )
    def test_a_weight_that_is_none_is_told(self, bad: float, message: str) -> None:
        columns = {**flowers_config().model_dump()["columns"], "times": {"type": "double"}}
        settings = settings_with({}, columns=columns, weight="times")
        parts = parts_of(flowers().assign(times=1.0), settings)
        train = parts.train.assign(times=parts.train["times"].where(parts.train.index != 3, bad))
        with pytest.raises(TableUnfit, match=message):
            learn(dataclasses.replace(parts, train=train), settings)
        with pytest.raises(TableUnfit, match="the weight times is 0 in all rows of its train part\n.*above 0\n"):
            learn(dataclasses.replace(parts, train=parts.train.assign(times=0.0)), settings)


class TestConstraints:
    @pytest.mark.parametrize("direction", ["increasing", "decreasing"])
    @pytest.mark.parametrize("objective", REFERENCES)
    def test_a_prediction_never_moves_against_its_constraint(self, objective: str, direction: str) -> None:
        settings = regression({"objective": objective, "monotone": {"petal_length": direction}, "max_depth": 6})
        _, model, parts = fit(counts(), settings)
        rows = parts.test.head(20)
        steps = [model.values(rows.assign(petal_length=length)) for length in np.linspace(-3, 12, 60)]
        moves = np.diff(np.array(steps), axis=0) * (1 if direction == "increasing" else -1)
        assert moves.min() >= 0
        assert moves.max() > 0

    def test_of_two_classes_it_is_the_probability_of_the_second_that_moves(self) -> None:
        settings = settings_with({"monotone": {"petals": "increasing"}, "max_depth": 6})
        noisy = two_species().assign(petals=lambda rows: rows["petals"] + 2 * (rows["species"] == "virginica"))
        _, model, parts = fit(noisy, settings)
        rows = parts.test.head(20)
        steps = [model.probabilities(rows.assign(petals=count))[:, 1] for count in range(1, 14)]
        assert np.diff(np.array(steps), axis=0).min() >= 0
        assert np.diff(np.array(steps), axis=0).max() > 0

    def test_of_more_classes_it_is_refused(self) -> None:
        settings = settings_with({"monotone": {"petals": "increasing"}})
        with pytest.raises(TableUnfit, match="model.monotone is for numbers and for two classes, and species has 3"):
            learn(parts_of(flowers(), settings), settings)


class TestHyperparameters:
    @pytest.mark.parametrize(
        "change",
        [
            {"subsample": 0.5},
            {"colsample_bytree": 0.5},
            {"min_child_weight": 30},
            {"reg_lambda": 20},
            {"reg_alpha": 5},
            {"gamma": 300},
            {"early_stopping_rounds": 1, "learning_rate": 1},
            {"params": {"max_bin": 8}},
            {"params": {"grow_policy": "lossguide", "max_leaves": 4}},
        ],
        ids=str,
    )
    def test_each_changes_the_model(self, change: dict[str, Any]) -> None:
        assert booster_bytes(counts(), regression(change)) != booster_bytes(counts(), regression({}))

    @pytest.mark.parametrize("share", [{"subsample": 0.5}, {"colsample_bytree": 0.5}], ids=str)
    def test_the_seed_says_which_rows_or_columns_are_sampled(self, share: dict[str, float]) -> None:
        first, again, other = (booster_bytes(counts(), regression({**share, "seed": seed})) for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_without_sampling_the_seed_says_nothing(self) -> None:
        assert booster_bytes(counts(), regression({"seed": 1})) == booster_bytes(counts(), regression({"seed": 2}))

    def check(self, settings: config.Config, rows: pd.DataFrame) -> None:
        schema = learn(parts_of(rows, settings), settings)
        objectives.check_parameters(schema, settings.model, path="flowers.yaml")

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            (
                {"max_bim": 8},
                r"config flowers.yaml: .*no use for 'max_bim' with reg:squarederror \(did you mean 'max_bin",
            ),
            ({"tweedie_variance_power": 1.2}, "XGBoost has no use for 'tweedie_variance_power' with reg:squarederror"),
            (
                {"max_bin": "many"},
                "model.params: XGBoost refuses them: Invalid Parameter format for max_bin expect int",
            ),
            ({"tree_method": "exact"}, "model.params: XGBoost refuses them: .*"),
        ],
    )
    def test_a_parameter_that_xgboost_has_no_use_for_is_refused(self, params: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigInvalid, match=message):
            self.check(regression({"params": params}), counts())

    @pytest.mark.parametrize("objective", REFERENCES)
    def test_one_that_it_has_use_for_is_taken(self, objective: str) -> None:
        params = {"max_bin": 64, "colsample_bynode": 0.5, **REFERENCES[objective].get("params", {})}
        self.check(regression({"objective": objective, "params": params}), counts())

    def test_one_for_two_classes_is_refused_for_more(self) -> None:
        settings = settings_with({"params": {"scale_pos_weight": 2}})
        self.check(settings, two_species())
        with pytest.raises(ConfigInvalid, match="no use for 'scale_pos_weight' with multi:softprob"):
            self.check(settings, flowers())


class TestLittleToLearn:
    def test_no_feature_with_a_value_is_refused(self) -> None:
        parts = parts_of(flowers(), settings_with({}))
        empty = parts.train.assign(petal_length=np.nan, petals=np.nan, wild=None, color=None)
        with pytest.raises(TableUnfit, match="all values of all features are missing in its train part"):
            learn(dataclasses.replace(parts, train=empty), settings_with({}))

    def test_as_many_classes_as_rows_are_refused(self) -> None:
        rows = flowers(100).assign(species=[f"flower {number}" for number in range(100)])
        with pytest.raises(
            TableUnfit, match=r"species has \d+ values in the \d+ rows of its train part, fewer than two"
        ):
            learn(parts_of(rows, settings_with({})), settings_with({}))


IN_A_PROCESS = """
import hashlib, json, sys
sys.path[:0] = ["tests"]
import numpy as np, pandas as pd
from small import flowers, flowers_config
from test_tasks import booster_bytes, settings_with
digests = []
for rows in (flowers(900), flowers(60_000)):  # one thread, and all cores
    settings = settings_with({"subsample": 0.7, "colsample_bytree": 0.7, "seed": 3, "num_boost_round": 5})
    digests.append(hashlib.sha256(booster_bytes(rows, settings)).hexdigest())
print(json.dumps(digests))
"""


def test_a_fresh_process_makes_the_same_bytes_of_the_same_table() -> None:
    first, second = (
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert first == second
    assert len(set(json.loads(first))) == 2
