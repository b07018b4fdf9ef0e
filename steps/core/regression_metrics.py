"""How far predicted numbers are from the true ones. metrics.METRICS names them; here are their formulas.

Each takes the true and the predicted values, (n,) float64, and `weights` (samples, n): how often each row is in each
sample. It gives the score of each sample, (samples,), nan where it is not defined.
"""

import numpy as np

NEARLY_ZERO = 1e-9  # of the largest target: a smaller one makes any relative error meaningless
NEARLY_EQUAL = 1e-12  # of the mean square of the targets: with a smaller variance they are equal


def rmse(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Root of the mean squared error, in the target's unit."""
    return np.sqrt(average(np.square(truth - predicted), weights))


def mae(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error, in the target's unit."""
    return average(np.abs(truth - predicted), weights)


def median_absolute_error(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """In the target's unit. Of an even number of rows the mean of the middle two."""
    errors = np.abs(truth - predicted)
    order = np.argsort(errors)
    rows_up_to = np.cumsum(weights[:, order], axis=1)
    rows = rows_up_to[:, -1:]
    middle = [(rows_up_to > position).argmax(axis=1) for position in ((rows - 1) // 2, rows // 2)]
    median: np.ndarray = (errors[order][middle[0]] + errors[order][middle[1]]) / 2
    return median


def r2(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of the target's variance that is explained; nan when all targets are equal."""
    centered = truth - np.median(truth)  # exactly 0 where all are equal
    size = average(np.square(centered), weights)
    variance = size - np.square(average(centered, weights))
    explained: np.ndarray = 1 - average(np.square(truth - predicted), weights) / variance
    return np.where(variance > NEARLY_EQUAL * size, explained, np.nan)


def pinball_loss(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray, *, quantile: float) -> np.ndarray:
    """Mean of `quantile` times what a prediction is too low by, and of 1 - `quantile` times what it is too high by, in
    the target's unit: least for the quantile itself (scikit-learn's mean_pinball_loss)."""
    errors = truth - predicted
    return average(np.maximum(quantile * errors, (quantile - 1) * errors), weights)


def mape(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error as a share of the true value; nan when one of them is 0 or nearly so."""
    sizes = np.abs(truth)
    if not (sizes > NEARLY_ZERO * sizes.max()).all():
        return np.full(len(weights), np.nan)
    return average(np.abs(truth - predicted) / sizes, weights)


def average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of `values`, (n,), in each sample, (samples,)."""
    means: np.ndarray = weights @ values / weights.sum(axis=1)
    return means


def mean(targets: np.ndarray) -> float:
    """The constant with the least squared error."""
    return float(np.mean(targets)) if len(targets) else float("nan")


def median(targets: np.ndarray) -> float:
    """The constant with the least absolute error."""
    return float(np.median(targets)) if len(targets) else float("nan")


def quantile_of(targets: np.ndarray, *, quantile: float) -> float:
    """The constant with the least pinball loss."""
    return float(np.quantile(targets, quantile)) if len(targets) else float("nan")
