"""The key `monitor` of the config: which rows are looked at, and what is worth a warning or an alert."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from steps.core.columns import Strict
from steps.core.config_levels import Levels as Levels
from steps.core.config_monitor_quality import Quality
from steps.core.config_types import Share, matches

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Duration = Annotated[
    str, matches(r"[1-9]\d{0,4}[mhdw]", "a duration is a whole number and m, h, d or w (minutes to weeks), such as 7d")
]


def length_of(duration: str) -> timedelta:
    """What a Duration says."""
    number, unit = duration[:-1], duration[-1]
    return timedelta(**{UNITS[unit]: int(number)})


class Monitor(Strict):
    """A change is told when it is both significant and large.

    By common use a stability index of 0.1 is a moderate and of 0.2 a large change (0.25 in some books).
    """

    current: Annotated[str, Field(min_length=1)] = "predictions"
    """What is looked at: `predictions`, `requests` or `table`, or a table's URI."""
    significance: Share = 0.01
    """The rate of false alarms in all features and windows of a run together, in all predictions, and in rejects."""
    drift: Levels = Levels(warn=0.1, alert=0.2)
    """Of the population stability index less what chance gives."""
    missing: Levels = Levels(warn=0.05, alert=0.2)
    """Of the difference of two shares of missing values."""
    unseen: Levels = Levels(warn=0.05, alert=0.2)
    """Of the difference of two shares of categories that training did not have."""
    rejects: Levels = Levels(warn=0.05, alert=0.2)
    """Of the difference of two shares of rows that broke the contract."""
    since: Duration | None = None
    """Rows that are older are left out, such as `7d`; by default none is."""
    window: Duration | None = None
    """How long a window is in which the rows are compared, such as `1d`; by default all are in one."""
    retrain_after: Duration | None = None
    """A version that was registered longer ago is due to be replaced by `main` with `when=alert`."""
    quality: Quality = Quality()
    """When predictions have moved, and when a model is worse than it was."""
