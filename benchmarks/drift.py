"""How often `monitor` raises a false alarm, and how surely it finds a shift, on samples that are made from seeds.

Reads   200 pairs of samples for each size: a reference, and rows of the same distribution, or with one of ten features
        moved. Of the features six are continuous (one has a tenth missing, one is 0 in six of ten rows, one is rounded
        to tenths), two are whole numbers and truth values, two are categories, of 5 and of 300
Writes  benchmarks/DRIFT.md, and the same to stdout: the share of each verdict
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from steps.core.config_monitor import Monitor
from steps.core.models.scorer import Feature
from steps.core.monitoring import drift, reference
from steps.core.monitoring.findings import WORST_FIRST, Finding, Level, worst
from steps.core.monitoring.reference import Reference
from steps.core.monitoring.summary import summarize

TRIALS = 200
SIZES = (30, 100, 1_000, 10_000)
REFERENCE_SIZES = (300, 20_000)
SHIFT = 0.5  # of a standard deviation, of the first feature
TRAINED_SHARE = 0.7
DOUBLES = ("normal", "lognormal", "uniform", "with_missing", "mostly_zero", "rounded")
TARGET_FILE = Path(__file__).with_name("DRIFT.md")


def rows(random: np.random.Generator, count: int, *, shift: float = 0.0) -> pa.Table:
    """`count` rows of ten features; `normal` is moved by so many standard deviations."""
    with_missing = random.normal(size=count)
    categories = [f"c{number}" for number in np.minimum(random.zipf(1.3, count), 300)]
    return pa.table(
        {
            "normal": random.normal(shift, 1.0, count),
            "lognormal": random.lognormal(size=count),
            "uniform": random.random(count),
            "with_missing": pa.array(with_missing, mask=random.random(count) < 0.1),
            "mostly_zero": np.where(random.random(count) < 0.6, 0.0, random.exponential(size=count)),
            "rounded": np.round(random.normal(5, 1, count), 1),
            "count": random.poisson(3, count),
            "flag": random.random(count) < 0.3,
            "few": random.choice(["a", "b", "c", "d", "e"], count, p=[0.4, 0.3, 0.2, 0.08, 0.02]),
            "many": categories,
        }
    )


def reference_of(sample: pa.Table) -> Reference:
    """What train keeps of these rows, of which the first TRAINED_SHARE are the train part."""
    trained = round(TRAINED_SHARE * len(sample))
    part, others = sample.slice(0, trained), sample.slice(trained)
    features = [Feature(name=name, type="double") for name in DOUBLES]
    features += [Feature(name="count", type="long"), Feature(name="flag", type="boolean")]
    features += [
        Feature(name=name, type="string", levels=tuple(sorted(part[name].unique().to_pylist())))
        for name in ("few", "many")
    ]
    return Reference(
        table_uri="table@v0",
        table_rows=len(sample),
        rows=len(part),
        columns={},
        features=reference.features_of(part, features, others=others),
    )


def findings(known: Reference, current: pa.Table, settings: Monitor | None = None) -> list[Finding]:
    """What is found in these rows, a finding for each feature."""
    settings = settings or Monitor()
    summary = summarize(current, [one.bins for one in known.features], grouping=known.grouping)
    found = drift.drifts(known, {0: summary}, settings)[0]
    return [one.finding(settings.significance) for one in found]


def verdicts(*, reference_rows: int, size: int, trials: int, shift: float = 0.0) -> Counter[Level]:
    """The verdicts on so many pairs of samples."""
    counts: Counter[Level] = Counter()
    for seed in range(trials):
        random = np.random.default_rng([seed, size, reference_rows])
        known = reference_of(rows(random, round(reference_rows / TRAINED_SHARE)))
        counts[worst(findings(known, rows(random, size, shift=shift)))] += 1
    return counts


def measured(trials: int) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [
        "| shift | training rows | rows | " + " | ".join(WORST_FIRST) + " |",
        "|---|---|---|" + "---|" * len(WORST_FIRST),
    ]
    for shift in (0.0, SHIFT):
        for reference_rows in REFERENCE_SIZES:
            for size in SIZES:
                counts = verdicts(reference_rows=reference_rows, size=size, trials=trials, shift=shift)
                shares = " | ".join(f"{counts[level] / trials:.1%}" for level in WORST_FIRST)
                what = f"{shift:g} sd of one feature" if shift else "none"
                lines.append(f"| {what} | {reference_rows:,} | {size:,} | {shares} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"of each row of the table (default {TRIALS})")
    parser.add_argument("--write", action="store_true", help=f"also write {TARGET_FILE.name}")
    given = parser.parse_args(argv)
    began = time.monotonic()
    lines = measured(given.trials)
    print("\n".join(lines))
    print(f"{time.monotonic() - began:.0f} s")
    if given.write:
        text = (
            "# False alarms and power of `monitor`\n\n"
            f"`python -m benchmarks.drift --write`: the verdicts on {given.trials} pairs of seeded samples for each\n"
            "row, of ten features each, by the defaults of `monitor` in the config. Without a shift, every warn and\n"
            "alert is a false alarm.\n\n"
        )
        TARGET_FILE.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
