"""What a user is told of a search for hyperparameters in the end."""

import csv
import io
from collections.abc import Iterator, Sequence

from steps.core.models.trials import Trial
from steps.core.models.tuning import Search


def result(search: Search, trials: Sequence[Trial], best: Trial) -> Iterator[str]:
    """The lines that say what was best, by what, and how much better it is than the config's own."""
    pruned = sum(trial.state == "pruned" for trial in trials)
    seconds = sum(trial.seconds for trial in trials)
    where = "the validation part" if len(search.folds) == 1 else f"{len(search.folds)} folds of cross validation"
    tried = f"{len(trials)} trials in {seconds:.0f} s, {pruned} of them pruned"
    if len(trials) < search.tune.trials:
        tried += f" (the time limit of {search.tune.time_limit_minutes:g} minutes came before {search.tune.trials})"
    score = f"{search.metric} {_shown(best.score)} on {where}"
    if best.number == 0:
        yield f"{tried}: none is better than the config's own hyperparameters, {score}"
    else:
        yield f"{tried}: the best is trial {best.number}, {score} ({_own(trials)})"
        yield f"  {', '.join(changes(search, best))}"
    if best.rounds >= search.model.num_boost_round:
        yield f"  it was still getting better in the last of {best.rounds} rounds: model.num_boost_round may be too low"


def changes(search: Search, best: Trial) -> Iterator[str]:
    """Each hyperparameter of the config that `best` changes, and its number of rounds."""
    for name, value in best.parameters.items():
        own = getattr(search.model, name)
        yield f"{name} {own:g} -> {value:.3g}" if own != value else f"{name} {own:g}"
    yield f"{best.rounds} rounds"


def table(trials: Sequence[Trial], best: Trial) -> str:
    """The trials as CSV, a line each in their order; `best` is marked."""
    buffer = io.StringIO()
    names = list(trials[0].parameters)
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "state", "score", "is_best", "rounds", "seconds", *names])
    for trial in trials:
        score = "" if trial.score is None else repr(trial.score)
        own = [trial.number, trial.state, score, str(trial is best).lower(), trial.rounds, f"{trial.seconds:.2f}"]
        writer.writerow([*own, *(trial.parameters[name] for name in names)])
    return buffer.getvalue()


def _own(trials: Sequence[Trial]) -> str:
    return f"{_shown(trials[0].score)} with the config's own"


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.4g}"
