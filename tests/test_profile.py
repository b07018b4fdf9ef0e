"""The profile of rows: what pandas says of them, whatever their order and batches; and what is wrong for learning."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets
from small import QUICK, flowers

from steps.core.sources import data_warnings, profile_page, sklearn_dataset
from steps.core.sources.profile import Profile
from steps.core.tables import row_hash


def profile_of(rows: pa.Table, *, batch: int = 1_000) -> Profile:
    made = Profile(rows.schema)
    for begin in range(0, len(rows), batch):
        part = rows.slice(begin, batch)
        made.add(part, row_hash.column_hashes(part))
    return made


def table_of(rows: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(rows, preserve_index=False)


class TestHashes:
    def test_they_are_the_same_from_release_to_release(self) -> None:
        rows = pa.table({"x": [1.5, None], "n": [7, -1], "s": ["a", "é"], "b": [True, None]})
        assert row_hash.row_hashes(row_hash.column_hashes(rows)).tolist() == GOLDEN

    @QUICK
    @given(st.lists(st.tuples(st.none() | st.integers(-3, 3), st.none() | st.sampled_from("abc")), max_size=8))
    def test_equal_rows_are_equal_in_any_order_and_others_differ(self, rows: list[tuple[Any, Any]]) -> None:
        table = pa.table(
            {"n": pa.array([n for n, _ in rows], pa.int64()), "s": pa.array([s for _, s in rows], pa.string())}
        )
        hashes = row_hash.row_hashes(row_hash.column_hashes(table))
        assert len(set(hashes.tolist())) == len(set(rows))
        backwards = row_hash.row_hashes(
            row_hash.column_hashes(table.take(pa.array(range(len(rows))[::-1], pa.int64())))
        )
        assert row_hash.fingerprint_sum(hashes) == row_hash.fingerprint_sum(backwards) == sum(hashes.tolist())

    def test_values_that_change_columns_are_another_row(self) -> None:
        one, other = pa.table({"a": ["x"], "b": ["y"]}), pa.table({"a": ["y"], "b": ["x"]})
        assert row_hash.row_hashes(row_hash.column_hashes(one)) != row_hash.row_hashes(row_hash.column_hashes(other))

    def test_minus_zero_is_zero(self) -> None:
        assert len(set(row_hash.column_hashes(pa.table({"x": [0.0, -0.0]}))[:, 0].tolist())) == 1

    def test_a_row_has_two_that_are_told_apart_by_any_value_also_of_lists_and_bytes(self) -> None:
        kinds = {
            "n": pa.int64(),
            "t": pa.string(),
            "l": pa.list_(pa.int64()),
            "b": pa.binary(),
            "s": pa.struct({"x": pa.string()}),
        }
        one = {"n": 1, "t": "a", "l": [1], "b": b"1", "s": {"x": "a"}}
        others = [{**one, "n": 2}, {**one, "t": "b"}, {**one, "l": [2]}, {**one, "b": b"2"}, {**one, "s": {"x": None}}]
        missing = [{**one, name: None} for name in kinds]
        rows = pa.Table.from_pylist([one, one, *others, *missing], pa.schema(kinds))
        for hashes in row_hash.two_hashes(rows):
            assert hashes[0] == hashes[1]
            assert len(set(hashes.tolist())) == len(rows) - 1
        assert set(row_hash.two_hashes(rows)[0].tolist()).isdisjoint(row_hash.two_hashes(rows)[1].tolist())


GOLDEN = [10129660560630141281, 9660769787340197045]


class TestProfiles:
    def test_it_says_what_pandas_says(self) -> None:
        frame = flowers(3_000)
        found = profile_of(table_of(frame)).as_dict()
        assert found["rows"] == 3_000
        length = found["columns"]["petal_length"]
        assert length["missing"] == frame["petal_length"].isna().sum()
        assert (length["min"], length["max"]) == (frame["petal_length"].min(), frame["petal_length"].max())
        assert length["mean"] == pytest.approx(frame["petal_length"].mean())
        assert length["standard_deviation"] == pytest.approx(frame["petal_length"].std(ddof=0))
        assert length["quantiles"]["0.25"] == pytest.approx(frame["petal_length"].quantile(0.25))
        assert sum(length["histogram"]["counts"]) == frame["petal_length"].notna().sum()
        assert dict(found["columns"]["color"]["top"]) == Counter(frame["color"].dropna())
        json.dumps(found, allow_nan=False)

    def test_numbers_that_the_sample_has_none_of_are_counted_all_the_same(self) -> None:
        """A column that is empty until the last of many rows."""
        column = pa.array([None] * 100_000 + [1.5], pa.float64())
        found = profile_of(pa.table({"x": column}), batch=7_000).as_dict()["columns"]["x"]
        assert (found["missing"], found["distinct"], found["min"], found["mean"]) == (100_000, 1, 1.5, 1.5)

    def test_different_values_are_estimated_within_a_tenth(self) -> None:
        rows = pa.table({"x": np.random.default_rng(1).integers(0, 50_000, 200_000).astype(float)})
        assert profile_of(rows).as_dict()["columns"]["x"]["distinct"] == pytest.approx(49_000, rel=0.1)

    def test_quantiles_of_many_rows_are_near_and_the_sample_is_bounded(self) -> None:
        numbers = np.random.default_rng(2).normal(size=100_000)
        made = profile_of(pa.table({"x": numbers}), batch=7_000)
        assert len(made.sample()) == 10_000
        quantiles = made.as_dict()["columns"]["x"]["quantiles"]
        for share, value in quantiles.items():
            assert abs((numbers < value).mean() - float(share)) < 0.02

    @pytest.mark.parametrize(
        "numbers", [[1.7e308, -1.7e308], [1.0, 1.0 + 2e-16], [5e-324, 0.0], [3.0, 3.0], [0.0, 1.0]]
    )
    def test_any_two_doubles_have_a_histogram(self, numbers: list[float]) -> None:
        found = profile_of(pa.table({"x": numbers})).as_dict()["columns"]["x"]
        assert sum(found["histogram"]["counts"]) == 2
        json.dumps(found["histogram"], allow_nan=False)

    @QUICK
    @given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 30))
    def test_parts_add_up_to_the_whole(self, numbers: list[float | None], batch: int, cut: int) -> None:
        rows = pa.table({"x": pa.array(numbers, pa.float64())})
        whole = profile_of(rows).as_dict()["columns"]["x"]
        first, second = profile_of(rows.slice(0, cut), batch=batch), profile_of(rows.slice(cut), batch=batch)
        second.merge(first)
        parts = second.as_dict()["columns"]["x"]
        approximate = {"mean", "standard_deviation"}
        assert {k: v for k, v in parts.items() if k not in approximate} == {
            k: v for k, v in whole.items() if k not in approximate
        }
        for name in approximate & set(whole):
            assert parts[name] == pytest.approx(whole[name], rel=1e-6, abs=1e-3)

    def test_the_page_stands_alone_and_shows_text_as_text(self) -> None:
        rows = pa.table({"<b>x</b>": [1.0, 2.0], "s": ["<script>", "ü"]})
        page = profile_page.render(profile_of(rows).as_dict(), title="t<1>", facts={"rows": "2"})
        assert "&lt;b&gt;x&lt;/b&gt;" in page
        assert "<script" not in page
        assert "http" not in page
        assert page.count("<svg") == 1


def warned(rows: pa.Table, *, target: str, key: tuple[str, ...] = (), task: str = "classification") -> list[str]:
    made = profile_of(rows)
    features = [name for name in rows.column_names if name not in (target, *key)]
    labels = made.counts(target)
    return data_warnings.warnings(
        made.sample(), made.as_dict(), target=target, task=task, labels=labels, features=features, key=key
    )


class TestWarnings:
    @pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
    def test_data_sets_that_are_in_order_raise_none(self, name: str) -> None:
        task = "regression" if name == "diabetes" else "classification"
        lines = warned(sklearn_dataset.load(name), target="target", task=task)
        assert [line for line in lines if "the same features" not in line] == []  # two rows of Iris are equal

    def test_tables_of_chance_raise_none(self) -> None:
        for seed in range(200):
            random = np.random.default_rng(seed)
            columns = {f"x{place}": random.normal(size=150) for place in range(5)}
            amount = random.integers(0, 1_000_000, 150)
            rows = pa.table({**columns, "amount": amount, "y": random.choice(["a", "b", "c"], 150)})
            assert warned(rows, target="y") == []

    def test_the_number_of_a_row_in_a_sorted_file_is_named(self) -> None:
        iris = table_of(datasets.load_iris(as_frame=True).frame.astype({"target": str}))
        lines = warned(iris.append_column("row", pa.array(range(150))), target="target")
        assert any(line.startswith("row: tells target alone") for line in lines)
        assert any(line.startswith("row: (nearly) all values are different") for line in lines)

    def test_a_code_that_is_written_after_the_outcome_is_named(self) -> None:
        labels = np.random.default_rng(3).choice(["yes", "no"], 200)
        rows = pa.table({"x": np.random.default_rng(4).normal(size=200), "closed": labels == "yes", "y": labels})
        assert any(line.startswith("closed: tells y alone (100%") for line in warned(rows, target="y"))

    @pytest.mark.parametrize("size", [1e200, 1e-200])
    def test_numbers_of_any_size_are_told_alike(self, size: float) -> None:
        random = np.random.default_rng(4)
        x = random.normal(size=300)
        rows = pa.table({"x": x * 1e300, "other": random.normal(size=300), "y": x * size})
        lines = warned(rows, target="y", task="regression")
        assert [line.partition(":")[0] for line in lines if "tells y alone" in line] == ["x"]

    def test_a_feature_that_is_a_regressions_target_in_another_unit_is_named(self) -> None:
        target = np.random.default_rng(5).normal(size=300)
        rows = pa.table({"x": np.random.default_rng(6).normal(size=300), "feet": target * 3.28, "y": target})
        assert [line.split(":")[0] for line in warned(rows, target="y", task="regression")] == ["feet"]

    def test_columns_of_which_python_makes_the_same_hash_are_not_the_same(self) -> None:
        numbers = [-1.0, -2.0] * 30  # hash(-1.0) is that of -2.0
        rows = pa.table({"x": numbers, "other": numbers[1:] + numbers[:1], "again": numbers, "y": ["a", "b", "b"] * 20})
        assert [line for line in warned(rows, target="y") if "the same as" in line] == [
            "again: the same as x in all rows; one of them is enough"
        ]

    def test_columns_that_tell_nothing_are_named(self) -> None:
        random = np.random.default_rng(7)
        rows = pa.table(
            {
                "constant": ["a"] * 60,
                "empty": pa.nulls(60, pa.float64()),
                "x": (x := random.normal(size=60)),
                "again": x,
                "y": random.choice(["a", "b"], 60),
            }
        )
        lines = warned(rows, target="y")
        assert [line.split(":")[0] for line in lines] == ["empty", "constant", "again"]

    def test_labels_that_are_rare_or_differ_by_a_mark_are_named(self) -> None:
        labels = ["yes"] * 30 + ["Yes."] * 30 + ["no"] * 30 + ["maybe"]
        rows = pa.table({"x": np.random.default_rng(8).normal(size=91), "y": labels})
        lines = warned(rows, target="y")
        assert any("fewer rows than parts of the split have 'maybe' (1)" in line for line in lines)
        assert any("'yes', 'Yes.' differ by case or a mark only" in line for line in lines)

    @pytest.mark.parametrize(("count", "is_told"), [(3, True), (13, True), (14, False)])
    def test_a_class_that_the_test_part_may_lack_is_told_with_the_keys_that_help(
        self, count: int, is_told: bool
    ) -> None:
        labels = [0] * (500 * count - count) + [1] * count
        rows = pa.table({"x": np.random.default_rng(8).normal(size=len(labels)), "y": labels})
        found = [line for line in warned(rows, target="y") if "the test part may have none" in line]
        assert [f"of {len(rows):,} rows so few have 1 ({count}) " in line for line in found] == [True] * is_told
        assert all("`split.test`" in line and "`split.seed`" in line for line in found)

    def test_classes_of_a_small_table_are_not_rare(self) -> None:
        rows = pa.table({"x": np.random.default_rng(8).normal(size=20), "y": ["a", "b", "c", "d"] * 5})
        assert warned(rows, target="y") == []

    @pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.decimal128(25, 2)])
    def test_a_regressions_target_has_no_rare_classes(self, kind: pa.DataType) -> None:
        """Such as counts, of which the largest are there once."""
        counts = pa.array([0] * 500 + [1] * 80 + [2] * 9 + [7]).cast(kind)
        rows = pa.table({"x": np.random.default_rng(8).normal(size=590), "y": counts})
        assert warned(rows, target="y", task="regression") == []
        rows = pa.table(
            {"x": np.arange(590) % 295 * 1.5, "y": np.random.default_rng(8).permutation(counts.cast(pa.int64()))}
        )
        assert warned(rows, target="y", task="regression") == []

    def test_labels_are_named_however_many_there_are(self) -> None:
        often = [f"C{number}" for number in range(30)]
        rows = pa.table({"x": np.arange(602) % 7 / 7, "y": [*often * 20, "c5", "rare"]})
        lines = warned(rows, target="y")
        assert any("fewer rows than parts of the split have 'c5' (1), 'rare' (1)" in line for line in lines)
        assert any("'C5', 'c5' differ by case or a mark only" in line for line in lines)

    @pytest.mark.parametrize(
        ("first", "second", "shown"),
        [("été", "e\u0301te\u0301", r"'\xe9t\xe9', 'e\u0301te\u0301'"), ("yes", "yes\u200b", r"'yes', 'yes\u200b'")],
    )
    def test_labels_that_look_the_same_are_named_by_what_differs(self, first: str, second: str, shown: str) -> None:
        rows = pa.table({"x": np.random.default_rng(8).normal(size=90), "y": [first, second, "no"] * 30})
        assert f"y: {shown} differ by case or a mark only; say which under `allowed`" in warned(rows, target="y")

    def test_few_different_rows_are_counted(self) -> None:
        random = np.random.default_rng(9)
        rows = pa.table(
            {
                "a": random.choice(["x", "y"], 600),
                "b": random.choice(["x", "y"], 600),
                "y": random.choice(["p", "q"], 600),
            }
        )
        assert any("600 rows have only 4 different sets of features" in line for line in warned(rows, target="y"))

    def test_rows_are_counted_whatever_their_columns_are_called(self) -> None:
        features = ("count_all", "y_count_distinct", "target", "0", "row")
        rows = pa.table({**{name: ["x", "y"] * 300 for name in features}, "y": ["p", "q", "q"] * 200})
        lines = warned(rows, target="y")
        assert any("600 rows have only 2 different sets of features" in line for line in lines)
        assert "600 of 600 rows have the same features as another and another y" in lines


@pytest.mark.parametrize("numbers", [[1.7e308], [1.7e308, -1.7e308], [1.7e308, 1.7e308, 1.0]])
def test_numbers_whose_squares_are_no_doubles_have_a_profile_that_is_json(numbers: list[float]) -> None:
    profile = profile_of(pa.table({"x": numbers}), batch=1).as_dict()
    described = json.loads(json.dumps(profile, allow_nan=False))["columns"]["x"]
    assert (described["min"], described["max"]) == (min(numbers), max(numbers))
    assert "standard deviation" in profile_page.render(profile, title="large", facts={})
