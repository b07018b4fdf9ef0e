"""Two distributions over each other as SVG, which needs no library where it is looked at and scales to any screen.

What a model was trained on is a filled shape, what came is a line or an open bar, so they can be told apart without
colours.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from steps.core.monitoring.bins import Bins

WIDTH, HEIGHT = 320, 130  # of the viewBox; bars of categories make it higher
MARGIN = 22  # below, for the ends of the axis
NARROWEST = 0.01  # a bin's share of the axis
MOST_BARS = 12
BAR = 18  # height of a category, both bars together
LABEL_WIDTH, LABEL_CHARACTERS = 104, 16


def distributions(bins: Bins, reference: np.ndarray, current: np.ndarray) -> Markup:
    """Of (bins,) counts: shares by value, or densities between the ends of bins. "" where there is nothing to see."""
    if bins.kind == "times" or not reference.sum():
        return Markup()
    before, now = (counts / max(counts.sum(), 1) for counts in (reference, current))
    if bins.kind == "quantiles":
        return _densities(bins, before, now)
    return _bars(bins.labels, before, now)


def _densities(bins: Bins, before: np.ndarray, now: np.ndarray) -> Markup:
    if not bins.edges:
        return Markup()
    ends = np.array([min(bins.low, bins.edges[0]), *bins.edges, max(bins.high, bins.edges[-1])])
    widths = np.maximum(np.diff(ends), NARROWEST * (ends[-1] - ends[0]) or 1.0)
    x = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum() * WIDTH
    densities = [shares / widths for shares in (before, now)]
    top = max(float(each.max()) for each in densities) or 1.0
    bottom = HEIGHT - MARGIN
    steps = []
    for each in densities:
        y = bottom - each / top * (bottom - 6)
        corners = [(edge, height) for (a, b), height in zip(pairwise(x), y, strict=True) for edge in (a, b)]
        steps.append(" ".join(f"{edge:.1f},{height:.1f}" for edge, height in corners))
    shape = f'<polygon class="before" points="0,{bottom} {steps[0]} {WIDTH},{bottom}"/>'
    line = f'<polyline class="now" points="{steps[1]}"/>'
    axis = f'<line class="axis" x1="0" y1="{bottom}" x2="{WIDTH}" y2="{bottom}"/>'
    low, high = (f"{end:.4g}" for end in (ends[0], ends[-1]))
    texts = f'<text x="0" y="{HEIGHT - 6}">{low}</text><text x="{WIDTH}" y="{HEIGHT - 6}" class="end">{high}</text>'
    return _svg(shape + line + axis + texts, HEIGHT)


def _bars(labels: Sequence[str], before: np.ndarray, now: np.ndarray) -> Markup:
    used = [i for i in np.argsort(-np.maximum(before, now), kind="stable")[:MOST_BARS] if before[i] or now[i]]
    used.sort()
    top = max(float(max(before[i], now[i])) for i in used) or 1.0
    room = WIDTH - LABEL_WIDTH - 42
    rows = []
    for place, i in enumerate(used):
        y, was, came = place * BAR, before[i] / top * room, now[i] / top * room
        label = labels[i] if len(labels[i]) <= LABEL_CHARACTERS else f"{labels[i][: LABEL_CHARACTERS - 1]}…"
        rows.append(
            f'<text x="{LABEL_WIDTH - 6}" y="{y + 13}" class="end">{escape(label)}</text>'
            f'<rect class="before" x="{LABEL_WIDTH}" y="{y + 2}" width="{was:.1f}" height="{BAR - 4}"/>'
            f'<rect class="now" x="{LABEL_WIDTH}" y="{y + 5}" width="{came:.1f}" height="{BAR - 10}"/>'
            f'<text x="{WIDTH}" y="{y + 13}" class="end">{now[i]:.1%}</text>'
        )
    return _svg("".join(rows), BAR * len(used))


def _svg(content: str, height: int) -> Markup:
    return Markup(  # the one text of a user's, a label, is escaped above
        f'<svg viewBox="-1 -1 {WIDTH + 2} {height + 2}" role="img" '
        f'aria-label="shares of the rows that the model was trained on, and of those that came">{content}</svg>'
    )
