"""A model beside the baseline and the champion on the test part, and what the gate says of them."""

import re

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from small import fit, flower_parts, flowers, flowers_config, flowers_model, loaded

from steps.core.metrics import METRICS, Metric, Predictions
from steps.core.models import split
from steps.core.models.evaluation import Evaluation, evaluate, score_candidate
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
    candidate, probabilities = score_candidate(loaded(flowers_model()), test, target="species")
    predicted = flowers_model().predict(None, test)["prediction"]
    assert probabilities is not None
    assert candidate.scores["accuracy"] == pytest.approx((predicted == test["species"]).mean())
    expected = sklearn.metrics.f1_score(test["species"], predicted, average="macro")
    assert candidate.scores["f1_macro"] == pytest.approx(expected)
    assert [flowers_model().schema.classes[i] for i in probabilities.argmax(axis=1)] == predicted.tolist()


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
        r"accuracy 0\.\d+ against 0\.\d+ of baseline: (a tie|0\.\d+ worse), better is required", verdicts[0].reasons[0]
    )


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_metric_that_is_added_to_the_table_is_known_to_the_config_and_decides(
    monkeypatch: pytest.MonkeyPatch, greater_is_better: bool
) -> None:
    """In its direction, and nothing else has to be told of it."""

    def brier(codes: np.ndarray, predictions: Predictions) -> float:
        sign = -1 if greater_is_better else 1
        return float(sign * ((predictions.probabilities - np.eye(predictions.classes)[codes]) ** 2).sum(axis=1).mean())

    monkeypatch.setitem(METRICS, "brier", Metric(score=brier, greater_is_better=greater_is_better))
    settings = flowers_config(gate={"metric": "brier"})
    model, champion = loaded(flowers_model(), "models:/m/2"), loaded(weak_model(), "models:/m/1")
    better = evaluate(flower_parts(), model, settings=settings, champion=champion)
    worse = evaluate(flower_parts(), champion, settings=settings, champion=model)
    assert (better.verdict.outcome, worse.verdict.outcome) == ("pass", "fail")
    test = flower_parts().test
    codes = test["species"].map(dict(zip(better.classes, range(3), strict=True)))
    expected = sklearn.metrics.brier_score_loss(
        codes, flowers_model().probabilities(test), labels=[0, 1, 2], scale_by_half=False
    )
    assert abs(better.scores["models:/m/2"]["brier"]) == pytest.approx(expected)


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


def test_a_class_that_the_model_never_saw_leaves_it_undecided() -> None:
    parts = flower_parts()
    unknown = parts.test.assign(species=["peony", "rose", *parts.test["species"][2:]])
    result = evaluate(other(parts, test=unknown), loaded(flowers_model()), settings=GOOD, champion=None)
    assert result.verdict.outcome == "undecided"
    assert "the test part has species peony, rose, which it never saw" in result.verdict.reasons[0]
    assert (result.scores, result.probabilities) == ({}, None)


def test_a_column_that_the_table_lacks_leaves_it_undecided() -> None:
    parts = flower_parts()
    bare = other(parts, test=parts.test.drop(columns=["color", "petals"]))
    result = evaluate(bare, loaded(flowers_model()), settings=GOOD, champion=None)
    assert result.verdict.outcome == "undecided"
    assert "the table has no column petals and the table has no column color" in result.verdict.reasons[0]


def test_a_champion_that_does_not_fit_the_table_leaves_it_undecided() -> None:
    """Rather than let the new version win without a fight."""
    wider = flowers_config(columns={**flowers_config().model_dump()["columns"], "leaves": {"type": "long"}})
    champion = fit(wider, split.split(flowers().assign(leaves=3), split.settings_of(wider)))
    result = evaluate(
        flower_parts(), loaded(flowers_model()), settings=GOOD, champion=loaded(champion, "models:/old/1")
    )
    assert result.verdict.outcome == "undecided"
    assert result.verdict.reasons[0] == "models:/old/1 cannot be scored: the table has no column leaves"
    assert "models:/flowers_model/1" in result.scores


def test_a_champion_of_another_type_of_column_leaves_it_undecided() -> None:
    """Its texts are numbers by now: it must not be scored as if all of them were missing."""
    texts = flowers_config(columns={**flowers_config().model_dump()["columns"], "petals": {"type": "string"}})
    champion = fit(texts, split.split(flowers().astype({"petals": str}), split.settings_of(texts)))
    result = evaluate(
        flower_parts(), loaded(flowers_model()), settings=GOOD, champion=loaded(champion, "models:/old/1")
    )
    assert result.verdict.outcome == "undecided"
    assert re.search(r"^models:/old/1 cannot be scored: .*column 'petals': \d is not text", result.verdict.reasons[0])


@pytest.mark.parametrize("metric", METRICS)
def test_one_class_in_the_test_part_is_undecided_by_every_metric(metric: str) -> None:
    parts = flower_parts()
    one = other(parts, test=parts.test[parts.test["species"] == "setosa"])
    settings = flowers_config(gate={"metric": metric})
    result = evaluate(one, loaded(flowers_model()), settings=settings, champion=None)
    assert result.verdict.outcome == "undecided"
    assert result.verdict.reasons[0].startswith(
        "the test part holds one class, setosa, and so does not show whether a model"
    )


def test_a_class_without_a_row_in_the_test_part_leaves_the_auc_undecided() -> None:
    """E01: nan is never a score."""
    parts = flower_parts()
    two = other(parts, test=parts.test[parts.test["species"] != "setosa"])
    settings = flowers_config(gate={"metric": "roc_auc"})
    result = evaluate(two, loaded(flowers_model()), settings=settings, champion=None)
    assert result.verdict.outcome == "undecided"
    assert "has no roc_auc on the test part, which needs rows of every class" in result.verdict.reasons[0]
    assert result.verdict.reasons[-1] == "few rows of a class in the test part: setosa 0"


def learnt(rows: pd.DataFrame, *, metric: str) -> Evaluation:
    """A model of the one column x, trained and judged by the gate's defaults with this metric."""
    settings = flowers_config(
        columns={"x": {"type": "double"}, "label": {"type": "string"}}, target="label", gate={"metric": metric}
    )
    parts = split.split(rows, split.settings_of(settings))
    return evaluate(parts, loaded(fit(settings, parts)), settings=settings, champion=None)


@pytest.mark.parametrize("metric", METRICS)
def test_a_coin_that_is_flipped_does_not_pass_by_any_metric(metric: str) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        coins = pd.DataFrame({"x": random.random(180), "label": random.choice(["heads", "tails"], 180).astype(object)})
        result = learnt(coins, metric=metric)
        assert result.verdict.outcome != "pass", (seed, result.verdict.reasons)


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_that_never_predicts_the_rare_class_does_not_pass_by_any_metric(metric: str) -> None:
    random = np.random.default_rng(4)
    rows = pd.DataFrame({"x": random.random(700), "label": np.where(random.random(700) < 0.02, "rare", "often")})
    result = learnt(rows.astype({"label": object}), metric=metric)
    assert result.probabilities is not None
    assert {result.classes[i] for i in result.probabilities.argmax(axis=1)} == {"often"}
    assert result.verdict.outcome != "pass", result.verdict.reasons
    assert "a tie, better is required" in result.verdict.reasons[0] or metric in ("log_loss", "roc_auc")
    assert "the score may be chance" in result.verdict.reasons[-2]
    assert result.verdict.reasons[-1].startswith("few rows of a class in the test part: rare ")


@pytest.mark.parametrize("metric", METRICS)
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


def test_a_model_with_the_same_split_was_trained_on_no_row_of_the_test_part() -> None:
    assert score_candidate(loaded(flowers_model()), flower_parts().test, target="species")[0].trained_on == 0


@pytest.mark.parametrize(
    "its_split",
    [
        {"test": 0.1},
        {"group": "petal_length"},
        {"seed": 8},
    ],
    ids=str,
)
def test_rows_that_a_champion_with_another_split_was_trained_on_are_counted_and_leave_it_undecided(
    its_split: dict[str, object],
) -> None:
    settings = flowers_config(split=its_split)
    theirs = split.split(flowers(), split.settings_of(settings))
    champion = loaded(fit(settings, theirs), "models:/flowers_model/1")
    ours = flower_parts().test
    seen = {tuple(row) for part in (theirs.train, theirs.validation) for row in part.astype(str).to_numpy()}
    overlap = sum(tuple(row) in seen for row in ours.astype(str).to_numpy())
    assert overlap > 0
    assert score_candidate(champion, ours, target="species")[0].trained_on == overlap
    challenger = loaded(flowers_model(), "models:/flowers_model/2")
    result = evaluate(flower_parts(), challenger, settings=GOOD, champion=champion)
    assert result.verdict.outcome == "undecided"
    assert f"models:/flowers_model/1 was trained on {overlap} rows of the test part" in result.verdict.reasons[0]
