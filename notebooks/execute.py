"""Execute a notebook in a folder, from nothing: `execute.py <notebook> <folder> <executed notebook>`.

Writes the notebook with its outputs; the given one stays as it is. A cell that fails ends it with the cell's traceback.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 120


def main(notebook: str, folder: str, executed: str) -> None:
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=CELL_SECONDS, resources={"metadata": {"path": folder}}).execute()
    Path(executed).write_text(nbformat.writes(content), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
