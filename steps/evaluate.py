"""Judge a model on the test part of a table, beside a baseline and the champion, and let the gate decide.

Reads   the table's test part, which no model with the same split was trained on; the train part's class shares
Writes  metrics, pictures and report.html; the verdict on the version; on a pass the alias `staging` moves to it
Hands on  output.verdict (pass, fail or undecided), output.champion (what `staging` names afterwards; "" for nothing, or
        for a version whose files are lost)
Fails   TableNotFound, TableVersionGone, TableUnfit, ModelNotFound, ModelDamaged; ModelUnreadable, also for a champion:
        only one that is known to be lost counts as none
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import numpy as np

from steps.core import config, metrics
from steps.core.models import aliases, loading, plots, registry, report
from steps.core.models.evaluation import BASELINE, Evaluation, evaluate, parts_to_judge_on
from steps.core.parameters import parameters
from steps.core.tables import location, snapshot
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec


@parameters
class EvaluateParameters:
    config: str = "configs/iris.yaml"
    table: str = ""
    model: str = ""
    lake: str = ""


SPEC = StepSpec(
    name="evaluate",
    parameters=EvaluateParameters,
    config_keys=("columns", "key", "target", "task", "split", "gate"),
    works_on=("table", "model"),
    outputs=("verdict", "champion"),
)


def _log_scores(evaluation: Evaluation, by_class: Mapping[str, Mapping[str, float]], *, model_uri: str) -> None:
    """The model's metrics by their names, those of the others as baseline_<name> and champion_<name>."""
    for candidate, scores in evaluation.scores.items():
        role = "" if candidate == model_uri else "baseline_" if candidate == BASELINE else "champion_"
        mlflow.log_metrics({f"{role}{name}": value for name, value in scores.items()})
    labels = metrics.names_of(by_class)
    mlflow.log_metrics(
        {f"{name}.{labels[label]}": value for label, row in by_class.items() for name, value in row.items()}
    )


def _log_report(
    evaluation: Evaluation,
    by_class: Mapping[str, Mapping[str, float]],
    *,
    truth: np.ndarray,
    model_uri: str,
    facts: Mapping[str, str],
) -> None:
    """The pictures, as far as the model could be scored, and the report with them inside."""
    images: dict[str, bytes] = {}
    if evaluation.probabilities is not None:
        counts = metrics.confusion(truth, evaluation.probabilities, evaluation.classes)
        labels = [str(label) for label in evaluation.classes]
        images["confusion_matrix"] = plots.png(plots.confusion_matrix(counts, labels))
        images["curves"] = plots.png(plots.curves(truth, evaluation.probabilities, evaluation.classes))
    page = report.render(
        title=model_uri,
        verdict=evaluation.verdict,
        facts=facts,
        scores=evaluation.scores,
        per_class=by_class,
        images=images,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, image in images.items():
            Path(folder, f"{name}.png").write_bytes(image)
        Path(folder, "report.html").write_text(page, encoding="utf-8")
        mlflow.log_artifacts(folder)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        version = registry.resolve(parameters.model or registry.newest_uri(settings.model.name))
        table = snapshot.open(
            location.parse_table(parameters.table or f"{location.lake_root(parameters.lake)}/{settings.name}")
        )
        model = loading.load(version)
        run.reads(table=table, model=model.uri)
        gate_settings = {f"gate__{key}": value for key, value in settings.gate.model_dump().items()}
        run.ran_with(table__uri=table, model__uri=model.uri, **gate_settings)
        run.depends_on(settings, table=table, model=model.uri)
        run.logs_table(table, context="evaluate")

        rows = table.read(settings.training_columns).to_pandas()
        parts = parts_to_judge_on(rows, settings, table_uri=str(table))
        truth = parts.test[settings.target].to_numpy()
        facts = {"table": str(table), "rows in the test part": str(len(truth)), "model run": version.run_id or ""}

        with aliases.deciding(version.name):  # the champion that is judged against is the one that is replaced
            champion, lost = loading.load_champion(version.name)
            if lost:
                run.warn(lost)
            run.reads(champion=champion.uri if champion else "")
            evaluation = evaluate(parts, model, settings=settings, champion=champion, lost_champion=lost)
            verdict, by_class = evaluation.verdict, evaluation.per_class(truth)
            _log_scores(evaluation, by_class, model_uri=model.uri)
            _log_report(evaluation, by_class, truth=truth, model_uri=model.uri, facts=facts)
            registry.record_verdict(version, verdict=verdict.outcome, reasons=verdict.reasons, run_id=run.run_id)
            if verdict.outcome == "pass":
                aliases.move_alias(version, aliases.STAGING, how="gate")
        run.explains(verdict.reasons)
        usable = model if verdict.outcome == "pass" else champion
        run.writes(verdict=verdict.outcome, champion=usable.uri if usable else "")


if __name__ == "__main__":
    main()
