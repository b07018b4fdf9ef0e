"""Boost on Spark's workers, together: each holds some of the rows, read from the same pinned table.

The workers split and encode rows by the functions that boost in one process, so the model is the same artifact. Trees
differ a little: limits of bins and sums come from the workers' shares of the rows.
"""

import logging
import re
import time
from collections.abc import Iterable, Iterator

import pandas as pd
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.connect import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from xgboost.spark import SparkXGBRegressor

from steps.core import config
from steps.core.errors import TableUnfit
from steps.core.models import predictions, split
from steps.core.models.boosting import Boosted, Recipe
from steps.core.models.split import SplitSettings
from steps.core.spark import connect_server, project_code
from steps.core.spark.session import spark_session
from steps.core.spark.worker import Worker
from steps.core.tables.snapshot import Snapshot

TARGET, WEIGHT, IS_VALIDATION = "target", "weight", "is_validation"
PARALLELISM = "spark.sql.leafNodeDefaultParallelism"  # Spark's setting: into how many tasks rows of a client go
CORES_OF_A_TASK = "spark.task.cpus"  # Spark's setting, which XGBoost takes for the threads of a worker
LEAST_OF_A_CLUSTER = 2  # Spark says so of a cluster that has a single slot, too
OVERLAP_SECONDS = 2
NOT_FOR_SPARK = ("nthread",)  # each worker has the cores of its task


def boost(recipe: Recipe, table: Snapshot, settings: config.Config, split_settings: SplitSettings) -> Boosted:
    """Boost on the train part of `table` until its validation part has not got better for early_stopping_rounds.

    TableUnfit when a value cannot be encoded.
    """
    logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)  # else it writes each setting to the terminal
    with spark_session(table.path, data_bytes=table.size_bytes) as session:
        rows = encoded(table, recipe, settings, split_settings, session)
        try:
            model = _estimator(recipe, workers=_task_slots(session)).fit(rows)
        except PySparkException as err:
            if refusal := re.search(r"TableUnfit: (.+)", str(err)):
                raise TableUnfit(
                    str(table),
                    [refusal[1].removeprefix(f"{table}: ")],
                    expected="values of the types that the config has under `columns`",
                    next="ingest the table with this config, or pass another table",
                ) from err
            raise
    booster, summary = model.get_booster(), model.training_summary
    histories = (summary.train_objective_history, summary.validation_objective_history)
    stops = recipe.early_stopping_rounds is not None
    return Boosted(
        booster=booster,
        best_round=booster.best_iteration + 1 if stops else booster.num_boosted_rounds(),
        history=dict(zip(("train", "validation"), histories, strict=True)),
    )


def encoded(
    table: Snapshot, recipe: Recipe, settings: config.Config, split_settings: SplitSettings, session: SparkSession
) -> DataFrame:
    """The rows of the train and the validation part as XGBoost learns from them, a column for each of the matrix."""
    project_code.send(session)
    names = [f"x{position}" for position in range(len(recipe.names))]
    fields = [*((name, pa.float32()) for name in names), (TARGET, pa.float64()), (WEIGHT, pa.float64())]
    schema = pa.schema([*fields, (IS_VALIDATION, pa.bool_())])
    stored = table.read_by_spark(session)
    rows = stored.select(*(f"`{name}`" for name in settings.training_columns))
    return rows.mapInArrow(_encoder(recipe, settings, split_settings, schema), from_arrow_schema(schema))


def _encoder(recipe: Recipe, settings: config.Config, split_settings: SplitSettings, schema: pa.Schema) -> Worker:
    """What the workers call; made here, so that it is pickled with what it needs."""

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of the train and the validation part of each batch, in batches of `schema`."""
        for batch in batches:
            rows = split.labelled(predictions.to_frame(batch), settings)
            parts = split.parts(rows, split_settings)
            for part in ("train", "validation"):
                block = recipe.encode(rows[parts == part])
                columns = pd.DataFrame(block.features, columns=schema.names[: block.features.shape[1]])
                columns[TARGET], columns[WEIGHT] = block.target, 1.0 if block.weight is None else block.weight
                yield pa.RecordBatch.from_pandas(
                    columns.assign(**{IS_VALIDATION: part == "validation"}), schema, preserve_index=False
                )

    return encode


def _estimator(recipe: Recipe, *, workers: int) -> SparkXGBRegressor:
    """XGBoost's estimator that takes any objective as it is given; its classifier would choose one by the labels."""
    parameters = {name: value for name, value in recipe.parameters.items() if name not in NOT_FOR_SPARK}
    return SparkXGBRegressor(
        features_col=[f"x{position}" for position in range(len(recipe.names))],
        label_col=TARGET,
        weight_col=WEIGHT,
        validation_indicator_col=IS_VALIDATION,
        num_workers=workers,
        feature_names=recipe.names,
        feature_types=recipe.types,
        n_estimators=recipe.num_boost_round,
        early_stopping_rounds=recipe.early_stopping_rounds,
        verbose=False,
        **parameters,
    )


def _task_slots(session: SparkSession) -> int:
    """How many tasks run at once, which is how many workers may boost together: with more, none would begin."""
    session.conf.unset(PARALLELISM)  # of one task for small data
    cores = int(session.range(2**20).select(F.spark_partition_id()).distinct().count())
    slots = max(1, cores // int(session.conf.get(CORES_OF_A_TASK, "1") or 1))
    return slots if connect_server.is_own() or cores != LEAST_OF_A_CLUSTER or _overlap(session) else 1


def _overlap(session: SparkSession) -> bool:
    """Whether two tasks run at once."""

    def wait(_: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        began = time.time()
        time.sleep(OVERLAP_SECONDS)
        yield pa.record_batch({"began": [began], "ended": [time.time()]})

    first, second = session.range(0, 2, 1, 2).mapInArrow(wait, "began double, ended double").collect()
    return bool(first["began"] < second["ended"] and second["began"] < first["ended"])
