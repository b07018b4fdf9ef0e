"""Which part a row belongs to: a pure function of the row and the seed, the same today and in a year."""

import json
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import QUICK, flowers, flowers_config

from steps.core.models.split import PARTS, SplitSettings, hashes, more_rows, parts, recorded, settings_of, split

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
