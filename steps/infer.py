"""Predict every row of a table with one version of a model.

Reads   the table; the model by version or alias (by default the alias `staging`)
Writes  <lake>/<name>_predictions: the table's columns, prediction, probability, probabilities, model_uri, table_uri,
        run_id, scored_at. The same model and table again change nothing
Hands on  output.predictions, the pinned URI
Fails   TableNotFound, TableVersionGone, TableUnfit (a feature is missing), ModelNotFound; the predictions stay as
        they were
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import mlflow
import pyarrow as pa
from mlflow.exceptions import MlflowException

from steps.core import config
from steps.core.errors import TableUnfit
from steps.core.models import loading, predictions, registry, scorer
from steps.core.parameters import parameters
from steps.core.tables import commit, location, snapshot
from steps.core.tables.snapshot import Snapshot
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec

STORED_TYPES = {"double": pa.float64(), "long": pa.int64(), "boolean": pa.bool_(), "string": pa.string()}


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


def check_features(table: Snapshot, schema: scorer.Schema) -> None:
    """TableUnfit when the table lacks a column that the model needs, or holds predictions already."""
    present = table.schema.names
    if taken := [name for name in present if name.lower() in config.PREDICTION_COLUMNS]:
        raise TableUnfit(
            str(table),
            [f"has a column {name!r}, which predictions have" for name in taken],
            expected="a table of rows to predict, not of predictions",
            next="pass the table that these were made of",
        )
    if absent := [feature.name for feature in schema.features if feature.name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}, which the model needs" for name in absent],
            expected=f"the columns that the model was trained on; it has {', '.join(present)}",
            next="ingest a table with these columns, or pass another model",
        )


def count_unseen(table: Snapshot, schema: scorer.Schema) -> Counter[str]:
    """How many values of each text column the model takes as missing, because they were not seen in training.

    MlflowException when a column has another type than ingest gives it, and a value in it that the model refuses.
    """
    looked_at = [
        feature
        for feature in schema.features
        if feature.levels is not None or table.schema.field(feature.name).type != STORED_TYPES[feature.type]
    ]
    counts: Counter[str] = Counter()
    for batch in table.batches([feature.name for feature in looked_at]) if looked_at else ():
        counts.update(scorer.unseen(batch.to_pandas(), looked_at))
    return counts


def write_in_memory(
    table: Snapshot, model: scorer.Scorer, folder: str, *, beside: Mapping[str, str | datetime]
) -> None:
    """A Parquet file in `folder`: the rows of `table`, the prediction of each, and the values `beside` them."""
    rows = predictions.add_predictions(table.read(table.schema.names), model)
    for name, value in beside.items():
        kind = pa.string() if isinstance(value, str) else pa.timestamp("us", "UTC")
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, kind), len(rows)))
    commit.save(rows, folder)


def writer_for(table: Snapshot) -> Callable[..., None]:
    """What writes the predictions of a table: this process, or Spark's workers when it is too large for one."""
    if table.fits_in_memory:
        return write_in_memory
    from steps.core.models import spark_scoring  # PySpark takes half a second, which small tables do not pay

    return spark_scoring.write


def _refused(table: Snapshot, schema: scorer.Schema, reason: str) -> TableUnfit:
    return TableUnfit(
        str(table),
        [reason],
        expected=", ".join(f"{feature.name} {feature.type}" for feature in schema.features),
        next="ingest it with the config that the model was trained by, or pass another table or model",
    )


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config.load(parameters.config, home=location.home())
        lake_uri = location.lake_root(parameters.lake)
        version = registry.resolve(parameters.model or f"models:/{settings.model.name}@{registry.STAGING}")
        table = snapshot.open(location.parse_table(parameters.table or f"{lake_uri}/{settings.name}"))
        predicted = location.TableUri(f"{lake_uri}/{settings.name}_predictions")
        run.reads(table=table, model=registry.uri_of(version))
        run.ran_with(table__uri=table, model__uri=registry.uri_of(version))
        run.depends_on(settings, lake=lake_uri, table=table, model=registry.uri_of(version))
        run.logs_table(table, context="infer")

        write_rows = writer_for(table)  # before made_of(), as it may import code that is part of it

        def write(folder: str) -> None:
            model = loading.load(version)
            check_features(table, model.schema)
            lineage = {"model_uri": registry.uri_of(version), "table_uri": str(table), "run_id": run.run_id}
            try:
                unseen = count_unseen(table, model.schema)
                write_rows(table, model.scorer, folder, beside={**lineage, "scored_at": datetime.now(UTC)})
            except MlflowException as err:
                raise _refused(table, model.schema, err.message) from err
            mlflow.log_metrics({f"unseen.{name}": rows for name, rows in unseen.items()})

        committed = commit.once(predicted, made_of=run.made_of(), made_by=run.made_by(), write=write)
        rows = committed.table.row_count
        mlflow.log_metrics({"rows": rows, "rows_written": rows if committed.written else 0})
        run.writes(predictions=committed.table)


if __name__ == "__main__":
    main()
