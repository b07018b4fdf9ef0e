"""Quality that follows from probabilities alone, beside the truth of simulations and scikit-learn."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from small import QUICK

from steps.core.config_monitor_quality import Quality
from steps.core.monitoring import estimated_quality
from steps.core.monitoring.estimated_quality import Calibration, Estimate, estimate
from steps.core.monitoring.gate_reference import calibration_of
from steps.core.monitoring.probability_sums import ProbabilitySums, bins_of, matrix_of

TWO, THREE = ("no", "yes"), ("a", "b", "c")
NO_GAPS = Calibration(rows=np.ones(10), stated=np.linspace(0.05, 0.95, 10), right=np.linspace(0.05, 0.95, 10))


def probabilities(rows: int, classes: int, random: np.random.Generator, *, sure: float = 1.5) -> np.ndarray:
    """Of a model that is sometimes sure and sometimes not; float32, as boosters have them."""
    scores = np.exp(sure * random.normal(size=(rows, classes)))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)


def truth_of(stated: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Classes as the probabilities say, (n,) codes: a model that is perfectly calibrated."""
    return (stated.cumsum(axis=1) > random.random((len(stated), 1))).argmax(axis=1)


def scikit_learns(truth: np.ndarray, stated: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    answers = stated.argmax(axis=1)
    scores = {"accuracy": accuracy_score(truth, answers), "f1_macro": f1_score(truth, answers, average="macro")}
    if len(classes) == 2:
        return {**scores, "f1.yes": f1_score(truth, answers), "roc_auc": roc_auc_score(truth, stated[:, 1])}
    return {**scores, "roc_auc": roc_auc_score(truth, stated, multi_class="ovr")}


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_the_estimate_is_what_scikit_learn_says_when_the_labels_have_come(classes: tuple[str, ...]) -> None:
    random = np.random.default_rng(1)
    stated = probabilities(200_000, len(classes), random)
    estimates = estimate(ProbabilitySums.of(stated), NO_GAPS, classes=classes)
    scores = scikit_learns(truth_of(stated, random), stated, classes)
    assert {name: one.value for name, one in estimates.items()} == pytest.approx(scores, abs=0.004)


def test_on_few_rows_the_estimate_is_the_mean_over_all_the_labels_that_there_may_be() -> None:
    stated = np.array([[0.9, 0.1], [0.3, 0.7], [0.45, 0.55], [0.8, 0.2], [0.35, 0.65], [0.05, 0.95]])
    worlds = [[code >> row & 1 for row in range(6)] for code in range(64)]
    weights = [np.prod(stated[np.arange(6), world]) for world in worlds]
    found = estimate(ProbabilitySums.of(stated), NO_GAPS, classes=TWO)
    accuracies = [accuracy_score(world, stated.argmax(axis=1)) for world in worlds]
    assert found["accuracy"].value == pytest.approx(np.average(accuracies, weights=weights), abs=1e-12)
    scores = [f1_score(world, stated.argmax(axis=1), zero_division=0) for world in worlds]
    assert found["f1.yes"].value == pytest.approx(np.average(scores, weights=weights), abs=0.02)
    areas = [roc_auc_score(world, stated[:, 1]) if 0 < sum(world) < 6 else 0.5 for world in worlds]
    assert found["roc_auc"].value == pytest.approx(np.average(areas, weights=weights), abs=0.03)


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_the_interval_holds_the_score_of_the_labels_in_most_simulations(classes: tuple[str, ...]) -> None:
    inside: dict[str, list[bool]] = {}
    for seed in range(200):
        random = np.random.default_rng(seed)
        stated = probabilities(500, len(classes), random)
        estimates = estimate(ProbabilitySums.of(stated), NO_GAPS, classes=classes)
        for name, score in scikit_learns(truth_of(stated, random), stated, classes).items():
            low, high = estimates[name].interval
            inside.setdefault(name, []).append(low <= score <= high)
    assert {name for name, hits in inside.items() if np.mean(hits) < 0.92} == set()


def test_the_interval_is_as_much_wider_as_the_probabilities_were_off_on_the_test_part() -> None:
    random = np.random.default_rng(3)
    stated = probabilities(2_000, 2, random, sure=0.7)
    narrow = estimate(ProbabilitySums.of(stated), NO_GAPS, classes=TWO)["accuracy"]
    off = Calibration(rows=NO_GAPS.rows, stated=NO_GAPS.stated, right=NO_GAPS.right - 0.04)
    wide = estimate(ProbabilitySums.of(stated), off, classes=TWO)["accuracy"]
    assert wide.value == narrow.value
    assert wide.interval == pytest.approx((narrow.interval[0] - 0.04, narrow.interval[1] + 0.04))


def test_a_gap_counts_by_how_many_rows_of_the_window_are_as_sure() -> None:
    gaps = Calibration(rows=np.array([0.0] * 8 + [90, 10]), stated=np.full(10, 0.9), right=np.array([0.9] * 9 + [0.5]))
    assert gaps.error == pytest.approx(0.04)
    assert gaps.error_where(np.array([0.0] * 9 + [1])) == pytest.approx(0.4)
    assert gaps.error_where(np.array([1.0] + [0] * 9)) == pytest.approx(0.4)  # the test part had no such row


def test_calibration_is_by_the_bins_of_the_projects_own_error() -> None:
    random = np.random.default_rng(2)
    stated = probabilities(3_000, 3, random)
    codes = truth_of(stated, random)
    found = calibration_of(codes, stated)
    sure, right = stated.max(axis=1), codes == stated.argmax(axis=1)
    for code in range(10):
        rows = (sure > code / 10) & (sure <= (code + 1) / 10)
        assert found.rows[code] == rows.sum()
        if rows.any():
            assert (found.stated[code], found.right[code]) == pytest.approx((sure[rows].mean(), right[rows].mean()))
    shares = ProbabilitySums.of(stated).confidence_shares(10)
    assert shares == pytest.approx(found.rows / 3_000)


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.lists(st.integers(0, 40), min_size=2, max_size=5))
def test_sums_of_parts_are_those_of_all_rows(seed: int, classes: int, sizes: list[int]) -> None:
    random = np.random.default_rng(seed)
    parts = [probabilities(size, classes, random) for size in sizes]
    added = ProbabilitySums.empty(classes)
    for part in parts:
        added += ProbabilitySums.of(part)
    whole = ProbabilitySums.of(np.concatenate(parts))
    for name, values in vars(whole).items():
        assert np.allclose(getattr(added, name), values), name
    assert added.counts.sum() == classes * sum(sizes)


def test_the_bins_are_bounded_and_at_least_a_hundred() -> None:
    assert (bins_of(2), bins_of(1_000), bins_of(100_000)) == (1_000, 200, 100)


def test_certain_probabilities_are_in_the_outermost_bins() -> None:
    sums = ProbabilitySums.of(np.array([[0.0, 1.0], [1.0, 0.0], [1 - 1e-9, 1e-9]]))
    assert sums.counts[0, [0, -1]].tolist() == [1, 2]
    assert sums.accuracy == pytest.approx(1, abs=1e-8)


def test_probabilities_are_read_from_the_maps_of_a_predictions_table() -> None:
    rows = [[("yes", 0.8), ("no", 0.2)], [("no", 1.0)], [("no", 0.5), ("yes", 0.5)]]
    column = pa.chunked_array(
        [pa.array(rows[:1], pa.map_(pa.string(), pa.float64()))] * 1
        + [pa.array(rows, pa.map_(pa.string(), pa.float64())).slice(1)]
    )
    assert matrix_of(column, TWO).tolist() == [[0.2, 0.8], [1, 0], [0.5, 0.5]]
    assert matrix_of(column.slice(1), TWO).tolist() == [[1, 0], [0.5, 0.5]]
    flags = pa.array([[("False", 0.25), ("True", 0.75)]], pa.map_(pa.string(), pa.float64()))
    assert matrix_of(flags, (False, True)).tolist() == [[0.25, 0.75]]
    assert matrix_of(pa.array([], flags.type), TWO).shape == (0, 2)


def findings(stated: np.ndarray, calibration: Calibration | None = NO_GAPS, **seen: float) -> list[tuple[str, str]]:
    intervals = {name: (score, (score - 0.02, score + 0.02)) for name, score in seen.items()}
    found = estimated_quality.findings(
        ProbabilitySums.of(stated), calibration, classes=TWO, seen=intervals, settings=Quality()
    )
    return [(finding.level, finding.reason) for finding in found]


def test_an_estimate_wholly_below_what_the_gate_saw_is_a_warning_and_never_an_alert() -> None:
    stated = probabilities(5_000, 2, np.random.default_rng(4))
    expected = ProbabilitySums.of(stated).accuracy
    [(level, reason), *_] = findings(stated, accuracy=expected + 0.2)
    assert level == "warn"
    assert reason.startswith(f"accuracy is expected to be {expected:.4f} (95% interval ")
    assert f"below the {expected + 0.2:.4f} that the gate saw" in reason
    assert findings(stated, accuracy=expected + 0.01)[0][0] == "ok"


@pytest.mark.parametrize("share", [0.0001, 0.0005, 0.002, 0.004])
def test_a_window_in_which_few_rows_or_none_are_expected_of_the_class_is_no_warning(share: float) -> None:
    """As the quiet days of a rare class have it: none of 500 rows is predicted as it."""
    stated = np.tile([1 - share, share], (500, 1))
    assert {level for level, _ in findings(stated, NO_GAPS, **{"f1_macro": 0.92, "f1.yes": 0.6})} == {"ok"}
    f1 = estimate(ProbabilitySums.of(stated), NO_GAPS, classes=TWO).get("f1.yes")
    assert f1 is None if share < 0.001 else (f1 is not None and f1.value == 0 and f1.interval[1] > 0.5)


def test_poor_calibration_leaves_no_number() -> None:
    stated = probabilities(5_000, 2, np.random.default_rng(4))
    off = Calibration(rows=NO_GAPS.rows, stated=NO_GAPS.stated, right=NO_GAPS.right - 0.3)
    found = estimated_quality.findings(
        ProbabilitySums.of(stated), off, classes=TWO, seen={"accuracy": (0.99, (0.98, 1.0))}, settings=Quality()
    )
    assert [(finding.level, finding.numbers) for finding in found] == [("too little data", {})]
    assert found[0].reason.startswith("no estimate can be trusted: the model's probabilities were off by 30.0%")


def test_an_unknown_calibration_and_few_rows_are_told() -> None:
    stated = probabilities(5_000, 2, np.random.default_rng(4))
    assert "run `mlflow run . -e evaluate` with it" in findings(stated, None)[0][1]
    assert findings(stated[:5])[0][1].startswith("5 predictions are too few")
    assert estimate(ProbabilitySums.empty(2), NO_GAPS, classes=TWO) == {}


def test_a_regression_has_no_estimate() -> None:
    assert estimated_quality.of_regression().reason.startswith("a regression states no probabilities")


def test_a_class_that_is_not_expected_is_in_no_average() -> None:
    """scikit-learn leaves out a class that is neither predicted nor true."""
    stated = np.column_stack([*probabilities(3_000, 2, np.random.default_rng(5)).T, np.zeros(3_000)])
    found = estimate(ProbabilitySums.of(stated), NO_GAPS, classes=THREE)
    two = estimate(ProbabilitySums.of(stated[:, :2]), NO_GAPS, classes=TWO)
    assert found["f1_macro"].value == pytest.approx(two["f1_macro"].value)
    assert isinstance(found["roc_auc"], Estimate)
    assert found["roc_auc"].value == pytest.approx(two["roc_auc"].value, abs=1e-6)
