"""docs/contributing.md, followed to the letter in a copy of the project: what it adds is there, and runs."""

import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from place import BIN, PROJECT, Ended, Place, rows_of

pytestmark = pytest.mark.spark

DOCUMENT = PROJECT / "docs" / "contributing.md"
COPIED = ("MLproject", "conda.yaml", "main.py", "pyproject.toml", "README.md", "configs", "steps", "tests")
BLOCK = re.compile(r"^`([\w./-]+)`[^\n]*:\n\n```(python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Extended:
    """A copy of the project with what the document adds, and the place where its workflow ran."""

    project: Path
    place: Place
    ended: Ended


def apply(text: str, change: str) -> str:
    """`text` with the change of a diff block, whose unchanged and removed lines must be there once."""
    lines = change.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    assert text.count(before) == 1, f"these lines are in the file {text.count(before)} times:\n{before}"
    return text.replace(before, after)


def follow(document: str, project: Path) -> list[str]:
    """Make every file and every change of the document in a project; the names of the files."""
    blocks = BLOCK.findall(document)
    for name, kind, text in blocks:
        path = project / name
        if kind == "python":
            assert not path.exists(), f"{name} is there already"
            path.write_text(text, encoding="utf-8")
        else:
            path.write_text(apply(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    return [name for name, _, _ in blocks]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Extended:
    base = tmp_path_factory.mktemp("contributed")
    project, stand = base / "project", base / "stand"
    project.mkdir()
    stand.mkdir()
    for name in COPIED:
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project / name)
    follow(DOCUMENT.read_text(encoding="utf-8"), project)
    place = Place(stand)
    ended = place.mlflow_run("main", project=project)
    assert ended.exit_code == 0, ended.text
    return Extended(project=project, place=place, ended=ended)


class TestAStep:
    def test_it_runs_as_the_last_of_the_chain_on_what_the_step_before_handed_on(self, extended: Extended) -> None:
        lines = [line.split() for line in extended.ended.out.splitlines() if line.strip()]
        assert [words[0] for words in lines] == ["step", "ingest", "train", "evaluate", "infer", "summarize"]
        assert lines[-1][1] == extended.place.lake("iris_summary@v0")
        predicted = Counter(rows_of(extended.place.lake("iris_predictions"))["prediction"].to_pylist())
        summary = rows_of(extended.place.lake("iris_summary")).to_pylist()
        assert {row["prediction"]: row["rows"] for row in summary} == predicted
        assert sum(predicted.values()) == 150

    def test_it_is_reused_until_its_own_code_changes(self, extended: Extended) -> None:
        status = extended.place.mlflow_run("status", project=extended.project)
        assert status.out.count("reused, run ") == 5, status.text
        file = extended.project / "steps" / "summarize.py"
        before = file.read_text(encoding="utf-8")
        file.write_text(before.replace('"rows"', '"row_count"'), encoding="utf-8")
        status = extended.place.mlflow_run("status", project=extended.project)
        file.write_text(before, encoding="utf-8")
        assert re.search(r"^summarize +would run +steps/summarize\.py changed$", status.out, re.MULTILINE), status.text

    def test_a_dry_run_says_after_what_it_would_run(self, extended: Extended) -> None:
        status = extended.place.mlflow_run("status", project=extended.project, seed=8)
        assert re.search(r"^summarize +would run +follows infer$", status.out, re.MULTILINE), status.text

    def test_lineage_leads_from_its_result_to_the_source_and_from_the_model_to_its_result(
        self, extended: Extended
    ) -> None:
        place, summary = extended.place, extended.place.lake("iris_summary@v0")
        back = place.mlflow_run("lineage", project=extended.project, uri=summary)
        assert re.search(r"summarize, run .*iris_predictions@v0.*models:/.*sklearn:iris", back.out, re.DOTALL), (
            back.text
        )
        forward = place.mlflow_run("lineage", project=extended.project, uri="models:/iris_xgboost_classifier/1")
        assert re.search(
            rf"iris_predictions@v0\n +infer, (.*\n)+? +{re.escape(summary)}\n +summarize, run", forward.out
        )

    def test_what_must_agree_across_files_agrees(self, extended: Extended) -> None:
        there = Place(extended.project)
        of_entry_points = ["-k", "TestEntryPoints or TestSteps", "-p", "no:cacheprovider"]
        ended = there.run(sys.executable, "-m", "pytest", "-q", "tests/test_project.py", *of_entry_points)
        assert ended.exit_code == 0, ended.text
        assert "summarize" in there.run(BIN / "ruff", "check", "--show-files").out
        checked = there.run(BIN / "ruff", "check", "steps", "main.py")
        assert checked.exit_code == 0, checked.text
