"""Score a table by Spark's workers: each takes some rows at a time, so that a table may be larger than any memory.

Rows are matched with their earlier predictions by joins, as earlier_predictions.py does it in memory.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from mlflow.exceptions import MlflowException
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql.connect import functions as F
from pyspark.sql.connect.window import Window
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type

from steps.core.models import predictions, row_keys
from steps.core.models.scoring_plan import Columns, Work, has_column
from steps.core.spark.session import spark_session
from steps.core.tables import commit

HASHES = ("first", "second")  # of what a row is known by: two of 64 bits each, as row_hash.two_hashes() has them


def write(work: Work, folder: str) -> None:
    """Parquet files in `folder`, of the rows that the plan commits. TableUnfit for their keys.

    MlflowException when the model refuses a value.
    """
    table = work.table
    size_bytes = table.size_bytes + (work.plan.earlier.size_bytes if work.plan.earlier else 0)
    with spark_session(folder, table.path, data_bytes=size_bytes) as session:
        try:
            _check_keys(table.read_by_spark(session), work)
            commit.save(score(work, session), folder)
        except PySparkException as err:
            refusal = re.search(r"mlflow\.exceptions\.MlflowException: (.+)", str(err))
            if refusal is None:
                raise
            raise MlflowException.invalid_parameter_value(refusal[1]) from err


def score(work: Work, session: SparkSession) -> DataFrame:
    """The rows that the plan commits, computed when they are written."""
    # The model's code and what adds its predictions are sent along: a cluster's workers have no file of this project.
    model = work.model.scorer
    cloudpickle.register_pickle_by_value(sys.modules[type(model).__module__])
    cloudpickle.register_pickle_by_value(predictions)
    complete = predictions.complete

    def complete_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from complete(pa.Table.from_batches([batch]), model).to_batches()

    completed = _joined(work, session).mapInArrow(complete_batches, from_arrow_schema(work.schema))
    is_new = F.col("run_id").isNull() & F.col("deleted_at").isNull()
    origin = {name: F.when(is_new, F.lit(value)).otherwise(F.col(name)) for name, value in work.origin.items()}
    return completed.withColumns(origin)


def _joined(work: Work, session: SparkSession) -> DataFrame:
    """What earlier_predictions.joined() makes."""
    rows, earlier, schema = work.plan.rows.read_by_spark(session), work.plan.earlier, work.schema
    names = work.plan.rows.schema.names
    if earlier is None:
        added = [_missing(column).alias(column.name) for column in list(schema)[len(names) :]]
        return rows.select([*map(_column, names), *added])
    columns = work.columns
    live = _described(rows, columns, is_wider=_is_any_there(columns.gained))
    gone = _described_earlier(earlier.read_by_spark(session), earlier.schema, columns)
    joined = live.alias("live").join(gone.alias("gone"), [*HASHES, "number"], "full")
    in_table = F.col("row").isNotNull()
    kept = F.lit(work.plan.keeps) & ~F.col("is_wider") & ~F.col("is_deleted") & ~F.col("has_dropped")
    if columns.is_by_key:
        joined = joined.where(in_table | (F.col("number") == 1) | ~F.col("is_whole"))
        kept = kept & _is_equal(columns, earlier.schema)
    kept = in_table & F.coalesce(kept, F.lit(False))
    now = F.lit(work.now)
    values = []
    for column in schema:
        there = has_column(earlier.schema, column) and column.name not in columns.new
        before = F.col("earlier").getField(column.name) if there else _missing(column)
        if column.name == "deleted_at":
            value = F.when(in_table, _missing(column)).otherwise(F.coalesce(before, now))
        elif column.name in names:
            value = F.when(in_table, F.col("row").getField(column.name)).otherwise(before)
        else:
            value = F.when(kept | ~in_table, before)
        values.append(value.alias(column.name))
    return joined.select(values)


def _described(rows: DataFrame, columns: Columns, *, is_wider: Column) -> DataFrame:
    """The rows of the table, with what they are matched by, as earlier_predictions.joined() describes them."""
    described = rows.select(
        F.struct(*map(_column, rows.columns)).alias("row"), is_wider.alias("is_wider"), *_hashes(rows, columns.identity)
    )
    if columns.is_by_key:
        return described.withColumn("number", F.lit(1))
    return described.withColumn("number", F.row_number().over(Window.partitionBy(*HASHES).orderBy("is_wider")))


def _described_earlier(rows: DataFrame, schema: pa.Schema, columns: Columns) -> DataFrame:
    known = {
        name: _column(name) if name in schema.names else F.lit(None) for name in ("scored_at", "run_id", "deleted_at")
    }
    described = rows.select(
        F.struct(*map(_column, rows.columns)).alias("earlier"),
        known["deleted_at"].isNotNull().alias("is_deleted"),
        _is_any_there(columns.dropped).alias("has_dropped"),
        (~_is_any_missing(columns.identity)).alias("is_whole"),
        *_hashes(rows, columns.identity),
        *(value.alias(name) for name, value in known.items()),
    )
    order: list[Column | str] = ["is_deleted", "has_dropped", F.col("scored_at").desc_nulls_last()]
    order += [F.col(name).asc_nulls_last() for name in ("run_id", "deleted_at")]
    numbered = described.withColumn("number", F.row_number().over(Window.partitionBy(*HASHES).orderBy(*order)))
    return numbered.drop(*known)


def _hashes(rows: DataFrame, names: Sequence[str]) -> list[Column]:
    """HASHES of these columns."""
    kinds = {field.name: field.dataType.typeName() for field in rows.schema.fields}
    values = [part for name in names for part in _hashable(_column(name), kinds[name])]
    return [F.xxhash64(F.lit(seed), *values).alias(name) for seed, name in enumerate(HASHES)]


def _hashable(value: Column, kind: str) -> list[Column]:
    """A value so that equal ones have one hash: Spark passes over what is missing, and knows none of a map."""
    if kind in ("float", "double"):
        value = value + F.lit(0.0)  # -0.0 is 0.0
    elif kind in ("map", "array", "struct"):
        value = F.to_json(F.struct(value))
    return [value.isNull(), value]


def _is_equal(columns: Columns, schema: pa.Schema) -> Column:
    """Whether the model reads the same values in a row and its earlier prediction. To Spark too, NaN is NaN and -0.0 is
    0.0 here."""
    equal = F.lit(True)
    for name in columns.read:
        row, earlier = (F.col(side).getField(name) for side in ("row", "earlier"))
        if pa.types.is_nested(schema.field(name).type):
            row, earlier = F.to_json(F.struct(row)), F.to_json(F.struct(earlier))
        equal = equal & row.eqNullSafe(earlier)
    return equal


def _is_any_there(names: Sequence[str]) -> Column:
    there = F.lit(False)
    for name in names:
        there = there | _column(name).isNotNull()
    return there


def _is_any_missing(names: Sequence[str]) -> Column:
    missing = F.lit(False)
    for name in names:
        missing = missing | _column(name).isNull()
    return missing


def _check_keys(rows: DataFrame, work: Work) -> None:
    """As row_keys.check(), over the whole table."""
    if not work.key:
        return
    key = [_column(name) for name in work.key]
    counts = rows.select([F.count_if(column.isNull()) for column in key]).collect()[0]
    numbers = [str(number) for number in range(len(key))]  # as a column of the key may be called `count`
    repeated = (
        rows.where(~_is_any_missing(work.key))
        .select([column.alias(number) for column, number in zip(key, numbers, strict=True)])
        .groupBy(*numbers)
        .count()
        .where(F.col("count") > 1)
        .drop("count")
        .orderBy(*numbers)
    )
    examples = [dict(zip(work.key, row, strict=True)) for row in repeated.limit(row_keys.SHOWN).collect()]
    row_keys.refuse(
        str(work.table),
        missing=dict(zip(work.key, counts, strict=True)),
        repeated=repeated.count() if examples else 0,
        examples=examples,
    )


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _missing(column: pa.Field) -> Column:
    return F.lit(None).cast(from_arrow_type(column.type))
