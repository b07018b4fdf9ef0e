"""The pass of counting.py by Spark's workers: each hands back what it has counted, and these add up."""

from collections.abc import Sequence
from functools import reduce
from operator import add

from steps.core.monitoring.counting import Count, Counted
from steps.core.monitoring.current import Current
from steps.core.sources import spark_ingestion
from steps.core.spark.session import spark_session


def count(current: Current, job: Count, columns: Sequence[str]) -> Counted:
    """What `job` finds in the rows."""
    with spark_session(current.table.path, data_bytes=current.table.size_bytes) as session:
        rows = current.rows.read_by_spark(session).select(*(f"`{name}`" for name in columns))
        return reduce(add, (counted for _, counted in spark_ingestion.run_dataframe(session, rows, job)), Counted())
