"""A uniform sample of rows that come some at a time, the same one for the same rows in the same order."""

import numpy as np
import pyarrow as pa

MOST_ROWS, MOST_CELLS = 20_000, 2_000_000  # whichever is less


class RowSample:
    """Of rows with the columns of `schema`. Each row draws a number, and those with the smallest are kept."""

    def __init__(self, schema: pa.Schema) -> None:
        self._random = np.random.default_rng(0)
        self._most = max(1, min(MOST_ROWS, MOST_CELLS // max(1, len(schema))))
        self._rows = schema.empty_table()
        self._keys = np.empty(0)

    def add(self, rows: pa.Table) -> None:
        """Take rows into the sample, or leave them out, by chance."""
        keys = self._random.random(len(rows))
        if len(self._keys) == self._most:
            is_smaller = keys < self._keys.max()
            rows, keys = rows.filter(pa.array(is_smaller)), keys[is_smaller]
        if not len(keys):
            return
        all_rows = pa.concat_tables([self._rows, rows.select(self._rows.schema.names).cast(self._rows.schema)])
        all_keys = np.concatenate([self._keys, keys])
        kept = np.sort(np.argsort(all_keys, kind="stable")[: self._most])
        self._rows, self._keys = all_rows.take(pa.array(kept)).combine_chunks(), all_keys[kept]

    def rows(self) -> pa.Table:
        """Those that are kept, in the order in which they came; all of them where they are few."""
        return self._rows
