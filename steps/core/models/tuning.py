"""Search hyperparameters: Optuna's TPE proposes them, each trial is trained and scored, a hopeless one ends early.

Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011; Akiba et al., Optuna, KDD 2019. The first
trial is always the config's own hyperparameters. What a trial is follows from those before it, the seed and its number
alone, so a search that goes on after others' trials is the one that was not interrupted.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import xgboost

from steps.core import config, metrics
from steps.core.config_tune import Range
from steps.core.models import scorer, training, trial_rows
from steps.core.models.split import Parts, SplitSettings
from steps.core.models.trials import State, Trial

NEVER_PRUNED = 5  # trials at the beginning, Optuna's default
COMPARISONS = 20  # at so many rounds of a trial, evenly spread, its loss is compared with that of others
WARM_UP = 0.5  # share of the rounds before which none is pruned: small learning rates begin slowly
STATES = {
    "complete": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "undefined": optuna.trial.TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class Search:
    """`folds` are what a trial is trained and scored on, one after the other, by their train and validation parts."""

    folds: Sequence[Parts]
    schema: scorer.Schema
    model: config.Model
    tune: config.Tune
    metric: str

    def run(self, earlier: Sequence[Trial] = (), *, keep: Callable[[Trial], None]) -> list[Trial]:
        """All trials, in their order: those of `earlier`, which this search made before, then new ones, handed to
        `keep` too. Ends after `tune.trials`, or with the trial in which the time limit is reached."""
        study = self._study()
        trials = list(earlier[: self.tune.trials])
        for trial in trials:
            study.add_trial(self._frozen(trial))
        spent_seconds, began = sum(trial.seconds for trial in trials), time.monotonic()
        limit_seconds = 60 * (self.tune.time_limit_minutes or math.inf)
        while len(trials) < self.tune.trials:
            if trials and spent_seconds + time.monotonic() - began >= limit_seconds:
                break
            trial = self._next(study, len(trials)) if trials else self._own(study)
            trials.append(trial)
            keep(trial)
        return trials

    def best(self, trials: Sequence[Trial]) -> Trial:
        """The trial with the best score; of equal ones the first, so the config's own where nothing is better."""
        sign = 1 if metrics.METRICS[self.metric].greater_is_better else -1
        best = trials[0]
        for trial in trials:
            if trial.score is None:
                continue
            if best.score is None or sign * (trial.score - best.score) > metrics.SAME:
                best = trial
        return best

    def model_of(self, trial: Trial) -> config.Model:
        """The model's settings with the trial's hyperparameters and its number of rounds."""
        return self.model.model_copy(update={**trial.parameters, "num_boost_round": trial.rounds})

    def _own(self, study: optuna.Study) -> Trial:
        own = {name: getattr(self.model, name) for name in self.ranges}
        trial = self._try(own, number=0, proposal=None)
        study.add_trial(self._frozen(trial))
        return trial

    def _next(self, study: optuna.Study, number: int) -> Trial:
        seed = np.random.SeedSequence([self.model.seed, number]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        proposal = study.ask(self._distributions)
        trial = self._try(proposal.params, number=number, proposal=proposal)
        study.tell(proposal, trial.score, state=STATES[trial.state])
        return trial

    def _try(self, parameters: dict[str, Any], *, number: int, proposal: optuna.Trial | None) -> Trial:
        """Train and score the model on each fold; the first fold tells whether that is worth it."""
        model, began = self.model.model_copy(update=parameters), time.monotonic()
        watch = _Watch(proposal, every=max(1, model.num_boost_round // COMPARISONS), sign=self._sign)
        scores: list[float] = []
        rounds: list[int] = []
        try:
            for fold in self.folds:
                fit = training.fit_booster(fold, self.schema, model=model, callbacks=[] if rounds else [watch])
                scores.append(trial_rows.score(fit.booster, self.schema, fold.validation, metric=self.metric))
                rounds.append(fit.best_round)
            score = float(np.mean(scores))
            state: State = "complete" if np.isfinite(score) else "undefined"
        except optuna.TrialPruned:
            state, score, rounds = "pruned", math.nan, [watch.round]
        return Trial(
            number=number,
            parameters=parameters,
            state=state,
            score=score if np.isfinite(score) else None,
            rounds=round(float(np.mean(rounds))),
            seconds=time.monotonic() - began,
            losses=watch.losses,
        )

    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warm_up = int(WARM_UP * self.model.num_boost_round)
        return optuna.create_study(
            direction="maximize" if metrics.METRICS[self.metric].greater_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=NEVER_PRUNED, n_warmup_steps=warm_up),
        )

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        """A finished trial as Optuna keeps it: a value outside of its range, which the config's own may be, counts as
        the limit that is next to it."""
        known = {name: limits.nearest(trial.parameters[name]) for name, limits in self.ranges.items()}
        losses = {rounds: self._sign * loss for rounds, loss in trial.losses.items()}
        pruned_at = next(reversed(losses.values()), None) if trial.state == "pruned" else None
        return optuna.trial.create_trial(
            state=STATES[trial.state],
            value=trial.score if trial.score is not None else pruned_at,
            params=known,
            distributions=self._distributions,
            intermediate_values=losses,
        )

    @property
    def _sign(self) -> int:
        """Of losses: Optuna compares them in the direction of the metric."""
        return -1 if metrics.METRICS[self.metric].greater_is_better else 1

    @property
    def ranges(self) -> Mapping[str, Range]:
        """The ranges that are searched, by the names of hyperparameters."""
        known = type(self.model).model_fields
        return {name: limits for name, limits in self.tune.ranges.items() if name in known}

    @property
    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {name: _distribution(limits, self._is_whole(name)) for name, limits in self.ranges.items()}

    def _is_whole(self, name: str) -> bool:
        return type(self.model).model_fields[name].annotation is int


def search_of(parts: Parts, schema: scorer.Schema, settings: config.Config, *, split_settings: SplitSettings) -> Search:
    """What the config's `tune` asks for, on the rows of the train and validation parts alone.

    TableUnfit, before anything is trained, where these are too few to compare models by the metric.
    """
    folds = [parts]
    if settings.tune.by == "cross_validation":
        all_rows = pd.concat([parts.train, parts.validation], ignore_index=True)
        folds = trial_rows.folds_of(all_rows, parts, split_settings, count=settings.tune.folds)
        schema = training.learn_schema(
            replace(parts, train=all_rows),
            settings,
            split_settings=split_settings,
            table_uri=schema.table_uri,
            labelled=lambda: all_rows,
        )
    trial_rows.check(folds, schema, settings)
    return Search(folds=folds, schema=schema, model=settings.model, tune=settings.tune, metric=settings.gate.metric)


def _distribution(limits: Range, is_whole: bool) -> optuna.distributions.BaseDistribution:
    if is_whole:
        return optuna.distributions.IntDistribution(int(limits.low), int(limits.high), log=limits.log)
    return optuna.distributions.FloatDistribution(limits.low, limits.high, log=limits.log)


class _Watch(xgboost.callback.TrainingCallback):
    """Notes the loss on validation rows after every so many rounds; of a proposal, TrialPruned when it is worse than
    the median of the trials before."""

    def __init__(self, proposal: optuna.Trial | None, *, every: int, sign: int) -> None:
        self.losses: dict[int, float] = {}
        self.round = 0
        self._proposal, self._every, self._sign = proposal, every, sign

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, Any]]) -> bool:
        self.round = epoch + 1
        if self.round % self._every == 0:
            self.losses[self.round] = float([*evals_log["validation"].values()][-1][-1])
            if self._proposal:
                self._proposal.report(self._sign * self.losses[self.round], self.round)
                if self._proposal.should_prune():
                    raise optuna.TrialPruned
        return False
