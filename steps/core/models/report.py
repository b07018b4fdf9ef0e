"""The evaluation report: one HTML file that needs nothing else, for MLflow's artifact viewer and for mail."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from steps.core.models.gate import Verdict

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff }
body { max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.verdict { display: inline-block; padding: .1rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600 }
.pass { background: #3b7a3a } .fail { background: #b3402b } .undecided { background: #8a6d00 }
table { border-collapse: collapse }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } td { font-variant-numeric: tabular-nums }
.facts td { text-align: left; overflow-wrap: anywhere } img { max-width: 100%; height: auto }
"""


def render(
    *,
    title: str,
    verdict: Verdict,
    facts: Mapping[str, str],
    scores: Mapping[str, Mapping[str, float]],
    per_class: Mapping[str, Mapping[str, float]],
    images: Mapping[str, bytes],
) -> str:
    """`scores` has a column for each model and a row for each metric; what is not in it, or in `per_class`, is not
    defined. `images` are PNGs by name."""
    metrics = list(dict.fromkeys(name for column in scores.values() for name in column))
    score_rows = [[name, *[_number(column.get(name)) for column in scores.values()]] for name in metrics]
    fullest_first = sorted(per_class.values(), key=len, reverse=True)  # has the measures in their own order
    measures = list(dict.fromkeys(name for row in fullest_first for name in row))
    class_rows = [
        [label, *[f"{row[name]:.0f}" if name == "rows" else _number(row.get(name)) for name in measures]]
        for label, row in per_class.items()
    ]
    class_head = ["class", *measures] if measures else []
    pictures = "".join(f'<p><img alt="{escape(name)}" src="{_data_uri(image)}"></p>' for name, image in images.items())
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p><span class="verdict {verdict.outcome}">{verdict.outcome}</span></p><ul>{reasons}</ul>
{_table([], [[name, value] for name, value in facts.items()], css="facts")}
<h2>On the test part</h2>
{_table(["metric", *scores], score_rows)}
<h2>By class</h2>
{_table(class_head, class_rows)}
{pictures}
</body></html>
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, css: str = "scores") -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{css}">{top}{body}</table>'


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
