"""Two sizes of a change, in several keys of the config."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from steps.core.columns import Strict

Effect = Annotated[float, Field(gt=0)]


class Levels(Strict):
    """From which size on a change that is no chance is worth a warning, and from which an alert."""

    warn: Effect
    """From which size on it is worth a warning."""
    alert: Effect
    """From which size on it is worth an alert."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.warn > self.alert:
            raise ValueError(f"warn {self.warn:g} is above alert {self.alert:g}")
        return self
