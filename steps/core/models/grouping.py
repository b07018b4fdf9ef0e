"""Which rows belong together (those of one customer, of one day), and so tell less than as many independent ones."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from steps.core.config import Config
from steps.core.tables import row_hash

FEWEST_GROUPS = 10  # of which a resample tells how groups differ
ALONE = row_hash.MISSING  # the hash of a row that has no group


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Rows with one value in `column`, or with one day there, belong together."""

    column: str
    by: Literal["value", "day"] = "value"

    def hashes(self, rows: pa.Table) -> np.ndarray:
        """The hash of each row's group, (n,) uint64, ALONE for a row that has none."""
        hashes: np.ndarray = row_hash.column_hashes(pa.table({"group": self._groups(rows)}))[:, 0]
        return hashes

    def codes(self, rows: pa.Table) -> np.ndarray:
        """A number for each row's group, (n,); a row that has none is a group alone."""
        groups = self._groups(rows).combine_chunks().dictionary_encode()
        codes: np.ndarray = groups.indices.to_numpy(zero_copy_only=False).astype(np.float64)
        alone = np.isnan(codes)
        codes[alone] = len(groups.dictionary) + np.arange(alone.sum())
        return codes.astype(np.int64)

    def are_few_days(self, groups: int) -> bool:
        """Whether so many groups are days, and too few for a resample of them: each row counts alone then."""
        return self.by == "day" and groups < FEWEST_GROUPS

    def _groups(self, rows: pa.Table) -> pa.ChunkedArray:
        column = rows[self.column]
        if self.by == "day" and not pa.types.is_string(column.type):
            column = column.cast(pa.date32(), safe=False)
        return column


def grouping_of(settings: Config) -> Grouping | None:
    """Which rows are not independent: those of one `split.group`, else those of one day of `split.time`."""
    if settings.split.group:
        return Grouping(column=settings.split.group)
    return Grouping(column=settings.split.time, by="day") if settings.split.time else None


def groups_in(rows: pd.DataFrame, settings: Config) -> np.ndarray | None:
    """A number for each row's group, (n,), as Grouping.codes() has them; None where each row stands alone."""
    grouping = grouping_of(settings)
    if grouping is None or grouping.column not in rows:
        return None
    return grouping.codes(pa.table({grouping.column: pa.chunked_array([pa.array(rows[grouping.column])])}))
