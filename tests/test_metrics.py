"""Metrics against their formulas, written out with loops, and against scikit-learn's own where it has one."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from small import QUICK

from steps.core import metrics, significance
from steps.core.classification_metrics import Predictions, calibration_bins, confusion, expected_calibration_error
from steps.core.metrics import metrics_of

Label = str | int | bool
KINDS: list[tuple[Label, ...]] = [("a", "b", "c"), (3, 7, 10), (False, True), ("yes", "no"), (0, 1)]


def example(seed: int, classes: Sequence[Label], rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that know something of them; every class occurs."""
    random = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(len(classes)), random.integers(0, len(classes), rows - len(classes))])
    raw = random.random((rows, len(classes))) + 0.5 * np.eye(len(classes))[codes]
    kind = object if isinstance(classes[0], str) else type(classes[0])
    return np.array([classes[code] for code in codes], dtype=kind), raw / raw.sum(axis=1, keepdims=True)


def counts(truth: np.ndarray, predicted: list[Label], label: Label) -> tuple[int, int, int]:
    """True positives, predicted and actual rows of a class."""
    pairs = list(zip(truth.tolist(), predicted, strict=True))
    return (
        sum(actual == label and guess == label for actual, guess in pairs),
        sum(guess == label for _, guess in pairs),
        sum(actual == label for actual, _ in pairs),
    )


def chosen(probabilities: np.ndarray, classes: Sequence[Label]) -> list[Label]:
    return [max(zip(row, classes, strict=True), key=lambda pair: pair[0])[1] for row in probabilities.tolist()]


def permutation_p_value(metric: str, truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[Label]) -> float:
    return significance.p_value(metric, metrics.codes_of(truth, classes), Predictions(probabilities))


def auc(positive: list[float], negative: list[float]) -> float:
    """The share of pairs in which the positive row has the higher value; a tie is half."""
    return sum((p > n) + 0.5 * (p == n) for p in positive for n in negative) / (len(positive) * len(negative))


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_scores_are_what_their_formulas_say(seed: int, classes: tuple[Label, ...]) -> None:
    truth, probabilities = example(seed, classes)
    predicted = chosen(probabilities, classes)
    by_class = [counts(truth, predicted, label) for label in classes]
    precision = [hit / guessed if guessed else 0.0 for hit, guessed, _ in by_class]
    recall = [hit / actual for hit, _, actual in by_class]
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    surprise = [-math.log(row[classes.index(label)]) for label, row in zip(truth.tolist(), probabilities, strict=True)]
    areas = [
        auc(probabilities[truth == label, i].tolist(), probabilities[truth != label, i].tolist())
        for i, label in enumerate(classes)
    ]
    mean = {
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "log_loss": surprise,
        "roc_auc": areas,
        "balanced_accuracy": recall,
    }
    expected = {name: sum(values) / len(values) for name, values in mean.items()}
    expected["accuracy"] = sum(hit for hit, _, _ in by_class) / len(truth)
    computed = metrics.scores(truth, probabilities, classes)
    del computed["brier"], computed["average_precision"]  # against scikit-learn below
    assert computed == pytest.approx(expected)


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from([("a", "b", "c"), (3, 7, 10)]))
def test_scores_are_those_of_scikit_learn(seed: int, classes: tuple[Label, ...]) -> None:
    truth, probabilities = example(seed, classes)
    computed = metrics.scores(truth, probabilities, classes)
    assert computed["log_loss"] == pytest.approx(sklearn.metrics.log_loss(truth, probabilities, labels=list(classes)))
    area = sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", labels=list(classes))
    assert computed["roc_auc"] == pytest.approx(area)


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from([None, 1]))
def test_scores_of_rare_classes_are_those_of_scikit_learn(
    seed: int, classes: tuple[Label, ...], digits: int | None
) -> None:
    """With few digits many probabilities are equal."""
    truth, probabilities = example(seed, classes)
    if digits:
        probabilities = probabilities.round(digits)
    computed = metrics.scores(truth, probabilities, classes)
    is_of = np.stack([truth == label for label in classes], axis=1)
    precision = sklearn.metrics.average_precision_score(is_of, probabilities, average="macro")
    assert computed["average_precision"] == pytest.approx(precision)
    predicted = np.array(chosen(probabilities, classes), dtype=truth.dtype)
    assert computed["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, predicted))
    if digits is None:
        codes = metrics.codes_of(truth, classes)
        labels = list(range(len(classes)))
        brier = sklearn.metrics.brier_score_loss(codes, probabilities, labels=labels, scale_by_half=False)
        assert computed["brier"] == pytest.approx(brier)


@QUICK
@given(st.lists(st.tuples(st.floats(0.101, 1), st.booleans()), min_size=1, max_size=60))
def test_the_bins_of_a_calibration_are_those_of_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    stated, right = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    on_edges = np.isclose(stated * 10, np.round(stated * 10))  # there the two differ by which bin they are in
    stated, right = stated[~on_edges], right[~on_edges]
    others = np.tile((1 - stated[:, np.newaxis]) / 9, 9)  # below what is stated of the first of ten classes
    mean, share, rows = calibration_bins(np.where(right, 0, 1), Predictions(np.column_stack([stated, others])))
    if len(stated):
        expected_share, expected_mean = sklearn.calibration.calibration_curve(right, stated, n_bins=10)
        np.testing.assert_allclose(mean, expected_mean)
        np.testing.assert_allclose(share, expected_share)
    assert rows.sum() == len(stated)


def test_the_confusion_of_classes_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    codes, probabilities = random.integers(0, 4, 200), random.dirichlet([1] * 4, 200)
    expected = sklearn.metrics.confusion_matrix(codes, probabilities.argmax(axis=1))
    np.testing.assert_array_equal(confusion(codes, Predictions(probabilities)), expected)


def test_the_calibration_error_is_its_formula_written_out() -> None:
    random = np.random.default_rng(3)
    classes = ("a", "b")
    truth, probabilities = example(3, classes, rows=300)
    probabilities[:4] = [[1.0, 0.0], [0.5, 0.5], [0.9, 0.1], [0.8, 0.2]]  # on the edges of bins
    right = [guess == label for guess, label in zip(chosen(probabilities, classes), truth.tolist(), strict=True)]
    confidence = probabilities.max(axis=1).tolist()
    expected = 0.0
    for low in range(10):
        in_bin = [i for i, value in enumerate(confidence) if low / 10 < value <= (low + 1) / 10]
        if in_bin:
            share = sum(right[i] for i in in_bin) / len(in_bin)
            expected += len(in_bin) / 300 * abs(share - sum(confidence[i] for i in in_bin) / len(in_bin))
    codes = metrics.codes_of(truth, classes)
    assert expected_calibration_error(codes, Predictions(probabilities)) == pytest.approx(expected)
    sure = np.eye(2)[random.integers(0, 2, 1000)]
    assert expected_calibration_error(np.zeros(1000, dtype=int), Predictions(sure)) == pytest.approx(sure[:, 1].mean())


@QUICK
@given(st.integers(0, 2**32 - 1), st.permutations(["a", "b", "c"]))
def test_the_order_of_the_classes_changes_nothing(seed: int, order: list[str]) -> None:
    truth, probabilities = example(seed, ("a", "b", "c"))
    columns = ["abc".index(label) for label in order]
    expected = metrics.scores(truth, probabilities, ("a", "b", "c"))
    assert metrics.scores(truth, probabilities[:, columns], order) == pytest.approx(expected)


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_each_class_has_its_own_numbers(seed: int, classes: tuple[Label, ...]) -> None:
    truth, probabilities = example(seed, classes)
    computed = metrics.per_class(truth, probabilities, classes)
    assert list(computed) == [str(label) for label in classes]
    for label in classes:
        hit, guessed, actual = counts(truth, chosen(probabilities, classes), label)
        expected = {"recall": hit / actual, "f1": 2 * hit / (guessed + actual), "rows": actual}
        if guessed:
            expected["precision"] = hit / guessed
        assert computed[str(label)] == pytest.approx(expected)


def test_what_is_not_defined_of_a_class_is_left_out() -> None:
    """Never 0.0: `never` is not predicted, `absent` has no row, `nowhere` neither."""
    truth = np.array(["a", "a", "never"], dtype=object)
    computed = metrics.per_class(truth, np.eye(4)[[0, 2, 0]], ("a", "never", "absent", "nowhere"))
    assert computed == {
        "a": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 2},
        "never": {"recall": 0.0, "f1": 0.0, "rows": 1},
        "absent": {"precision": 0.0, "f1": 0.0, "rows": 0},
        "nowhere": {"rows": 0},
    }


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_what_is_defined_of_a_class_is_what_scikit_learn_says(seed: int, rows: int) -> None:
    random, classes = np.random.default_rng(seed), ("a", "b", "c")
    truth, probabilities = random.choice(np.array(classes, dtype=object), rows), random.random((rows, 3))
    expected = sklearn.metrics.precision_recall_fscore_support(
        truth, chosen(probabilities, classes), labels=list(classes), zero_division=np.nan
    )
    computed = metrics.per_class(truth, probabilities, classes)
    assert list(computed) == list(classes)
    for position, label in enumerate(classes):
        theirs = dict(
            zip(("precision", "recall", "f1", "rows"), (float(values[position]) for values in expected), strict=True)
        )
        defined = {name: value for name, value in theirs.items() if not math.isnan(value)}
        assert computed[label] == pytest.approx(defined)


def test_a_perfect_model_has_the_best_of_everything() -> None:
    truth = np.array(["a", "b", "c", "a"], dtype=object)
    computed = metrics.scores(truth, np.eye(3)[[0, 1, 2, 0]], ("a", "b", "c"))
    assert [computed.pop(name) for name in ("log_loss", "brier")] == pytest.approx([0, 0], abs=1e-12)
    assert computed == dict.fromkeys(set(metrics_of("classification")) - {"log_loss", "brier"}, 1.0)


def test_a_sure_mistake_costs_much_and_not_infinitely_much() -> None:
    truth = np.array(["a", "b"], dtype=object)
    computed = metrics.scores(truth, np.array([[0.0, 1.0], [0.0, 1.0]]), ("a", "b"))
    assert computed["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_a_class_without_a_row_is_not_in_the_average(metric: str) -> None:
    truth, probabilities = example(2, ("a", "b"))
    wider = np.concatenate([0.8 * probabilities, np.full((len(truth), 1), 0.2)], axis=1)
    expected = metrics.scores(truth, probabilities, ("a", "b"))[metric]
    assert metrics.scores(truth, wider, ("a", "b", "c"))[metric] == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_what_needs_two_classes_is_left_out_when_there_is_one(metric: str) -> None:
    """nan or 0 would be compared by accident: scikit-learn's answer has changed between versions."""
    assert metric not in metrics.scores(np.array(["a", "a"], dtype=object), np.ones((2, 1)), ("a",))


def test_of_a_rare_class_of_two_average_precision_is_a_half_by_chance() -> None:
    truth = np.array(["rare"] * 2 + ["usual"] * 98, dtype=object)
    assert metrics.scores(truth, np.full((100, 2), 0.5), ("rare", "usual"))["average_precision"] == pytest.approx(0.5)
    assert "0.5 by chance" in metrics.METRICS["average_precision"].taken_over


def test_a_class_that_is_only_predicted_counts_to_scikit_learn_and_not_here() -> None:
    truth, probabilities = np.array(["a", "a", "b"], dtype=object), np.eye(3)[[0, 2, 1]]
    predicted = np.array(["a", "c", "b"], dtype=object)
    told = {name for name, metric in metrics.METRICS.items() if "also counts" in metric.taken_over}
    for measure in ("f1", "precision", "recall"):
        score = getattr(sklearn.metrics, f"{measure}_score")(truth, predicted, average="macro", zero_division=0)
        assert metrics.scores(truth, probabilities, ("a", "b", "c"))[f"{measure}_macro"] > score
        assert f"{measure}_macro" in told


def test_macro_averages_are_over_the_classes_that_there_are() -> None:
    truth, probabilities = np.array(["a", "b"], dtype=object), np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    assert metrics.scores(truth, probabilities, ("a", "b", "c"))["f1_macro"] == 1.0


def test_a_row_that_is_taken_for_a_class_without_rows_counts_against_its_own() -> None:
    truth, probabilities = np.array(["a", "a", "b"], dtype=object), np.eye(3)[[0, 2, 1]]
    computed = metrics.scores(truth, probabilities, ("a", "b", "c"))
    assert computed["recall_macro"] == pytest.approx((1 / 2 + 1) / 2)
    assert computed["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)


def test_never_trying_the_rare_class_does_not_raise_macro_precision() -> None:
    truth = np.array(["often"] * 98 + ["rare"] * 2, dtype=object)
    never, tries = np.eye(2)[[0] * 100], np.eye(2)[[0] * 97 + [1, 1, 1]]
    precision = [metrics.scores(truth, guess, ("often", "rare"))["precision_macro"] for guess in (never, tries)]
    assert precision == pytest.approx([0.98 / 2, (1 + 2 / 3) / 2])


class TestOfOneClass:
    @QUICK
    @given(seed=st.integers(0, 2**32 - 1), classes=st.sampled_from(KINDS))
    def test_its_scores_are_those_of_scikit_learn_of_the_class_against_the_rest(
        self, seed: int, classes: tuple[Label, ...]
    ) -> None:
        truth, probabilities = example(seed, classes)
        label = classes[seed % len(classes)]
        is_of_class = truth == label
        stated = probabilities[:, classes.index(label)]
        predicted = np.array([classes[code] == label for code in probabilities.argmax(axis=1)])
        theirs = {
            "precision": sklearn.metrics.precision_score(is_of_class, predicted, zero_division=0.0),
            "recall": sklearn.metrics.recall_score(is_of_class, predicted),
            "f1": sklearn.metrics.f1_score(is_of_class, predicted),
            "roc_auc": sklearn.metrics.roc_auc_score(is_of_class, stated),
            "average_precision": sklearn.metrics.average_precision_score(is_of_class, stated),
        }
        assert set(theirs) == set(metrics.OF_ONE_CLASS)
        for measure, score in theirs.items():
            name = f"{measure}.{label}"
            assert metrics.scores(truth, probabilities, classes, also=[name])[name] == pytest.approx(score, abs=1e-12)

    @QUICK
    @given(seed=st.integers(0, 2**32 - 1), measure=st.sampled_from(metrics.OF_ONE_CLASS))
    def test_a_row_that_is_drawn_twice_counts_twice(self, seed: int, measure: str) -> None:
        truth, probabilities = example(seed, ("a", "b", "c"))
        times = np.random.default_rng(seed).integers(0, 3, (4, len(truth)))
        codes, metric = metrics.codes_of(truth, ("a", "b", "c")), metrics.METRICS[f"{measure}.b"]
        drawn = metric.score(codes, Predictions(probabilities, ("a", "b", "c")), times.astype(np.float64))
        for score, repeats in zip(drawn.tolist(), times, strict=True):
            rows = np.repeat(np.arange(len(truth)), repeats)
            alone = metric.of(codes[rows], Predictions(probabilities[rows], ("a", "b", "c")))
            assert score == pytest.approx(alone, abs=1e-12, nan_ok=True)

    @pytest.mark.parametrize("measure", metrics.OF_ONE_CLASS)
    def test_it_is_not_defined_without_a_row_of_the_class(self, measure: str) -> None:
        probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
        for label in ("b", "c"):
            name = f"{measure}.{label}"
            assert name not in metrics.scores(np.array(["a", "a"]), probabilities, ("a", "b"), also=[name])

    @pytest.mark.parametrize("measure", ["roc_auc", "average_precision"])
    def test_an_area_is_not_defined_where_all_rows_are_of_the_class(self, measure: str) -> None:
        scores = metrics.scores(np.array(["a", "a"]), np.array([[0.9, 0.1]] * 2), ("a", "b"), also=[f"{measure}.a"])
        assert f"{measure}.a" not in scores

    def test_a_model_that_never_predicts_the_class_has_a_precision_of_0(self) -> None:
        probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
        assert metrics.scores(np.array(["a", "b"]), probabilities, ("a", "b"), also=["precision.b"])["precision.b"] == 0

    @pytest.mark.parametrize("name", ["recall", "recall.", "f2.a", "accuracy.a", "f1_macro.a", ".a"])
    def test_other_names_are_no_metrics(self, name: str) -> None:
        assert name not in metrics.METRICS
        with pytest.raises(KeyError, match=re.escape(repr(name))):
            metrics.METRICS[name]

    def test_what_needs_rows_of_the_class_says_so(self) -> None:
        assert metrics.METRICS["recall.>50K, or so"].needs == "rows of class >50K, or so"
        assert metrics.METRICS["roc_auc.1.5"].needs == "rows of class 1.5 and of another"

    @QUICK
    @given(st.sampled_from(metrics.OF_ONE_CLASS), st.text(min_size=1, max_size=300))
    def test_its_name_is_one_that_mlflow_takes(self, measure: str, label: str) -> None:
        for role in ("champion_", "all_rows_", "estimated_"):
            assert re.fullmatch(r"[\w.\- :]{1,250}", f"{role}{metrics.logged_name(f'{measure}.{label}')}_high")
        assert metrics.logged_name("pinball_loss_0.95") == "pinball_loss_0.95"


class TestPermutationPValue:
    @pytest.mark.parametrize("metric", metrics_of("classification"))
    def test_what_knows_the_labels_is_hardly_ever_reached_by_chance(self, metric: str) -> None:
        truth, probabilities = example(1, ("a", "b", "c"))
        assert permutation_p_value(metric, truth, probabilities, ("a", "b", "c")) == 0.01

    @pytest.mark.parametrize("metric", metrics_of("classification"))
    def test_what_answers_the_same_to_every_row_is_always_reached(self, metric: str) -> None:
        truth, _ = example(1, ("a", "b", "c"))
        constant = np.tile([0.5, 0.3, 0.2], (len(truth), 1))
        assert permutation_p_value(metric, truth, constant, ("a", "b", "c")) == 1.0

    @pytest.mark.parametrize("metric", metrics_of("classification"))
    def test_of_coins_that_are_flipped_one_in_twenty_looks_as_if_it_knew(self, metric: str) -> None:
        """At the level that the gate takes, by any metric: a test of that level is wrong so often, and no oftener."""
        random, classes = np.random.default_rng(5), ("heads", "tails")
        lucky = 0
        for _ in range(200):
            truth = random.choice(np.array(classes, dtype=object), 40)
            heads = random.random(40)
            lucky += permutation_p_value(metric, truth, np.stack([heads, 1 - heads], axis=1), classes) <= 0.05
        assert lucky <= 20  # 10 are expected; 21 or more come up once in a thousand times

    def test_a_metric_that_is_not_defined_proves_nothing(self) -> None:
        assert permutation_p_value("roc_auc", np.array(["a", "a"], dtype=object), np.eye(2), ("a", "b")) == 1.0

    def test_a_perfect_score_on_too_few_rows_may_be_chance(self) -> None:
        """Three rows of two classes in any order: one in three is right."""
        truth = np.array(["a", "b", "b"], dtype=object)
        assert permutation_p_value("accuracy", truth, np.eye(2)[[0, 1, 1]], ("a", "b")) == pytest.approx(
            1 / 3, abs=0.15
        )

    @pytest.mark.parametrize("metric", metrics_of("classification"))
    def test_it_is_the_same_each_time(self, metric: str) -> None:
        truth, _ = example(1, ("a", "b"))
        guess = np.random.default_rng(2).random((len(truth), 2))
        assert len({permutation_p_value(metric, truth, guess, ("a", "b")) for _ in range(3)}) == 1


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 5))
def test_no_score_is_ever_nan_or_infinite(seed: int, rows: int, kinds: int) -> None:
    random = np.random.default_rng(seed)
    classes = tuple("abcde"[:kinds])
    probabilities = random.integers(0, 2, (rows, kinds)).astype(float)  # zeros and ones: not even a distribution
    truth = random.choice(np.array(classes, dtype=object), rows)
    assert all(math.isfinite(value) for value in metrics.scores(truth, probabilities, classes).values())


def test_the_baseline_knows_the_shares_of_the_classes_in_training() -> None:
    shares = metrics.baseline(np.array(["b", "a", "b", "b"], dtype=object), ("a", "b", "c"), rows=3)
    assert shares.tolist() == [[0.25, 0.75, 0.0]] * 3


@pytest.mark.parametrize("classes", KINDS)
def test_the_baseline_is_the_one_of_scikit_learn(classes: tuple[Label, ...]) -> None:
    train, _ = example(1, classes)
    reference = DummyClassifier(strategy="prior").fit(np.zeros((len(train), 1)), train)
    expected = dict(zip(reference.classes_.tolist(), reference.predict_proba(np.zeros((1, 1)))[0], strict=True))
    baseline = metrics.baseline(train, classes, rows=2)
    np.testing.assert_allclose(baseline, [[expected[label] for label in classes]] * 2)


@pytest.mark.parametrize("classes", KINDS)
def test_the_baselines_scores_are_those_of_always_answering_the_most_frequent_class(classes: tuple[Label, ...]) -> None:
    train, _ = example(1, classes)
    test, _ = example(2, classes)
    computed = metrics.scores(test, metrics.baseline(train, classes, rows=len(test)), classes)
    most = max(classes, key=train.tolist().count)
    assert computed["accuracy"] == pytest.approx(test.tolist().count(most) / len(test))
    assert computed["roc_auc"] == 0.5


@QUICK
@given(st.lists(st.text(max_size=300) | st.text("a_.+*<>=/%' ", max_size=3), unique=True, max_size=8))
def test_every_label_has_a_name_of_its_own_that_mlflow_takes(labels: list[str]) -> None:
    names = [f"precision.{metrics.logged_label(label)}" for label in labels]
    assert len(set(names)) == len(labels)
    for name in names:
        assert re.fullmatch(r"[\w.\- :]{1,250}", name)


def test_a_label_that_mlflow_takes_is_its_own_name() -> None:
    assert [metrics.logged_label(label) for label in ("Iris setosa", "7", "1.5", "größe")] == [
        "Iris setosa",
        "7",
        "1.5",
        "größe",
    ]
    assert re.fullmatch(r"_30\.[0-9a-f]{8}", metrics.logged_label("<30"))
    assert metrics.logged_label("<30") != metrics.logged_label(">30")
