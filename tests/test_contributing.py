"""docs/contributing.md, followed to the letter in a copy of the project: what it adds is there, and runs."""

import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from place import BIN, COLUMNS, PROJECT, Ended, Place, new_database, rows_of
from pyarrow import orc
from sklearn.datasets import load_iris

pytestmark = pytest.mark.spark

DOCUMENT = PROJECT / "docs" / "contributing.md"
COPIED = ("MLproject", "conda.yaml", "main.py", "pyproject.toml", "configs", "steps", "tests")
BLOCK = re.compile(r"^`([\w./-]+)`[^\n]*:\n\n```(python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Extended:
    """A copy of the project with what the document adds, and the place where its workflow ran."""

    project: Path
    place: Place
    config: Path
    ended: Ended

    def run(self, entry_point: str, **parameters: Any) -> Ended:
        there = Place(self.place.folder, {"PYTHONPATH": str(self.project)})
        given = [f"--{name}={value}" for name, value in {"config": self.config, **parameters}.items()]
        return there.run(sys.executable, "-m", "steps", entry_point, *given)


def apply(text: str, changes: str) -> str:
    """`text` with the changes of a diff block, whose unchanged and removed lines must be there once."""
    for change in changes.split("@@\n"):
        lines = change.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if not line.startswith("+"))
        after = "".join(line[1:] for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, f"these lines are in the file {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


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
    new_database(stand)
    flowers = load_iris(as_frame=True)
    rows = flowers.frame.set_axis(list(COLUMNS), axis=1)
    rows["species"] = [str(flowers.target_names[code]) for code in rows["species"]]
    (stand / "flowers").mkdir()
    for name, half in {"a.orc": rows[:75], "b.orc": rows[75:][list(COLUMNS)[::-1]]}.items():
        orc.write_table(pa.Table.from_pandas(half, preserve_index=False), str(stand / "flowers" / name))
    config = place.config(
        source={"uri": "flowers"}, columns=COLUMNS, gate={"metric": "probability_error", "at_least": 0.3}
    )
    ended = place.mlflow_run("main", project=project, config=config)
    assert ended.exit_code == 0, ended.text
    return Extended(project=project, place=place, config=config, ended=ended)


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
        status = extended.run("main", dry_run="true")
        assert status.out.count("reused, run ") == 5, status.text
        file = extended.project / "steps" / "summarize.py"
        before = file.read_text(encoding="utf-8")
        file.write_text(before.replace('"rows"', '"row_count"'), encoding="utf-8")
        status = extended.run("main", dry_run="true")
        file.write_text(before, encoding="utf-8")
        assert re.search(r"^summarize +would run +steps/summarize\.py changed$", status.out, re.MULTILINE), status.text

    def test_a_dry_run_says_after_what_it_would_run(self, extended: Extended) -> None:
        status = extended.run("main", seed=8, dry_run="true")
        assert re.search(r"^summarize +would run +follows infer$", status.out, re.MULTILINE), status.text

    def test_lineage_leads_from_its_result_to_the_source_and_from_the_model_to_its_result(
        self, extended: Extended
    ) -> None:
        summary = extended.place.lake("iris_summary@v0")
        back = extended.run("lineage", uri=summary).out
        assert re.search(r"summarize, run .*iris_predictions@v0.*models:/.*/stand/flowers", back, re.DOTALL), back
        forward = extended.run("lineage", uri="models:/iris_xgboost_classifier/1").out
        assert re.search(rf"iris_predictions@v0\n +infer, (.*\n)+? +{re.escape(summary)}\n +summarize, run", forward)

    def test_what_must_agree_across_files_agrees(self, extended: Extended) -> None:
        there = Place(extended.project, {"PYTHONPATH": str(extended.project)})
        of_entry_points = ["-k", "TestEntryPoints or TestSteps", "-p", "no:cacheprovider"]
        ended = there.run(BIN / "pytest", "-q", "tests/test_project.py", *of_entry_points)
        assert ended.exit_code == 0, ended.text
        assert "summarize" in there.run(BIN / "ruff", "check", "--show-files").out
        checked = there.run(BIN / "ruff", "check", "steps", "main.py")
        assert checked.exit_code == 0, checked.text


class TestAKindOfSource:
    def test_its_files_are_recognized_and_their_rows_are_in_the_table_by_name(self, extended: Extended) -> None:
        stored = rows_of(extended.place.lake("iris")).select(list(COLUMNS)).to_pylist()
        iris = load_iris()
        expected = [
            (*map(float, row), str(iris.target_names[code])) for row, code in zip(iris.data, iris.target, strict=True)
        ]
        assert Counter(tuple(row.values()) for row in stored) == Counter(expected)

    def test_what_is_no_such_file_is_refused_by_name(self, extended: Extended) -> None:
        (extended.place.folder / "broken.orc").write_text("a,b\n1,2\n")
        ended = extended.run("ingest", source="broken.orc")
        assert ended.exit_code == 1
        assert re.search(r"SourceUnreadable: source .*/broken\.orc: it is not an ORC file: ", ended.err), ended.text


class TestAMetric:
    def test_the_gate_judges_by_it_and_less_is_better(self, extended: Extended) -> None:
        evaluated = next(run for run in extended.place.runs() if run.info.run_name == "evaluate")
        metrics = evaluated.data.metrics
        assert metrics["probability_error"] < 0.3
        assert metrics["baseline_probability_error"] == pytest.approx(2 / 3, abs=0.05)  # of three classes of one size
        assert evaluated.data.tags["output.verdict"] == "pass"
        assert re.search(
            r"probability_error 0\.\d+ \(95% interval .*?\) is at most 0\.3;", evaluated.data.tags["reasons"]
        )
