"""The model as it is logged: an XGBoost booster (UBJ), a JSON that says what goes in and comes out, and this file.

MLflow stores this file with the model and runs it to load it ("model from code"), so nothing is pickled. It imports
nothing of the project.

How values are read is decided here and nowhere else, so that a table (infer), a frame in Python and a REST request get
the same answers. A value is taken as what it is and never converted to fit:

double   a finite number: int, float, Decimal, and NumPy's, pandas' and Arrow's numbers
long     such a number without a fraction, of at most 64 bits
boolean  true or false, or a number that is 1 or 0, as databases and CSV files have them
string   text; a number is not one, since 7, 7.0 and "007" would be three texts

Missing is None, NaN, NA or NaT. A text that training did not have counts as missing, and is counted and logged. Any
other value is refused with its row and column; so text is no number and no boolean ("1.5", "false"). A column that is
absent as a whole is refused: its name is more often misspelt than left out on purpose. All its values may be missing.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xgboost
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

logger = logging.getLogger(__name__)

# Of schema.json; the first files have none. Raise it with a field that a reader must know to read the model right: to
# take the same rows, give the same answers, or tell which rows it was trained on. Readers pass over other new fields.
FORMAT_VERSION = 1
LARGEST = float(np.finfo(np.float32).max)  # XGBoost takes float32, and no infinity
# Below it threads cost more than they save, and beside a starting JVM, whose cores they wait for, a hundred times that.
SINGLE_THREAD_CELLS = 2**16
VALUES = {  # what a value of each type is, as a message about another one says it
    "double": "a finite number",
    "long": "a whole number of 64 bits",
    "boolean": "true, false, 1 or 0",
    "string": "text",
}
FLAGS, NUMBERS = (bool, np.bool_), (int, float, Decimal, np.integer, np.floating)
PYTHON_TYPES = {"double": NUMBERS, "long": NUMBERS, "boolean": (*FLAGS, *NUMBERS), "string": (str,)}
UNIFORM = {  # pandas' names (infer_dtype) for objects that are of these types, all of them
    "double": ("floating", "integer", "mixed-integer-float", "decimal"),
    "long": ("integer", "floating", "mixed-integer-float", "decimal"),
    "boolean": ("boolean",),
    "string": ("string",),
}
MISSING, UNSEEN = -1, -2  # in place of a text's code


class FormatUnknown(ValueError):
    """A schema of a later format, or of none that there is."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column that the model sees. `levels` are the values of a text column in training, None for numbers."""

    name: str
    type: Literal["double", "long", "boolean", "string"]
    levels: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What the booster alone does not know. `classes` are the target's own labels, in the order of its outputs;
    `split` are the settings that set its training rows apart; `table_uri` is where those are."""

    features: tuple[Feature, ...]
    target: str
    classes: tuple[str | int | bool, ...]
    split: dict[str, Any]
    table_uri: str

    def dumps(self) -> str:
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1)

    @classmethod
    def loads(cls, text: str) -> "Schema":
        """What dumps() wrote, in this release or an earlier one. FormatUnknown when it is of a later format."""
        written = json.loads(text)
        version = written.get("format_version", 0)
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise FormatUnknown(f"format {version!r}")
        features = tuple(Feature(**_known(Feature, feature)) for feature in written["features"])
        return cls(**_known(cls, {**written, "features": features}))


def _known(kind: type, written: dict[str, Any]) -> dict[str, Any]:
    """What of `written` are fields of the dataclass `kind`, with lists as tuples. Later versions may write more."""
    known = {field.name: written[field.name] for field in fields(kind) if field.name in written}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Rows as the booster takes them: `matrix` is (n, features) float32, with NaN for missing and for a text that was
    not seen in training. `unseen` has these texts of each text column that has any."""

    matrix: np.ndarray
    unseen: dict[str, np.ndarray]


def read(rows: pd.DataFrame, features: Sequence[Feature]) -> Reading:
    """The features of `rows` by name; other columns, and the order of columns, do not matter.

    MlflowException, which a server answers with status 400, names all columns that are absent, or the first value of
    each column that is none of its type.
    """
    present = Counter(rows.columns)
    if absent := [feature.name for feature in features if feature.name not in present]:
        raise MlflowException.invalid_parameter_value(f"the columns {', '.join(absent)} are missing")
    if repeated := [feature.name for feature in features if present[feature.name] > 1]:
        raise MlflowException.invalid_parameter_value(f"the columns {', '.join(repeated)} are there more than once")
    matrix = np.empty((len(rows), len(features)), dtype=np.float32)
    unseen, refusals = {}, []
    for position, feature in enumerate(features):
        values = rows[feature.name]
        if feature.levels is None:
            numbers, refused = _numbers(values, feature.type)
            matrix[:, position] = numbers.clip(-LARGEST, LARGEST)
        else:
            codes, refused = _codes(values, feature.levels)
            matrix[:, position] = np.where(codes < 0, np.nan, codes)
            if (is_unseen := codes == UNSEEN).any():
                unseen[feature.name] = values.to_numpy(dtype=object)[is_unseen]
        if refused.any():
            refusals.append(_refusal(feature, values, refused))
    if refusals:
        raise MlflowException.invalid_parameter_value(f"with rows counted from 0: {'; '.join(refusals)}")
    return Reading(matrix=matrix, unseen=unseen)


def design_matrix(rows: pd.DataFrame, features: Sequence[Feature]) -> np.ndarray:
    """The matrix of read(), alone."""
    return read(rows, features).matrix


def _numbers(values: pd.Series, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64 with NaN for missing, and where a value is none of type `kind`."""
    present = values.notna().to_numpy(dtype=bool)
    numbers = np.full(len(values), np.nan)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        refused = present & (pd.api.types.is_bool_dtype(values.dtype) and kind != "boolean")
        numbers[present] = values[present].to_numpy(dtype=np.float64)
    else:
        objects = values.to_numpy(dtype=object)
        refused = _of_another_type(objects, present, kind)
        numbers[present & ~refused] = [_double(value) for value in objects[present & ~refused]]
    allowed = np.isfinite(numbers)
    if kind == "long":
        allowed &= (numbers == np.floor(numbers)) & (np.abs(numbers) <= 2.0**63)
    if kind == "boolean":
        allowed = (numbers == 0) | (numbers == 1)
    return numbers, refused | ~(allowed | np.isnan(numbers))


def _codes(values: pd.Series, levels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A column as the positions of its texts in `levels`, MISSING or UNSEEN, and where a value is not text."""
    present, texts = values.notna().to_numpy(dtype=bool), values.to_numpy(dtype=object)
    refused = _of_another_type(texts, present, "string")
    codes = np.full(len(texts), MISSING)
    positions = pd.Index(levels, dtype=object).get_indexer(texts[present & ~refused])
    codes[present & ~refused] = np.where(positions < 0, UNSEEN, positions)
    return codes, refused


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


def _refusal(feature: Feature, values: pd.Series, refused: np.ndarray) -> str:
    row = int(refused.argmax())
    value = values.iloc[row]
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    others = f", and {count} more in this column" if (count := int(refused.sum()) - 1) else ""
    return f"row {row}, column {feature.name!r}: {shown} is not {VALUES[feature.type]}{others}"


def threads(cells: int) -> int:
    """How many threads XGBoost is to use for so many values; 0 means one for each core."""
    return 1 if cells < SINGLE_THREAD_CELLS else 0


def feature_types(features: tuple[Feature, ...]) -> list[str]:
    """XGBoost's own names: 'c' for a category's code, 'q' for a quantity."""
    return ["q" if feature.levels is None else "c" for feature in features]


def unseen(rows: pd.DataFrame, features: Sequence[Feature]) -> dict[str, int]:
    """How many values of each text column were not seen in training, and so count as missing; only where there are."""
    return {name: len(texts) for name, texts in read(rows, features).unseen.items()}


class Scorer(PythonModel):
    """Rows with the table's columns by name in; `prediction`, its `probability` and all `probabilities` out."""

    booster: xgboost.Booster
    schema: Schema

    def __init__(self) -> None:
        self.unseen_so_far: Counter[str] = Counter()

    def load_context(self, context: PythonModelContext) -> None:
        self.booster = xgboost.Booster({"nthread": 1}, model_file=context.artifacts["booster"])
        self.schema = Schema.loads(Path(context.artifacts["schema"]).read_text(encoding="utf-8"))
        self._score(np.full((1, len(self.schema.features)), np.nan))  # configures it, which threads cannot do at once

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """(n, classes) float64, each row summing to 1."""
        return self._score(read(rows, self.schema.features).matrix)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        reading = read(model_input, self.schema.features)
        self._warn(reading.unseen)
        probabilities = self._score(reading.matrix)
        best = probabilities.argmax(axis=1)
        labels = [str(label) for label in self.schema.classes]
        kind = {str: "object", int: "int64", bool: "bool"}[type(self.schema.classes[0])]
        return pd.DataFrame(
            {
                "prediction": np.array(self.schema.classes, dtype=kind)[best],
                "probability": probabilities[np.arange(len(best)), best],
                "probabilities": pd.Series(
                    [dict(zip(labels, row, strict=True)) for row in probabilities.tolist()],
                    index=model_input.index,
                    dtype=object,
                ),
            },
            index=model_input.index,
        )

    def _score(self, matrix: np.ndarray) -> np.ndarray:
        if not len(matrix):
            return np.empty((0, len(self.schema.classes)))
        booster = self.booster
        if threads(matrix.size) != 1:  # a copy, since a parameter that changes breaks what other threads predict
            booster = booster.copy()
            booster.set_param({"nthread": threads(matrix.size)})
        rows = xgboost.DMatrix(
            matrix,
            feature_names=[feature.name for feature in self.schema.features],
            feature_types=feature_types(self.schema.features),
            enable_categorical=True,
        )
        raw = booster.predict(rows).astype(np.float64)
        probabilities: np.ndarray = raw / raw.sum(axis=1, keepdims=True)
        return probabilities

    def _warn(self, unseen: dict[str, np.ndarray]) -> None:
        """Log the first unseen text of a column, the tenth, the hundredth and so on: a server must not fill its log."""
        for name, texts in unseen.items():
            before = self.unseen_so_far[name]
            self.unseen_so_far[name] += len(texts)
            if len(str(self.unseen_so_far[name])) > len(str(before or "")):
                logger.warning(
                    "column %r: %d values so far were not seen in training, such as %r; each counts as missing",
                    name,
                    self.unseen_so_far[name],
                    texts[0],
                )


set_model(Scorer())  # how MLflow finds the model in this file
