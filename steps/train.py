"""Train a classifier on one version of a table and register it.

Reads   the table's train part; the validation part only to stop early
Writes  a new version of the config's model: booster, schema, signature, input example; metrics for each round,
        learning curve and feature importance as pictures
Hands on  output.model, models:/<name>/<version>
Fails   TableNotFound, TableVersionGone, TableUnfit (a column is missing, one class, an empty part)
"""

import time
from collections.abc import Sequence
from dataclasses import asdict

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from steps.core import config
from steps.core.models import plots, registration, registry, training
from steps.core.models.split import labelled, settings_of, split
from steps.core.parameters import Hyperparameters, parameters
from steps.core.tables import location, snapshot
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec


@parameters
class TrainParameters(Hyperparameters):
    config: str = "configs/iris.yaml"
    table: str = ""
    lake: str = ""


SPEC = StepSpec(
    name="train",
    parameters=TrainParameters,
    config_keys=("columns", "key", "target", "task", "split", "model"),
    works_on=("table",),
    outputs=("model",),
    spark="large tables",  # not for this step: infer needs it afterwards, and it starts while this one works
)


def _log_fit(fit: training.Fit, run_id: str) -> None:
    """The metric of each part after each round, the round that was kept, and two pictures."""
    now = time.time_ns() // 10**6
    metrics = [
        Metric(f"{part}_{training.METRIC}", value, now, round_number)
        for part, values in fit.history.items()
        for round_number, value in enumerate(values, start=1)
    ]
    MlflowClient().log_batch(run_id, metrics=metrics)
    mlflow.log_metric("best_round", fit.best_round)
    curve = plots.learning_curve(fit.history, best_round=fit.best_round, metric=training.METRIC)
    mlflow.log_figure(curve, "learning_curve.png")
    mlflow.log_figure(plots.feature_importance(fit.total_gain), "feature_importance.png")


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        settings = settings.with_hyperparameters(**parameters.hyperparameters())
        model = settings.model
        table = snapshot.open(
            location.parse_table(parameters.table or f"{location.lake_root(parameters.lake)}/{settings.name}")
        )
        run.reads(table=table)
        run.ran_with(table__uri=table, **{f"model__{key}": value for key, value in model.model_dump().items()})
        inputs = run.depends_on(settings, table=table)
        run.logs_table(table, context="train")

        rows = table.read(settings.training_columns).to_pandas()
        with_label, split_settings = labelled(rows, settings), settings_of(settings)
        parts = split(with_label, split_settings)
        schema = training.learn_schema(parts, settings, split_settings=split_settings, table_uri=str(table))
        counts = {f"{part}_rows": len(part_rows) for part, part_rows in asdict(parts).items()}
        mlflow.log_metrics({**counts, "unlabelled_rows": len(rows) - len(with_label)})

        fit = training.fit_booster(parts, schema, model=model)

        _log_fit(fit, run.run_id)
        tags = {"table_uri": str(table), "run_id": run.run_id, "git_commit": run.git_commit}
        tags[registry.TABLE_IDENTITY] = inputs["table.identity"]
        example = parts.train[[feature.name for feature in schema.features]].head(3)
        registered = registration.register(fit.booster, schema, example=example, name=model.name, tags=tags)
        run.writes(model=registry.uri_of(registered))


if __name__ == "__main__":
    main()
