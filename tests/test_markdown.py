"""Users' text in Markdown, read back by a second reader, markdown-it: it is shown as it is, wherever it stands."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from small import QUICK

from steps.core import markdown

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
NASTY = [
    "<script>alert(1)</script>",
    "a | b",
    "```\ncode",
    "`x`",
    "two\nlines\n\n# and a heading",
    "[a](javascript:alert(1))",
    "![a](http://elsewhere/x.png)",
    "*bold* _italic_ ~~gone~~ __init__",
    "&lt;b&gt; &amp; &#124;",
    "\\| \\",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "===",
    "---",
    "> quote",
    "snake_case_name stays",
    "<!-- -->",
    "naïve Größe 花 🌸",
]


def inline(tokens: list[Token]) -> list[Token]:
    return [token for token in tokens if token.type == "inline"]


def text_of(token: Token) -> str:
    assert {child.type for child in token.children or []} <= {"text", "text_special"}, token.children
    return "".join(child.content for child in token.children or [])


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_in_its_cell_and_is_shown_as_it_is(text: str) -> None:
    tokens = READER.parse(f"| a | b |\n|---|---|\n| {markdown.escape(text)} | end |")
    assert [text_of(token) for token in inline(tokens)] == ["a", "b", one_line(text), "end"]


@pytest.mark.parametrize("text", NASTY)
def test_text_that_is_a_line_of_its_own_is_a_paragraph(text: str) -> None:
    tokens = READER.parse(f"first\n\n{markdown.escape(text)}\n")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"] * 2
    assert text_of(inline(tokens)[1]) == one_line(text)


@QUICK
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp", "Cf")), min_size=1))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    tokens = READER.parse(f"| a |\n|---|\n| {markdown.escape(text)} |\n\n{markdown.escape(text)}")
    assert [text_of(token) for token in inline(tokens)] == ["a", text, text]


@pytest.mark.parametrize(
    "text", ["see @ada", "(@ada)", "mail ada@example.org", "http://elsewhere", "www.elsewhere.org"]
)
def test_what_mlflows_pages_would_make_a_link_of_is_none(text: str) -> None:
    """They read as GitHub does, and there a bare address or user is a link."""
    assert not re.search(r"@|://|www\.", markdown.escape(text))


@pytest.mark.parametrize("text", [*NASTY, "```\n````\n~~~"])
def test_a_block_of_code_ends_where_it_ends(text: str) -> None:
    (fence, after) = [token for token in READER.parse(f"{markdown.code_block(text)}\n\nafter") if token.content]
    assert (fence.type, fence.content, after.content) == ("fence", f"{text}\n", "after")


@pytest.mark.parametrize("name", ["l'iris (2)", "Fleur d été", "a]b", "x y"])
def test_a_link_is_one_link_whatever_its_text_and_target(name: str) -> None:
    (token,) = inline(READER.parse(markdown.link(name, f"#/models/{name}/versions/1")))
    children = token.children or []
    assert [child.type for child in children if "text" not in child.type] == ["link_open", "link_close"]
    assert "".join(child.content for child in children) == name


def test_a_text_that_is_too_long_keeps_as_many_rows_of_its_lists_as_fit() -> None:
    def text(rows: int) -> str:
        return "\n".join(f"row {row}" for row in range(rows))

    assert markdown.shortened(text, 10_000) == text(25)
    assert markdown.shortened(text, len(text(6))) == text(6)


def test_a_text_that_never_fits_is_cut_between_its_lines() -> None:
    assert markdown.shortened(lambda _: "one\ntwo\nthree", 10) == "one\ntwo\n…"
