"""The whole comparison of a model's training rows with current ones: what was counted, found, and the verdict."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from steps.core.config_monitor import Levels, Monitor
from steps.core.monitoring import current, drift, statistics
from steps.core.monitoring.bins import Bins
from steps.core.monitoring.counting import Count, Counted
from steps.core.monitoring.current import Current
from steps.core.monitoring.drift import FeatureDrift
from steps.core.monitoring.errors import TooManyWindows
from steps.core.monitoring.findings import Finding, Level, worst
from steps.core.monitoring.reference import Reference, Watched
from steps.core.monitoring.summary import Summary
from steps.core.monitoring.windows import MOST_WINDOWS, Window, Windows
from steps.core.process import progress
from steps.core.tables import commit
from steps.core.tables.snapshot import Snapshot
from steps.core.wording import listed

REJECTS, ROWS, CLOCKS = "rejects", "rows", "scored_at"  # subjects that are no features
LIVE = "live quality"  # a section of quality: by labels
SHOWN = 5  # features of a window in a line, and reasons of each level


@dataclass(frozen=True, kw_only=True)
class WatchedWindow:
    """What was found in one window: `findings` of the features' drift, and those of `quality` by its sections
    (watched_quality.findings)."""

    window: Window
    summary: Summary
    features: Sequence[FeatureDrift]
    findings: Sequence[Finding]
    quality: Mapping[str, Sequence[Finding]] = field(default_factory=dict)

    @property
    def all_findings(self) -> list[Finding]:
        """What was found in this window, about features, predictions and quality."""
        return [*self.findings, *(one for section in self.quality.values() for one in section)]

    @property
    def level(self) -> Level:
        """The worst of what was found."""
        return worst(self.all_findings)

    def moved(self) -> list[str]:
        """The features that are worth a warning or an alert."""
        return [finding.subject for finding in self.findings if finding.level in ("warn", "alert")]

    def told(self) -> str:
        """The window in a line."""
        worse = [one.subject for one in self.all_findings[len(self.findings) :] if one.level in ("warn", "alert")]
        moved = [*self.moved(), *dict.fromkeys(worse)]
        if moved or len(self.findings) != 1:
            return listed(moved, SHOWN)
        return self.findings[0].reason


@dataclass(frozen=True, kw_only=True)
class Watch:
    """`findings` are of all rows, or of the table; those of each window are with it. Windows are in order."""

    watched: Watched
    current: Current
    counted: Counted
    windows: Sequence[WatchedWindow]
    findings: Sequence[Finding]
    significance: float

    @property
    def verdict(self) -> Level:
        """The worst of all that was found, in all windows."""
        return worst([*self.findings, *(finding for window in self.windows for finding in window.all_findings)])

    def unjudged(self) -> list[str]:
        """The features of which no window has enough rows to say anything."""
        findings = [(one.subject, one.level) for window in self.windows for one in window.findings]
        judged = {subject for subject, level in findings if level != "too little data"}
        return [name for name in dict.fromkeys(subject for subject, _ in findings) if name not in {*judged, ROWS}]

    def reasons(self) -> list[str]:
        """The first of the findings that make the verdict, and after alerts the first of the warnings, which are marked
        as such; each with its window where there are several."""
        if self.verdict == "ok":
            rows = sum(window.summary.rows for window in self.windows)
            few = f"; too few rows to say of {len(self.unjudged())} features" if self.unjudged() else ""
            nothing = f"nothing has moved in {rows:,} rows beyond what monitor in the config allows{few}"
            return [nothing, *self._newest_quality()]
        levels: list[Level] = ["alert", "warn"] if self.verdict == "alert" else [self.verdict]
        return [line for level in levels for line in self._told(level)]

    def _told(self, level: Level) -> list[str]:
        """The first findings of a level, those that are no shift before the others, and how many more there are."""
        mark = "" if level == self.verdict else str(level)
        told = [(one, mark) for one in self.findings]
        for window in reversed(self.windows):
            label = window.window.label if len(self.windows) > 1 else ""
            told += [(one, ", ".join(filter(None, (mark, label)))) for one in window.all_findings]
        found = [pair for pair in told if pair[0].level == level]
        found.sort(key=lambda pair: -pair[0].numbers.get("psi", math.inf))
        lines = [f"{one.subject}{f' ({marks})' if marks else ''}: {one.reason}" for one, marks in found[:SHOWN]]
        more = len(found) - len(lines)
        return [*lines, *([f"and {more} more{f' ({mark})' if mark else ''}"] if more else [])]

    def _newest_quality(self) -> list[str]:
        """What labels say of the newest window that has enough of them."""
        told = [
            f"{one.subject}{f' ({window.window.label})' if len(self.windows) > 1 else ''}: {one.reason}"
            for window in self.windows
            for one in window.quality.get(LIVE, ())
            if one.level == "ok"
        ]
        return told[-1:]


def watch(watched: Watched, rows: Current, settings: Monitor) -> Watch:
    """Count the rows in one pass, and compare each window with what the model was trained on."""
    bins, findings = current.readable(watched, rows.table)
    counted = _count(rows, bins, watched.reference)
    numbers = _numbers(rows.windows, counted)
    found = drift.drifts(watched.reference, {n: counted.windows[n] for n in numbers if n in counted.windows}, settings)
    return Watch(
        watched=watched,
        current=rows,
        counted=counted,
        windows=[_window(n, rows, counted, found, settings) for n in numbers],
        findings=[*findings, *_of_clocks(counted), *_of_rejects(rows.table, watched, settings)],
        significance=settings.significance,
    )


def _count(rows: Current, bins: Sequence[Bins], reference: Reference) -> Counted:
    """By this process, or by Spark's workers where the rows are too many for one."""
    count = Count(bins=bins, grouping=reference.grouping, windows=rows.windows, answered_by=rows.answered_by)
    columns = rows.columns(bins, reference)
    if not columns:  # of no feature, nor of anything else
        return Counted()
    if not rows.rows.is_for_workers:
        return count(progress.counted(rows.rows.batches(columns), "rows_read", total=rows.rows.row_count))
    from steps.core.monitoring import spark_counting  # PySpark takes half a second, which small tables do not pay

    return spark_counting.count(rows, count, columns)


def _numbers(windows: Windows, counted: Counted) -> list[int]:
    """All windows from the first that has rows to the last, also those without rows between them. Rows that are marked
    as deleted count where a time was asked for: without one they go back to the first prediction that there was."""
    gone = [counted.gone_from] if windows.begin is not None and counted.gone_from is not None else []
    first = min([*counted.windows, *gone], default=windows.last)
    if (count := windows.last + 1 - first) > MOST_WINDOWS:
        raise TooManyWindows(count, most=MOST_WINDOWS)
    return list(range(first, windows.last + 1))


def _window(
    number: int, rows: Current, counted: Counted, found: Mapping[int, list[FeatureDrift]], settings: Monitor
) -> WatchedWindow:
    windows = rows.windows
    summary, features = counted.windows.get(number, Summary()), found.get(number, [])
    findings = [feature.finding(settings.significance) for feature in features]
    if not summary.rows:
        which = "in this window" if counted.windows else rows.which
        findings = [Finding(level="too little data", subject=ROWS, reason=f"there is none {which}")]
    return WatchedWindow(window=windows.window(number), summary=summary, features=features, findings=findings)


def _of_clocks(counted: Counted) -> Iterator[Finding]:
    if counted.ahead:
        reason = (
            f"{counted.ahead:,} rows say that they were scored after their table was written, so a clock is ahead; "
            "they are counted in the last window"
        )
        yield Finding(level="warn", subject=CLOCKS, reason=reason, numbers={"rows_ahead": counted.ahead})
    if counted.untimed:
        reason = f"{counted.untimed:,} rows do not say when they were scored, and are counted in the last window"
        yield Finding(level="warn", subject=CLOCKS, reason=reason, numbers={"rows_untimed": counted.untimed})


def _of_rejects(table: Snapshot, watched: Watched, settings: Monitor) -> Iterator[Finding]:
    """What ingest has rejected since the version that the model was trained on, of the rows that it has read."""
    reference = watched.reference
    if not reference.read or not watched.is_of(table) or (trained := watched.table) is None:
        return
    since = [made.metadata for version, made in table.commits.items() if version > trained.version]
    read, rejected = (
        sum(int(metadata.get(name, 0)) for metadata in since) for name in (commit.ROWS_READ, commit.ROWS_REJECTED)
    )
    if not read:
        return
    before, now = reference.rejected / reference.read, rejected / read
    p_value = statistics.shares_differ(reference=(before, reference.read), current=(now, read))
    level = _level(abs(now - before), p_value, settings.rejects, settings.significance)
    reason = f"rows that broke the contract {before:.1%} -> {now:.1%} ({rejected:,} of {read:,}), p {p_value:.2g}"
    yield Finding(level=level, subject=REJECTS, reason=reason, numbers={"rejects_share": now})


def _level(effect: float, p_value: float, levels: Levels, significance: float) -> Level:
    if p_value > significance or effect < levels.warn:
        return "ok"
    return "alert" if effect >= levels.alert else "warn"
