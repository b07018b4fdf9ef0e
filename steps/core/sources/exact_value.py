"""One value of a source as a type of the contract has it, in plain Python: the rules that values.py keeps for columns.

number     digits with a sign, a point and an exponent, of ASCII; `decimal_mark: ","` for 1.234,5,
           `thousands_mark: ","` for 1,234.5 and `symbol: "%"` for 5 %. A whole one fits int and long however it is
           written (12.0, 1e3). NaN is missing, whatever its spelling
boolean    true, t, yes, y, 1 and their opposites, in any case; the numbers 1 and 0; `true_texts`, `false_texts`
date       2024-02-29, or by `format`; a timestamp that is midnight. Years 1 to 9999, in the Gregorian calendar
timestamp  ISO 8601 to the microsecond; without an offset in `zone` (UTC by default), where its hour must exist once.
           Nanoseconds of a typed timestamp are cut off
string     text without the blanks around it; a number or another value as its text

Blanks around a value are no part of it, and a value of blanks only is missing, as is one of the column's `missing`:
the same text, the same number or the same moment.
"""

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

from steps.core.columns import TIMES, Column
from steps.core.sources.exact_number import exact_decimal, exact_double, exact_whole, number_of
from steps.core.sources.exact_time import exact_date, exact_timestamp
from steps.core.sources.refusals import HAS_NUL, NOT_UTF8, Refused


def exact(value: Any, column: Column) -> Any:
    """One value of a source, as text or as Python has it, in the column's type; None when it is missing.

    Refused, with the rule that it breaks, when it is none of that type.
    """
    plain = _plain(value)
    if plain is None or _is_missing(plain, column):
        return None
    converted = EXACT[column.kind](plain, column)
    if column.missing and column.kind in TIMES and converted in missing_values(column):
        return None
    return converted


@lru_cache(maxsize=4096)
def missing_values(column: Column) -> tuple[Any, ...]:
    """What the column's `missing` are in its own type; those that are none of it left out."""
    plain, converted = column.model_copy(update={"missing": ()}), []
    for value in column.missing:
        try:
            converted.append(exact(value, plain))
        except Refused:
            continue
    return tuple(value for value in converted if value is not None)


def _plain(value: Any) -> Any:
    """A value without the blanks around it; None for an empty one, and for a float that is not a number."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return (value.strip() or None) if isinstance(value, str) else value


def _is_missing(value: Any, column: Column) -> bool:
    """Whether a value is one of the column's `missing`: as text, or as the same number."""
    if not column.missing:
        return False
    if str(value) in {str(text) for text in column.missing}:
        return True
    if column.kind == "string" or isinstance(value, bool):
        return False
    return _number_or_none(value, column) in missing_numbers(column)


@lru_cache(maxsize=4096)
def missing_numbers(column: Column) -> frozenset[Decimal]:
    """Those of the column's `missing` that are numbers, or texts of one."""
    numbers = [_number_or_none(value, column) for value in column.missing]
    return frozenset(number for number in numbers if number is not None)


def _number_or_none(value: Any, column: Column) -> Decimal | None:
    try:
        return number_of(value, column)
    except Refused:
        return None


def _exact_boolean(value: Any, column: Column) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).casefold()
    if isinstance(value, (float, Decimal)) and value in (0, 1):
        text = str(int(value))
    true, false = column.boolean_texts()
    if text in {word.casefold() for word in true}:
        return True
    if text in {word.casefold() for word in false}:
        return False
    raise Refused(
        f"are not of type boolean: {', '.join(true)} are true and {', '.join(false)} are false; "
        "true_texts and false_texts add words"
    )


def _exact_string(value: Any, column: Column) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    if "\ufffd" in text:
        raise Refused(NOT_UTF8)
    if "\x00" in text:
        raise Refused(HAS_NUL)
    return text


EXACT: dict[str, Callable[[Any, Column], Any]] = {
    "string": _exact_string,
    "boolean": _exact_boolean,
    **dict.fromkeys(("int", "long"), exact_whole),
    **dict.fromkeys(("float", "double"), exact_double),
    "decimal": exact_decimal,
    "date": exact_date,
    "timestamp": exact_timestamp,
}
