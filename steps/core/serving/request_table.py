"""The table of requests: batches of rows are added to it, each exactly once, and its small files are put together.

Which batches a table has stands in Delta's application transactions (`txn`), the id of a writer with the number of its
newest batch, in the same log entry as the rows. Writers are many, commits are conditional, and none waits for another.
"""

import contextlib
import uuid
from collections import Counter
from functools import partial

import pyarrow as pa
from deltalake import Transaction
from deltalake.exceptions import DeltaError

from steps.core.errors import TableUnfit
from steps.core.tables import collation, commit, conditional, evolution, snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

WRITER = "requests:"  # ids of application transactions: of a writer, whose batches are numbered
SMALL_FILE_BYTES = 32 * 2**20  # what compaction makes files of; each time it writes those below it anew
NEXT = (
    "move the table away, after which a new one is made, or serve a model whose columns fit; what does not fit "
    "waits, and is tried again when a server starts"
)


def append(table: TableUri, rows: pa.Table, *, writer: str, number: int) -> Snapshot:
    """The version that has `rows`, batch `number` of a writer whose earlier ones are in: written now, or found.

    New columns are added to the table, and those that rows lack have no value in them. Numbers take the type of the
    table's column where none of them changes by it. TableUnfit for columns of other types, or two of one name, where
    nothing is written; else what commit.once() raises.
    """
    _check_names(table, rows.column_names)
    try:
        return _append(table, rows, writer=writer, number=number)
    except TableUnfit:
        return _append(table, rows, writer=writer, number=number)  # the column may have come from another just now


def _append(table: TableUri, rows: pa.Table, *, writer: str, number: int) -> Snapshot:
    run_id = f"requests-{uuid.uuid4().hex}"  # of this attempt: files of one that died belong to no version
    made_by = {"run_id": run_id, "writer": writer, "batch": str(number)}
    is_there = partial(_has, writer=writer, number=number)

    def prepare(newest: Snapshot) -> bool:
        change = evolution.change(newest, staged.schema, may_lack=True, next=NEXT)
        return conditional.change_columns(newest, change, made_by=made_by)

    def put(newest: Snapshot | None) -> bool:
        properties = conditional.properties(made_by, [Transaction(f"{WRITER}{writer}", number)])
        conditional.add(newest, staged, properties, table=table, mode="append")
        return True

    if (newest := collation.open_newest(table)) and is_there(newest):
        return newest
    fitted = _with_types_of(newest.schema, rows) if newest else rows
    staged = conditional.stage(table, run_id, lambda folder: commit.save(fitted, folder))
    return conditional.commit(table, metadata=made_by, is_there=is_there, prepare=prepare, put=put).table


def has(table: TableUri, *, writer: str, number: int) -> bool:
    """Whether batch `number` of a writer is in the table, as that is now."""
    newest = collation.open_newest(table)
    return newest is not None and _has(newest, writer=writer, number=number)


def compact(table: TableUri) -> None:
    """Put the small files of a table together, by a version with the same rows.

    The files of earlier versions stay until a vacuum. Nothing is done where another process does it.
    """
    newest = snapshot.open(table)
    properties = conditional.properties({"compacted_from": str(newest)})
    with contextlib.suppress(DeltaError):  # another's version came first, and there will be a next time
        newest.delta_table.optimize.compact(
            target_size=SMALL_FILE_BYTES, max_concurrent_tasks=1, commit_properties=properties
        )


def _has(newest: Snapshot, *, writer: str, number: int) -> bool:
    known = newest.delta_table.transaction_version(f"{WRITER}{writer}")
    return known is not None and known >= number


def _check_names(table: TableUri, names: list[str]) -> None:
    count = Counter(name.lower() for name in names)
    if repeated := [name for name in names if count[name.lower()] > 1]:
        raise TableUnfit(
            table.path,
            [f"would have the columns {', '.join(map(repr, repeated))}, which Delta does not tell apart"],
            expected="rows whose columns have different names, in any case",
            next="remove the file in which they wait, as no table takes them, or rename the columns in it",
        )


def _with_types_of(schema: pa.Schema, rows: pa.Table) -> pa.Table:
    for position, field in enumerate(rows.schema):
        there = schema.field(field.name).type if field.name in schema.names else field.type
        if there != field.type and _is_number(there) and _is_number(field.type):
            with contextlib.suppress(pa.ArrowInvalid):  # a value would change
                rows = rows.set_column(position, field.with_type(there), rows[field.name].cast(there))
    return rows


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
