"""The pictures of docs/ from their sources, docs/*.dot, by Graphviz: `python -m automation.docs.pictures`.

A picture names the digest of its source, so that a stale one is found without Graphviz.
"""

import hashlib
import subprocess
from pathlib import Path

from steps.core.config import PROJECT

SOURCES = sorted((PROJECT / "docs").glob("*.dot"))


def stale() -> list[str]:
    """The pictures that are not of their sources as these are now."""
    return [str(_picture(source).relative_to(PROJECT)) for source in SOURCES if not _is_of(source)]


def write() -> None:
    """Draw what is stale."""
    for source in SOURCES:
        if not _is_of(source):
            # cairo draws letters as curves, so that they are as wide for every reader
            drawn = subprocess.run(["dot", "-Tsvg:cairo", source], capture_output=True, text=True, check=True).stdout
            _picture(source).write_text(f"{drawn}<!-- of {_digest(source)} -->\n", encoding="utf-8")


def _picture(source: Path) -> Path:
    return source.with_suffix(".svg")


def _is_of(source: Path) -> bool:
    picture = _picture(source)
    return picture.is_file() and _digest(source) in picture.read_text(encoding="utf-8")


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


if __name__ == "__main__":
    write()
