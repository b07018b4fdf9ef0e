"""Which rows are more than once in a table, and where rows have the values of others: whatever its columns are called.

Arrow's joins and sums put columns of their own names beside those of the table, which may have them too.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLACE = "place"


def repeated_rows(rows: pa.Table) -> pa.Table:
    """The rows that are there more than once, each once, in the order in which they first come."""
    keys = _numbered(rows)
    counted = keys.group_by(keys.column_names, use_threads=False).aggregate([([], "count_all")])
    found = counted.filter(pc.greater(counted["count_all"], 1)).select(keys.column_names)
    return found.rename_columns(rows.column_names)


def is_among(rows: pa.Table, others: pa.Table) -> np.ndarray:
    """Where a row has the values of one of the others, which have the same columns."""
    keys = _numbered(rows)
    placed = keys.append_column(PLACE, pa.array(np.arange(len(rows))))
    found = placed.join(_numbered(others.select(rows.column_names)), keys.column_names, join_type="left semi")
    mask = np.zeros(len(rows), dtype=bool)
    mask[found[PLACE].to_numpy()] = True
    return mask


def _numbered(rows: pa.Table) -> pa.Table:
    return rows.rename_columns([str(number) for number in range(rows.num_columns)])
