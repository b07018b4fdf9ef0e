"""The model as it is logged: an XGBoost booster (UBJ), a JSON that says what goes in and comes out, and this file.

MLflow stores this file with the model and runs it to load it ("model from code"), so nothing is pickled. It imports
nothing of the project.

How values are read is decided here and nowhere else, so that a table (infer), a frame in Python and a REST request get
the same answers. A value is taken as what it is and never converted to fit:

double     a finite number: int, float, Decimal, and NumPy's, pandas' and Arrow's numbers
long       such a number without a fraction, of at most 64 bits
boolean    true or false, or a number that is 1 or 0, as databases and CSV files have them
string     text, without the blanks around it; a number is not one, since 7, 7.0 and "007" would be three texts
date       a date, a moment at midnight, or either as text in ISO 8601 (2024-05-28), as JSON has it; a zone counts for
           nothing, as a day is what the calendar says there
timestamp  a moment, a date (its midnight), or either as text in ISO 8601; where it does not say its zone, in the one
           that the config says, else in UTC

Missing is None, NaN, NA or NaT, which of a date may be text, as MLflow writes it in JSON, and a text of blanks; so is
the same text, number or moment as one that the feature's `missing` lists, which no table of its contract has. A text or
a code (a long with levels) that training did not have counts as missing, and is counted and logged. Any other value is
refused with its row and column; so text is no number and no boolean ("1.5", "false"). A column that is absent as a
whole is refused, as its name is more often misspelt than left out on purpose, unless it is optional: then all its
values are missing.

A date is learnt from by its parts, each a column of its own in the matrix: year, month, day of the month, weekday (1 is
Monday), day of the year, and days since 1 January 1970; a timestamp, in UTC, by its hour as well, and its days have a
fraction, which float32 holds to three minutes.
"""

import contextlib
import datetime
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import xgboost
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

logger = logging.getLogger(__name__)

# Of schema.json; the first files have none. Raise it with a field that a reader must know to read the model right: to
# take the same rows, give the same answers, or tell which rows it was trained on. Readers pass over other new fields.
# 1: classifiers; 2: regressions; 3: dates and timestamps, codes (long with levels), optional columns, a split by time;
# 4: a window; 5: values that stand for missing ones, a zone; 6: a mark between thousands;
# 7: a symbol beside numbers.
FORMAT_VERSION = 7
FORMAT_OF_TASK = {"classification": 1, "regression": 2}  # the oldest that can say what a model of the task is
# The oldest that can say which rows a model was trained on that were parted by time, and that are in a window.
FORMAT_OF_TIME_SPLIT, FORMAT_OF_WINDOW = 3, 4
LARGEST = float(np.finfo(np.float32).max)  # XGBoost takes float32, and no infinity
# Below it threads cost more than they save, and beside a starting JVM, whose cores they wait for, a hundred times that.
SINGLE_THREAD_CELLS = 2**16
VALUES = {  # what a value of each type is, as a message about another one says it
    "double": "a finite number",
    "long": "a whole number of 64 bits",
    "boolean": "true, false, 1 or 0",
    "string": "text",
    "date": "a date",
    "timestamp": "a moment",
}
PARTS = ("year", "month", "day", "weekday", "day_of_year", "days_since_1970")
PARTS_OF = {"date": PARTS, "timestamp": (*PARTS, "hour")}  # by the type of a feature
NO_MOMENT = np.datetime64("NaT", "us")
DAY_MICROSECONDS = 86_400 * 10**6
FLAGS, NUMBERS = (bool, np.bool_), (int, float, Decimal, np.integer, np.floating)
PYTHON_TYPES = {"double": NUMBERS, "long": NUMBERS, "boolean": (*FLAGS, *NUMBERS), "string": (str,)}
UNIFORM = {  # pandas' names (infer_dtype) for objects that are of these types, all of them
    "double": ("floating", "integer", "mixed-integer-float", "decimal"),
    "long": ("integer", "floating", "mixed-integer-float", "decimal"),
    "boolean": ("boolean",),
    "string": ("string",),
}
SHOWN = 10  # columns in a message
MISSING, UNSEEN = -1, -2  # in place of a category's code


class FormatUnknown(ValueError):
    """A schema of a later format, or of none that there is."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column that the model sees. `levels` are the values that a column of categories had in training: always of a
    string, of a long where its numbers are codes. An `optional` one may be absent as a whole. `missing` lists what
    stands for a missing value. `as_text` is what the config says of its values where they are text, as a server reads
    those of a CSV file: their exact `type`, `format`, `decimal_mark`, `thousands_mark`, `symbol`, `true_texts` and
    `false_texts`; and their `zone`, which holds for all moments that do not say theirs."""

    name: str
    type: Literal["double", "long", "boolean", "string", "date", "timestamp"]
    levels: tuple[str | int, ...] | None = None
    optional: bool = False
    missing: tuple[str | int | float, ...] = ()
    as_text: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[str]:
        """The names of its columns in the matrix: its own, or one for each part of a date."""
        return [f"{self.name}.{part}" for part in PARTS_OF.get(self.type, ())] or [self.name]

    @cached_property
    def positions(self) -> dict[str | int, int]:
        """Where each of its levels stands among them."""
        return {level: position for position, level in enumerate(self.levels or ())}

    @cached_property
    def missing_texts(self) -> frozenset[str]:
        """Its `missing` as text."""
        return frozenset(str(value).strip() for value in self.missing)

    @cached_property
    def missing_numbers(self) -> frozenset[float]:
        """Those of its `missing` that are numbers, of a feature of numbers or booleans."""
        written = self.missing if self.type in ("double", "long", "boolean") else ()
        numbers = [self._with_point(value) if isinstance(value, str) else value for value in written]
        return frozenset(float(number) for number in numbers if _is_finite(number))

    @cached_property
    def missing_moments(self) -> np.ndarray:
        """Those of its `missing` that are dates or moments, of a feature of these."""
        moments = [moment(self._parsed(value), self) for value in self.missing if self.type in PARTS_OF]
        return np.array([value for value in moments if not np.isnat(value)], dtype="datetime64[us]")

    def _with_point(self, text: str) -> str:
        """The text of a number with a point alone, "" where its marks are not those that the config says."""
        if symbol := re.escape(self.as_text.get("symbol", "")):
            text = re.sub(rf"^([+-]?)\s*{symbol}\s*|\s*{symbol}$", r"\1", text, count=1)
        decimal = self.as_text.get("decimal_mark", ".")
        thousands = re.escape(self.as_text.get("thousands_mark") or ("." if decimal == "," else ""))
        if not thousands:
            return text
        grouped = rf"[+-]?\d{{1,3}}(?:{thousands}\d{{3}})+(?:{re.escape(decimal)}\d*)?"
        plain = re.sub(thousands, "", text) if re.fullmatch(grouped, text) else text
        return "" if decimal != "." and "." in plain else plain.replace(decimal, ".")

    def _parsed(self, value: str | int | float) -> Any:
        """One of its `missing` as a moment, by its format where it has one; None for what is none."""
        if time_format := self.as_text.get("format"):
            with contextlib.suppress(ValueError):
                return datetime.datetime.strptime(str(value), time_format)
            return None
        return value

    @cached_property
    def zone(self) -> ZoneInfo | None:
        """Where a moment is that does not say its zone; None for UTC."""
        name = self.as_text.get("zone", "UTC")
        return None if name == "UTC" else ZoneInfo(name)

    @property
    def format_version(self) -> int:
        """The oldest that can say what it is."""
        if "symbol" in self.as_text:
            return 7
        if "thousands_mark" in self.as_text:
            return 6
        if self.missing or self.zone:
            return 5
        is_new = self.type in PARTS_OF or (self.type == "long" and self.levels is not None) or self.optional
        return 3 if is_new else 0


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What the booster alone does not know. `classes` are the target's own labels, in the order of its outputs, none
    of a regression; `split` are the settings that set its training rows apart; `table_uri` is where those are. What it
    was trained by: `objective`, by XGBoost's name ("" in files before there were several), and the column `weight`.
    With `target_transform` log, the booster's output is ln(1 + target)."""

    features: tuple[Feature, ...]
    target: str
    classes: tuple[str | int | bool, ...]
    split: dict[str, Any]
    table_uri: str
    task: Literal["classification", "regression"] = "classification"
    objective: str = ""
    target_transform: Literal["log"] | None = None
    weight: str | None = None

    def dumps(self) -> str:
        """As JSON, in the oldest format that holds it: many models can then be read by earlier releases too."""
        of_split = FORMAT_OF_TIME_SPLIT if self.split.get("time") else 1
        of_split = FORMAT_OF_WINDOW if self.split.get("window") else of_split
        version = max([FORMAT_OF_TASK[self.task], of_split, *(feature.format_version for feature in self.features)])
        written = {"format_version": version, **asdict(self)}
        if version == 1:
            del written["task"]  # format 1 knows no other
        return json.dumps(written, indent=1)

    @classmethod
    def loads(cls, text: str) -> "Schema":
        """What dumps() wrote, in this release or an earlier one. FormatUnknown when it is of a later format."""
        written = json.loads(text)
        version = written.get("format_version", 0)
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise FormatUnknown(f"format {version!r}")
        if (task := written.get("task", "classification")) not in FORMAT_OF_TASK:
            raise FormatUnknown(f"the task {task!r}")
        features = tuple(Feature(**_known(Feature, feature)) for feature in written["features"])
        return cls(**_known(cls, {**written, "features": features}))


def _known(kind: type, written: dict[str, Any]) -> dict[str, Any]:
    """What of `written` are fields of the dataclass `kind`, with lists as tuples. Later versions may write more."""
    names = [each.name for each in fields(kind)]
    known = {name: written[name] for name in names if name in written}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Rows as the booster takes them: `matrix` is (n, columns of the features) float32, with NaN for missing and for a
    category that was not seen in training. `unseen` has these values of each column that has any."""

    matrix: np.ndarray
    unseen: dict[str, np.ndarray]


def read(rows: pd.DataFrame | Mapping[str, np.ndarray], features: Sequence[Feature]) -> Reading:
    """The features of `rows` by name; other columns, and the order of columns, do not matter.

    Rows may be columns of Python's objects, at least one: of one row, as servers get it, a frame takes longer to make
    than its prediction.

    MlflowException, which a server answers with status 400, names all columns that are absent, or the first value of
    each column that is none of its type.
    """
    present = Counter(iter(rows))
    if absent := [feature.name for feature in features if feature.name not in present and not feature.optional]:
        others = [str(name) for name in present if all(name != feature.name for feature in features)]
        there = f"; others are there: {', '.join(others[:SHOWN])}" if others else ""
        raise MlflowException.invalid_parameter_value(f"the columns {', '.join(absent)} are missing{there}")
    if repeated := [feature.name for feature in features if present[feature.name] > 1]:
        raise MlflowException.invalid_parameter_value(f"the columns {', '.join(repeated)} are there more than once")
    count = len(rows) if isinstance(rows, pd.DataFrame) else len(next(iter(rows.values())))
    matrix = np.full((count, len(column_names(features))), np.nan, dtype=np.float32)
    unseen, refusals, end = {}, [], 0
    for feature in features:
        begin, end = end, end + len(feature.columns)
        if feature.name not in present:
            continue
        values = rows[feature.name]
        numbers, refused = _read_column(values, feature)
        if feature.levels is not None:
            if (is_unseen := numbers[:, 0] == UNSEEN).any():
                unseen[feature.name] = _objects(values)[is_unseen]
            numbers = np.where(numbers < 0, np.nan, numbers)
        matrix[:, begin:end] = numbers.clip(-LARGEST, LARGEST)
        if refused.any():
            refusals.append(_refusal(feature, values, refused))
    if refusals:
        raise MlflowException.invalid_parameter_value(f"with rows counted from 0: {'; '.join(refusals)}")
    return Reading(matrix=matrix, unseen=unseen)


def design_matrix(rows: pd.DataFrame | Mapping[str, np.ndarray], features: Sequence[Feature]) -> np.ndarray:
    """The matrix of read(), alone."""
    return read(rows, features).matrix


def _read_column(values: pd.Series | np.ndarray, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64, (n, its columns in the matrix), and where a value is none of its type, (n,)."""
    if feature.type in PARTS_OF:
        moments, refused = _moments(values, feature)
        columns = _parts(moments, feature.type)
    else:
        numbers, refused = (_numbers if feature.levels is None else _codes)(values, feature)
        columns = numbers[:, np.newaxis]
    if refused.any():
        refused[refused] = [not is_blank(value) for value in _objects(values)[refused]]
    return columns, refused


def present(values: pd.Series | np.ndarray, feature: Feature) -> np.ndarray:
    """Where a value is not missing, (n,)."""
    is_present = np.asarray(pd.notna(values), dtype=bool)
    if not feature.missing:
        return is_present
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        return is_present & ~np.isin(values, list(feature.missing_numbers))
    if (moments := _typed_moments(values, feature)) is not None:
        return is_present & ~np.isin(moments, feature.missing_moments)
    is_present[is_present] = [not _stands_for_missing(value, feature) for value in _objects(values)[is_present]]
    return is_present


def is_blank(value: Any) -> bool:
    """Whether it is text of nothing but blanks, which is a missing value of any type."""
    return isinstance(value, str) and not value.strip()


def _stands_for_missing(value: Any, feature: Feature) -> bool:
    if isinstance(value, str) and value.strip() in feature.missing_texts:
        return True
    if feature.type in PARTS_OF:
        return moment(value, feature) in feature.missing_moments
    return isinstance(value, NUMBERS) and not isinstance(value, FLAGS) and _double(value) in feature.missing_numbers


def _is_finite(value: Any) -> bool:
    """Whether it is a finite number, or the text of one."""
    with contextlib.suppress(ValueError, OverflowError):
        return "_" not in str(value) and bool(np.isfinite(float(value)))  # Python takes 1_000
    return False


def _objects(values: pd.Series | np.ndarray) -> np.ndarray:
    """A column as Python's objects."""
    objects: np.ndarray = values.to_numpy(dtype=object) if isinstance(values, pd.Series) else values
    return objects


def _numbers(values: pd.Series | np.ndarray, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64 with NaN for missing, and where a value is none of the feature's type."""
    kind, is_present = feature.type, present(values, feature)
    numbers = np.full(len(values), np.nan)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        refused = is_present & (pd.api.types.is_bool_dtype(values.dtype) and kind != "boolean")
        numbers[is_present] = values[is_present].to_numpy(dtype=np.float64)
    else:
        objects = _objects(values)
        refused = _of_another_type(objects, is_present, kind)
        numbers[is_present & ~refused] = [_double(value) for value in objects[is_present & ~refused]]
    allowed = np.isfinite(numbers)
    if kind == "long":
        allowed &= (numbers == np.floor(numbers)) & (np.abs(numbers) <= 2.0**63)
        at_limit = is_present & (np.abs(numbers) == 2.0**63)  # as a double; the integer may be beyond
        allowed[at_limit] = [not _is_beyond_long(number) for number in _objects(values)[at_limit]]
    if kind == "boolean":
        allowed = (numbers == 0) | (numbers == 1)
    return numbers, refused | ~(allowed | np.isnan(numbers))


def _is_beyond_long(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) and not -(2**63) <= int(number) < 2**63


def _codes(values: pd.Series | np.ndarray, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
    """A column as the positions of its values in the levels, MISSING or UNSEEN, and where one is none of its type."""
    is_present, objects = present(values, feature), _objects(values)
    is_text = feature.type == "string"
    refused = _of_another_type(objects, is_present, "string") if is_text else _numbers(values, feature)[1]
    known = is_present & ~refused
    found = objects[known] if is_text else [int(value) for value in objects[known]]  # 7.0 is the code 7
    codes = np.full(len(objects), float(MISSING))
    codes[known] = [feature.positions.get(value, UNSEEN) for value in found]
    if is_text and (is_unseen := codes == UNSEEN).any():
        stripped = [text.strip() for text in objects[is_unseen]]  # as a source's are
        codes[is_unseen] = [feature.positions.get(text, UNSEEN) if text else MISSING for text in stripped]
    return codes, refused


def _moments(values: pd.Series | np.ndarray, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
    """A column as datetime64[us], NaT for missing, and where a value is none of the feature's type."""
    kind, is_present = feature.type, present(values, feature)
    if (moments := _typed_moments(values, feature)) is not None:
        moments = np.where(is_present, moments, NO_MOMENT)
    else:
        moments, objects = np.full(len(values), NO_MOMENT), _objects(values)
        if kind == "date" and pd.api.types.infer_dtype(objects[is_present]) == "date":  # as Arrow has it: few different
            codes, days = pd.factorize(objects[is_present])
            moments[is_present] = days.astype("datetime64[D]")[codes]
        else:
            # "NaT" is how MLflow writes a missing one as JSON.
            is_present[is_present] = [not isinstance(value, str) or value != "NaT" for value in objects[is_present]]
            moments[is_present] = [moment(value, feature) for value in objects[is_present]]
    is_day = moments == moments.astype("datetime64[D]")
    refused = is_present & (np.isnat(moments) | ((kind == "date") & ~is_day))
    return np.where(refused, NO_MOMENT, moments), refused


def _typed_moments(values: pd.Series | np.ndarray, feature: Feature) -> np.ndarray | None:
    """Moments that pandas or NumPy has as such as datetime64[us] in UTC, of a date as its calendar has them; NaT for an
    hour that the clocks of the feature's zone do not show once. None for other columns."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_localize(None) if feature.type == "date" else values.dt.tz_convert(None)
    elif not isinstance(values.dtype, np.dtype) or values.dtype.kind != "M":
        return None
    elif feature.zone:
        local = pd.Series(values).dt.tz_localize(feature.zone, ambiguous="NaT", nonexistent="NaT")
        values = local.dt.tz_convert(None)
    return np.asarray(values).astype("datetime64[us]")


def moment(value: Any, feature: Feature) -> np.datetime64:
    """What is a date or a moment, NaT for anything else, and for an hour that clocks do not show once."""
    with contextlib.suppress(ValueError, OverflowError):  # no text of one; in UTC, beyond the years that there are
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        if isinstance(value, np.datetime64):
            value = value.astype("datetime64[us]").item()
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            value = datetime.datetime.combine(value, datetime.time())
        if isinstance(value, datetime.datetime):
            return np.datetime64(_in_utc(value, feature).replace(tzinfo=None), "us")
    return NO_MOMENT


def _in_utc(value: datetime.datetime, feature: Feature) -> datetime.datetime:
    """A moment in UTC, of a date as its calendar has it. ValueError for an hour that clocks do not show once."""
    if feature.type == "date":
        return value
    if value.tzinfo is None and feature.zone:
        value = value.replace(tzinfo=feature.zone)
        if value.utcoffset() != value.replace(fold=1 - value.fold).utcoffset():
            raise ValueError(value)
    return value.astimezone(datetime.UTC) if value.tzinfo else value


def _parts(moments: np.ndarray, kind: str) -> np.ndarray:
    """(n, parts) float64 of datetime64[us], in the order of PARTS_OF, with NaN for NaT."""
    days, months, years = (moments.astype(f"datetime64[{unit}]") for unit in "DMY")
    day_numbers = days.astype(np.int64)
    parts = [
        years.astype(np.int64) + 1970,
        months.astype(np.int64) % 12 + 1,
        (days - months.astype("datetime64[D]")).astype(np.int64) + 1,
        (day_numbers + 3) % 7 + 1,  # 1 January 1970 was a Thursday
        (days - years.astype("datetime64[D]")).astype(np.int64) + 1,
        day_numbers if kind == "date" else moments.astype(np.int64) / DAY_MICROSECONDS,
    ]
    if kind == "timestamp":
        parts.append((moments - days).astype("timedelta64[h]").astype(np.int64))
    return np.where(np.isnat(moments)[:, np.newaxis], np.nan, np.column_stack(parts))


def _of_another_type(objects: np.ndarray, present: np.ndarray, kind: str) -> np.ndarray:
    """Where Python's objects, of those that are `present`, are of no type that values of `kind` have."""
    another = np.zeros(len(objects), dtype=bool)
    if pd.api.types.infer_dtype(objects[present]) not in UNIFORM[kind]:
        types = PYTHON_TYPES[kind]
        is_flag = kind == "boolean"  # else it is none, though to Python a bool is an int
        another[present] = [
            not isinstance(value, types) or (isinstance(value, FLAGS) and not is_flag) for value in objects[present]
        ]
    return another


def _double(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond any double
        return float("inf")


def _refusal(feature: Feature, values: pd.Series | np.ndarray, refused: np.ndarray) -> str:
    row = int(refused.argmax())
    value = values.iloc[row] if isinstance(values, pd.Series) else values[row]
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    others = f", and {count} more in this column" if (count := int(refused.sum()) - 1) else ""
    return f"row {row}, column {feature.name!r}: {shown} is not {VALUES[feature.type]}{others}"


def threads(cells: int) -> int:
    """How many threads XGBoost is to use for so many values; 0 means one for each core."""
    return 1 if cells < SINGLE_THREAD_CELLS else 0


def column_names(features: Sequence[Feature]) -> list[str]:
    """The columns of the matrix that read() makes."""
    return [column for feature in features for column in feature.columns]


def feature_types(features: Sequence[Feature]) -> list[str]:
    """XGBoost's own names for each column of the matrix: 'c' for a category's code, 'q' for a quantity."""
    return ["q" if feature.levels is None else "c" for feature in features for _ in feature.columns]


def dmatrix(matrix: np.ndarray, features: Sequence[Feature]) -> xgboost.DMatrix:
    """The matrix of read() as XGBoost takes it."""
    return xgboost.DMatrix(
        matrix,
        feature_names=column_names(features),
        feature_types=feature_types(features),
        enable_categorical=True,
        nthread=threads(matrix.size) or -1,
    )


def unseen(rows: pd.DataFrame, features: Sequence[Feature]) -> dict[str, int]:
    """How many values of each column of categories were not seen in training, and so count as missing; only where
    there are."""
    return {name: len(values) for name, values in read(rows, features).unseen.items()}


class Scorer(PythonModel):
    """Rows with the table's columns by name in; `prediction`, its `probability` and all `probabilities` out. A
    regression has the `prediction` alone."""

    booster: xgboost.Booster
    schema: Schema

    def __init__(self) -> None:
        self.unseen_so_far: Counter[str] = Counter()

    def load_context(self, context: PythonModelContext) -> None:
        """Read booster and schema, as MLflow calls it when the model is loaded."""
        self.booster = xgboost.Booster({"nthread": 1}, model_file=context.artifacts["booster"])
        self.schema = Schema.loads(Path(context.artifacts["schema"]).read_text(encoding="utf-8"))
        self._score(
            np.full((1, len(column_names(self.schema.features))), np.nan)
        )  # configures it, which threads cannot do at once

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """(n, classes) float64, each row summing to 1."""
        return self._score(read(rows, self.schema.features).matrix)

    def values(self, rows: pd.DataFrame) -> np.ndarray:
        """A regression's predictions, (n,) float64."""
        return self._score(read(rows, self.schema.features).matrix)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row for each row: prediction and, of a classification, probability and probabilities by class."""
        return pd.DataFrame(self.answers(model_input), index=model_input.index)

    def answers(self, rows: pd.DataFrame | Mapping[str, np.ndarray]) -> dict[str, np.ndarray | list[dict[str, float]]]:
        """The columns of predict(), in the order of the rows."""
        reading = read(rows, self.schema.features)
        self._warn(reading.unseen)
        scores = self._score(reading.matrix)
        if self.schema.task == "regression":
            return {"prediction": scores}
        best = scores.argmax(axis=1)
        labels = [str(label) for label in self.schema.classes]
        kind = {str: "object", int: "int64", bool: "bool"}[type(self.schema.classes[0])]
        return {
            "prediction": np.array(self.schema.classes, dtype=kind)[best],
            "probability": scores[np.arange(len(best)), best],
            "probabilities": [dict(zip(labels, row, strict=True)) for row in scores.tolist()],
        }

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        is_regression = self.schema.task == "regression"
        if not len(matrix):
            return np.empty(0 if is_regression else (0, len(self.schema.classes)))
        booster = self.booster
        if threads(matrix.size) != 1:  # a copy, since a parameter that changes breaks what other threads predict
            booster = booster.copy()
            booster.set_param({"nthread": threads(matrix.size)})
        # Not predict(), which makes a DMatrix first: of one row that takes twice as long as the trees do.
        raw: np.ndarray = booster.inplace_predict(matrix).astype(np.float64)
        if is_regression:
            return np.expm1(raw) if self.schema.target_transform == "log" else raw
        if raw.ndim == 1:  # binary:logistic: the probability of the second class
            return np.column_stack([1 - raw, raw])
        probabilities: np.ndarray = raw / raw.sum(axis=1, keepdims=True)
        return probabilities

    def _warn(self, unseen: dict[str, np.ndarray]) -> None:
        """Log the first unseen value of a column, the tenth, the hundredth and so on: no server's log may fill."""
        for name, values in unseen.items():
            before = self.unseen_so_far[name]
            self.unseen_so_far[name] += len(values)
            if len(str(self.unseen_so_far[name])) > len(str(before or "")):
                logger.warning(
                    "column %r: %d values so far were not seen in training, such as %r; each counts as missing",
                    name,
                    self.unseen_so_far[name],
                    values[0],
                )


set_model(Scorer())  # how MLflow finds the model in this file
