"""The key `split` of the config: how the rows are parted, and what decides a row's part."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from steps.core.columns import Strict
from steps.core.config_types import Name, Seed, Share

type TrainOn = Literal["all", "window"]


class Window(Strict):
    """The newest rows: those whose date or timestamp in `column` is at most `days` before the newest one."""

    column: Name
    days: Annotated[float, Field(gt=0)]


class Split(Strict):
    """Shares of the rows, and what decides a row's part: by default the config's key, else all features.

    `group`: rows of one value stay together. `time`: the newest rows are the test part. `columns`: these alone decide,
    also where there is a key, so that columns may come and go without moving a row. `folds`: how many parts of the rows
    outside the test part take turns in cross validation. `train_on`: with "window", rows that are older than `window`
    are in no part.
    """

    test: Share = 0.2
    validation: Share = 0.1
    seed: Seed = 7
    group: Name | None = None
    time: Name | None = None
    columns: tuple[Name, ...] = ()
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    train_on: TrainOn = "all"
    window: Window | None = None

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.test + self.validation >= 1:
            raise ValueError(f"test {self.test} and validation {self.validation} leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _decided_by_one_thing(self) -> Self:
        named = [name for name in ("group", "time", "columns") if getattr(self, name)]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} given; one of them decides a row's part, so leave the others out")
        return self

    @model_validator(mode="after")
    def _window_is_known(self) -> Self:
        if self.train_on == "window" and not self.window:
            raise ValueError("train_on: window given, and no `window: {column: <date or timestamp>, days: <number>}`")
        return self

    @model_serializer(mode="wrap")
    def _what_parts_depend_on(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A window counts where it is trained on."""
        given: dict[str, Any] = serialize(self)
        return given if self.training_window else {k: v for k, v in given.items() if k not in ("train_on", "window")}

    @property
    def training_window(self) -> Window | None:
        """The window outside of which rows are in no part."""
        return self.window if self.train_on == "window" else None

    @property
    def named_columns(self) -> list[str]:
        """The columns that this key names, which alone decide; [] when it names none."""
        return [name for name in (self.group, self.time, *self.columns) if name]
