"""Metrics of a model on a test part that fits in no memory: Spark's workers score it, and hand back sums."""

import pickle
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pyarrow as pa
import xgboost
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from steps.core import config, metrics
from steps.core.errors import TableUnfit
from steps.core.metric_sums import ClassificationSums, RegressionSums, Sums
from steps.core.models import predictions, scorer, split
from steps.core.models.split import SplitSettings
from steps.core.spark import project_code
from steps.core.spark.session import spark_session
from steps.core.spark.worker import Worker
from steps.core.tables.snapshot import Snapshot

RESULT = "result binary"


def scores(
    table: Snapshot,
    model: scorer.Scorer,
    settings: config.Config,
    split_settings: SplitSettings,
    *,
    columns: Sequence[str],
) -> dict[str, float]:
    """Every metric that is a sum over rows and is defined, also of each class, on all rows of the test part of `table`
    whose class the model knows; {} when there is none. `columns` are those to read. TableUnfit when the model refuses a
    value."""
    with spark_session(table.path, data_bytes=table.size_bytes) as session:
        try:
            sums = sums_of_workers(table, model, settings, split_settings, session, columns=columns)
        except PySparkException as err:
            if refusal := re.search(r"MlflowException: (.+)", str(err)):
                raise TableUnfit(
                    str(table),
                    [refusal[1]],
                    expected="values of the types that the model was trained on",
                    next="train a new version on this table",
                ) from err
            raise
    if not sums:
        return {}
    total = reduce(add, sums)
    if isinstance(total, RegressionSums):
        return total.scores()
    return total.scores() | total.scores_by_class([metrics.logged_label(str(label)) for label in model.schema.classes])


def sums_of_workers(
    table: Snapshot,
    model: scorer.Scorer,
    settings: config.Config,
    split_settings: SplitSettings,
    session: SparkSession,
    *,
    columns: Sequence[str],
) -> list[Sums]:
    """The sums of each task that had such rows."""
    project_code.send(session)
    stored = table.read_by_spark(session)
    rows = stored.select(*(f"`{name}`" for name in columns))
    schema = scorer.Schema.loads(model.schema.dumps())  # a loaded model's is of its own code, which workers have not
    results = rows.mapInArrow(_worker(model.booster, schema, settings, split_settings), RESULT).collect()
    return [pickle.loads(row["result"]) for row in results]


def _worker(
    booster: xgboost.Booster, schema: scorer.Schema, settings: config.Config, split_settings: SplitSettings
) -> Worker:
    """What the workers call; made here, so that it is pickled with what it needs."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The pickled sums over the task's test rows in one row; none where the task has no test row."""
        model = scorer.Scorer()
        model.booster, model.schema = booster, schema
        total = None
        for batch in batches:
            rows = split.labelled(predictions.to_frame(batch), settings)
            test = rows[split.parts(rows, split_settings) == "test"]
            if schema.task == "classification":
                test = test[test[schema.target].isin(schema.classes)]
            if len(test):
                sums = _sums(model, test)
                total = sums if total is None else total + sums  # type: ignore[operator]
        if total is not None:
            yield pa.record_batch({"result": [pickle.dumps(total)]})

    return work


def _sums(model: scorer.Scorer, test: pd.DataFrame) -> Sums:
    truth = test[model.schema.target]
    if model.schema.task == "regression":
        return RegressionSums.of(truth.to_numpy(dtype=np.float64), model.values(test))
    positions = {label: code for code, label in enumerate(model.schema.classes)}
    return ClassificationSums.of(truth.map(positions).to_numpy(dtype=np.intp), model.probabilities(test))
