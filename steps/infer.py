"""Predict every row of a table with one version of a model.

Reads   the table; the model by version or alias (by default the alias `staging`)
Writes  <lake>/<name>_predictions: the table's columns, prediction, probability, probabilities, model_uri, table_uri,
        run_id, scored_at. The same model and table again change nothing
Hands on  output.predictions, the pinned URI
Fails   TableNotFound, TableVersionGone, TableUnfit (a feature is missing), ModelNotFound; the predictions stay as
        they were
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import mlflow
from mlflow.exceptions import MlflowException

from steps.core import config
from steps.core.models import aliases, inference, loading, registry
from steps.core.parameters import parameters
from steps.core.tables import commit, location, snapshot
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec


@parameters
class InferParameters:
    config: str = "configs/iris.yaml"
    table: str = ""
    model: str = ""
    lake: str = ""


SPEC = StepSpec(
    name="infer",
    parameters=InferParameters,
    config_keys=("name",),
    works_on=("lake", "table", "model"),
    outputs=("predictions",),
    spark="large tables",
)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        lake_uri = location.lake_root(parameters.lake)
        version = registry.resolve(parameters.model or f"models:/{settings.model.name}@{aliases.STAGING}")
        table = snapshot.open(location.parse_table(parameters.table or f"{lake_uri}/{settings.name}"))
        predicted = location.TableUri(f"{lake_uri}/{settings.name}_predictions")
        run.reads(table=table, model=registry.uri_of(version))
        run.ran_with(table__uri=table, model__uri=registry.uri_of(version))
        run.depends_on(settings, lake=lake_uri, table=table, model=registry.uri_of(version))
        run.logs_table(table, context="infer")

        write_rows = inference.writer_for(table)  # before made_of(), as it may import code that is part of it

        def write(folder: str) -> None:
            model = loading.load(version)
            inference.check_features(table, model.schema)
            lineage = {"model_uri": registry.uri_of(version), "table_uri": str(table), "run_id": run.run_id}
            try:
                unseen = inference.count_unseen(table, model.schema)
                write_rows(table, model.scorer, folder, beside={**lineage, "scored_at": datetime.now(UTC)})
            except MlflowException as err:
                raise inference.unfit(table, model.schema, err.message) from err
            mlflow.log_metrics({f"unseen.{name}": rows for name, rows in unseen.items()})

        committed = commit.once(predicted, made_of=run.made_of(), made_by=run.made_by(), write=write)
        rows = committed.table.row_count
        mlflow.log_metrics({"rows": rows, "rows_written": rows if committed.written else 0})
        run.writes(predictions=committed.table)


if __name__ == "__main__":
    main()
