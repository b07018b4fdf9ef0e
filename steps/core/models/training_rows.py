"""The labelled rows of a table, some at a time and each with its part: no pass holds more than a batch of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from steps.core import config, float32_loss
from steps.core.models import features, predictions, split
from steps.core.models.row_sample import RowSample
from steps.core.models.split import OUTSIDE, PARTS, Parts, SplitSettings
from steps.core.process import progress
from steps.core.tables.snapshot import Snapshot

EXAMPLE_ROWS = 3
NO_PART = -1  # of a row without a label, or outside the window


def split_settings_of(table: Snapshot, settings: config.Config) -> SplitSettings:
    """The config's split; by time or with a window with what follows from the times of all labelled rows: these are
    read in a pass of their own."""
    found = split.settings_of(settings)
    if found.is_complete:
        return found
    times = list(found.times)
    batches = table.batches([settings.target, *times])
    frames = [split.labelled(predictions.to_frame(batch), settings)[times] for batch in batches]
    return split.with_boundaries(found, predictions.joined(frames or [pd.DataFrame(columns=times)]))


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows of a pinned table that have a label, in their parts. Each pass reads them anew, in the same order."""

    table: Snapshot
    settings: config.Config
    split_settings: SplitSettings

    def batches(self) -> Iterator[pd.DataFrame]:
        """Some rows at a time, with the columns that training reads."""
        return (rows for rows, _ in self._labelled())

    def of(self, part: str, *, survey: "Survey") -> Iterator[pd.DataFrame]:
        """The rows of one part, some at a time."""
        end = 0
        for batch in self._stored(len(survey.part_of_row)):
            begin, end = end, end + len(batch)
            in_part = pa.array(survey.part_of_row[begin:end] == PARTS.index(part))
            stored = pa.Table.from_batches([batch]).filter(in_part)  # before the rows of other parts are converted
            yield split.labelled(predictions.to_frame(stored), self.settings)

    def frames(self, survey: "Survey") -> Parts:
        """The train and the validation part in memory, in the order of the table. Of the test part, the targets and
        weights that the survey has."""
        parts = {name: [self._no_rows(), *self.of(name, survey=survey)] for name in ("train", "validation")}
        read = {name: predictions.joined(batches) for name, batches in parts.items()}
        return Parts(**read, test=survey.parts.test)

    def first(self, count: int) -> pd.DataFrame:
        """At least so many rows from the beginning, or all where there are fewer."""
        batches: list[pd.DataFrame] = [self._no_rows()]
        for rows in self.batches():
            batches.append(rows)
            if sum(map(len, batches)) >= count:
                break
        return predictions.joined(batches)

    def survey(self) -> "Survey":
        """One pass over all rows, which keeps the target and the weight of each row, and of the features' columns the
        values that there are: all of categories."""
        narrow = [self.settings.target, *([self.settings.weight] if self.settings.weight else [])]
        seen, unlabelled, outside, untimed, rounded = _Seen(self.settings), 0, 0, 0, Counter[str]()
        numbers = {name: self.settings.columns[name] for name in self.settings.features}
        part_of_row = [np.empty(0, np.int8)]
        kept = {name: [self._no_rows()[narrow]] for name in PARTS}
        sample, others = (RowSample(self.table.schema_of(self.settings.training_columns)) for _ in range(2))
        for rows, stored in self._labelled():
            unlabelled += len(stored) - len(rows)
            rounded.update(float32_loss.rounded_counts(stored, numbers))
            parts = split.parts(rows, self.split_settings)
            outside += int((parts == OUTSIDE).sum())
            if time := self.split_settings.time:
                untimed += int(((parts == "train") & rows[time].isna()).sum())
            part_of_row.append(np.full(len(stored), NO_PART, np.int8))
            part_of_row[-1][rows.index] = np.select(
                [parts == name for name in PARTS], range(len(PARTS)), default=NO_PART
            )
            for name, batches in kept.items():
                batches.append(rows.loc[parts == name, narrow])
            seen.add(rows, parts == "train")
            sample.add(stored.take(pa.array(rows.index[parts == "train"])))
            others.add(stored.take(pa.array(rows.index[np.isin(parts, ("validation", "test"))])))
        return Survey(
            parts=Parts(**{name: predictions.joined(batches) for name, batches in kept.items()}),
            seen=seen.frame(),
            example=seen.example,
            unlabelled=unlabelled,
            outside=outside,
            untimed=untimed,
            rounded=dict(rounded),
            part_of_row=np.concatenate(part_of_row),
            sample=sample.rows(),
            others=others.rows(),
        )

    def _labelled(self) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
        """Batches of labelled rows, and all rows that these were among."""
        for batch in self._stored():
            stored = pa.Table.from_batches([batch])
            yield split.labelled(predictions.to_frame(stored), self.settings), stored

    def _stored(self, count: int | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, which are `count` where that is known."""
        return progress.counted(self.table.batches(self.settings.training_columns), "rows_read", total=count)

    def _no_rows(self) -> pd.DataFrame:
        return pd.DataFrame(columns=self.settings.training_columns)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a first pass finds. `parts` has the target and the weight alone of each row, `example` the first rows of the
    train part with all features. `seen` has a column for each feature with values that it has in the train part, each
    once and missing ones below them: all values of categories, one of any other. `rounded` counts the whole numbers of
    each feature that float32 rounds, `outside` the labelled rows outside the window, `untimed` those of the train part
    that have no time to be parted by. `part_of_row` is the position in
    PARTS of each row, (n,) int8, or NO_PART. `sample` has some rows of the train part, and `others` some of the other
    parts, as they are stored, with the columns that training reads."""

    parts: Parts
    seen: pd.DataFrame
    example: pd.DataFrame
    unlabelled: int
    outside: int
    untimed: int
    rounded: dict[str, int]
    part_of_row: np.ndarray
    sample: pa.Table
    others: pa.Table

    def warnings(self, settings: SplitSettings) -> Iterator[str]:
        """Which rows are left out for their time, and which are trained on without one, a line each."""
        if self.outside:
            since = split.in_words(settings.window_from)
            yield f"{self.outside:,} rows are left out, whose {settings.window} is before {since} or missing"
        if self.untimed:
            yield f"{self.untimed:,} rows have no {settings.time}, and are trained on"


class _Seen:
    """The values of the features' columns in the train part, as batches of rows add them."""

    def __init__(self, settings: config.Config) -> None:
        self._categories = set(features.categories_of(settings))
        self._values: dict[str, dict[object, None]] = {name: {} for name in settings.features}  # a set in their order
        self.example = pd.DataFrame(columns=settings.features)

    def add(self, rows: pd.DataFrame, is_train: np.ndarray) -> None:
        if len(self.example) < EXAMPLE_ROWS:
            first = rows.loc[is_train, list(self._values)].head(EXAMPLE_ROWS)
            self.example = predictions.joined([self.example, first]).head(EXAMPLE_ROWS)
        for name, values in self._values.items():
            if name in self._categories and len(values) <= features.LEVELS_TO_COUNT:  # of an id none are kept for long
                values.update(dict.fromkeys(rows.loc[is_train, name].dropna().unique().tolist()))
            elif not values and (present := rows.loc[is_train, name].first_valid_index()) is not None:
                values[rows.at[present, name]] = None

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in self._values.items()})
