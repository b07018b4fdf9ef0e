"""A profile as one HTML page that needs nothing else: a row for each column, with its histogram or its top values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, select_autoescape

TEMPLATE = Path(__file__).with_name("profile.html.j2")
WIDTH, HEIGHT = 160, 40  # of a histogram, CSS pixels


def render(profile: Mapping[str, Any], *, title: str, facts: Mapping[str, str]) -> str:
    """The page; `facts` are shown above the columns."""
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    bars = {
        name: _bars(column["histogram"]["counts"])
        for name, column in profile["columns"].items()
        if "histogram" in column
    }
    return template.render(profile=profile, title=title, facts=facts, bars=bars, width=WIDTH, height=HEIGHT)


def _bars(counts: list[int]) -> list[dict[str, float]]:
    """Where each bar is drawn, in pixels."""
    highest, step = max(counts) or 1, WIDTH / len(counts)
    return [
        {
            "x": round(place * step, 1),
            "y": round(HEIGHT * (1 - count / highest), 1),
            "width": round(max(step - 1, 0.5), 1),
            "height": round(HEIGHT * count / highest, 1),
        }
        for place, count in enumerate(counts)
    ]


def _number(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)[:60]
