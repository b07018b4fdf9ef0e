"""The evaluation report: one HTML file that needs nothing else, for MLflow's artifact viewer and for mail."""

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Undefined

from steps.core.metrics import CLASS_MEASURES
from steps.core.models.gate import Verdict


def render(
    *,
    title: str,
    verdict: Verdict,
    facts: Mapping[str, str],
    scores: Mapping[str, Mapping[str, float]],
    per_class: Mapping[str, Mapping[str, float]],
    images: Mapping[str, bytes],
) -> str:
    """`scores` has a column for each model and a row for each metric; `per_class` has measures and rows of each class.
    What is not in them is not defined, and shown as a dash. `images` are PNGs by name."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    templates.filters |= {"number": _number, "data_uri": _data_uri}
    return templates.get_template("report.html.j2").render(
        title=title,
        verdict=verdict,
        facts=facts,
        scores=scores,
        metrics=list(dict.fromkeys(name for column in scores.values() for name in column)),
        per_class=per_class,
        measures=CLASS_MEASURES,
        images=images,
    )


def _number(value: float | Undefined) -> str:
    return "–" if isinstance(value, Undefined) else f"{value:.4f}"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
