"""The rules of one column beyond its type (missing, min, max, allowed, pattern), and which values break them."""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import WHOLE_LIMITS, Column
from steps.core.sources.arrow_values import UTC_MICROSECONDS, true_mask
from steps.core.sources.exact_number import as_held
from steps.core.sources.exact_value import exact
from steps.core.sources.values import Converted
from steps.core.wording import listed

MISSING = "are missing"  # how rows break the rule `nullable: false`
FLOATS = ("float", "double")  # kinds whose values stay what the source's floats are
SHOWN_LABELS = 20  # of the values under `allowed`, in a message


def broken_rules(converted: Converted, column: Column, *, is_key: bool) -> Iterator[tuple[str, np.ndarray]]:
    """The rules of a column and where they are broken. A value that is none of its type breaks no other rule."""
    yield from converted.broken.items()
    array = converted.values
    if column.nullable is False or is_key:
        is_refused = np.logical_or.reduce([*converted.broken.values(), np.zeros(len(array), dtype=bool)])
        yield MISSING, true_mask(pc.is_null(array)) & ~is_refused
    # By its digits a decimal is the nearest double, of which Arrow's own cast misses the last one.
    comparable = array.cast(pa.string()).cast(pa.float64()) if column.kind == "decimal" else array
    if column.min is not None:
        is_below = pc.less(comparable, _limit(column.min, column, converted.float_type, math.ceil))
        yield f"are below {_shown(column.min)}", true_mask(is_below)
    if column.max is not None:
        is_above = pc.greater(comparable, _limit(column.max, column, converted.float_type, math.floor))
        yield f"are above {_shown(column.max)}", true_mask(is_above)
    if column.allowed is not None:
        yield from _not_allowed(array, column, column.allowed, converted.float_type)
    if column.pattern is not None:
        yield f"do not fit the pattern {column.pattern}", _misfits(array, column.pattern)


def _limit(
    limit: float | dt.date, column: Column, float_type: type[np.floating], to_whole: Callable[[float], int]
) -> pa.Scalar:
    """A limit in the column's type. Whole numbers are not compared as doubles, nor a float32 with what it rounds."""
    if not isinstance(limit, dt.date):
        if column.kind in WHOLE_LIMITS:
            return pa.scalar(max(-(2**63), min(2**63 - 1, to_whole(limit))))
        held = as_held(limit, float_type) if column.kind in FLOATS else float(limit)
        return pa.scalar(np.float32(held), pa.float32()) if column.kind == "float" else pa.scalar(held)
    moment = limit if isinstance(limit, dt.datetime) else dt.datetime.combine(limit, dt.time())
    if column.kind == "date":
        return pa.scalar(moment.date(), pa.date32())
    return pa.scalar(moment.replace(tzinfo=moment.tzinfo or ZoneInfo(column.zone or "UTC")), UTC_MICROSECONDS)


def _shown(limit: float | dt.date) -> str:
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() and abs(limit) < 1e16 else str(limit)


def _not_allowed(
    array: pa.Array, column: Column, allowed: Sequence[Any], float_type: type[np.floating]
) -> Iterator[tuple[str, np.ndarray]]:
    """Where a value is none of those allowed; apart, where it is one but for its letters' case, blanks or a mark."""
    held = [as_held(value, float_type) for value in allowed] if column.kind in FLOATS else allowed
    values = [exact(value, column) for value in held]
    values += [-0.0] if column.kind in FLOATS and 0 in values else []  # another value to is_in()
    is_other = true_mask(pc.invert(pc.is_in(array, value_set=pa.array(values, array.type), skip_nulls=True)))
    is_other &= true_mask(array.is_valid())
    shown = listed(allowed, SHOWN_LABELS)
    if is_other.any() and pa.types.is_string(array.type):
        known = {_bare(label) for label in allowed}
        near = [text for text in pc.unique(array.filter(pa.array(is_other))).to_pylist() if _bare(text) in known]
        is_near = is_other & true_mask(pc.is_in(array, value_set=pa.array(near, pa.string())))
        yield f"differ by upper and lower case, blanks or a mark alone from {shown}", is_near
        is_other = is_other & ~is_near
    yield f"are none of {shown}", is_other


def _bare(label: str) -> str:
    """A label by its letters and digits; one that has none, as it is."""
    return "".join(letter for letter in label.casefold() if letter.isalnum()) or label


def _misfits(array: pa.Array, pattern: str) -> np.ndarray:
    """Where a text does not fit a pattern as a whole; each different text is tried once."""
    encoded = array.dictionary_encode()
    fits = [re.fullmatch(pattern, text) is not None for text in encoded.dictionary.to_pylist()]
    positions = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    misfits: np.ndarray = ~np.array([*fits, True])[positions]
    return misfits
