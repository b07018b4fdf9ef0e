"""The key `monitor.quality` of the config: when predictions have moved, and when a model is worse than it was."""

from typing import Annotated

from pydantic import Field

from steps.core.columns import Strict
from steps.core.config_gate import MetricName
from steps.core.config_levels import Levels
from steps.core.config_types import Share


class Quality(Strict):
    """`drop` is a share of the score that the gate saw: by 0.05, an F1 of 0.80 may fall to 0.76, and an RMSE of 10 rise
    to 10.5. A smaller one is told, and no alarm, however many rows show it."""

    metrics: tuple[MetricName, ...] = ()
    """Scored beside `gate.metric`, which alone decides."""
    labels_at_least: Annotated[int, Field(ge=2)] = 100
    """With fewer labels in a window nothing is said of its quality."""
    predictions_at_least: Annotated[int, Field(ge=2)] = 100
    """With fewer predictions in a window nothing is said of them."""
    drop: Levels = Levels(warn=0.01, alert=0.05)
    """Of the share of the score that the gate saw which is lost, and of labels that are no class of the model."""
    prediction_drift: Levels = Levels(warn=0.1, alert=0.2)
    """Of the population stability index of the predictions."""
    calibration_error_at_most: Share = 0.1
    """On the test part; with more, quality is not estimated from probabilities."""
