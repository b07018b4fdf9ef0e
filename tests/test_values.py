"""Values of a source as the contract's types have them: strictly, and the same from text and from typed columns."""

import datetime as dt
import math
from collections import Counter
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import QUICK

from steps.core.columns import Column
from steps.core.sources import exact_value, refusals, values

REFUSED = object()


def convert(raw: list[Any] | pa.Array, **column: Any) -> list[Any]:
    """What becomes of each value: REFUSED where it breaks a rule."""
    array = raw if isinstance(raw, pa.Array) else pa.array(raw)
    converted = values.convert(array, Column.model_validate(column))
    answers: list[Any] = converted.values.to_pylist()
    for mask in converted.broken.values():
        answers = [REFUSED if broken else answer for broken, answer in zip(mask, answers, strict=True)]
    return answers


def rules(raw: list[Any], **column: Any) -> set[str]:
    return set(values.convert(pa.array(raw), Column.model_validate(column)).broken)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("double", "1.5", 1.5),
        ("double", " 1.5\u00a0", 1.5),
        ("double", "+.5e1", 5.0),
        ("double", "", None),
        ("double", " \t", None),
        ("double", "nan", None),
        ("double", "-NaN", None),
        ("double", "3d", REFUSED),
        ("double", "72F", REFUSED),
        ("double", "0x1f", REFUSED),
        ("double", "1_000", REFUSED),
        ("double", "1,5", REFUSED),
        ("double", "١٢", REFUSED),
        ("double", "inf", REFUSED),
        ("double", "1e999", REFUSED),
        ("double", "9007199254740993", REFUSED),
        ("double", "9007199254740992", 2.0**53),
        ("float", "0.1", pytest.approx(0.1)),
        ("float", "1e39", REFUSED),
        ("long", "007", 7),
        ("long", "12.0", 12),
        ("long", "1e3", 1000),
        ("long", "12.5", REFUSED),
        ("long", "0x1F", REFUSED),
        ("long", "9223372036854775807", 2**63 - 1),
        ("long", "9223372036854775808", REFUSED),
        ("long", "1e999999999", REFUSED),
        ("int", "2147483648", REFUSED),
        ("decimal(5,2)", "123.45", Decimal("123.45")),
        ("decimal(5,2)", "123.450", Decimal("123.45")),
        ("decimal(5,2)", "123.456", REFUSED),
        ("decimal(5,2)", "1234.5", REFUSED),
        ("boolean", "Y", True),
        ("boolean", "false", False),
        ("boolean", "0", False),
        ("boolean", "2", REFUSED),
        ("date", "2024-02-29", dt.date(2024, 2, 29)),
        ("date", "2023-02-29", REFUSED),
        ("date", "0999-12-31", dt.date(999, 12, 31)),
        ("date", "10000-01-01", REFUSED),
        ("date", "2024-01-01T12:00", REFUSED),
        ("date", "1709244000", REFUSED),
        ("timestamp", "2024-02-29T12:30:00.123456Z", dt.datetime(2024, 2, 29, 12, 30, 0, 123456, dt.UTC)),
        ("timestamp", "2024-02-29 12:30+02:00", dt.datetime(2024, 2, 29, 10, 30, tzinfo=dt.UTC)),
        ("timestamp", "2024-02-29", dt.datetime(2024, 2, 29, tzinfo=dt.UTC)),
        ("timestamp", "2016-12-31T23:59:60Z", REFUSED),
        ("timestamp", "2024-01-01T00:00:00.1234567Z", REFUSED),
        ("timestamp", "2024-01-01T00:00:00.1234560Z", dt.datetime(2024, 1, 1, 0, 0, 0, 123456, dt.UTC)),
        ("timestamp", "1709244000", REFUSED),
        ("string", " 007 ", "007"),
        ("string", "NA", "NA"),
        ("string", "caf\ufffd", REFUSED),
        ("string", "a\x00b", REFUSED),
    ],
)
@pytest.mark.parametrize("beside", [[], ["not this"]], ids=["alone", "beside one that is refused"])
def test_a_text_is_what_its_column_says(kind: str, text: str, value: Any, beside: list[str]) -> None:
    assert convert([text, *beside], type=kind)[0] == value


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("string", pa.array([7]), "7"),
        ("string", pa.array([True]), "true"),
        ("long", pa.array([7.0]), 7),
        ("long", pa.array([7.5]), REFUSED),
        ("long", pa.array([True]), REFUSED),
        ("long", pa.array([2**64 - 1], pa.uint64()), REFUSED),
        ("long", pa.array([Decimal("3.00")]), 3),
        ("double", pa.array([2**53 + 1]), REFUSED),
        ("double", pa.array([Decimal("1.10")]), 1.1),
        ("double", pa.array([math.nan]), None),
        ("double", pa.array([math.inf]), REFUSED),
        ("double", pa.array([1.5], pa.float16()), 1.5),
        ("boolean", pa.array([1]), True),
        ("boolean", pa.array([0.0]), False),
        ("boolean", pa.array([2]), REFUSED),
        ("decimal(4,1)", pa.array([1.5]), Decimal("1.5")),
        ("date", pa.array([dt.datetime(2024, 1, 2)]), dt.date(2024, 1, 2)),
        ("date", pa.array([dt.datetime(2024, 1, 2, 3)]), REFUSED),
        ("timestamp", pa.array([dt.date(2024, 1, 2)]), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)),
        ("timestamp", pa.array([1_999], pa.timestamp("ns")), dt.datetime(1970, 1, 1, 0, 0, 0, 1, dt.UTC)),
        ("timestamp", pa.array([5]), REFUSED),
        ("string", pa.array(["x"]).dictionary_encode(), "x"),
        ("string", pa.array(["x"], pa.large_string()), "x"),
        ("string", pa.array([Decimal("1.2E-7")], pa.decimal128(20, 8)), "0.00000012"),
        ("string", pa.array([Decimal("0E-8")], pa.decimal128(20, 8)), "0.00000000"),
        ("double", pa.nulls(1), None),
    ],
)
def test_a_typed_value_is_too(kind: str, raw: pa.Array, value: Any) -> None:
    assert convert(raw, type=kind) == [value]


def test_missing_texts_are_those_of_the_column_as_text_and_as_the_same_number() -> None:
    assert convert(["NA", "-999", "-999.0", "1"], type="double", missing=["NA", -999]) == [None, None, None, 1.0]
    assert convert(pa.array([-999.0, 1.0]), type="double", missing=[-999]) == [None, 1.0]
    for kind in (pa.float32(), pa.float64()):
        assert convert(pa.array([1.0, 2.5], kind), type="string", missing=["1", "2.5"]) == ["1.0", None]
    assert convert(["NA", "Pave"], type="string") == ["NA", "Pave"]


def test_numbers_of_another_decimal_mark() -> None:
    texts = ["1.234,50", "1234,5", "1.23,4", "1.5", "-0,5"]
    assert convert(texts, type="double", decimal_mark=",") == [1234.5, 1234.5, REFUSED, REFUSED, -0.5]


@pytest.mark.parametrize(
    ("marks", "texts", "numbers"),
    [
        (
            {"thousands_mark": ","},
            ["1,234.5", "1,234", "-12,345,678", "1234.5", "+1,000."],
            [1234.5, 1234, -12345678, 1234.5, 1000],
        ),
        (
            {"thousands_mark": ","},
            ["1,23", "12,3456", "1,234,56", "1234,567", ",123", "1,,234", "1,234,"],
            [REFUSED] * 7,
        ),
        ({"thousands_mark": "'"}, ["1'234.5", "1\u2019234", "1'23"], [1234.5, 1234, REFUSED]),
        (
            {"thousands_mark": " ", "decimal_mark": ","},
            ["1 234,5", "1\u00a0234,5", "1\u202f000\u2009000", "1.5", "1 23", "12,5"],
            [1234.5, 1234.5, 1000000, REFUSED, REFUSED, 12.5],
        ),
        ({"decimal_mark": ","}, ["1.234,5", "1.234", "1.23", "1 234,5"], [1234.5, 1234, REFUSED, REFUSED]),
        (
            {"symbol": "$"},
            ["$5", "-$5.5", "$ -6", "7 $", "8", " +$9 ", "$1e3", "$", "$5$", "$$5", "-$-5", "€5", "$1,234"],
            [5, -5.5, -6, 7, 8, 9, 1000, *[REFUSED] * 6],
        ),
        (
            {"symbol": "%"},
            ["5%", "5\u00a0%", "%5", "5 % ", "5%%", "0", "0.00", "0.05", "5"],
            [5, 5, 5, 5, REFUSED, 0, 0, REFUSED, REFUSED],
        ),
        ({"symbol": "Rs."}, ["Rs. 5", "5", "Rs.5.5", "5Rs."], [5, 5, 5.5, 5]),
        ({"symbol": "m2"}, ["5 m2", "12m2", "m2"], [5, 12, REFUSED]),
        ({"symbol": "US $"}, ["US $ 5", "5US $", "US$5"], [5, 5, REFUSED]),
        (
            {"symbol": "€", "decimal_mark": ",", "thousands_mark": " "},
            ["1 234,5 €", "€\u202f1\u00a0234,5", "-€1 000", "€1.5"],
            [1234.5, 1234.5, -1000, REFUSED],
        ),
    ],
)
def test_numbers_with_a_mark_between_thousands(marks: dict[str, str], texts: list[str], numbers: list[Any]) -> None:
    assert convert(texts, type="double", **marks) == numbers
    assert [convert([text], type="double", **marks) for text in texts] == [[number] for number in numbers]


def test_whole_numbers_and_decimals_have_marks_too() -> None:
    assert convert(["1,234", "1,234.0", "1,234.5"], type="long", thousands_mark=",") == [1234, 1234, REFUSED]
    assert convert(["9,007,199,254,740,993"], type="double", thousands_mark=",") == [REFUSED]
    assert convert(["1,234.50", "-1"], type="decimal(9,2)", thousands_mark=",", missing=["-1"]) == [
        Decimal("1234.5"),
        None,
    ]


@pytest.mark.parametrize("kind", ["double", "float", "decimal(4,2)", "long"])
def test_a_zero_with_a_minus_is_the_same_zero_where_that_is_missing(kind: str) -> None:
    assert convert(["-0", "0.0", "-0.0", "1"], type=kind, missing=["0"]) == [None, None, None, 1]
    assert convert(["-0", "-1"], type=kind, missing=[0]) == [None, -1]


def test_words_of_another_language_for_true_and_false() -> None:
    words = {"true_texts": ["WAHR"], "false_texts": ["FALSCH"]}
    assert convert(["wahr", "FALSCH", "vrai"], type="boolean", **words) == [True, False, REFUSED]


def test_a_date_by_its_format_never_has_day_and_month_swapped() -> None:
    assert convert(["02.09.2021", "13.01.2021", "01.13.2021"], type="date", format="%d.%m.%Y") == [
        dt.date(2021, 9, 2),
        dt.date(2021, 1, 13),
        REFUSED,
    ]


def test_digits_are_a_day_by_the_format_whether_they_are_text_or_a_number() -> None:
    days = [20240229, 20230229, 2024, None, 20241301]
    expected = [dt.date(2024, 2, 29), REFUSED, REFUSED, None, REFUSED]
    assert convert(days, type="date", format="%Y%m%d") == expected
    assert convert([day and str(day) for day in days], type="date", format="%Y%m%d") == expected
    moments = convert(days, type="timestamp", format="%Y%m%d", zone="Asia/Tokyo")
    assert moments == [dt.datetime(2024, 2, 28, 15, tzinfo=dt.UTC), *expected[1:]]


def test_a_whole_double_is_a_day_as_pandas_has_it_beside_missing_ones() -> None:
    typed = pa.array([20240131.0, None, 20240131.5, 1e300])
    assert convert(typed, type="date", format="%Y%m%d") == [dt.date(2024, 1, 31), None, REFUSED, REFUSED]


def test_a_number_that_has_lost_a_zero_is_no_day() -> None:
    """1112024 is the first of November or the eleventh of January."""
    assert convert([1112024, 1012024, 11112024], type="date", format="%d%m%Y") == [
        REFUSED, REFUSED, dt.date(2024, 11, 11)
    ]  # fmt: skip
    assert rules([1112024], type="date", format="%d%m%Y") == {"are not of type date by the format %d%m%Y"}
    assert convert(["20210815", "2021081", "2021111"], type="date", format="%Y%m%d") == [
        dt.date(2021, 8, 15), REFUSED, REFUSED
    ]  # fmt: skip
    assert convert([20240229, 1.5, True], type="date") == [REFUSED] * 3


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("20240114193005.967", "%Y%m%d%H%M%S.%f"),
        ("20240131 9:30:05", "%Y%m%d %H:%M:%S"),
        ("20240131T093005Z", "%Y%m%dT%H%M%S%z"),
        ("20240131093005+01:00", "%Y%m%d%H%M%S%z"),
        ("mon 20240101", "%a %Y%m%d"),
        ("09990101", "%Y%m%d"),
    ],
)
def test_beside_adjacent_numbers_a_format_is_as_lenient_as_elsewhere(text: str, time_format: str) -> None:
    assert convert([text], type="timestamp", format=time_format) != [REFUSED]


def test_an_hour_that_a_clock_skips_or_shows_twice_is_refused() -> None:
    texts = ["2024-03-31T02:30", "2024-10-27T02:30", "2024-07-01T12:00"]
    assert convert(texts, type="timestamp", zone="Europe/Berlin") == [
        REFUSED,
        REFUSED,
        dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC),
    ]
    assert rules(texts, type="timestamp", zone="Europe/Berlin") == {refusals.NO_SUCH_TIME}


def test_summer_is_known_in_years_to_come() -> None:
    summers = [dt.datetime(year, 7, 1, 12) for year in (2036, 2037, 2038, 2099)]
    expected = [summer.replace(hour=10, tzinfo=dt.UTC) for summer in summers]
    assert convert([str(summer) for summer in summers], type="timestamp", zone="Europe/Berlin") == expected
    typed = pa.array(summers, pa.timestamp("us"))
    assert convert(typed, type="timestamp", zone="Europe/Berlin") == expected


def test_each_rule_is_named_for_its_own_values() -> None:
    assert rules(["x", "1.5", "inf", "9" * 30], type="long") == {
        "are not of type long",
        refusals.NOT_WHOLE,
        refusals.INFINITE,
        refusals.OUT_OF_RANGE.format(type="long"),
    }


@pytest.mark.parametrize("number", [10**400, -(10**400), "1e999999999999999999999"])
@pytest.mark.parametrize("kind", ["int", "long", "float", "double", "decimal(38,0)"])
def test_a_number_beyond_all_of_a_type_is_out_of_its_range_and_not_infinite(kind: str, number: int | str) -> None:
    assert rules([str(number)], type=kind) == {refusals.OUT_OF_RANGE.format(type=kind)}
    assert convert([str(number)], type="string") == [str(number)]


def test_a_long_ends_where_64_bits_do() -> None:
    assert convert([str(-(2**63)), str(-(2**63) - 1), str(2**63)], type="long") == [-(2**63), REFUSED, REFUSED]
    assert convert([str(-(2**63) - 1)], type="decimal(38,0)") == [-(2**63) - 1]


TEXTS = st.text(alphabet="0123456789+-.eE, $%xnaifNAtrue\u00a0", max_size=12)


FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%Y%m%d")
CLOCK_CHANGES = [dt.datetime(2024, 3, 31, 2, 30), dt.datetime(2024, 10, 27, 2, 30), dt.datetime(2050, 7, 1)]
MOMENTS = st.builds(
    lambda moment, time_format, rest: f"{moment.strftime(time_format)}{rest}",
    st.datetimes(dt.datetime(1895, 1, 1), dt.datetime(2100, 1, 1)) | st.sampled_from(CLOCK_CHANGES),
    st.sampled_from(FORMATS),
    st.sampled_from(["", "", " ", "1", ":00", "+02:00"]),
)


@pytest.mark.parametrize(
    "rules",
    [
        *({"type": kind} for kind in ("string", "boolean", "int", "long", "float", "double", "decimal(6,2)")),
        {"type": "boolean", "true_texts": ["x", "e"], "false_texts": ["-"]},
        {"type": "double", "decimal_mark": ","},
        {"type": "decimal(6,2)", "decimal_mark": ",", "missing": ["0", "-"]},
        {"type": "double", "thousands_mark": ",", "missing": ["1,234"]},
        {"type": "long", "thousands_mark": " ", "decimal_mark": ","},
        {"type": "double", "symbol": "e", "missing": ["e1"]},
        {"type": "decimal(6,2)", "symbol": "$", "thousands_mark": ","},
        {"type": "double", "symbol": "%", "missing": ["0"]},
        {"type": "double", "missing": [0, "e", 12]},
        *({"type": kind} for kind in ("date", "timestamp")),
        {"type": "date", "format": "%d.%m.%Y"},
        {"type": "date", "format": "%Y%m%d", "missing": ["x"]},
        {"type": "timestamp", "zone": "Europe/Berlin", "missing": ["2024-03-31 02:30"]},
        *({"type": "timestamp", "format": "%d.%m.%Y %H:%M", "zone": zone} for zone in ("UTC", "Europe/Berlin")),
    ],
    ids=lambda rules: " ".join(map(str, rules.values())),
)
@QUICK
@given(texts=st.lists(st.none() | TEXTS | MOMENTS, max_size=5))
def test_a_column_by_arrow_is_what_each_value_is_alone(rules: dict[str, Any], texts: list[str | None]) -> None:
    column = Column.model_validate(rules)

    def one(text: str | None) -> Any:
        try:
            return exact_value.exact(text, column)
        except refusals.Refused:
            return REFUSED

    assert convert(pa.array(texts, pa.string()), **rules) == [one(text) for text in texts]


@QUICK
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_a_double_is_what_python_reads(numbers: list[float]) -> None:
    assert convert([repr(number) for number in numbers] or pa.array([], pa.string()), type="double") == numbers
    assert convert(pa.array(numbers, pa.float64()), type="double") == numbers


@QUICK
@given(st.lists(st.none() | st.decimals(-(10**8), 10**8, places=4), min_size=1, max_size=5))
def test_a_decimal_is_the_nearest_double(numbers: list[Decimal | None]) -> None:
    for kind in (pa.decimal128(20, 4), pa.decimal256(50, 4), pa.decimal128(38, 12)):
        expected = [None if number is None else float(number) for number in numbers]
        assert convert(pa.array(numbers, kind), type="double") == expected


@QUICK
@given(
    whole=st.text("0123456789", min_size=1, max_size=400),
    fraction=st.text("0123456789", max_size=50),
    kind=st.sampled_from(["decimal(38,0)", "decimal(38,38)", "decimal(38,10)", "decimal(10,2)"]),
)
def test_a_decimal_of_any_digits_is_these_or_refused(whole: str, fraction: str, kind: str) -> None:
    text = f"{whole}.{fraction}" if fraction else whole
    digits, after_point = Column(type=kind).decimal_digits
    is_held = len(whole.lstrip("0")) <= digits - after_point and len(fraction.rstrip("0")) <= after_point
    assert convert([text], type=kind) == ([Decimal(text)] if is_held else [REFUSED])


@QUICK
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_a_long_is_exact_from_text_and_from_numbers(numbers: list[int]) -> None:
    assert convert([str(number) for number in numbers], type="long") == numbers
    assert convert(pa.array(numbers, pa.int64()), type="long") == numbers


@QUICK
@given(st.lists(st.datetimes(timezones=st.sampled_from([dt.UTC, ZoneInfo("Asia/Kolkata")])), min_size=1, max_size=4))
def test_a_moment_is_the_same_from_text_and_from_a_timestamp(moments: list[dt.datetime]) -> None:
    moments = [moment.replace(year=1950 + moment.year % 100, day=1) for moment in moments]  # offsets of whole minutes
    expected = Counter(moment.astimezone(dt.UTC) for moment in moments)
    assert Counter(convert([moment.isoformat() for moment in moments], type="timestamp")) == expected
    assert Counter(convert(pa.array(moments, pa.timestamp("us", "UTC")), type="timestamp")) == expected
