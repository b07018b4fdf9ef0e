"""A regression in its parts: the config, the metrics, the gate, training, the model and its evaluation."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sklearn.metrics
import xgboost
from pydantic import ValidationError
from sklearn import datasets
from small import TABLE, fit, flowers_config, flowers_model, loaded

from steps.core import config, metrics, significance
from steps.core.errors import TableUnfit
from steps.core.models import predictions, scorer, split, targets, training
from steps.core.models.evaluation import evaluate
from steps.core.models.registration import signature_of
from steps.core.models.split import Parts

TARGETS, GUESSES = np.array([3.0, -1.0, 4.0, 1.5]), np.array([2.5, 0.0, 4.0, 2.5])


@cache
def diabetes_config() -> config.Config:
    return config.load("configs/diabetes.yaml", home=Path("/"))


def with_gate(**gate: Any) -> config.Config:
    return config.Config.model_validate({**diabetes_config().model_dump(), "gate": gate})


@cache
def diabetes_parts() -> Parts:
    rows = split.labelled(datasets.load_diabetes(as_frame=True).frame, diabetes_config())
    return split.split(rows, split.settings_of(diabetes_config()))


@cache
def diabetes_model() -> scorer.Scorer:
    return fit(diabetes_config(), diabetes_parts())


def learn(**changes: pd.DataFrame) -> scorer.Schema:
    settings = diabetes_config()
    parts = dataclasses.replace(diabetes_parts(), **changes)
    return training.learn_schema(parts, settings, split_settings=split.settings_of(settings), table_uri=TABLE)


class TestConfig:
    def test_a_regression_is_judged_by_r2_unless_the_gate_names_a_metric(self) -> None:
        assert with_gate(at_least=0.1).gate.metric == "r2"
        assert with_gate(metric="mae").gate.metric == "mae"

    @pytest.mark.parametrize("metric", metrics.metrics_of("classification"))
    def test_a_metric_of_classes_is_refused_with_those_that_fit(self, metric: str) -> None:
        with pytest.raises(ValidationError, match=f"'{metric}' is not of a regression, whose metrics are r2, rmse, "):
            with_gate(metric=metric)

    def test_a_metric_of_numbers_is_refused_for_classes(self) -> None:
        with pytest.raises(ValidationError, match="'rmse' is not of a classification, whose metrics are accuracy, "):
            flowers_config(gate={"metric": "rmse"})

    def test_a_target_that_is_no_number_is_refused_with_the_task_that_takes_it(self) -> None:
        with pytest.raises(
            ValidationError, match="'species' is string; .* long, float, double or decimal; `task: classification`"
        ):
            flowers_config(task="regression")
        with pytest.raises(ValidationError, match="'petal_length' is double; .* `task: regression` takes double"):
            flowers_config(target="petal_length")


class TestMetrics:
    @pytest.mark.parametrize("seed", range(5))
    def test_scores_are_those_of_scikit_learn(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        truth = random.normal(5, 3, 50)
        guess = truth + random.normal(0, 1, 50)
        assert metrics.regression_scores(truth, guess) == pytest.approx(
            {
                "r2": sklearn.metrics.r2_score(truth, guess),
                "rmse": sklearn.metrics.root_mean_squared_error(truth, guess),
                "mae": sklearn.metrics.mean_absolute_error(truth, guess),
                "median_absolute_error": sklearn.metrics.median_absolute_error(truth, guess),
                "mape": sklearn.metrics.mean_absolute_percentage_error(truth, guess),
            }
        )

    @pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9, 0.999])
    def test_a_quantile_has_a_metric_of_its_own(self, quantile: float) -> None:
        random = np.random.default_rng(1)
        train, truth, guess = (random.normal(5, 3, 50) for _ in range(3))
        name = metrics.pinball_loss_of(quantile)
        score = metrics.regression_scores(truth, guess, also=[name])[name]
        assert score == pytest.approx(sklearn.metrics.mean_pinball_loss(truth, guess, alpha=quantile))
        constant = np.full(50, np.quantile(train, quantile))
        baseline = metrics.regression_baseline(train, truth, also=[name])[name]
        assert baseline == pytest.approx(sklearn.metrics.mean_pinball_loss(truth, constant, alpha=quantile))
        assert name not in metrics.regression_scores(truth, guess)

    @pytest.mark.parametrize("name", ["pinball_loss", "pinball_loss_0", "pinball_loss_0.0", "pinball_loss_1.5"])
    def test_what_is_no_quantile_is_no_metric(self, name: str) -> None:
        with pytest.raises(ValidationError, match=rf"'{name}' given; the metrics are .*, pinball_loss_0.9 \(or of "):
            with_gate(metric=name)

    def test_a_model_of_a_quantile_is_judged_by_it_unless_the_gate_names_a_metric(self) -> None:
        model = {**diabetes_config().model.model_dump(), "objective": "reg:quantileerror", "quantile": 0.9}
        raw = {**diabetes_config().model_dump(exclude={"gate"}), "model": model}
        assert config.Config.model_validate(raw).gate.metric == "pinball_loss_0.9"
        assert config.Config.model_validate({**raw, "gate": {"metric": "mae"}}).gate.metric == "mae"

    @pytest.mark.parametrize("zero", [0.0, 1e-300])
    def test_a_relative_error_of_a_target_of_nothing_is_left_out(self, zero: float) -> None:
        computed = metrics.regression_scores(np.array([zero, 1.0]), np.array([0.5, 1.0]))
        assert "mape" not in computed
        assert {"r2", "rmse", "mae"} <= set(computed)

    def test_equal_targets_have_no_r2(self) -> None:
        assert "r2" not in metrics.regression_scores(np.full(3, 2.0), np.array([1.0, 2.0, 3.0]))

    def test_a_score_that_is_not_finite_is_left_out(self) -> None:
        assert metrics.regression_scores(np.array([np.inf, 1.0]), np.array([1.0, 1.0])).get("rmse") is None

    def test_the_baseline_is_the_mean_and_by_absolute_errors_the_median_of_training(self) -> None:
        computed = metrics.regression_baseline(np.array([0.0, 1.0, 8.0]), TARGETS)
        assert computed["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(TARGETS, [3.0] * 4))
        assert computed["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(TARGETS, [1.0] * 4))

    @pytest.mark.parametrize("metric", metrics.metrics_of("regression"))
    def test_knowledge_is_no_chance_and_a_constant_is(self, metric: str) -> None:
        truth = np.random.default_rng(1).normal(10, 1, 60)
        assert significance.p_value(metric, truth, truth + 0.01) == 0.01
        assert significance.p_value(metric, truth, np.full(60, 10.0)) == 1.0


class TestTraining:
    def test_it_is_what_xgboost_makes_of_these_rows_itself(self) -> None:
        parts, model = diabetes_parts(), diabetes_config().model
        features = diabetes_config().features
        reference = xgboost.XGBRegressor(
            n_estimators=model.num_boost_round,
            max_depth=model.max_depth,
            learning_rate=model.learning_rate,
            early_stopping_rounds=model.early_stopping_rounds,
            random_state=model.seed,
        ).fit(
            parts.train[features],
            parts.train["target"],
            eval_set=[(parts.validation[features], parts.validation["target"])],
            verbose=False,
        )
        expected = reference.predict(parts.test[features])
        np.testing.assert_allclose(diabetes_model().values(parts.test), expected, rtol=1e-4)

    def test_the_learning_curve_is_in_the_unit_of_the_target(self) -> None:
        made = training.fit_booster(diabetes_parts(), learn(), model=diabetes_config().model)
        guess = diabetes_model().values(diabetes_parts().validation)
        expected = sklearn.metrics.root_mean_squared_error(diabetes_parts().validation["target"], guess)
        assert made.metric == "rmse"
        assert made.history["validation"][made.best_round - 1] == pytest.approx(expected, rel=1e-4)

    def test_a_constant_target_is_refused(self) -> None:
        with pytest.raises(
            TableUnfit, match=r"target has one value \(7\) in its train part\n.*two values.*\n.*another target"
        ):
            learn(train=diabetes_parts().train.assign(target=7.0))

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
    def test_a_target_that_xgboost_cannot_take_is_refused_in_words(self, value: float) -> None:
        with pytest.raises(TableUnfit, match="its validation part, no finite number of 32 bits"):
            learn(validation=diabetes_parts().validation.assign(target=value))

    @pytest.mark.parametrize(
        ("scale", "offset", "message"),
        [
            (1e-9, 0.0, "between .* in its train part, too small for XGBoost\n.*\n.*scale the values in the source"),
            (1e24, 0.0, "between .* in its train part, too large for XGBoost\n.*\n.*scale the values in the source"),
            (1e-3, 1e9, r"target is 1e\+09 in its whole train part, to XGBoost's 32 bits\n.*\n.*take off what is"),
        ],
    )
    def test_numbers_of_which_xgboost_would_learn_nothing_are_refused(
        self, scale: float, offset: float, message: str
    ) -> None:
        parts = diabetes_parts()
        scaled = {name: rows.assign(target=rows["target"] * scale + offset) for name, rows in vars(parts).items()}
        with pytest.raises(TableUnfit, match=message):
            learn(**scaled)
        matrix = xgboost.DMatrix(parts.train[diabetes_config().features], scaled["train"]["target"])
        answers = xgboost.train({}, matrix, 5).predict(matrix)
        assert len(np.unique(answers)) == 1  # as it says

    def test_numbers_of_which_xgboost_learns_less_are_told(self) -> None:
        settings, train = diabetes_config(), diabetes_parts().train
        assert targets.warnings(train, settings) == []
        (line,) = targets.warnings(train.assign(target=train["target"] * 1e-5), settings)
        assert "XGBoost makes no split that gains less than 1e-06; a larger unit would be learnt better" in line

    @pytest.mark.parametrize("part", split.PARTS)
    def test_an_empty_part_is_refused(self, part: str) -> None:
        with pytest.raises(TableUnfit, match=f"its {part} part has no labelled row"):
            learn(**{part: diabetes_parts().test.head(0)})


class TestModel:
    def test_its_schema_reads_back_as_itself_and_earlier_releases_refuse_it(self) -> None:
        schema = diabetes_model().schema
        read = scorer.Schema.loads(schema.dumps())
        assert dataclasses.replace(read, split=schema.split) == schema
        assert json.loads(schema.dumps())["format_version"] == 2

    def test_a_classifier_is_written_as_earlier_releases_read_it(self) -> None:
        written = json.loads(flowers_model().schema.dumps())
        assert written["format_version"] == 1
        assert "task" not in written

    def test_a_task_of_a_later_release_is_refused(self) -> None:
        written = json.loads(diabetes_model().schema.dumps())
        with pytest.raises(scorer.FormatUnknown, match="the task 'ranking'"):
            scorer.Schema.loads(json.dumps({**written, "task": "ranking"}))

    @pytest.mark.parametrize("rows", [0, 3])
    def test_it_adds_a_prediction_and_no_probability(self, rows: int) -> None:
        table = pa.Table.from_pandas(diabetes_parts().test.head(rows), preserve_index=False)
        made = predictions.add_predictions(table, diabetes_model())
        assert made.schema == predictions.output_schema(table.schema, diabetes_model())
        assert made.column_names == [*table.column_names, "prediction"]
        assert made["prediction"].to_pylist() == diabetes_model().values(diabetes_parts().test.head(rows)).tolist()

    def test_its_signature_has_one_output(self) -> None:
        outputs = signature_of(diabetes_model().schema).outputs
        assert [(column.name, column.type.name) for column in outputs] == [("prediction", "double")]


class TestEvaluation:
    def test_the_shipped_config_passes_its_gate(self) -> None:
        result = evaluate(diabetes_parts(), loaded(diabetes_model()), settings=diabetes_config(), champion=None)
        assert result.verdict.outcome == "pass"
        assert result.probabilities is None
        guess = diabetes_model().values(diabetes_parts().test)
        assert result.predicted is not None
        np.testing.assert_array_equal(result.predicted, guess)
        expected = sklearn.metrics.root_mean_squared_error(diabetes_parts().test["target"], guess)
        assert result.scores["models:/flowers_model/1"]["rmse"] == pytest.approx(expected)

    @pytest.mark.parametrize(("metric", "outcome"), [("rmse", "fail"), ("r2", "undecided")])
    def test_a_test_part_of_one_value_is_never_passed(self, metric: str, outcome: str) -> None:
        parts = dataclasses.replace(diabetes_parts(), test=diabetes_parts().test.assign(target=150.0))
        settings = with_gate(metric=metric)
        verdict = evaluate(parts, loaded(diabetes_model()), settings=settings, champion=None).verdict
        assert verdict.outcome == outcome
        assert any("has no r2" in line or "may be chance" in line for line in verdict.reasons)

    def test_mape_of_zero_targets_leaves_the_verdict_undecided(self) -> None:
        test = diabetes_parts().test
        parts = dataclasses.replace(diabetes_parts(), test=test.assign(target=test["target"].where(test.index > 0, 0)))
        result = evaluate(parts, loaded(diabetes_model()), settings=with_gate(metric="mape"), champion=None)
        assert result.verdict.outcome == "undecided"
        assert "has no mape on the test part, which needs targets none of which is 0" in result.verdict.reasons[0]
        assert "mape" not in result.scores["models:/flowers_model/1"]

    def test_a_champion_of_another_task_is_not_compared_with_and_the_verdict_says_so(self) -> None:
        champion = loaded(flowers_model(), "models:/flowers_model/9")
        model = loaded(diabetes_model(), "models:/flowers_model/10")
        verdict = evaluate(diabetes_parts(), model, settings=diabetes_config(), champion=champion).verdict
        assert verdict.outcome == "pass"
        assert (
            "models:/flowers_model/9 is not compared with: it is a classification of species, the config asks for a "
            "regression of target"
        ) in verdict.reasons

    def test_a_worse_model_does_not_replace_the_champion(self) -> None:
        weak = fit(diabetes_config().with_hyperparameters(num_boost_round=10), diabetes_parts())
        champion = loaded(diabetes_model(), "models:/m/1")
        settings = with_gate(metric="rmse")
        verdict = evaluate(diabetes_parts(), loaded(weak, "models:/m/2"), settings=settings, champion=champion).verdict
        assert verdict.outcome == "fail"
