"""The type of a column, from a sample: the narrowest that all of its values are of, by the contract's own rules."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import Column
from steps.core.sources import exact_number, exact_time, values
from steps.core.sources.arrow_values import stripped_texts

MISSING_WORDS = frozenset(  # in lower case; missing where all other values are numbers, times or booleans
    {"na", "n/a", "#n/a", "<na>", "null", "none", "nil", "nan", "missing", "unknown", r"\n", "?", "-", "--", "."}
)
PERHAPS_A_CLASS = frozenset({"none", "nil", "missing", "unknown"})  # of these, what may be a target's own class
INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "-infinity"})  # which no column may hold
SENTINELS = (-9, -99, -999, -9999, -99999, 999, 9999, 99999)  # numbers that often stand for a missing value
BOOLEANS = (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("wahr", "falsch"), ("ja", "nein"))
KNOWN_BOOLEANS = 4  # of BOOLEANS, those that the contract knows without true_texts
PLAIN_NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?$"  # of Arrow's syntax
PLAIN_WHOLE = r"^-?\d+$"
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
CODE = re.compile(r"[+-]?0\d.*|\+\d{7,}", re.ASCII)  # a number would lose the zero, or the plus of a telephone's
COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?", re.ASCII)
AMBIGUOUS_POINT = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)  # 1.234, where no number tells which it is
TIMES_OF_DAY = ("", " %H:%M", " %H:%M:%S")  # in a format, by how many colons they have
MARKED_NUMBER = re.compile(  # $1,234.50, 5 %, (12), 1'000
    r"[-+(]?[$€£¥]? ?[-+]?(\d+|\d{1,3}([,.'\s]\d{3})+)([.,]\d+)?\)?-? ?[%$€£¥]?", re.ASCII
)
AMBIGUOUS_COMMA = re.compile(r"[+-]?(0|[1-9]\d{0,2}(,\d{3})?)", re.ASCII)  # 1,234: a thousand, or a little over one
TIME = r"(?P<time> \d{1,2}:\d\d(:\d\d)?)?"
YEAR_MONTH = re.compile(r"\d{4}(?P<mark>[./])\d{1,2}(?P=mark)\d{1,2}" + TIME, re.ASCII)
DAY_MONTH = re.compile(r"(\d{1,2})(?P<mark>[./-])(\d{1,2})(?P=mark)\d{4}" + TIME, re.ASCII)
WRITTEN_DATE = re.compile(  # in any form: 2024/01/05, 5.1.2024, 05-Jan-2024, 1/5/24, each with a time or none
    r"(\d{4}([-./])\d{1,2}\2\d{1,2}|\d{1,2}([-./ ])(\d{1,2}|[A-Za-z]{3,9})\3\d{4}|\d{1,2}/\d{1,2}/\d\d)(?!\d).*",
    re.ASCII,
)
MOSTLY = 0.9  # a column of which so many values are numbers, or dates, was perhaps meant to be one


@dataclass(frozen=True)
class InferredType:
    """What the contract is to say of a column, as its keys in the config, and what the user should know."""

    keys: dict[str, object]
    notes: list[str] = field(default_factory=list)

    @property
    def type(self) -> str:
        """The contract's name of the type."""
        return str(self.keys["type"])


def infer_type(sample: pa.Array | pa.ChunkedArray, *, is_text: bool) -> InferredType | None:
    """The type of a column; None when no type of the contract can take it, such as a list.

    `is_text` says that the source has no types of its own, so that all of its values are texts.
    """
    kind = sample.type.value_type if pa.types.is_dictionary(sample.type) else sample.type
    if pa.types.is_null(kind):
        return InferredType({"type": "string"})
    if _is_string(kind) and is_text:
        texts = pc.unique(stripped_texts(pc.unique(sample))).drop_null()
        return _of_plain_numbers(texts) or _of_texts(sorted(texts.to_pylist()))
    declared = _of_arrow_type(kind)
    if declared == "double":
        return _of_doubles(sample)
    return InferredType({"type": declared}) if declared else None


def missing_notes(words: Sequence[str]) -> list[str]:
    """A note on words that stand for a missing value, where there are any."""
    return [f"missing where it says {_shown(words)}"] if words else []


def kept_notes(words: Sequence[str]) -> list[str]:
    """A note on words that might stand for a missing value and do not, where there are any."""
    return [f"{_shown(words)} are kept as values (`missing` would change that)"] if words else []


def are_mostly_dates(texts: Sequence[str]) -> bool:
    """Whether nearly all of these texts are dates, however they are written."""
    return bool(texts) and sum(map(bool, map(WRITTEN_DATE.fullmatch, texts))) >= MOSTLY * len(texts)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _of_arrow_type(kind: pa.DataType) -> str | None:
    checks: dict[str, Callable[[pa.DataType], bool]] = {
        "string": _is_string,
        "boolean": pa.types.is_boolean,
        "decimal(20,0)": pa.types.is_uint64,
        "long": pa.types.is_integer,
        "double": pa.types.is_floating,
        "date": pa.types.is_date,
        "timestamp": pa.types.is_timestamp,
    }
    if pa.types.is_decimal(kind):
        fits = 1 <= kind.precision <= 38 and 0 <= kind.scale <= kind.precision
        return f"decimal({kind.precision},{kind.scale})" if fits else None
    return next((name for name, check in checks.items() if check(kind)), None)


def _of_doubles(sample: pa.Array | pa.ChunkedArray) -> InferredType:
    """Infinite ones are missing, as no column may hold them."""
    numbers = pc.unique(sample.cast(pa.float64()))
    infinite = sorted(map(str, numbers.filter(pc.is_inf(numbers)).to_pylist()))
    return InferredType({"type": "double", **({"missing": infinite} if infinite else {})}, missing_notes(infinite))


def _of_plain_numbers(texts: pa.Array) -> InferredType | None:
    """What _of_texts() says of numbers that are written in the usual way, found by Arrow: most columns of a large
    sample are such. None for others."""
    is_number = pc.match_substring_regex(texts, PLAIN_NUMBER)
    numbers = texts.filter(is_number)
    words = sorted(texts.filter(pc.invert(is_number)).to_pylist())
    if not len(numbers) or not all(text.lower() in MISSING_WORDS | INFINITE for text in words):
        return None
    is_whole = pc.all(pc.match_substring_regex(numbers, PLAIN_WHOLE)).as_py()
    kind = "long" if is_whole else "double"
    read = values.convert(numbers, Column(type=kind))
    if read.broken:
        return None
    keys: dict[str, object] = {"type": kind, **({"missing": words} if words else {})}
    with_points = [] if is_whole else numbers.filter(pc.match_substring(numbers, ".")).to_pylist()
    notes = [*missing_notes(words), *_sentinel_notes(read.values), *_point_notes(sorted(with_points))]
    return InferredType(keys, notes)


def _of_texts(texts: Sequence[str]) -> InferredType:
    """`texts` are the different ones, without blanks around them."""
    if not texts:
        return InferredType({"type": "string"})
    words = [text for text in texts if text.lower() in MISSING_WORDS | INFINITE]
    rest = [text for text in texts if text not in words]
    if not rest:
        return InferredType({"type": "string", "missing": words}, [f"has nothing but {_shown(words)}"])
    for candidate in _candidates(rest):
        read = values.convert(pa.array(rest, pa.string()), Column.model_validate(candidate))
        if not read.broken:
            keys = {**candidate, **({"missing": words} if words else {})}
            with_points = [text for text in rest if "." in text] if candidate == {"type": "double"} else []
            return InferredType(
                keys, [*missing_notes(words), *_sentinel_notes(read.values), *_point_notes(with_points)]
            )
    return InferredType({"type": "string"}, [*_text_notes(rest), *kept_notes(words)])


def _candidates(texts: Sequence[str]) -> Iterator[dict[str, object]]:
    """What these texts may be, the narrowest first; the contract's own rules then decide."""
    if boolean := _boolean(texts):
        yield boolean
    if all(exact_number.NUMBER.fullmatch(text) for text in texts):
        if not any(CODE.fullmatch(text) for text in texts):
            yield {"type": "long" if all(map(WHOLE.fullmatch, texts)) else "double"}
    elif _has_decimal_comma(texts):
        yield {"type": "double", "decimal_mark": ","}
    elif all(exact_time.MOMENT.fullmatch(text) for text in texts):
        yield {"type": "date"} if all(len(text) == len("2024-02-29") for text in texts) else {"type": "timestamp"}
    elif time_format := _year_month_format(texts) or _day_month_format(texts):
        yield {"type": "timestamp" if "%H" in time_format else "date", "format": time_format}


def _boolean(texts: Sequence[str]) -> dict[str, object] | None:
    """A boolean's keys. One letter alone may mean anything, so both must be there."""
    lower = {text.lower() for text in texts}
    for index, pair in enumerate(BOOLEANS):
        if lower <= set(pair) and (len(lower) == 2 or len(pair[0]) > 1):
            if index < KNOWN_BOOLEANS:
                return {"type": "boolean"}
            named = zip(("true_texts", "false_texts"), pair, strict=True)
            return {
                "type": "boolean",
                **{key: found for key, word in named if (found := [text for text in texts if text.lower() == word])},
            }
    return None


def _has_decimal_comma(texts: Sequence[str]) -> bool:
    return (
        all(COMMA.fullmatch(text) for text in texts)
        and not all(AMBIGUOUS_COMMA.fullmatch(text) for text in texts)
        and not any(re.match(r"[+-]?0\d", text) for text in texts)
        and any("," in text for text in texts)
    )


def _year_month_format(texts: Sequence[str]) -> str:
    """The format of dates such as 2024/02/29, "" where not all have one."""
    return _in_one_form([YEAR_MONTH.fullmatch(text) for text in texts], ("%Y", "%m", "%d"))


def _day_month_format(texts: Sequence[str]) -> str:
    """The format of dates such as 29.02.2024, "" where nothing shows which number is the day."""
    matches = [DAY_MONTH.fullmatch(text) for text in texts]
    days_first, days_second = _beyond_months([match for match in matches if match])
    if bool(days_first) == bool(days_second):
        return ""
    order = ("%d", "%m") if days_first else ("%m", "%d")
    return _in_one_form(matches, (*order, "%Y"))


def _beyond_months(matches: Sequence[re.Match[str]]) -> tuple[list[str], list[str]]:
    """The dates whose first number is no month, and those whose second one is none."""
    first, second = ([match[0] for match in matches if int(match[group]) > 12] for group in (1, 3))
    return first, second


def _in_one_form(matches: Sequence[re.Match[str] | None], parts: Sequence[str]) -> str:
    """The format of dates with these parts, and of their times; "" where they have not all the same marks and times."""
    forms = {(match["mark"], (match["time"] or "").count(":")) for match in matches if match}
    if None in matches or len(forms) != 1:
        return ""
    mark, colons = forms.pop()
    return mark.join(parts) + TIMES_OF_DAY[colons]


def _sentinel_notes(numbers: pa.Array) -> list[str]:
    """Numbers that are missing only when the user says so, as they may be values; of other types there are none."""
    if not (pa.types.is_integer(numbers.type) or pa.types.is_floating(numbers.type)):
        return []
    is_sentinel = pc.is_in(numbers, value_set=pa.array(SENTINELS, numbers.type))
    others = numbers.filter(pc.invert(is_sentinel)).drop_null()
    if len(others) < 2:
        return []
    low, high = pc.min(others).as_py(), pc.max(others).as_py()
    found = sorted(pc.unique(numbers.filter(is_sentinel)).to_pylist())
    far = [number for number in found if not low - (high - low) <= number <= high + (high - low)]
    return [f"{number:g} lies far from all others; if it means missing, say `missing: [{number:g}]`" for number in far]


def _point_notes(with_points: Sequence[str]) -> list[str]:
    """Numbers a thousand times as large where a point would be of thousands, which none of them rules out."""
    if not with_points or not all(map(AMBIGUOUS_POINT.fullmatch, with_points)):
        return []
    return [f'{with_points[0]!r} is read with a decimal point; if it is one of thousands, say `decimal_mark: ","`']


def _text_notes(texts: Sequence[str]) -> list[str]:
    numbers = [text for text in texts if exact_number.NUMBER.fullmatch(text)]
    if len(numbers) == len(texts):
        return [f"text, as {_reason_of_no_number(texts)}"]
    others = len(texts) - len(numbers)
    if len(numbers) >= MOSTLY * len(texts) or len(numbers) > others == 1:
        return [f"text, as {next(text for text in texts if text not in numbers)!r} is no number"]
    if any("," in text for text in texts) and all(AMBIGUOUS_COMMA.fullmatch(text) for text in texts):
        return ['text, as its commas may be of thousands or of decimals; `type: double, decimal_mark: ","` says which']
    if all(DAY_MONTH.fullmatch(text) for text in texts):
        return [f"text, as {_reason_of_day_months(texts)}"]
    if are_mostly_dates(texts):
        return [f"text, as {_reason_of_no_date(texts)}"]
    if all(map(MARKED_NUMBER.fullmatch, texts)):
        marked = next(text for text in texts if text not in numbers)
        return [f"text, as a number is digits and a decimal mark alone, unlike {marked!r}"]
    return []


def _reason_of_no_number(numbers: Sequence[str]) -> str:
    """Why these texts, each of which is written as a number, are not to be numbers."""
    if code := next(filter(CODE.fullmatch, numbers), None):
        return f"a number would lose the {'plus' if re.fullmatch(r'[+][1-9].*', code) else 'zero'} of {code!r}"
    if all(map(WHOLE.fullmatch, numbers)):
        return "more digits than a long has"
    return f"a double does not hold {_first_broken(numbers, {'type': 'double'})!r} as it stands"


def _reason_of_day_months(texts: Sequence[str]) -> str:
    """Why these texts, all of which are dates with the year at the end, are not to be dates."""
    days_first, days_second = _beyond_months([match for text in texts if (match := DAY_MONTH.fullmatch(text))])
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
        return f"{others[0]!r} is a date in a form that is not inferred; `type: date, format: ...` says which"
    broken = _first_broken(texts, {"type": "timestamp"})
    if re.search(r"[.,]\d{7}", broken):
        return f"{broken!r} has more than the six digits of a second that a timestamp holds"
    return f"{broken!r} is no date; if it means missing, say `missing: [{broken!r}]`"


def _first_broken(texts: Sequence[str], keys: dict[str, object]) -> str:
    """The first text that a column with these keys refuses."""
    masks = values.convert(pa.array(texts, pa.string()), Column.model_validate(keys)).broken.values()
    return texts[min(int(np.flatnonzero(mask)[0]) for mask in masks)]


def _shown(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words))
