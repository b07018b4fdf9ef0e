"""The key `gate` of the config: when a version is good enough."""

import math
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from steps.core.columns import Strict
from steps.core.config_types import Name
from steps.core.errors import did_you_mean
from steps.core.metrics import DEFAULT_METRICS, METRICS, metrics_in_words


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} given; the metrics are {metrics_in_words()}{did_you_mean(name, METRICS)}")
    return name


def _impossible(key: str, limit: float, metric_name: str) -> list[str]:
    """A line where no score reaches a limit, or all do, as the metric has no such values."""
    metric = METRICS[metric_name]
    if metric.lowest <= limit <= metric.highest:
        return []
    ends = {"at least": metric.lowest, "at most": metric.highest}
    known = " and ".join(f"{word} {end:g}" for word, end in ends.items() if math.isfinite(end))
    return [f"{key}: {limit:g} given; {metric_name} is {known}"]


DIFFERENCES = ("min_gain_over_baseline", "max_drop_below_champion", "max_drop_in_slice")
MetricName = Annotated[str, AfterValidator(_known_metric)]
Tolerance = Annotated[float, Field(ge=0)]


class Gate(Strict):
    """A version passes when its metric on the test part is good enough in absolute terms, against always answering
    the most frequent class (of a regression the mean, or by absolute errors the median), and against the champion.
    Differences are in the metric's own unit, positive = better."""

    metric: MetricName = DEFAULT_METRICS["classification"]
    """What a version is judged by, of all classes or of one, as in `recall.fraud`; of a regression `r2` by default, of
    `objective: reg:quantileerror` the quantile's `pinball_loss_<quantile>`."""
    at_least: float | None = None
    """The least score that passes; of a metric that is better when smaller, such as `log_loss` and `rmse`, the
    greatest."""
    limits: dict[MetricName, float] = {}
    """Further metrics, each with the least score that passes, or the greatest where smaller is better:
    `{precision.fraud: 0.3, log_loss: 0.4}`."""
    min_gain_over_baseline: float = 0.0
    """How much better than the baseline a version has to be; 0 asks for better by more than chance, below 0 a tie
    is enough."""
    max_drop_below_champion: Tolerance = 0.0
    """How much worse than the champion a version may be."""
    slices: tuple[Name, ...] = ()
    """Columns by whose values the version is held against the champion too."""
    max_drop_in_slice: Tolerance = 0.05
    """How much worse than the champion a version may be in one slice."""
    calibration_error_at_most: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a classification: how far the probabilities may be off."""

    @model_validator(mode="after")
    def _can_decide(self) -> Self:
        """A limit that every version passes, or none, is a slip such as 5 for 0.05."""
        metric, mistakes = METRICS[self.metric], []
        if self.at_least is not None:
            mistakes += _impossible("at_least", self.at_least, self.metric)
        for name, limit in self.limits.items():
            mistakes += _impossible(f"limits.{name}", limit, name)
        if self.metric in self.limits:
            mistakes.append(f"limits: {self.metric} is the gate's metric, whose limit is at_least")
        differences = {name: getattr(self, name) for name in DIFFERENCES}
        most = metric.highest - metric.lowest
        if wrong := [f"{name}: {difference:g}" for name, difference in differences.items() if difference > most]:
            mistakes.append(f"{', '.join(wrong)} given; two versions differ by at most {most:g} in {self.metric}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def metrics(self) -> list[str]:
        """Those that a version is judged by."""
        return [self.metric, *self.limits]
