"""One pass over the rows that are looked at: a summary of each window, whatever their number and order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from steps.core.models.grouping import Grouping
from steps.core.monitoring.bins import Bins
from steps.core.monitoring.current import DELETED_AT, MODEL_URI
from steps.core.monitoring.errors import TooManyWindows
from steps.core.monitoring.summary import Summary, summarize
from steps.core.monitoring.windows import MOST_WINDOWS, OLDER, Windows


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The summary of each window that has rows, by its number. `older` rows and those `of_others`, which another
    version has answered, are left out; `ahead` rows say that they
    were scored after their version was written, and are in the last window; `untimed` do not say when, and are too.
    `gone_from` is the first window of rows that are marked as deleted, of which labels may still tell the quality."""

    windows: dict[int, Summary] = field(default_factory=dict)
    older: int = 0
    of_others: int = 0
    ahead: int = 0
    untimed: int = 0
    gone_from: int | None = None

    def __add__(self, other: "Counted") -> "Counted":
        numbers = [*self.windows, *(number for number in other.windows if number not in self.windows)]
        return Counted(
            windows={n: self.windows.get(n, Summary()) + other.windows.get(n, Summary()) for n in numbers},
            older=self.older + other.older,
            of_others=self.of_others + other.of_others,
            ahead=self.ahead + other.ahead,
            untimed=self.untimed + other.untimed,
            gone_from=min((n for n in (self.gone_from, other.gone_from) if n is not None), default=None),
        )


@dataclass(frozen=True, kw_only=True)
class Count:
    """What is done with batches of rows, here or by Spark's workers. TooManyWindows when they make too many."""

    bins: Sequence[Bins]
    grouping: Grouping | None
    windows: Windows
    answered_by: str = ""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Counted:
        total = Counted()
        for batch in batches:
            total += self._of(pa.Table.from_batches([batch]))
            if len(total.windows) > MOST_WINDOWS:
                raise TooManyWindows(len(total.windows), most=MOST_WINDOWS)
        return total

    def _of(self, rows: pa.Table) -> Counted:
        gone_from = None
        if DELETED_AT in rows.schema.names:  # of a row that its table has no more
            gone_from = self._first(rows.filter(pc.is_valid(rows[DELETED_AT])))
            rows = rows.filter(pc.is_null(rows[DELETED_AT]))
        if not self.windows.column:
            return Counted(windows={0: self._summary(rows)} if len(rows) else {})
        all_rows = len(rows)
        if self.answered_by:
            rows = rows.filter(pc.equal(rows[MODEL_URI], self.answered_by))
        times = rows[self.windows.column]
        numbers, ahead = self.windows.numbers(times)
        return Counted(
            windows={
                int(number): self._summary(rows.filter(pa.array(numbers == number)))
                for number in np.unique(numbers[numbers != OLDER])
            },
            older=int((numbers == OLDER).sum()),
            of_others=all_rows - len(rows),
            ahead=ahead,
            untimed=times.null_count,
            gone_from=gone_from,
        )

    def _first(self, rows: pa.Table) -> int | None:
        """The number of the first window of rows, None where they are in none."""
        numbers = self.windows.numbers(rows[self.windows.column])[0] if self.windows.column else np.empty(0)
        return min(map(int, np.unique(numbers[numbers != OLDER])), default=None)

    def _summary(self, rows: pa.Table) -> Summary:
        return summarize(rows, self.bins, grouping=self.grouping)
