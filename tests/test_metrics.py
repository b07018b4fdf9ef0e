"""Metrics against their formulas, written out with loops, and against scikit-learn's own where it has one."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from small import QUICK

from steps.core import metrics

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


def auc(positive: list[float], negative: list[float]) -> float:
    """The share of pairs in which the positive row has the higher value; a tie is half."""
    return sum((p > n) + 0.5 * (p == n) for p in positive for n in negative) / (len(positive) * len(negative))


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_scores_are_what_their_formulas_say(seed: int, classes: tuple[Label, ...]) -> None:
    truth, probabilities = example(seed, classes)
    predicted = chosen(probabilities, classes)
    by_class = [counts(truth, predicted, label) for label in classes]
    precision = [hit / found if found else 0.0 for hit, found, _ in by_class]
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
    }
    expected = {name: sum(values) / len(values) for name, values in mean.items()}
    expected["accuracy"] = sum(hit for hit, _, _ in by_class) / len(truth)
    assert metrics.scores(truth, probabilities, classes) == pytest.approx(expected)


@QUICK
@given(st.integers(0, 2**32 - 1), st.sampled_from([("a", "b", "c"), (3, 7, 10)]))
def test_scores_are_those_of_scikit_learn(seed: int, classes: tuple[Label, ...]) -> None:
    truth, probabilities = example(seed, classes)
    found = metrics.scores(truth, probabilities, classes)
    assert found["log_loss"] == pytest.approx(sklearn.metrics.log_loss(truth, probabilities, labels=list(classes)))
    area = sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", labels=list(classes))
    assert found["roc_auc"] == pytest.approx(area)


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
    found = metrics.per_class(truth, probabilities, classes)
    assert list(found) == [str(label) for label in classes]
    for label in classes:
        hit, guessed, actual = counts(truth, chosen(probabilities, classes), label)
        precision, recall = hit / guessed if guessed else 0.0, hit / actual
        f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
        expected = {"precision": precision, "recall": recall, "f1": f1, "rows": actual}
        assert found[str(label)] == pytest.approx(expected)


def test_a_perfect_model_has_the_best_of_everything() -> None:
    truth = np.array(["a", "b", "c", "a"], dtype=object)
    found = metrics.scores(truth, np.eye(3)[[0, 1, 2, 0]], ("a", "b", "c"))
    assert found.pop("log_loss") == pytest.approx(0, abs=1e-12)
    assert found == dict.fromkeys(["accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc"], 1.0)


def test_a_sure_mistake_costs_much_and_not_infinitely_much() -> None:
    truth = np.array(["a", "b"], dtype=object)
    found = metrics.scores(truth, np.array([[0.0, 1.0], [0.0, 1.0]]), ("a", "b"))
    assert found["log_loss"] == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_auc_is_left_out_when_a_class_has_no_row() -> None:
    """nan or 0 would be compared by accident: scikit-learn's answer has changed between versions (E01)."""
    truth, probabilities = np.array(["a", "b", "a"], dtype=object), np.full((3, 3), 1 / 3)
    assert "roc_auc" not in metrics.scores(truth, probabilities, ("a", "b", "c"))


def test_macro_averages_are_over_the_classes_that_there_are() -> None:
    truth, probabilities = np.array(["a", "b"], dtype=object), np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    assert metrics.scores(truth, probabilities, ("a", "b", "c"))["f1_macro"] == 1.0


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
def test_the_baselines_scores_are_those_of_always_answering_the_most_frequent_class(classes: tuple[Label, ...]) -> None:
    train, _ = example(1, classes)
    test, _ = example(2, classes)
    found = metrics.scores(test, metrics.baseline(train, classes, rows=len(test)), classes)
    most = max(classes, key=train.tolist().count)
    assert found["accuracy"] == pytest.approx(test.tolist().count(most) / len(test))
    assert found["roc_auc"] == 0.5


@QUICK
@given(st.lists(st.text(max_size=300) | st.text("a_.+*<>=/%' ", max_size=3), unique=True, max_size=8))
def test_every_label_has_a_name_of_its_own_that_mlflow_takes(labels: list[str]) -> None:
    names = [f"precision.{name}" for name in metrics.names_of(labels).values()]
    assert len(set(names)) == len(labels)
    for name in names:
        assert re.fullmatch(r"[\w.\- :]{1,250}", name)


def test_a_label_that_mlflow_takes_is_its_own_name() -> None:
    assert metrics.names_of(["Iris setosa", "7", "<=50K", "a+", "a*"]) == {
        "Iris setosa": "Iris setosa",
        "7": "7",
        "<=50K": "__50K",
        "a+": "a_",
        "a*": "a_.4",
    }
