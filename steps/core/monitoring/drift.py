"""Whether features have moved: by how much, whether chance would do that, and whether the rows are enough to say.

A feature has up to three tests: of its distribution, of its missing share, and of the share of categories that training
did not have. All tests of a run share one limit on false alarms. A test is told when its change is significant and
large; where its rows, as independent ones, are too few for a large change to be found, nothing is said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil

from steps.core.config_monitor import Levels, Monitor
from steps.core.monitoring import statistics
from steps.core.monitoring.findings import Finding, Level, worst
from steps.core.monitoring.groups import effective_rows
from steps.core.monitoring.reference import FeatureReference, Reference
from steps.core.monitoring.summary import Counts, Summary

DISTRIBUTION, MISSING, UNSEEN = "distribution", "missing", "unseen"
CERTAIN = 1e-12  # p-values below are shown as this


@dataclass(frozen=True, kw_only=True)
class Test:
    """One question about one feature. `effect` is the size of the change, `rows` how many independent ones tell it, and
    `needed` how many it takes; `text` says what has changed, in numbers."""

    name: str
    effect: float
    levels: Levels
    p_value: float
    rows: float
    needed: float
    text: str

    def level(self, significance: float) -> Level:
        """What the answer is worth: nothing, a warning or an alert; `significance` is the greatest p-value that is no
        chance."""
        if self.rows < self.needed:
            return "too little data"
        if self.p_value > significance or self.effect < self.levels.warn:
            return "ok"
        return "alert" if self.effect >= self.levels.alert else "warn"


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """One feature in one window. `numbers` are those of a finding."""

    reference: FeatureReference
    counts: Counts
    tests: tuple[Test, ...]
    numbers: Mapping[str, float]

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.reference.bins.name

    def finding(self, significance: float) -> Finding:
        """What the tests of this feature say together, with the reasons of those that found something."""
        levels = {test.name: test.level(significance) for test in self.tests}
        told = [test for test in self.tests if levels[test.name] in ("warn", "alert")]
        if told:
            text = "; ".join(f"{test.text}, p {max(test.p_value, CERTAIN):.2g}" for test in told)
            return Finding(level=worst_of(levels), subject=self.name, reason=text, numbers=self.numbers)
        first = self.tests[0]  # of the distribution, where there is one: what the others could not tell does not count
        if levels[first.name] == "too little data":
            return Finding(level="too little data", subject=self.name, reason=_too_few(first), numbers=self.numbers)
        reason = "; ".join(test.text for test in self.tests if test is first or test.effect > 0)
        return Finding(level="ok", subject=self.name, reason=reason, numbers=self.numbers)


def drifts(reference: Reference, windows: Mapping[int, Summary], settings: Monitor) -> dict[int, list[FeatureDrift]]:
    """The features of each window, in the order of the reference, with p-values for all tests of all windows."""
    features = {feature.bins.name: feature for feature in reference.features}
    compared = [
        (number, features[name], counts, summary)
        for number, summary in windows.items()
        for name, counts in summary.counts.items()
    ]
    tests_in_all = sum(_test_count(feature) for _, feature, _, _ in compared)
    found = [
        (number, _compare(feature, counts, summary, reference, settings, tests=tests_in_all))
        for number, feature, counts, summary in compared
    ]
    p_values = iter(statistics.adjusted([test.p_value for _, one in found for test in one.tests]))
    result: dict[int, list[FeatureDrift]] = {number: [] for number in windows}
    for number, one in found:
        tests = tuple(replace(test, p_value=next(p_values)) for test in one.tests)
        own = next((test.p_value for test in tests if test.name == DISTRIBUTION), None)
        numbers = {**one.numbers, **({"p_value": own} if own is not None else {})}
        result[number].append(replace(one, tests=tests, numbers=numbers))
    return result


def worst_of(levels: Mapping[str, Level]) -> Level:
    """The worst of several levels, by the names of what they are of."""
    return worst(Finding(level=level, subject=name, reason="") for name, level in levels.items())


def _test_count(feature: FeatureReference) -> int:
    return 1 + (feature.bins.kind != "times") + (feature.bins.levels is not None)


def _compare(
    feature: FeatureReference, counts: Counts, summary: Summary, reference: Reference, settings: Monitor, *, tests: int
) -> FeatureDrift:
    one = _Comparison(
        feature=feature,
        counts=counts,
        settings=settings,
        tests=tests,
        rows_together=(reference.rows_together, summary.groups.rows_together),
    )
    made = [*one.distribution(), one.missing(), *one.unseen()]
    return FeatureDrift(reference=feature, counts=counts, tests=tuple(made), numbers=one.numbers())


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    feature: FeatureReference
    counts: Counts
    settings: Monitor
    tests: int
    rows_together: tuple[float, float]  # of the reference's sample, and of the window

    def distribution(self) -> Iterator[Test]:
        """Of the values that are there; of times, and where either side has none, there is no such test."""
        bins, before, now = self.feature.bins, self.feature.counts, self.counts
        if bins.kind == "times" or not before.present or not now.present:
            return
        n, m = (
            self._effective(rows, i, self.feature.correlation) for i, rows in enumerate((before.present, now.present))
        )
        sides = {"reference_rows": n, "current_rows": m}
        used = int(((before.bins + now.bins) > 0).sum())
        index = statistics.stability_index(before.bins, now.bins)
        by_chance = statistics.index_by_chance(used, **sides)
        if bins.is_ordered:
            largest, p_value = statistics.kolmogorov_smirnov(before.bins, now.bins, **sides)
            how = f"KS {largest:.3f}"
        else:
            p_value, how = statistics.chi_square(before.bins, now.bins, **sides), "chi-square"
        yield Test(
            name=DISTRIBUTION,
            effect=index - by_chance,
            levels=self.settings.drift,
            p_value=p_value,
            rows=m,
            needed=self._needed(used, n),
            text=f"PSI {index:.3f} ({by_chance:.3f} by chance), {how}",
        )

    def missing(self) -> Test:
        before, now = self.feature.counts, self.counts
        correlation = self.feature.missing_correlation
        return self._shares(
            MISSING,
            (before.missing, before.rows),
            (now.missing, now.rows),
            correlation=correlation,
            levels=self.settings.missing,
            text="missing",
        )

    def unseen(self) -> Iterator[Test]:
        if self.feature.bins.levels is None or not self.counts.present:
            return
        yield self._shares(
            UNSEEN,
            (self.feature.unseen, self.feature.new),
            (self.counts.unseen, self.counts.present),
            correlation=self.feature.correlation,
            levels=self.settings.unseen,
            text="not seen in training",
        )

    def numbers(self) -> dict[str, float]:
        before, now = self.feature.counts, self.counts
        found = {"missing_share": now.missing / now.rows if now.rows else 0.0}
        if self.feature.bins.kind != "times" and before.present and now.present:
            found["psi"] = statistics.stability_index(before.bins, now.bins)
            found["js_distance"] = statistics.jensen_shannon(before.bins, now.bins)
        if self.feature.bins.levels is not None and now.present:
            found["unseen_share"] = now.unseen / now.present
        return found

    def _shares(
        self,
        name: str,
        before: tuple[int, int],
        now: tuple[int, int],
        *,
        correlation: float,
        levels: Levels,
        text: str,
    ) -> Test:
        """Of how many of how many rows there were, and are."""
        p, q = (hits / rows if rows else 0.0 for hits, rows in (before, now))
        n, m = (self._effective(rows, i, correlation) for i, (_, rows) in enumerate((before, now)))
        return Test(
            name=name,
            effect=abs(q - p),
            levels=levels,
            p_value=statistics.shares_differ(reference=(p, n), current=(q, m)),
            rows=m,
            needed=self._needed(2, n),
            text=f"{text} {p:.1%} -> {q:.1%}",
        )

    def _effective(self, rows: int, side: int, correlation: float) -> float:
        return effective_rows(rows, rows_together=self.rows_together[side], correlation=correlation)

    def _needed(self, bins: int, reference_rows: float) -> float:
        return statistics.rows_needed(
            bins, tests=self.tests, significance=self.settings.significance, reference_rows=reference_rows
        )


def _too_few(test: Test) -> str:
    if test.needed == float("inf"):
        return f"the rows that the model was trained on are too few to compare its {test.name} with any others"
    what = f"{test.rows:,.0f} rows" if test.rows >= 1 or not test.rows else "less than a row"
    return f"{what}, as independent ones, and it takes {ceil(test.needed):,} to tell a change of its {test.name}"
