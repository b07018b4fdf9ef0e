"""Which predictions are of rows that the model was trained on: on these it is better than it is, and surer.

infer predicts all rows of a table, those that the model learnt from among them. They say nothing of its quality.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.errors import TableUnreadable, TableVersionGone
from steps.core.models import predictions, split
from steps.core.models.split import SplitSettings
from steps.core.tables import row_hash
from steps.core.tables.snapshot import Snapshot

MOST_ROWS = 100_000_000  # of the training table, of each of which a hash of 8 bytes is held
TABLE_URI = "table_uri"  # of predictions by infer; requests have none, and are new rows


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedOn:
    """`hashes` are those of the `columns` that tell a row, of all rows of the training table that had a label,
    ascending; None where they are not known: it is gone, too large, or has another kind of column. The columns in
    `numbers` have another type of numbers now. `split` is what set the model's training rows apart."""

    columns: tuple[str, ...]
    hashes: np.ndarray | None
    split: SplitSettings
    numbers: tuple[str, ...] = ()

    @classmethod
    def find(
        cls,
        table: Snapshot | None,
        columns: Sequence[str],
        split: SplitSettings,
        *,
        target: str,
        schema: pa.Schema,
    ) -> "TrainedOn":
        """By the version of the `table` that a model was trained on, where it is still there; `columns` are the
        config's key, or else its features. `schema` is that of the predictions."""
        unknown = cls(columns=tuple(columns), hashes=None, split=split)
        if table is None or any(name not in one.names for name in columns for one in (table.schema, schema)):
            return unknown
        retyped = [name for name in columns if table.schema.field(name).type != schema.field(name).type]
        if not all(_is_number(one.field(name).type) for name in retyped for one in (table.schema, schema)):
            return unknown
        hashes = _hashes(table, columns, numbers=retyped, target=target)
        return cls(columns=tuple(columns), hashes=hashes, split=split, numbers=tuple(retyped))

    def needs(self, present: Sequence[str]) -> list[str]:
        """The columns to read beside the others, of those that there are."""
        if TABLE_URI not in present:
            return []
        return [name for name in (TABLE_URI, *self.columns, *self.split.all_columns) if name in present]

    def may_have(self, rows: pa.Table) -> np.ndarray:
        """Where the model may have been trained on a row, (n,) bool: it is not in the test part, and the training table
        has it, as far as that is known."""
        if TABLE_URI not in rows.schema.names:
            return np.zeros(len(rows), dtype=bool)
        is_trained: np.ndarray = ~split.held_out(predictions.to_frame(rows.select(self._deciding(rows))), self.split)
        if self.hashes is None:
            return is_trained
        is_known: np.ndarray = row_hash.are_among(_hash(rows, self.columns, self.numbers), self.hashes)
        both: np.ndarray = is_trained & is_known
        return both

    def _deciding(self, rows: pa.Table) -> list[str]:
        return [name for name in dict.fromkeys(self.split.all_columns) if name in rows.schema.names]


def _is_number(kind: pa.DataType) -> bool:
    """Whether equal numbers of this type are equal as doubles; those of 32 bits have lost digits."""
    return bool(pa.types.is_integer(kind) or pa.types.is_float64(kind) or pa.types.is_decimal(kind))


def _hashes(table: Snapshot, columns: Sequence[str], *, numbers: Sequence[str], target: str) -> np.ndarray | None:
    if table.row_count > MOST_ROWS:
        return None
    found = [np.empty(0, np.uint64)]
    try:
        for batch in table.batches([*dict.fromkeys([*columns, target])]):
            rows = pa.Table.from_batches([batch])
            has_label = pc.invert(pc.is_null(rows[target], nan_is_null=True))
            found.append(_hash(rows.filter(has_label), columns, numbers))
    except (TableVersionGone, TableUnreadable):
        return None
    return np.unique(np.concatenate(found))


def _hash(rows: pa.Table, columns: Sequence[str], numbers: Sequence[str]) -> np.ndarray:
    """Of each row, (n,) uint64, with these `numbers` as doubles."""
    values = {name: rows[name].cast(pa.float64(), safe=False) if name in numbers else rows[name] for name in columns}
    return row_hash.first_hash(pa.table(values))
