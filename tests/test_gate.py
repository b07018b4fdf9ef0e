"""The gate: pass, fail or undecided, and a line for each comparison."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from small import QUICK

from steps.core.config import Gate
from steps.core.metrics import METRICS, SAME
from steps.core.models import gate_rules
from steps.core.models.gate import Candidate, Rule, Verdict, judge

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
    few_groups: int | None = None,
) -> Verdict:
    return judge(
        gate,
        model=candidate("model", model, metric=gate.metric, p_value=p_value),
        baseline=candidate("baseline", baseline, metric=gate.metric),
        champion=None if champion is None else candidate("champion", champion, metric=gate.metric),
        test_rows=test_rows,
        few_groups=few_groups,
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
    ("rows", "gate", "outcome"),
    [
        (6, Gate(metric="recall.rare"), "pass"),
        (5, Gate(metric="recall.rare"), "undecided"),
        (1, Gate(metric="average_precision.rare"), "undecided"),
        (1, Gate(metric="recall.rare", min_gain_over_baseline=-1), "pass"),
        (1, Gate(), "pass"),
    ],
)
def test_few_rows_of_its_class_prove_nothing(rows: int, gate: Gate, outcome: str) -> None:
    result = verdict(gate, 1.0, 0.0, test_rows={"often": 300, "rare": rows})
    assert result.outcome == outcome
    if outcome == "undecided":
        assert result.reasons[0] == (
            f"the test part holds {rows} rows of class rare, too few to judge by {gate.metric}: ingest more rows, or "
            "change split in the config, so that it holds more than 5"
        )


@pytest.mark.parametrize(
    ("limits", "outcome", "told"),
    [
        ({"recall.rare": 0.5, "log_loss": 0.4}, "pass", "recall.rare 0.5000 is at least 0.5"),
        ({"recall.rare": 0.51}, "fail", "recall.rare 0.5000 is not at least 0.51"),
        ({"log_loss": 0.4}, "pass", "log_loss 0.4000 is at most 0.4"),
        ({"log_loss": 0.39}, "fail", "log_loss 0.4000 is not at most 0.39"),
        (
            {"recall.none": 0.1},
            "undecided",
            "model has no recall.none on the test part, which needs rows of class none: set other gate.limits in the "
            "config",
        ),
        ({"recall.none": 0.1, "log_loss": 0.1}, "fail", "log_loss 0.4000 is not at most 0.1"),
    ],
)
def test_limits_on_further_metrics_decide_beside_the_gates_own(
    limits: dict[str, float], outcome: str, told: str
) -> None:
    scores = {"f1_macro": 0.9, "recall.rare": 0.5, "log_loss": 0.4}
    result = judge(
        Gate(limits=limits),
        model=Candidate(name="model", scores=scores, p_value=0.01),
        baseline=candidate("baseline", 0.3),
        champion=None,
        test_rows=ROWS,
    )
    assert result.outcome == outcome
    assert told in result.reasons


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
def test_a_metric_that_is_missing_anywhere_never_passes(gate: Gate, scores: list[float | None]) -> None:
    assume(None in scores)
    result = verdict_of_three(gate, *scores)
    names = [name for name, score in zip(("model", "baseline", "champion"), scores, strict=True) if score is None]
    told = [reason.split()[0] for reason in result.reasons if f"has no {gate.metric} on the test part" in reason]
    if names == ["champion"]:
        assert result.outcome in ("undecided", "fail")
        assert told == names
    else:
        assert result.outcome == "undecided"
        assert told == [name for name in names if name != "champion"]


def verdict_of_three(gate: Gate, model: float | None, baseline: float | None, champion: float | None) -> Verdict:
    """Each of which may have no score."""
    candidates = {"model": model, "baseline": baseline, "champion": champion}
    scored = {name: candidate(name, score, metric=gate.metric) for name, score in candidates.items()}
    return judge(gate, model=scored["model"], baseline=scored["baseline"], champion=scored["champion"], test_rows=ROWS)


def beside(champion: Candidate, model: float = 0.9, **gate: float) -> Verdict:
    """The verdict on a version whose champion is this one."""
    settings = Gate.model_validate(gate)
    baseline = candidate("baseline", 0.3)
    return judge(settings, model=candidate("model", model), baseline=baseline, champion=champion, test_rows=ROWS)


def rule(verdict: Verdict, name: str) -> Rule:
    return next(rule for rule in verdict.rules if rule.name == name)


def test_rows_of_the_test_part_that_the_version_was_trained_on_leave_it_undecided() -> None:
    """However good its score, as it says nothing."""
    model, baseline = candidate("model", 1.0, trained_on=9), candidate("baseline", 0.3)
    result = judge(Gate(), model=model, baseline=baseline, champion=None, test_rows=ROWS)
    assert result.outcome == "undecided"
    assert result.reasons == [
        "model was trained on 9 rows of the test part, as its split is another one: train it again"
    ]


def test_a_champion_that_no_fair_comparison_is_left_with_decides_nothing_and_is_named() -> None:
    champion = candidate("champion", incomparable="the table has no column x")
    assert beside(champion).outcome == "pass"
    assert beside(champion).reasons[-1] == "champion is not compared with: the table has no column x"
    assert rule(beside(champion), "champion").outcome == "not applicable"
    assert beside(champion, at_least=0.95).outcome == "fail"


def test_a_comparison_that_has_no_answer_yet_leaves_it_undecided_unless_it_fails_anyway() -> None:
    champion = candidate("champion", undecidable="6 of the 30 test rows are new to both")
    assert beside(champion).outcome == "undecided"
    assert beside(champion).reasons[-1] == "6 of the 30 test rows are new to both"
    assert beside(champion, at_least=0.95).outcome == "fail"


def test_a_champion_is_compared_on_the_rows_that_it_shares_with_the_version() -> None:
    shared = candidate("champion", 0.8, against={"f1_macro": 0.75}, rows="the 40 of 90 test rows that are new to both")
    result = beside(shared, model=0.9)
    assert result.outcome == "fail"
    assert result.reasons[-1] == (
        "f1_macro 0.7500 against 0.8000 of champion on the 40 of 90 test rows that are new to both: 0.0500 worse, at "
        "most 0 worse is allowed"
    )


class TestIntervals:
    def judged(self, interval: tuple[float, float], **gate: float) -> Verdict:
        baseline = candidate("baseline", 0.3, interval=interval)
        settings = Gate.model_validate(gate)
        return judge(settings, model=candidate("model", 0.5), baseline=baseline, champion=None, test_rows=ROWS)

    def test_a_gain_over_the_baseline_that_few_rows_explain_is_undecided(self) -> None:
        result = self.judged((-0.01, 0.4))
        assert result.outcome == "undecided"
        assert result.reasons == [
            "f1_macro 0.5000 against 0.3000 of baseline: 0.2000 better (95% interval -0.0100 to 0.4000), better is "
            "required; so few rows do not show that it is better at all: more in the test part would"
        ]

    def test_a_gain_whose_interval_lies_above_nothing_passes_also_below_the_margin(self) -> None:
        assert self.judged((0.01, 0.4), min_gain_over_baseline=0.1).outcome == "pass"

    def test_a_margin_below_0_asks_for_no_such_proof(self) -> None:
        assert self.judged((-0.01, 0.4), min_gain_over_baseline=-0.1).outcome == "pass"

    def test_a_gain_that_is_too_small_fails_whatever_its_interval(self) -> None:
        assert self.judged((-0.01, 0.4), min_gain_over_baseline=0.3).outcome == "fail"

    def test_a_threshold_is_held_against_the_score_and_the_interval_is_told(self) -> None:
        model = candidate("model", 0.9, interval=(0.7, 1.0))
        result = judge(
            Gate(at_least=0.85), model=model, baseline=candidate("baseline", 0.3), champion=None, test_rows=ROWS
        )
        assert result.outcome == "pass"
        assert result.reasons[0] == "f1_macro 0.9000 (95% interval 0.7000 to 1.0000) is at least 0.85"


class TestEarlierVersions:
    """A small step down each time is within the tolerance each time; the sum of them is not."""

    GATE = Gate(max_drop_below_champion=0.01)

    def test_production_is_held_against_like_the_champion(self) -> None:
        released = candidate("models:/m/3", 0.95)
        result = gate_rules.production(self.GATE, candidate("models:/m/9", 0.9), released, champion="models:/m/8")
        assert result.outcome == "fail"
        assert result.sentence == (
            "production: f1_macro 0.9000 against 0.9500 of models:/m/3: 0.0500 worse, at most 0.01 worse is allowed"
        )

    @pytest.mark.parametrize("released", [None, "models:/m/8", "models:/m/9"])
    def test_production_that_is_nothing_else_is_not_judged_twice(self, released: str | None) -> None:
        other = candidate(released, 0.95) if released else None
        model = candidate("models:/m/9", 0.9)
        assert gate_rules.production(self.GATE, model, other, champion="models:/m/8").outcome == "not applicable"

    @pytest.mark.parametrize(
        ("score", "interval", "outcome"),
        [(0.95, (-0.08, -0.02), "fail"), (0.95, (-0.11, 0.01), "pass"), (0.905, (-0.009, -0.001), "pass")],
    )
    def test_the_best_of_the_last_counts_where_few_rows_do_not_explain_the_difference(
        self, score: float, interval: tuple[float, float], outcome: str
    ) -> None:
        others = [candidate("models:/m/7", 0.5), candidate("models:/m/8", score, interval=interval)]
        result = gate_rules.best(self.GATE, candidate("models:/m/9", 0.9), others, name="best of the last 10")
        assert (result.outcome, result.interval) == (outcome, interval)
        assert "of models:/m/8" in result.sentence

    def test_versions_that_cannot_be_compared_with_stop_nobody(self) -> None:
        others = [candidate("models:/m/7", incomparable="the table has no column x")]
        result = gate_rules.best(self.GATE, candidate("models:/m/9", 0.9), others, name="best of the last 10")
        assert result.outcome == "not applicable"
        assert "the table has no column x" in result.sentence


class TestCalibration:
    @pytest.mark.parametrize(("limit", "outcome"), [(None, "not applicable"), (0.08, "pass"), (0.07, "fail")])
    def test_it_decides_only_where_the_config_sets_a_limit(self, limit: float | None, outcome: str) -> None:
        result = gate_rules.calibration(Gate(calibration_error_at_most=limit), 0.08)
        assert (result.outcome, result.value, result.limit) == (outcome, 0.08, limit)
        assert "0.0800" in result.sentence

    def test_a_regression_has_none(self) -> None:
        assert gate_rules.calibration(Gate(metric="r2"), None).outcome == "not applicable"


def test_each_rule_says_what_came_of_it_with_its_numbers() -> None:
    gate = Gate(at_least=0.85, min_gain_over_baseline=0.05, max_drop_below_champion=0.01)
    rules = {rule.name: rule for rule in verdict(gate, 0.8, 0.3, 0.9, p_value=0.02).rules}
    assert {name: (rule.outcome, rule.limit) for name, rule in rules.items()} == {
        "threshold": ("fail", 0.85),
        "baseline": ("pass", 0.05),
        "champion": ("fail", -0.01),
        "chance": ("pass", 0.05),
    }
    assert [rule.value for rule in rules.values()] == pytest.approx([0.8, 0.5, -0.1, 0.02])


def test_the_champion_itself_is_not_held_against_itself() -> None:
    model = candidate("models:/iris/3", 0.9)
    gate = Gate(at_least=0.8)
    result = judge(gate, model=model, baseline=candidate("baseline", 0.3), champion=model, test_rows=ROWS)
    assert (result.outcome, len(result.reasons)) == ("pass", 2)
    assert rule(result, "champion").outcome == "not applicable"


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
            "few rows of a class in the test part: versicolor 0; averages are over the classes that have some",
        ]

    def test_a_score_that_shuffled_labels_reach_too_is_undecided(self) -> None:
        chance = "the score may be chance: up to 6% of shuffles of the test part's labels score as well, 5% may;"
        result = verdict(Gate(), 0.5, 0.3, p_value=0.06)
        assert result.outcome == "undecided"
        assert result.reasons[-1].startswith(chance)
        assert verdict(Gate(), 0.5, 0.3, p_value=0.05).outcome == "pass"

    def test_a_score_that_is_too_low_fails_also_when_it_may_be_chance(self) -> None:
        result = verdict(Gate(), 0.3, 0.3, p_value=1.0)
        assert result.outcome == "fail"
        assert result.reasons[-1].startswith("the score may be chance: up to 100% of shuffles")

    def test_a_margin_below_0_asks_for_no_proof(self) -> None:
        assert verdict(Gate(min_gain_over_baseline=-0.1), 0.3, 0.3, p_value=1.0).outcome == "pass"

    def test_a_class_with_a_handful_of_rows_is_named_and_does_not_change_the_verdict(self) -> None:
        result = verdict(Gate(), 0.9, 0.3, test_rows={"setosa": 40, "versicolor": 5, "peony": 6, "rose": 0})
        assert result.outcome == "pass"
        assert result.reasons[1:] == [
            "few rows of a class in the test part: versicolor 5, rose 0; averages are over the classes that have some"
        ]

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


def test_few_groups_prove_nothing_unless_no_proof_is_asked_for() -> None:
    undecided = verdict(Gate(), 0.9, 0.3, few_groups=5)
    assert undecided.outcome == "undecided"
    assert undecided.reasons == [
        "the test part holds rows of 5 groups (split.group), too few to show what holds for other groups: ingest rows "
        "of more groups, or raise split.test in the config, so that it holds at least 10"
    ]
    assert verdict(Gate(min_gain_over_baseline=-0.1), 0.9, 0.3, few_groups=5).outcome == "pass"
