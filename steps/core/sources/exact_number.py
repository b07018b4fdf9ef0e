"""Numbers of a source exactly: as digits, and as whole numbers, doubles and decimals that lose none of them."""

import math
import re
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import numpy as np

from steps.core.columns import WHOLE_LIMITS, Column
from steps.core.sources.refusals import INFINITE, LOSES_DIGITS, NOT_WHOLE, OUT_OF_RANGE, Refused

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
LIKE_MARKS = str.maketrans({"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2019": "'"})  # as spreadsheets write them
SHARES = ("%", "\u2030")  # symbols without which a number is another one: 0.05 is 5 %
MOST_DIGITS = 40  # before the point, of what int() is asked for; no type has more than 38
WIDE = Context(prec=MOST_DIGITS)  # quantize() of a decimal(38,0) with all its digits


def number_of(value: Any, column: Column) -> Decimal | None:
    """A finite number, exactly; None for NaN."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise Refused(f"are not of type {column.type}")
    text = _with_point(value, column)
    if re.fullmatch(r"[+-]?nan", text, re.IGNORECASE):
        return None
    if re.fullmatch(r"[+-]?inf(inity)?", text, re.IGNORECASE):
        raise Refused(INFINITE)
    if not NUMBER.fullmatch(text):
        raise Refused(f"are not of type {column.type}")
    try:
        return Decimal(text)
    except InvalidOperation as err:  # an exponent beyond any number
        raise Refused(OUT_OF_RANGE.format(type=column.type)) from err


def exact_whole(value: Any, column: Column) -> int | None:
    """A value as a whole number of the column's type, None when it is missing. Refused for any other."""
    number = number_of(value, column)
    if number is None:
        return None
    if number.adjusted() > MOST_DIGITS:  # int() of 1e999999 would take all memory
        raise Refused(OUT_OF_RANGE.format(type=column.type))
    if number != (whole := int(number)):
        raise Refused(NOT_WHOLE)
    if not -WHOLE_LIMITS[column.kind] <= whole < WHOLE_LIMITS[column.kind]:
        raise Refused(OUT_OF_RANGE.format(type=column.type))
    return whole


def exact_double(value: Any, column: Column) -> float | None:
    """A value as a float or double, None when it is missing. Refused where digits would be lost or it is infinite."""
    number = number_of(value, column)
    if number is None:
        return None
    double = float(number)
    if column.kind == "float" and math.isfinite(double):
        with np.errstate(over="ignore"):
            double = float(np.float32(double))
    if math.isinf(double):
        raise Refused(OUT_OF_RANGE.format(type=column.type))
    is_whole = WHOLE.fullmatch(_with_point(value, column)) is not None  # a number to count or to name with
    if is_whole and column.kind == "double" and Decimal(double) != number:
        raise Refused(LOSES_DIGITS)
    return double


def exact_decimal(value: Any, column: Column) -> Decimal | None:
    """A value as the column's decimal, None when it is missing. Refused for more digits than it has."""
    number = number_of(value, column)
    if number is None:
        return None
    digits, after_point = column.decimal_digits
    if number and number.adjusted() >= digits - after_point:
        raise Refused(OUT_OF_RANGE.format(type=column.type))
    last_digit = Decimal((0, (1,), -after_point))
    rounded = number.quantize(last_digit, context=WIDE) if number else Decimal(0)
    if rounded != number:
        raise Refused(LOSES_DIGITS)
    return rounded


def _with_point(value: Any, column: Column) -> str:
    """A number as it is written with a point alone: 1.234,5 is 1234.5 where the comma is the decimal mark."""
    thousands, decimal = column.grouping_mark, column.decimal_mark
    if not isinstance(value, str):
        return str(value)
    text = without_symbol(value, column.symbol or "")
    if column.symbol in SHARES and text == value and re.search("[1-9]", text):
        raise Refused(f"are numbers without {column.symbol!r}, which may be shares of 1")
    if not thousands:  # where the decimal mark is a comma there is one
        return text
    text = text.translate(LIKE_MARKS)
    if _grouped(thousands, decimal).fullmatch(text):
        text = text.replace(thousands, "")
    elif decimal != "." and "." in text:
        raise Refused(f"are not of type {column.type}, with {decimal!r} as the decimal mark")
    return text.replace(decimal, ".")


def as_held(number: float, kind: type[np.floating]) -> float:
    """A number as floats of a kind hold it: 0.1 is 0.10000000149011612 as a float32. Itself where these would write it
    with other digits, so that none of them is equal to it."""
    with np.errstate(over="ignore"):
        held = kind(number)
    return float(held) if float(str(held)) == number else float(number)


def without_symbol(text: str, symbol: str) -> str:
    """A number without its symbol, if there is one, before or after it, and the blanks between: -5 of -$5, 5 of 5 %."""
    found = re.fullmatch(around_symbol(symbol), text) if symbol else None
    return "".join(filter(None, found.groups())) if found else text


def around_symbol(symbol: str) -> str:
    """A regular expression of texts with the symbol: its groups are what is left."""
    return rf"([+-]?)\s*{re.escape(symbol)}\s*(.*)|(.*?)\s*{re.escape(symbol)}"


@lru_cache
def _grouped(thousands: str, decimal: str) -> re.Pattern[str]:
    """A number with a mark between its thousands: 1.234.567,89."""
    return re.compile(rf"[+-]?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+(?:{re.escape(decimal)}\d*)?", re.ASCII)
