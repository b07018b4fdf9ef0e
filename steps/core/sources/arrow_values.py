"""Arrow's own parsers and casts, column by column, and where they may not say what exact_value.exact() says."""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import EXACT_DOUBLE, Column

DAY = (  # any of a year but 29 February, on which calendars must be asked
    r"\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?"
SHORTEST_TIME = len("2024-02-29T12:30")
FORMAT = re.compile(r"(?:%[YmdHMS]|[^%])+")  # directives that C's strptime and Python's read alike
LAST_SUMMER = pa.scalar(dt.datetime(2037, 1, 1), pa.timestamp("us"))  # that Arrow's rules of time zones are sure of
UTC_MICROSECONDS = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Read:
    """(n,) values as Arrow's parsers have them, and where exact() is to be asked, as far as the values show it."""

    values: pa.Array
    is_unsure: pa.Array | None = None


def arrow_type(column: Column) -> pa.DataType:
    """What the table has for a column."""
    if column.kind == "decimal":
        return pa.decimal128(*column.decimal_digits)
    return {
        "string": pa.string(),
        "boolean": pa.bool_(),
        "int": pa.int32(),
        "long": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "timestamp": UTC_MICROSECONDS,
    }[column.type]


def read(values: pa.Array, column: Column) -> Read | None:
    """Values as Arrow has them in the column's type; None where it has no conversion, or refuses one of them."""
    try:
        return READERS[column.kind](values, column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def stripped_texts(texts: pa.Array) -> pa.Array:
    """Texts without the blanks around them, null where nothing is left."""
    stripped = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def plain_decimal(column: Column) -> str:
    """A regular expression of texts that Arrow reads as the column's decimal: of more digits it makes other numbers."""
    digits, after_point = column.decimal_digits
    fraction = rf"(?:\.\d{{1,{after_point}}})?" if after_point else ""
    return rf"-?\d{{1,{digits - after_point}}}{fraction}" if digits > after_point else "[^\\s\\S]"


def _read_strings(values: pa.Array, column: Column) -> Read:
    if pa.types.is_integer(values.type):
        return Read(values.cast(pa.string()))
    if not pa.types.is_string(values.type):
        raise pa.ArrowNotImplementedError
    texts = stripped_texts(values)
    return Read(texts, pc.match_substring_regex(texts, "[\x00\ufffd]"))


def _read_booleans(values: pa.Array, column: Column) -> Read:
    if not pa.types.is_boolean(values.type):
        raise pa.ArrowNotImplementedError
    return Read(values)


def _read_whole(values: pa.Array, column: Column) -> Read:
    _refuse_other_kinds(values)
    if pa.types.is_string(values.type) and pc.any(pc.match_substring(values, "x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid  # Arrow takes 0x1F for 31
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        if pc.any(pc.greater(pc.abs(values), float(EXACT_DOUBLE))).as_py():
            raise pa.ArrowInvalid
    return Read(values.cast(arrow_type(column)))


def _read_doubles(values: pa.Array, column: Column) -> Read:
    _refuse_other_kinds(values)
    # By its digits a decimal is the nearest double, of which Arrow's own cast misses the last one.
    digits = values.cast(pa.string()) if pa.types.is_decimal(values.type) else values
    numbers = digits.cast(pa.float64(), safe=False)
    is_unsure = pc.is_inf(numbers)
    if not pa.types.is_floating(values.type):
        is_unsure = pc.or_(is_unsure, _may_lose_digits(values, numbers))
    if pa.types.is_string(values.type):
        is_unsure = pc.or_(is_unsure, pc.is_nan(numbers))  # Arrow takes nan(abc) as well
    if column.kind == "float":
        numbers = numbers.cast(pa.float32(), safe=False)
        is_unsure = pc.or_(is_unsure, pc.is_inf(numbers))
    return Read(pc.if_else(pc.is_nan(numbers), pa.scalar(None, numbers.type), numbers), is_unsure)


def _may_lose_digits(values: pa.Array, numbers: pa.Array) -> pa.Array:
    """Where a whole number, as its digits are, may be none of the doubles."""
    is_huge = pc.greater_equal(pc.abs(numbers), float(EXACT_DOUBLE))
    if pa.types.is_string(values.type) and pc.any(is_huge).as_py():
        return pc.and_(is_huge, pc.match_substring_regex(values, r"^\s*[+-]?\d+\s*$"))
    return is_huge


def _read_decimals(values: pa.Array, column: Column) -> Read:
    if not (pa.types.is_string(values.type) or pa.types.is_decimal(values.type) or pa.types.is_integer(values.type)):
        raise pa.ArrowNotImplementedError
    if pa.types.is_string(values.type):
        is_plain = pc.match_substring_regex(values, f"^(?:{plain_decimal(column)})$")
        if not pc.all(is_plain, min_count=0).as_py():
            raise pa.ArrowInvalid
    return Read(values.cast(arrow_type(column)))


def _read_dates(values: pa.Array, column: Column) -> Read:
    if not pa.types.is_date(values.type):
        raise pa.ArrowNotImplementedError  # texts have few different days
    return Read(values.cast(pa.date32()))


def _read_timestamps(values: pa.Array, column: Column) -> Read:
    if pa.types.is_timestamp(values.type):
        microseconds = pc.floor_temporal(values, unit="microsecond") if values.type.unit == "ns" else values
        if values.type.tz:
            return Read(microseconds.cast(UTC_MICROSECONDS))
        return _in_zone(microseconds.cast(pa.timestamp("us")), column)
    if not pa.types.is_string(values.type):
        raise pa.ArrowNotImplementedError
    if column.format:
        return _read_formatted(values, column)
    is_short = pc.less(pc.utf8_length(values), SHORTEST_TIME)
    if pc.any(is_short).as_py() and not pc.all(pc.match_substring_regex(values.filter(is_short), f"^{DAY}$")).as_py():
        raise pa.ArrowInvalid  # Arrow takes hours without minutes
    try:
        return Read(values.cast(UTC_MICROSECONDS))
    except pa.ArrowInvalid:
        return _in_zone(values.cast(pa.timestamp("us")), column)


def _read_formatted(texts: pa.Array, column: Column) -> Read:
    """By C's strptime, which takes 30 February for 1 March: where the moment is written as the text is."""
    if not FORMAT.fullmatch(str(column.format)):
        raise pa.ArrowNotImplementedError
    moments = pc.strptime(texts, format=column.format, unit="s", error_is_null=True)
    is_same = pc.equal(pc.strftime(moments, format=column.format), texts).fill_null(False)
    read = _in_zone(moments.cast(pa.timestamp("us")), column)
    return Read(read.values, pc.or_(read.is_unsure, pc.and_(pc.invert(is_same), texts.is_valid())))


def _in_zone(local: pa.Array, column: Column) -> Read:
    """Moments by the clocks of a zone; unsure where these do not show a time once, and where Arrow knows no summer."""
    if (column.zone or "UTC") == "UTC":
        return Read(local.cast(UTC_MICROSECONDS), pa.array(np.zeros(len(local), dtype=bool)))
    first, last = (
        pc.assume_timezone(local, column.zone, ambiguous=which, nonexistent=which) for which in ("earliest", "latest")
    )
    is_unsure = pc.or_(pc.not_equal(first, last), pc.greater_equal(local, LAST_SUMMER))
    return Read(first.cast(UTC_MICROSECONDS), is_unsure.fill_null(False))  # a null is missing, or told of otherwise


def _refuse_other_kinds(values: pa.Array) -> None:
    if pa.types.is_boolean(values.type) or pa.types.is_temporal(values.type):
        raise pa.ArrowNotImplementedError


READERS: dict[str, Callable[[pa.Array, Column], Read]] = {
    "string": _read_strings,
    "boolean": _read_booleans,
    **dict.fromkeys(("int", "long"), _read_whole),
    **dict.fromkeys(("float", "double"), _read_doubles),
    "decimal": _read_decimals,
    "date": _read_dates,
    "timestamp": _read_timestamps,
}


def true_mask(answers: pa.Array) -> np.ndarray:
    """Arrow's booleans as NumPy's, null as false."""
    mask: np.ndarray = answers.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
