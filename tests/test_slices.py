"""The test rows by the values of a column, a version beside the champion on each."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from small import QUICK, flower_parts, flowers, flowers_config, flowers_model, loaded

from steps.core.models import slices, split
from steps.core.models.comparison import ENOUGH_ROWS
from steps.core.models.evaluation import Evaluation, evaluate
from steps.core.models.slices import Slice, slices_rule
from steps.core.models.verdict import Rule

CHAMPION, VERSION = "models:/flowers_model/1", "models:/flowers_model/2"


class BadOnRed:
    """The flowers' model, but for red ones it has turned the classes round."""

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        good = flowers_model().probabilities(rows)
        return np.where((rows["color"] == "red").to_numpy()[:, None], good[:, ::-1], good)


def judged(gate: dict[str, Any], *, rows: int = 1500, spoilt: bool = False, champion: bool = True) -> Evaluation:
    settings = flowers_config(gate={"max_drop_below_champion": 1, **gate})
    parts = split.split(flowers(rows), split.settings_of(settings))
    version = loaded(flowers_model(), VERSION)
    if spoilt:
        object.__setattr__(version, "scorer", BadOnRed())
    return evaluate(parts, version, settings=settings, champion=loaded(flowers_model(), CHAMPION) if champion else None)


def rule_of(result: Evaluation) -> Rule:
    return next(rule for rule in result.verdict.rules if rule.name == "slices")


def test_each_value_with_enough_rows_is_a_slice_with_the_score_of_its_rows() -> None:
    result = judged({"slices": ["color"]})
    test = split.split(flowers(1500), split.settings_of(flowers_config())).test
    assert [one.name for one in result.slices] == ["color blue", "color red", "color white", "color missing"]
    for one in result.slices[:3]:
        rows = test[test["color"] == one.value]
        predicted = flowers_model().predict(None, rows)["prediction"]
        assert one.rows == len(rows) >= ENOUGH_ROWS
        assert one.score == pytest.approx(sklearn.metrics.f1_score(rows["species"], predicted, average="macro"))
        assert (one.gain, one.interval) == (0.0, (0.0, 0.0))


def test_a_slice_that_has_fallen_fails_though_all_rows_together_are_good_enough() -> None:
    result = judged({"slices": ["color", "wild"], "max_drop_in_slice": 0.1}, spoilt=True)
    assert result.verdict.outcome == "fail"
    assert rule_of(result).outcome == "fail"
    assert rule_of(result).sentence.startswith("slices: color red (")
    assert "than the champion (95% interval -" in rule_of(result).sentence
    assert {rule.name for rule in result.verdict.rules if rule.outcome == "fail"} == {"slices"}


def test_a_slice_that_few_rows_explain_decides_nothing() -> None:
    fallen: dict[str, Any] = {"column": "color", "value": "red", "rows": 40, "score": 0.7, "other": 0.9, "gain": -0.2}
    assert slices_rule([Slice(**fallen, interval=(-0.4, 0.0))], max_drop=0.05).outcome == "pass"
    assert slices_rule([Slice(**fallen, interval=(-0.4, -0.06))], max_drop=0.05).outcome == "fail"
    assert slices_rule([Slice(**fallen, interval=(-0.4, -0.06))], max_drop=0.1).outcome == "pass"


def test_without_a_champion_slices_are_shown_and_decide_nothing() -> None:
    result = judged({"slices": ["color"]}, champion=False)
    assert [one.other for one in result.slices] == [None] * 4
    assert all(one.score is not None for one in result.slices)
    assert rule_of(result).outcome == "not applicable"
    assert rule_of(result).sentence not in result.verdict.reasons


def test_values_of_few_rows_are_no_slices() -> None:
    assert judged({"slices": ["color"]}, rows=150).slices == ()


@pytest.mark.parametrize("column", ["petal_length", "petals"])
@QUICK
@given(st.integers(0, 99))
def test_a_continuous_column_is_cut_into_quarters_that_hold_each_row_once(column: str, seed: int) -> None:
    settings = flowers_config(gate={"slices": [column]})
    rows = flowers(1000, seed=seed)
    if column == "petals":
        rows["petals"] = np.arange(1000) % 60
    parts = split.split(rows, split.settings_of(settings))
    result = evaluate(parts, loaded(flowers_model()), settings=settings, champion=None)
    present = int(parts.test[column].notna().sum())
    quarters = [one for one in result.slices if one.value != "missing"]
    assert sum(one.rows for one in quarters) == present
    assert [one.rows for one in quarters] == pytest.approx([present / 4] * 4, abs=13 if column == "petals" else 1)


def test_a_quarter_is_named_by_few_digits_unless_more_tell_it_from_another() -> None:
    assert slices._short_names([-0.5391156439763461, 0.027, 55000.0, 1e-07]) == {
        -0.5391156439763461: "-0.53912",
        0.027: "0.027",
        55000.0: "55000",
        1e-07: "0.0000001",
    }
    assert list(slices._short_names([1.0000001, 1.0000002]).values()) == ["1.0000001", "1.0000002"]
    assert list(slices._short_names([1234567, 7654321]).values()) == ["1234567", "7654321"]


def test_missing_values_and_truth_values_are_slices_of_their_own() -> None:
    parts = flower_parts()
    result = judged({"slices": ["wild"]})
    assert [one.name for one in result.slices] == ["wild False", "wild True"]
    many = parts.test.assign(color=None)
    settings = flowers_config(gate={"slices": ["color"]})
    every = evaluate(
        split.Parts(train=parts.train, validation=parts.validation, test=many),
        loaded(flowers_model()),
        settings=settings,
        champion=None,
    )
    assert [(one.value, one.rows) for one in every.slices] == [("missing", len(many))]
