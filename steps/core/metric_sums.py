"""Metrics as sums over rows: those of each share of a table are added, and give what all rows at once would.

So Spark's workers compute the metrics of a test part that fits in no memory, exactly. Not among them are roc_auc,
average_precision and median_absolute_error, which take all rows in one order: they are of a sample then.
"""

from __future__ import annotations  # names of this project in them are nothing to a cluster's workers

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steps.core import classification_metrics as classes_of
from steps.core.regression_metrics import NEARLY_ZERO


@dataclass(frozen=True, kw_only=True)
class ClassificationSums:
    """`confusion` has the rows of each class (first axis) that are predicted as each class (second axis); `log_loss`
    the sum of -ln p(true class), in nats, `brier` that of squared differences between probabilities and truth."""

    confusion: np.ndarray
    log_loss: float = 0.0
    brier: float = 0.0

    @classmethod
    def of(cls, codes: np.ndarray, probabilities: np.ndarray) -> ClassificationSums:
        """Of true classes as positions, (n,), and probabilities (n, classes)."""
        return cls(
            confusion=classes_of.confusion(codes, classes_of.Predictions(probabilities)),
            log_loss=float(classes_of.log_losses(codes, probabilities).sum()),
            brier=float(classes_of.squared_distances(codes, probabilities).sum()),
        )

    def __add__(self, other: ClassificationSums) -> ClassificationSums:
        return ClassificationSums(
            confusion=self.confusion + other.confusion,
            log_loss=self.log_loss + other.log_loss,
            brier=self.brier + other.brier,
        )

    def scores(self) -> dict[str, float]:
        """accuracy, log_loss, brier, and the macro averages over the classes that have rows; {} of no row."""
        rows = self.confusion.sum()
        if not rows:
            return {}
        actual, of_classes = self._of_classes()
        averages = {f"{name}_macro": np.nan_to_num(values)[actual > 0].mean() for name, values in of_classes.items()}
        averages["balanced_accuracy"] = averages["recall_macro"]
        of_rows = {"accuracy": self.confusion.trace(), "log_loss": self.log_loss, "brier": self.brier}
        scores = {**{name: value / rows for name, value in of_rows.items()}, **averages}
        return {name: float(value) for name, value in scores.items()}

    def scores_by_class(self, labels: Sequence[str]) -> dict[str, float]:
        """precision.<class>, recall.<class> and f1.<class> of each class that has rows, by the names of the classes in
        their order (classification_metrics.of_class)."""
        actual, of_classes = self._of_classes()
        return {
            f"{name}.{label}": float(np.nan_to_num(values[code]))
            for name, values in of_classes.items()
            for code, label in enumerate(labels)
            if actual[code]
        }

    def _of_classes(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The rows of each class, (classes,), and classification_metrics.measures()."""
        actual = self.confusion.sum(axis=1)
        return actual, classes_of.measures(self.confusion.diagonal(), actual, self.confusion.sum(axis=0))


@dataclass(frozen=True, kw_only=True)
class RegressionSums:
    """Of `rows`: the sums of squared, absolute and relative errors; the targets' `mean` and their squared distances
    from it, which are added without a difference of large numbers (Chan, Golub and LeVeque, 1979); and the least and
    largest size of a target."""

    rows: int
    squared: float
    absolute: float
    relative: float
    mean: float
    spread: float
    least: float
    largest: float

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray) -> RegressionSums:
        """Of true and predicted values, both (n,); at least one."""
        errors, sizes = np.abs(truth - predicted), np.abs(truth)
        with np.errstate(divide="ignore", invalid="ignore"):  # a target of 0 leaves mape undefined
            relative = float((errors / sizes).sum())
        return cls(
            rows=len(truth),
            squared=float(np.square(errors).sum()),
            absolute=float(errors.sum()),
            relative=relative,
            mean=float(truth.mean()),
            spread=float(np.square(truth - truth.mean()).sum()),
            least=float(sizes.min()),
            largest=float(sizes.max()),
        )

    def __add__(self, other: RegressionSums) -> RegressionSums:
        rows, apart = self.rows + other.rows, other.mean - self.mean
        return RegressionSums(
            rows=rows,
            squared=self.squared + other.squared,
            absolute=self.absolute + other.absolute,
            relative=self.relative + other.relative,
            mean=self.mean + apart * other.rows / rows,
            spread=self.spread + other.spread + apart**2 * self.rows * other.rows / rows,
            least=min(self.least, other.least),
            largest=max(self.largest, other.largest),
        )

    def scores(self) -> dict[str, float]:
        """rmse and mae; r2 and mape where they are defined."""
        scores = {"rmse": float(np.sqrt(self.squared / self.rows)), "mae": self.absolute / self.rows}
        if self.spread:
            scores["r2"] = 1 - self.squared / self.spread
        if self.least > NEARLY_ZERO * self.largest:
            scores["mape"] = self.relative / self.rows
        return scores


type Sums = ClassificationSums | RegressionSums
