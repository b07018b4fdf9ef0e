"""Score the rows of a table in this process, some at a time; all in memory where they are matched with earlier ones."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from steps.core.models import earlier_predictions, predictions, row_keys
from steps.core.models.scoring_plan import Work
from steps.core.process import progress
from steps.core.tables import commit

BATCH_ROWS = 65_536  # that are scored at once


def write(work: Work, folder: str) -> None:
    """A Parquet file in `folder`, of the rows that the plan commits. TableUnfit for their keys."""
    if work.key:
        row_keys.check(work.plan.rows, work.key)
    reader = pa.RecordBatchReader.from_batches(work.schema, _completed(work))
    commit.save(reader, folder)


def _completed(work: Work) -> Iterator[pa.RecordBatch]:
    """Some rows at a time, with their predictions and where these are from."""
    for batch in progress.counted(_batches(work), "rows_predicted", total=work.plan.rows.row_count):
        rows = pa.Table.from_batches([batch], work.schema)
        is_new = predictions.is_to_score(rows)
        completed = predictions.complete(rows, work.model.scorer)
        for name, value in work.origin.items():
            column = work.schema.field(name)
            filled = pc.if_else(is_new, pa.scalar(value, column.type), completed[name])
            completed = completed.set_column(completed.schema.get_field_index(name), column, filled)
        yield from completed.combine_chunks().to_batches()


def _batches(work: Work) -> Iterator[pa.RecordBatch]:
    """Some rows at a time, with the earlier predictions that are kept."""
    rows, earlier, names = work.plan.rows, work.plan.earlier, work.plan.rows.schema.names
    if earlier is None:
        for batch in rows.batches(names):
            blank = [pa.nulls(len(batch), column.type) for column in list(work.schema)[len(names) :]]
            yield pa.RecordBatch.from_arrays([*batch.columns, *blank], schema=work.schema)
        return
    joined = earlier_predictions.joined(
        rows.read(names),
        earlier.read(earlier.schema.names),
        columns=work.columns,
        keeps=work.plan.keeps,
        schema=work.schema,
        now=work.now,
    )
    yield from joined.combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
