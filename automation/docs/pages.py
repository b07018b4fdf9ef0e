"""The pages of the site, as the project has them: README, docs/, and what these link to.

A page keeps its place below docs/; the README is the start page. A link to another file or folder of the project leads
to a page that shows it, so that the site is whole without the repository.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from steps.core.config import PROJECT

LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
PICTURES = (".png", ".svg")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml", ".sh": "bash"}
ABOVE_DOCS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
NOT_IN_SEARCH = "---\nsearch:\n  exclude: true\n---\n\n"  # of code, which would come before what is about it
MOST_CHARACTERS = 100_000  # of a file that is shown


class LinkBroken(Exception):
    """A page links to a file of the project that is not there."""


class Pages:
    """Pages in the folder `folder`, each written once; what they link to follows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()

    def add_all(self) -> None:
        """The README, docs/ with its pictures, and what they link to. LinkBroken for a file that is not there."""
        for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
            self.add(path)

    def add(self, path: Path) -> str:
        """Write the page that shows `path`, a file or folder of the project, unless it is there; its name."""
        name = name_of(path)
        if name not in self._written:
            self._written.add(name)
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in PICTURES:
                shutil.copyfile(path, target)
            elif path.suffix == ".md":
                target.write_text(self.with_links(path.read_text(encoding="utf-8"), path), encoding="utf-8")
            else:
                target.write_text(_listing(path) if path.is_dir() else _shown(path), encoding="utf-8")
        return name

    def with_links(self, text: str, path: Path) -> str:
        """`text` of the page of `path` with links as they are between pages; what stands in code blocks stays.

        LinkBroken for a link to a file that is not there.
        """

        def moved(link: re.Match[str]) -> str:
            target = (path.parent / link[1]).resolve()
            if not target.exists():
                raise LinkBroken(f"{path.relative_to(PROJECT)}: there is no {link[1]}")
            return os.path.relpath(self.add(target), Path(name_of(path)).parent) + (link[2] or "")

        pieces = []
        start = 0
        for fence in FENCE.finditer(text):
            pieces += [LINK.sub(moved, text[start : fence.start()]), fence[0]]
            start = fence.end()
        return "".join([*pieces, LINK.sub(moved, text[start:])])


def name_of(path: Path) -> str:
    """The page that shows a file or folder of the project, by its path in the site."""
    relative = path.relative_to(PROJECT)
    if str(relative) == "README.md":
        return "index.md"
    if relative.parts[0] == "docs":
        return str(Path(*relative.parts[1:]))
    if path.suffix in (".md", *PICTURES):
        return str(relative).lower()
    shown = re.sub(r"(^|/)\.", r"\1", str(relative))  # the generator passes hidden files over
    return f"files/{shown}/index.md" if path.is_dir() else f"files/{shown}.md"


def title_of(page: Path) -> str:
    """The first heading of a page, without marks."""
    heading = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return re.sub(r"[`*]", "", heading[1]) if heading else page.stem


def _shown(path: Path) -> str:
    text = path.read_text(encoding="utf-8")[:MOST_CHARACTERS]
    return f"{NOT_IN_SEARCH}# {path.relative_to(PROJECT)}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


def _listing(folder: Path) -> str:
    names = "\n".join(f"- `{name}`" for name in _names_below(folder))
    return f"{NOT_IN_SEARCH}# {folder.relative_to(PROJECT)}/\n\n{names}\n"


def _names_below(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(PROJECT))
