"""Which part a row belongs to: a pure function of the row and the seed, the same today and in a year."""

import datetime
import itertools
import json
from collections import Counter
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import FLOWERS, QUICK, flowers, flowers_config

from steps.core.errors import NoTrainingWindow
from steps.core.models.row_hashes import hashes
from steps.core.models.split import (
    OUTSIDE,
    PARTS,
    SplitSettings,
    folds,
    held_out,
    more_rows,
    parts,
    recorded,
    settings_of,
    split,
    with_boundaries,
)

SETTINGS = SplitSettings(test=0.3, validation=0.2, seed=7, columns=("color", "length", "petals", "wild"))
COLUMNS = ["length", "petals", "color", "wild", "species"]
ROWS = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=False, width=32),
        st.none() | st.integers(-(2**53), 2**53),
        st.none() | st.text("abé 1", max_size=3),
        st.none() | st.booleans(),
        st.sampled_from("xyz"),
    ),
    min_size=1,
    max_size=20,
)


def table(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    """As the lake hands them over: from Arrow, where a whole number that may be missing becomes a double."""
    kinds = [pa.float64(), pa.int64(), pa.string(), pa.bool_(), pa.string()]
    arrays = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True))).to_pandas()


def contents(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return [tuple(None if pd.isna(value) else value for value in row) for row in rows.to_numpy(dtype=object)]


def test_golden_parts_hold_from_version_to_version() -> None:
    """Another answer here moves rows between the parts of every table that was ever split."""
    rows = pd.DataFrame(
        {
            "length": [5.1, 4.9, -0.0, 0.0, np.nan, 1e300],
            "petals": [3, 4, 5, 5, 6, 2**53],
            "color": ["red", "blue", "", "", None, "weiß"],
        }
    )
    assert hashes(rows, sorted(rows.columns), seed=7).tolist() == [
        1311616791897082265,
        16611731835906259604,
        8568521620685048852,
        8568521620685048852,
        17536853288290451840,
        4334001810376181367,
    ]
    settings = replace(SETTINGS, columns=("color", "length", "petals"))
    assert parts(rows, settings).tolist() == ["test", "train", "validation", "validation", "train", "test"]


@QUICK
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_of_columns_changes_nothing(rows, random) -> None:  # type: ignore[no-untyped-def]
    frame = table(rows)
    order, columns = random.sample(range(len(rows)), len(rows)), random.sample(COLUMNS, len(COLUMNS))
    one, other = split(frame, SETTINGS), split(frame.iloc[order][columns], SETTINGS)
    for name in PARTS:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name)[COLUMNS])


@QUICK
@given(ROWS)
def test_every_row_is_in_exactly_one_part(rows: list[tuple[object, ...]]) -> None:
    result = split(table(rows), SETTINGS)
    all_rows = [row for name in PARTS for row in contents(getattr(result, name))]
    assert sorted(all_rows, key=repr) == sorted(contents(table(rows)), key=repr)


@QUICK
@given(ROWS)
def test_equal_rows_are_never_in_two_parts(rows: list[tuple[object, ...]]) -> None:
    """Equal in their features: the target may differ."""
    result = split(table([*rows, *((*row[:4], "other") for row in rows)]), SETTINGS)
    seen = [{row[:4] for row in contents(getattr(result, name))} for name in PARTS]
    assert len(seen[0] | seen[1] | seen[2]) == sum(map(len, seen))


@QUICK
@given(ROWS, st.integers(0, 19))
def test_a_rows_part_does_not_depend_on_the_rows_beside_it(rows: list[tuple[object, ...]], position: int) -> None:
    position %= len(rows)
    assert parts(table(rows), SETTINGS)[position] == parts(table([rows[position]]), SETTINGS)[0]


def test_a_missing_boolean_leaves_the_other_rows_in_their_parts() -> None:
    settings = SplitSettings(test=0.3, validation=0.2, seed=7, columns=("id", "wild"))
    wild = [i % 3 == 0 for i in range(50)]
    before = pa.table({"id": range(50), "wild": pa.array(wild)}).to_pandas()
    after = pa.table({"id": range(51), "wild": pa.array([*wild, None])}).to_pandas()
    assert parts(after, settings)[:50].tolist() == parts(before, settings).tolist()


@QUICK
@given(ROWS, st.text(max_size=3))
def test_the_target_decides_nothing(rows: list[tuple[object, ...]], label: str) -> None:
    frame = table(rows)
    assert parts(frame, SETTINGS).tolist() == parts(frame.assign(species=label), SETTINGS).tolist()
    assert parts(frame, SETTINGS).tolist() == parts(frame.drop(columns="species"), SETTINGS).tolist()


@QUICK
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1))
def test_equal_numbers_of_any_type_are_one_value(numbers: list[int]) -> None:
    settings = SplitSettings(test=0.3, validation=0.2, seed=7, columns=("x",))
    for kind in ("int32", "float64", "Int64", "Float64"):
        other = parts(pd.DataFrame({"x": pd.Series(numbers, dtype=kind)}), settings)
        assert parts(pd.DataFrame({"x": numbers}), settings).tolist() == other.tolist()


def test_zero_has_no_sign_and_missing_has_one_form() -> None:
    zeros = pd.DataFrame({"x": [0.0, -0.0]})
    assert len(set(hashes(zeros, ["x"], seed=7))) == 1
    texts = pd.DataFrame({"x": pd.Series([None, np.nan, pd.NA], dtype=object)})
    assert len(set(hashes(texts, ["x"], seed=7))) == 1
    numbers = pd.DataFrame({"x": [np.nan, np.float64("-nan")]})
    assert len(set(hashes(numbers, ["x"], seed=7))) == 1


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_shares_are_about_right_on_many_rows(seed: int) -> None:
    settings = SplitSettings(test=0.2, validation=0.1, seed=seed, columns=("x",))
    shares = pd.Series(parts(pd.DataFrame({"x": range(20_000)}), settings)).value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.012)  # four standard deviations
    assert shares["validation"] == pytest.approx(0.1, abs=0.009)
    assert shares["train"] == pytest.approx(0.7, abs=0.013)


def test_another_seed_is_another_split_and_an_independent_one() -> None:
    rows = pd.DataFrame({"x": range(20_000)})
    one, other = (
        parts(rows, SplitSettings(test=0.5, validation=0.1, seed=seed, columns=("x",))) == "test" for seed in (1, 2)
    )
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(0, abs=0.03)


def test_a_larger_test_part_holds_the_smaller_one() -> None:
    rows = pd.DataFrame({"x": range(2_000)})
    small, large = (
        parts(rows, SplitSettings(test=share, validation=0.1, seed=7, columns=("x",))) == "test" for share in (0.2, 0.4)
    )
    assert small.sum() < large.sum()
    assert not (small & ~large).any()


def test_rows_of_one_group_stay_together() -> None:
    settings = settings_of(flowers_config(split={"group": "color"}))
    rows = pd.DataFrame({"color": [f"field {i % 40}" for i in range(400)], "petal_length": range(400)})
    result = pd.DataFrame({"group": rows["color"], "part": parts(rows, settings)})
    assert (result.groupby("group")["part"].nunique() == 1).all()
    assert set(result["part"]) == set(PARTS)


def test_a_config_is_split_by_its_features_in_any_order() -> None:
    flipped = dict(reversed(flowers_config().model_dump()["columns"].items()))
    assert settings_of(flowers_config()) == settings_of(flowers_config(columns=flipped))
    assert settings_of(flowers_config()).columns == ("color", "petal_length", "petals", "wild")


def test_rows_without_a_group_are_no_group_of_their_own() -> None:
    """They are split by their features, so that all of them do not fall on one side."""
    rows = flowers(400).assign(color=None)
    settings = settings_of(flowers_config(split={"group": "color"}))
    counts = Counter(parts(rows, settings).tolist())
    assert counts.keys() == {"train", "validation", "test"}
    assert 0.1 < counts["test"] / len(rows) < 0.3
    twice = pd.concat([rows, rows], ignore_index=True)
    assert parts(twice, settings).tolist() == 2 * parts(rows, settings).tolist()


def test_settings_are_the_same_when_a_model_gives_them_back() -> None:
    for settings in (settings_of(flowers_config(split={"group": "color"})), settings_of(flowers_config())):
        assert recorded(json.loads(json.dumps(asdict(settings)))) == settings


def test_few_different_rows_or_groups_are_counted_where_more_are_needed() -> None:
    settings = settings_of(flowers_config(split={"group": "color"}))
    rows = pd.DataFrame({"color": ["blue", "red", "white"] * 50, "petal_length": range(150)})
    said = "ingest rows that differ more: the 150 that have a label hold 3 different values of color, and equal ones"
    assert more_rows(rows, settings).startswith(said)
    by_content = SplitSettings(test=0.2, validation=0.1, seed=7, columns=("petal_length",))
    assert more_rows(rows, by_content) == "ingest more rows than the 150 that have a label"


def test_parts_have_a_fresh_index_and_keep_their_columns() -> None:
    result = split(flowers(), settings_of(flowers_config()))
    for name in PARTS:
        part = getattr(result, name)
        assert part.index.tolist() == list(range(len(part)))
        assert part.columns.tolist() == flowers().columns.tolist()


@pytest.mark.parametrize("kind", ["float64", "object"])
def test_no_rows_are_three_empty_parts(kind: str) -> None:
    settings = SplitSettings(test=0.3, validation=0.2, seed=7, columns=("x",))
    result = split(pd.DataFrame({"x": pd.Series([], dtype=kind)}), settings)
    assert [len(getattr(result, name)) for name in PARTS] == [0, 0, 0]


def test_an_updated_row_stays_in_its_part_where_the_config_has_a_key() -> None:
    keyed = flowers_config(columns={"id": {"type": "long"}, **FLOWERS["columns"]}, key=["id"])
    rows = flowers(300).assign(id=range(300))
    updated = rows.assign(petal_length=rows["petal_length"] + 1, color="green")
    settings = settings_of(keyed)
    assert (parts(rows, settings) == parts(updated, settings)).all()
    assert "id" in keyed.training_columns
    assert "id" not in keyed.features


def test_columns_that_the_config_names_decide_alone_also_beside_a_key() -> None:
    columns = {"id": {"type": "long"}, **FLOWERS["columns"]}
    named = settings_of(flowers_config(columns=columns, key=["id"], split={"columns": ["petals", "color"]}))
    assert named.columns == ("color", "petals")
    assert named.types == {"color": "string", "petals": "long"}
    by_key = settings_of(flowers_config(columns=columns, key=["id"]))
    assert by_key == settings_of(flowers_config(columns=columns, split={"columns": ["id"]}))


def test_a_feature_that_is_added_or_dropped_moves_no_row_where_the_config_names_the_columns() -> None:
    named = {"split": {"columns": ["petal_length", "color"]}}
    wider = flowers_config(columns={**FLOWERS["columns"], "leaves": {"type": "long"}}, **named)
    narrow = flowers_config(
        columns={name: FLOWERS["columns"][name] for name in ("petal_length", "color", "species")}, **named
    )
    rows = flowers().assign(leaves=3)
    assert len({tuple(parts(rows, settings_of(config))) for config in (flowers_config(**named), wider, narrow)}) == 1


DAYS = st.lists(st.integers(0, 30), min_size=1, max_size=40)
BY_DAY = SplitSettings(test=0.2, validation=0.1, seed=7, columns=(), time="day", types={"day": "date"})


DATE = pa.date32()


def calendar(days: list[int], kind: pa.DataType = DATE) -> pd.DataFrame:
    times = [datetime.datetime(2024, 2, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=day) for day in days]
    values = [time.date() for time in times] if kind == DATE else times
    return pa.table({"day": pa.array(values, kind), "row": range(len(days))}).to_pandas()


class TestByTime:
    @QUICK
    @given(DAYS, st.sampled_from([DATE, pa.timestamp("us", "UTC")]))
    def test_time_never_runs_backwards_and_equal_times_are_together(self, days: list[int], kind: pa.DataType) -> None:
        rows = calendar(days, kind)
        part = parts(rows, replace(BY_DAY, types={"day": "date" if kind == DATE else "timestamp"}))
        last, first = {}, {}
        for name in PARTS:
            of_part = [day for day, its_part in zip(days, part, strict=True) if its_part == name]
            last[name], first[name] = max(of_part, default=-1), min(of_part, default=99)
        assert last["train"] < min(first["validation"], first["test"])
        assert last["validation"] < first["test"]
        assert first["test"] <= max(days)

    def test_the_newest_rows_are_the_test_part_and_those_before_them_validation(self) -> None:
        rows = calendar(list(range(20))[::-1])
        assert parts(rows, BY_DAY).tolist() == ["test"] * 4 + ["validation"] * 2 + ["train"] * 14

    @QUICK
    @given(DAYS, DAYS)
    def test_rows_that_come_later_leave_the_recorded_parts_as_they_are(self, days: list[int], more: list[int]) -> None:
        settings = recorded(json.loads(json.dumps(asdict(with_boundaries(BY_DAY, calendar(days))))))
        before, after = parts(calendar(days), settings), parts(calendar([*days, *more]), settings)
        assert after[: len(days)].tolist() == before.tolist()
        assert before.tolist() == parts(calendar(days), BY_DAY).tolist()

    def test_the_boundaries_are_two_times_of_the_rows(self) -> None:
        settings = with_boundaries(BY_DAY, calendar(list(range(20))))
        assert settings.boundaries == ("2024-02-15T00:00:00.000000", "2024-02-17T00:00:00.000000")
        assert with_boundaries(settings, calendar([99])) == settings

    def test_times_beyond_what_pandas_can_hold_are_times(self) -> None:
        rows = pa.table({"day": [datetime.date(1, 1, 1), datetime.date(2024, 1, 1), datetime.date(9999, 12, 31)]})
        assert parts(rows.to_pandas(), BY_DAY).tolist() == ["train", "validation", "test"]

    def test_a_row_without_a_time_is_trained_on(self) -> None:
        rows = pa.table({"day": pa.array([None, *range(9)], pa.date32())}).to_pandas()
        assert parts(rows, BY_DAY)[0] == "train"
        assert set(parts(rows.head(1), BY_DAY)) == {"train"}

    def test_few_different_times_are_counted_where_more_are_needed(self) -> None:
        assert "the 4 that have a label hold 2 different values of day" in more_rows(calendar([1, 1, 2, 2]), BY_DAY)


class TestWindow:
    """Of the last ten days, by the hash of `row` within them."""

    SETTINGS = replace(BY_DAY, columns=("row",), types={"day": "date", "row": "long"}, window="day", window_days=10)
    WITHOUT = replace(SETTINGS, window="", window_days=0)

    @QUICK
    @given(DAYS)
    def test_rows_before_it_are_in_no_part_and_the_others_where_they_were(self, days: list[int]) -> None:
        hashed = replace(self.SETTINGS, time="")
        rows = calendar(days)
        is_inside = np.array(days) >= max(days) - 10
        expected = np.where(is_inside, parts(rows, replace(self.WITHOUT, time="")), OUTSIDE)
        assert parts(rows, hashed).tolist() == expected.tolist()
        assert (held_out(rows, hashed) == np.isin(expected, ["test", OUTSIDE])).all()
        for pair in folds(rows, hashed, 3):
            assert all(set(side["row"]) <= set(rows["row"][is_inside]) for side in pair)

    def test_by_time_the_shares_are_those_of_its_rows(self) -> None:
        rows = calendar(list(range(40)))
        assert parts(rows, self.SETTINGS).tolist() == [OUTSIDE] * 29 + ["train"] * 8 + ["validation"] * 1 + ["test"] * 2

    def test_rows_that_come_later_leave_what_a_model_recorded_as_it_is(self) -> None:
        settings = recorded(json.loads(json.dumps(asdict(with_boundaries(self.SETTINGS, calendar([0, 5, 20]))))))
        assert settings.window_from == "2024-02-11T00:00:00.000000"
        assert parts(calendar([0, 5, 20, 90]), settings).tolist()[:2] == [OUTSIDE] * 2

    def test_a_row_without_a_time_is_outside_and_a_window_may_begin_before_any_time(self) -> None:
        rows = pa.table({"day": pa.array([None, 1, 2], pa.date32()), "row": range(3)}).to_pandas()
        endless = replace(self.SETTINGS, time="", window_days=1e12)
        assert (parts(rows, endless) == OUTSIDE).tolist() == [True, False, False]
        assert set(parts(rows.head(1), endless)) == {OUTSIDE}
        assert more_rows(rows.head(1), endless) == "ingest rows with a time in day, or take a longer window"

    def test_of_a_time_that_is_text_now_no_row_is_known_to_be_outside(self) -> None:
        settings = with_boundaries(replace(self.SETTINGS, time=""), calendar([0, 20]))
        assert not held_out(calendar([0, 20]).assign(day="unknown"), settings).any()

    def test_a_config_counts_it_only_where_it_is_trained_on(self) -> None:
        columns = {**FLOWERS["columns"], "day": {"type": "date"}}
        given = {"window": {"column": "day", "days": 10}}
        config = flowers_config(columns=columns, split=given)
        assert settings_of(config).window == ""
        assert "window" not in config.model_dump()["split"]
        trained = config.with_hyperparameters(train_on="window")
        assert (settings_of(trained).window, settings_of(trained).window_days) == ("day", 10)
        assert trained.model_dump()["split"]["window"] == given["window"]
        with pytest.raises(NoTrainingWindow, match="train_on=window was given"):
            flowers_config().with_hyperparameters(train_on="window")


def keys(rows: pd.DataFrame) -> set[tuple[object, ...]]:
    return set(contents(rows))


class TestFolds:
    @QUICK
    @given(ROWS, st.integers(2, 6))
    def test_each_row_outside_the_test_part_is_validated_on_once_and_no_duplicate_straddles(
        self, rows: list[tuple[object, ...]], k: int
    ) -> None:
        frame = table([*rows, *((*row[:4], "other") for row in rows)])
        outside = split(frame, SETTINGS)
        pairs = folds(frame, SETTINGS, k)
        for train, validation in pairs:
            assert not {row[:4] for row in contents(train)} & {row[:4] for row in contents(validation)}
            assert sorted([*contents(train), *contents(validation)], key=repr) == sorted(
                [*contents(outside.train), *contents(outside.validation)], key=repr
            )
        validated = [row for _, validation in pairs for row in contents(validation)]
        assert len(validated) <= len(outside.train) + len(outside.validation)
        assert len(set(map(repr, validated))) == len({repr(row) for row in validated})

    def test_many_rows_are_in_k_folds_of_about_the_same_size_that_cover_them(self) -> None:
        rows = flowers(1000)
        settings = settings_of(flowers_config())
        pairs = folds(rows, settings, 5)
        outside = (parts(rows, settings) != "test").sum()
        assert [0.15 * outside < len(validation) < 0.25 * outside for _, validation in pairs] == [True] * 5
        assert sum(len(validation) for _, validation in pairs) == outside

    def test_rows_of_one_group_are_on_one_side(self) -> None:
        settings = settings_of(flowers_config(split={"group": "color"}))
        rows = pd.DataFrame({"color": [f"field {i % 40}" for i in range(400)], "petal_length": range(400)})
        for train, validation in folds(rows, settings, 4):
            assert not set(train["color"]) & set(validation["color"])

    @QUICK
    @given(DAYS, st.integers(2, 6))
    def test_by_time_each_pair_is_validated_on_what_follows(self, days: list[int], k: int) -> None:
        rows = calendar(days)
        tested = rows[parts(rows, BY_DAY) == "test"]
        pairs = folds(rows, BY_DAY, k)
        for train, validation in pairs:
            assert train["day"].max() < validation["day"].min()
            assert validation["day"].max() < tested["day"].min()
        assert all(len(one[0]) < len(other[0]) for one, other in itertools.pairwise(pairs))

    def test_by_time_there_are_k_of_them(self) -> None:
        assert [len(validation) for _, validation in folds(calendar(list(range(100))), BY_DAY, 4)] == [16] * 4


class TestHeldOut:
    """Which rows a recorded split has certainly set aside, on a table that has changed since."""

    ROWS = pd.DataFrame(
        {"id": range(400), "zip": range(1000, 1400), "price": [i / 4 for i in range(400)], "paid": [True, False] * 200}
    )

    def settings(self, *columns: str, **types: str) -> SplitSettings:
        return SplitSettings(test=0.4, validation=0.1, seed=7, columns=columns, types=types)

    @pytest.mark.parametrize(
        ("column", "type_", "now"),
        [
            ("zip", "long", lambda values: values.astype(str).astype(object)),
            ("zip", "long", lambda values: values.astype("float64")),
            ("price", "double", lambda values: values.map("{:.2f}".format).astype(object)),
            ("price", "double", lambda values: values.map(lambda value: Decimal(f"{value:.2f}"))),
            ("price", "decimal(6,2)", lambda values: values.map(lambda value: Decimal(f"{value:.3f}"))),
            ("price", "decimal(6,2)", lambda values: values.astype(float)),
            ("paid", "boolean", lambda values: values.map({True: "yes", False: "no"}).astype(object)),
            ("paid", "boolean", lambda values: values.astype("int64")),
        ],
    )
    def test_a_column_of_another_type_is_hashed_as_it_was(self, column: str, type_: str, now: Any) -> None:
        then = self.ROWS.assign(price=self.ROWS["price"].map(lambda value: Decimal(f"{value:.2f}")))
        then = then if type_.startswith("decimal") else self.ROWS
        settings = self.settings(column, "id", **{column: type_})
        expected = parts(then, settings) == "test"
        assert 0 < expected.sum() < len(expected)
        changed = self.ROWS.assign(**{column: now(self.ROWS[column])})
        assert held_out(changed, settings).tolist() == expected.tolist()

    @pytest.mark.parametrize(
        ("column", "type_", "now"),
        [
            ("zip", "string", lambda values: values),  # 1000 may have been "01000"
            ("zip", "long", lambda values: values.map("no {}".format).astype(object)),
            ("zip", "date", lambda values: values),
            ("price", "double", lambda values: values.astype("float32")),
            ("price", "long", lambda values: values + 0.3),
            ("paid", "boolean", lambda values: values.map({True: "ja", False: "nein"}).astype(object)),
        ],
    )
    def test_a_value_that_does_not_tell_what_it_was_may_have_been_trained_on(
        self, column: str, type_: str, now: Any
    ) -> None:
        changed = self.ROWS.assign(**{column: now(self.ROWS[column])})
        assert not held_out(changed, self.settings(column, **{column: type_})).any()

    def test_one_value_that_does_not_convert_leaves_the_other_rows_known(self) -> None:
        settings = self.settings("zip", zip="long")
        texts = self.ROWS.assign(zip=self.ROWS["zip"].astype(str).astype(object))
        texts.loc[0, "zip"] = "unknown"
        expected = (parts(self.ROWS, settings) == "test").tolist()
        assert held_out(texts, settings).tolist() == [False, *expected[1:]]

    def test_a_column_that_is_gone_leaves_no_row_known(self) -> None:
        assert not held_out(self.ROWS.drop(columns="zip"), self.settings("zip", "paid")).any()

    def test_types_that_were_not_recorded_are_those_of_the_models_features(self) -> None:
        written = asdict(self.settings("zip"))
        del written["types"], written["time"], written["boundaries"]
        settings = recorded(written, {"zip": "long", "price": "double"})
        texts = self.ROWS.assign(zip=self.ROWS["zip"].astype(str).astype(object))
        assert held_out(texts, settings).tolist() == (parts(self.ROWS, settings) == "test").tolist()
        assert settings.types == {"zip": "long"}

    def test_a_time_that_is_text_now_leaves_no_row_known(self) -> None:
        rows = calendar(list(range(20)))
        settings = with_boundaries(BY_DAY, rows)
        assert held_out(rows, settings).sum() == 4
        assert not held_out(rows.assign(day=rows["day"].astype(str)), settings).any()
