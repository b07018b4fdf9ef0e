"""The rows that a model is judged on, read some at a time: the test part, and of the train part the targets alone.

A very large test part is judged by a sample. A million rows leave a share, such as the accuracy, uncertain by 0.05
points, which no gate tells apart, and a hundred scores of each model are taken of them. The rows with the smallest
hashes are taken: the same ones for every model, in whatever order the table has them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from steps.core import config
from steps.core.classification_metrics import unknown_classes
from steps.core.errors import TableUnfit, did_you_mean
from steps.core.models import loading, predictions, split, training_rows
from steps.core.models.comparison import split_of
from steps.core.models.row_hashes import hashes
from steps.core.models.split import Parts, SplitSettings
from steps.core.process import progress
from steps.core.tables.snapshot import Snapshot
from steps.core.wording import listed

MOST_TEST_ROWS = 1_000_000
MOST_TEST_CELLS = 250_000_000  # rows times columns: 2 GB as doubles
SHOWN_CLASSES = 10  # in a message
SAMPLE_SEED = 1  # of the hashes by which rows are taken; those that decide a row's part have the split's own


@dataclass(frozen=True, kw_only=True)
class JudgedRows:
    """`parts` has the test rows that are judged on, in an order that follows from content alone, and the targets of the
    train part; its validation part is empty. `test_rows` is how many labelled ones the whole test part has,
    `split_settings` what set it apart, and `columns` what was read."""

    parts: Parts
    test_rows: int
    split_settings: SplitSettings
    columns: Sequence[str]

    @property
    def is_sample(self) -> bool:
        """Whether only some rows of the test part are judged."""
        return self.test_rows > len(self.parts.test)


def read(
    table: Snapshot,
    settings: config.Config,
    model: loading.LoadedModel,
    *,
    champion: loading.LoadedModel | None = None,
    most_rows: int = MOST_TEST_ROWS,
) -> JudgedRows:
    """The labelled rows of `table` to judge `model` on beside its `champion`, at most so many, and fewer of a table of
    more than 250 columns: with the config's columns, and those that these models need as far as there are any.
    TableUnfit when none is in the test part, or the gate's metrics name a class that neither rows nor models have."""
    columns = _columns(table, settings, [model, *([champion] if champion else [])])
    most_rows = min(most_rows, MOST_TEST_CELLS // len(columns))
    split_settings = split_to_judge_by(columns, settings, model)
    if not split_settings.is_complete:
        split_settings = training_rows.split_settings_of(table, settings)
    stored = progress.counted(table.batches(columns), "rows_read")
    batches = (predictions.to_frame(batch) for batch in stored)
    judged = select(batches, settings, split_settings, table_uri=str(table), columns=columns, most_rows=most_rows)
    if settings.task == "classification":
        labels = judged.parts.test[settings.target].unique().tolist()
        classes = dict.fromkeys(map(str, [*model.schema.classes, *labels]))
        _check_classes(settings, list(classes), table_uri=str(table))
    return judged


def _check_classes(settings: config.Config, classes: Sequence[str], *, table_uri: str) -> None:
    named = {"gate.metric": [settings.gate.metric], "gate.limits": settings.gate.limits}
    mistakes = [
        f"{key} names {label!r}, none of the classes{did_you_mean(label, classes)}"
        for key, metrics in named.items()
        for label in unknown_classes(metrics, classes)
    ]
    if mistakes:
        raise TableUnfit(
            table_uri,
            mistakes,
            expected=f"classes that the model or the test part has: {listed(classes, SHOWN_CLASSES)}",
            next="correct them in the config",
        )


def split_to_judge_by(
    columns: Iterable[str], settings: config.Config, model: loading.LoadedModel | None
) -> SplitSettings:
    """The model's own split where its columns are among these `columns`, so that a config that has changed since leaves
    a test part to judge it on; else the config's."""
    if model and set(split_of(model).all_columns) <= set(columns):
        return split_of(model)
    return split.settings_of(settings)


def select(
    batches: Iterable[pd.DataFrame],
    settings: config.Config,
    split_settings: SplitSettings,
    *,
    table_uri: str,
    columns: Sequence[str],
    most_rows: int = MOST_TEST_ROWS,
) -> JudgedRows:
    """Of all rows of a table, those to judge on. TableUnfit when no labelled row is in the test part."""
    targets, others = [pd.DataFrame(columns=[settings.target])], [pd.DataFrame(columns=columns)]
    test, test_rows, held = _Smallest(columns, settings, most_rows), 0, 0
    for batch in batches:
        rows = split.labelled(batch, settings)
        part = split.parts(rows, split_settings)
        targets.append(rows.loc[part == "train", [settings.target]])
        test.add(rows[part == "test"])
        test_rows += int((part == "test").sum())
        if not test_rows and held < most_rows:  # to say what the rows of an empty test part lack
            others.append(rows)
            held += len(rows)
    if not test_rows:
        more = split.more_rows(predictions.joined(others), split_settings)
        raise TableUnfit(
            table_uri,
            ["its test part has no labelled row"],
            expected="rows to judge the model on",
            next=f"{more}, or change split in the config",
        )
    ordered = split.split(test.rows(), split_settings, ordered_by=settings.training_columns)
    parts = Parts(train=predictions.joined(targets), validation=ordered.validation, test=ordered.test)
    return JudgedRows(parts=parts, test_rows=test_rows, split_settings=split_settings, columns=columns)


def _columns(table: Snapshot, settings: config.Config, models: Sequence[loading.LoadedModel]) -> list[str]:
    required = [*settings.training_columns, *settings.gate.slices, *settings.key]
    of_models = [
        name
        for model in models
        for name in (*(feature.name for feature in model.schema.features), *split_of(model).all_columns)
    ]
    return list(dict.fromkeys([*required, *(name for name in of_models if name in table.schema.names)]))


class _Smallest:
    """Of all rows that are added, the `most` whose hashes are smallest."""

    def __init__(self, columns: Sequence[str], settings: config.Config, most: int) -> None:
        self._hashed, self._most = sorted(settings.training_columns), most
        self._batches = [pd.DataFrame(columns=columns)]
        self._held = 0

    def add(self, rows: pd.DataFrame) -> None:
        self._batches.append(rows)
        self._held += len(rows)
        if self._held > 2 * self._most:
            self._batches = [self.rows()]
            self._held = len(self._batches[0])

    def rows(self) -> pd.DataFrame:
        rows = predictions.joined(self._batches)
        if len(rows) <= self._most:
            return rows
        hashed = hashes(rows, self._hashed, seed=SAMPLE_SEED)
        return rows.iloc[np.sort(np.argsort(hashed, kind="stable")[: self._most])].reset_index(drop=True)
