"""Which predictions are of rows that the model was trained on: on these it is better than it is, and surer.

infer predicts all rows of a table, those that the model learnt from among them. They say nothing of its quality.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from steps.core.errors import TableUnreadable, TableVersionGone
from steps.core.models import predictions, split
from steps.core.models.split import SplitSettings
from steps.core.tables import location, row_hash, snapshot
from steps.core.tables.snapshot import Snapshot

MOST_ROWS = 100_000_000  # of the training table, of each of which a hash of 8 bytes is held
TABLE_URI = "table_uri"  # of predictions by infer; requests have none, and are new rows


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedOn:
    """`hashes` are those of the `columns` that tell a row, of all rows of the training table, ascending; None where
    they are not known: it was vacuumed, or is too large. `split` is what set the model's training rows apart."""

    columns: tuple[str, ...]
    hashes: np.ndarray | None
    split: SplitSettings

    @classmethod
    def find(cls, table_uri: str, columns: Sequence[str], split: SplitSettings) -> "TrainedOn":
        """By the pinned version that a model was trained on; `columns` are the config's key, or else its features."""
        table = snapshot.find(location.parse_table(table_uri))
        return cls(columns=tuple(columns), hashes=_hashes(table, list(columns)) if table else None, split=split)

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
        if self.hashes is None or any(name not in rows.schema.names for name in self.columns):
            return is_trained
        is_known: np.ndarray = row_hash.are_among(row_hash.first_hash(rows.select(list(self.columns))), self.hashes)
        both: np.ndarray = is_trained & is_known
        return both

    def _deciding(self, rows: pa.Table) -> list[str]:
        return [name for name in dict.fromkeys(self.split.all_columns) if name in rows.schema.names]


def _hashes(table: Snapshot, columns: list[str]) -> np.ndarray | None:
    if table.row_count > MOST_ROWS or any(name not in table.schema.names for name in columns):
        return None
    try:
        found = [row_hash.first_hash(pa.Table.from_batches([batch])) for batch in table.batches(columns)]
    except (TableVersionGone, TableUnreadable):
        return None
    return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
