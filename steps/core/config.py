"""The config of one workflow: YAML read into frozen models that know every key, and report every mistake at once."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from steps.core import validation
from steps.core.errors import ConfigInvalid, ConfigNotFound, did_you_mean
from steps.core.metrics import METRICS

PROJECT = Path(__file__).resolve().parents[2]
PREDICTION_COLUMNS = ("prediction", "probability", "probabilities", "model_uri", "table_uri", "run_id", "scored_at")
OTHER_TABLES = ("_predictions", "_rejects")  # what <lake>/<name> stands beside, by the ends of their names


def matches(pattern: str, rule: str) -> AfterValidator:
    """A text that `pattern` fits as a whole; `rule` says in words which these are."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} given; {rule}")
        return text

    return AfterValidator(check)


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} given; the metrics are {', '.join(METRICS)}{did_you_mean(name, METRICS)}")
    return name


# What Delta and Spark take without quoting.
Name = Annotated[
    str,
    matches(r"[A-Za-z_][A-Za-z0-9_]*", "a name has letters from a to z, digits and _, and does not begin with a digit"),
]
# What a models:/ URI and MLflow's filters can hold.
ModelName = Annotated[
    str,
    matches(
        r"[^/:@%\x22.\s][^/:@%\x22]*",
        "a model's name is not empty, has none of / : @ % and \", and does not begin with a blank or a dot",
    ),
]
Rounds = Annotated[int, Field(ge=1, le=100_000)]
MaxDepth = Annotated[int, Field(ge=1, le=64)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(gt=0, lt=1)]
MetricName = Annotated[str, AfterValidator(_known_metric)]

ALLOWED_TYPES: dict[str, tuple[type, ...]] = {
    "double": (int, float),
    "long": (int,),
    "boolean": (bool,),
    "string": (str,),
    "date": (),
    "timestamp": (),
}


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Strict):
    uri: str
    format: str | None = None  # of steps/core/sources/kinds.py; by default from the files' names
    options: dict[str, str | bool | int] = {}  # handed to Spark's reader: sep, encoding, ...


class Column(Strict):
    """What a column's values must be. `min` and `max` are inclusive, in the column's own unit."""

    source: str | None = None  # its name in the source; by default its own
    type: Literal["double", "long", "boolean", "string", "date", "timestamp"]
    min: float | None = None
    max: float | None = None
    allowed: tuple[str | int | float | bool, ...] | None = None
    required: bool = False  # a missing value breaks the contract
    feature: bool = True  # whether the model may see it

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> "Column":
        if self.type not in ("double", "long") and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for columns of type double or long, not {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        if self.allowed and not ALLOWED_TYPES[self.type]:
            raise ValueError(f"allowed is not for columns of type {self.type}")
        wrong = [value for value in self.allowed or () if type(value) not in ALLOWED_TYPES[self.type]]
        if wrong:
            raise ValueError(f"allowed: {wrong[0]!r} is not of type {self.type} (YAML reads no, yes and 1 unquoted)")
        return self


class Split(Strict):
    """Shares of the rows, and what decides a row's part: its features (default) or the value of one column."""

    test: Share = 0.2
    validation: Share = 0.1
    seed: Seed = 7
    group: Name | None = None

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> "Split":
        if self.test + self.validation >= 1:
            raise ValueError(f"test {self.test} and validation {self.validation} leave nothing to train on")
        return self


class Model(Strict):
    """Hyperparameters by the names that xgboost.train() gives them."""

    name: ModelName
    num_boost_round: Rounds = 200
    max_depth: MaxDepth = 6
    learning_rate: LearningRate = 0.1
    early_stopping_rounds: Rounds = 20
    seed: Seed = 0


class Gate(Strict):
    """A version passes when its metric on the test part is good enough in absolute terms, against always answering
    the most frequent class, and against the champion. Differences are in the metric's own unit, positive = better.

    `min_gain_over_baseline: 0` asks for better, not for as good, and for more than chance; below 0 a tie is enough."""

    metric: MetricName = "f1_macro"
    at_least: float | None = None  # for log_loss: at most
    min_gain_over_baseline: float = 0.0
    max_drop_below_champion: Annotated[float, Field(ge=0)] = 0.0


class Config(Strict):
    name: Name
    source: Source
    columns: Annotated[dict[Name, Column], Field(min_length=2)]
    key: tuple[Name, ...] = ()
    target: Name
    task: Literal["classification"] = "classification"
    split: Split = Split()
    model: Model
    gate: Gate = Gate()

    @field_validator("name")
    @classmethod
    def _table_is_its_own(cls, name: str) -> str:
        if taken := [ending for ending in OTHER_TABLES if name.endswith(ending)]:
            raise ValueError(f"{name!r} ends in {taken[0]}, as tables beside those of another config do")
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
    def _names_exist(self) -> "Config":
        named = {
            "target": [self.target],
            "key": self.key,
            "split.group": [self.split.group] if self.split.group else [],
        }
        for where, names in named.items():
            for name in names:
                if name not in self.columns:
                    raise ValueError(f"{where}: {name!r} is not under columns{did_you_mean(name, self.columns)}")
        if self.columns[self.target].type not in ("string", "long", "boolean"):
            raise ValueError(
                f"target: {self.target!r} is {self.columns[self.target].type}; a class is string, long or boolean"
            )
        if not self.features:
            raise ValueError("columns: none is left as a feature")
        if dates := [name for name in self.features if self.columns[name].type in ("date", "timestamp")]:
            raise ValueError(f"columns: {', '.join(dates)} cannot be a feature; say `feature: false`")
        return self

    def with_source(self, source: Source) -> "Config":
        return self.model_copy(update={"source": source})

    def with_hyperparameters(self, **values: Any) -> "Config":
        """This config with some values of `model` replaced; they are checked already."""
        return self.model_copy(update={"model": self.model.model_copy(update=values)})

    @property
    def features(self) -> list[str]:
        """The columns that a model sees, in their order: not the target, the key, the group or `feature: false`."""
        unseen = {self.target, self.split.group, *self.key}
        return [name for name, column in self.columns.items() if column.feature and name not in unseen]

    @property
    def source_columns(self) -> list[str]:
        """The names in the source of the columns."""
        return [column.source or name for name, column in self.columns.items()]

    @property
    def training_columns(self) -> list[str]:
        """What training and evaluation read: the features, the target and what decides a row's part."""
        return list(dict.fromkeys([*self.features, self.target, *([self.split.group] if self.split.group else [])]))


def load(path: str, *, home: Path) -> Config:
    """Read the config at `path`: absolute, or relative to `home` (where the command was given) or to the project."""
    candidates = list(dict.fromkeys([home / path, PROJECT / path]))
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise ConfigNotFound(path, [str(folder) for folder in dict.fromkeys([home, PROJECT])])
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise ConfigInvalid(path, [f"is not YAML: {err}"]) from err
    if not isinstance(raw, dict):
        raise ConfigInvalid(path, [f"holds {type(raw).__name__}, not a mapping of keys"])
    try:
        return Config.model_validate(raw)
    except ValidationError as err:
        raise ConfigInvalid(path, validation.of_config(err, Config)) from err


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader, but a key that is given twice is a mistake instead of the last one winning in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)
