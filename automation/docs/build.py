"""Build the site of docs/ into the folder site/: `python -m automation.docs.build`, or make docs.

Warnings are errors, and so is a link that leads nowhere. The generator runs in an environment of its own, of
docs/site/requirements.txt.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from automation.docs import links, pages, pictures, reference
from steps.core.config import PROJECT

SITE = PROJECT / "site"
SETTINGS = PROJECT / "docs" / "site"
SEARCH_IN_FILES, SEARCH_ELSEWHERE = "iframe-worker.js", "https://unpkg.com/iframe-worker/shim"
HOW_TO_ORDER = (  # others come after these
    *("own-data", "tune", "promote", "predict", "rerun", "serve", "watch"),
    *("schedule", "airflow", "ci", "stack", "cluster", "cloud"),
)
PROJECT_ORDER = ("architecture.md", "decisions.md", "contributing.md", "coverage.md", "changelog.md")
type Nav = list[dict[str, str | Nav]]


def navigation(folder: Path) -> Nav:
    """The pages in `folder`, by sections; each by its own title. A new page of a section is in it by itself."""

    def entries(names: Iterable[str]) -> Nav:
        return [{pages.title_of(folder / name): name} for name in names if (folder / name).is_file()]

    def below(section: str, order: tuple[str, ...] = ()) -> Nav:
        names = [path.stem for path in sorted((folder / section).glob("*.md"))]
        names.sort(key=lambda name: order.index(name) if name in order else len(order))
        return entries(f"{section}/{name}.md" for name in names)

    named = ("index.md", "concepts.md", "coming-from.md", *PROJECT_ORDER)
    others = {path.name for path in folder.glob("*.md")} - set(named)
    sections: Nav = [
        {"Start": "index.md"},
        *entries(["concepts.md"]),
        {"How to": below("how-to", HOW_TO_ORDER)},
        *entries(["coming-from.md"]),
        {"Reference": [*below("reference"), {"Code": below("code")}, {"Measured": below("benchmarks")}]},
        {"Project": entries([*PROJECT_ORDER, *sorted(others)])},
    ]
    return [entry for entry in sections if all(entry.values())]


def toml_of(nav: Nav) -> str:
    """A navigation as TOML's arrays of inline tables."""
    tables = [
        f"{{ {json.dumps(title)} = {toml_of(page) if isinstance(page, list) else json.dumps(page)} }}"
        for entry in nav
        for title, page in entry.items()
    ]
    return f"[{', '.join(tables)}]"


def main() -> None:
    if stale := [*reference.stale(), *pictures.stale()]:
        sys.exit(f"{', '.join(stale)}: of an earlier time; `make docs-generated` writes what is of now")
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        folder = Path(name)
        _write_pages(folder / "pages")
        _write_config(folder)
        _generate(folder)
        _keep_search_here(folder / "site")
        if found := links.mistakes(folder / "site"):
            sys.exit("\n".join(found))
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(folder / "site", SITE)


def _write_pages(folder: Path) -> None:
    site = pages.Pages(folder)
    site.add_all()
    site.add(PROJECT / "CHANGELOG.md")
    reference.write_code_pages(folder)
    for name in ("extra.css", SEARCH_IN_FILES):
        shutil.copyfile(SETTINGS / name, folder / name)


def _write_config(folder: Path) -> None:
    config = (SETTINGS / "zensical.toml").read_text(encoding="utf-8").replace("PROJECT", str(PROJECT))
    config = config.replace("nav = []", f"nav = {toml_of(navigation(folder / 'pages'))}")
    (folder / "zensical.toml").write_text(config, encoding="utf-8")


def _generate(folder: Path) -> None:
    """The site from pages and config. A warning ends this process, since it is an error under --strict."""
    uv = ["uv", "run", "--quiet", "--no-project", "--isolated", "--python", sys.executable]
    requirements = ["--with-requirements", str(SETTINGS / "requirements.txt")]
    path = os.pathsep.join([os.environ["PATH"], str(PROJECT / ".uv" / "bin")])
    environment = {**os.environ, "PATH": path}
    ended = subprocess.run(
        [*uv, *requirements, "zensical", "build", "--strict"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode:
        said = ended.stdout.partition("Traceback")[0]  # of the generator's own end, which says nothing more
        sys.exit(re.sub(r"\x1b\[[\d;]*m", "", said))


def _keep_search_here(site: Path) -> None:
    """Pages that are opened as files search by a script of the site, in place of the one that they would load."""
    for page in site.rglob("*.html"):
        script = os.path.relpath(site / SEARCH_IN_FILES, page.parent)
        page.write_text(page.read_text(encoding="utf-8").replace(SEARCH_ELSEWHERE, script), encoding="utf-8")


if __name__ == "__main__":
    main()
