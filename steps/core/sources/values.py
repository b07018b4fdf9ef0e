"""Columns of a source as the contract's types have them: strictly, the same from text as from typed columns.

exact_value.py says what one value is. Arrow's own parsers are as strict on plainly written values, and a hundred times
as fast. What they refuse or take too lightly goes through exact(), once a different value.
"""

import datetime as dt
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import NUMBERS, TIMES, Column
from steps.core.sources import arrow_values, exact_value
from steps.core.sources.arrow_values import DAY, TIME, arrow_type, plain_decimal, stripped_texts, true_mask
from steps.core.sources.exact_number import SHARES, around_symbol, as_held
from steps.core.sources.exact_value import exact, missing_numbers
from steps.core.sources.refusals import NOT_IN_CALENDAR, Refused

PLAIN = {  # by kind, texts of which Arrow's parsers and exact() make the same value
    **dict.fromkeys(("int", "long"), r"-?\d{1,18}"),
    **dict.fromkeys(("float", "double"), r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"),
    "timestamp": rf"{DAY}(?:[T ]{TIME})?",
}
TIME_WITH_OFFSET = rf"{DAY}[T ]{TIME}(?:Z|[+-](?:0\d|1[0-3]):?[0-5]\d)"
FIRST_DAY, LAST_DAY = (day.toordinal() - dt.date(1970, 1, 1).toordinal() for day in (dt.date.min, dt.date.max))
FLOAT_TYPES: dict[pa.DataType, type[np.floating]] = {
    pa.float16(): np.float16,
    pa.float32(): np.float32,
}  # narrower ones
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second


@dataclass(frozen=True, kw_only=True)
class Converted:
    """(n,) `values` of the contract's type, null where missing or refused; (n,) masks of the refused, by rule.

    `float_type` is what the source holds floats as: what a config says is compared with them as that holds it.
    """

    values: pa.Array
    broken: dict[str, np.ndarray] = field(default_factory=dict)
    float_type: type[np.floating] = np.float64


def convert(raw: pa.Array | pa.ChunkedArray, column: Column) -> Converted:
    """(n,) values of a source, text or of any type of Arrow's, as those of a column of the contract."""
    plain = _plain(raw)
    if float_type := FLOAT_TYPES.get(plain.type):
        numbers = plain.cast(pa.float32())
        converted = _convert(_without_missing(numbers, column, float_type), column)
        return replace(converted, float_type=float_type)
    if pa.types.is_null(plain.type):
        return Converted(values=pa.nulls(len(plain), arrow_type(column)))
    if pa.types.is_nested(plain.type):
        return _refuse(
            pa.nulls(len(plain), arrow_type(column)), f"are not of type {column.type}", true_mask(plain.is_valid())
        )
    is_outside = _is_outside_calendar(plain)
    if is_outside.any():
        inside = convert(pc.if_else(pa.array(is_outside), pa.scalar(None, plain.type), plain), column)
        return _refuse(inside.values, NOT_IN_CALENDAR, is_outside, beside=inside.broken)
    return _convert(plain, column)


def _refuse(values: pa.Array, rule: str, mask: np.ndarray, *, beside: dict[str, np.ndarray] | None = None) -> Converted:
    return Converted(values=values, broken={**(beside or {}), **({rule: mask} if mask.any() else {})})


def _plain(raw: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, of one of Arrow's types for the same values."""
    array = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain(array.cast(kind.value_type))
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return array.cast(pa.string())
    return array


def _without_missing(numbers: pa.Array, column: Column, float_type: type[np.floating]) -> pa.Array:
    """Numbers of a narrow type, null where one is a `missing` of the column as that type holds it."""
    if not column.missing or column.kind == "string":  # of which the text counts
        return numbers
    held = [as_held(float(number), float_type) for number in missing_numbers(column)]
    is_missing = pc.is_in(numbers.cast(pa.float64()), value_set=pa.array(held, pa.float64()))
    return pc.if_else(is_missing, pa.scalar(None, numbers.type), numbers)


def _is_outside_calendar(values: pa.Array) -> np.ndarray:
    """Where a date or a moment is in no year that Python has."""
    kind = values.type
    if pa.types.is_date32(kind):
        ticks, ticks_a_day = values.cast(pa.int32()), 1
    elif pa.types.is_date64(kind) or pa.types.is_timestamp(kind):
        ticks, ticks_a_day = values.cast(pa.int64()), 86_400 * UNITS["ms" if pa.types.is_date64(kind) else kind.unit]
    else:
        return np.zeros(len(values), dtype=bool)
    first, after = FIRST_DAY * ticks_a_day, (LAST_DAY + 1) * ticks_a_day
    if first < -(2**63):  # nanoseconds are never so far away
        return np.zeros(len(values), dtype=bool)
    return true_mask(pc.or_(pc.less(ticks, first), pc.greater_equal(ticks, after)))


def _convert(values: pa.Array, column: Column) -> Converted:
    """By Arrow's parsers as they are; else by them where a text is plainly written; else by exact()."""
    settled = _settled(values, column)
    if settled is None and pa.types.is_string(values.type):
        texts = _plainly_written(stripped_texts(values), column)
        is_plain = _is_plain(texts, column)
        settled = _settled(pc.if_else(is_plain, texts, pa.scalar(None, pa.string())), column, texts=values)
    if settled is None:
        return _by_value(values, column)
    read, is_unsure = settled
    if not is_unsure.any():
        return Converted(values=read)
    others = _by_value(values.filter(pa.array(is_unsure)), column)
    broken = {}
    for rule, mask in others.broken.items():
        broken[rule] = np.zeros(len(values), dtype=bool)
        broken[rule][is_unsure] = mask
    return Converted(values=pc.replace_with_mask(read, pa.array(is_unsure), others.values), broken=broken)


def _settled(values: pa.Array, column: Column, *, texts: pa.Array | None = None) -> tuple[pa.Array, np.ndarray] | None:
    """What Arrow's parsers make of values, and where exact() is to be asked; None where they refuse one.

    `values` are null where they are not asked at all, of which `texts` has all.
    """
    if texts is None and pa.types.is_string(values.type) and (column.decimal_mark != "." or column.symbol in SHARES):
        return None
    if (read := arrow_values.read(values, column)) is None:
        return None
    is_unsure = np.zeros(len(values), dtype=bool) if read.is_unsure is None else true_mask(read.is_unsure)
    if texts is not None:
        is_unsure |= true_mask(pc.and_(values.is_null(), texts.is_valid()))
    if column.missing:
        is_unsure |= _may_be_missing(texts if texts is not None else values, read.values, column)
    if pa.types.is_timestamp(read.values.type) or pa.types.is_date(read.values.type):
        is_unsure |= _is_outside_calendar(read.values)
    return read.values, is_unsure


def _may_be_missing(values: pa.Array, read: pa.Array, column: Column) -> np.ndarray:
    """Where exact() must say whether a value is one of the column's `missing`: as text, number or moment."""
    may_be = np.zeros(len(values), dtype=bool)
    if pa.types.is_string(values.type):
        words = pa.array([str(value).strip() for value in column.missing])
        may_be |= true_mask(pc.is_in(pc.utf8_trim_whitespace(values), value_set=words))
    elif column.kind == "string":
        words = pa.array([str(value) for value in column.missing])
        may_be |= true_mask(pc.is_in(read, value_set=words))
    if column.kind in (*NUMBERS, *TIMES):
        values_of_missing = exact_value.missing_values(column)
        zeros = (-0.0,) if column.kind in ("float", "double") and 0 in values_of_missing else ()  # another to is_in()
        may_be |= true_mask(pc.is_in(read, value_set=pa.array([*values_of_missing, *zeros], read.type)))
    return may_be


def _plainly_written(texts: pa.Array, column: Column) -> pa.Array:
    """Numbers with a point as their only mark, and whole ones without a fraction of zeros."""
    if column.symbol:
        with_symbol = f"^(?:{around_symbol(column.symbol)})$"
        if column.symbol in SHARES:
            is_with = pc.match_substring_regex(texts, with_symbol)
            texts = pc.if_else(is_with, texts, pa.scalar(None, pa.string()))  # exact() tells a 0 from a share of 1
        texts = pc.replace_substring_regex(texts, with_symbol, r"\1\2\3")
    if (thousands := column.grouping_mark) and column.kind in NUMBERS:
        digits = rf"(?:\d+|\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+)"
        is_plain = pc.match_substring_regex(texts, rf"^-?{digits}(?:{re.escape(column.decimal_mark)}\d+)?$")
        with_points = pc.replace_substring(pc.replace_substring(texts, thousands, ""), column.decimal_mark, ".")
        texts = pc.if_else(is_plain, with_points, pa.scalar(None, pa.string()))
    if column.kind in ("int", "long"):
        return pc.replace_substring_regex(texts, r"^(-?\d+)\.0+$", r"\1")
    return texts


def _is_plain(texts: pa.Array, column: Column) -> pa.Array:
    """Where a text is written in one of the ways that Arrow's parsers read as exact() does."""
    pattern = plain_decimal(column) if column.kind == "decimal" else PLAIN.get(column.kind, "")
    if column.format:
        return texts.is_valid()
    if column.kind == "timestamp":  # of those with an offset and those without, whichever are more
        ways = [pc.match_substring_regex(texts, f"^{way}$") for way in (pattern, TIME_WITH_OFFSET)]
        return max(ways, key=lambda way: pc.sum(way).as_py() or 0)
    return pc.match_substring_regex(texts, f"^(?:{pattern})$") if pattern else pa.array([False] * len(texts))


def _by_value(values: pa.Array, column: Column) -> Converted:
    """What exact() says of each different value."""
    encoded = values.dictionary_encode()
    converted, rules = [], []
    for value in _python_values(encoded.dictionary, column):
        try:
            converted.append(exact(value, column))
            rules.append("")
        except Refused as err:
            converted.append(None)
            rules.append(str(err))
    looked_up = pa.array(converted, arrow_type(column)).take(encoded.indices)
    positions = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    rule_of = np.array([*rules, ""], dtype=object)[positions]  # -1 is the last: a missing value breaks none
    return Converted(values=looked_up, broken={rule: rule_of == rule for rule in sorted({*rules} - {""})})


def _python_values(values: pa.Array, column: Column) -> list[Any]:
    """As Python's own; a float32 in digits is 0.1, not the 0.10000000149011612 that the same double has."""
    if pa.types.is_float32(values.type) and column.kind in ("string", "decimal"):
        return [None if value is None else float(str(np.float32(value))) for value in values.to_pylist()]
    return list(values.to_pylist())
