"""Run the workflow as a scheduled job does: inputs from the environment, the verdict as the job's summary.

Reads   WORKFLOW_INPUTS, a JSON object of parameters of `main`; what is "" or null is left to main's defaults
Writes  into --report: report.html and model_card.md of the evaluation; the summary, Markdown, is appended to the file
        that GITHUB_STEP_SUMMARY names
Fails   with exit code 1 where main fails, after the summary is written
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from steps.core import markdown
from steps.core.workflow import run_tags

PROJECT = Path(__file__).resolve().parents[1]
KEPT = ("report.html", "model_card.md")


def parameters(inputs: str) -> dict[str, str]:
    """Of the JSON object `inputs` the values that are given, as MLflow takes them. ValueError where it is none."""
    given = json.loads(inputs or "{}") or {}
    if not isinstance(given, dict):
        raise ValueError(f"WORKFLOW_INPUTS is {inputs!r}: a JSON object of parameters is expected")
    texts = {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in given.items()}
    return {name: text for name, text in texts.items() if given[name] not in (None, "")}


def run_main(given: Mapping[str, str]) -> tuple[Run, bool]:
    """The run of the entry point `main` after its end, and whether it ended well."""
    submitted = mlflow.projects.run(
        str(PROJECT), entry_point="main", parameters=dict(given), env_manager="local", synchronous=False
    )
    ended_well = submitted.wait()
    return MlflowClient().get_run(submitted.run_id), ended_well


def summary(workflow: Mapping[str, Any], *, card: str) -> str:
    """Markdown of the job's page: the verdict, what became of each step, and the model card with the gate's table."""
    steps: list[dict[str, Any]] = workflow["steps"]
    verdicts = [step["outputs"]["verdict"] for step in steps if step["outputs"].get("verdict")]
    title = f"Verdict: {verdicts[-1]}" if verdicts else "No verdict"
    lines = [f"# {markdown.escape(title)}", "", "| step | made | seconds | because |", "|---|---|---|---|"]
    for step in steps:
        made = ", ".join(uri for uri in step["outputs"].values() if uri) or step["status"]
        cells = (step["step"], made, step["seconds"] or "", step["because"])
        lines.append(f"| {' | '.join(markdown.escape(cell) for cell in cells)} |")
    for remark in [*workflow["notes"], *(step["reasons"] for step in steps if step["status"] == "FAILED")]:
        lines += ["", markdown.escape(remark)]
    return "\n".join([*lines, "", card])


def with_links(text: str, *, server: str) -> str:
    """`text`, whose links are those of MLflow's own pages, with links that lead there from elsewhere."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https"):
        return text
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return text.replace("](#/", f"]({address}/#/")


def report(run: Run, folder: Path) -> str:
    """The summary of a run of main; the evaluation's report and model card are fetched into `folder`."""
    if "workflow.json" not in [artifact.path for artifact in MlflowClient().list_artifacts(run.info.run_id)]:
        return f"# No workflow\n\n{markdown.escape(run.data.tags.get(run_tags.ERROR, 'Its message is in the log.'))}\n"
    workflow = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/workflow.json")
    card = ""
    for step in workflow["steps"]:
        if "verdict" in step["outputs"]:
            for name in KEPT:
                mlflow.artifacts.download_artifacts(f"runs:/{step['run_id']}/{name}", dst_path=str(folder))
            card = (folder / "model_card.md").read_text(encoding="utf-8")
    return with_links(summary(workflow, card=card), server=os.environ.get("MLFLOW_TRACKING_URI", ""))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--report", type=Path, default=Path("report"), help="a folder, made where it is not there")
    folder: Path = parser.parse_args(argv).report
    folder.mkdir(parents=True, exist_ok=True)
    try:
        given = parameters(os.environ.get("WORKFLOW_INPUTS", ""))
    except ValueError as err:
        sys.exit(f"WORKFLOW_INPUTS: {err}")
    run, ended_well = run_main(given)
    with open(os.environ.get("GITHUB_STEP_SUMMARY", os.devnull), "a", encoding="utf-8") as file:
        file.write(report(run, folder))
    sys.exit(0 if ended_well else 1)


if __name__ == "__main__":
    main()
