"""Predict every row of a table with one version of a model.

Reads   the table; the model by version or alias (by default the alias `staging`)
Writes  <lake>/<name>_predictions: the table's columns, prediction, probability, probabilities, model_uri, table_uri,
        run_id, scored_at. The same model and table again change nothing
Hands on  output.predictions, the pinned URI
Fails   TableNotFound, TableVersionGone, TableUnfit (a feature is missing), ModelNotFound; the predictions stay as
        they were
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import mlflow
import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.connect import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from steps.core import artifact, commit, config, lake, registry, reuse, scorer, spark, step, storage
from steps.core.errors import TableUnfit
from steps.core.parameters import parameters

IN_MEMORY_BYTES = 128 * 2**20  # of Parquet: below it one process scores faster than Spark's workers start


@parameters
class InferParameters:
    config: str = "configs/iris.yaml"
    table: str = ""
    model: str = ""
    lake: str = ""


def check_features(table: lake.TableUri, model: scorer.Scorer) -> None:
    """TableUnfit when the table lacks a column that the model needs, or holds predictions already."""
    present = lake.schema(table).names
    if taken := [name for name in present if name.lower() in config.PREDICTION_COLUMNS]:
        raise TableUnfit(
            str(table),
            [f"has a column {name!r}, which predictions have" for name in taken],
            expected="a table of rows to predict, not of predictions",
            next="pass the table that these were made of",
        )
    if absent := [feature.name for feature in model.schema.features if feature.name not in present]:
        raise TableUnfit(
            str(table),
            [f"has no column {name!r}, which the model needs" for name in absent],
            expected=f"the columns that the model was trained on; it has {', '.join(present)}",
            next="ingest a table with these columns, or pass another model",
        )


def count_unseen(table: lake.TableUri, model: scorer.Scorer) -> Counter[str]:
    """How many values of each text column the model takes as missing, because they were not seen in training."""
    text = [feature.name for feature in model.schema.features if feature.levels is not None]
    counts: Counter[str] = Counter()
    for batch in lake.batches(table, columns=text) if text else ():
        counts.update(scorer.unseen(batch.to_pandas(), model.schema.features))
    return counts


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

    stored = session.read.format("delta").option("versionAsOf", table.version).load(storage.for_spark(table.path))
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
        inputs = reuse.inputs("infer", settings, lake=lake_uri, table=str(table), model=registry.uri_of(version))
        run.depends_on(inputs, workflow=settings.name)
        run.logs_table(table, context="infer")

        made_of = {"step": "infer", "table": str(table), "model": registry.uri_of(version)}
        made_of["key"] = reuse.key_of("infer", {**inputs, **reuse.code()})  # other code has another

        def write(metadata: str) -> None:
            model = artifact.load(version).scorer
            check_features(table, model)
            mlflow.log_metrics({f"unseen.{name}": rows for name, rows in count_unseen(table, model).items()})
            with spark.session(lake_uri, table.path, data_bytes=lake.size_bytes(table)) as session:
                lineage = {
                    "model_uri": F.lit(registry.uri_of(version)),
                    "table_uri": F.lit(str(table)),
                    "run_id": F.lit(run.run_id),
                    "scored_at": F.lit(datetime.now(UTC)),
                }
                commit.overwrite(score(table, model, session).withColumns(lineage), predictions, metadata=metadata)

        made_by = {"run_id": run.run_id, "git_commit": run.git_commit}
        committed = commit.once(predictions, made_of=made_of, made_by=made_by, write=write)
        rows = lake.count(committed.table)
        mlflow.log_metrics({"rows": rows, "rows_written": rows if committed.written else 0})
        run.writes(predictions=committed.table)


if __name__ == "__main__":
    main()
