"""A search for hyperparameters: what it tries, what it calls best, what it keeps, and how it goes on when killed."""

import csv
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from place import PROJECT, Place, new_database, until
from pydantic import ValidationError
from sklearn.datasets import load_diabetes
from sklearn.metrics import f1_score, log_loss
from small import TABLE, flower_parts, flowers, flowers_config, model_of, tracked

from steps.core import config, metrics, validation
from steps.core.config_tune import SPACE, Tune
from steps.core.errors import TableUnfit
from steps.core.models import plots, search_report, split, training, trials
from steps.core.models.split import Parts
from steps.core.models.trials import Trial
from steps.core.models.tuning import Search, search_of

MODEL = {"name": "m", "num_boost_round": 40, "max_depth": 3, "early_stopping_rounds": 5}


def tuned(metric: str = "log_loss", *, model: dict[str, Any] | None = None, **tune: Any) -> config.Config:
    return flowers_config(gate={"metric": metric}, model={**MODEL, **(model or {})}, tune={"trials": 16, **tune})


def search(settings: config.Config | None = None, parts: Parts | None = None) -> Search:
    settings = settings or tuned()
    parts, split_settings = parts or flower_parts(), split.settings_of(settings)
    schema = training.learn_schema(parts, settings, split_settings=split_settings, table_uri=TABLE)
    return search_of(parts, schema, settings, split_settings=split_settings)


def run(searched: Search, earlier: Sequence[Trial] = ()) -> list[Trial]:
    return searched.run(earlier, keep=lambda trial: None)


def timeless(tried: Sequence[Trial]) -> list[Trial]:
    """The trials but for how long they took."""
    return [dataclasses.replace(trial, seconds=0.0) for trial in tried]


@pytest.fixture(scope="module")
def tried() -> list[Trial]:
    return run(search())


def mistakes(**tune: Any) -> str:
    with pytest.raises(ValidationError, match="tune") as caught:
        tuned(**tune)
    return "\n".join(validation.of_config(caught.value, config.Config))


class TestConfig:
    def test_nothing_is_searched_by_default(self) -> None:
        assert flowers_config().tune.trials == 0
        assert flowers_config().tune.searched == set()

    def test_a_range_has_two_spellings(self) -> None:
        space = tuned(space={"max_depth": [2, 8], "learning_rate": {"low": 0.02, "high": 0.2, "log": True}}).tune.ranges
        assert (space["max_depth"].low, space["max_depth"].high, space["max_depth"].log) == (2, 8, False)
        assert (space["learning_rate"].low, space["learning_rate"].high, space["learning_rate"].log) == (
            0.02,
            0.2,
            True,
        )

    def test_a_range_keeps_its_usual_scale_where_its_numbers_allow_that(self) -> None:
        ranges = Tune(space={"learning_rate": [0.02, 0.2], "gamma": [0, 5], "reg_alpha": [0.1, 5]}).ranges
        assert {name: ranges[name].log for name in ("learning_rate", "gamma", "reg_alpha")} == {
            "learning_rate": True,
            "gamma": False,
            "reg_alpha": True,
        }

    def test_null_leaves_a_hyperparameter_out_and_the_others_stay(self) -> None:
        assert list(Tune(space={"max_depth": None}).ranges) == [name for name in SPACE if name != "max_depth"]

    @pytest.mark.parametrize(
        ("tune", "message"),
        [
            ({"trials": -1}, "tune.trials: -1 given, input should be greater than or equal to 0"),
            ({"trials": "abc"}, "tune.trials: 'abc' given, input should be a valid integer"),
            ({"trails": 4}, "tune.trails is not a key (did you mean 'trials'?)"),
            ({"time_limit_minutes": 0}, "tune.time_limit_minutes: 0 given, input should be greater than 0"),
            ({"by": "cv"}, "tune.by: 'cv' given, input should be 'validation' or 'cross_validation'"),
            ({"folds": 1}, "tune.folds: 1 given, input should be greater than or equal to 2"),
            ({"space": {"max_dept": [2, 8]}}, "tune.space: 'max_dept' is not searched (did you mean 'max_depth'?)"),
            ({"space": {"num_boost_round": [2, 8]}}, "tune.space: 'num_boost_round' is not searched"),
            ({"space": {"max_depth": [8, 2]}}, "tune.space.max_depth: low 8 is above high 2"),
            ({"space": {"max_depth": [2]}}, "tune.space: max_depth: [2] given; a range is [low, high] or {low: "),
            ({"space": {"max_depth": [True, 8]}}, "tune.space: max_depth: True given; a range has numbers"),
            ({"space": {"max_depth": {"low": 2}}}, "tune.space.max_depth.high is missing"),
            (
                {"space": {"max_depth": {"lo": 2, "high": 8}}},
                "tune.space.max_depth.lo is not a key (did you mean 'low'",
            ),
            ({"space": {"max_depth": "deep"}}, "tune.space.max_depth: 'deep' given"),
            ({"space": {"max_depth": [2.5, 8]}}, "tune.space.max_depth: 2.5 given, input should be a valid integer"),
            ({"space": {"max_depth": [0, 8]}}, "tune.space.max_depth: 0 given, input should be greater than or equal"),
            ({"space": {"learning_rate": [0.1, 2]}}, "tune.space.learning_rate: 2 given, input should be less than or"),
            (
                {"space": {"learning_rate": {"low": 0, "high": 1, "log": True}}},
                "tune.space.learning_rate: log: true needs a low above 0, not 0",
            ),
        ],
        ids=str,
    )
    def test_a_mistake_is_told_with_its_key(self, tune: dict[str, Any], message: str) -> None:
        assert message in mistakes(**tune)

    def test_every_range_is_one_of_values_that_a_model_may_have(self) -> None:
        space = {name: limits for name, limits in SPACE.items() if name in config.Model.model_fields}
        assert {"max_depth", "learning_rate"} <= set(space)
        assert Tune(space=space).mistakes(flowers_config().model) == []


class TestTrials:
    def test_the_first_are_the_configs_own_hyperparameters(self, tried: list[Trial]) -> None:
        model = tuned().model
        assert tried[0].parameters == {name: getattr(model, name) for name in tried[0].parameters}
        assert {"max_depth", "learning_rate"} <= set(tried[0].parameters)

    def test_the_others_are_within_their_ranges(self, tried: list[Trial]) -> None:
        assert len(tried) == 16
        for trial in tried[1:]:
            assert all(SPACE[name].low <= value <= SPACE[name].high for name, value in trial.parameters.items())
            assert isinstance(trial.parameters["max_depth"], int)
        assert len({trial.parameters["learning_rate"] for trial in tried}) == 16

    def test_a_range_in_the_config_is_kept_to_and_one_value_is_fixed(self) -> None:
        settings = tuned(trials=12, space={"max_depth": [1, 2], "learning_rate": [0.2, 0.2]})
        tried = run(search(settings))
        assert {trial.parameters["max_depth"] for trial in tried[1:]} == {1, 2}
        assert {trial.parameters["learning_rate"] for trial in tried[1:]} == {0.2}

    def test_what_is_left_out_stays_as_the_model_has_it(self) -> None:
        searched = search(tuned(trials=4, model={"max_depth": 2}, space={"max_depth": None}))
        tried = run(searched)
        assert all("max_depth" not in trial.parameters for trial in tried)
        assert searched.model_of(tried[-1]).max_depth == 2

    def test_the_configs_own_may_lie_outside_of_the_ranges(self) -> None:
        tried = run(search(tuned(trials=13, model={"max_depth": 1})))
        assert tried[0].parameters["max_depth"] == 1
        assert min(trial.parameters["max_depth"] for trial in tried[1:]) >= 3

    def test_a_score_is_what_scikit_learn_gives_xgboosts_own_model_on_the_validation_part(
        self, tried: list[Trial]
    ) -> None:
        parts, searched = flower_parts(), search()
        codes = {"setosa": 0, "versicolor": 1, "virginica": 2}
        matrices = []
        for part in (parts.train, parts.validation):
            color = part["color"].astype("category").cat.set_categories(["blue", "red", "white"])
            frame = part[["petal_length", "petals", "wild"]].assign(color=color)
            labels = part["species"].map(codes)
            matrices.append(xgboost.DMatrix(frame, label=labels, enable_categorical=True))
        trial = next(trial for trial in tried[1:] if trial.state == "complete")
        booster = xgboost.train(
            {"objective": "multi:softprob", "num_class": 3, "seed": searched.model.seed, **trial.parameters},
            matrices[0],
            num_boost_round=trial.rounds,
        )
        assert trial.score == pytest.approx(
            log_loss(parts.validation["species"].map(codes), booster.predict(matrices[1])), rel=1e-4
        )

    def test_its_rounds_are_those_that_are_best_on_the_validation_part(self, tried: list[Trial]) -> None:
        searched = search()
        trial = next(trial for trial in tried if trial.state == "complete")
        again = training.fit_booster(flower_parts(), searched.schema, model=searched.model_of(trial))
        assert again.best_round == trial.rounds == again.booster.num_boosted_rounds()
        probabilities = model_of(again.booster, searched.schema).probabilities(flower_parts().validation)
        truth = flower_parts().validation["species"].to_numpy()
        assert metrics.scores(truth, probabilities, searched.schema.classes)["log_loss"] == trial.score

    def test_the_test_part_is_not_looked_at(self, tried: list[Trial]) -> None:
        parts = flower_parts()
        wrong = parts.test.assign(species=parts.test["species"].iloc[::-1].to_numpy(), petal_length=-1.0)
        assert timeless(run(search(parts=dataclasses.replace(parts, test=wrong)))) == timeless(tried)

    def test_hopeless_ones_end_early_and_have_no_score(self, tried: list[Trial]) -> None:
        pruned = [trial for trial in tried if trial.state == "pruned"]
        assert pruned
        assert all(trial.score is None and 10 <= trial.rounds < 40 for trial in pruned)
        assert all(trial.state == "complete" for trial in tried[:5])

    def test_a_pruned_one_was_worse_than_the_median_of_those_before_it(self, tried: list[Trial]) -> None:
        pruned = next(trial for trial in tried if trial.state == "pruned")
        before = [trial for trial in tried[: pruned.number] if trial.state == "complete"]
        others = [trial.losses[pruned.rounds] for trial in before if pruned.rounds in trial.losses]
        assert min(pruned.losses.values()) > np.median(others)

    def test_a_regression_is_searched_too(self) -> None:
        frame = load_diabetes(as_frame=True).frame
        settings = config.Config.model_validate(
            {
                "name": "d",
                "source": {"uri": "d.csv"},
                "columns": {name: {"type": "double"} for name in frame},
                "target": "target",
                "task": "regression",
                "model": {"name": "m", "num_boost_round": 30, "max_depth": 9, "learning_rate": 0.3},
                "gate": {"metric": "rmse"},
                "tune": {"trials": 12},
            }
        )
        searched = search(settings, split.split(frame, split.settings_of(settings)))
        tried = run(searched)
        assert searched.best(tried).score < tried[0].score  # type: ignore[operator]


class TestBest:
    @pytest.mark.parametrize("metric", ["log_loss", "f1_macro", "roc_auc"])
    def test_the_best_is_never_worse_than_the_configs_own(self, metric: str) -> None:
        searched = search(tuned(metric, trials=8))
        tried = run(searched)
        scores = [trial.score for trial in tried if trial.score is not None]
        assert searched.best(tried).score == (min(scores) if metric == "log_loss" else max(scores))

    def test_of_equal_ones_the_first_is_best(self) -> None:
        searched = search(tuned("accuracy"))
        tried = [trial(number=i, score=score) for i, score in enumerate([0.8, 0.9, 0.9 + 1e-12, None])]
        assert searched.best(tried).number == 1

    def test_one_without_a_score_is_never_best(self) -> None:
        searched = search(tuned("log_loss"))
        tried = [trial(number=0, score=None, state="undefined"), trial(number=1, score=3.0)]
        assert searched.best(tried).number == 1


def trial(number: int = 0, score: float | None = 0.5, **changes: Any) -> Trial:
    parameters = {"max_depth": 3 + number, "learning_rate": 0.1 + number / 3}
    known = {"state": "complete", "rounds": 7, "seconds": 0.25, "losses": {2: 0.7, 4: 1 / 3}}
    return Trial(number=number, score=score, **{"parameters": parameters, **known, **changes})


class TestReproducible:
    def test_the_same_rows_config_and_seed_give_the_same_trials(self, tried: list[Trial]) -> None:
        assert timeless(run(search())) == timeless(tried)

    def test_another_seed_gives_others(self, tried: list[Trial]) -> None:
        others = run(search(tuned(trials=3, model={"seed": 1})))
        assert others[1].parameters != tried[1].parameters

    @pytest.mark.parametrize("count", [1, 6, 11, 15, 16])
    def test_a_search_that_goes_on_is_the_one_that_was_not_interrupted(self, tried: list[Trial], count: int) -> None:
        """Also where the sampler learns from the trials and the pruner compares with them, after reading them back."""
        lines = "".join(f"{json.dumps(dataclasses.asdict(trial))}\n" for trial in tried[:count])
        earlier = list(trials._parse(lines.encode()))
        assert earlier == tried[:count]
        new: list[Trial] = []
        assert timeless(search().run(earlier, keep=new.append)) == timeless(tried)
        assert [trial.number for trial in new] == list(range(count, 16))

    def test_fewer_trials_are_the_first_of_more(self, tried: list[Trial]) -> None:
        assert timeless(run(search(tuned(trials=7)))) == timeless(tried[:7])
        assert run(search(tuned(trials=7)), tried) == tried[:7]


class TestTimeLimit:
    def test_it_is_kept_to_within_one_trial(self) -> None:
        tried = run(search(tuned(trials=10_000, time_limit_minutes=0.5 / 60)))
        assert 1 < len(tried) < 10_000
        assert sum(trial.seconds for trial in tried[:-1]) < 0.5

    def test_one_that_has_passed_still_leaves_the_configs_own(self) -> None:
        assert [trial.number for trial in run(search(tuned(time_limit_minutes=1e-9)))] == [0]

    def test_what_an_earlier_sitting_took_counts(self, tried: list[Trial]) -> None:
        long = [dataclasses.replace(trial, seconds=60.0) for trial in tried[:3]]
        assert run(search(tuned(time_limit_minutes=3)), long) == long


def by_plant() -> config.Config:
    columns = {**flowers_config().model_dump()["columns"], "plant": {"type": "long"}}
    return flowers_config(columns=columns, split={"group": "plant"}, tune={"trials": 2, "by": "cross_validation"})


class TestCrossValidation:
    def test_each_row_outside_of_the_test_part_is_held_out_once(self) -> None:
        parts = flower_parts()
        folds = search(tuned(by="cross_validation", folds=4)).folds
        assert len(folds) == 4
        for fold in folds:
            assert len(fold.train) + len(fold.validation) == len(parts.train) + len(parts.validation)
        assert sum(len(fold.validation) for fold in folds) == len(parts.train) + len(parts.validation)

    def test_no_group_is_on_both_sides(self) -> None:
        rows, settings = flowers().assign(plant=np.arange(400) % 40), by_plant()
        for fold in search(settings, split.split(rows, split.settings_of(settings))).folds:
            assert not set(fold.train["plant"]) & set(fold.validation["plant"])

    def test_a_score_is_the_mean_over_the_folds_by_scikit_learn(self) -> None:
        searched = search(tuned("f1_macro", trials=1, by="cross_validation", folds=3))
        scores, rounds = [], []
        for fold in searched.folds:
            fit = training.fit_booster(fold, searched.schema, model=searched.model)
            predicted = model_of(fit.booster, searched.schema).predict(None, fold.validation)["prediction"]
            scores.append(f1_score(fold.validation["species"], predicted, average="macro"))
            rounds.append(fit.best_round)
        (own,) = run(searched)
        assert own.score == pytest.approx(np.mean(scores))
        assert own.rounds == round(np.mean(rounds))

    def test_the_test_part_is_in_no_fold(self) -> None:
        parts = flower_parts()
        marked = dataclasses.replace(parts, test=parts.test.assign(petal_length=77.0))
        for fold in search(tuned(by="cross_validation"), marked).folds:
            assert not (fold.train["petal_length"] == 77).any()
            assert not (fold.validation["petal_length"] == 77).any()

    def test_hopeless_trials_end_in_the_first_fold(self) -> None:
        tried = run(search(tuned(by="cross_validation", folds=3)))
        assert any(trial.state == "pruned" for trial in tried)

    def test_all_rounds_that_it_found_are_in_the_model(self) -> None:
        """However good they are on the one validation part."""
        settings = tuned(by="cross_validation")
        assert not settings.tune.stops_early
        model = settings.model.model_copy(update={"num_boost_round": 39, "learning_rate": 1.0})
        fit = training.fit_booster(flower_parts(), search().schema, model=model, stop_early=False)
        assert fit.booster.num_boosted_rounds() == fit.best_round == len(fit.history["validation"]) == 39


class TestToldBeforehand:
    def with_few_others(self, rows: int) -> Parts:
        """The parts with so many rows of other species than virginica in each."""
        parts = {name: getattr(flower_parts(), name) for name in split.PARTS}
        others = {name: part[part["species"] != "virginica"].head(rows) for name, part in parts.items()}
        virginica = {name: part[part["species"] == "virginica"] for name, part in parts.items()}
        return Parts(**{name: pd.concat([virginica[name], others[name]], ignore_index=True) for name in parts})

    def test_a_metric_that_the_validation_part_does_not_define_is_told_with_what_it_needs(self) -> None:
        parts = dataclasses.replace(flower_parts(), validation=self.with_few_others(0).validation)
        message = (
            "roc_auc is not defined on the validation part, as it needs rows of .*\n.*\n"
            "  next      set tune.by: cross_validation or another gate.metric in the config, ingest more rows, or tune "
        )
        with pytest.raises(TableUnfit, match=message):
            search(tuned("roc_auc"), parts)
        assert len(run(search(tuned("f1_macro", trials=2), parts))) == 2

    def test_folds_that_do_not_define_the_metric_are_counted(self) -> None:
        message = r"roc_auc is not defined on \d+ of 20 folds, as it needs (.*\n)+.*set fewer tune.folds or another"
        with pytest.raises(TableUnfit, match=message):
            search(tuned("roc_auc", by="cross_validation", folds=20), self.with_few_others(4))

    def test_rows_of_one_group_make_no_folds(self) -> None:
        parts = Parts(**{name: getattr(flower_parts(), name).assign(plant=1) for name in split.PARTS})
        with pytest.raises(TableUnfit, match="are too few, or differ too little, for cross validation"):
            search(by_plant(), parts)

    def test_a_regression_whose_validation_targets_are_all_the_same_has_no_r2(self) -> None:
        settings = config.Config.model_validate(
            {
                **{"name": "d", "source": {"uri": "d.csv"}, "target": "y", "task": "regression"},
                "columns": {"x": {"type": "double"}, "y": {"type": "double"}},
                "model": {"name": "m"},
                "tune": {"trials": 3},
            }
        )
        rows = load_diabetes(as_frame=True).frame[["bmi", "target"]].set_axis(["x", "y"], axis=1)
        parts = split.split(rows, split.settings_of(settings))
        with pytest.raises(
            TableUnfit, match="r2 is not defined on the validation part, as it needs targets of more than"
        ):
            search(settings, dataclasses.replace(parts, validation=parts.validation.assign(y=1.0)))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("trials")
    with tracked(new_database(folder)):
        yield mlflow.create_experiment("e", artifact_location=str(folder / "artifacts"))


def keep(tried: Sequence[Trial], experiment: str, *, search: str, status: str = "FINISHED") -> str:
    """A run that kept these trials, each in a file of its own."""
    with mlflow.start_run(experiment_id=experiment, tags={trials.SEARCH: search}) as active:
        journal = trials.Journal()
        for each in tried:
            journal.add(each)
            journal.save()
    mlflow.MlflowClient().set_terminated(active.info.run_id, status)
    return str(active.info.run_id)


def files_of(run_id: str) -> list[Path]:
    folder = Path(mlflow.get_run(run_id).info.artifact_uri.removeprefix("file://")) / trials.FOLDER
    return sorted(folder.iterdir())


class TestKept:
    TRIED = (trial(0), trial(1, None, state="pruned", losses={2: float("inf")}), trial(2, 1 / 7))

    def test_a_later_run_reads_what_an_earlier_one_kept_to_the_last_bit(self, experiment: str) -> None:
        run_id = keep(self.TRIED, experiment, search="exact", status="KILLED")
        read, earlier_run = trials.of_earlier_run("exact", experiment_id=experiment)
        assert read == list(self.TRIED)
        assert earlier_run is not None
        assert earlier_run.info.run_id == run_id

    def test_the_run_with_the_most_of_them_is_taken(self, experiment: str) -> None:
        longest = keep(self.TRIED, experiment, search="most")
        keep(self.TRIED[:1], experiment, search="most")
        earlier_run = trials.of_earlier_run("most", experiment_id=experiment)[1]
        assert earlier_run is not None
        assert earlier_run.info.run_id == longest

    def test_another_search_shares_nothing(self, experiment: str) -> None:
        keep(self.TRIED, experiment, search="one")
        assert trials.of_earlier_run("other", experiment_id=experiment) == ([], None)

    def test_a_deleted_run_is_not_asked(self, experiment: str) -> None:
        mlflow.delete_run(keep(self.TRIED, experiment, search="deleted"))
        assert trials.of_earlier_run("deleted", experiment_id=experiment) == ([], None)

    @pytest.mark.parametrize("cut", [0, 1, 40, -1])
    def test_a_file_that_was_cut_off_counts_as_far_as_it_is_whole(self, experiment: str, cut: int) -> None:
        run_id = keep(self.TRIED, experiment, search=f"cut {cut}")
        last = files_of(run_id)[-1]
        last.write_bytes(last.read_bytes()[:-1][:cut])
        assert trials.of_earlier_run(f"cut {cut}", experiment_id=experiment)[0] == list(self.TRIED[:2])

    def test_after_a_gap_nothing_counts(self, experiment: str) -> None:
        run_id = keep(self.TRIED, experiment, search="gap")
        files_of(run_id)[1].unlink()
        assert trials.of_earlier_run("gap", experiment_id=experiment)[0] == [self.TRIED[0]]

    @pytest.mark.parametrize("text", ["[]\n", "3\n", "{}\n", '{"number": 2}\n', "nul\x00\n", '{"losses": []}\n'])
    def test_a_file_of_something_else_ends_them(self, experiment: str, text: str) -> None:
        run_id = keep(self.TRIED, experiment, search=text.strip())
        files_of(run_id)[-1].write_text(text)
        assert trials.of_earlier_run(text.strip(), experiment_id=experiment)[0] == list(self.TRIED[:2])

    def test_a_run_that_went_on_has_them_all(self, experiment: str) -> None:
        with mlflow.start_run(experiment_id=experiment, tags={trials.SEARCH: "went on"}):
            journal = trials.Journal(self.TRIED[:2])
            journal.add(self.TRIED[2])
            journal.save()
        assert trials.of_earlier_run("went on", experiment_id=experiment)[0] == list(self.TRIED)


class TestReport:
    def test_the_table_has_a_line_for_each_trial(self, tried: list[Trial]) -> None:
        best = search().best(tried)
        rows = list(csv.DictReader(io.StringIO(search_report.table(tried, best))))
        assert [int(row["trial"]) for row in rows] == list(range(16))
        assert [row["state"] for row in rows] == [trial.state for trial in tried]
        assert [row["trial"] for row in rows if row["is_best"] == "true"] == [str(best.number)]
        assert float(rows[best.number]["score"]) == best.score
        assert float(rows[best.number]["learning_rate"]) == best.parameters["learning_rate"]

    def test_the_result_says_what_is_best_against_the_configs_own(self) -> None:
        searched = search(tuned("log_loss", trials=3))
        three = [trial(0, 0.5), trial(1, 0.25), trial(2, None, state="pruned")]
        own = {"max_depth": 3, "learning_rate": 0.1}
        three[0] = dataclasses.replace(three[0], parameters=own)
        assert list(search_report.result(searched, three, three[1])) == [
            "3 trials in 1 s, 1 of them pruned: the best is trial 1, log_loss 0.25 on the validation part "
            "(0.5 with the config's own)",
            "  max_depth 3 -> 4, learning_rate 0.1 -> 0.433, 7 rounds",
        ]

    def test_the_result_says_where_nothing_is_better_and_the_time_was_up(self) -> None:
        searched = search(tuned("log_loss", by="cross_validation", time_limit_minutes=0.5))
        two = [trial(0, 0.5, rounds=40), trial(1, 0.75)]
        assert list(search_report.result(searched, two, two[0])) == [
            "2 trials in 0 s, 0 of them pruned (the time limit of 0.5 minutes came before 16): none is better than the "
            "config's own hyperparameters, log_loss 0.5 on 5 folds of cross validation",
            "  it was still getting better in the last of 40 rounds: model.num_boost_round may be too low",
        ]

    @pytest.mark.parametrize("metric", ["log_loss", "f1_macro"])
    def test_the_pictures_can_be_drawn_of_any_trials(self, metric: str, tried: list[Trial]) -> None:
        searched = search(tuned(metric))
        for some in (tried, tried[:1]):
            best = searched.best(some)
            ranges = {name: SPACE[name] for name in some[0].parameters}
            for figure in (
                plots.search_history(some, best, metric=metric),
                plots.parallel_coordinates(some, best, ranges, metric=metric),
            ):
                assert plots.png(figure).startswith(b"\x89PNG")

    def test_a_line_of_the_picture_goes_through_the_trials_values(self) -> None:
        two = [
            trial(0, 0.5, parameters={"learning_rate": 0.01, "max_depth": 3}),
            trial(1, 0.75, parameters={"learning_rate": 0.1, "max_depth": 5}),
            trial(2, 0.6, parameters={"learning_rate": 1.0, "max_depth": 4}),
        ]
        ranges = {name: SPACE[name] for name in ("learning_rate", "max_depth")}
        figure = plots.parallel_coordinates(two, two[1], ranges, metric="f1_macro")
        lines = [line for line in figure.axes[0].lines if np.size(line.get_xdata()) == 3]
        heights = {tuple(np.round(np.asarray(line.get_ydata(), dtype=float), 6)) for line in lines}
        assert heights == {(0, 0, 0), (0.5, 1, 1), (1, 0.5, 0.4)}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where Iris was ingested."""
    folder = tmp_path_factory.mktemp("tune")
    new_database(folder)
    place = Place(folder)
    ended = place.step("ingest")
    assert ended.exit_code == 0, ended.text
    return place


def table_of(place: Place, run_id: str) -> list[dict[str, str]]:
    """The trials of a run as its table has them, but for their seconds."""
    text = Path(place.client.download_artifacts(run_id, "trials.csv")).read_text()
    return [
        {name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(io.StringIO(text))
    ]


def kept_in(place: Place) -> list[Path]:
    """The files of trials that runs there have kept."""
    return list(place.folder.glob("mlruns/0/*/artifacts/trials/*.jsonl"))


@pytest.mark.spark
class TestEntryPoints:
    def test_train_registers_the_best_and_says_so(self, ingested: Place) -> None:
        slow = {"learning_rate": 0.01, "num_boost_round": 30}
        config_path = ingested.config(gate={"metric": "log_loss"}, model=slow)
        ended = ingested.step("train", config=config_path, trials=12)
        assert ended.exit_code == 0, ended.text
        assert re.search(r"^train: 12 trials in \d+ s, \d of them pruned: the best is trial \d+, log_loss 0", ended.err)
        run = ingested.runs()[0]
        table = table_of(ingested, run.info.run_id)
        (best,) = [row for row in table if row["is_best"] == "true"]
        assert float(best["score"]) < float(table[0]["score"])
        for name in ("max_depth", "learning_rate"):
            assert run.data.params[f"model.{name}"] == best[name]
        assert run.data.params["model.num_boost_round"] == best["rounds"]
        assert run.data.metrics["best_round"] == int(best["rounds"])
        assert run.data.params["tune.trials"] == "12"
        version = ingested.client.get_model_version("iris_xgboost_classifier", "1")
        assert version.tags["model.max_depth"] == best["max_depth"]
        assert version.tags["search"].startswith("12 trials in ")
        scores = ingested.client.get_metric_history(run.info.run_id, "trial_score")
        assert {score.step: score.value for score in scores} == {
            int(row["trial"]): float(row["score"]) for row in table if row["score"]
        }
        names = {file.path for file in ingested.client.list_artifacts(run.info.run_id)}
        assert {"trials.csv", "parallel_coordinates.png", "search_history.png"} <= names

    def test_train_searches_by_cross_validation(self, ingested: Place) -> None:
        tune = {"trials": 3, "by": "cross_validation", "folds": 3}
        ended = ingested.step("train", config=ingested.config(gate={"metric": "log_loss"}, tune=tune))
        assert ended.exit_code == 0, ended.text
        assert "Warning" not in ended.err
        assert re.search(r"^train: 3 trials in \d+ s, .* on 3 folds of cross validation", ended.err, re.MULTILINE)
        assert len(table_of(ingested, ingested.runs()[0].info.run_id)) == 3

    def test_a_search_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(self, ingested: Place) -> None:
        settings = {"config": ingested.config(gate={"metric": "log_loss"}), "trials": 80, "seed": 5}
        command = [sys.executable, "-m", "steps", "train", *(f"--{name}={value}" for name, value in settings.items())]
        environment = {**ingested.environment, "PYTHONPATH": str(PROJECT)}
        before = set(kept_in(ingested))
        with subprocess.Popen(
            command, cwd=ingested.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            assert until(lambda: set(kept_in(ingested)) - before, seconds=60)
            os.kill(process.pid, signal.SIGKILL)
        killed = ingested.runs()[0].info.run_id
        ended = ingested.step("train", **settings)
        assert ended.exit_code == 0, ended.text
        went_on = re.search(r"^train: the first (\d+) trials are those of run (\w+)$", ended.err, re.MULTILINE)
        assert went_on is not None, ended.text
        assert 0 < int(went_on[1]) <= 80
        assert went_on[2] == killed[:8]
        assert ingested.client.get_run(killed).info.status == "KILLED"
        second = ingested.runs()[0].info.run_id
        for run_id in (killed, second):
            ingested.client.delete_run(run_id)
        assert ingested.step("train", **settings).exit_code == 0
        assert table_of(ingested, ingested.runs()[0].info.run_id) == table_of(ingested, second)

    def test_another_config_or_table_does_not_go_on_after_these_trials(self, ingested: Place) -> None:
        assert ingested.step("train", trials=3).exit_code == 0
        assert "the first 3 trials are those of run" in ingested.step("train", trials=4).err
        assert "the first" not in ingested.step("train", trials=4, max_depth=2).err
        other = ingested.config(gate={"metric": "accuracy"})
        assert "the first" not in ingested.step("train", trials=4, config=other).err

    def test_main_takes_a_search_again_that_nothing_has_changed_of(self, ingested: Place) -> None:
        assert ingested.step("main", trials=3).exit_code == 0
        again = ingested.step("main", trials=3, dry_run="true").out
        assert re.search(r"^train +models:/\S+ +reused", again, re.MULTILINE)
        more = ingested.step("main", trials=5, dry_run="true").out
        assert re.search(r"^train +would run +tune.trials \d -> 5$", more, re.MULTILINE)
        assert re.search(
            r"^train +would run .*tune.trials \d -> 0", ingested.step("main", dry_run="true").out, re.MULTILINE
        )

    def test_a_wrong_number_is_one_message(self, ingested: Place) -> None:
        ended = ingested.step("train", trials=-1)
        assert (ended.exit_code, "Traceback" in ended.err) == (1, False)
        assert ended.err.startswith("ParametersInvalid: -e train was given parameters that it cannot take: trials='-1'")
