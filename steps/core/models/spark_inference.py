"""Score a table by Spark's workers: each takes some rows at a time, so that a table may be larger than any memory."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import pyarrow as pa
from mlflow.exceptions import MlflowException
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.connect import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from steps.core.models import predictions, scorer
from steps.core.spark.session import spark_session
from steps.core.storage import filesystem
from steps.core.tables import commit
from steps.core.tables.snapshot import Snapshot


def write(table: Snapshot, model: scorer.Scorer, folder: str, *, beside: Mapping[str, str | datetime]) -> None:
    """Parquet files in `folder`: the rows of `table`, the prediction of each, and the values `beside` them.

    MlflowException when the model refuses a value.
    """
    with spark_session(folder, table.path, data_bytes=table.size_bytes) as session:
        try:
            commit.save(score(table, model, session, beside=beside), folder)
        except PySparkException as err:
            refusal = re.search(r"mlflow\.exceptions\.MlflowException: (.+)", str(err))
            if refusal is None:
                raise
            raise MlflowException.invalid_parameter_value(refusal[1]) from err


def score(
    table: Snapshot, model: scorer.Scorer, session: SparkSession, *, beside: Mapping[str, str | datetime]
) -> DataFrame:
    """The rows of a table with their predictions, and the values `beside` them; computed when it is written."""
    # The model's code and what adds its predictions are sent along: a cluster's workers have no file of this project.
    cloudpickle.register_pickle_by_value(sys.modules[type(model).__module__])
    cloudpickle.register_pickle_by_value(predictions)
    add_predictions = predictions.add_predictions

    def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from add_predictions(pa.Table.from_batches([batch]), model).to_batches()

    stored = session.read.format("delta").option("versionAsOf", table.version).load(filesystem.for_spark(table.path))
    scored = stored.mapInArrow(score_batches, from_arrow_schema(predictions.output_schema(table.schema, model)))
    return scored.withColumns({name: F.lit(value) for name, value in beside.items()})
