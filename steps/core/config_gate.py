"""The key `gate` of the config: when a version is good enough."""

from typing import Annotated

from pydantic import AfterValidator, Field

from steps.core.columns import Strict
from steps.core.config_types import Name
from steps.core.errors import did_you_mean
from steps.core.metrics import DEFAULT_METRICS, METRICS


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} given; the metrics are {', '.join(METRICS)}{did_you_mean(name, METRICS)}")
    return name


MetricName = Annotated[str, AfterValidator(_known_metric)]
Tolerance = Annotated[float, Field(ge=0)]


class Gate(Strict):
    """A version passes when its metric on the test part is good enough in absolute terms, against always answering
    the most frequent class (of a regression the mean, or by absolute errors the median), and against the champion.
    Differences are in the metric's own unit, positive = better.

    `min_gain_over_baseline: 0` asks for better, not for as good, and for more than chance; below 0 a tie is enough.
    `slices` are columns: by each of their values the version is held against the champion alone."""

    metric: MetricName = DEFAULT_METRICS["classification"]  # of a regression: r2
    at_least: float | None = None  # for a metric that is better when smaller, such as log_loss and rmse: at most
    min_gain_over_baseline: float = 0.0
    max_drop_below_champion: Tolerance = 0.0
    slices: tuple[Name, ...] = ()
    max_drop_in_slice: Tolerance = 0.05
    calibration_error_at_most: Annotated[float, Field(ge=0, le=1)] | None = None  # of a classification
