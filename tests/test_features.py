"""What a model sees of a column: dates by their parts, codes as categories, and how many there may be."""

import dataclasses
import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from place import CASES
from pydantic import ValidationError
from small import QUICK, TABLE, flowers, flowers_config, flowers_model

from steps.core import config, float32_loss
from steps.core.models import boosting, features, scorer, split, training
from steps.core.models.predictions import to_frame
from steps.core.models.scorer import Feature, column_names, design_matrix, unseen
from steps.core.sources.column_names import contract_names

DATE, TIMESTAMP = Feature(name="day", type="date"), Feature(name="at", type="timestamp")
CODES = Feature(name="code", type="long", levels=(-5, 7, 2**60 + 1))

COLUMNS: dict[str, Any] = {
    "color": {"type": "string"},
    "petals": {"type": "long"},
    "species": {"type": "string"},
}


def parts_of(moment: dt.datetime | dt.date) -> list[float]:
    """By Python's own calendar."""
    midnight = dt.datetime.combine(moment, dt.time())
    days = (midnight - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1)
    of_day = [moment.year, moment.month, moment.day, moment.isoweekday(), moment.timetuple().tm_yday]
    if not isinstance(moment, dt.datetime):
        return [*of_day, days]
    seconds = (moment.replace(tzinfo=None) - midnight) / dt.timedelta(seconds=1)
    return [*of_day, days + seconds / 86_400, moment.hour]


class TestDates:
    @QUICK
    @given(st.lists(st.dates(), min_size=1))
    def test_a_date_is_its_parts(self, days: list[dt.date]) -> None:
        matrix = design_matrix(pd.DataFrame({"day": pd.Series(days, dtype=object)}), [DATE])
        assert column_names([DATE]) == [f"day.{part}" for part in scorer.PARTS_OF["date"]]
        np.testing.assert_array_equal(matrix, np.array([parts_of(day) for day in days], dtype=np.float32))

    @QUICK
    @given(st.lists(st.datetimes(timezones=st.just(dt.UTC)), min_size=1))
    def test_a_moment_is_its_parts_in_utc(self, moments: list[dt.datetime]) -> None:
        frame = pd.DataFrame({"at": pa.array(moments, pa.timestamp("us", "UTC")).to_pandas()})
        expected = np.array([parts_of(moment) for moment in moments])
        assert column_names([TIMESTAMP])[-1] == "at.hour"
        np.testing.assert_allclose(design_matrix(frame, [TIMESTAMP]), expected, rtol=1e-7, atol=1e-6)

    @pytest.mark.parametrize(
        "values",
        [
            pd.Series([dt.date(2024, 2, 29), None], dtype=object),
            pd.Series(["2024-02-29", None], dtype=object),
            pd.Series(["2024-02-29", pd.NA], dtype="string"),
            pd.Series(["2024-02-29T00:00:00.000", None], dtype="category"),
            pd.Series([pd.Timestamp("2024-02-29"), pd.NaT]),
            pd.Series([pd.Timestamp("2024-02-29", tz="Asia/Kolkata"), pd.NaT]),
            pd.Series(np.array(["2024-02-29", "NaT"], dtype="datetime64[s]")),
            pd.Series([np.datetime64("2024-02-29"), np.datetime64("NaT", "us")], dtype=object),
            pd.Series([dt.date(2024, 2, 29), None], dtype=pd.ArrowDtype(pa.date32())),
            pd.Series([dt.date(2024, 2, 29), None], dtype=pd.ArrowDtype(pa.timestamp("ms"))),
        ],
        ids=lambda values: str(values.dtype),
    )
    def test_a_date_is_the_same_in_any_type(self, values: pd.Series) -> None:
        matrix = design_matrix(pd.DataFrame({"day": values}), [DATE])
        np.testing.assert_array_equal(matrix, [[2024, 2, 29, 4, 60, 19782], [np.nan] * 6])

    @pytest.mark.parametrize(
        "values",
        [
            pd.Series([dt.datetime(2024, 2, 29, 23, 59, 59), None], dtype=object),
            pd.Series(["2024-02-29T23:59:59Z", None], dtype=object),
            pd.Series(["2024-03-01 05:29:59.000000001+05:30", None], dtype=object),
            pd.Series([pd.Timestamp("2024-03-01T05:29:59", tz="Asia/Kolkata"), pd.NaT]),
            pd.Series([pd.Timestamp("2024-02-29T23:59:59.000000999"), pd.NaT]),
            pd.Series([pd.Timestamp("2024-02-29T23:59:59.000000999"), None], dtype=object),
            pd.Series([dt.datetime(2024, 2, 29, 23, 59, 59), None], dtype=pd.ArrowDtype(pa.timestamp("us"))),
            pd.Series(
                [dt.datetime(2024, 2, 29, 23, 59, 59, tzinfo=dt.UTC), None],
                dtype=pd.ArrowDtype(pa.timestamp("ns", "Europe/Berlin")),
            ),
        ],
        ids=lambda values: str(values.dtype),
    )
    def test_a_moment_is_the_same_in_any_type(self, values: pd.Series) -> None:
        matrix = design_matrix(pd.DataFrame({"at": values}), [TIMESTAMP])
        expected = np.float32(19782 + 86_399 / 86_400)
        np.testing.assert_array_equal(matrix, [[2024, 2, 29, 4, 60, expected, 23], [np.nan] * 7])

    def test_a_date_where_a_moment_belongs_is_its_midnight(self) -> None:
        frame = pd.DataFrame({"at": ["2024-02-29", dt.date(2024, 2, 29)]})
        np.testing.assert_array_equal(design_matrix(frame, [TIMESTAMP]), [[2024, 2, 29, 4, 60, 19782, 0]] * 2)

    def test_a_model_learns_from_the_parts(self) -> None:
        days = pd.date_range("2020-01-01", periods=700, freq="D")
        columns = {"day": {"type": "date"}, "species": {"type": "string"}}
        rows = pd.DataFrame({"day": pd.Series(days.date, dtype=object)})
        rows["species"] = np.where(days.dayofweek >= 5, "weekend", "week")
        settings = flowers_config(columns=columns)
        parts = split.split(rows, split.settings_of(settings))
        schema = training.learn_schema(parts, settings, split_settings=split.settings_of(settings), table_uri=TABLE)
        fit = training.fit_booster(parts, schema, model=settings.model)
        gain = boosting.total_gain(fit.booster)
        assert max(gain, key=lambda name: gain[name]) == "day.weekday"
        assert fit.booster.num_features() == 6


class TestCodes:
    @pytest.mark.parametrize("kind", ["int64", "Int64", "object", "category", pd.ArrowDtype(pa.int64())], ids=str)
    def test_a_code_is_its_category_to_the_last_digit_in_any_type(self, kind: Any) -> None:
        frame = pd.DataFrame({"code": pd.Series([7, 2**60 + 1, 2**60, -5, 8], dtype=kind)})
        np.testing.assert_array_equal(design_matrix(frame, [CODES])[:, 0], [1, 2, np.nan, 0, np.nan])
        assert unseen(frame, [CODES]) == {"code": 2}

    def test_a_code_keeps_its_digits_beside_a_missing_one(self) -> None:
        """Pandas has whole numbers as doubles there."""
        frame = to_frame(pa.table({"code": pa.array([2**60 + 1, None, 7]), "few": pa.array([1, 2, 3])}))
        np.testing.assert_array_equal(design_matrix(frame, [CODES])[:, 0], [2, np.nan, 1])
        assert to_frame(pa.table({"few": pa.array([1, None])}))["few"].dtype == np.float64

    def test_the_levels_are_the_codes_of_the_train_part_in_order(self) -> None:
        columns = {**flowers_config().model_dump()["columns"], "petals": {"type": "int", "categorical": True}}
        train = flowers(9).assign(petals=[40, np.nan, -3, 40, 7, 7, 7, np.nan, -3])
        (feature,) = (f for f in features.features_of(train, flowers_config(columns=columns)) if f.name == "petals")
        assert (feature.type, feature.levels) == ("long", (-3, 7, 40))
        assert all(type(level) is int for level in feature.levels or ())
        assert scorer.feature_types([feature]) == ["c"]

    def test_codes_are_not_rounded(self) -> None:
        rows = pa.table({"code": pa.array([2**24 + 1]), "number": pa.array([2**24 + 1])})
        columns = {
            "code": config.Column(type="long", categorical=True),
            "number": config.Column(type="long"),
        }
        assert float32_loss.rounded_counts(rows, columns) == {"number": 1}


class TestHowMany:
    def train(self, count: int) -> pd.DataFrame:
        return pd.DataFrame({"color": [f"color {number}" for number in range(count)], "petals": 1})

    def seen(self, count: int) -> tuple[Feature, ...]:
        return features.features_of(self.train(count), flowers_config(columns=COLUMNS))

    def test_more_categories_than_can_be_learnt_are_refused_with_what_to_do(self) -> None:
        at_most = features.MOST_LEVELS
        where = "its train part"
        assert features.mistakes(self.train(at_most), self.seen(at_most), where=where) == []
        (mistake,) = features.mistakes(self.train(at_most + 1), self.seen(at_most + 1), where=where)
        assert mistake == (
            f"color has {at_most + 1:,} different values in its train part, and a column of categories has at most "
            f"{at_most:,}: say `feature: false`, or write fewer, broader ones"
        )

    def test_many_categories_are_warned_of(self) -> None:
        assert features.warnings(self.seen(features.MANY_LEVELS), {}) == []
        (line,) = features.warnings(self.seen(features.MANY_LEVELS + 1), {})
        assert line.startswith("color: 1,001 categories, most of them of few rows")

    def test_rounded_numbers_are_told_once_by_the_names_of_their_columns(self) -> None:
        (line,) = features.warnings((), {"petals": 3, "size": 2})
        assert line.startswith("petals, size: the model rounds 5 whole numbers, as its float32 holds them up to 2^24")


class TestNames:
    def test_names_that_xgboost_refuses_are_others_in_the_contract(self) -> None:
        names = ["petal [cm]", "length<5", "a]b", "f0", "0"]
        matrix = np.zeros((1, len(names)), dtype=np.float32)
        with pytest.raises(ValueError, match="feature_names must be string, and may not contain"):
            xgboost.DMatrix(matrix, feature_names=names)
        valid = [Feature(name=name, type="double") for name in contract_names(names).values()]
        assert scorer.dmatrix(matrix, valid).feature_names == ["petal_cm", "length_5", "a_b", "f0", "column_0"]
        for name in names[:3]:
            with pytest.raises(ValidationError, match="a name has letters from a to z, digits and _"):
                flowers_config(columns={**COLUMNS, name: {"type": "double"}})


class TestSchemas:
    def test_one_that_format_3_has_written_is_read_for_good(self) -> None:
        read = scorer.Schema.loads((CASES / "M02_schemas" / "format_3.json").read_text(encoding="utf-8"))
        assert read.features == (
            Feature(name="amount", type="double"),
            Feature(name="shop", type="long", levels=(-3, 77, 90210)),
            Feature(name="since", type="date"),
            Feature(name="at", type="timestamp"),
            Feature(name="note", type="string", levels=("gift", "return"), optional=True),
        )
        assert (read.task, read.target, read.classes) == ("regression", "paid", ())
        assert (read.objective, read.target_transform, read.weight) == ("reg:absoluteerror", "log", "times")
        assert column_names(read.features)[2:9] == [
            *("since.year", "since.month", "since.day", "since.weekday", "since.day_of_year"),
            *("since.days_since_1970", "at.year"),
        ]


class TestOptional:
    def test_a_column_that_may_be_absent_is_one_that_the_config_says_may(self) -> None:
        columns = {**COLUMNS, "color": {"type": "string", "nullable": True}}
        seen = features.features_of(flowers(9), flowers_config(columns=columns))
        assert {feature.name: feature.optional for feature in seen} == {"color": True, "petals": False}

    def test_where_it_is_absent_all_its_values_are_missing(self) -> None:
        color = Feature(name="color", type="string", levels=("red",), optional=True)
        frame = pd.DataFrame({"petals": [3, 4]})
        matrix = design_matrix(frame, [color, Feature(name="petals", type="long")])
        np.testing.assert_array_equal(matrix, [[np.nan, 3], [np.nan, 4]])

    def test_a_schema_says_so_and_earlier_releases_refuse_it(self) -> None:
        schema = flowers_model().schema
        assert json.loads(schema.dumps())["format_version"] == 1
        for feature in (DATE, TIMESTAMP, CODES, Feature(name="x", type="double", optional=True)):
            newer = dataclasses.replace(schema, features=(*schema.features, feature))
            assert json.loads(newer.dumps())["format_version"] == 3
            assert dataclasses.replace(scorer.Schema.loads(newer.dumps()), split=schema.split) == newer
