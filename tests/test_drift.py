"""Whether features have moved, from counts: few rows, many rows, ties, constants, categories, groups."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import QUICK

from benchmarks import drift as benchmark
from steps.core.config_monitor import Monitor
from steps.core.models.grouping import Grouping
from steps.core.models.scorer import Feature, Schema
from steps.core.monitoring import bins as bins_of
from steps.core.monitoring import reference
from steps.core.monitoring.bins import MISSING, Bins
from steps.core.monitoring.findings import Finding, worst
from steps.core.monitoring.groups import MOST_GROUPS, GroupSizes
from steps.core.monitoring.reference import Reference
from steps.core.monitoring.summary import summarize


def reference_of(columns: dict[str, Any], *features: Feature, group: str = "") -> Reference:
    sample = pa.table(columns)
    grouping = Grouping(column=group) if group else None
    part, others = sample.slice(0, round(0.7 * len(sample))), sample.slice(round(0.7 * len(sample)))
    groups = grouping.codes(part) if grouping else None
    return Reference(
        table_uri="/lake/t@v3",
        table_rows=len(sample),
        rows=len(part),
        columns={name: str(kind) for name, kind in zip(sample.schema.names, sample.schema.types, strict=True)},
        features=reference.features_of(part, features, others=others, groups=groups),
        grouping=grouping,
        rows_together=GroupSizes.of(part, grouping).rows_together,
    )


def found(known: Reference, columns: dict[str, Any], **settings: Any) -> dict[str, Finding]:
    findings = benchmark.findings(known, pa.table(columns), Monitor(**settings))
    for finding in findings:
        assert np.isfinite(list(finding.numbers.values())).all()
    return {finding.subject: finding for finding in findings}


def normal(count: int, mean: float = 0.0, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


X = Feature(name="x", type="double")


class TestFewRows:
    def test_six_rows_raise_no_alarm_however_different_they_are(self) -> None:
        known = reference_of({"x": normal(150)}, X)
        finding = found(known, {"x": [99.0] * 6})["x"]
        assert finding.level == "too little data"
        assert "6 rows, as independent ones, and it takes" in finding.reason

    def test_eight_rows_with_one_value_raise_no_alarm(self) -> None:
        known = reference_of({name: normal(150, seed=i) for i, name in enumerate("xyzv")}, *features("xyzv"))
        assert worst(found(known, {name: [0.1] * 8 for name in "xyzv"}).values()) == "too little data"

    def test_the_number_that_it_takes_is_enough_for_a_large_change(self) -> None:
        known = reference_of({"x": normal(1_000)}, X)
        needed = int(found(known, {"x": [0.0]})["x"].reason.partition("it takes ")[2].partition(" ")[0])
        assert 10 < needed < 60
        assert found(known, {"x": normal(needed, 3.0, seed=2)})["x"].level == "alert"

    def test_a_reference_of_few_rows_says_that_it_is_the_one(self) -> None:
        known = reference_of({"x": normal(12)}, X)
        finding = found(known, {"x": normal(10_000, 5.0)})["x"]
        assert finding.level == "too little data"
        assert "the rows that the model was trained on are too few" in finding.reason


class TestManyRows:
    def test_a_million_rows_of_the_same_distribution_raise_no_alarm(self) -> None:
        known = benchmark.reference_of(benchmark.rows(np.random.default_rng(1), 20_000))
        findings = benchmark.findings(known, benchmark.rows(np.random.default_rng(2), 1_000_000))
        assert {finding.level for finding in findings} == {"ok"}

    def test_a_change_that_is_significant_and_small_is_none(self) -> None:
        known = reference_of({"x": normal(20_000)}, X)
        finding = found(known, {"x": normal(1_000_000, 0.05, seed=2)})["x"]
        assert finding.numbers["p_value"] < 1e-6
        assert finding.level == "ok"

    def test_the_same_change_is_found_of_a_thousand_rows_and_of_a_million(self) -> None:
        known = reference_of({"x": normal(20_000)}, X)
        assert {found(known, {"x": normal(n, 1.0, seed=n)})["x"].level for n in (1_000, 1_000_000)} == {"alert"}

    def test_the_levels_of_the_config_decide_what_is_large(self) -> None:
        known, moved = reference_of({"x": normal(20_000)}, X), {"x": normal(5_000, 0.5, seed=2)}
        assert found(known, moved, drift={"warn": 0.05, "alert": 5.0})["x"].level == "warn"
        assert found(known, moved, drift={"warn": 4.0, "alert": 5.0})["x"].level == "ok"


def features(names: str) -> list[Feature]:
    return [Feature(name=name, type="double") for name in names]


class TestValues:
    def test_a_constant_against_itself_has_not_moved(self) -> None:
        known = reference_of({"x": [7.0] * 500}, X)
        assert found(known, {"x": [7.0] * 300})["x"].level == "ok"

    def test_a_constant_that_becomes_another_has(self) -> None:
        known = reference_of({"x": [7.0] * 500}, X)
        assert found(known, {"x": [8.0] * 300})["x"].level == "alert"

    def test_a_column_that_is_constant_now_has_moved(self) -> None:
        assert found(reference_of({"x": normal(500)}, X), {"x": [0.0] * 300})["x"].level == "alert"

    def test_a_column_that_is_all_missing_now_is_told_by_its_missing_share(self) -> None:
        known = reference_of({"x": normal(500)}, X)
        finding = found(known, {"x": pa.nulls(300, pa.float64())})["x"]
        assert finding.level == "alert"
        assert "missing 0.0% -> 100.0%" in finding.reason
        assert finding.numbers["missing_share"] == 1.0

    def test_one_that_was_all_missing_can_only_be_less_so(self) -> None:
        known = reference_of({"x": pa.nulls(500, pa.float64())}, X)
        assert found(known, {"x": pa.nulls(300, pa.float64())})["x"].level == "ok"
        assert "missing 100.0% -> 0.0%" in found(known, {"x": normal(300)})["x"].reason

    def test_nan_is_missing(self) -> None:
        known = reference_of({"x": normal(500)}, X)
        assert found(known, {"x": [float("nan")] * 300})["x"].numbers["missing_share"] == 1.0

    def test_infinite_numbers_are_numbers(self) -> None:
        known = reference_of({"x": [*normal(500), float("inf")]}, X)
        assert found(known, {"x": [float("inf"), -float("inf")] * 200})["x"].level == "alert"

    def test_discrete_columns_are_compared_value_by_value(self) -> None:
        random = np.random.default_rng(3)
        known = reference_of({"x": random.poisson(3, 5_000)}, Feature(name="x", type="long"))
        assert known.features[0].bins.kind == "values"
        finding = found(known, {"x": random.poisson(3, 2_000)})["x"]
        assert finding.level == "ok"
        assert "chi-square" in finding.reason
        assert found(known, {"x": random.poisson(5, 2_000)})["x"].level == "alert"

    def test_equal_quantiles_are_one_bin_and_ties_are_not_tested_as_if_there_were_none(self) -> None:
        random = np.random.default_rng(4)

        def mostly_zero(count: int) -> np.ndarray:
            return np.where(random.random(count) < 0.6, 0.0, random.exponential(size=count))

        known = reference_of({"x": mostly_zero(5_000)}, X)
        bins = known.features[0].bins
        assert len(set(bins.edges)) == len(bins.edges) < 9
        assert not bins.is_ordered
        assert "chi-square" in found(known, {"x": mostly_zero(3_000)})["x"].reason

    def test_days_move_on_by_nature(self) -> None:
        days = [dt.date(2024, 1, 1) + dt.timedelta(days=i % 60) for i in range(400)]
        known = reference_of({"x": days}, Feature(name="x", type="date"))
        later = [day + dt.timedelta(days=900) for day in days]
        assert found(known, {"x": later})["x"].level == "ok"
        assert found(known, {"x": pa.nulls(400, pa.date32())})["x"].level == "alert"

    def test_a_column_that_may_be_absent_is_missing_where_it_is(self) -> None:
        known = reference_of({"x": normal(500)}, Feature(name="x", type="double", optional=True))
        assert found(known, {"y": normal(300)})["x"].numbers["missing_share"] == 1.0


class TestCategories:
    def known(self, values: Sequence[str | None], trained: int) -> Reference:
        levels = tuple(sorted({value for value in values[:trained] if value is not None}))
        return reference_of({"x": values}, Feature(name="x", type="string", levels=levels))

    def test_ten_thousand_of_them_take_little_room_and_raise_no_alarm(self) -> None:
        random = np.random.default_rng(5)
        values = [f"c{number}" for number in random.integers(0, 10_000, 20_000)]
        known = self.known(values, 14_000)
        assert len(known.dumps()) < 20_000
        finding = found(known, {"x": [f"c{number}" for number in random.integers(0, 10_000, 20_000)]})["x"]
        assert finding.level == "ok"
        assert 0.1 < finding.numbers["unseen_share"] < 0.4  # so many are unseen of any rows that are new

    def test_those_that_training_did_not_have_are_told(self) -> None:
        known = self.known([*"abc"] * 500, 1_050)
        finding = found(known, {"x": ["a", "b", "new"] * 200})["x"]
        assert finding.level == "alert"
        assert "not seen in training 0.0% -> 33.3%" in finding.reason

    def test_codes_are_categories_whatever_their_type(self) -> None:
        feature = Feature(name="x", type="long", levels=(1, 2, 7))
        known = reference_of({"x": [1, 2, 7] * 300}, feature)
        assert found(known, {"x": [1.0, 2.0, 7.0] * 100})["x"].level == "ok"
        assert found(known, {"x": [1, 2, 8] * 100})["x"].level == "alert"

    def test_truth_values_have_names(self) -> None:
        known = reference_of({"x": [True, False] * 300}, Feature(name="x", type="boolean"))
        assert known.features[0].bins.labels == ["false", "true", "other"]
        assert found(known, {"x": [True] * 300})["x"].level == "alert"


class TestGroups:
    """Rows of one customer are alike: 40 customers with 50 rows each tell as much as 40 rows."""

    def rows(self, seed: int, *, customers: int = 40, noise: float = 0.1) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        of_customer = random.normal(size=customers)
        groups = np.repeat(np.arange(customers), 50)
        x = of_customer[groups] + noise * random.normal(size=len(groups))
        return {"x": x, "customer": [f"{seed}-{group}" for group in groups]}

    @pytest.mark.parametrize(("noise", "customers", "without"), [(0.1, 40, 15), (0.7, 10, 5)])
    def test_are_not_taken_for_independent_rows(self, noise: float, customers: int, without: int) -> None:
        """Each sample has other customers of one population: as independent rows, many seem to have moved."""
        alone, grouped = [], []
        for seed in range(20):
            before = self.rows(2 * seed, customers=100, noise=noise)
            now = self.rows(2 * seed + 1, customers=customers, noise=noise)
            alone.append(found(reference_of(before, X), now)["x"].level)
            grouped.append(found(reference_of(before, X, group="customer"), now)["x"].level)
        assert sum(level in ("warn", "alert") for level in alone) >= without
        assert sum(level in ("warn", "alert") for level in grouped) == 0

    def test_that_have_moved_all_the_same_are_found(self) -> None:
        now = self.rows(1, customers=200)
        known = reference_of(self.rows(0, customers=400), X, group="customer")
        assert found(known, {**now, "x": now["x"] + 1.5})["x"].level == "alert"

    def test_sizes_of_parts_add_up_and_of_many_groups_a_sample_is_kept(self) -> None:
        random = np.random.default_rng(6)
        rows = pa.table({"g": random.integers(0, 20_000, 100_000)})
        grouping = Grouping(column="g")
        parts = [GroupSizes.of(rows.slice(begin, 10_000), grouping) for begin in range(0, 100_000, 10_000)]
        total = sum(parts, GroupSizes())
        whole = GroupSizes.of(rows, grouping)
        assert (total.hashes == whole.hashes).all()
        assert (total.rows == whole.rows).all()
        assert len(total.rows) == MOST_GROUPS
        sizes = np.unique(rows["g"].to_numpy(), return_counts=True)[1]
        assert total.rows_together == pytest.approx((sizes**2).sum() / sizes.sum(), rel=0.05)

    def test_rows_without_a_group_are_alone(self) -> None:
        rows = pa.table({"g": ["a", "a", "a", None]})
        assert GroupSizes.of(rows, Grouping(column="g")).rows_together == pytest.approx((3 * 3 + 1) / 4)
        assert Grouping(column="g").codes(rows).tolist() == [0, 0, 0, 1]
        zero = pa.table({"g": [0, 0, 0, None]})  # whose hash is 0
        assert GroupSizes.of(zero, Grouping(column="g")).rows_together == pytest.approx((3 * 3 + 1) / 4)

    def test_rows_of_one_day_belong_together_whatever_the_hour(self) -> None:
        moments = [dt.datetime(2024, 1, day, hour, tzinfo=dt.UTC) for day in (1, 2) for hour in range(5)]
        rows = pa.table({"at": pa.array(moments, pa.timestamp("us", "UTC"))})
        assert len(GroupSizes.of(rows, Grouping(column="at", by="day")).rows) == 2


class TestBins:
    @given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=80))
    @QUICK
    def test_every_value_is_in_one_bin_and_the_missing_ones_in_none(self, values: list[float | None]) -> None:
        column = pa.table({"x": pa.array(values, pa.float64())})["x"]
        (bins,) = bins_of.of_features([X], pa.table({"x": column}))
        positions = bins.positions(column)
        assert [position == MISSING for position in positions] == [value is None for value in values]
        assert ((positions >= MISSING) & (positions < bins.count)).all()
        assert len(bins.labels) == bins.count

    def test_numbers_at_an_edge_are_below_it(self) -> None:
        bins = Bins(name="x", type="double", kind="quantiles", edges=(1.0, 2.0))
        column = pa.chunked_array([[0.0, 1.0], [1.5, 2.0, 2.1]])
        assert bins.positions(column).tolist() == [0, 0, 1, 1, 2]

    @given(st.integers(0, 300), st.integers(0, 300))
    @QUICK
    def test_counts_of_parts_add_up_to_those_of_the_whole(self, first: int, second: int) -> None:
        rows = benchmark.rows(np.random.default_rng(7), 400)
        bins = [one.bins for one in benchmark.reference_of(rows).features]
        begin, end = sorted((first, second))
        parts = [rows.slice(0, begin), rows.slice(begin, end - begin), rows.slice(end)]
        total, whole = (
            sum((summarize(part, bins) for part in parts[1:]), summarize(parts[0], bins)),
            summarize(rows, bins),
        )
        assert total.rows == whole.rows
        for name, counts in whole.counts.items():
            assert (total.counts[name].bins == counts.bins).all()
            assert (total.counts[name].missing, total.counts[name].unseen) == (counts.missing, counts.unseen)


class TestReference:
    def test_is_read_as_it_was_written(self) -> None:
        known = benchmark.reference_of(benchmark.rows(np.random.default_rng(8), 2_000))
        features = tuple(
            Feature(name=one.bins.name, type=one.bins.type, levels=one.bins.levels)  # type: ignore[arg-type]
            for one in known.features
        )
        schema = Schema(features=features, target="t", classes=("a", "b"), split={}, table_uri="t@v0")
        read = Reference.loads(known.dumps(), schema)
        assert read.dumps() == known.dumps()
        assert [one.bins for one in read.features] == [one.bins for one in known.features]
        current = benchmark.rows(np.random.default_rng(9), 500)
        assert benchmark.findings(read, current) == benchmark.findings(known, current)

    def test_takes_some_kilobytes_and_has_no_number_that_json_has_not(self) -> None:
        known = benchmark.reference_of(benchmark.rows(np.random.default_rng(8), 2_000))
        assert len(known.dumps()) < 10_000
        json.loads(known.dumps(), parse_constant=pytest.fail)

    def test_one_of_a_later_format_is_not_read(self) -> None:
        known = reference_of({"x": normal(30)}, X)
        later = {**json.loads(known.dumps()), "format_version": 2}
        schema = Schema(features=(X,), target="t", classes=("a", "b"), split={}, table_uri="t@v0")
        with pytest.raises(ValueError, match="format 2"):
            Reference.loads(json.dumps(later), schema)
