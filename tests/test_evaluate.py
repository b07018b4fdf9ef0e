"""A model beside the baseline and the champion on the test part, and what the gate says of them."""

import re
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from small import FLOWERS, fit, flower_parts, flowers, flowers_config, flowers_model, judged_parts, loaded

from steps.core.classification_metrics import Predictions
from steps.core.metrics import METRICS, OF_ONE_CLASS, Metric, metrics_of
from steps.core.models import split
from steps.core.models.comparison import TestPart
from steps.core.models.evaluation import Evaluation, evaluate
from steps.core.models.scorer import Scorer
from steps.core.models.split import Parts

GOOD = flowers_config(
    gate={"metric": "f1_macro", "at_least": 0.7, "min_gain_over_baseline": 0.05, "max_drop_below_champion": 0.01}
)


def other(part: Parts, **changes: pd.DataFrame) -> Parts:
    return Parts(**{name: changes.get(name, getattr(part, name)) for name in split.PARTS})


def weak_model() -> Scorer:
    """One that has learnt little."""
    return fit(flowers_config(model={"name": "flowers_model", "num_boost_round": 1, "max_depth": 1}), flower_parts())


def test_the_scores_of_a_model_are_those_of_its_predictions() -> None:
    test = flower_parts().test
    result = evaluate(flower_parts(), loaded(flowers_model()), settings=GOOD, champion=None)
    scores = result.scores["models:/flowers_model/1"]
    predicted = flowers_model().predict(None, test)["prediction"]
    assert result.probabilities is not None
    assert scores["accuracy"] == pytest.approx((predicted == test["species"]).mean())
    assert scores["f1_macro"] == pytest.approx(sklearn.metrics.f1_score(test["species"], predicted, average="macro"))
    assert [result.classes[i] for i in result.probabilities.argmax(axis=1)] == predicted.tolist()


def test_a_good_model_without_a_champion_passes() -> None:
    result = evaluate(flower_parts(), loaded(flowers_model()), settings=GOOD, champion=None)
    assert result.verdict.outcome == "pass"
    assert set(result.scores) == {"models:/flowers_model/1", "baseline"}
    assert result.probabilities is not None
    assert result.probabilities.shape == (len(flower_parts().test), 3)


def test_the_baseline_answers_what_is_most_frequent_in_training_not_in_test() -> None:
    parts = flower_parts()
    few = other(parts, train=parts.train[parts.train["species"] == "setosa"])
    result = evaluate(few, loaded(flowers_model()), settings=GOOD, champion=None)
    assert result.scores["baseline"]["accuracy"] == pytest.approx((parts.test["species"] == "setosa").mean())


def test_a_model_that_is_no_better_than_the_baseline_fails_by_that_alone() -> None:
    """It learnt from shuffled labels. Where the config asks for no gain, the same scores pass."""
    parts, random = flower_parts(), np.random.default_rng(0)
    shuffled = parts.train.assign(species=random.permutation(parts.train["species"]))
    weak = loaded(fit(flowers_config(), other(parts, train=shuffled)))
    verdicts = {}
    for min_gain in (0, -1):
        gate = {"metric": "accuracy", "min_gain_over_baseline": min_gain}
        verdicts[min_gain] = evaluate(parts, weak, settings=flowers_config(gate=gate), champion=None).verdict
    assert (verdicts[0].outcome, verdicts[-1].outcome) == ("fail", "pass")
    assert re.fullmatch(
        r"accuracy 0\.\d+ against 0\.\d+ of baseline: (a tie|0\.\d+ worse)( \(95% interval -?0\.\d+ to -?0\.\d+\))?, "
        "better is required",
        verdicts[0].reasons[0],
    )


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_metric_that_is_added_to_the_table_is_known_to_the_config_and_decides(
    monkeypatch: pytest.MonkeyPatch, greater_is_better: bool
) -> None:
    """In its direction, and nothing else has to be told of it."""

    def distance(codes: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
        sign = -1 if greater_is_better else 1
        squares = ((predictions.probabilities - np.eye(predictions.classes)[codes]) ** 2).sum(axis=1)
        return np.asarray(sign * (weights * squares).sum(axis=1) / weights.sum(axis=1))

    monkeypatch.setitem(METRICS, "distance", Metric(score=distance, greater_is_better=greater_is_better))
    settings = flowers_config(gate={"metric": "distance"})
    model, champion = loaded(flowers_model(), "models:/m/2"), loaded(weak_model(), "models:/m/1")
    better = evaluate(flower_parts(), model, settings=settings, champion=champion)
    worse = evaluate(flower_parts(), champion, settings=settings, champion=model)
    assert (better.verdict.outcome, worse.verdict.outcome) == ("pass", "fail")
    test = flower_parts().test
    codes = test["species"].map(dict(zip(better.classes, range(3), strict=True)))
    expected = sklearn.metrics.brier_score_loss(
        codes, flowers_model().probabilities(test), labels=[0, 1, 2], scale_by_half=False
    )
    assert abs(better.scores["models:/m/2"]["distance"]) == pytest.approx(expected)


def test_a_worse_model_does_not_replace_the_champion() -> None:
    parts = flower_parts()
    champion = loaded(flowers_model(), "models:/flowers_model/1")
    result = evaluate(parts, loaded(weak_model(), "models:/flowers_model/2"), settings=GOOD, champion=champion)
    assert result.verdict.outcome == "fail"
    assert list(result.scores) == ["models:/flowers_model/2", "baseline", "models:/flowers_model/1"]


def test_the_champion_is_scored_again_on_this_test_part() -> None:
    """Not on its stored score (E02): the same model under another number has the same one."""
    champion = loaded(flowers_model(), "models:/flowers_model/9")
    result = evaluate(flower_parts(), loaded(flowers_model()), settings=GOOD, champion=champion)
    assert result.scores["models:/flowers_model/9"] == result.scores["models:/flowers_model/1"]
    assert result.verdict.outcome == "pass"


def test_the_champion_judged_again_is_listed_once() -> None:
    model = loaded(flowers_model())
    result = evaluate(flower_parts(), model, settings=GOOD, champion=model)
    assert list(result.scores) == ["models:/flowers_model/1", "baseline"]
    assert result.verdict.outcome == "pass"


def test_a_class_that_the_model_never_saw_counts_as_its_mistakes_and_is_named() -> None:
    parts = flower_parts()
    unknown = parts.test.assign(species=["peony", "rose", *parts.test["species"][2:]])
    result = evaluate(other(parts, test=unknown), loaded(flowers_model()), settings=GOOD, champion=None)
    assert "models:/flowers_model/1 never saw species peony, rose: 2 test rows count as its mistakes" in (
        result.verdict.reasons
    )
    predicted = flowers_model().predict(None, parts.test)["prediction"]
    scores = result.scores["models:/flowers_model/1"]
    assert scores["accuracy"] == pytest.approx((predicted == unknown["species"]).mean())
    expected = sklearn.metrics.recall_score(
        unknown["species"], predicted, average="macro", labels=sorted(set(unknown["species"])), zero_division=0
    )
    assert scores["recall_macro"] == pytest.approx(expected)
    assert result.classes == ["setosa", "versicolor", "virginica", "peony", "rose"]
    assert result.per_class(unknown["species"].to_numpy())["peony"] == {"recall": 0.0, "f1": 0.0, "rows": 1.0}


def test_a_column_that_the_table_lacks_leaves_it_undecided() -> None:
    parts = flower_parts()
    bare = other(parts, test=parts.test.drop(columns=["color", "petals"]))
    result = evaluate(bare, loaded(flowers_model()), settings=GOOD, champion=None)
    assert result.verdict.outcome == "undecided"
    assert "the table has no column petals and the table has no column color" in result.verdict.reasons[0]


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_one_class_in_the_test_part_is_undecided_by_every_metric(metric: str) -> None:
    parts = flower_parts()
    one = other(parts, test=parts.test[parts.test["species"] == "setosa"])
    settings = flowers_config(gate={"metric": metric})
    result = evaluate(one, loaded(flowers_model()), settings=settings, champion=None)
    assert result.verdict.outcome == "undecided"
    assert result.verdict.reasons[0].startswith(
        "the test part holds one class, setosa, and so does not show whether a model"
    )


@pytest.mark.parametrize("measure", OF_ONE_CLASS)
def test_one_class_alone_decides_where_the_gate_names_it(measure: str) -> None:
    metric, parts = f"{measure}.virginica", flower_parts()
    settings = flowers_config(gate={"metric": metric})
    result = evaluate(parts, loaded(flowers_model()), settings=settings, champion=None)
    assert result.verdict.outcome == "pass"
    is_of_class = (parts.test["species"] == "virginica").to_numpy()
    probabilities = flowers_model().probabilities(parts.test)
    stated, predicted = probabilities[:, 2], probabilities.argmax(axis=1) == 2
    theirs = {
        "precision": lambda: sklearn.metrics.precision_score(is_of_class, predicted),
        "recall": lambda: sklearn.metrics.recall_score(is_of_class, predicted),
        "f1": lambda: sklearn.metrics.f1_score(is_of_class, predicted),
        "roc_auc": lambda: sklearn.metrics.roc_auc_score(is_of_class, stated),
        "average_precision": lambda: sklearn.metrics.average_precision_score(is_of_class, stated),
    }
    assert result.scores["models:/flowers_model/1"][metric] == pytest.approx(theirs[measure]())
    never = {"roc_auc": 0.5, "average_precision": is_of_class.mean()}
    assert result.scores["baseline"][metric] == pytest.approx(never.get(measure, 0))


def test_a_limit_on_another_metric_is_held_against_the_score_by_it() -> None:
    is_of_class = (flower_parts().test["species"] == "virginica").to_numpy()
    predicted = (flowers_model().predict(None, flower_parts().test)["prediction"] == "virginica").to_numpy()
    f1 = sklearn.metrics.f1_score(is_of_class, predicted)
    for limit, outcome in ((f1 - 1e-6, "pass"), (f1 + 1e-6, "fail")):
        settings = flowers_config(gate={"metric": "recall.virginica", "limits": {"f1.virginica": limit}})
        result = evaluate(flower_parts(), loaded(flowers_model()), settings=settings, champion=None)
        assert result.verdict.outcome == outcome
        assert result.scores["models:/flowers_model/1"]["f1.virginica"] == pytest.approx(f1)


def test_a_class_without_a_row_in_the_test_part_leaves_its_own_metric_undecided() -> None:
    parts = flower_parts()
    two = other(parts, test=parts.test[parts.test["species"] != "setosa"])
    settings = flowers_config(gate={"metric": "recall.setosa"})
    verdict = evaluate(two, loaded(flowers_model()), settings=settings, champion=None).verdict
    assert verdict.outcome == "undecided"
    needs = "has no recall.setosa on the test part, which needs rows of class setosa: set another gate.metric"
    assert needs in verdict.reasons[0]


@pytest.mark.parametrize("measure", OF_ONE_CLASS)
def test_a_model_that_takes_every_row_for_the_class_is_no_better_than_chance_in_it(measure: str) -> None:
    """Its recall is perfect, and so is that of any shuffle of the labels."""
    random = np.random.default_rng(4)
    rows = pd.DataFrame({"x": random.random(700), "label": np.where(random.random(700) < 0.02, "other", "often")})
    result = learnt(rows.astype({"label": object}), metric=f"{measure}.often")
    assert result.verdict.outcome != "pass", result.verdict.reasons


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_a_class_without_a_row_in_the_test_part_is_in_no_average_and_named(metric: str) -> None:
    parts = flower_parts()
    two = other(parts, test=parts.test[parts.test["species"] != "setosa"])
    settings = flowers_config(gate={"metric": metric, "min_gain_over_baseline": -9})
    result = evaluate(two, loaded(flowers_model()), settings=settings, champion=None)
    assert result.verdict.outcome == "pass"
    assert result.verdict.reasons[-1] == (
        "few rows of a class in the test part: setosa 0; averages are over the classes that have some"
    )


def learnt(rows: pd.DataFrame, *, metric: str) -> Evaluation:
    """A model of the one column x, trained and judged by the gate's defaults with this metric."""
    settings = flowers_config(
        columns={"x": {"type": "double"}, "label": {"type": "string"}}, target="label", gate={"metric": metric}
    )
    parts = split.split(rows, split.settings_of(settings))
    return evaluate(parts, loaded(fit(settings, parts)), settings=settings, champion=None)


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_a_coin_that_is_flipped_does_not_pass_by_any_metric(metric: str) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        coins = pd.DataFrame({"x": random.random(180), "label": random.choice(["heads", "tails"], 180).astype(object)})
        result = learnt(coins, metric=metric)
        assert result.verdict.outcome != "pass", (seed, result.verdict.reasons)


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_a_model_that_never_predicts_the_rare_class_does_not_pass_by_any_metric(metric: str) -> None:
    random = np.random.default_rng(4)
    rows = pd.DataFrame({"x": random.random(700), "label": np.where(random.random(700) < 0.02, "rare", "often")})
    result = learnt(rows.astype({"label": object}), metric=metric)
    assert result.probabilities is not None
    assert {result.classes[i] for i in result.probabilities.argmax(axis=1)} == {"often"}
    assert result.verdict.outcome != "pass", result.verdict.reasons
    is_tie = "a tie, better is required" in result.verdict.reasons[0]
    assert is_tie == (metric not in ("log_loss", "brier", "roc_auc", "average_precision"))  # of probabilities
    assert any("the score may be chance" in reason for reason in result.verdict.reasons)
    assert result.verdict.reasons[-1].startswith("few rows of a class in the test part: rare ")


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_a_model_that_learnt_something_passes_by_every_metric(metric: str) -> None:
    settings = flowers_config(gate={"metric": metric})
    result = evaluate(flower_parts(), loaded(flowers_model()), settings=settings, champion=None)
    assert result.verdict.outcome == "pass", result.verdict.reasons


def test_a_lost_champion_is_among_the_reasons_and_does_not_change_the_verdict() -> None:
    lost = "the champion models:/flowers_model/1 is lost"
    challenger = loaded(flowers_model(), "models:/flowers_model/2")
    result = evaluate(flower_parts(), challenger, settings=GOOD, champion=None, lost_champion=lost)
    alone = evaluate(flower_parts(), challenger, settings=GOOD, champion=None)
    assert (result.verdict.outcome, result.verdict.reasons) == ("pass", [*alone.verdict.reasons, lost])


@pytest.mark.parametrize("its_split", [{"test": 0.1}, {"group": "petal_length"}, {"seed": 8}], ids=str)
def test_a_version_of_another_split_is_judged_on_its_own_test_part(its_split: dict[str, object]) -> None:
    """Which the config does not name any more: it was trained on no row of that."""
    settings = flowers_config(split=its_split)
    theirs = split.split(flowers(), split.settings_of(settings))
    model = loaded(fit(settings, theirs))
    judged_on = judged_parts(flowers(), GOOD, model=model)
    seen = {tuple(row) for part in (theirs.train, theirs.validation) for row in part.astype(str).to_numpy()}
    assert not any(tuple(row) in seen for row in judged_on.test.astype(str).to_numpy())
    assert sorted(judged_on.test["petal_length"].dropna()) == sorted(theirs.test["petal_length"].dropna())
    assert evaluate(judged_on, model, settings=GOOD, champion=None).verdict.outcome != "undecided"


def test_a_version_that_was_trained_on_test_rows_is_never_passed() -> None:
    settings = flowers_config(split={"seed": 8})
    model = loaded(fit(settings, split.split(flowers(), split.settings_of(settings))))
    result = evaluate(flower_parts(), model, settings=GOOD, champion=None)
    assert result.verdict.outcome == "undecided"
    assert re.search(r"was trained on \d+ rows of the test part.* train it again", result.verdict.reasons[0])


def grouped_rows(groups: int, *, seed: int, learnable: bool = False) -> pd.DataFrame:
    """Rows of gardens, each of which has its own length of petals and its own species; both are by chance, unless the
    species is to be `learnable` by the color."""
    random = np.random.default_rng(seed)
    rows = flowers(groups * 20, seed=seed)
    garden, noise = np.repeat(np.arange(groups), 20), random.normal(0, 0.05, len(rows))
    species = random.choice(["setosa", "virginica"], groups)[garden]
    color = (
        np.where(species == "setosa", "red", "blue") if learnable else random.choice(["red", "blue"], groups)[garden]
    )
    length = random.normal(4, 2, groups)[garden] + noise
    return rows.assign(garden=garden, petal_length=length, petals=5, wild=True, color=color, species=species)


def judged_by_garden(rows: pd.DataFrame, **gate: object) -> Evaluation:
    columns = {**FLOWERS["columns"], "garden": {"type": "long", "feature": False}}
    settings = flowers_config(columns=columns, split={"group": "garden", "test": 0.3}, gate=gate)
    parts = split.split(rows, split.settings_of(settings))
    return evaluate(parts, loaded(fit(settings, parts)), settings=settings, champion=None)


def test_what_groups_have_by_chance_does_not_pass() -> None:
    """The rows of a garden are alike, so that 600 of them in the test part tell as much as 30."""
    outcomes = [judged_by_garden(grouped_rows(100, seed=seed)).verdict.outcome for seed in range(20)]
    assert outcomes.count("pass") <= 2


def test_what_holds_for_other_groups_passes() -> None:
    assert judged_by_garden(grouped_rows(100, seed=1, learnable=True)).verdict.outcome == "pass"


def test_a_test_part_of_few_groups_is_undecided_and_says_how_many_it_takes() -> None:
    rows = grouped_rows(20, seed=2, learnable=True)
    result = judged_by_garden(rows)
    assert result.verdict.outcome == "undecided"
    assert re.match(r"the test part holds rows of \d groups \(split.group\), too few", result.verdict.reasons[0])
    assert judged_by_garden(rows, min_gain_over_baseline=-0.01).verdict.outcome == "pass"


def test_rows_without_a_group_are_judged_one_by_one() -> None:
    rows = flowers(600).assign(garden=pd.array([None] * 600, dtype="Int64"))
    assert judged_by_garden(rows).verdict.outcome == "pass"


@pytest.mark.parametrize(("days", "groups"), [(100, 30), (20, None)])
def test_by_time_the_rows_of_a_day_are_taken_together_where_there_are_days_enough(
    days: int, groups: int | None
) -> None:
    rows = flowers(days * 20).assign(day=[date(2024, 1, 1) + timedelta(row // 20) for row in range(days * 20)])
    columns = {**FLOWERS["columns"], "day": {"type": "date", "feature": False}}
    settings = flowers_config(columns=columns, split={"time": "day", "test": 0.3})
    test = split.split(rows, split.settings_of(settings)).test
    part = TestPart(rows=test, truth=test["species"].to_numpy(), classes=(), settings=settings)
    numbers = part.groups()
    assert (None if numbers is None else len(np.unique(numbers))) == groups
    if numbers is not None:
        assert test.groupby(numbers)["day"].nunique().tolist() == [1] * 30
