"""The key `split` of the config: how the rows are parted, and what decides a row's part."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from steps.core.columns import Strict
from steps.core.config_types import Name, Seed, Share

type TrainOn = Literal["all", "window"]


class Window(Strict):
    """The newest rows: those whose date or timestamp in `column` is at most `days` before the newest one."""

    column: Name
    """A date or timestamp column."""
    days: Annotated[float, Field(gt=0)]
    """How long before its newest value the window begins."""


class Split(Strict):
    """Shares of the rows, and what decides a row's part: by default the config's key, else all features."""

    test: Share = 0.2
    """Share of the rows that `evaluate` judges on."""
    validation: Share = 0.1
    """Share of the rows that stop training early, and compare the trials of a search."""
    seed: Seed = 7
    """Another seed is another split."""
    group: Name | None = None
    """Rows with one value of this column stay together."""
    time: Name | None = None
    """By this column the newest rows are the test part; rows without a value in it are trained on."""
    columns: tuple[Name, ...] = ()
    """These columns alone decide a row's part, also where there is a key, so that others may come
    and go without moving a row."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Into how many parts the rows outside of the test part are dealt, which take turns in cross validation."""
    train_on: TrainOn = "all"
    """window: rows that are older than `window` are in no part."""
    window: Window | None = None
    """The newest rows, for `train_on`."""

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
