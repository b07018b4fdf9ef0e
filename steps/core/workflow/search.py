"""A search for hyperparameters by one run: what it goes on from, what is told of it, and what is kept."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from steps.core import config
from steps.core.models import plots, scorer, search_report, trials, tuning
from steps.core.models.split import Parts, SplitSettings
from steps.core.models.trials import Trial
from steps.core.process import progress
from steps.core.workflow import step_inputs
from steps.core.workflow.step_run import StepRun


@dataclass(frozen=True, kw_only=True)
class Found:
    """`model` has the best hyperparameters and their number of rounds; `tags` say what they are, and how they were
    found."""

    model: config.Model
    tags: Mapping[str, str]


def run_search(
    run: StepRun,
    parts: Parts,
    schema: scorer.Schema,
    settings: config.Config,
    *,
    split_settings: SplitSettings,
    inputs: Mapping[str, str],
) -> Found:
    """What is best by the validation rows. `inputs` are what StepRun.depends_on() returned: trials that an earlier run
    kept of the same ones are not made again."""
    search = tuning.search_of(parts, schema, settings, split_settings=split_settings)
    digest = _digest(inputs)
    earlier, earlier_run = trials.of_earlier_run(digest, experiment_id=run.experiment_id)
    earlier = earlier[: settings.tune.trials]
    if earlier_run:
        run.warn(f"the first {len(earlier)} trials are those of run {earlier_run.info.run_id[:8]}")
    mlflow.set_tag(trials.SEARCH, digest)
    journal, known = trials.Journal(earlier), list(earlier)
    with progress.shown() as shown:

        def keep(trial: Trial) -> None:
            journal.add(trial)
            known.append(trial)
            _show(shown, search, known)

        _show(shown, search, known)
        tried = search.run(earlier, keep=keep)
    journal.save()
    best = search.best(tried)
    lines = list(search_report.result(search, tried, best))
    run.remark([f"train: {lines[0]}", *lines[1:]])
    _log(search, tried, best, run_id=run.run_id)
    model = search.model_of(best)
    found = {f"model.{name}": value for name, value in model.model_dump(include=settings.tune.searched).items()}
    run.ran_with(**found)
    summary = "; ".join(line.strip() for line in lines)
    return Found(model=model, tags={**{name: str(value) for name, value in found.items()}, "search": summary})


def _show(shown: progress.Progress, search: tuning.Search, tried: Sequence[Trial]) -> None:
    """How many trials are done, the best score by now, and that of the config's own hyperparameters."""
    shown.set("trials", len(tried), total=search.tune.trials)
    for name, trial in (("best", search.best(tried)), ("own", tried[0])) if tried else ():
        if trial.score is not None:
            shown.note(f"{name}_{search.metric}", trial.score)


def _digest(inputs: Mapping[str, str]) -> str:
    """Of all that a trial depends on: the step's inputs and code, but not how many trials there may be."""
    made_of = {name: value for name, value in inputs.items() if name not in trials.LIMITS}
    return step_inputs.key_of(trials.SEARCH, {**made_of, **step_inputs.code()})


def _log(search: tuning.Search, tried: Sequence[Trial], best: Trial, *, run_id: str) -> None:
    """The scores by trial as a metric, the trials as a table, and two pictures."""
    now = time.time_ns() // 10**6
    scores = [Metric("trial_score", trial.score, now, trial.number) for trial in tried if trial.score is not None]
    MlflowClient().log_batch(run_id, metrics=scores)
    mlflow.log_metrics({"best_trial": best.number, "trials": len(tried)})
    mlflow.log_text(search_report.table(tried, best), "trials.csv")
    mlflow.log_figure(plots.search_history(tried, best, metric=search.metric), "search_history.png")
    if scores:
        figure = plots.parallel_coordinates(tried, best, search.ranges, metric=search.metric)
        mlflow.log_figure(figure, "parallel_coordinates.png")
