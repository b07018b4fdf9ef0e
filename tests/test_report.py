"""The report as a browser would see it: read back by the standard library's HTML parser."""

import base64
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from steps.core.models import plots, report
from steps.core.models.evaluation_pictures import Picture
from steps.core.models.explanations import Importance, WorstRow
from steps.core.models.gate import Rule, Verdict
from steps.core.models.slices import Slice

VOID = {"meta", "img", "br"}
NASTY = '<b>"O\'Neil" & co</b><script>alert(1)</script> | `x`'


class Page(HTMLParser):
    """The elements of a page in order, their attributes, its text, and whether each one that opens also closes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.outcomes: list[str] = []
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
        if self.open and self.open[-1] in ("strong", "span"):
            self.outcomes.append(data.strip())
        if self.open and self.open[-1] in ("td", "th", "li"):
            self.cells.append(data)


def picture(alt: str = "Confusion matrix: 7 of 8 rows are right.") -> Picture:
    counts = np.array([[3, 1], [0, 4]])
    return Picture(name="confusion_matrix", png=plots.png(plots.confusion_matrix(counts, ["a", "b"])), alt=alt)


def page(**changes: Any) -> str:
    given: dict[str, Any] = {
        "title": "models:/iris/3",
        "verdict": Verdict(outcome="fail", reasons=["f1_macro 0.7000 is not at least 0.85"]),
        "facts": {"table": "/lake/iris@v3"},
        "scores": {"models:/iris/3": {"f1_macro": 0.7, "roc_auc": 0.91234}, "baseline": {"f1_macro": 0.25}},
        "metric": "f1_macro",
        "per_class": {"setosa": {"precision": 0.5, "recall": 0.75, "f1": 0.6, "rows": 12.0}},
        "pictures": [picture()],
        **changes,
    }
    return report.render(report.Report(**given))


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
    assert ("class", "outcome fail") in read.attributes
    assert "f1_macro 0.7000 is not at least 0.85" in read.cells
    assert read.cells[1:3] == ["table", "/lake/iris@v3"]
    assert read.cells[3:6] == ["metric", "this version", "baseline"]
    assert read.cells[-13:-10] == ["roc_auc", "0.9123", "–"]  # the baseline has none
    assert read.cells[-5:] == ["setosa", "0.5000", "0.7500", "0.6000", "12"]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": NASTY},
        {"verdict": Verdict(outcome="undecided", reasons=[NASTY])},
        {"verdict": Verdict(outcome="fail", reasons=[], rules=(Rule(name=NASTY, outcome="fail", sentence=NASTY),))},
        {"facts": {NASTY: NASTY}},
        {"scores": {NASTY: {NASTY: 0.5}}},
        {"per_class": {NASTY: {"f1": 0.5, "rows": 3.0}}},
        {"warnings": [NASTY]},
        {"importances": [Importance(feature=NASTY, gain=0.5, contribution=0.5)]},
        {"slices": [Slice(column=NASTY, value=NASTY, rows=3, score=0.5)]},
        {"worst_rows": [WorstRow(loss=1.0, true=NASTY, predicted=NASTY, values={NASTY: NASTY})]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_text_of_the_users_own_is_shown_and_never_run(changes: dict[str, object]) -> None:
    read = Page(page(**changes))
    assert not {"b", "script"} & set(read.tags)
    assert NASTY in read.text


def test_the_text_for_a_picture_is_escaped_in_its_attribute() -> None:
    assert ("alt", NASTY) in Page(page(pictures=[picture(NASTY)])).attributes


def test_the_rules_are_a_table_with_their_numbers() -> None:
    rules = (
        Rule(name="baseline", outcome="pass", sentence="better by 0.5", value=0.5, limit=-0.0, interval=(0.4, 0.61)),
        Rule(name="champion", outcome="not applicable", sentence="there is none"),
    )
    read = Page(page(verdict=Verdict(outcome="pass", reasons=[], rules=rules)))
    first = read.cells.index("baseline")
    assert read.cells[first : first + 5] == ["baseline", "0.5000", "0.4000 to 0.6100", "0.0000", "better by 0.5"]
    second = read.cells.index("champion")
    assert read.cells[second : second + 5] == ["champion", "–", "–", "–", "there is none"]
    assert [text for text in read.outcomes if text] == ["pass", "pass", "not applicable"]


def test_the_page_tells_its_language_and_fits_a_phone() -> None:
    read = Page(page())
    assert ("lang", "en") in read.attributes
    assert ("content", "width=device-width, initial-scale=1") in read.attributes


def test_the_headings_go_down_one_level_at_a_time_and_the_verdict_comes_before_all_others() -> None:
    html = page(warnings=["w"], importances=[Importance(feature="x", gain=1, contribution=1)])
    levels = [int(tag[1]) for tag in Page(html).tags if re.fullmatch(r"h\d", tag)]
    assert levels == [1, *[2] * (len(levels) - 1)]
    assert html.index("Verdict:") < html.index("<h2>")


@pytest.mark.parametrize("outcome", ["pass", "fail", "undecided", "outcome"])
def test_white_on_the_colour_of_an_outcome_can_be_read(outcome: str) -> None:
    """By the contrast of at least 4.5 to 1 that WCAG 2.2 asks for."""
    colour = re.search(rf"\.{outcome} {{ background: #(\w{{6}})", page())
    assert colour is not None
    channels = [int(colour[1][place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_curves_say_the_area_below_each_as_scikit_learn_has_it() -> None:
    random = np.random.default_rng(0)
    truth = random.choice(np.array(["a", "b", "c"], dtype=object), 90)
    probabilities = random.dirichlet([1, 1, 1], 90)
    classes = ("a", "b", "c", "absent")
    (roc,) = plots.roc(truth, probabilities, classes).axes
    (precision_recall,) = plots.precision_recall(truth, probabilities, classes).axes
    areas = [sklearn.metrics.roc_auc_score(truth == name, probabilities[:, i]) for i, name in enumerate("abc")]
    expected = [f"{name} (AUC = {area:.2f})" for name, area in zip("abc", areas, strict=True)]
    assert roc.get_legend_handles_labels()[1] == expected
    assert len(precision_recall.get_legend_handles_labels()[1]) == 3


def test_curves_of_one_class_are_empty() -> None:
    truth = np.array(["a", "a"], dtype=object)
    for figure in (plots.roc(truth, np.eye(2), ("a", "b")), plots.precision_recall(truth, np.eye(2), ("a", "b"))):
        assert [axes.get_legend() for axes in figure.axes] == [None]
        assert plots.png(figure).startswith(b"\x89PNG")


def test_of_many_classes_the_curves_are_those_of_the_most_frequent() -> None:
    truth = np.array([f"class {i}" for i in range(40) for _ in range(1 + i)], dtype=object)
    classes = [f"class {i}" for i in range(40)]
    assert plots.shown_classes(truth, classes) == list(range(33, 40))


@pytest.mark.parametrize("label", ["$\\frac$", "$x$", "two\nlines", "花" * 60, "\\alpha"])
def test_a_label_of_any_text_can_be_in_a_picture(label: str) -> None:
    figure = plots.confusion_matrix(np.eye(2, dtype=int), [label, "b"])
    assert plots.png(figure).startswith(b"\x89PNG")


def test_a_model_that_could_not_be_scored_still_has_a_page() -> None:
    verdict = Verdict(outcome="undecided", reasons=["models:/iris/3 cannot be scored: the table has no column x"])
    read = Page(page(verdict=verdict, scores={}, per_class={}, pictures=[]))
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
