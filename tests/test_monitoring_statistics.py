"""The statistics of drift: beside scipy's own on raw values, by golden values, and by what must hold of any counts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small import QUICK

from steps.core.monitoring import statistics
from steps.core.monitoring.groups import effective_rows, intraclass_correlation

COUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=12)


def counts(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class TestStabilityIndex:
    def test_is_the_formula_of_the_textbook_where_all_bins_are_well_filled(self) -> None:
        p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
        expected = ((q - p) * np.log(q / p)).sum()
        found = statistics.stability_index((p * 10**7).astype(int), (q * 10**7).astype(int))
        assert found == pytest.approx(expected, rel=1e-5)

    def test_is_that_of_a_normal_column_which_moves_by_half_a_deviation(self) -> None:
        """Jeffreys' divergence of two normal distributions is the squared distance; ten bins keep nearly all of it."""
        edges = stats.norm.ppf(np.arange(1, 10) / 10)
        before, now = (np.diff(stats.norm.cdf([-np.inf, *edges, np.inf], mean)) * 10**7 for mean in (0, 0.5))
        assert 0.22 < statistics.stability_index(before.astype(int), now.astype(int)) < 0.25

    def test_an_empty_bin_makes_nothing_infinite(self) -> None:
        assert 1 < statistics.stability_index(counts(100, 0), counts(0, 100)) < 20

    def test_bins_that_are_empty_on_both_sides_change_nothing(self) -> None:
        assert statistics.stability_index(counts(5, 0, 9, 0), counts(7, 0, 4, 0)) == statistics.stability_index(
            counts(5, 9), counts(7, 4)
        )

    @given(st.data())
    @QUICK
    def test_is_finite_not_negative_and_the_same_the_other_way_round(self, data: Any) -> None:
        before = data.draw(COUNTS)
        now = data.draw(st.lists(st.integers(0, 10**9), min_size=len(before), max_size=len(before)))
        there, back = (
            statistics.stability_index(counts(*one), counts(*other)) for one, other in ((before, now), (now, before))
        )
        assert np.isfinite(there)
        assert there >= 0
        assert there == pytest.approx(back)

    def test_is_by_chance_what_simulated_samples_of_one_distribution_have(self) -> None:
        random, shares = np.random.default_rng(1), np.full(10, 0.1)
        found = [
            statistics.stability_index(random.multinomial(2_000, shares), random.multinomial(500, shares))
            for _ in range(400)
        ]
        expected = statistics.index_by_chance(10, reference_rows=2_000, current_rows=500)
        assert np.mean(found) == pytest.approx(expected, rel=0.1)


class TestTests:
    def test_kolmogorov_smirnov_of_bins_is_no_more_than_that_of_the_values(self) -> None:
        random = np.random.default_rng(2)
        before, now = random.normal(size=3_000), random.normal(0.1, 1, 400)
        edges = np.quantile(before, np.arange(1, 10) / 10)
        binned = [np.bincount(np.searchsorted(edges, values), minlength=10) for values in (before, now)]
        distance, p_value = statistics.kolmogorov_smirnov(*binned, reference_rows=3_000, current_rows=400)
        exact = stats.ks_2samp(before, now, method="asymp")
        assert 0.7 * exact.statistic < distance <= exact.statistic
        assert exact.pvalue <= p_value

    def test_kolmogorov_smirnov_of_a_bin_for_each_value_is_that_of_scipy(self) -> None:
        before, now = np.arange(50), np.arange(20, 60)
        binned = [np.bincount(values, minlength=60) for values in (before, now)]
        distance, p_value = statistics.kolmogorov_smirnov(*binned, reference_rows=50, current_rows=40)
        exact = stats.ks_2samp(before, now, method="asymp")
        assert distance == pytest.approx(exact.statistic)
        assert p_value == pytest.approx(exact.pvalue)

    def test_chi_square_is_that_of_scipy(self) -> None:
        before, now = counts(200, 300, 500), counts(30, 20, 50)
        found = statistics.chi_square(before, now, reference_rows=1_000, current_rows=100)
        assert found == pytest.approx(stats.chi2_contingency([before, now], correction=False).pvalue)

    def test_bins_of_few_rows_count_together(self) -> None:
        before, now = counts(500, 400, 1, 2, 3), counts(50, 40, 1, 0, 0)
        found = statistics.chi_square(before, now, reference_rows=906, current_rows=91)
        expected = stats.chi2_contingency([[500, 406], [50, 41]], correction=False).pvalue
        assert found == pytest.approx(expected)

    def test_one_bin_tells_no_difference(self) -> None:
        assert statistics.chi_square(counts(100), counts(7), reference_rows=100, current_rows=7) == 1.0

    def test_rows_that_count_as_half_as_many_are_half_as_significant(self) -> None:
        before, now = counts(400, 600), counts(60, 40)
        whole = statistics.chi_square(before, now, reference_rows=1_000, current_rows=100)
        half = statistics.chi_square(before, now, reference_rows=500, current_rows=50)
        statistic = stats.chi2_contingency([before / 2, now / 2], correction=False).statistic
        assert half == pytest.approx(stats.chi2.sf(statistic, 1))
        assert whole < half

    def test_shares_are_compared_by_fishers_exact_test(self) -> None:
        found = statistics.shares_differ(reference=(0.1, 200.0), current=(0.3, 40.0))
        assert found == pytest.approx(stats.fisher_exact([[20, 180], [12, 28]]).pvalue)

    def test_p_values_are_corrected_for_their_number(self) -> None:
        assert statistics.adjusted([0.01, *[0.5] * 9])[0] == pytest.approx(0.1)
        assert statistics.adjusted([]) == []


class TestRowsNeeded:
    def needed(self, reference_rows: float = 10_000, *, tests: int = 20, bins: int = 10) -> float:
        return statistics.rows_needed(bins, tests=tests, significance=0.01, reference_rows=reference_rows)

    def test_is_more_than_a_handful_and_less_than_a_hundred(self) -> None:
        assert 20 < self.needed() < 60
        assert 10 < self.needed(tests=1, bins=2) < 30

    def test_grows_with_the_number_of_tests_and_with_fewer_rows_to_compare_with(self) -> None:
        assert self.needed() < self.needed(tests=2_000)
        assert self.needed() < self.needed(reference_rows=100)

    def test_a_reference_of_few_rows_can_be_compared_with_none(self) -> None:
        assert self.needed(reference_rows=20) == float("inf")

    def test_so_many_rows_find_a_shift_of_one_deviation_four_times_in_five(self) -> None:
        """By simulation: a chi-square test on ten bins of equal shares of a normal column."""
        random, rows = np.random.default_rng(3), round(self.needed())
        edges = stats.norm.ppf(np.arange(1, 10) / 10)
        before = np.full(10, 1_000)
        hits = 0
        for _ in range(300):
            now = np.bincount(np.searchsorted(edges, random.normal(1, 1, rows)), minlength=10)
            exact = stats.chi2_contingency([before, now], correction=False).pvalue
            hits += exact <= 0.01 / 20
        assert 0.65 < hits / 300 < 0.97


class TestGroups:
    def test_rows_that_are_alike_within_groups_have_a_correlation_of_one(self) -> None:
        groups = np.repeat(np.arange(50), 20)
        assert intraclass_correlation(groups, (groups % 4)[:, None] == np.arange(4)) == pytest.approx(1.0)

    def test_rows_that_have_nothing_to_do_with_their_groups_have_none(self) -> None:
        random = np.random.default_rng(4)
        indicators = random.integers(0, 10, 4_000)[:, None] == np.arange(10)
        assert 0 <= intraclass_correlation(np.repeat(np.arange(200), 20), indicators) < 0.005

    def test_groups_of_one_row_tell_nothing_and_one_group_tells_all(self) -> None:
        indicators = np.arange(9)[:, None] == np.arange(9)
        assert intraclass_correlation(np.arange(9), indicators) == 0.0
        assert intraclass_correlation(np.zeros(9), indicators) == 1.0

    def test_the_effective_rows_are_those_of_which_shares_vary_as_much(self) -> None:
        """The variance of a share over many samples of groups, beside that of as many independent rows."""
        random = np.random.default_rng(5)

        def sample() -> tuple[np.ndarray, np.ndarray]:
            sizes = random.integers(5, 36, 60)
            groups = np.repeat(np.arange(60), sizes)
            return groups, (random.normal(size=60)[groups] + random.normal(size=len(groups)) > 0).astype(int)

        samples = [sample() for _ in range(500)]
        variance = np.var([positions.mean() for _, positions in samples])
        groups, positions = samples[0]
        correlation = np.mean([intraclass_correlation(one, hits[:, None] == 1) for one, hits in samples[:100]])
        sizes = np.bincount(groups)
        together = (sizes**2).sum() / sizes.sum()
        found = effective_rows(len(positions), rows_together=float(together), correlation=float(correlation))
        assert found == pytest.approx(0.25 / variance, rel=0.2)
