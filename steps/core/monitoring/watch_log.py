"""What a run of monitor shows in MLflow: metrics over time, the report, and all that was found as JSON."""

import itertools
import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from steps.core.monitoring import quality_sections, report
from steps.core.monitoring.watching import Watch
from steps.core.tracking import runs

REPORT = "report.html"
MOST_FEATURES = 100  # of which there are metrics, those that moved most; monitor.json has all


def metrics_of(watch: Watch) -> list[Metric]:
    """Of each window, at its beginning, so that MLflow draws them over time."""
    shown = {card.finding.subject for card in report.feature_cards(watch)[:MOST_FEATURES]}
    metrics = []
    for one in watch.windows:
        when = max(0, runs.milliseconds(one.window.begin or one.window.end))  # MLflow knows no time before 1970
        values = {"rows": float(one.summary.rows), "features_moved": float(len(one.moved()))}
        for finding in one.findings:
            if finding.subject in shown:
                values |= {f"{name}.{finding.subject}": value for name, value in finding.numbers.items()}
        for finding in itertools.chain.from_iterable(one.quality.values()):
            values |= finding.numbers
        metrics += [Metric(name, value, when, when // 1000) for name, value in values.items()]
    return metrics


def log(watch: Watch, run_id: str, *, metric: str) -> None:
    """Log the metrics of each window at its beginning, the report, and all that was found as JSON."""
    facts = report.facts_of(watch)
    MlflowClient().log_batch(run_id, metrics=metrics_of(watch))
    mlflow.log_metrics({name: value for one in watch.findings for name, value in one.numbers.items()})
    page = report.render(watch, facts=facts, sections=quality_sections.sections(watch, metric=metric))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, REPORT).write_text(page, encoding="utf-8")
        Path(folder, "monitor.json").write_text(report.as_json(watch, facts=facts), encoding="utf-8")
        mlflow.log_artifacts(folder)
