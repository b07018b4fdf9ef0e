"""Dates and moments of a source exactly: ISO 8601 or a column's format, in a zone, in the years 1 to 9999."""

import datetime as dt
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from steps.core.columns import Column
from steps.core.sources.exact_number import NUMBER
from steps.core.sources.refusals import LOSES_DIGITS, NO_SUCH_TIME, NOT_IN_CALENDAR, Refused

MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d(?::\d\d(?::\d\d(?:[.,](\d+))?)?)?))? ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)

ADJACENT_NUMBERS = re.compile(r"(?:%[YymdHMS]){2,}")  # in a format


def exact_date(value: Any, column: Column) -> dt.date:
    """A value as a date. Refused for one with a time of day, and for numbers, unless the column
    has a format."""
    if (text := _text_of(value, column)) is not None:
        return _moment(text, column, "date").date()
    if isinstance(value, dt.datetime):
        if value.replace(tzinfo=None) != dt.datetime.combine(value.date(), dt.time()):
            raise Refused("are not of type date, as they have a time of day")
        return value.date()
    if isinstance(value, dt.date):
        return value
    raise Refused("are not of type date")


def exact_timestamp(value: Any, column: Column) -> dt.datetime:
    """A value as a moment in UTC; one without a zone is in the column's. Refused for numbers, unless the
    column has a format."""
    if (text := _text_of(value, column)) is not None:
        moment = _moment(text, column, "timestamp")
    elif isinstance(value, dt.datetime):
        moment = value
    elif isinstance(value, dt.date):
        moment = dt.datetime.combine(value, dt.time())
    elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        raise Refused("are not of type timestamp: numbers, such as seconds since 1970, are none")
    else:
        raise Refused("are not of type timestamp")
    try:
        return moment.astimezone(dt.UTC) if moment.tzinfo else _in_zone(moment, column)
    except OverflowError as err:
        raise Refused(NOT_IN_CALENDAR) from err


def _text_of(value: Any, column: Column) -> str | None:
    """A text, or a whole number whose digits are to be read by the column's format (20240131), as text; None else. Of
    whole numbers beside missing ones pandas makes doubles."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or column.format is None:
        return None
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole else None


def _in_zone(moment: dt.datetime, column: Column) -> dt.datetime:
    """The moment at which clocks of the column's zone show this time, which they must do once."""
    local = moment.replace(tzinfo=ZoneInfo(column.zone or "UTC"))
    first, second = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    if first != second:
        raise Refused(NO_SUCH_TIME)
    return local.astimezone(dt.UTC)


def _moment(text: str, column: Column, kind: str) -> dt.datetime:
    """A date or a moment, with its offset from UTC if it says one."""
    try:
        moment = _formatted_moment(text, column.format) if column.format else _iso_moment(text, kind)
    except Refused:
        raise
    except ValueError as err:
        raise Refused(f"are not of type {kind}{f' by the format {column.format}' if column.format else ''}") from err
    if kind == "date" and (moment.time() != dt.time() or moment.utcoffset()):
        raise Refused("are not of type date, as they have a time of day")
    return moment


def _formatted_moment(text: str, time_format: str) -> dt.datetime:
    """By a format; with all digits of numbers that nothing is between, since 1112024 by %d%m%Y may mean two days.
    ValueError for any other text."""
    moment = dt.datetime.strptime(text, time_format)
    if ADJACENT_NUMBERS.search(time_format) and not _with_all_digits(time_format).fullmatch(text):
        raise ValueError(text)
    return moment


@lru_cache(maxsize=256)
def _with_all_digits(time_format: str) -> re.Pattern[str]:
    """What a text by a format is like whose adjacent numbers have all of their digits."""
    pattern = ""
    for part in re.findall(rf"{ADJACENT_NUMBERS.pattern}|%.|[^%]", time_format):
        if ADJACENT_NUMBERS.fullmatch(part):
            pattern += part.replace("%Y", "[0-9]{4}")
            pattern = re.sub("%[ymdHMS]", "[0-9]{2}", pattern)
        else:
            pattern += ".+" if part[0] == "%" else r"\s+" if part.isspace() else re.escape(part)
    return re.compile(pattern, re.IGNORECASE)


def _iso_moment(text: str, kind: str) -> dt.datetime:
    """By ISO 8601, of which a fraction is read of seconds only. ValueError for what is not in the calendar."""
    if not (matched := MOMENT.fullmatch(text)):
        is_number = NUMBER.fullmatch(text) is not None
        raise Refused(f"are not of type {kind}{': numbers, such as seconds since 1970, are none' if is_number else ''}")
    day, time, fraction, offset = matched.groups()
    if (fraction or "").rstrip("0")[6:]:
        raise Refused(LOSES_DIGITS)
    time = f"{time[:8]}.{fraction[:6]:0<6}" if fraction else time or "00:00"
    zone = "" if offset is None else "+00:00" if offset.upper() in ("Z", "UTC") else offset
    return dt.datetime.fromisoformat(f"{day}T{time}{zone}")
