"""Intervals of scores by the bootstrap, beside scipy's, and their cost."""

import time

import numpy as np
import pytest
import scipy.stats

from steps.core import metrics, significance
from steps.core.classification_metrics import Predictions
from steps.core.metrics import METRICS, metrics_of


def classified(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True codes of three classes and the probabilities of a good and of a worse model."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 3, rows)
    good, worse = (random.random((rows, 3)) + know * np.eye(3)[codes] for know in (0.8, 0.3))
    return codes, good / good.sum(axis=1, keepdims=True), worse / worse.sum(axis=1, keepdims=True)


def scored(metric: str, codes: np.ndarray, probabilities: np.ndarray) -> float:
    return METRICS[metric].of(codes, Predictions(probabilities))


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_the_interval_of_a_score_is_the_one_of_scipy(metric: str) -> None:
    codes, good, _ = classified(200)
    theirs = scipy.stats.bootstrap(
        (np.arange(len(codes)),),
        lambda rows: scored(metric, codes[rows], good[rows]),
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    ours = significance.interval(significance.resampled_scores(metric, codes, [Predictions(good)])[0])
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.15 * width)


@pytest.mark.parametrize("metric", metrics_of("regression"))
def test_the_interval_of_a_difference_is_the_paired_one_of_scipy(metric: str) -> None:
    random = np.random.default_rng(2)
    truth = random.normal(50, 5, 150)
    good, worse = truth + random.normal(0, 2, 150), truth + random.normal(0, 3, 150)
    sign = 1 if METRICS[metric].greater_is_better else -1

    def gain(rows: np.ndarray) -> float:
        return sign * (METRICS[metric].of(truth[rows], good[rows]) - METRICS[metric].of(truth[rows], worse[rows]))

    theirs = scipy.stats.bootstrap(
        (np.arange(150),),
        gain,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    ours = significance.gain_interval(metric, *significance.resampled_scores(metric, truth, [good, worse]))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.15 * (theirs.high - theirs.low))
    assert ours is not None
    assert ours[0] < gain(np.arange(150)) < ours[1]


@pytest.mark.parametrize("metric", metrics_of("classification"))
def test_each_resample_is_scored_as_the_rows_that_are_in_it(metric: str) -> None:
    """Repeated as often as they were drawn: so says the metric of the rows themselves."""
    codes, good, _ = classified(40)
    rows = np.random.default_rng(3).integers(0, 40, 40)
    weights = np.bincount(rows, minlength=40)[None].astype(float)
    weighted = METRICS[metric].score(codes, Predictions(good), weights)[0]
    assert weighted == pytest.approx(scored(metric, codes[rows], good[rows]))


def test_a_model_is_ahead_of_itself_by_nothing_in_every_resample() -> None:
    codes, good, _ = classified(30)
    scores = significance.resampled_scores("f1_macro", codes, [Predictions(good), Predictions(good)])
    assert significance.gain_interval("f1_macro", *scores) == (0.0, 0.0)


def test_the_same_rows_have_the_same_interval() -> None:
    codes, good, _ = classified(30)
    one, other = (significance.resampled_scores("log_loss", codes, [Predictions(good)])[0] for _ in range(2))
    assert (one == other).all()


def test_95_of_100_intervals_hold_the_score_of_all_rows_there_could_be() -> None:
    codes, good, _ = classified(20_000)
    truth, covered = scored("log_loss", codes, good), 0
    for rows in np.random.default_rng(4).integers(0, 20_000, (200, 100)):
        scores = significance.resampled_scores("log_loss", codes[rows], [Predictions(good[rows])])[0]
        low, high = significance.interval(scores) or (2.0, 2.0)
        covered += low <= truth <= high
    assert 180 <= covered <= 198  # 190 are expected; the percentile method is a little narrow


def test_a_metric_that_hardly_any_resample_defines_has_no_interval() -> None:
    codes = np.array([0] * 30 + [1])
    predictions = Predictions(np.eye(2)[codes])
    assert significance.interval(significance.resampled_scores("roc_auc", codes, [predictions])[0]) == (1.0, 1.0)
    only = np.zeros(31, dtype=int)
    assert significance.interval(significance.resampled_scores("roc_auc", only, [predictions])[0]) is None


@pytest.mark.parametrize(("rows", "count"), [(30, 1000), (20_000, 1000), (50_000, 400), (10_000_000, 200)])
def test_many_rows_are_resampled_less_often(rows: int, count: int) -> None:
    assert significance.resample_count(rows) == count


@pytest.mark.parametrize("metric", ["f1_macro", "log_loss", "roc_auc"])
def test_the_resamples_of_a_small_table_take_no_time_to_speak_of(metric: str) -> None:
    codes, good, worse = classified(30)
    begun = time.process_time()
    significance.resampled_scores(metric, codes, [Predictions(good), Predictions(worse)])
    assert time.process_time() - begun < 0.5


def test_unequal_targets_have_an_r2_also_where_they_are_large() -> None:
    truth = np.array([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3])
    expected = 1 - ((truth - (truth + 0.5)) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert metrics.regression_scores(truth, truth + 0.5)["r2"] == pytest.approx(expected)


def grouped_noise(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and predictions that have nothing to do with each other, each much the same in all rows of a group, and
    the group of each row."""
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(20), random.integers(1, 40, 20)))
    truth, predicted = (random.normal(size=20)[groups] + random.normal(0, 0.2, len(groups)) for _ in range(2))
    return truth, predicted, groups


def test_groups_of_noise_are_chance_as_often_as_a_p_value_says() -> None:
    """The share of p-values up to 0.05 is 0.05, as far as 200 tables show; of rows taken one by one it is far above."""
    by_group, by_row = (
        [
            significance.p_value("rmse", truth, predicted, groups=groups if is_grouped else None) <= 0.05
            for truth, predicted, groups in map(grouped_noise, range(200))
        ]
        for is_grouped in (True, False)
    )
    assert scipy.stats.binomtest(sum(by_group), 200, 0.05).pvalue > 0.01
    assert sum(by_row) > 50


def test_what_is_learnt_of_groups_is_no_chance() -> None:
    truth, _, groups = grouped_noise(1)
    learnt = truth + np.random.default_rng(2).normal(0, 0.5, len(truth))
    assert significance.p_value("rmse", truth, learnt, groups=groups) == 0.01


def test_a_shuffle_gives_each_group_labels_of_one_other() -> None:
    """So that rows stay as alike within groups as they are."""
    groups = np.repeat(np.arange(12), np.arange(1, 13))
    shuffles = significance._shuffles(groups.copy(), groups)
    for _ in range(20):
        shuffled = next(shuffles)
        assert all(len(set(shuffled[groups == group])) == 1 for group in range(12))
        assert sorted({shuffled[groups == group][0] for group in range(12)}) == list(range(12))
