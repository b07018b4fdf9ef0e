"""The gate: pass, fail or undecided, and a line for each comparison."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from small import QUICK

from steps.core.config import Gate
from steps.core.metrics import METRICS, SAME
from steps.core.models.gate import Candidate, Verdict, judge

NAMES = st.sampled_from(list(METRICS))
SCORES = st.floats(0, 1)
ROWS = {"setosa": 40, "versicolor": 30}  # of each class in the test part
GATES = st.builds(
    Gate,
    metric=NAMES,
    at_least=st.none() | SCORES,
    min_gain_over_baseline=st.floats(-0.5, 0.5),
    max_drop_below_champion=st.floats(0, 0.5),
)


def candidate(name: str, score: float | None = None, *, metric: str = "f1_macro", **changes: object) -> Candidate:
    return Candidate(name=name, scores={} if score is None else {metric: score}, **changes)  # type: ignore[arg-type]


def verdict(
    gate: Gate,
    model: float | None,
    baseline: float | None,
    champion: float | None = None,
    *,
    test_rows: dict[str, int] = ROWS,
    p_value: float = 0.01,
) -> Verdict:
    return judge(
        gate,
        model=candidate("model", model, metric=gate.metric, p_value=p_value),
        baseline=candidate("baseline", baseline, metric=gate.metric),
        champion=None if champion is None else candidate("champion", champion, metric=gate.metric),
        test_rows=test_rows,
    )


@pytest.mark.parametrize(
    ("gate", "model", "champion", "outcome"),
    [
        (Gate(at_least=0.85), 0.85, None, "pass"),
        (Gate(at_least=0.85), 0.8499, None, "fail"),
        (Gate(min_gain_over_baseline=0.1), 0.4, None, "pass"),  # the baseline has 0.3: a binary 0.4 - 0.3 is below 0.1
        (Gate(min_gain_over_baseline=0.1), 0.399, None, "fail"),
        (Gate(min_gain_over_baseline=-0.1), 0.2, None, "pass"),
        (Gate(), 0.3001, None, "pass"),
        (Gate(), 0.3, None, "fail"),  # as good as the baseline is not good enough
        (Gate(min_gain_over_baseline=-0.01), 0.3, None, "pass"),  # unless the config says so
        (Gate(min_gain_over_baseline=1e-15), 0.3, None, "fail"),
        (Gate(), 0.29, None, "fail"),
        (Gate(max_drop_below_champion=0.01), 0.89, 0.9, "pass"),
        (Gate(max_drop_below_champion=0.01), 0.88, 0.9, "fail"),
        (Gate(), 0.9, 0.9, "pass"),
        (Gate(), 0.8999, 0.9, "fail"),
        (Gate(at_least=0.95), 0.9, 0.1, "fail"),
    ],
)
def test_a_version_passes_when_it_is_good_enough_in_every_way(
    gate: Gate, model: float, champion: float | None, outcome: str
) -> None:
    assert verdict(gate, model, 0.3, champion).outcome == outcome


@pytest.mark.parametrize(
    ("gate", "model", "champion", "outcome"),
    [
        (Gate(metric="log_loss", at_least=0.5), 0.5, None, "pass"),
        (Gate(metric="log_loss", at_least=0.5), 0.6, None, "fail"),
        (Gate(metric="log_loss", min_gain_over_baseline=0.2), 0.8, None, "pass"),  # the baseline has 1
        (Gate(metric="log_loss", min_gain_over_baseline=0.2), 0.81, None, "fail"),
        (Gate(metric="log_loss", max_drop_below_champion=0.1), 0.5, 0.4, "pass"),
        (Gate(metric="log_loss", max_drop_below_champion=0.1), 0.51, 0.4, "fail"),
    ],
)
def test_a_smaller_log_loss_is_the_better_one(gate: Gate, model: float, champion: float | None, outcome: str) -> None:
    assert verdict(gate, model, 1.0, champion).outcome == outcome


@QUICK
@given(GATES, SCORES, SCORES, SCORES, st.none() | SCORES)
def test_a_better_score_never_turns_a_pass_into_a_fail(
    gate: Gate, one: float, other: float, baseline: float, champion: float | None
) -> None:
    worse, better = sorted([one, other], reverse=not METRICS[gate.metric].greater_is_better)
    if verdict(gate, worse, baseline, champion).outcome == "pass":
        assert verdict(gate, better, baseline, champion).outcome == "pass"


@QUICK
@given(GATES, SCORES, SCORES, SCORES, SCORES)
def test_a_better_baseline_or_champion_never_turns_a_fail_into_a_pass(
    gate: Gate, model: float, baseline: float, one: float, other: float
) -> None:
    worse, better = sorted([one, other], reverse=not METRICS[gate.metric].greater_is_better)
    if verdict(gate, model, baseline, worse).outcome == "fail":
        assert verdict(gate, model, baseline, better).outcome == "fail"
    if verdict(gate, model, worse).outcome == "fail":
        assert verdict(gate, model, better).outcome == "fail"


@QUICK
@given(GATES, SCORES, SCORES, SCORES)
def test_a_champion_can_only_make_it_harder(gate: Gate, model: float, baseline: float, champion: float) -> None:
    if verdict(gate, model, baseline).outcome == "fail":
        assert verdict(gate, model, baseline, champion).outcome == "fail"


@QUICK
@given(GATES, st.lists(st.none() | SCORES, min_size=3, max_size=3))
def test_a_metric_that_is_missing_anywhere_leaves_it_undecided(gate: Gate, scores: list[float | None]) -> None:
    assume(None in scores)
    result = judge(
        gate,
        model=candidate("model", scores[0], metric=gate.metric),
        baseline=candidate("baseline", scores[1], metric=gate.metric),
        champion=candidate("champion", scores[2], metric=gate.metric),
        test_rows=ROWS,
    )
    names = [name for name, score in zip(("model", "baseline", "champion"), scores, strict=True) if score is None]
    assert result.outcome == "undecided"
    assert [reason.split()[0] for reason in result.reasons] == names
    assert all(gate.metric in reason for reason in result.reasons)


@pytest.mark.parametrize("who", ["model", "champion"])
def test_rows_of_the_test_part_that_a_candidate_was_trained_on_leave_it_undecided(who: str) -> None:
    """However good its score, as it says nothing."""
    candidates = {name: candidate(name, 1.0, trained_on=9 if name == who else 0) for name in ("model", "champion")}
    result = judge(
        Gate(),
        model=candidates["model"],
        baseline=candidate("baseline", 0.3),
        champion=candidates["champion"],
        test_rows=ROWS,
    )
    assert result.outcome == "undecided"
    assert result.reasons == [f"{who} was trained on 9 rows of the test part, as its split is another one"]


def test_a_champion_that_cannot_be_scored_leaves_it_undecided_with_its_own_reason() -> None:
    champion = candidate("champion", unfit="the table has no column x")
    result = judge(
        Gate(),
        model=candidate("model", 0.9),
        baseline=candidate("baseline", 0.3),
        champion=champion,
        test_rows=ROWS,
    )
    assert result == Verdict(outcome="undecided", reasons=["champion cannot be scored: the table has no column x"])


def test_the_champion_itself_is_not_held_against_itself() -> None:
    model = candidate("models:/iris/3", 0.9)
    gate = Gate(at_least=0.8)
    result = judge(gate, model=model, baseline=candidate("baseline", 0.3), champion=model, test_rows=ROWS)
    assert (result.outcome, len(result.reasons)) == ("pass", 2)


def test_there_is_a_reason_for_every_comparison_good_or_bad() -> None:
    gate = Gate(at_least=0.85, min_gain_over_baseline=0.05, max_drop_below_champion=0.01)
    assert verdict(gate, 0.8, 0.3, 0.9).reasons == [
        "f1_macro 0.8000 is not at least 0.85",
        "f1_macro 0.8000 against 0.3000 of baseline: 0.5000 better, at least 0.05 better is required",
        "f1_macro 0.8000 against 0.9000 of champion: 0.1000 worse, at most 0.01 worse is allowed",
    ]


def test_a_limit_on_log_loss_is_told_as_at_most() -> None:
    assert verdict(Gate(metric="log_loss", at_least=0.5), 0.4, 1.0).reasons[0] == "log_loss 0.4000 is at most 0.5"


class TestTies:
    """By default nothing moves without proof, whatever the metric."""

    @pytest.mark.parametrize("metric", METRICS)
    def test_a_tie_with_the_baseline_fails_and_says_that_it_is_one(self, metric: str) -> None:
        result = verdict(Gate(metric=metric), 0.3889, 0.3889)
        assert result.outcome == "fail"
        assert result.reasons == [f"{metric} 0.3889 against 0.3889 of baseline: a tie, better is required"]

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("noise", [1e-16, -1e-16, 1e-13, -1e-13, SAME / 2])
    def test_what_the_order_of_additions_can_do_is_a_tie(self, metric: str, noise: float) -> None:
        assert verdict(Gate(metric=metric), 0.3889 + noise, 0.3889).outcome == "fail"

    @pytest.mark.parametrize("metric", METRICS)
    def test_one_row_of_a_hundred_million_is_no_tie(self, metric: str) -> None:
        sign = 1 if METRICS[metric].greater_is_better else -1
        result = verdict(Gate(metric=metric), 0.5 + sign * 1e-8, 0.5)
        assert (result.outcome, result.reasons[0].partition(": ")[2]) == ("pass", "1e-08 better, better is required")

    @pytest.mark.parametrize("metric", METRICS)
    def test_a_tie_with_the_champion_passes(self, metric: str) -> None:
        worst = 0.1 if METRICS[metric].greater_is_better else 2.0
        result = verdict(Gate(metric=metric), 0.9, worst, 0.9)
        assert result.outcome == "pass"
        assert result.reasons[-1] == f"{metric} 0.9000 against 0.9000 of champion: a tie, at most 0 worse is allowed"


class TestWhatTheTestPartCannotTell:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
    def test_one_class_is_undecided_by_every_metric_and_score(self, metric: str, score: float) -> None:
        result = verdict(
            Gate(metric=metric, min_gain_over_baseline=-1), score, 0.5, test_rows={"setosa": 9, "versicolor": 0}
        )
        assert result.outcome == "undecided"
        assert result.reasons == [
            "the test part holds one class, setosa, and so does not show whether a model has learnt something: ingest "
            "more rows, or change split in the config",
            "few rows of a class in the test part: versicolor 0",
        ]

    def test_a_score_that_shuffled_labels_reach_too_is_undecided(self) -> None:
        chance = "the score may be chance: 6% of the shuffles of the test part's labels score as well, at most 5% may;"
        result = verdict(Gate(), 0.5, 0.3, p_value=0.06)
        assert result.outcome == "undecided"
        assert result.reasons[-1].startswith(chance)
        assert verdict(Gate(), 0.5, 0.3, p_value=0.05).outcome == "pass"

    def test_a_score_that_is_too_low_fails_also_when_it_may_be_chance(self) -> None:
        result = verdict(Gate(), 0.3, 0.3, p_value=1.0)
        assert result.outcome == "fail"
        assert result.reasons[-1].startswith("the score may be chance: 100% of the shuffles")

    def test_a_margin_below_0_asks_for_no_proof(self) -> None:
        assert verdict(Gate(min_gain_over_baseline=-0.1), 0.3, 0.3, p_value=1.0).outcome == "pass"

    def test_a_class_with_a_handful_of_rows_is_named_and_does_not_change_the_verdict(self) -> None:
        result = verdict(Gate(), 0.9, 0.3, test_rows={"setosa": 40, "versicolor": 5, "peony": 6, "rose": 0})
        assert result.outcome == "pass"
        assert result.reasons[1:] == ["few rows of a class in the test part: versicolor 5, rose 0"]

    def test_of_many_such_classes_some_are_named_and_the_rest_is_counted(self) -> None:
        result = verdict(Gate(), 0.2, 0.3, test_rows={f"c{n}": 1 for n in range(9)})
        assert result.reasons[-1].endswith(": c0 1, c1 1, c2 1, c3 1, c4 1 and 4 more classes")


@QUICK
@given(
    GATES, SCORES, SCORES, st.none() | SCORES, st.floats(0, 1), st.dictionaries(st.text(max_size=3), st.integers(0, 99))
)
def test_a_pass_always_has_proof(
    gate: Gate, model: float, baseline: float, champion: float | None, p_value: float, test_rows: dict[str, int]
) -> None:
    result = verdict(gate, model, baseline, champion, test_rows=test_rows, p_value=p_value)
    if result.outcome == "pass":
        assert sum(rows > 0 for rows in test_rows.values()) > 1
        assert gate.min_gain_over_baseline < 0 or p_value <= 0.05
        assert gate.min_gain_over_baseline < 0 or (
            model > baseline if METRICS[gate.metric].greater_is_better else model < baseline
        )
