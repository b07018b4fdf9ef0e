"""The report as a browser would see it: read back by the standard library's HTML parser."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import sklearn.metrics

from steps.core.models import plots, report
from steps.core.models.gate import Verdict

VOID = {"meta", "img", "br"}
NASTY = '<b>"O\'Neil" & co</b>'


class Page(HTMLParser):
    """The elements of a page in order, their attributes, its text, and whether each one that opens also closes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th", "li"):
            self.cells.append(data)


def page(**changes: object) -> str:
    counts = np.array([[3, 1], [0, 4]])
    given = {
        "title": "models:/iris/3",
        "verdict": Verdict(outcome="fail", reasons=["f1_macro 0.7000 is not at least 0.85"]),
        "facts": {"table": "/lake/iris@v3"},
        "scores": {"models:/iris/3": {"f1_macro": 0.7, "roc_auc": 0.91234}, "baseline": {"f1_macro": 0.25}},
        "per_class": {"setosa": {"precision": 0.5, "recall": 0.75, "f1": 0.6, "rows": 12.0}},
        "images": {"confusion_matrix": plots.png(plots.confusion_matrix(counts, ["a", "b"]))},
        **changes,
    }
    return report.render(**given)  # type: ignore[arg-type]


def test_the_page_is_well_formed() -> None:
    assert Page(page()).open == []


def test_the_page_needs_nothing_but_itself() -> None:
    html = page()
    references = [value for name, value in Page(html).attributes if name in ("src", "href", "srcset", "action", "data")]
    assert references
    assert all(value.startswith("data:image/png;base64,") for value in references)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    assert not {"script", "link", "iframe"} & set(Page(html).tags)


def test_the_pictures_inside_are_png() -> None:
    encoded = next(value for name, value in Page(page()).attributes if name == "src")
    assert base64.b64decode(encoded.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG\r\n\x1a\n")


def test_verdict_reasons_facts_and_scores_can_be_read() -> None:
    read = Page(page())
    assert ("class", "verdict fail") in read.attributes
    assert "f1_macro 0.7000 is not at least 0.85" in read.cells
    assert read.cells[1:3] == ["table", "/lake/iris@v3"]
    assert read.cells[-13:-10] == ["roc_auc", "0.9123", "–"]  # the baseline has none
    assert read.cells[-5:] == ["setosa", "0.5000", "0.7500", "0.6000", "12"]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": NASTY},
        {"verdict": Verdict(outcome="undecided", reasons=[NASTY])},
        {"facts": {NASTY: NASTY}},
        {"scores": {NASTY: {NASTY: 0.5}}},
        {"per_class": {NASTY: {"f1": 0.5, "rows": 3.0}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_text_of_the_users_own_is_shown_and_never_run(changes: dict[str, object]) -> None:
    read = Page(page(**changes))
    assert "b" not in read.tags
    assert NASTY in read.text


def test_the_caption_of_a_picture_is_escaped_in_its_attribute() -> None:
    images = {NASTY: plots.png(plots.confusion_matrix(np.eye(2, dtype=int), ["a", "b"]))}
    assert ("alt", NASTY) in Page(page(images=images)).attributes


def test_curves_say_the_area_below_each_as_scikit_learn_has_it() -> None:
    random = np.random.default_rng(0)
    truth = random.choice(np.array(["a", "b", "c"], dtype=object), 90)
    probabilities = random.dirichlet([1, 1, 1], 90)
    roc, precision_recall = plots.curves(truth, probabilities, ("a", "b", "c", "absent")).axes
    areas = [sklearn.metrics.roc_auc_score(truth == name, probabilities[:, i]) for i, name in enumerate("abc")]
    expected = [f"{name} (AUC = {area:.2f})" for name, area in zip("abc", areas, strict=True)]
    assert roc.get_legend_handles_labels()[1] == expected
    assert len(precision_recall.get_legend_handles_labels()[1]) == 3


def test_curves_of_one_class_are_empty() -> None:
    figure = plots.curves(np.array(["a", "a"], dtype=object), np.eye(2), ("a", "b"))
    assert [axes.get_legend() for axes in figure.axes] == [None, None]
    assert plots.png(figure).startswith(b"\x89PNG")


def test_a_model_that_could_not_be_scored_still_has_a_page() -> None:
    verdict = Verdict(outcome="undecided", reasons=["models:/iris/3 cannot be scored: the table has no column x"])
    read = Page(page(verdict=verdict, scores={}, per_class={}, images={}))
    assert read.open == []
    assert verdict.reasons[0] in read.cells


@pytest.mark.parametrize("rows", [0.0, 1.0])
def test_rows_of_a_class_are_shown_as_a_whole_number(rows: float) -> None:
    read = Page(page(per_class={"setosa": {"rows": rows}}))
    assert read.cells[-1] == f"{rows:.0f}"


def test_what_is_not_defined_of_a_class_is_a_dash() -> None:
    read = Page(
        page(
            per_class={
                "setosa": {"recall": 0.0, "f1": 0.0, "rows": 2},
                "rose": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 1},
            }
        )
    )
    assert read.cells[-15:] == ["class", "precision", "recall", "f1", "rows", "setosa", "–", "0.0000", "0.0000", "2",
                                "rose", "0.5000", "0.5000", "0.5000", "1"]  # fmt: skip
