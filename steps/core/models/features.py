"""What the model sees: the config's features in the types of the model, with the categories of the train part."""

from collections.abc import Mapping
from typing import Literal

import pandas as pd

from steps.core import config
from steps.core.columns import Column
from steps.core.errors import TableUnfit
from steps.core.models import scorer
from steps.core.tables.snapshot import Snapshot
from steps.core.wording import listed

# What the model takes a column of the contract for, by its kind.
FEATURE_TYPES: dict[str, Literal["double", "long", "boolean", "string", "date", "timestamp"]] = {
    **dict.fromkeys(("float", "double", "decimal"), "double"),
    **dict.fromkeys(("int", "long"), "long"),
    "boolean": "boolean",
    "string": "string",
    "date": "date",
    "timestamp": "timestamp",
}
MANY_LEVELS = 1_000  # of a column; most have few rows each, and each is a bin to XGBoost
MOST_LEVELS = 100_000
LEVELS_TO_COUNT = 10 * MOST_LEVELS  # of a column that is refused: beyond it nobody counts
SHOWN = 5  # columns in a message


def refuse_predictions(table: Snapshot) -> None:
    """TableUnfit for a table of predictions: their rows may be gone from the table that they were made of."""
    if taken := [name for name in table.schema.names if name.lower() in config.PREDICTION_COLUMNS]:
        raise TableUnfit(
            str(table),
            [f"has a column {name!r}, which predictions have" for name in taken],
            expected="a table of rows as ingest writes them, not of predictions",
            next="pass the table that these were made of",
        )


def categories_of(settings: config.Config) -> list[str]:
    """The features of which the model keeps all values."""
    return [name for name in settings.features if _is_category(settings.columns[name])]


def features_of(train: pd.DataFrame, settings: config.Config) -> tuple[scorer.Feature, ...]:
    """The config's features, in its order, by the values that `train` has of them. A column that the contract lets a
    file lack may be absent from rows too."""
    return tuple(
        scorer.Feature(
            name=name,
            type=FEATURE_TYPES[column.kind],
            levels=_levels(train[name], column.kind) if _is_category(column) else None,
            optional=column.nullable is True,
            missing=column.missing,
            as_text=column.as_text(),
        )
        for name, column in ((name, settings.columns[name]) for name in settings.features)
    )


def mistakes(rows: pd.DataFrame, features: tuple[scorer.Feature, ...], *, where: str) -> list[str]:
    """Why nothing can be learnt from the features, a line each; `rows` have the values that are there, `where` says of
    which rows."""
    found = []
    if not rows[[feature.name for feature in features]].notna().any(axis=None):
        found.append(f"all values of all features are missing in {where}")
    for feature in features:
        if feature.levels and len(feature.levels) > MOST_LEVELS:
            is_counted = len(feature.levels) <= LEVELS_TO_COUNT
            count = f"{len(feature.levels):,}" if is_counted else f"more than {LEVELS_TO_COUNT:,}"
            found.append(
                f"{feature.name} has {count} different values in its train part, and a column of categories has at "
                f"most {MOST_LEVELS:,}: say `feature: false`, or write fewer, broader ones"
            )
    return found


def warnings(features: tuple[scorer.Feature, ...], rounded: Mapping[str, int]) -> list[str]:
    """What a model loses or can hardly learn, a line each. `rounded` counts the whole numbers that float32 rounds."""
    many = {f.name: len(f.levels) for f in features if f.levels and len(f.levels) > MANY_LEVELS}
    lines = [
        f"{name}: {count:,} categories, most of them of few rows; broader ones would be learnt better, and faster"
        for name, count in many.items()
    ]
    if rounded:
        lines.append(
            f"{listed(rounded, SHOWN)}: the model rounds {sum(rounded.values()):,} whole numbers, as its float32 holds "
            "them up to 2^24; where they are codes say `categorical: true`, where they are ids `feature: false`"
        )
    return lines


def _is_category(column: Column) -> bool:
    return column.kind == "string" or column.categorical


def _levels(values: pd.Series, kind: str) -> tuple[str | int, ...]:
    """What of a column's values may be its categories, sorted; any other is refused where they are read."""
    present = values.dropna().unique().tolist()
    if kind == "string":
        return tuple(sorted(value for value in present if isinstance(value, str)))
    numbers = [value for value in present if isinstance(value, (int, float))]  # doubles beside missing ones
    return tuple(sorted(int(number) for number in numbers if float(number).is_integer()))
