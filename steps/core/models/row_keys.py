"""Whether each row of a table has a key of its own, by which its predictions are found again."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from steps.core.errors import TableUnfit
from steps.core.tables import row_hash
from steps.core.tables.data_files import DataFiles
from steps.core.tables.repeated_rows import repeated_rows
from steps.core.tables.snapshot import Snapshot

SHOWN = 3  # keys, in a message


def check(rows: Snapshot | DataFiles, key: Sequence[str]) -> None:
    """TableUnfit when rows have no value in a column of the key, or share a key, also with other rows of the table.

    Of each row a hash of 8 bytes is held in memory, and the keys themselves only where two have the same.
    """
    missing, parts = Counter[str](), [np.empty(0, np.uint64)]
    for keys in _keys(rows, key):
        missing.update({name: keys[name].null_count for name in key})
        parts.append(row_hash.first_hash(keys.drop_null()))
    hashes, counts = np.unique(np.concatenate(parts), return_counts=True)
    alike = list(_with_hashes(rows, key, hashes[counts > 1]))
    if isinstance(rows, DataFiles):
        others = list(_with_hashes(_others(rows), key, hashes))
        in_both = np.unique(np.concatenate([np.empty(0, np.uint64), *map(row_hash.first_hash, others)]))
        alike += [*others, *_with_hashes(rows, key, np.setdiff1d(in_both, hashes[counts > 1]))]
    none = pa.schema([rows.schema.field(name) for name in key]).empty_table()
    repeated = repeated_rows(pa.concat_tables([none, *alike]).select([*key]))
    refuse(str(rows), missing=missing, repeated=len(repeated), examples=repeated.slice(0, SHOWN).to_pylist())


def refuse(table: str, *, missing: Mapping[str, int], repeated: int, examples: Sequence[Mapping[str, Any]]) -> None:
    """TableUnfit when there are any: rows without a value, by the column of the key, or keys of more than one row."""
    mistakes = [f"rows without a value for {name!r}, of the key: {rows:,}" for name, rows in missing.items() if rows]
    if repeated:
        shown = "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in examples)
        mistakes.append(f"keys of more than one row: {repeated:,}, such as {shown}")
    if mistakes:
        raise TableUnfit(
            table,
            mistakes,
            expected="one row for each key, by which its predictions are found again; nothing was written",
            next="correct the table, or the key in the config",
        )


def _keys(rows: Snapshot | DataFiles, key: Sequence[str]) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([batch]) for batch in rows.batches([*key]))


def _with_hashes(rows: Snapshot | DataFiles, key: Sequence[str], hashes: np.ndarray) -> Iterator[pa.Table]:
    """The keys that have one of these hashes, which are ascending; nothing is read for none."""
    for keys in _keys(rows, key) if len(hashes) else ():
        whole = keys.drop_null()
        if (is_alike := row_hash.are_among(row_hash.first_hash(whole), hashes)).any():
            yield whole.filter(pa.array(is_alike))


def _others(added: DataFiles) -> DataFiles:
    """All other files of the table."""
    names = [name for name in added.table.data_files if name not in added.names]
    return DataFiles(table=added.table, names=names)
