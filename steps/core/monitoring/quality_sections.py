"""Quality in the report of a watch: a table for each way of telling it, and the gate's metric over time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from steps.core.metrics import METRICS, logged_name
from steps.core.monitoring.report import Section
from steps.core.monitoring.watching import LIVE, Watch

NOTES = {
    LIVE: "What the labels that have come say of its quality, beside what the gate saw.",
    "estimated quality": "What the model's own probabilities say of its quality, before any label has come.",
    "prediction drift": "What the model answers, beside what it answered on its test part.",
}
WIDTH, HEIGHT, MARGIN = 640, 190, 26  # of the viewBox; below, for the first and the last window
DOT = 3


@dataclass(frozen=True, kw_only=True)
class Point:
    """A score with its 95% interval, of a window or of the gate."""

    label: str
    value: float
    low: float
    high: float


def sections(watch: Watch, *, metric: str) -> list[Section]:
    """Those of which anything was found: all of the newest window, and what is worth a warning of those before it."""
    return [
        Section(
            title=name.capitalize(),
            note=note,
            header=("window (UTC)", "level", "what"),
            rows=rows,
            pictures=_pictures(watch, metric) if name == LIVE else (),
        )
        for name, note in NOTES.items()
        if (rows := list(_rows(watch, name)))
    ]


def over_time(points: Sequence[Point], gate: Point | None, *, what: str) -> Markup:
    """The score of each window as a dot with its interval, over the band of the gate's interval, as SVG."""
    ends = [end for point in [*points, *([gate] if gate else [])] for end in (point.low, point.high)]
    bottom, top, low = HEIGHT - MARGIN, 8, min(ends)
    reach = (max(ends) - low) or 1.0

    def y(value: float) -> float:
        return bottom - (value - low) / reach * (bottom - top)

    parts = []
    if gate:
        height = max(y(gate.low) - y(gate.high), 1.0)
        parts.append(f'<rect class="before" x="0" y="{y(gate.high):.1f}" width="{WIDTH}" height="{height:.1f}"/>')
        parts.append(f'<line class="axis" x1="0" y1="{y(gate.value):.1f}" x2="{WIDTH}" y2="{y(gate.value):.1f}"/>')
    step = WIDTH / len(points)
    for place, point in enumerate(points):
        x = (place + 0.5) * step
        parts.append(f'<line class="now" x1="{x:.1f}" y1="{y(point.low):.1f}" x2="{x:.1f}" y2="{y(point.high):.1f}"/>')
        parts.append(f'<circle class="now" cx="{x:.1f}" cy="{y(point.value):.1f}" r="{DOT}"/>')
    texts = [f'<text x="0" y="{y(end) + shift:.1f}">{end:.3g}</text>' for end, shift in ((max(ends), 10), (low, -3))]
    texts.append(f'<text x="0" y="{HEIGHT - 6}">{escape(points[0].label)}</text>')
    if len(points) > 1:
        texts.append(f'<text x="{WIDTH}" y="{HEIGHT - 6}" class="end">{escape(points[-1].label)}</text>')
    content = "".join([*parts, *texts])
    return Markup(  # the texts that are a user's are escaped above
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(what)}">{content}</svg>'
    )


def _rows(watch: Watch, name: str) -> Iterator[tuple[str, Markup, str]]:
    windows = [window for window in reversed(watch.windows) if name in window.quality]
    for window in windows:
        for finding in window.quality[name]:
            if window is not windows[0] and finding.level not in ("warn", "alert"):
                continue
            level = Markup('<span class="outcome {0}">{0}</span>').format(finding.level)
            yield window.window.label, level, finding.reason


def _pictures(watch: Watch, metric: str) -> list[Markup]:
    points, gate, name = [], None, logged_name(metric)
    for window in watch.windows:
        for finding in window.quality.get(LIVE, ()):
            numbers = finding.numbers
            if f"{name}_low" in numbers:
                points.append(_point(window.window.label, numbers[name], numbers, name))
            if "gate" in numbers:
                gate = _point("gate", numbers["gate"], numbers, "gate")
    if not points:
        return []
    worst = (min if METRICS[metric].greater_is_better else max)(points, key=lambda point: point.value)
    what = f"{metric} of {len(points)} windows, the worst {worst.value:.4f} ({worst.label})"
    seen = f"; the gate saw {gate.value:.4f} ({gate.low:.4f} to {gate.high:.4f})" if gate else ""
    return [over_time(points, gate, what=f"{what}{seen}")]


def _point(label: str, value: float, numbers: Mapping[str, float], name: str) -> Point:
    return Point(label=label, value=value, low=numbers[f"{name}_low"], high=numbers[f"{name}_high"])
