"""How good predictions are. METRICS is the one place that says which metrics there are, and which way is better.

A number that is not defined is left out: it is never nan, infinite or a stand-in. Beside the config, which takes the
names in METRICS for `gate.metric`.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from steps.core import classification_metrics as classes_of
from steps.core import regression_metrics as numbers
from steps.core.classification_metrics import AREAS, Predictions, class_in
from steps.core.classification_metrics import CLASS_MEASURES as CLASS_MEASURES

LABEL_CHARACTERS = 180  # of a metric's name, which MLflow lets have 250
SAME = 1e-9  # scores that differ by less are equal: that is how far the order of additions can move one

type Task = Literal["classification", "regression"]
type Labels = Sequence[str | int | bool]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """`score` takes the true classes as codes, (n,) positions among the classes, and the Predictions; of a regression
    the true and the predicted values, both (n,); and weights, (samples, n), how often each row is in each sample. It
    returns (samples,), nan where the metric is not defined; `needs` says which rows it takes to be, and `taken_over`
    whether it is of all rows or a mean of which classes. No score is below `lowest` or above `highest`. `constant`
    makes of a regression's training targets what the baseline predicts: the number that is best by this kind of
    error."""

    score: Callable[[np.ndarray, Any, np.ndarray], np.ndarray]
    greater_is_better: bool
    lowest: float = 0
    highest: float = math.inf
    needs: str = ""
    taken_over: str = "the rows"
    task: Task = "classification"
    constant: Callable[[np.ndarray], float] = numbers.mean

    def of(self, truth: np.ndarray, predictions: Any) -> float:
        """The score of the rows as they are."""
        return float(self.score(truth, predictions, np.ones((1, len(truth))))[0])


OF_THE_TEST_PART = "the classes that the test part has"
UNLIKE_SCIKIT_LEARN = f"{OF_THE_TEST_PART}; scikit-learn also counts one that is only predicted"
AGAINST_THE_REST = f"{OF_THE_TEST_PART}, each against the rest"
OF_ALL_CLASSES = (
    "the rows, each with the squared differences of all classes' probabilities, from 0 to 2 (Brier 1950); of two "
    "classes twice what scikit-learn gives by default"
)
PINBALL_LOSS = "pinball_loss_"  # and the quantile, as in pinball_loss_0.9
OF_ONE_CLASS = (*CLASS_MEASURES, *AREAS)  # and the class, as in recall.fraud


class _Metrics(dict[str, Metric]):
    """The metrics by their names, and those of one class or quantile, which are made when they are asked for."""

    def __missing__(self, name: str) -> Metric:
        if (quantile := _quantile_in(name)) is not None:
            return Metric(
                score=partial(numbers.pinball_loss, quantile=quantile),
                greater_is_better=False,
                task="regression",
                constant=partial(numbers.quantile_of, quantile=quantile),
            )
        if of_class := class_in(name):
            measure, label = of_class
            return Metric(
                score=partial(classes_of.of_class, measure=measure, label=label),
                greater_is_better=True,
                highest=1,
                needs=f"rows of class {label}{' and of another' if measure in AREAS else ''}",
            )
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or _quantile_in(str(name)) is not None or class_in(str(name)) is not None


def _quantile_in(name: str) -> float | None:
    """The quantile that a metric's name ends in, between 0 and 1."""
    found = re.fullmatch(rf"{PINBALL_LOSS}(0\.\d*[1-9]\d*)", name)
    return float(found[1]) if found else None


def pinball_loss_of(quantile: float) -> str:
    """The name of the metric that is best for this quantile, which is between 0 and 1."""
    return f"{PINBALL_LOSS}{quantile:.15f}".rstrip("0")


METRICS = _Metrics(
    {
        "accuracy": Metric(score=classes_of.accuracy, greater_is_better=True, highest=1),
        "balanced_accuracy": Metric(  # recall_macro's other name
            score=classes_of.recall_macro, greater_is_better=True, highest=1, taken_over=OF_THE_TEST_PART
        ),
        "f1_macro": Metric(
            score=classes_of.f1_macro, greater_is_better=True, highest=1, taken_over=UNLIKE_SCIKIT_LEARN
        ),
        "precision_macro": Metric(
            score=classes_of.precision_macro, greater_is_better=True, highest=1, taken_over=UNLIKE_SCIKIT_LEARN
        ),
        "recall_macro": Metric(
            score=classes_of.recall_macro, greater_is_better=True, highest=1, taken_over=UNLIKE_SCIKIT_LEARN
        ),
        "log_loss": Metric(score=classes_of.log_loss, greater_is_better=False),
        "brier": Metric(score=classes_of.brier, greater_is_better=False, highest=2, taken_over=OF_ALL_CLASSES),
        "roc_auc": Metric(
            score=classes_of.roc_auc,
            greater_is_better=True,
            highest=1,
            needs="rows of two classes",
            taken_over=AGAINST_THE_REST,
        ),
        "average_precision": Metric(
            score=classes_of.average_precision,
            greater_is_better=True,
            highest=1,
            needs="rows of two classes",
            taken_over=f"{AGAINST_THE_REST}: of two classes it is the mean of both, 0.5 by chance however rare one "
            "is, so that a rare class is better judged alone: `average_precision.<class>`",
        ),
        "r2": Metric(
            score=numbers.r2,
            greater_is_better=True,
            lowest=-math.inf,
            highest=1,
            needs="targets of more than one value",
            task="regression",
        ),
        "rmse": Metric(score=numbers.rmse, greater_is_better=False, task="regression"),
        "mae": Metric(score=numbers.mae, greater_is_better=False, task="regression", constant=numbers.median),
        "median_absolute_error": Metric(
            score=numbers.median_absolute_error, greater_is_better=False, task="regression", constant=numbers.median
        ),
        "mape": Metric(
            score=numbers.mape,
            greater_is_better=False,
            needs="targets none of which is 0",
            task="regression",
            constant=numbers.median,
        ),
    }
)
DEFAULT_METRICS: dict[Task, str] = {
    "classification": "f1_macro",
    "regression": "r2",  # it has no unit, so the gate's margins mean the same on every table
}


def metrics_of(task: Task, *, also: Iterable[str] = ()) -> list[str]:
    """The metrics that fit a task, and those that are `also` asked for."""
    return list(dict.fromkeys([*(name for name, metric in METRICS.items() if metric.task == task), *also]))


def metrics_in_words(task: Task | None = None) -> str:
    """The metrics that fit a task, or all, for a message."""
    of_classes = [] if task == "regression" else [f"one of a class such as recall.<class> ({', '.join(OF_ONE_CLASS)})"]
    quantiles = [] if task == "classification" else [f"{PINBALL_LOSS}0.9 (or of another quantile)"]
    return ", ".join([*(metrics_of(task) if task else METRICS), *of_classes, *quantiles])


def scores(
    truth: np.ndarray, probabilities: np.ndarray, classes: Labels, *, also: Iterable[str] = ()
) -> dict[str, float]:
    """Every metric that is defined, of labels `truth` (n,) and `probabilities` (n, classes), `also` of one class.

    Macro averages run over the classes that `truth` holds, whatever is predicted, so they are over the same classes for
    every model on the same rows. A class without a row in `truth` has no recall, and an F1 of 0 however right a model
    is, so it is in none of them; a row that is taken for it counts as missed by its own class. A class that is never
    predicted has no precision; in the average it counts as 0, as in scikit-learn, since an average without it would
    reward a model for never trying the rare class.
    """
    return scores_of_codes(codes_of(truth, classes), Predictions(probabilities, classes), also=also)


def scores_of_codes(codes: np.ndarray, predictions: Predictions, *, also: Iterable[str] = ()) -> dict[str, float]:
    """scores() of the positions of the labels among the classes, (n,)."""
    return _defined({name: METRICS[name].of(codes, predictions) for name in metrics_of("classification", also=also)})


def regression_scores(truth: np.ndarray, predicted: np.ndarray, *, also: Iterable[str] = ()) -> dict[str, float]:
    """Every metric of a regression that is defined, of true and predicted values, both (n,)."""
    with np.errstate(all="ignore"):  # what overflows or is not defined is left out
        return _defined({name: METRICS[name].of(truth, predicted) for name in metrics_of("regression", also=also)})


def regression_baseline(train: np.ndarray, truth: np.ndarray, *, also: Iterable[str] = ()) -> dict[str, float]:
    """The scores on `truth` of who knows the training targets and no feature: for each metric, of its own constant."""
    names = metrics_of("regression", also=also)
    constants = {name: np.full(len(truth), METRICS[name].constant(train)) for name in names}
    with np.errstate(all="ignore"):
        return _defined({name: METRICS[name].of(truth, constant) for name, constant in constants.items()})


def per_class(truth: np.ndarray, probabilities: np.ndarray, classes: Labels) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of rows of each class.

    A class that is never predicted has no precision, one without rows no recall, one with neither no F1.
    """
    codes = codes_of(truth, classes)
    measures = classes_of.by_class(codes, Predictions(probabilities), np.ones((1, len(codes))))
    return {
        str(label): {name: float(values[0, i]) for name, values in measures.items() if np.isfinite(values[0, i])}
        for i, label in enumerate(classes)
    }


def logged_name(metric: str) -> str:
    """The name of a metric as MLflow takes it, which of one class has logged_label(): `recall._50K.8b6a23c1`."""
    measure, point, label = metric.partition(".")
    return f"{measure}.{logged_label(label)}" if point and class_in(metric) else metric


def logged_label(label: str) -> str:
    """A label as it can be in the name of a metric to MLflow: itself, or what is left of it and a hash of all of it, so
    that no two labels are alike."""
    plain = re.sub(r"[^\w .:-]", "_", label)[:LABEL_CHARACTERS]
    return plain if plain == label else f"{plain}.{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def baseline(train_labels: np.ndarray, classes: Labels, *, rows: int) -> np.ndarray:
    """(rows, classes): what one predicts who knows how frequent the classes are in training and nothing else."""
    shares = np.array([(train_labels == label).mean() for label in classes])
    return np.tile(shares, (rows, 1))


def codes_of(truth: np.ndarray, classes: Labels) -> np.ndarray:
    """The position of each label among the classes, (n,)."""
    position = {label: code for code, label in enumerate(classes)}
    return np.array([position[label] for label in truth.tolist()], dtype=np.intp)


def _defined(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
