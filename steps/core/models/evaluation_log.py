"""What a run of evaluate shows in MLflow: metrics, and the report with its pictures and the model card beside it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow

from steps.core import config, metrics
from steps.core.models import judged_rows, loading, model_card
from steps.core.models.evaluation import BASELINE, Evaluation
from steps.core.models.report import Report, render
from steps.core.tables import snapshot


def log_scores(evaluation: Evaluation, by_class: Mapping[str, Mapping[str, float]], *, model_uri: str) -> None:
    """The model's metrics by their names, those of the others as `baseline_<name>` and `champion_<name>`, and as
    `against_champion_<name>` the model's on the champion's rows, where these are not the whole test part."""
    logged = {
        f"{measure}.{metrics.logged_label(label)}": value
        for label, row in by_class.items()
        for measure, value in row.items()
    }
    champion = evaluation.champion
    if champion is not None and champion.against is not None:
        logged |= {f"against_champion_{metrics.logged_name(name)}": value for name, value in champion.against.items()}
    for candidate, scores in evaluation.scores.items():
        role = "" if candidate == model_uri else "baseline_" if candidate == BASELINE else "champion_"
        logged |= {f"{role}{metrics.logged_name(name)}": value for name, value in scores.items()}
    mlflow.log_metrics(logged)


def log_scores_of_all_rows(
    table: snapshot.Snapshot, model: loading.LoadedModel, settings: config.Config, judged: judged_rows.JudgedRows
) -> None:
    """As `all_rows_<name>`, the metrics that are sums, of a test part that is judged by a sample."""
    from steps.core.models import spark_evaluation  # PySpark takes half a second, which others do not pay

    of_all = spark_evaluation.scores(table, model.scorer, settings, judged.split_settings, columns=list(judged.columns))
    mlflow.log_metrics({f"all_rows_{name}": value for name, value in of_all.items()})


def log_report(report: Report, card: model_card.Card) -> None:
    """The report, its pictures beside it, and the whole model card."""
    with tempfile.TemporaryDirectory() as folder:
        for picture in report.pictures:
            Path(folder, f"{picture.name}.png").write_bytes(picture.png)
        Path(folder, "report.html").write_text(render(report), encoding="utf-8")
        Path(folder, "model_card.md").write_text(card.text(), encoding="utf-8")
        mlflow.log_artifacts(folder)
