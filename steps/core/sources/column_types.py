"""The type of a column, from a sample: the narrowest that all of its values are of, by the contract's own rules."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from steps.core.columns import Column
from steps.core.sources import column_notes, exact_number, exact_time, values
from steps.core.sources.arrow_values import stripped_texts
from steps.core.sources.written_forms import (
    CODE,
    COMMA,
    DAY_MONTH,
    GROUPED,
    WHOLE,
    YEAR_MONTH,
    ZERO,
    are_ambiguous_commas,
    beyond_months,
    symbol_in,
)

MISSING_WORDS = frozenset(  # in lower case; missing where all other values are numbers, times or booleans
    {"na", "n/a", "n.a.", "#n/a", "#na", "<na>", "null", "(null)", "[null]", "<null>", "none", "nil", "nan", "missing"}
    | {"unknown", "not available", "no data", r"\n", "?", "-", "--", "---", ".", "..", "...", ":"}
    | {"#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"}  # a spreadsheet's errors
    | {"1.#qnan", "-1.#ind", "1.#ind"}  # as C of Windows writes nan
)
PERHAPS_A_CLASS = frozenset({"none", "nil", "missing", "unknown"})  # of these, what may be a target's own class
INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "-infinity"})  # which no column may hold
BOOLEANS = (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("wahr", "falsch"), ("ja", "nein"))
KNOWN_BOOLEANS = 4  # of BOOLEANS, those that the contract knows without true_texts
PLAIN_NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?$"  # of Arrow's syntax
PLAIN_WHOLE = r"^-?\d+$"
TIMES_OF_DAY = ("", " %H:%M", " %H:%M:%S")  # in a format, by how many colons they have


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
    if declared == "long":
        return InferredType({"type": declared}, column_notes.of_numbers(pc.unique(sample.cast(pa.int64())).drop_null()))
    if declared == "string":
        return InferredType({"type": declared}, column_notes.of_misread_letters(pc.unique(sample.cast(pa.string()))))
    return InferredType({"type": declared}) if declared else None


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
    finite = numbers.filter(pc.is_finite(numbers))
    return _with_missing({"type": "double"}, infinite, column_notes.of_numbers(finite))


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
    with_points = [] if is_whole else numbers.filter(pc.match_substring(numbers, ".")).to_pylist()
    notes = [*column_notes.of_numbers(read.values), *column_notes.of_points(sorted(with_points))]
    notes += [] if is_whole else column_notes.of_exponents(sorted(numbers.to_pylist()))
    return _with_missing({"type": kind}, words, notes)


def _of_texts(texts: Sequence[str]) -> InferredType:
    """`texts` are the different ones, without blanks around them."""
    if not texts:
        return InferredType({"type": "string"})
    words = [text for text in texts if text.lower() in MISSING_WORDS | INFINITE]
    rest = [text for text in texts if text not in words]
    if not rest:
        return InferredType({"type": "string", "missing": words}, [f"has nothing but {column_notes.shown(words)}"])
    for candidate in _candidates(rest):
        read = values.convert(pa.array(rest, pa.string()), Column.model_validate(candidate))
        if not read.broken:
            notes = column_notes.of_numbers(read.values)
            if candidate.keys() <= {"type", "symbol"} and candidate["type"] == "double":
                bare = [exact_number.without_symbol(text, str(candidate.get("symbol", ""))) for text in rest]
                notes += column_notes.of_points([text for text in bare if "." in text])
                notes += column_notes.of_exponents(bare)
            notes += column_notes.of_zones(rest) if candidate == {"type": "timestamp"} else []
            return _with_missing(candidate, words, notes)
    notes = [*column_notes.of_texts(rest), *column_notes.of_misread_letters(pa.array(rest, pa.string()))]
    return InferredType({"type": "string"}, [*notes, *column_notes.kept(words)])


def _with_missing(keys: dict[str, object], words: list[str], notes: Sequence[str] = ()) -> InferredType:
    """A type with the words that stand for a missing value, where there are any."""
    return InferredType(keys | ({"missing": words} if words else {}), [*column_notes.missing(words), *notes])


def _candidates(texts: Sequence[str]) -> Iterator[dict[str, object]]:
    """What these texts may be, the narrowest first; the contract's own rules then decide."""
    if boolean := _boolean(texts):
        yield boolean
    if number := _number(texts) or _with_symbol(texts):
        yield number
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


def _number(texts: Sequence[str]) -> dict[str, object] | None:
    """A number's keys, by how these texts are written; None where they are none, or codes."""
    if all(exact_number.NUMBER.fullmatch(text) for text in texts):
        if any(CODE.fullmatch(text) for text in texts):
            return None
        return {"type": "long" if all(map(WHOLE.fullmatch, texts)) else "double"}
    if _has_decimal_comma(texts):
        return {"type": "double", "decimal_mark": ","}
    return _with_thousands(texts)


def _with_symbol(texts: Sequence[str]) -> dict[str, object] | None:
    """The keys of numbers each of which, but 0, has the same symbol; None where not all have it."""
    if not (symbol := symbol_in(texts)):
        return None
    if not all(symbol in text or ZERO.fullmatch(text) for text in texts):
        return None
    number = _number([exact_number.without_symbol(text, symbol) for text in texts])
    return {**number, "symbol": symbol} if number else None


def _has_decimal_comma(texts: Sequence[str]) -> bool:
    return (
        all(COMMA.fullmatch(text) for text in texts)
        and not are_ambiguous_commas(texts)
        and not any(re.match(r"[+-]?0\d", text) for text in texts)
        and any("," in text for text in texts)
    )


def _with_thousands(texts: Sequence[str]) -> dict[str, object] | None:
    """A number's keys where some have a mark between thousands. Blanks alone may be those of a telephone number."""
    plain = [text.translate(exact_number.LIKE_MARKS) for text in texts]
    for mark, form in GROUPED.items():
        if any(mark in text for text in plain) and all(map(form.fullmatch, plain)) and not are_ambiguous_commas(plain):
            decimal = "," if mark != "," and any("," in text for text in plain) else "."
            has_decimals = any(decimal in text for text in plain)
            if mark == " " and not has_decimals:
                return None
            keys = {"type": "double" if has_decimals else "long", "thousands_mark": mark}
            return {**keys, **({"decimal_mark": decimal} if decimal == "," else {})}
    return None


def _year_month_format(texts: Sequence[str]) -> str:
    """The format of dates such as 2024/02/29, "" where not all have one."""
    return _in_one_form([YEAR_MONTH.fullmatch(text) for text in texts], ("%Y", "%m", "%d"))


def _day_month_format(texts: Sequence[str]) -> str:
    """The format of dates such as 29.02.2024, "" where nothing shows which number is the day."""
    matches = [DAY_MONTH.fullmatch(text) for text in texts]
    days_first, days_second = beyond_months([match for match in matches if match])
    if bool(days_first) == bool(days_second):
        return ""
    order = ("%d", "%m") if days_first else ("%m", "%d")
    return _in_one_form(matches, (*order, "%Y"))


def _in_one_form(matches: Sequence[re.Match[str] | None], parts: Sequence[str]) -> str:
    """The format of dates with these parts, and of their times; "" where they have not all the same marks and times."""
    forms = {(match["mark"], (match["time"] or "").count(":")) for match in matches if match}
    if None in matches or len(forms) != 1:
        return ""
    mark, colons = forms.pop()
    return mark.join(parts) + TIMES_OF_DAY[colons]
