"""Predict every row of a table with one version of a model.

Reads   the table; the model by version or alias (by default the alias `staging`)
Writes  <lake>/<name>_predictions: the table's columns, prediction, probability, probabilities, model_uri, table_uri,
        run_id, scored_at. The same model and table again change nothing
Hands on  output.predictions, the pinned URI
Fails   TableNotFound, TableVersionGone, TableUnfit (a feature is missing), ModelNotFound; the predictions stay as
        they were
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import mlflow
import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.connect import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from steps.core import config, lake, registry, scorer, spark, step
from steps.core.errors import TableUnfit
from steps.core.parameters import parameters

IN_MEMORY_BYTES = 128 * 2**20  # of Parquet: below it one process scores faster than Spark's workers start


@parameters
class InferParameters:
    config: str = "configs/iris.yaml"
    table: str = ""
    model: str = ""
    lake: str = ""


def add_predictions(rows: pa.Table, model: scorer.Scorer) -> pa.Table:
    """`rows`, each with what `model` says of it, in the types of output_schema()."""
    names = [feature.name for feature in model.schema.features]
    predicted = model.predict(None, rows.select(names).to_pandas())
    for field in list(output_schema(rows.schema, model))[len(rows.schema) :]:
        rows = rows.append_column(field, pa.array(predicted[field.name].tolist(), field.type))
    return rows


def output_schema(rows: pa.Schema, model: scorer.Scorer) -> pa.Schema:
    """`rows` and the three columns that a model adds; `prediction` has the type of the target's own labels."""
    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}
    return pa.schema(
        [
            *rows,
            pa.field("prediction", kinds[type(model.schema.classes[0])]),
            pa.field("probability", pa.float64()),
            pa.field("probabilities", pa.map_(pa.string(), pa.float64())),
        ]
    )


def score(
    table: lake.TableUri, model: scorer.Scorer, session: SparkSession, *, in_memory_bytes: int = IN_MEMORY_BYTES
) -> DataFrame:
    """The table's rows with their predictions: scored here when they are few, by Spark's workers when they are many."""
    columns = lake.schema(table)
    if lake.size_bytes(table) <= in_memory_bytes:
        return session.createDataFrame(add_predictions(lake.read(table, columns=columns.names), model))
    cloudpickle.register_pickle_by_value(sys.modules[type(model).__module__])
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from add_predictions(pa.Table.from_batches([batch]), model).to_batches()

    stored = session.read.format("delta").option("versionAsOf", table.version).load(table.path)
    return stored.mapInArrow(score_batches, from_arrow_schema(output_schema(columns, model)))


def main(argv: Sequence[str] | None = None) -> None:
    with step.start("infer", InferParameters, argv) as (parameters, run):
        settings = config.load(parameters.config, home=lake.home())
        lake_uri = lake.root(parameters.lake)
        version = registry.resolve(parameters.model or f"models:/{settings.model.name}@{registry.STAGING}")
        table = lake.pin(lake.table_uri(parameters.table or f"{lake_uri}/{settings.name}"))
        predictions = lake.TableUri(f"{lake_uri}/{settings.name}_predictions")
        run.reads(table=table, model=registry.uri_of(version))
        run.ran_with(table__uri=table, model__uri=registry.uri_of(version))
        run.logs_table(table, context="infer")

        made_of = {"step": "infer", "table": str(table), "model": registry.uri_of(version)}
        done = lake.exists(predictions) and made_of.items() <= lake.last_commit(predictions).items()
        if not done:
            model = registry.load(version).scorer
            _check_features(table, model)
            with spark.session(data_bytes=lake.size_bytes(table)) as session:
                lineage = {
                    "model_uri": F.lit(registry.uri_of(version)),
                    "table_uri": F.lit(str(table)),
                    "run_id": F.lit(run.run_id),
                    "scored_at": F.lit(datetime.now(UTC)),
                }
                scored = score(table, model, session).withColumns(lineage)
                writer = scored.write.format("delta").mode("overwrite").option("overwriteSchema", True)
                writer.option("userMetadata", json.dumps({**made_of, "run_id": run.run_id})).save(predictions.path)
        pinned = lake.pin(predictions)
        mlflow.log_metrics({"rows": lake.count(pinned), "rows_written": 0 if done else lake.count(pinned)})
        run.writes(predictions=pinned)


def _check_features(table: lake.TableUri, model: scorer.Scorer) -> None:
    present = lake.schema(table).names
    if absent := [feature.name for feature in model.schema.features if feature.name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}, which the model needs" for name in absent],
            expected=f"the columns that the model was trained on; it has {', '.join(present)}",
            next="ingest a table with these columns, or pass another model",
        )


if __name__ == "__main__":
    main()
