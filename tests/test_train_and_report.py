"""The nightly job: inputs as GitHub hands them on, and a summary with the verdict and the gate's table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from place import PROJECT, Ended, Place, new_database

from automation import train

STEP: dict[str, Any] = {"step": "evaluate", "run_id": "r", "status": "FINISHED", "seconds": 2.5, "because": "first run"}
STEP |= {"command": "", "reasons": "", "outputs": {"verdict": "undecided", "champion": ""}}


class TestInputs:
    def test_what_is_empty_is_left_to_the_defaults(self) -> None:
        given = {"config": "a b.yaml", "source": "", "seed": None, "reuse": True, "dry_run": False, "max_depth": 3}
        expected = {"config": "a b.yaml", "reuse": "true", "dry_run": "false", "max_depth": "3"}
        assert train.parameters(json.dumps(given)) == expected

    @pytest.mark.parametrize("inputs", ["", "null", "{}"])
    def test_a_schedule_has_none(self, inputs: str) -> None:
        assert train.parameters(inputs) == {}

    def test_what_is_no_object_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"WORKFLOW_INPUTS is '\[1\]': a JSON object of parameters is expected"):
            train.parameters("[1]")


class TestSummary:
    def test_begins_with_the_verdict_and_ends_with_the_model_card(self) -> None:
        lines = train.summary({"steps": [STEP], "notes": ["a note"]}, card="# The card").splitlines()
        assert lines[0] == "# Verdict: undecided"
        assert lines[-3:] == ["a note", "", "# The card"]
        assert "| evaluate | undecided | 2.5 | first run |" in lines

    def test_has_the_message_of_a_step_that_failed(self) -> None:
        failed = {**STEP, "status": "FAILED", "outputs": {}, "reasons": "TableUnfit: no rows"}
        lines = train.summary({"steps": [failed], "notes": []}, card="").splitlines()
        assert lines[0] == "# No verdict"
        assert "| evaluate | FAILED | 2.5 | first run |" in lines
        assert "TableUnfit: no rows" in lines

    def test_shows_texts_as_they_are(self) -> None:
        text = train.summary({"steps": [{**STEP, "because": "<b>|x"}], "notes": ["<img src=x>"]}, card="")
        assert "<" not in text
        assert "undecided | 2.5 | &#60;b&#62;&#124;x |" in text

    def test_its_links_lead_to_the_tracking_server_without_a_password(self) -> None:
        text = "[run](#/experiments/0)"
        shown = "[run](https://mlflow.example.org/base/#/experiments/0)"
        assert train.with_links(text, server="https://ada:secret@mlflow.example.org/base/") == shown
        assert train.with_links(text, server="sqlite:///mlflow.db") == text


@pytest.mark.spark
class TestCommand:
    def run(self, folder: Path, **inputs: object) -> Ended:
        new_database(folder)
        variables = {"WORKFLOW_INPUTS": json.dumps(inputs), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
        place = Place(folder, {**variables, "PYTHONPATH": str(PROJECT)})
        return place.run(sys.executable, "-m", "automation.train")

    def test_the_summary_has_the_gates_table_and_the_report_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "summary.md").write_text("# From a step before\n", encoding="utf-8")
        ended = self.run(tmp_path, max_depth="2", seed="", reuse=True)
        assert ended.exit_code == 0, ended.text
        text = (tmp_path / "summary.md").read_text(encoding="utf-8")
        assert text.startswith("# From a step before\n# Verdict: pass\n")
        assert "of baseline: " in text
        assert "f1_macro (the gate's)" in text
        assert "max_depth&nbsp; | 2 |" in text
        assert (tmp_path / "report" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_a_workflow_that_does_not_begin_ends_with_its_message(self, tmp_path: Path) -> None:
        ended = self.run(tmp_path, source="nowhere.csv")
        assert ended.exit_code == 1
        assert "Traceback" not in ended.text
        text = (tmp_path / "summary.md").read_text(encoding="utf-8")
        assert text.startswith("# No workflow\n")
        assert "SourceUnreadable" in text
        assert list((tmp_path / "report").iterdir()) == []
