"""Which window a row is in, by when it was scored. Windows follow from the version of the table, never from the clock.

The end of the last one is when that version was written: no row of it can be younger, whatever its clock says. So the
same version has the same windows whenever it is looked at, each row is in one window, and none is in two.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from steps.core.config_monitor import length_of

MOST_WINDOWS = 400
TOLERANCE = timedelta(minutes=1)  # between the clocks of who scores and who writes
OLDER = -1  # in place of a window's number
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Window:
    """From `begin`, None where no row is left out, to before `end`."""

    begin: datetime | None
    end: datetime

    @property
    def label(self) -> str:
        """The window in words, in UTC."""
        if self.begin is None:
            return f"up to {_words(self.end)}"
        return f"{_words(self.begin)} to {_words(self.end)}"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Of rows of a version that was written at `written_at`, by their times in `column`; "" where they have none, and
    all are in one window. Times are microseconds since 1970 in UTC. Windows of `length` begin at multiples of it."""

    written_at: int
    column: str = ""
    begin: int | None = None
    length: int | None = None

    @classmethod
    def of(cls, column: str, *, written_at: datetime, since: str | None, window: str | None) -> "Windows":
        """The windows of a table that was written at `written_at`, by its times in `column`; `since` and `window` are
        durations."""
        end = (written_at - EPOCH) // MICROSECOND
        length = length_of(window) // MICROSECOND if window else None
        begin = end - length_of(since) // MICROSECOND if since else None
        if begin is not None and length:
            begin -= begin % length
        return cls(column=column, written_at=end, begin=begin, length=length)

    def numbers(self, times: pa.ChunkedArray) -> tuple[np.ndarray, int]:
        """The window of each row, (n,) int64, OLDER for one that is left out; and how many rows are said to be of a
        time after the version was written. These, and rows without a time, are in the last window: they came by then.
        """
        moments = times.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
        stored = moments.fill_null(self.written_at).to_numpy()
        ahead = int((stored > self.written_at + TOLERANCE // MICROSECOND).sum())
        stored = np.minimum(stored, self.written_at)
        numbers = stored // self.length if self.length else np.zeros(len(stored), np.int64)
        return (numbers if self.begin is None else np.where(stored < self.begin, OLDER, numbers)), ahead

    @property
    def last(self) -> int:
        """The number of the window that the version was written in."""
        return self.written_at // self.length if self.length else 0

    def window(self, number: int) -> Window:
        """The window of a number, as numbers() gives it to rows."""
        if not self.length:
            return Window(begin=None if self.begin is None else _moment(self.begin), end=_moment(self.written_at))
        return Window(begin=_moment(number * self.length), end=_moment((number + 1) * self.length))


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _words(moment: datetime) -> str:
    return (
        f"{moment:%Y-%m-%d}"
        if moment == moment.replace(hour=0, minute=0, second=0, microsecond=0)
        else (f"{moment:%Y-%m-%d %H:%M}")
    )
