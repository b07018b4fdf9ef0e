"""The rules of a column beyond its type: which values are allowed, and which are within limits."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small import QUICK

from steps.core.columns import Column
from steps.core.sources import column_rules, values


def broken(texts: list[str], **column: Any) -> list[bool]:
    """Which of these texts break a rule."""
    rules = Column.model_validate(column)
    masks = [mask for _, mask in column_rules.broken_rules(values.convert(pa.array(texts), rules), rules, is_key=False)]
    return [any(mask[row] for mask in masks) for row in range(len(texts))]


@pytest.mark.parametrize(
    ("kind", "allowed", "good", "bad"),
    [
        ("decimal(10,2)", [1, 2.5], ["1", "1.00", "2.50"], ["1.01"]),
        ("decimal(38,2)", [9223372036854775807], ["9223372036854775807"], ["9223372036854775806"]),
        ("float", [0.1, 20240101], ["0.1", "20240101"], ["0.2"]),
        ("double", [0.1, 9007199254740992], ["0.1", "9007199254740992"], ["0.2"]),
        *[(kind, [0, 1], ["0", "-0", "-0.0", "1"], ["-1"]) for kind in ("float", "double")],
        ("long", [9223372036854775807], ["9223372036854775807"], ["9223372036854775806"]),
        ("boolean", [True], ["yes", "1"], ["no"]),
        ("string", ["007"], ["007", " 007 "], ["7"]),
    ],
)
def test_an_allowed_value_is_the_same_in_whatever_form_the_source_has_it(
    kind: str, allowed: list[Any], good: list[str], bad: list[str]
) -> None:
    expected = [*[False] * len(good), *[True] * len(bad)]
    assert broken([*good, *bad], type=kind, allowed=allowed) == expected


def test_an_allowed_number_is_written_with_a_point_whatever_the_sources_decimal_mark() -> None:
    found = broken(["1,5", "1.234,5", "2"], type="double", decimal_mark=",", allowed=[1.5, 1234.5])
    assert found == [False, False, True]


@pytest.mark.parametrize("source_type", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_a_number_of_the_config_is_what_the_sources_floats_hold_of_it(source_type: pa.DataType, kind: str) -> None:
    """As a double the float32 of 0.1 is above it, and that of 2.3 below."""
    numpy_type = source_type.to_pandas_dtype()
    raw = pa.array([numpy_type(number) for number in (0.1, 2.3, 2.4, -99.9)], source_type)
    for rules, expected in (
        ({"max": 0.1}, [False, True, True, False]),
        ({"min": 2.3}, [True, False, False, False]),
        ({"allowed": [0.1, 2.3]}, [False, False, True, False]),
    ):
        column = Column.model_validate({"type": kind, "missing": [-99.9], **rules})
        found = values.convert(raw, column)
        assert found.values.is_null().to_pylist() == [False, False, False, True]
        [(_, mask)] = column_rules.broken_rules(found, column, is_key=False)
        assert mask.tolist() == expected


def test_a_float32_is_not_missing_for_a_number_that_it_does_not_hold() -> None:
    found = values.convert(pa.array([2.0**24], pa.float32()), Column(type="double", missing=(2**24 + 1,)))
    assert found.values.to_pylist() == [2.0**24]


@pytest.mark.parametrize(("source_type", "written"), [(pa.float32(), "-999.9"), (pa.string(), "-999.90")])
@pytest.mark.parametrize("kind", ["float", "double", "decimal(10,2)", "long", "string"])
def test_a_fraction_that_stands_for_a_missing_value_is_missing_in_every_type(
    source_type: pa.DataType, written: str, kind: str
) -> None:
    raw = pa.array([written, "1"]).cast(source_type)
    missing = (-999.9, "-999.90") if kind == "string" else (-999.9,)
    found = values.convert(raw, Column(type=kind, missing=missing))
    assert (found.values.is_null().to_pylist(), found.broken) == ([True, False], {})


@given(st.integers(-(10**9), 10**9))
@QUICK
def test_a_decimal_is_within_a_limit_of_the_same_digits(hundredths: int) -> None:
    limit = float(Decimal(hundredths).scaleb(-2))
    assert broken([f"{hundredths / 100:.2f}"], type="decimal(12,2)", min=limit, max=limit) == [False]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("decimal(5,2)", 0.125),
        ("decimal(10,2)", 123456789012.5),
        ("double", 2**53 + 1),
        ("float", 3.5e38),
        ("int", 2**31),
        ("long", 2**63),
    ],
)
def test_an_allowed_value_that_the_type_does_not_hold_is_refused(kind: str, value: float) -> None:
    with pytest.raises(ValidationError, match=rf"allowed: .* is not of type {kind[:3]}"):
        Column.model_validate({"type": kind, "allowed": [value]})


class TestLimitsOfMoments:
    def test_one_without_an_offset_is_in_the_columns_zone(self) -> None:
        """As the values are: midnight in Berlin was 23:00 in UTC."""
        texts = ["2023-12-31 23:59", "2024-01-01 00:00", "2024-01-01 00:30"]
        first = dt.date(2024, 1, 1)
        assert broken(texts, type="timestamp", zone="Europe/Berlin", min=first) == [True, False, False]
        assert broken(texts, type="timestamp", zone="Europe/Berlin", max=first) == [False, False, True]

    def test_one_with_an_offset_is_that_moment(self) -> None:
        offset = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        texts = ["2024-01-01 00:59", "2024-01-01 01:00"]
        assert broken(texts, type="timestamp", zone="Europe/Berlin", min=offset) == [True, False]

    def test_two_are_compared_in_the_columns_zone(self) -> None:
        """In Berlin the day begins an hour before it does in UTC."""
        limits = {"min": dt.datetime(2023, 12, 31, 23, 30, tzinfo=dt.UTC), "max": dt.date(2024, 1, 1)}
        Column.model_validate({"type": "timestamp", **limits})
        with pytest.raises(ValidationError, match=r"min 2023-12-31 23:30:00\+00:00 is above max 2024-01-01"):
            Column.model_validate({"type": "timestamp", "zone": "Europe/Berlin", **limits})


def test_a_decimal_is_held_against_limits_of_doubles() -> None:
    typed = pa.array([Decimal("0.10"), Decimal("0.09")], pa.decimal128(5, 2))
    rules = Column.model_validate({"type": "decimal(5,2)", "min": 0.1})
    ((rule, mask),) = column_rules.broken_rules(values.convert(typed, rules), rules, is_key=False)
    assert (rule, mask.tolist()) == ("are below 0.1", [False, True])


@pytest.mark.parametrize("zone", ["Europe", "America/Argentina", "Mars/Base", "../etc", "zone.tab"])
def test_a_zone_that_is_none_is_told_a_folder_of_zones_too(zone: str) -> None:
    with pytest.raises(ValidationError, match=f"zone: '{zone}' is no time zone; such as Europe/Berlin"):
        Column(type="timestamp", zone=zone)
