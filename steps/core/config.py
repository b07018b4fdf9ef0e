"""The config of one workflow: YAML read into frozen models that know every key, and report every mistake at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_serializer, field_validator, model_validator

from steps.core import validation
from steps.core.classification_metrics import unknown_classes
from steps.core.columns import LABELS, NUMBERS, TIMES, Strict
from steps.core.columns import Column as Column
from steps.core.config_gate import Gate as Gate
from steps.core.config_model import DEFAULT_QUANTILE
from steps.core.config_model import Model as Model
from steps.core.config_monitor import Monitor as Monitor
from steps.core.config_source import Freshness as Freshness
from steps.core.config_source import Source as Source
from steps.core.config_split import Split as Split
from steps.core.config_tune import Tune as Tune
from steps.core.config_types import Name
from steps.core.errors import ConfigInvalid, ConfigNotFound, NoTrainingWindow, did_you_mean
from steps.core.metrics import DEFAULT_METRICS, METRICS, Task, metrics_in_words, pinball_loss_of

PROJECT = Path(__file__).resolve().parents[2]
PREDICTION_COLUMNS = (
    *("prediction", "probability", "probabilities"),
    *("model_uri", "table_uri", "run_id", "scored_at", "deleted_at"),
)
UNLABELLED = "_unlabelled"  # <lake>/<name>_unlabelled: rows to predict, without the target
# What <lake>/<name> stands beside, by the ends of their names.
LONGEST_NAME = 200  # of a table, as its folder has 255 letters with these endings
OTHER_TABLES = ("_predictions", "_requests", "_rejects", UNLABELLED)


TARGET_TYPES: dict[Task, tuple[str, ...]] = {  # kinds of a column that a model of this task can learn to predict
    "classification": LABELS,
    "regression": NUMBERS,
}


class Config(Strict):
    """One workflow: its source, its contract, its model and its gate; names in it are held to each other."""

    name: Name
    """What the tables are named after: `<lake>/<name>` and those beside it."""
    source: Source
    """Where the rows come from."""
    columns: Annotated[dict[Name, Column], Field(min_length=2)]
    """The contract: each column of the table, by its name there."""
    key: tuple[Name, ...] = ()
    """Columns that tell one row from another: never missing, and no two rows alike."""
    mode: Literal["replace", "append", "upsert"] = "replace"
    """What `ingest` does with the rows of the source: they replace those of the table, are appended where their files
    are new, or are put in by their key."""
    rows_at_least: Annotated[int, Field(ge=1)] = 1
    """With fewer good rows `ingest` fails, and the table stays as it was."""
    rejects_at_most: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of the source's rows that may break the contract; with more `ingest` fails."""
    freshness: Freshness | None = None
    """How old the newest row of a source may be."""
    target: Name
    """The column to predict."""
    task: Literal["classification", "regression"] = "classification"
    """What is learnt: a class, or a number."""
    weight: Name | None = None
    """The column that says how much a row counts in training; never a feature, and not needed to predict."""
    split: Split = Split()
    """Which rows are for training, for validation and for the test."""
    model: Model
    """The registered model, and how it is trained."""
    tune: Tune = Tune()
    """How hyperparameters are searched."""
    gate: Gate = Gate()
    """When a version is good enough."""
    monitor: Monitor = Monitor()
    """Which rows are watched, and what is worth a warning or an alert."""

    @model_validator(mode="before")
    @classmethod
    def _with_default_metric(cls, raw: Any) -> Any:
        """`raw` with the metric of what is learnt where the gate names none."""
        gate = raw.get("gate", {}) if isinstance(raw, dict) and raw.get("task") == "regression" else None
        if not isinstance(gate, dict):
            return raw
        return {**raw, "gate": {"metric": _regression_metric(raw.get("model")), **gate}}

    @field_validator("name")
    @classmethod
    def _table_is_its_own(cls, name: str) -> str:
        if taken := [ending for ending in OTHER_TABLES if name.endswith(ending)]:
            raise ValueError(f"{name!r} ends in {taken[0]}, as tables beside those of another config do")
        if len(name) > LONGEST_NAME:
            raise ValueError(f"{name!r} has {len(name)} letters; a table's name has at most {LONGEST_NAME}")
        return name

    @field_validator("columns")
    @classmethod
    def _names_are_free(cls, columns: dict[str, Column]) -> dict[str, Column]:
        if taken := [name for name in columns if name.lower() in PREDICTION_COLUMNS]:
            raise ValueError(f"{', '.join(taken)}: the predictions table has columns of these names")
        if len({name.lower() for name in columns}) < len(columns):
            raise ValueError("two columns differ only by case, which Delta does not tell apart")
        return columns

    @model_validator(mode="after")
    def _names_fit_each_other(self) -> "Config":
        if mistakes := [*self._unknown_names()] or [*self._misfits()]:
            raise ValueError("\n".join(mistakes))
        return self

    def _unknown_names(self) -> Iterator[str]:
        named = {
            "target": [self.target],
            "weight": [self.weight] if self.weight else [],
            "key": self.key,
            "split.group": [self.split.group] if self.split.group else [],
            "split.time": [self.split.time] if self.split.time else [],
            "split.columns": self.split.columns,
            "split.window.column": [self.split.window.column] if self.split.window else [],
            "gate.slices": self.gate.slices,
            "freshness.column": [self.freshness.column] if self.freshness else [],
        }
        for where, names in named.items():
            for name in names:
                if name not in self.columns:
                    yield f"{where}: {name!r} is not under columns{did_you_mean(name, self.columns)}"

    def _misfits(self) -> Iterator[str]:
        """Why columns and metrics, all of which there are, are not for what they are named for."""
        target, kind = self.columns[self.target], self.columns[self.target].kind
        metrics = {
            "gate.metric": [self.gate.metric],
            "gate.limits": list(self.gate.limits),
            "monitor.quality.metrics": self.monitor.quality.metrics,
        }
        times = {
            "freshness.column": self.freshness and self.freshness.column,
            "split.time": self.split.time,
            "split.window.column": self.split.window and self.split.window.column,
        }
        if kind not in TARGET_TYPES[self.task]:
            yield f"target: {self.target!r} is {kind}; {_target_rule(self.task, kind)}"
        for where, names in metrics.items():
            if others := [name for name in names if METRICS[name].task != self.task]:
                known = metrics_in_words(self.task)
                yield f"{where}: {others[0]!r} is not of a {self.task}, whose metrics are {known}"
            elif (labels := (False, True) if kind == "boolean" else target.allowed) is not None:
                classes = list(map(str, labels))
                for label in unknown_classes(names, classes):
                    yield f"{where}: {label!r} is none of the target's values{did_you_mean(label, classes)}"
        for where, time in times.items():
            if time and self.columns[time].kind not in TIMES:
                yield f"{where}: {time!r} is no date or timestamp"
        if self.target in self.split.named_columns:
            yield f"split: the target {self.target!r} cannot decide a row's part"
        if self.target in self.gate.slices:
            alone = "class" if self.task == "classification" else "value"
            yield f"gate.slices: by the target {self.target!r} each slice has one {alone} alone; name another column"
        if self.target in self.key:
            yield f"key: the target {self.target!r} tells no rows apart, as rows to predict have none"
        if self.gate.calibration_error_at_most is not None and self.task != "classification":
            yield f"gate.calibration_error_at_most: a {self.task} has no probabilities to calibrate"
        if self.mode == "upsert" and not self.key:
            yield "mode: upsert needs a key, which tells the row that a new one replaces"
        if not self.features:
            yield "columns: none is left as a feature"
        if self.weight and (mistake := self._weight_mistake(self.weight)):
            yield f"weight: {self.weight!r} {mistake}"
        features = {name: self.columns[name] for name in self.features}
        yield from self.model.mistakes(self.task, target=target, features=features)

    def _weight_mistake(self, weight: str) -> str:
        if (kind := self.columns[weight].kind) not in NUMBERS:
            return f"is {kind}; a row's weight is a number"
        return "is the target, the key or the group as well" if weight in self._no_features else ""

    @property
    def _no_features(self) -> set[str]:
        return {self.target, *self.key, *([self.split.group] if self.split.group else [])}

    @model_validator(mode="after")
    def _search_fits_the_model(self) -> "Config":
        if mistakes := self.tune.mistakes(self.model):
            raise ValueError("\n".join(mistakes))
        return self

    @field_serializer("tune")
    def _what_a_search_depends_on(self, tune: Tune) -> dict[str, Any]:
        """Nothing of `tune` counts where nothing is searched; where something is, the gate's metric counts too."""
        if not tune.trials:
            return {"trials": 0}
        return {**tune.model_dump(mode="json", exclude_defaults=True), "metric": self.gate.metric}

    def with_source(self, source: Source) -> "Config":
        """This config with another source; it is checked already."""
        return self.model_copy(update={"source": source})

    def with_hyperparameters(self, **values: Any) -> "Config":
        """This config with some values of `model`, `tune` and `split` replaced; each is checked already.
        NoTrainingWindow when the config has none to train on."""
        tune = {name: values.pop(name) for name in Tune.model_fields if name in values}
        train_on = values.pop("train_on", self.split.train_on)
        if train_on == "window" and not self.split.window:
            raise NoTrainingWindow()
        return self.model_copy(
            update={
                "model": self.model.model_copy(update=values),
                "tune": self.tune.model_copy(update=tune),
                "split": self.split.model_copy(update={"train_on": train_on}),
            }
        )

    def with_windows(self, *, since: str | None, window: str | None) -> "Config":
        """This config with the windows of `monitor` replaced by those that are given; they are checked already."""
        given = {name: value for name, value in {"since": since, "window": window}.items() if value}
        return self.model_copy(update={"monitor": self.monitor.model_copy(update=given)})

    @property
    def features(self) -> list[str]:
        """The columns that a model sees, in their order: not target, key, group, weight or `feature: false`."""
        unseen = {self.weight, *self._no_features}
        return [name for name, column in self.columns.items() if column.feature and name not in unseen]

    def table_name(self, *, labelled: bool = True) -> str:
        """The name of the table that `ingest` writes; rows without labels have one of their own."""
        return self.name if labelled else f"{self.name}{UNLABELLED}"

    def contract(self, *, labelled: bool = True) -> dict[str, Column]:
        """The columns that a source must have: all, or all but those that only training needs."""
        only_to_train = () if labelled else (self.target, self.weight)
        return {name: column for name, column in self.columns.items() if name not in only_to_train}

    @property
    def training_columns(self) -> list[str]:
        """What training and evaluation read: the features, the target, the weight and what decides a row's part."""
        deciding = self.split.named_columns or self.key
        weight = [self.weight] if self.weight else []
        window = [self.split.training_window.column] if self.split.training_window else []
        return list(dict.fromkeys([*self.features, self.target, *weight, *deciding, *window]))


def _target_rule(task: Task, kind: str) -> str:
    what = "a class" if task == "classification" else "the target of a regression"
    *others, last = TARGET_TYPES[task]
    rule = f"{what} is {', '.join(others)} or {last}"
    fitting = [name for name, types in TARGET_TYPES.items() if kind in types]
    return f"{rule}; `task: {fitting[0]}` takes {kind}" if fitting else rule


def load(path: str, *, home: Path) -> Config:
    """Read the config at `path`: absolute, or relative to `home` (where the command was given) or to the project."""
    candidates = list(dict.fromkeys([home / path, PROJECT / path]))
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise ConfigNotFound(path, [str(folder) for folder in dict.fromkeys([home, PROJECT])])
    try:
        return parse(file.read_text(encoding="utf-8"), path=path)
    except UnicodeDecodeError as err:
        raise ConfigInvalid(path, [f"is not YAML: {err}"]) from err


def _regression_metric(raw_model: Any) -> str:
    """The metric by which a regression is judged, of its `model` as the YAML has it, which may be wrong."""
    model = raw_model if isinstance(raw_model, dict) else {}
    quantile = model.get("quantile", DEFAULT_QUANTILE)
    if model.get("objective") == "reg:quantileerror" and isinstance(quantile, float) and 0 < quantile < 1:
        return pinball_loss_of(quantile)
    return DEFAULT_METRICS["regression"]


def parse(text: str, *, path: str) -> Config:
    """A config from its YAML; `path` is where that stands, for messages. ConfigInvalid with every mistake at once."""
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError) as err:
        raise ConfigInvalid(path, [f"is not YAML: {err}"]) from err
    if not isinstance(raw, dict):
        given = "is empty" if raw is None else f"holds {type(raw).__name__}, not a mapping of keys"
        raise ConfigInvalid(path, [given])
    try:
        return Config.model_validate(raw)
    except ValidationError as err:
        raise ConfigInvalid(path, validation.of_config(err, Config)) from err


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader, but a key that is given twice is a mistake instead of the last one winning in silence, and so is a
    value such as 2024-02-30, which YAML takes for a day."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as err:
            reason = f"{node.value!r} cannot be read: {err} (in quotes it is text)"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from err

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
            again = own[keys.index(twice[0], keys.index(twice[0]) + 1)]
            names = ", ".join(sorted(map(str, twice)))
            raise yaml.constructor.ConstructorError(None, None, f"{names} given twice", again.start_mark)
        return super().construct_mapping(node, deep)
