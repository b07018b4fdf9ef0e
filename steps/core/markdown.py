"""Markdown in which text is shown as it is: what labels, names and values hold is never markup, a link or HTML."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

# Where Markdown, in any of its dialects, or HTML would take a character for more than itself. `_` within a word is
# itself; `@` is a user of GitHub's to the dialect of MLflow's pages, which also make links of addresses.
SPECIAL = re.compile(
    r"[\\`*\[\]<>|~#!&^{}$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<![^\s(])@|:(?=//)|(?<=www)\.|(?<=[A-Za-z0-9])@"
)
ROWS = (25, 12, 6, 3, 1)  # of each list and table of a text that has to be short
AT_BEGINNING = re.compile(r" ?(?:[-+=]|\d+[.)](?=\s|$))")  # of a line: a list, a heading, a rule


class Markdown(str):
    """Text that is Markdown already."""


def escape(value: object) -> Markdown:
    """`value` as Markdown of one line that shows its text, also in a cell of a table."""
    if isinstance(value, Markdown):
        return value
    text = SPECIAL.sub(_entity, re.sub(r"\s+", " ", str(value)))
    if beginning := AT_BEGINNING.match(text):
        last = beginning.end() - 1
        text = f"{text[:last]}&#{ord(text[last])};{text[last + 1 :]}"
    return Markdown(text)


def clipped(value: object, characters: int) -> str:
    """The text of `value`, without its end where it is longer."""
    text = " ".join(str(value).split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def code_block(text: str, language: str = "") -> Markdown:
    """`text` as it is, whatever it holds."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def link(text: object, target: str) -> Markdown:
    """A link to a page of MLflow's, by a `target` that begins with #."""
    return Markdown(f"[{escape(text)}]({re.sub(r'[^A-Za-z0-9#/._~%-]', _percent, target)})")


def shortened(text_of: Callable[[int], str], characters: int) -> str:
    """The longest of the texts with fewer and fewer rows that fits; else what of the shortest does, whole lines."""
    text = ""
    for rows in ROWS:
        text = text_of(rows)
        if len(text) <= characters:
            return text
    return text[: text[: max(characters - 2, 0)].rfind("\n") + 1] + "…"


def render(template: Path, **values: object) -> str:
    """The text of a template, with every value escaped that is not Markdown already."""
    return spaced(_templates(template.parent).get_template(template.name).render(**values))


def spaced(text: str) -> str:
    """`text` with room between the columns of its tables, which have none on MLflow's pages."""
    lines = (line.replace(" | ", "&nbsp; | ") if line.startswith("| ") else line for line in text.split("\n"))
    return "\n".join(lines)


@cache
def _templates(folder: Path) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # the driver, which escapes only, starts without

    templates = Environment(
        loader=FileSystemLoader(folder),
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"clipped": clipped}
    return templates


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8"))
