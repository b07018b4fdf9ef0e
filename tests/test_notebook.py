"""notebooks/explore.ipynb, executed from nothing in a folder of its own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from place import PROJECT, Place
from services import needed

NOTEBOOK = PROJECT / "notebooks" / "explore.ipynb"
REQUIREMENTS = PROJECT / "notebooks" / "requirements.txt"


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def text_of(cell: dict[str, Any]) -> str:
    """What a cell shows, without what is written to its standard error."""
    shown: list[str] = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            shown += output["text"] if output["name"] == "stdout" else []
        else:
            shown += output["data"].get("text/plain", [])
    return "".join(shown)


def test_it_is_kept_without_outputs() -> None:
    cells = code_cells(NOTEBOOK)
    assert len(cells) > 10
    assert [(cell["outputs"], cell["execution_count"]) for cell in cells] == [([], None)] * len(cells)


def test_what_executes_it_fits_the_environment_that_it_is_laid_over() -> None:
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)(?: ;.*)?$", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE))
    conda = re.findall(r"- ([\w-]+)==([\w.]+)", (PROJECT / "conda.yaml").read_text(encoding="utf-8"))
    shared = {name: pin for name, pin in conda if name in pins}
    assert len(shared) > 5
    assert {name: pins[name] for name in shared} == shared


@pytest.mark.spark
def test_it_runs_from_nothing(tmp_path: Path) -> None:
    uv = needed("uv", PROJECT / ".uv" / "bin")
    executed = tmp_path / "executed.ipynb"
    place = Place(PROJECT, {"PYTHONPATH": str(PROJECT)})
    environment = ("run", "--no-project", "--with-requirements", str(REQUIREMENTS))
    script = PROJECT / "notebooks" / "execute.py"
    ended = place.run(uv, *environment, "python", script, NOTEBOOK, tmp_path, executed)
    assert ended.exit_code == 0, ended.text

    cells = code_cells(executed)
    shown = [text_of(cell) for cell in cells]
    pictures = [output for cell in cells for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert f"'table': '{tmp_path}/lake/iris@v0'" in shown[1]
    assert any(re.search(r"setosa +50\nversicolor +50\nvirginica +50\n", text) for text in shown)
    (gate,) = [text for text in shown if text.startswith("models:/iris_xgboost_classifier/2 ")]
    assert "\nthese test rows have judged 2 versions" in gate
    assert re.search(r"this version +champion +baseline\n", "".join(shown))
    assert "models:/iris_xgboost_classifier/2" in shown[-1]
    assert (tmp_path / "lake" / "iris").is_dir()
