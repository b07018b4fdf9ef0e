"""The key `monitor` of the config: which rows are looked at, and what is worth a warning or an alert."""

import re
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
    number, unit = re.fullmatch(r"(\d+)(\w)", duration).groups()  # type: ignore[union-attr]
    return timedelta(**{UNITS[unit]: int(number)})


class Monitor(Strict):
    """A change is told when it is both significant and large.

    `significance` is the rate of false alarms in all features and windows of a run together. `drift` is of the
    population stability index less what chance gives; by common use 0.1 is a moderate and 0.2 a large change (0.25 in
    some books). `missing`, `unseen` (categories that training did not have) and `rejects` (rows that broke the
    contract) are of the difference of two shares.

    `current` is what is looked at: predictions, requests or table, or a table's URI. `quality` is of predictions, and
    of the labels that come. `since` leaves older rows out, `window` parts the others by time; None is all rows, and
    one window. A new version is due for `main` with `when=alert`, whatever is found, when the one in use was
    registered `retrain_after` ago.
    """

    current: Annotated[str, Field(min_length=1)] = "predictions"
    significance: Share = 0.01
    drift: Levels = Levels(warn=0.1, alert=0.2)
    missing: Levels = Levels(warn=0.05, alert=0.2)
    unseen: Levels = Levels(warn=0.05, alert=0.2)
    rejects: Levels = Levels(warn=0.05, alert=0.2)
    since: Duration | None = None
    window: Duration | None = None
    retrain_after: Duration | None = None
    quality: Quality = Quality()
