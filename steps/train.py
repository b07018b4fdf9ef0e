"""Train a model on one version of a table and register it; with trials, search its hyperparameters first.

Reads   the table's train part; the validation part only to stop early and to compare trials; some rows at a time, but
        for a search
Writes  a new version of the config's model: booster, schema, signature, input example, a summary of the train part
        for monitor, a model card that says that it is not judged yet; metrics for each round, learning curve and
        feature importance as pictures; of a search, its trials as a table and as pictures. With `reuse`, nothing of
        these where an earlier run has trained the same by the same code
Hands on  output.model, models:/<name>/<version>
Fails   TableNotFound, TableVersionGone, TableUnfit (a column is missing, one class or value, an empty part, a target
        or weight that cannot be learnt from); ConfigInvalid when XGBoost refuses one of model.params; MatrixTooLarge or
        SearchTooLarge when the rows fit into neither memory nor disk
"""

from collections.abc import Mapping, Sequence

import mlflow

from steps.core.models import (
    aliases,
    engines,
    features,
    model_card,
    objectives,
    registration,
    registry,
    targets,
    training,
    training_log,
)
from steps.core.models.scorer import Schema
from steps.core.models.training import Fit
from steps.core.models.training_rows import Survey, TrainingRows, split_settings_of
from steps.core.monitoring import reference
from steps.core.parameters import Hyperparameters, parameters
from steps.core.tables import location, snapshot
from steps.core.tracking import config_files
from steps.core.workflow import entry_point, run_tags
from steps.core.workflow.step_spec import StepSpec

MOST_ROWS_TO_COUNT = 1_000_000  # different ones, for a message: tables that lack some are small


@parameters
class TrainParameters(Hyperparameters):
    config: str = "configs/iris.yaml"
    table: str = ""
    """The table to train on; by default the newest version of the config's."""
    lake: str = ""
    reuse: bool = False
    """Where an earlier run has trained the same by the same code, hand on its version in place of a new one."""


SPEC = StepSpec(
    name="train",
    parameters=TrainParameters,
    config_keys=("columns", "key", "target", "task", "weight", "split", "model", "tune"),
    works_on=("table",),
    outputs=("model",),
    spark="large tables",  # not for this step: infer needs it afterwards, and it starts while this one works
)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config_files.load(parameters.config, home=location.home())
        settings = settings.with_hyperparameters(**parameters.hyperparameters())
        model, searched = settings.model, settings.tune.searched
        table = snapshot.open(
            location.parse_table(parameters.table or f"{location.lake_root(parameters.lake)}/{settings.name}")
        )
        features.refuse_predictions(table)
        run.reads(table=table)
        if parameters.reuse and (earlier := run.earlier(settings, table=table)):
            run.warn(f"run {earlier.info.run_id[:8]} has trained this already, and nothing has changed since")
            run.writes(**run_tags.outputs(earlier))
            return
        run.ran_with(
            table__uri=table,
            **training_log.settings_of(model, without={*searched, "engine"}),
            **{f"tune__{key}": value for key, value in settings.tune.model_dump(exclude_defaults=True).items()},
        )
        inputs = run.depends_on(settings, table=table)
        run.logs_table(table, context="train")

        rows = TrainingRows(table=table, settings=settings, split_settings=split_settings_of(table, settings))
        survey = rows.survey()
        schema = training.learn_schema(
            survey.parts,
            settings,
            split_settings=rows.split_settings,
            table_uri=str(table),
            seen=survey.seen,
            labelled=lambda: rows.first(MOST_ROWS_TO_COUNT),
        )
        objectives.check_parameters(schema, model, path=parameters.config)
        run.remark([f"train: {line}" for line in _warnings(survey, schema, rows)])
        counts = {f"{part}_rows": len(part_rows) for part, part_rows in vars(survey.parts).items()}
        mlflow.log_metrics({**counts, "unlabelled_rows": survey.unlabelled, "rows_outside_window": survey.outside})

        trained_on = counts["train_rows"] + counts["validation_rows"]
        needed_bytes = training.matrix_bytes(schema, rows=trained_on)
        engine = engines.choose(model.engine, needed_bytes=needed_bytes)
        training.check_engine(engine, model, path=parameters.config)
        run.ran_with(model__engine=engine.name, model__engine_reason=engine.reason)
        if engine.is_worth_saying:
            run.warn(f"engine {engine.name}: {engine.reason}")

        found: Mapping[str, str] = {}
        if settings.tune.trials:
            from steps.core.workflow import search  # Optuna takes a second, which only a search pays

            kinds = [settings.columns[name].kind for name in settings.training_columns]
            engines.check_search_fits(kinds, rows=trained_on, matrix_bytes=needed_bytes)
            best = search.run_search(
                run, rows.frames(survey), schema, settings, split_settings=rows.split_settings, inputs=inputs
            )
            model, found = best.model, best.tags

        fit = training.fit_rows(rows, survey, schema, model=model, engine=engine, stop_early=settings.tune.stops_early)
        training_log.log_fit(fit, run.run_id)
        identity = {registry.TABLE_IDENTITY: inputs["table.identity"]}
        tags = {"table_uri": str(table), **run.made_by(), **found, **identity, **registration.tags_of(settings)}
        run.writes(model=_register(fit, survey, schema, rows, tags=tags))


def _warnings(survey: Survey, schema: Schema, rows: TrainingRows) -> list[str]:
    """What of the rows is not learnt from as it stands, a line each."""
    return [
        *features.warnings(schema.features, survey.rounded),
        *targets.warnings(survey.parts.train, rows.settings),
        *survey.warnings(rows.split_settings),
    ]


def _register(fit: Fit, survey: Survey, schema: Schema, rows: TrainingRows, *, tags: Mapping[str, str]) -> str:
    """Register a version that is not judged yet, with what monitor holds later rows against. Its URI."""
    name = rows.settings.model.name
    kept = reference.of_sample(survey.sample, schema, rows.settings, others=survey.others, table=rows.table)
    registered = registration.register(
        fit.booster, schema, example=survey.example, name=name, tags=tags, reference=kept.dumps()
    )
    with aliases.deciding(name):  # they are in the model's description
        model_card.describe(registered, model_card.of_version(registered, schema, judgement=None))
    return registry.uri_of(registered)


if __name__ == "__main__":
    main()
