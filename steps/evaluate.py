"""Judge a model on the test part of a table, beside a baseline and the champion, and let the gate decide.

Reads   the table's test part, which no model with the same split was trained on, of a very large one a sample; the
        train part's class shares or mean
Writes  metrics, pictures, report.html and model_card.md; monitor_reference.json, beside which monitor holds what comes
        later; the verdict on the version, and its model card as its description; on a pass the alias `staging` moves
        to it
Hands on  output.verdict (pass, fail or undecided), output.champion (what `staging` names afterwards; "" for nothing, or
        for a version whose files are lost)
Fails   TableNotFound, TableVersionGone, TableUnfit, ModelNotFound, ModelDamaged; ModelUnreadable, also for a champion:
        only one that is known to be lost counts as none
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import mlflow
from mlflow.entities.model_registry import ModelVersion

from steps.core.config import Config
from steps.core.models import (
    aliases,
    artifact_check,
    evaluation_log,
    features,
    judged_rows,
    loading,
    model_card,
    registry,
)
from steps.core.models.earlier import load_earlier
from steps.core.models.evaluation import evaluate
from steps.core.models.evaluation_report import report_of
from steps.core.models.loading import LoadedModel
from steps.core.models.verdict import Verdict
from steps.core.monitoring import gate_reference
from steps.core.parameters import parameters
from steps.core.tables import location, snapshot
from steps.core.tables.snapshot import Snapshot
from steps.core.tracking import config_files
from steps.core.workflow import entry_point
from steps.core.workflow.step_run import StepRun
from steps.core.workflow.step_spec import StepSpec


@parameters
class EvaluateParameters:
    config: str = "configs/iris.yaml"
    table: str = ""
    """The table to judge on; by default the newest version of the config's."""
    model: str = ""
    """The version to judge; by default the newest of the config's model."""
    lake: str = ""


SPEC = StepSpec(
    name="evaluate",
    parameters=EvaluateParameters,
    config_keys=("columns", "key", "target", "task", "weight", "split", "gate"),
    works_on=("table", "model"),
    outputs=("verdict", "champion"),
)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run), contextlib.ExitStack() as started:
        settings = config_files.load(parameters.config, home=location.home())
        version = registry.resolve(parameters.model or registry.newest_uri(settings.model.name))
        check = started.enter_context(artifact_check.started(registry.uri_of(version)))
        table = snapshot.open(
            location.parse_table(parameters.table or f"{location.lake_root(parameters.lake)}/{settings.name}")
        )
        features.refuse_predictions(table)
        model = loading.load(version)
        run.reads(table=table, model=model.uri)
        gate_settings = {f"gate__{key}": value for key, value in settings.gate.model_dump().items()}
        run.ran_with(table__uri=table, model__uri=model.uri, **gate_settings)
        run.depends_on(settings, table=table, model=model.uri)
        run.logs_table(table, context="evaluate")

        with aliases.deciding(version.name):  # the champion that is judged against is the one that is replaced
            champion, lost = loading.load_champion(version.name)
            if lost:
                run.warn(lost)
            run.reads(champion=champion.uri if champion else "")
            verdict = _judge(run, settings, version, table, model=model, champion=champion, lost=lost, check=check)
        run.explains(verdict.reasons)
        usable = model if verdict.outcome == "pass" else champion
        run.writes(verdict=verdict.outcome, champion=usable.uri if usable else "")


def _judge(
    run: StepRun,
    settings: Config,
    version: ModelVersion,
    table: Snapshot,
    *,
    model: LoadedModel,
    champion: LoadedModel | None,
    lost: str,
    check: artifact_check.Check,
) -> Verdict:
    """The verdict on a version, which is logged and recorded, and what follows from it: the alias `staging`."""
    judged = judged_rows.read(table, settings, model, champion=champion)
    test = judged.parts.test
    truth = test[settings.target].to_numpy()
    facts = {"table": str(table), "rows in the test part": f"{judged.test_rows}"}
    if judged.is_sample:
        facts["rows that it is judged on"] = f"{len(truth)}, chosen by hash"
        run.remark([f"evaluate: judged on {len(truth):,} of {judged.test_rows:,} test rows, chosen by hash"])
    evaluation = evaluate(
        judged.parts,
        model,
        settings=settings,
        champion=champion,
        lost_champion=lost,
        earlier=lambda: load_earlier(version, loaded=champion),
    )
    if judged.is_sample and evaluation.scores:
        evaluation_log.log_scores_of_all_rows(table, model, settings, judged)
    warnings = (table.commit.metadata.get("warnings") or "").splitlines()
    report = report_of(evaluation, test, model, settings=settings, facts=facts, warnings=warnings)
    rules = [check.rule(table.schema.names)] if evaluation.verdict.outcome == "pass" else []
    doubts = registry.doubts_of_rows(version, evaluation.test_rows)
    verdict = evaluation.verdict.with_rules(rules, doubts=doubts)
    evaluation, report = replace(evaluation, verdict=verdict), replace(report, verdict=verdict)
    evaluation_log.log_scores(evaluation, evaluation.per_class(truth), model_uri=model.uri)
    judgement = model_card.Judgement(report=report, run_id=run.run_id, experiment_id=run.experiment_id)
    card = model_card.of_version(version, model.schema, judgement=judgement)
    evaluation_log.log_report(report, card)
    if kept := gate_reference.of(evaluation, test, settings, model_uri=model.uri):
        mlflow.log_text(kept.dumps(), gate_reference.ARTIFACT)
    registry.record_verdict(
        version,
        verdict=verdict.outcome,
        reasons=verdict.reasons,
        run_id=run.run_id,
        test_rows=len(truth),
        test_rows_digest=evaluation.test_rows,
    )
    if verdict.outcome == "pass":
        aliases.move_alias(version, aliases.STAGING, how="gate")
    model_card.describe(version, card)
    return verdict


if __name__ == "__main__":
    main()
