"""Predict every row of a table with one version of a model, each exactly once.

Reads   the table; the model by its URI (by default the alias `staging`)
Writes  <lake>/<name>_predictions: the table's columns, prediction, probability, probabilities, model_uri, table_uri,
        run_id, scored_at, deleted_at (of a regression no probabilities). Those of <name>_unlabelled, the rows to
        predict, are in <lake>/<name>_unlabelled_predictions. Its newest version has one row for each row of
        the table, known by the config's key, else by its values, and one for each that the table has no more: with the
        last prediction, and deleted_at, which is missing in all others. With `mode` new, rows that are as the same
        model has scored them, by the same code, keep their prediction, run_id, scored_at and table_uri; all others are
        scored. With `mode` all, every row is. The same model and table again change nothing, unless `mode` is all
Hands on  output.predictions, the pinned URI
Fails   TableNotFound, TableVersionGone, ModelNotFound, TableBusy, TableUnfit (a feature is missing, or a key is missing
        or repeated); the predictions stay as they were
"""

from collections.abc import Sequence

import mlflow

from steps.core import config
from steps.core.models import aliases, inference, loading, registry
from steps.core.models.inference import LATER_CODE
from steps.core.models.scoring_plan import SCORED_BY, TABLE_ID, Mode
from steps.core.parameters import parameters
from steps.core.tables import location, snapshot
from steps.core.tracking import config_files
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec


@parameters
class InferParameters:
    config: str = "configs/iris.yaml"
    table: str = ""
    """The table to predict; by default the newest version of the config's."""
    model: str = ""
    """The version that predicts, `models:/NAME/3` or `models:/NAME@ALIAS`; by default what `staging` names."""
    lake: str = ""
    mode: Mode = "new"
    """new: rows that the same model has scored keep their prediction; all: every row is scored."""


SPEC = StepSpec(
    name="infer",
    parameters=InferParameters,
    config_keys=("name", "key"),
    works_on=("lake", "table", "model"),
    outputs=("predictions",),
    spark="large tables",
)


def _predictions_of(table: snapshot.Snapshot, settings: config.Config, *, lake_uri: str) -> location.TableUri:
    """Rows to predict have a table of their own, and so have their predictions."""
    is_unlabelled = table.uri.name == settings.table_name(labelled=False)
    return location.TableUri(f"{lake_uri}/{settings.table_name(labelled=not is_unlabelled)}_predictions")


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config_files.load(parameters.config, home=location.home())
        lake_uri = location.lake_root(parameters.lake)
        version = registry.resolve(parameters.model or f"models:/{settings.model.name}@{aliases.STAGING}")
        table = snapshot.open(location.parse_table(parameters.table or f"{lake_uri}/{settings.name}"))
        predicted = _predictions_of(table, settings, lake_uri=lake_uri)
        run.reads(table=table, model=registry.uri_of(version))
        run.ran_with(table__uri=table, model__uri=registry.uri_of(version))
        run.depends_on(settings, lake=lake_uri, table=table, model=registry.uri_of(version))
        run.logs_table(table, context="infer")

        result = inference.run(
            table,
            predicted,
            load=lambda: loading.load(version),
            key=settings.key,
            mode=parameters.mode,
            made_of={
                **run.made_of(*LATER_CODE),
                SCORED_BY: run.key_without("table", *LATER_CODE),
                TABLE_ID: str(table.delta_table.metadata().id),
            },
            made_by=run.made_by(),
        )
        mlflow.log_metrics(result.metrics)
        run.remark([f"infer: {line}" for line in result.lines()])
        run.writes(predictions=result.committed.table)


if __name__ == "__main__":
    main()
