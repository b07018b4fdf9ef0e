"""The trials of a search for hyperparameters: what each was, and where they are kept.

A run that searches keeps its trials as artifacts, in files of JSON lines under trials/, each of which is written once.
Its tag `search` is a digest of all that a trial depends on, so a later run finds them and goes on after them: it does
not matter whether the earlier one was killed, or what limits it had.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import mlflow
from mlflow.entities import Run

from steps.core.tracking import artifacts, runs

SEARCH = "search"  # a run's tag: the digest of what its trials depend on
FOLDER = "trials"  # of a run's artifacts
SAVE_SECONDS = 1.0  # at most this much of a search is lost when it is killed, beside the trial that is at work
EARLIER_RUNS = 20  # how many are looked at
LIMITS = ("config.tune.trials", "config.tune.time_limit_minutes")  # inputs of a step on which no single trial depends

type State = Literal["complete", "pruned", "undefined"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Hyperparameters that were tried. `number` 0 are those of the config.

    `score` is by the metric of the search, None when the trial was pruned or has none; `rounds` is the best number of
    boosting rounds, of a pruned trial the last; `losses` has what XGBoost lowered, on validation rows, after the rounds
    at which trials are compared.
    """

    number: int
    parameters: dict[str, float]
    state: State
    score: float | None
    rounds: int
    seconds: float
    losses: dict[int, float]


class Journal:
    """Where a run keeps its trials, those of an earlier one first; the run is MLflow's active one."""

    def __init__(self, earlier: Sequence[Trial] = ()) -> None:
        self._unsaved = list(earlier)
        self._saved = 0
        self.save()

    def add(self, trial: Trial) -> None:
        """Keep a trial; it is written down with others every few seconds."""
        self._unsaved.append(trial)
        if time.monotonic() - self._saved_at > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write down what was added since the last time."""
        if self._unsaved:
            lines = [f"{json.dumps(asdict(trial))}\n" for trial in self._unsaved]
            mlflow.log_text("".join(lines), f"{FOLDER}/{self._saved:05d}.jsonl")
        self._saved += len(self._unsaved)
        self._unsaved = []
        self._saved_at = time.monotonic()


def of_earlier_run(search: str, *, experiment_id: str) -> tuple[list[Trial], Run | None]:
    """The most trials that a run kept whose tag is `search`, and that run; [] and None when there is none."""
    longest: tuple[list[Trial], Run | None] = [], None
    for run in runs.newest(experiment_id, {SEARCH: search}, count=EARLIER_RUNS):
        trials = _read(run)
        if len(trials) > len(longest[0]):
            longest = trials, run
    return longest


def _read(run: Run) -> list[Trial]:
    """The trials of a run from the first on, without a gap."""
    trials: list[Trial] = []
    for _, content in sorted(artifacts.read_folder(run, FOLDER).items()):
        for trial in _parse(content):
            if trial.number != len(trials):
                return trials
            trials.append(trial)
    return trials


def _parse(content: bytes) -> Iterator[Trial]:
    """The lines of a file up to the first that is not whole, as of a run that was killed while it wrote."""
    for line in content.decode("utf-8", errors="replace").splitlines():
        try:
            written: dict[str, Any] = json.loads(line)
            losses = {int(rounds): loss for rounds, loss in written.pop("losses").items()}
            yield Trial(**written, losses=losses)
        except (ValueError, TypeError, KeyError, AttributeError):
            return
