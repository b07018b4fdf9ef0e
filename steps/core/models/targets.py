"""What is learnt of each row: its class or its number, how much it weighs, and whether there is enough to learn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from steps.core import config
from steps.core.config_model import LABEL_TYPES
from steps.core.errors import did_you_mean
from steps.core.models import scorer
from steps.core.models.objectives import ANY_NUMBER, SQUARED_ERROR, TARGET_RULES
from steps.core.models.split import Parts

LEAST_GAIN = 1e-6  # of a split, below which XGBoost makes none (kRtEps)
SMALL_GAIN = 1e-2  # of all splits together, of which some would gain less than that
FEWEST_ROWS_OF_A_CLASS = 2  # on average, where there are more classes than two

SHOWN = 10  # classes in a message

type Label = str | int | bool


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """Why rows cannot be learnt from: the `reason`, what was `expected`, and what to do `next`."""

    reason: str
    expected: str
    next: str


def classes_of(train: pd.DataFrame, settings: config.Config) -> tuple[Label, ...]:
    """The classes in the train part, as the user wrote them, sorted; none of a regression."""
    if settings.task == "regression":
        return ()
    label_type = LABEL_TYPES[settings.columns[settings.target].kind]
    return tuple(sorted({label_type(label) for label in train[settings.target]}))


def mistakes(parts: Parts, settings: config.Config, classes: tuple[Label, ...]) -> list[Mistake]:
    """Why the targets and weights of `parts` cannot be learnt from."""
    of_task = _unfit_numbers if settings.task == "regression" else _unfit_labels
    found = list(of_task(parts, settings, classes)) if len(parts.train) else []
    return [*found, *(_unfit_weights(parts, settings.weight) if settings.weight else ())]


def to_learn(rows: pd.DataFrame, schema: scorer.Schema) -> np.ndarray:
    """What XGBoost is to learn of each row, (n,) float64: numbers, or classes as their positions."""
    values = rows[schema.target]
    if schema.task == "regression":
        numbers = np.asarray(values, dtype=np.float64)
        return np.log1p(numbers) if schema.target_transform == "log" else numbers
    codes = {label: code for code, label in enumerate(schema.classes)}
    return np.array([codes[label] for label in values], dtype=np.float64)


def class_weights(train: pd.DataFrame, schema: scorer.Schema, model: config.Model) -> dict[Label, float]:
    """The weight of each class, {} where all weigh 1. `balanced`: rows / (classes * rows of the class), by which each
    class weighs the same (as scikit-learn's compute_class_weight has it; King and Zeng, 2001)."""
    if model.class_weights == "balanced":
        counts = train[schema.target].value_counts()
        return {label: len(train) / (len(schema.classes) * counts[label]) for label in schema.classes}
    return dict(model.class_weights or {})


def row_weights(rows: pd.DataFrame, schema: scorer.Schema, of_classes: dict[Label, float]) -> np.ndarray | None:
    """How much each row weighs, (n,) float64: by its own weight times that of its class; None when all weigh 1."""
    if not schema.weight and not of_classes:
        return None
    weights = rows[schema.weight].to_numpy(dtype=np.float64) if schema.weight else np.ones(len(rows))
    return weights * np.array([of_classes.get(label, 1.0) for label in rows[schema.target]]) if of_classes else weights


def _unfit_labels(parts: Parts, settings: config.Config, classes: tuple[Label, ...]) -> Iterator[Mistake]:
    target = settings.target
    if len(classes) == 1:
        yield _constant(target, str(classes[0]))
    elif len(classes) > max(2, len(parts.train) / FEWEST_ROWS_OF_A_CLASS):
        yield Mistake(
            reason=f"{target} has {len(classes):,} values in the {len(parts.train):,} rows of its train part, fewer "
            "than two rows a class",
            expected=f"classes of {target} with at least two rows each, on average",
            next="ingest more rows or broader classes, or set another target or task in the config",
        )
    if len(parts.validation) and not parts.validation[target].isin(classes).any():
        yield Mistake(
            reason=f"no value of {target} in its validation part is in its train part",
            expected=f"classes of {target} that both parts have",
            next="ingest more rows, or change split in the config",
        )
    if isinstance(settings.model.class_weights, dict):
        names = [str(known) for known in classes]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        for label in settings.model.class_weights:
            if label not in classes:
                yield Mistake(
                    reason=f"model.class_weights names {label!r}, no class of its train part"
                    f"{did_you_mean(str(label), names)}",
                    expected=f"classes of its train part: {', '.join(names[:SHOWN])}{more}",
                    next="correct model.class_weights in the config, or ingest rows of that class",
                )
    if settings.model.monotone and len(classes) > 2:
        yield Mistake(
            reason=f"model.monotone is for numbers and for two classes, and {target} has {len(classes)}",
            expected="a number or two classes to learn where model.monotone is given",
            next="leave model.monotone out of the config, or set another target",
        )


def _constant(target: str, value: str) -> Mistake:
    return Mistake(
        reason=f"{target} has one value ({value}) in its train part",
        expected=f"at least two values of {target} to tell apart",
        next="ingest rows with other values of it, or set another target in the config",
    )


def _unfit_numbers(parts: Parts, settings: config.Config, _: tuple[Label, ...]) -> Iterator[Mistake]:
    """By what XGBoost takes, which is float32: a value beyond it is infinite, and close ones are equal."""
    model, target, are_fit = settings.model, settings.target, True
    for name, rows in vars(parts).items():
        values = rows[target].to_numpy(dtype=np.float64)
        unfit = ~(np.abs(values) <= scorer.LARGEST)  # nan too
        if unfit.any():
            are_fit = False
            yield Mistake(
                reason=f"{target} is {values[unfit][0]:g} in its {name} part, no finite number of 32 bits",
                expected=f"values of {target} that are finite numbers of 32 bits",
                next="correct or scale the values in the source",
            )
            continue
        for key, value in (("objective", model.objective), ("target_transform", model.target_transform)):
            is_allowed, in_words = TARGET_RULES.get(f"{key}: {value}", ANY_NUMBER)
            if (unfit := ~is_allowed(values)).any():
                are_fit = False
                yield Mistake(
                    reason=f"{target} is {values[unfit][0]:g} in its {name} part{_such_rows(unfit)}; `{key}: {value}` "
                    f"takes targets {in_words}",
                    expected=f"targets {in_words}, or another model.{key} than {value}",
                    next=f"change model.{key} in the config, or correct the values in the source",
                )
    targets = parts.train[target].to_numpy(dtype=np.float64)
    if are_fit and len(np.unique(targets)) == 1:
        yield _constant(target, f"{targets[0]:g}")
    elif are_fit and len(np.unique(targets.astype(np.float32))) == 1:
        yield Mistake(
            reason=f"{target} is {targets[0]:g} in its whole train part, to XGBoost's 32 bits",
            expected=f"values of {target} that differ as numbers of 32 bits",
            next="take off what is the same in all values in the source",
        )
    elif are_fit and not LEAST_GAIN < (gain := _greatest_gain(parts.train, settings)) < scorer.LARGEST:
        size = "small" if gain < 1 else "large"
        yield Mistake(
            reason=f"{target} is between {targets.min():g} and {targets.max():g} in its train part, too {size} for "
            "XGBoost",
            expected=f"values of {target} whose squared deviations are numbers of 32 bits",
            next="scale the values in the source",
        )


def warnings(train: pd.DataFrame, settings: config.Config) -> list[str]:
    """What a model may fail to learn of targets that can be learnt from, a line each."""
    if settings.task == "classification" or (gain := _greatest_gain(train, settings)) > SMALL_GAIN:
        return []
    return [
        f"{settings.target}: its squared deviations add up to {gain:.1g}, and XGBoost makes no split that gains less "
        f"than {LEAST_GAIN:g}; a larger unit would be learnt better"
    ]


def _greatest_gain(train: pd.DataFrame, settings: config.Config) -> float:
    """At most what all splits together gain: the sum of squared deviations, where squares of errors are learnt.

    XGBoost has gains as numbers of 32 bits, and makes no split below LEAST_GAIN: of targets that are far too small or
    too large it learns nothing, without a word.
    """
    if (settings.model.objective or SQUARED_ERROR) != SQUARED_ERROR:
        return 1.0
    targets = train[settings.target].to_numpy(dtype=np.float64)
    learnt = np.log1p(targets) if settings.model.target_transform == "log" else targets
    weights = train[settings.weight].to_numpy(dtype=np.float64, na_value=0) if settings.weight else np.ones(len(train))
    return float((weights * (learnt - learnt.mean()) ** 2).sum())


def _unfit_weights(parts: Parts, weight: str) -> Iterator[Mistake]:
    next = f"correct {weight} in the source, or weight in the config"
    for name, rows in vars(parts).items():
        values = rows[weight].to_numpy(dtype=np.float64, na_value=np.nan)
        if (unfit := ~((values >= 0) & (values <= scorer.LARGEST))).any():
            shown = "missing" if np.isnan(values[unfit][0]) else f"{values[unfit][0]:g}"
            yield Mistake(
                reason=f"the weight {weight} is {shown} in its {name} part{_such_rows(unfit)}",
                expected=f"a finite number, 0 or more, as the weight {weight} of each row",
                next=next,
            )
        elif name != "test" and len(values) and not values.any():
            yield Mistake(
                reason=f"the weight {weight} is 0 in all rows of its {name} part",
                expected=f"rows whose weight {weight} is above 0",
                next=next,
            )


def _such_rows(unfit: np.ndarray) -> str:
    return f" ({count:,} such rows)" if (count := int(unfit.sum())) > 1 else ""
