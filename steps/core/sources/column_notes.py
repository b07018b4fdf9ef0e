"""What a user should know of the type that was inferred for a column: what was left as it is, and how to say more."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from steps.core.columns import Column
from steps.core.sources import exact_number, exact_time, values
from steps.core.sources.written_forms import (
    AMBIGUOUS_POINT,
    CODE,
    DAY_MONTH,
    MARKED_NUMBER,
    MOSTLY,
    WHOLE,
    are_ambiguous_commas,
    are_mostly_dates,
    beyond_months,
    symbol_in,
    word_beside_numbers,
)

FORMULA = re.compile(r'="[^"]*"')
# Windows' letters for the first bytes of UTF-8's Latin, Greek and Cyrillic letters and dashes, and for the next ones
MISREAD = "[ÂÃÄÅÎÏÐÑâ][\u0080-\u00bf\u0152-\u017e\u0192\u02c6\u02dc\u2013-\u2122]"
WHOLE_EXPONENT = re.compile(r"\d+[eE]\d+", re.ASCII)
SENTINELS = (-9, -99, -999, -9999, -99999, 999, 9999, 99999)  # numbers that often stand for a missing value
WIDEST = "decimal(38,0)"  # of the types of whole numbers
SHOWN_CHARACTERS = 80  # of a value
MARKS = (  # in which numbers may be written, those of thousands alone first
    *({"thousands_mark": mark} for mark in " ',"),
    *({"decimal_mark": ",", "thousands_mark": mark} for mark in ". '"),
)
FIRST_DAY, LAST_DAY = 19000101, 21001231  # as numbers


def missing(words: Sequence[str]) -> list[str]:
    """A note on words that stand for a missing value, where there are any."""
    return [f"missing where it says {shown(words)}"] if words else []


def kept(words: Sequence[str]) -> list[str]:
    """A note on words that might stand for a missing value and do not, where there are any."""
    return [f"{shown(words)} are kept as values (`missing` would change that)"] if words else []


def of_numbers(numbers: pa.Array) -> list[str]:
    """Numbers that are missing, or days, only when the user says so; of other types there are none."""
    if not (pa.types.is_integer(numbers.type) or pa.types.is_floating(numbers.type)):
        return []
    return [*_of_sentinels(numbers), *of_days(numbers)]


def of_days(numbers: pa.Array) -> list[str]:
    """Whole numbers all of which are written as days are: 20240131."""
    if not pa.types.is_integer(numbers.type) or len(numbers) < 2:
        return []
    found = numbers.to_numpy()
    if found.min() < FIRST_DAY or found.max() > LAST_DAY:
        return []
    months, days = found // 100 % 100, found % 100
    if not ((months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all():
        return []
    return [f'a number, as {found.min()} may be one; if it is a day, say `type: date, format: "%Y%m%d"`']


def _of_sentinels(numbers: pa.Array) -> list[str]:
    is_sentinel = pc.is_in(numbers, value_set=pa.array(SENTINELS, numbers.type))
    others = numbers.filter(pc.invert(is_sentinel)).drop_null()
    if len(others) < 2:
        return []
    low, high = pc.min(others).as_py(), pc.max(others).as_py()
    found = sorted(pc.unique(numbers.filter(is_sentinel)).to_pylist())
    far = [number for number in found if not low - (high - low) <= number <= high + (high - low)]
    return [f"{number:g} lies far from all others; if it means missing, say `missing: [{number:g}]`" for number in far]


def of_points(with_points: Sequence[str]) -> list[str]:
    """Numbers a thousand times as large where a point would be of thousands, which none of them rules out."""
    if not with_points or not all(map(AMBIGUOUS_POINT.fullmatch, with_points)):
        return []
    return [f'{with_points[0]!r} is read with a decimal point; if it is one of thousands, say `decimal_mark: ","`']


def of_exponents(texts: Sequence[str]) -> list[str]:
    """Numbers all of which are whole with an exponent, as codes such as 1E1 and 10E0 look, which are one number."""
    if not texts or not all(map(WHOLE_EXPONENT.fullmatch, texts)):
        return []
    return [f"{texts[0]!r} is read as a number; if it is a code, say `type: string`"]


def of_zones(texts: Sequence[str]) -> list[str]:
    """Moments of which some say their zone and others do not."""
    matches = [(text, exact_time.MOMENT.fullmatch(text)) for text in texts]
    with_zone = [text for text, matched in matches if matched and matched.groups()[-1]]
    if not with_zone or len(with_zone) == len(texts):
        return []
    without = next(text for text, matched in matches if not matched or not matched.groups()[-1])
    return [f"{without!r} counts as UTC, as it says no zone, unlike {with_zone[0]!r}; if it is of another, say `zone`"]


def of_misread_letters(texts: pa.Array) -> list[str]:
    """Texts that were UTF-8 and were read as an encoding of one byte before they came here: `Ã©` in place of `é`."""
    for text in texts.filter(pc.match_substring_regex(texts, MISREAD)).to_pylist():
        if meant := _read_as_utf8(text):
            return [f"{_quoted(text)} seems to be {_quoted(meant)}, which was misread before it came here"]
    return []


def _read_as_utf8(text: str) -> str:
    """What the text was before it was misread, once or more often; "" where it was not."""
    try:
        meant = b"".join(letter.encode("latin-1" if letter <= "\xff" else "cp1252") for letter in text).decode()
    except UnicodeError:
        return ""
    return "" if meant == text else _read_as_utf8(meant) or meant


def of_texts(texts: Sequence[str]) -> list[str]:
    """Why these different texts are to be text, where another type may have been meant."""
    others = [text for text in texts if not exact_number.NUMBER.fullmatch(text)]
    numbers = len(texts) - len(others)
    if not others:
        return [f"text, as {_reason_of_no_number(texts)}"]
    symbol = symbol_in(texts)
    if are_ambiguous_commas([exact_number.without_symbol(text, symbol) for text in texts]):
        kind = f"`type: double, symbol: {_in_yaml(symbol)}`" if symbol else "`type: double`"
        which = f'{kind} with `thousands_mark: ","` or `decimal_mark: ","` says which'
        return [f"text, as its commas may be of thousands or of decimals; {which}"]
    if numbers >= MOSTLY * len(texts) or numbers > len(others) == 1:
        return [f"text, as {_quoted(others[0])} is no number"]
    if all(DAY_MONTH.fullmatch(text) for text in texts):
        return [f"text, as {_reason_of_day_months(texts)}"]
    if are_mostly_dates(texts):
        return [f"text, as {_reason_of_no_date(texts)}"]
    bare = [text for text in texts if symbol not in text]
    if symbol and bare and (keys := _readable_with(texts, symbol)):
        return [f"text, as {bare[0]!r} is without the {symbol!r} of others; {keys} reads both"]
    if all(map(FORMULA.fullmatch, texts)):
        return [f"text, with the `=` and the quotes of {_quoted(texts[0])}, as spreadsheets write codes"]
    if all(len(text) > 1 and text[0] == text[-1] == "'" for text in texts):
        return ['text in single quotes; `quote: "\'"` under source.options takes them off']
    if (word := word_beside_numbers(texts)) and (keys := _readable_with(texts, word)):
        return [f"text, as its numbers stand beside {word!r}; {keys} reads them"]
    if all(map(MARKED_NUMBER.fullmatch, texts)):
        return [f"text, as {_reason_of_marks(texts, others[0], symbol)}"]
    return []


def _readable_with(texts: Sequence[str], symbol: str) -> str:
    """The keys by which these texts are numbers beside a symbol, none of which loses a zero; "" where none are."""
    plain = [exact_number.without_symbol(text, symbol) for text in texts]
    if any(map(CODE.fullmatch, plain)) or are_ambiguous_commas(plain):
        return ""
    return _keys_that_read(texts, [{"symbol": symbol}, {"symbol": symbol, "decimal_mark": ","}])


def _keys_that_read(texts: Sequence[str], ways: Iterable[Mapping[str, str]]) -> str:
    """The keys of a column of doubles, the first of these `ways` by which it refuses none of the texts; "" for none."""
    for way in ways:
        try:
            column = Column.model_validate({"type": "double", **way})
        except ValidationError:  # of a symbol that a column cannot have
            continue
        if not values.convert(pa.array(texts, pa.string()), column).broken:
            return f"`type: double, {', '.join(f'{key}: {_in_yaml(text)}' for key, text in way.items())}`"
    return ""


def _reason_of_marks(texts: Sequence[str], marked: str, symbol: str) -> str:
    """Why these texts, digits with marks, are not to be numbers; `marked` is the first that is none."""
    bare = [exact_number.without_symbol(text, symbol) for text in texts]
    if lost := _lost_of_codes(bare, texts):
        return lost
    if keys := _keys_that_read(texts, MARKS):
        return f"not all of it is written as {marked!r} is; {keys} reads it"
    return f"a number is digits, with marks of decimals and thousands, and nothing else, unlike {marked!r}"


def _in_yaml(text: str) -> str:
    """A text as it is written in a config."""
    return json.dumps(text, ensure_ascii=False)


def _reason_of_no_number(numbers: Sequence[str]) -> str:
    """Why these texts, each of which is written as a number, are not to be numbers."""
    if lost := _lost_of_codes(numbers, numbers):
        return lost
    if all(map(WHOLE.fullmatch, numbers)):
        held = "" if _breaks(numbers, WIDEST) else f"; `type: {WIDEST}` holds all of them"
        return f"{_quoted(_first_broken(numbers, {'type': 'long'}))} is out of the range of a long{held}"
    return f"a double does not hold {_quoted(_first_broken(numbers, {'type': 'double'}))} as it stands"


def _lost_of_codes(plain: Sequence[str], texts: Sequence[str]) -> str:
    """What a number would lose of the first text that is a code, by the texts in their `plain` form; "" for none."""
    for code, text in zip(plain, texts, strict=True):
        if CODE.fullmatch(code):
            return f"a number would lose the {'plus' if re.fullmatch(r'[+][1-9].*', code) else 'zero'} of {text!r}"
    return ""


def _reason_of_day_months(texts: Sequence[str]) -> str:
    """Why these texts, all of which are dates with the year at the end, are not to be dates."""
    days_first, days_second = beyond_months([match for text in texts if (match := DAY_MONTH.fullmatch(text))])
    if days_first and days_second:
        return f"the day comes first in {days_first[0]!r} and second in {days_second[0]!r}"
    if days_first or days_second:
        shortest, longest = min(texts, key=len), max(texts, key=len)
        return f"dates are not all written in one way: {shortest!r}, {longest!r}"
    return "no date shows which number is the day; `type: date, format: ...` says which"


def _reason_of_no_date(texts: Sequence[str]) -> str:
    """Why these texts, nearly all of which are written as dates, are not to be dates."""
    others = [text for text in texts if not exact_time.MOMENT.fullmatch(text)]
    if len(others) > (1 - MOSTLY) * len(texts):
        kind = "timestamp" if ":" in others[0] else "date"
        return f"{_quoted(others[0])} is a date in a form that is not inferred; `type: {kind}, format: ...` says which"
    broken = _first_broken(texts, {"type": "timestamp"})
    if re.search(r"[.,]\d{7}", broken):
        return f"{broken!r} has more than the six digits of a second that a timestamp holds"
    return f"{broken!r} is no date; if it means missing, say `missing: [{broken!r}]`"


def _first_broken(texts: Sequence[str], keys: dict[str, object]) -> str:
    """The first text that a column with these keys refuses."""
    masks = values.convert(pa.array(texts, pa.string()), Column.model_validate(keys)).broken.values()
    return texts[min(int(np.flatnonzero(mask)[0]) for mask in masks)]


def _breaks(texts: Sequence[str], kind: str) -> bool:
    return bool(values.convert(pa.array(texts, pa.string()), Column(type=kind)).broken)


def shown(words: Sequence[str]) -> str:
    """Words in quotes, for a message."""
    return ", ".join(map(repr, words))


def _quoted(text: str) -> str:
    """A text in quotes, for a message; of a long one the start."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")
