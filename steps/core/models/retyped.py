"""A column's values as they were when the column had another type, where that can be told."""

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd

from steps.core.columns import DECIMAL, EXACT_DOUBLE, FALSE_TEXTS, TRUE_TEXTS

WHOLE = re.compile(r"[+-]?\d+")
OF_NUMBERS = ("integer", "floating", "mixed-integer-float")  # pandas' names for what is hashed as numbers


def as_type(values: pd.Series, type_: str) -> tuple[pd.Series, np.ndarray]:
    """`values` as a column of `type_` (of the contract) had them, and which of them that can be told of, (n,) bool.

    A missing value is missing in each type. Text that was made of numbers, and a date that was made of a time, do not
    tell what they were: 7 may have been "007".
    """
    present = values.notna().to_numpy(dtype=bool)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if not present.any() or _is_of(values, inferred, type_):
        return values, np.ones(len(values), dtype=bool)
    if type_ == "double" and values.dtype == np.float32:  # the digits that it had are lost
        return values, ~present
    convert = _converter(type_.partition("(")[0], type_)
    converted = np.full(len(values), None, dtype=object)
    if convert is not None:
        converted[present] = [convert(value) for value in values[present].tolist()]
    known = np.array([value is not None for value in converted]) | ~present
    return pd.Series(converted, index=values.index, dtype=object).infer_objects(), known


def _is_of(values: pd.Series, inferred: str, type_: str) -> bool:
    kind = type_.partition("(")[0]
    if kind in ("int", "long"):
        return inferred == "integer" or (inferred in OF_NUMBERS and bool((values.dropna() % 1 == 0).all()))
    if kind in ("float", "double"):
        return inferred in OF_NUMBERS and (kind == "float") == (values.dtype == np.float32)
    if kind == "decimal":
        digits = DECIMAL.fullmatch(type_)
        scale = -int(digits[2]) if digits else None
        return inferred == "decimal" and all(value.as_tuple().exponent == scale for value in values.dropna())
    wanted = {
        "string": ("string",),
        "boolean": ("boolean",),
        "date": ("date",),
        "timestamp": ("datetime64", "datetime"),
    }
    return inferred in wanted[kind]


def _converter(kind: str, type_: str) -> Callable[[Any], Any] | None:
    """What makes one value, of any type, a value of `kind`; it gives None for one that is none. None: nothing does."""
    if kind in ("int", "long"):
        return _whole
    if kind in ("float", "double"):
        return lambda value: _double(value, single=kind == "float")
    if kind == "boolean":
        return _flag
    if kind == "decimal" and (digits := DECIMAL.fullmatch(type_)):
        return lambda value: _decimal(value, scale=int(digits[2]))
    return None


def _whole(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if WHOLE.fullmatch(value.strip()) else None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, Decimal)):
        return None
    return int(value) if math.isfinite(value) and value == int(value) and abs(int(value)) <= EXACT_DOUBLE else None


def _double(value: Any, *, single: bool) -> float | None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, float, Decimal)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return float(np.float32(number)) if single else number


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        text = value.strip().casefold()
        return True if text in TRUE_TEXTS else False if text in FALSE_TEXTS else None
    return bool(value) if isinstance(value, (int, float, Decimal)) and value in (0, 1) else None


def _decimal(value: Any, *, scale: int) -> Decimal | None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, float, Decimal)):
        return None
    try:
        number = Decimal(str(value).strip())
        exact = number.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        return None
    return exact if exact == number else None
