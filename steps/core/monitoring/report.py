"""The report of a watch: one HTML file that needs nothing else, and the same as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from steps.core.monitoring import pictures
from steps.core.monitoring.current import new_columns
from steps.core.monitoring.drift import FeatureDrift
from steps.core.monitoring.findings import WORST_FIRST, Finding
from steps.core.monitoring.watching import Watch, WatchedWindow
from steps.core.significance import CONFIDENCE

MOST_PICTURES = 30


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report beside the features: a table, and pictures as SVG or as `<img>`."""

    title: str
    note: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    pictures: Sequence[Markup] = ()


@dataclass(frozen=True, kw_only=True)
class FeatureCard:
    """A feature where it has moved most. `window` is in words, "" where there is one only."""

    finding: Finding
    window: str
    picture: Markup


def render(watch: Watch, *, facts: Mapping[str, str], sections: Sequence[Section] = ()) -> str:
    """The report as one page of HTML: the verdict, `facts` by their titles, features, and sections on quality."""
    templates = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1] / "models"]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = feature_cards(watch)
    return templates.get_template("monitor.html.j2").render(
        watch=watch,
        facts=facts,
        cards=cards[:MOST_PICTURES],
        others=cards[MOST_PICTURES:],
        sections=sections,
    )


def feature_cards(watch: Watch) -> list[FeatureCard]:
    """Each feature in its worst window, the worst first."""
    worst: dict[str, tuple[tuple[int, float], FeatureDrift, Finding, WatchedWindow]] = {}
    for window in watch.windows:
        findings = {finding.subject: finding for finding in window.findings}
        for feature in window.features:
            finding = findings[feature.name]
            rank = (WORST_FIRST.index(finding.level), -_size(feature))
            if feature.name not in worst or rank < worst[feature.name][0]:
                worst[feature.name] = (rank, feature, finding, window)
    ordered = sorted(worst.values(), key=lambda entry: entry[0])
    has_several = len(watch.windows) > 1
    return [
        FeatureCard(
            finding=finding,
            window=window.window.label if has_several else "",
            picture=pictures.distributions(feature.reference.bins, feature.reference.counts.bins, feature.counts.bins),
        )
        for _, feature, finding, window in ordered
    ]


def as_json(watch: Watch, *, facts: Mapping[str, str]) -> str:
    """Everything that was found, with finite numbers only."""
    windows = [
        {
            "begin": window.window.begin.isoformat() if window.window.begin else None,
            "end": window.window.end.isoformat(),
            "rows": window.summary.rows,
            "verdict": window.level,
            "findings": [_finding(one) for one in window.findings],
            "quality": {name: [_finding(one) for one in section] for name, section in window.quality.items()},
        }
        for window in watch.windows
    ]
    found: dict[str, Any] = {
        "verdict": watch.verdict,
        "reasons": watch.reasons(),
        "facts": dict(facts),
        "findings": [_finding(one) for one in watch.findings],
        "windows": windows,
    }
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)


def facts_of(watch: Watch) -> dict[str, str]:
    """What was compared with what, by titles, for the report."""
    known, rows = watch.watched.reference, watch.current
    sampled = f", of which {known.rows:,} of its train part are compared with" if known.rows < known.table_rows else ""
    facts = {
        "trained on": f"{known.table_uri}: {known.table_rows:,} rows{sampled}",
        "compared": f"{rows.table}: {sum(window.summary.rows for window in watch.windows):,} rows {rows.which}",
    }
    left_out = {"older": watch.counted.older, "that other versions answered": watch.counted.of_others}
    if any(left_out.values()):
        facts["left out"] = ", ".join(f"{count:,} rows {which}" for which, count in left_out.items() if count)
    if new := new_columns(rows.table, known):
        named = ", ".join(f"{name} ({kind})" for name, kind in new.items())
        facts["columns that are new"] = f"{named}; the model does not see them"
    if group := known.grouping:
        together = "one value" if group.by == "value" else "one day"
        is_there = group.column in rows.table.schema.names
        without = "" if is_there else "; these rows do not have it, and count as independent ones"
        facts["rows that belong together"] = f"those with {together} of {group.column}{without}"
    facts["false alarms"] = (
        f"where nothing has moved, in at most {watch.significance:.1%} of such comparisons of features, of predictions "
        f"and of rejects each, and in {1 - CONFIDENCE:.1%} of those of quality by labels"
    )
    return facts


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level,
        "subject": finding.subject,
        "reason": finding.reason,
        "numbers": dict(finding.numbers),
    }


def _size(feature: FeatureDrift) -> float:
    """By how much a feature has moved, in the units of its levels."""
    return max(test.effect / test.levels.warn for test in feature.tests)
