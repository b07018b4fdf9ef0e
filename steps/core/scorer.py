"""The model as it is logged: an XGBoost booster (UBJ), a JSON that says what goes in and comes out, and this file.

MLflow stores this file with the model and runs it to load it ("model from code"), so nothing is pickled and batch
and REST score alike. It imports nothing of the project.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xgboost
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

LARGEST = float(np.finfo(np.float32).max)  # XGBoost takes float32, and no infinity
# Below it threads cost more than they save, and beside a starting JVM, whose cores they wait for, a hundred times that.
FEW_CELLS = 2**16


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column that the model sees. `levels` are the values of a text column in training, None for numbers."""

    name: str
    type: Literal["double", "long", "boolean", "string"]
    levels: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What the booster alone does not know. `classes` are the target's own labels, in the order of its outputs;
    `split` are the settings (of steps.core.split) that set its training rows apart; `table_uri` is where those are."""

    features: tuple[Feature, ...]
    target: str
    classes: tuple[str | int | bool, ...]
    split: dict[str, Any]
    table_uri: str

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def loads(cls, text: str) -> "Schema":
        fields = json.loads(text)
        features = tuple(
            Feature(**{**feature, "levels": None if feature["levels"] is None else tuple(feature["levels"])})
            for feature in fields["features"]
        )
        return cls(**{**fields, "features": features, "classes": tuple(fields["classes"])})


def design_matrix(rows: pd.DataFrame, features: tuple[Feature, ...]) -> np.ndarray:
    """`rows` as the booster takes them, (n, features) float32. Missing, and a text not seen in training, is NaN;
    a number beyond float32 is its largest.

    KeyError names the features that `rows` lacks; other columns, and the order of columns, do not matter.
    """
    if absent := [feature.name for feature in features if feature.name not in rows]:
        raise KeyError(f"the columns {', '.join(absent)} are missing")
    matrix = np.empty((len(rows), len(features)), dtype=np.float32)
    for position, feature in enumerate(features):
        values = rows[feature.name]
        if feature.levels is None:
            numbers = pd.to_numeric(values).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
            matrix[:, position] = numbers.clip(-LARGEST, LARGEST)
        else:
            codes = pd.Categorical(values, categories=feature.levels).codes.astype(np.float32)
            matrix[:, position] = np.where(codes < 0, np.nan, codes)
    return matrix


def threads(cells: int) -> int:
    """How many threads XGBoost is to use for so many values; 0 means one for each core."""
    return 1 if cells < FEW_CELLS else 0


def feature_types(features: tuple[Feature, ...]) -> list[str]:
    """XGBoost's own names: 'c' for a category's code, 'q' for a quantity."""
    return ["q" if feature.levels is None else "c" for feature in features]


def unseen(rows: pd.DataFrame, features: tuple[Feature, ...]) -> dict[str, int]:
    """How many values of each text column were not seen in training, and so count as missing; only where there are."""
    counts = {
        feature.name: int((rows[feature.name].notna() & ~rows[feature.name].isin(feature.levels)).sum())
        for feature in features
        if feature.levels is not None
    }
    return {name: count for name, count in counts.items() if count}


class Scorer(PythonModel):
    """Rows with the table's columns by name in; `prediction`, its `probability` and all `probabilities` out."""

    booster: xgboost.Booster
    schema: Schema

    def load_context(self, context: PythonModelContext) -> None:
        self.booster = xgboost.Booster(model_file=context.artifacts["booster"])
        self.schema = Schema.loads(Path(context.artifacts["schema"]).read_text(encoding="utf-8"))

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """(n, classes) float64, each row summing to 1."""
        if rows.empty:
            return np.empty((0, len(self.schema.classes)))
        values = design_matrix(rows, self.schema.features)
        self.booster.set_param({"nthread": threads(values.size)})
        matrix = xgboost.DMatrix(
            values,
            feature_names=[feature.name for feature in self.schema.features],
            feature_types=feature_types(self.schema.features),
            enable_categorical=True,
        )
        raw = self.booster.predict(matrix).astype(np.float64)
        probabilities: np.ndarray = raw / raw.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        probabilities = self.probabilities(model_input)
        best = probabilities.argmax(axis=1)
        labels = [str(label) for label in self.schema.classes]
        return pd.DataFrame(
            {
                "prediction": [self.schema.classes[i] for i in best],
                "probability": probabilities[np.arange(len(best)), best],
                "probabilities": [dict(zip(labels, row, strict=True)) for row in probabilities.tolist()],
            },
            index=model_input.index,
        )


set_model(Scorer())  # how MLflow finds the model in this file
