"""Which part a row belongs to: a pure function of its group, key, columns or time, and the seed. Nothing is stored.

Each model keeps its SplitSettings, with the types that the columns had, the boundaries of parts by time and where its
window begins. So the rows that it was trained on are known when columns have come, gone or changed their type since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from steps.core.config import Config
from steps.core.models import retyped
from steps.core.models.row_hashes import hashes
from steps.core.wording import listed

PARTS = ("train", "validation", "test")
OUTSIDE = "outside"  # of the window: of a row that is in none of them
NAMED = 4  # columns in a message
DTYPES = {  # pandas' for a target, by the kind of its column
    **dict.fromkeys(("float", "double", "decimal"), "float64"),
    **dict.fromkeys(("int", "long"), "int64"),
    "boolean": "bool",
    "string": "object",
}
EARLIEST = "0001-01-01"  # a boundary before any time that a table can hold
TYPES_OF_FEATURES = ("long", "boolean", "string")  # of a model's, which say how the values of a column are hashed


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """All that decides a row's part: `columns`, in any order: the one group column, else the columns that the config
    names, else the key, else the features. `types` are theirs in the contract, {} of a model that did not record them.

    Rows that have no group are none together: the features decide, which `without_group` names then.

    Of a split by `time`, a column, no hash decides: `boundaries` are the times at which the validation and the test
    part begin, in ISO 8601 (UTC). With `window`, a column too, only rows from `window_from` on are in a part, those of
    the last `window_days`. Both times follow from the rows that were there (see with_boundaries).
    """

    test: float
    validation: float
    seed: int
    columns: tuple[str, ...]
    without_group: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    boundaries: tuple[str, ...] = ()
    window: str = ""
    window_days: float = 0
    window_from: str = ""

    @property
    def all_columns(self) -> tuple[str, ...]:
        """The columns that have to be there for a row's part to be known."""
        return tuple(dict.fromkeys([*self.columns, *self.without_group, *self.times]))

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of dates or timestamps among them."""
        return tuple(dict.fromkeys(name for name in (self.time, self.window) if name))

    @property
    def is_complete(self) -> bool:
        """Whether a row's part follows from its own values alone."""
        return bool(self.boundaries or not self.time) and bool(self.window_from or not self.window)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The rows by their parts; a row is in one of them, or in none where a window leaves it out."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def settings_of(config: Config) -> SplitSettings:
    """The settings by which a config's rows are split: by its group column, its time, the columns that it names, its
    key, or else its features. By its key a row stays in its part when its features are updated.

    Those of a split by time have no boundaries yet.
    """
    given = config.split
    features = tuple(sorted(config.features))
    columns = (given.group,) if given.group else tuple(sorted(given.columns or config.key)) or features
    columns, without_group = () if given.time else columns, features if given.group else ()
    window = given.training_window
    times = [name for name in (given.time, window and window.column) if name]
    named = sorted({*columns, *without_group, *times})
    return SplitSettings(
        test=given.test,
        validation=given.validation,
        seed=given.seed,
        columns=columns,
        without_group=without_group,
        types={name: config.columns[name].type for name in named},
        time=given.time or "",
        window=window.column if window else "",
        window_days=window.days if window else 0,
    )


def with_boundaries(settings: SplitSettings, rows: pd.DataFrame) -> SplitSettings:
    """`settings` with the times that follow from all labelled `rows`, of a split by time or with a window; others as
    they are.

    The newest `test` share of the rows in the window is the test part, and the `validation` share before it the
    validation part, each at least one row; rows of the same time are together, in the later part.
    """
    if settings.window and not settings.window_from:
        times = _times(rows[settings.window])
        newest = max(times[~np.isnat(times)], default=np.datetime64(EARLIEST, "us"))
        microseconds = min(settings.window_days * 86_400_000_000, (newest - np.datetime64(EARLIEST, "us")).astype(int))
        settings = replace(settings, window_from=str(newest - np.timedelta64(int(microseconds), "us")))
    if not settings.time or settings.boundaries:
        return settings
    rows = rows[~_is_outside(rows, settings)]
    times = np.sort(_times(rows[settings.time]))
    times = times[~np.isnat(times)]
    if not len(times):
        return replace(settings, boundaries=(EARLIEST, EARLIEST))
    test_from = times[-max(1, round(settings.test * len(times)))]
    earlier = times[times < test_from]
    validation_rows = min(max(1, round(settings.validation * len(times))), len(earlier))
    validation_from = earlier[-validation_rows] if validation_rows else test_from
    return replace(settings, boundaries=(str(validation_from), str(test_from)))


def in_words(time: str) -> str:
    """A recorded time, without the parts of it that are zero."""
    return time.removesuffix(".000000").removesuffix("T00:00:00").replace("T", " ")


def recorded(settings: Mapping[str, Any], feature_types: Mapping[str, str] | None = None) -> SplitSettings:
    """The settings that a model keeps, as JSON has them; those that an earlier version had not are at their defaults,
    and those that a later one added decide no row's part (FORMAT_VERSION in scorer.py).

    `feature_types` are those of the model's features, which stand in for types that it has not recorded.
    """
    known = {one.name: settings[one.name] for one in fields(SplitSettings) if one.name in settings}
    lists: dict[str, Any] = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    read = SplitSettings(**{**known, **lists})
    if read.types or not feature_types:
        return read
    types = {name: feature_types[name] for name in read.all_columns if feature_types.get(name) in TYPES_OF_FEATURES}
    return replace(read, types=types)


def labelled(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The rows that have a label, with labels of the target's own type: beside missing ones Arrow's become others."""
    kind, has_label = DTYPES[config.columns[config.target].kind], rows[config.target].notna()
    kept = rows if has_label.all() else rows[has_label]  # rows are many: what is as it should be is not copied
    return kept if kept[config.target].dtype == kind else kept.astype({config.target: kind}, copy=False)


def split(rows: pd.DataFrame, settings: SplitSettings, *, ordered_by: Sequence[str] = ()) -> Parts:
    """`rows` in their three parts, each in an order that follows from content alone, by default from all columns."""
    part = parts(rows, settings)
    ordered = _in_order(rows, ordered_by or list(rows.columns))
    return Parts(**{name: rows.iloc[ordered[part[ordered] == name]].reset_index(drop=True) for name in PARTS})


def folds(rows: pd.DataFrame, settings: SplitSettings, k: int) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """`k` pairs of rows, to train on and to validate on, of the labelled rows outside the test part, for cross
    validation: by the same hash, so that each of these rows is validated on once and no group or duplicate is on both
    sides. By time each pair validates on the times that follow those it trains on (forward chaining). A pair with an
    empty side, for want of different rows, is left out."""
    settings = with_boundaries(settings, rows)
    ordered = rows.iloc[_in_order(rows, list(rows.columns))]
    ordered = ordered[np.isin(parts(ordered, settings), ("train", "validation"))].reset_index(drop=True)
    if settings.time:
        block = _blocks(_times(ordered[settings.time]), k + 1)
        sides = [(block <= i, block == i + 1) for i in range(k)]
    else:
        position = (_deciding(_as_recorded(ordered, settings)[0], settings) / 2.0**64 - settings.test) / (
            1 - settings.test
        )
        block = np.clip((position * k).astype(int), 0, k - 1)
        sides = [(block != i, block == i) for i in range(k)]
    pairs = [tuple(ordered[side].reset_index(drop=True) for side in pair) for pair in sides]
    return [(train, validation) for train, validation in pairs if len(train) and len(validation)]


def parts(rows: pd.DataFrame, settings: SplitSettings) -> np.ndarray:
    """The part of each row, (n,) of "train", "validation", "test" or OUTSIDE. Equal rows are always in the same part.

    A row of which the settings do not tell it is in the train part: by time one without a time, and one whose values do
    not tell what they were in the types that the settings recorded. One without a time is outside any window.
    """
    rows, known = _as_recorded(rows, settings)
    settings = with_boundaries(settings, rows)
    if settings.time:
        times = _times(rows[settings.time])
        validation_from, test_from = (np.datetime64(boundary, "us") for boundary in settings.boundaries)
        in_test, in_validation = times >= test_from, times >= validation_from
    else:
        position = _deciding(rows, settings) / 2.0**64  # uniform in [0, 1]
        in_test, in_validation = position < settings.test, position < settings.test + settings.validation
    part = np.where(known & in_test, "test", np.where(known & in_validation, "validation", "train"))
    return np.where(known & _is_outside(rows, settings), OUTSIDE, part)


def held_out(rows: pd.DataFrame, settings: SplitSettings) -> np.ndarray:
    """Which rows a model with these recorded settings was certainly not trained on, (n,) bool: those of its test part
    and those outside its window.

    None where a column is gone that decided a row's part.
    """
    if any(name not in rows for name in settings.all_columns):
        return np.zeros(len(rows), dtype=bool)
    return np.isin(parts(rows, settings), ("test", OUTSIDE))


def more_rows(rows: pd.DataFrame, settings: SplitSettings) -> str:
    """What to ingest when a part of the labelled `rows` lacks some: equal ones, however many, are in one part."""
    if rows.empty:
        return "ingest rows that have a label"
    columns = (settings.time,) if settings.time else settings.columns
    rows, _ = _as_recorded(rows, settings)
    rows = rows[~_is_outside(rows, with_boundaries(settings, rows))]
    if rows.empty:
        return f"ingest rows with a time in {settings.window}, or take a longer window"
    different = rows[settings.time].nunique() if settings.time else len(np.unique(_deciding(rows, settings)))
    if different == len(rows):
        return f"ingest more rows than the {len(rows)} that have a label"
    return (
        f"ingest rows that differ more: the {len(rows)} that have a label hold {different} different values of "
        f"{listed(columns, NAMED, 'columns')}, and equal ones are always in the same part"
    )


def _in_order(rows: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """The positions of `rows` in an order that follows from the content of `columns` alone."""
    return np.argsort(hashes(rows, sorted(columns), seed=0), kind="stable")


def _as_recorded(rows: pd.DataFrame, settings: SplitSettings) -> tuple[pd.DataFrame, np.ndarray]:
    """The columns that decide, with values as the recorded types had them, and the rows where these are known."""
    columns, known = {}, np.ones(len(rows), dtype=bool)
    for name in [name for name in dict.fromkeys(settings.all_columns) if name in rows]:
        columns[name] = rows[name]
        if name in settings.types:
            columns[name], is_known = retyped.as_type(rows[name], settings.types[name])
            known &= is_known
    return pd.DataFrame(columns, index=rows.index, copy=False), known


def _is_outside(rows: pd.DataFrame, settings: SplitSettings) -> np.ndarray:
    """Which rows are older than the window, or have no time, (n,) bool."""
    if not settings.window:
        return np.zeros(len(rows), dtype=bool)
    return ~(_times(rows[settings.window]) >= np.datetime64(settings.window_from, "us"))


def _deciding(rows: pd.DataFrame, settings: SplitSettings) -> np.ndarray:
    """The hash of each row, (n,), that decides its part."""
    hashed = hashes(rows, sorted(settings.columns), seed=settings.seed)
    alone = rows[list(settings.columns)].isna().all(axis=1).to_numpy()
    if not settings.without_group or not alone.any():
        return hashed
    return np.where(alone, hashes(rows, settings.without_group, seed=settings.seed), hashed)


def _times(values: pd.Series) -> np.ndarray:
    """Dates or timestamps as microseconds in UTC without a zone, (n,) datetime64[us]; NaT for a missing one."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if values.dtype == object:  # dates, which may lie beyond pandas' own times
        return np.array([None if pd.isna(value) else value for value in values], dtype="datetime64[us]")
    times: np.ndarray = values.to_numpy(dtype="datetime64[us]")
    return times


def _blocks(times: np.ndarray, count: int) -> np.ndarray:
    """The times in `count` blocks of about as many rows, (n,) of 0 to count - 1; equal ones are together, NaT is 0."""
    known = np.sort(times[~np.isnat(times)])
    if not len(known):
        return np.zeros(len(times), dtype=int)
    begins = known[[round(i * len(known) / count) for i in range(1, count)]] if len(known) >= count else known[1:]
    return np.where(np.isnat(times), 0, np.searchsorted(begins, times, side="right"))
