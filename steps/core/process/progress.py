"""How far long work has come: one line that is rewritten on a terminal, a line a minute in a log, numbers for MLflow.

A thread shows what the work has counted, so that the work itself only adds numbers, and waits for no terminal and no
server. Work that takes less than SHORT_SECONDS, in a log less than a minute, shows nothing.

Not tqdm, which MLflow brings along: it writes a log as one line full of carriage returns.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace

from steps.core.errors import SettingInvalid
from steps.core.process import console

INTERVAL = "WORKFLOW_PROGRESS_SECONDS"  # environment variable: between two lines in a log, and two of MLflow's metrics
DEFAULT_INTERVAL_SECONDS = 60
SHORT_SECONDS = 2
REFRESH_SECONDS = 0.5
END_SECONDS = 5  # for the thread to end, which may wait for a tracking server

type Log = Callable[[Mapping[str, float], int], None]  # takes numbers by name, and for how many seconds work goes on

_step_name: str = ""
_log: Log | None = None
_current: "Progress | None" = None  # that a thread of this process shows


@contextlib.contextmanager
def of_step(name: str, log: Log) -> Iterator[None]:
    """A block whose lines begin with `name`, and whose numbers `log` takes, in another thread, every minute.

    SettingInvalid if the environment has no positive number of seconds.
    """
    global _step_name, _log
    interval_seconds()
    before, (_step_name, _log) = (_step_name, _log), (name, log)
    try:
        yield
    finally:
        _step_name, _log = before


@contextlib.contextmanager
def shown() -> Iterator["Progress"]:
    """A block whose progress is shown while it goes on; one within another adds to that one's line."""
    global _current
    if _current:
        yield _current
        return
    progress = _current = Progress()
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(progress, ended), name="progress", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        ended.set()
        thread.join(END_SECONDS)
        console.status("")
        _current = None


def counted[T: Sized](batches: Iterable[T], unit: str, *, total: int | None = None) -> Iterator[T]:
    """`batches` as they are taken, shown as so many of `total` rows; `unit` is what becomes of them: "rows_scored"."""
    with shown() as progress:
        for batch in batches:
            yield batch
            progress.add(unit, len(batch), total=total)


class Progress:
    """What some work has done so far. Names are those of metrics: rows_read, shown as "rows read"."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._counts: dict[str, _Count] = {}
        self._values: dict[str, float] = {}

    def add(self, unit: str, count: int = 1, *, total: int | None = None) -> None:
        """So many more have been done since the block began, of `total` in all where that is known."""
        before = self._counts.get(unit) or _Count(began=self._began)
        self._counts[unit] = replace(before, done=before.done + count, total=total, moved=time.monotonic())

    def set(self, unit: str, done: int, *, total: int | None = None) -> None:
        """So many have been done, whenever; fewer than before where another count begins."""
        now, before = time.monotonic(), self._counts.get(unit)
        if before is None or done < before.done:
            before = _Count(began=now, first=done)
        self._counts[unit] = replace(before, done=done, total=total, moved=now)

    def note(self, name: str, value: float) -> None:
        """How good it is by now."""
        self._values[name] = value

    def seconds(self) -> float:
        """For how long the work goes on."""
        return time.monotonic() - self._began

    # The work goes on in another thread while these read: list() takes all items at once.

    def numbers(self) -> dict[str, float]:
        """All counts and values by name."""
        return {**{unit: count.done for unit, count in list(self._counts.items())}, **dict(list(self._values.items()))}

    def text(self) -> str:
        """One line: what is done, how good it is, how long it took and will take; "" before anything is counted."""
        counts = list(self._counts.items())
        if not counts:
            return ""
        words = [f"{count.text(_divisor(unit))} {_words(unit)}" for unit, count in counts]
        words += [f"{_words(name)} {value:.4g}" for name, value in list(self._values.items())]
        left = [seconds for _, count in counts if (seconds := count.seconds_left()) is not None]
        times = [f"{_time(self.seconds())} so far", *(f"{_time(seconds)} left" for seconds in left[:1])]
        return ", ".join([*words, *times])


@dataclass(frozen=True, kw_only=True)
class _Count:
    """`done` of `total`, of which `first` were done when they `began`; the last of them was done when it `moved`."""

    began: float
    first: int = 0
    done: int = 0
    total: int | None = None
    moved: float = 0.0

    def text(self, divisor: int) -> str:
        done, total = (None if number is None else round(number / divisor) for number in (self.done, self.total))
        return f"{done:,}" if total is None else f"{done:,} of {total:,}"

    def seconds_left(self) -> float | None:
        """By the pace until the last one that was done; None where there is no telling."""
        if self.total is None or self.done <= self.first:
            return None
        pace = (self.moved - self.began) / (self.done - self.first)
        return max(0.0, self.moved + pace * (self.total - self.done) - time.monotonic())


def interval_seconds() -> float:
    """Between two lines in a log. SettingInvalid if the environment has no positive number."""
    text = os.environ.get(INTERVAL) or str(DEFAULT_INTERVAL_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingInvalid(INTERVAL, text, expected="a number of seconds above 0")
    return seconds


def _show(progress: Progress, ended: threading.Event) -> None:
    """Until the work has ended: rewrite the line on a terminal, write one into a log and numbers into MLflow."""
    is_terminal, interval = console.is_terminal(), interval_seconds()
    next_report = interval
    while not ended.wait(min(REFRESH_SECONDS, interval)):
        text = progress.text()
        if is_terminal and progress.seconds() >= SHORT_SECONDS:
            console.status(_line(text))
        if text and progress.seconds() >= next_report:
            next_report = progress.seconds() + interval
            if not is_terminal:
                console.message(_line(text))
            _report(progress)
    if next_report > interval:  # what was begun is told to its end
        _report(progress)


def _line(text: str) -> str:
    return f"{_step_name}: {text}" if text and _step_name else text


def _report(progress: Progress) -> None:
    if _log:
        _log(progress.numbers(), int(progress.seconds()))


def _divisor(unit: str) -> int:
    return 10**6 if unit.startswith("bytes") else 1


def _words(name: str) -> str:
    return name.replace("bytes_", "MB_").replace("_", " ")


def _time(seconds: float) -> str:
    """Minutes and seconds, 1:05, or hours too, 1:00:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
