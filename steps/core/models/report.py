"""The evaluation report: one HTML file that needs nothing else, for MLflow's artifact viewer, a phone and mail."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Undefined

from steps.core.metrics import CLASS_MEASURES
from steps.core.models.evaluation_pictures import Picture
from steps.core.models.explanations import Importance, WorstRow
from steps.core.models.gate import Verdict
from steps.core.models.slices import Slice

MOST_IMPORTANCES = 20  # features that are listed


@dataclass(frozen=True, kw_only=True)
class Report:
    """`scores` has a column for each model and a row for each metric; `per_class` has measures and rows of each class.
    What is not in them is not defined, and shown as a dash. `unit` is that of a worst row's loss."""

    title: str
    verdict: Verdict
    facts: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    metric: str = ""  # the gate's
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    importances: Sequence[Importance] = ()
    slices: Sequence[Slice] = ()
    worst_rows: Sequence[WorstRow] = ()
    unit: str = ""
    warnings: Sequence[str] = ()


def render(report: Report) -> str:
    """The report as one page of HTML, with its pictures in it."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"number": _number, "data_uri": _data_uri, "percent": _percent}
    return templates.get_template("report.html.j2").render(
        report=report,
        metrics=list(dict.fromkeys(name for column in report.scores.values() for name in column)),
        measures=CLASS_MEASURES,
        importances=report.importances[:MOST_IMPORTANCES],
    )


def _number(value: float | Undefined | None) -> str:
    if value is None or isinstance(value, Undefined):
        return "–"
    return f"{value:.5g}" if abs(value) >= 1000 else f"{round(value, 4) + 0.0:.4f}"  # -0.0 is 0


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
