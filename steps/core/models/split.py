"""Which part a row belongs to: a pure function of its features (or its group) and the seed. Nothing is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from steps.core.config import Config

PARTS = ("train", "validation", "test")
NAMED = 4  # columns in a message


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """All that decides a row's part: `columns`, which are the features in any order, or the one group column.

    Rows that have no group are none together: the features decide, which `without_group` names then.
    """

    test: float
    validation: float
    seed: int
    columns: tuple[str, ...]
    without_group: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parts:
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def settings_of(config: Config) -> SplitSettings:
    """The settings by which a config's rows are split: by its group column, else by its features."""
    features = tuple(sorted(config.features))
    return SplitSettings(
        test=config.split.test,
        validation=config.split.validation,
        seed=config.split.seed,
        columns=(config.split.group,) if config.split.group else features,
        without_group=features if config.split.group else (),
    )


def recorded(settings: Mapping[str, Any]) -> SplitSettings:
    """The settings that a model keeps, as JSON has them; those that an earlier version had not are at their defaults,
    and those that a later one added decide no row's part (FORMAT_VERSION in scorer.py)."""
    known = {field.name: settings[field.name] for field in fields(SplitSettings) if field.name in settings}
    lists: dict[str, Any] = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    return SplitSettings(**{**known, **lists})


def labelled(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The rows that have a label, with labels of the target's own type: beside missing ones Arrow's become others."""
    kind = {"long": "int64", "boolean": "bool", "string": "object"}[config.columns[config.target].type]
    kept = rows[rows[config.target].notna()]
    return kept.assign(**{config.target: kept[config.target].astype(kind)})


def split(rows: pd.DataFrame, settings: SplitSettings) -> Parts:
    """`rows` in their three parts, each in an order that follows from content alone."""
    part = parts(rows, settings)
    ordered = np.argsort(hashes(rows, sorted(rows.columns), seed=0), kind="stable")
    return Parts(**{name: rows.iloc[ordered[part[ordered] == name]].reset_index(drop=True) for name in PARTS})


def parts(rows: pd.DataFrame, settings: SplitSettings) -> np.ndarray:
    """The part of each row, (n,) of "train", "validation" or "test". Equal rows are always in the same part."""
    position = _deciding(rows, settings) / 2.0**64  # uniform in [0, 1]
    in_test, in_validation = position < settings.test, position < settings.test + settings.validation
    return np.where(in_test, "test", np.where(in_validation, "validation", "train"))


def more_rows(rows: pd.DataFrame, settings: SplitSettings) -> str:
    """What to ingest when a part of the labelled `rows` lacks some: equal ones, however many, are in one part."""
    if rows.empty:
        return "ingest rows that have a label"
    different = len(np.unique(_deciding(rows, settings)))
    if different == len(rows):
        return f"ingest more rows than the {len(rows)} that have a label"
    return (
        f"ingest rows that differ more: the {len(rows)} that have a label hold {different} different values of "
        f"{_listed(settings.columns)}, and equal ones are always in the same part"
    )


def _deciding(rows: pd.DataFrame, settings: SplitSettings) -> np.ndarray:
    """The hash of each row, (n,), that decides its part."""
    hashed = hashes(rows, sorted(settings.columns), seed=settings.seed)
    alone = rows[list(settings.columns)].isna().all(axis=1).to_numpy()
    if not settings.without_group or not alone.any():
        return hashed
    return np.where(alone, hashes(rows, settings.without_group, seed=settings.seed), hashed)


def hashes(rows: pd.DataFrame, columns: Sequence[str], *, seed: int) -> np.ndarray:
    """A uint64 for the content of each row, (n,): pandas' hash of canonical values, mixed with the seed.

    A golden value in tests/test_split.py holds this to the same answer from version to version.
    """
    canonical = pd.DataFrame({str(i): _canonical(rows[name]) for i, name in enumerate(columns)})
    content = pd.util.hash_pandas_object(canonical, index=False).to_numpy(dtype=np.uint64)
    hashed: np.ndarray = pd.util.hash_array(content ^ pd.util.hash_array(np.array([seed], dtype=np.uint64)))
    return hashed


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - NAMED} columns more" if len(columns) > NAMED else ""
    return ", ".join(columns[:NAMED]) + more


def _canonical(values: pd.Series) -> pd.Series:
    """One representation for equal values: numbers as doubles without -0.0, everything else as text, missing as one.

    Booleans are text: a column of them that is all missing does not differ from one of text, so neither may its hash.
    """
    if pd.api.types.infer_dtype(values, skipna=True) in ("integer", "floating", "mixed-integer-float"):
        numbers = values.to_numpy(dtype="float64", na_value=np.nan)
        return pd.Series(np.where(np.isnan(numbers), np.nan, numbers + 0.0))
    return pd.Series([None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)])
