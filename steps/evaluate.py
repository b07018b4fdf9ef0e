"""Judge a model on the test part of a table, beside a naive baseline and the champion, and let the gate decide.

Reads   the table's test part, which no model with the same split was trained on; the train part's class shares
Writes  metrics, pictures and report.html; the verdict on the version; on a pass the alias `staging` moves to it
Hands on  output.verdict (pass, fail or undecided), output.champion (what `staging` names afterwards; "" for nothing, or
        for a version whose files are lost)
Fails   TableNotFound, TableVersionGone, TableUnfit, ModelNotFound, ModelDamaged; ModelUnreadable, also for a champion:
        only one that is known to be lost counts as none
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from steps.core import config
from steps.core.errors import ModelDamaged, TableUnfit
from steps.core.models import gate, loading, metrics, plots, registry, report, split
from steps.core.parameters import parameters
from steps.core.tables import location, snapshot
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec

BASELINE = "baseline"


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


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`scores` of every contender that could be scored, by name; details of the model that is judged."""

    verdict: gate.Verdict
    scores: dict[str, Mapping[str, float]]
    classes: tuple[str | int | bool, ...]
    probabilities: np.ndarray | None


def evaluate(
    parts: split.Parts,
    model: loading.LoadedModel,
    *,
    settings: config.Config,
    champion: loading.LoadedModel | None,
    lost_champion: str = "",
) -> Evaluation:
    """Score `model`, the baseline and `champion` on `parts.test` and ask the gate.

    `lost_champion` says why the champion cannot be among them, "" when it is or there is none.
    """
    truth = parts.test[settings.target].to_numpy()
    classes = model.schema.classes
    shares = metrics.baseline(parts.train[settings.target].to_numpy(), classes, rows=len(truth))
    judged, probabilities = score_candidate(model, parts.test, target=settings.target)
    naive = gate.Candidate(name=BASELINE, scores={} if judged.unfit else metrics.scores(truth, shares, classes))
    rival = score_candidate(champion, parts.test, target=settings.target)[0] if champion else None
    if probabilities is not None:
        judged = replace(judged, by_chance=metrics.by_chance(settings.gate.metric, truth, probabilities, classes))
    test_rows = {str(label): int((truth == label).sum()) for label in dict.fromkeys([*classes, *truth.tolist()])}
    verdict = gate.judge(settings.gate, model=judged, baseline=naive, champion=rival, test_rows=test_rows)
    if lost_champion:
        verdict = replace(verdict, reasons=[*verdict.reasons, lost_champion])
    contenders = [judged, naive, *([rival] if rival and rival.name != judged.name else [])]
    return Evaluation(
        verdict=verdict,
        scores={each.name: each.scores for each in contenders if each.scores},
        classes=classes,
        probabilities=probabilities,
    )


def score_candidate(
    model: loading.LoadedModel, test: pd.DataFrame, *, target: str
) -> tuple[gate.Candidate, np.ndarray | None]:
    """`model` scored on `test`, with its probabilities (n, classes), or the reason why it cannot be."""
    schema = model.schema
    strange = set(test[target]) - set(schema.classes)
    absent = [feature.name for feature in schema.features if feature.name not in test]
    if strange or absent:
        unfit = (
            [f"the test part has {target} {', '.join(map(str, sorted(strange)))}, which it never saw"]
            if strange
            else []
        )
        unfit += [f"the table has no column {name}" for name in absent]
        return gate.Candidate(name=model.uri, scores={}, unfit=" and ".join(unfit)), None
    try:
        probabilities = model.scorer.probabilities(test)
    except MlflowException as err:  # a column has another type than this model was trained on
        return gate.Candidate(name=model.uri, scores={}, unfit=f"the test part, {err.message}"), None
    scores = metrics.scores(test[target].to_numpy(), probabilities, schema.classes)
    return gate.Candidate(name=model.uri, scores=scores, trained_on=_trained_on(model, test)), probabilities


def _trained_on(model: loading.LoadedModel, test: pd.DataFrame) -> int:
    """How many rows of `test` the model's own split puts outside its test part; 0 when the settings are the same."""
    settings = split.recorded(model.schema.split)
    if any(name not in test for name in (*settings.columns, *settings.without_group)):
        return len(test)
    return int((split.parts(test, settings) != "test").sum())


def _log(evaluation: Evaluation, *, truth: np.ndarray, model_uri: str, facts: Mapping[str, str]) -> None:
    """Metrics of each contender, pictures and the report, as far as the model could be scored."""
    mlflow.log_metrics(dict(evaluation.scores.get(model_uri, {})))
    for name, scores in evaluation.scores.items():
        if name != model_uri:
            role = BASELINE if name == BASELINE else "champion"
            mlflow.log_metrics({f"{role}_{metric}": value for metric, value in scores.items()})
    images: dict[str, bytes] = {}
    by_class = {}
    if evaluation.probabilities is not None:
        labels = [str(label) for label in evaluation.classes]
        counts = metrics.confusion(truth, evaluation.probabilities, evaluation.classes)
        images = {
            "confusion_matrix": plots.png(plots.confusion_matrix(counts, labels)),
            "curves": plots.png(plots.curves(truth, evaluation.probabilities, evaluation.classes)),
        }
        by_class = metrics.per_class(truth, evaluation.probabilities, evaluation.classes)
        known_as = metrics.names_of(by_class)
        mlflow.log_metrics(
            {f"{name}.{known_as[label]}": value for label, row in by_class.items() for name, value in row.items()}
        )
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


def _load_champion(version: ModelVersion | None) -> tuple[loading.LoadedModel | None, str]:
    """The champion, and why it is lost where it is. Its damage is not the candidate's, which must not wait for it."""
    if version is None:
        return None, ""
    try:
        return loading.load(version), ""
    except ModelDamaged as err:
        return (
            None,
            f"the champion {registry.uri_of(version)} is lost ({err.what}), so it is compared with the baseline alone",
        )


def _pass_the_gate(version: ModelVersion, verdict: gate.Verdict, run_id: str) -> bool:
    """Record the verdict and, on a pass, move `staging`."""
    registry.record_verdict(version, verdict=verdict.outcome, reasons=verdict.reasons, run_id=run_id)
    if verdict.outcome == "pass":
        registry.move_alias(version, registry.STAGING, how="gate")
    return verdict.outcome == "pass"


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        version = registry.resolve(parameters.model or registry.newest_uri(settings.model.name))
        table = snapshot.open(
            location.parse_table(parameters.table or f"{location.lake_root(parameters.lake)}/{settings.name}")
        )
        model = loading.load(version)
        run.reads(table=table, model=model.uri)
        run.ran_with(
            table__uri=table, model__uri=model.uri, **{f"gate__{k}": v for k, v in settings.gate.model_dump().items()}
        )
        run.depends_on(settings, table=table, model=model.uri)
        run.logs_table(table, context="evaluate")

        rows = table.read(settings.training_columns).to_pandas()
        with_label, split_settings = split.labelled(rows, settings), split.settings_of(settings)
        parts = split.split(with_label, split_settings)
        if parts.test.empty:
            raise TableUnfit(
                str(table),
                ["its test part has no labelled row"],
                expected="rows to judge the model on",
                next=f"{split.more_rows(with_label, split_settings)}, or change split in the config",
            )

        counts = {f"{name}_rows": len(part) for name, part in asdict(parts).items()}
        facts = {
            "table": str(table),
            "rows in the test part": str(counts["test_rows"]),
            "model run": version.run_id or "",
        }
        with registry.deciding(version.name):  # the champion that is judged against is the one that is replaced
            champion, lost = _load_champion(registry.champion(version.name))
            if lost:
                run.warn(lost)
            run.reads(champion=champion.uri if champion else "")
            evaluation = evaluate(parts, model, settings=settings, champion=champion, lost_champion=lost)
            _log(evaluation, truth=parts.test[settings.target].to_numpy(), model_uri=model.uri, facts=facts)
            passed = _pass_the_gate(version, evaluation.verdict, run.run_id)
        run.explains(evaluation.verdict.reasons)
        usable = model if passed else champion
        run.writes(verdict=evaluation.verdict.outcome, champion=usable.uri if usable else "")


if __name__ == "__main__":
    main()
