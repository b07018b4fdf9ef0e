"""Bring a large source, or one that Spark reads, through the contract by Spark's workers, which write the files.

Files that a worker wrote count only when its result has arrived. So a task that Spark runs twice counts once.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import UserError
from steps.core.process import progress
from steps.core.sources.job import Bundle, Job, Result
from steps.core.sources.rows import BatchesPart
from steps.core.sources.source import Source
from steps.core.spark import project_code
from steps.core.spark.session import spark_session
from steps.core.spark.worker import Worker

PARTITIONS = "spark.sql.leafNodeDefaultParallelism"  # Spark's setting: into how many tasks rows of a client go
RESULT = "number int, result binary"


def run(source: Source, bundles: Sequence[Bundle], job: Job, *, total_bytes: int) -> Result:
    """The sum of what the workers found in these bundles, at least one. Raises what reading and checking raise."""
    with spark_session(source.uri, job.folder, data_bytes=total_bytes) as session:
        return _sum(run_bundles(session, bundles, job))


def run_rows(source: Source, job: Job) -> Result:
    """The same for a source that Spark reads (`needs_spark`). Raises what it cannot read as source.failure() has it."""
    with spark_session(source.uri, job.folder, data_bytes=source.size_bytes()) as session:
        try:
            found = source.read_by_spark(session, job.columns)
            uri, to_raw_rows = source.uri, found.to_raw_rows

            def process(batches: Iterable[pa.RecordBatch]) -> Result:
                return job([BatchesPart(file=uri, size_bytes=0, batches=map(to_raw_rows, batches))])

            return _sum(run_dataframe(session, found.dataframe, process))
        except PySparkException as err:
            if failure := source.failure(err):
                raise failure from err
            raise


def run_bundles[B: Bundle, R](
    session: SparkSession, bundles: Sequence[B], process: Callable[[B], R]
) -> Iterator[tuple[int, R]]:
    """What `process` returns for each bundle, with its position, as they are done: a task each, the largest first.

    `process` is called by the workers. A UserError of its is raised here as it is, and no task goes on then.
    """
    by_size = sorted(range(len(bundles)), key=lambda position: -bundles[position].size_bytes)
    rows = {"number": by_size, "bundle": [pickle.dumps(bundles[position]) for position in by_size]}
    session.conf.set(PARTITIONS, str(len(bundles)))
    pickled = session.createDataFrame(pa.table(rows))
    return _results(session, pickled, _bundle_worker(process))


def run_dataframe[R](
    session: SparkSession, rows: DataFrame, process: Callable[[Iterable[pa.RecordBatch]], R]
) -> Iterator[tuple[int, R]]:
    """What `process` returns for the rows of each partition, with its number: once a partition. Raises as above."""
    return _results(session, rows, _batches_worker(process))


def _results(session: SparkSession, rows: DataFrame, worker: Worker) -> Iterator[tuple[int, Any]]:
    project_code.send(session)
    known = set()
    for row in rows.mapInArrow(worker, RESULT).toLocalIterator():
        result = pickle.loads(row["result"])
        if isinstance(result, UserError):
            raise result
        if row["number"] not in known:
            known.add(row["number"])
            yield row["number"], result


# The functions below are made by others, so that they are pickled with what they need, and nothing of this module.


def _bundle_worker(process: Callable[[Any], Any]) -> Worker:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For each bundle its number and the pickled result, or the pickled UserError that `process` raised."""
        for batch in batches:
            for row in batch.to_pylist():
                try:
                    result = process(pickle.loads(row["bundle"]))
                except UserError as err:
                    result = err
                yield pa.record_batch(
                    {"number": pa.array([row["number"]], pa.int32()), "result": [pickle.dumps(result)]}
                )

    return work


def _batches_worker(process: Callable[[Iterable[pa.RecordBatch]], Any]) -> Worker:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same once, for all rows of the task's partition."""
        task = TaskContext.get()
        assert task is not None
        try:
            result = process(batches)
        except UserError as err:
            result = err
        yield pa.record_batch({"number": pa.array([task.partitionId()], pa.int32()), "result": [pickle.dumps(result)]})

    return work


def _sum(results: Iterable[tuple[int, Result]]) -> Result:
    """All of them together, each added as it comes: Spark hands on the results of tasks in the tasks' order.

    Their rows are shown beside the tasks that Spark says are done.
    """
    total: Result | None = None
    with progress.shown() as shown:
        for _, result in results:
            shown.add("rows_read", result.source_rows)
            if total is None:
                total = result
            else:
                total.merge(result)
    assert total is not None
    return total
