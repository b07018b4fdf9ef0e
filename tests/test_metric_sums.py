"""Sums of shares of the rows give the metrics that scikit-learn gives of all rows at once."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from small import QUICK

from steps.core import metrics
from steps.core.classification_metrics import CLASS_MEASURES, Predictions
from steps.core.metric_sums import ClassificationSums, RegressionSums
from steps.core.metrics import METRICS

shares = st.lists(st.integers(0, 100), max_size=5).map(sorted)  # where the rows are cut
seeds = st.integers(0, 2**32 - 1)


def cut(values: np.ndarray, places: list[int]) -> list[np.ndarray]:
    return [share for share in np.split(values, [place for place in places if place < len(values)]) if len(share)]


class TestClassificationSums:
    @QUICK
    @given(seed=seeds, places=shares, rows=st.integers(1, 100), classes=st.integers(2, 5))
    def test_of_shares_are_the_metrics_of_all_rows(self, seed: int, places: list[int], rows: int, classes: int) -> None:
        random = np.random.default_rng(seed)
        codes, probabilities = random.integers(0, classes, rows), random.dirichlet(np.ones(classes), rows)
        parts = zip(cut(codes, places), cut(probabilities, places), strict=True)
        scores = reduce(add, [ClassificationSums.of(*part) for part in parts]).scores()
        predicted, present = probabilities.argmax(axis=1), np.unique(codes)
        macro = {"labels": present, "average": "macro", "zero_division": 0.0}
        assert scores == pytest.approx(
            {
                "accuracy": reference.accuracy_score(codes, predicted),
                "brier": np.square(probabilities - np.eye(classes)[codes]).sum(axis=1).mean(),
                "balanced_accuracy": reference.recall_score(codes, predicted, **macro),
                "log_loss": reference.log_loss(codes, probabilities, labels=range(classes)),
                "precision_macro": reference.precision_score(codes, predicted, **macro),
                "recall_macro": reference.recall_score(codes, predicted, **macro),
                "f1_macro": reference.f1_score(codes, predicted, **macro),
            },
            rel=1e-9,
        )

    @QUICK
    @given(seed=seeds, places=shares, rows=st.integers(1, 60), classes=st.integers(2, 5))
    def test_of_each_class_they_are_the_metrics_of_all_rows(
        self, seed: int, places: list[int], rows: int, classes: int
    ) -> None:
        random, labels = np.random.default_rng(seed), [f"class {code}" for code in range(classes)]
        codes, probabilities = random.integers(0, classes, rows), random.dirichlet(np.ones(classes), rows)
        parts = zip(cut(codes, places), cut(probabilities, places), strict=True)
        scores = reduce(add, [ClassificationSums.of(*part) for part in parts]).scores_by_class(labels)
        predictions, names = Predictions(probabilities, labels), [f"{m}.{x}" for m in CLASS_MEASURES for x in labels]
        of_rows = {name: METRICS[name].of(codes, predictions) for name in names}
        assert scores == pytest.approx({name: score for name, score in of_rows.items() if not np.isnan(score)})

    def test_of_no_row_nothing_is_defined(self) -> None:
        assert ClassificationSums(confusion=np.zeros((2, 2))).scores() == {}
        assert ClassificationSums(confusion=np.zeros((2, 2))).scores_by_class(["a", "b"]) == {}


class TestRegressionSums:
    @QUICK
    @given(seed=seeds, places=shares, rows=st.integers(2, 100), offset=st.sampled_from([0.0, 1.0, 1e6]))
    def test_of_shares_are_the_metrics_of_all_rows(
        self, seed: int, places: list[int], rows: int, offset: float
    ) -> None:
        random = np.random.default_rng(seed)
        truth = offset + random.normal(0, 1, rows)
        predicted = truth + random.normal(0, 0.5, rows)
        parts = zip(cut(truth, places), cut(predicted, places), strict=True)
        scores = reduce(add, [RegressionSums.of(*part) for part in parts]).scores()
        assert scores == pytest.approx(
            {
                "rmse": reference.root_mean_squared_error(truth, predicted),
                "mae": reference.mean_absolute_error(truth, predicted),
                "r2": reference.r2_score(truth, predicted),
                "mape": reference.mean_absolute_percentage_error(truth, predicted),
            },
            rel=1e-7,
        )

    @pytest.mark.parametrize(("truth", "missing"), [([0.0, 5.0], {"mape"}), ([3.0, 3.0], {"r2"})])
    def test_what_is_not_defined_is_left_out_as_of_all_rows(self, truth: list[float], missing: set[str]) -> None:
        rows = np.array(truth), np.array([1.0, 2.0])
        scores, whole = RegressionSums.of(*rows).scores(), metrics.regression_scores(*rows)
        assert {"rmse", "mae", "r2", "mape"} - set(scores) == missing
        assert scores == pytest.approx({name: whole[name] for name in scores})
