"""What a model answers on rows of a table that may have changed since it was trained."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from steps.core.metrics import Labels, Task
from steps.core.models import loading, retyped
from steps.core.models.scorer import Feature

FROM_TEXT = ("double", "long", "boolean")  # types of features whose values text can hold exactly


@dataclass(frozen=True, kw_only=True)
class Answers:
    """`output` has the probabilities (n, classes) of the model's own `classes`, or of a regression what it predicts,
    (n,); None where `obstacle` says why it cannot answer."""

    name: str
    classes: Labels
    output: np.ndarray | None
    obstacle: str = ""

    def of(self, classes: Labels) -> np.ndarray:
        """The output, of a classification for these `classes`: the probability of one that the model never knew is 0,
        so each row of it is a mistake."""
        assert self.output is not None
        if not self.classes:
            return self.output
        position = {str(label): code for code, label in enumerate(classes)}
        probabilities = np.zeros((len(self.output), len(classes)))
        probabilities[:, [position[str(label)] for label in self.classes]] = self.output
        return probabilities


def answers_of(
    model: loading.LoadedModel, rows: pd.DataFrame, *, target: str, task: Task, is_judged: bool = False
) -> Answers:
    """The answers of `model` on `rows`, or what keeps it from answering: all columns that it lacks, or a value that is
    none of its type. Text that stands where an earlier model had numbers is read as them; the version that `is_judged`
    has to take the rows as they are."""
    obstacle, schema = _obstacle(model, rows, target=target, task=task), model.schema
    output = None
    if not obstacle:
        try:
            taken = rows if is_judged else _as_trained_on(rows, schema.features)
            output = model.scorer.values(taken) if task == "regression" else model.scorer.probabilities(taken)
        except MlflowException as err:  # a column has another type than this model was trained on
            obstacle = f"the test part, {err.message}"
    return Answers(name=model.uri, classes=schema.classes, output=output, obstacle=obstacle)


def all_classes(known: Labels, others: Labels) -> Labels:
    """The classes that a model knows, and then those that only others do, or rows have. Labels that are written the
    same are the same, as the target may have had another type."""
    of_others = {str(label): label for label in others}
    of_model = {str(label): label for label in known}
    unseen = sorted(name for name in of_others if name not in of_model)
    return [*(of_others.get(name, label) for name, label in of_model.items()), *(of_others[name] for name in unseen)]


def _obstacle(model: loading.LoadedModel, rows: pd.DataFrame, *, target: str, task: Task) -> str:
    schema = model.schema
    if (schema.task, schema.target) != (task, target):
        return f"it is a {schema.task} of {schema.target}, the config asks for a {task} of {target}"
    needed = [feature.name for feature in schema.features if not feature.optional]
    absent = [f"the table has no column {name}" for name in needed if name not in rows]
    if absent or task == "regression":
        return " and ".join(absent)
    if not {str(label) for label in schema.classes} & {str(label) for label in rows[target].unique()}:
        return f"the test part has none of its classes of {target}, {', '.join(map(str, schema.classes[:5]))}"
    return ""


def _as_trained_on(rows: pd.DataFrame, features: Iterable[Feature]) -> pd.DataFrame:
    """`rows` with text as numbers or booleans in the columns where a model had these, where all of it tells them."""
    converted = {}
    for feature in features:
        if feature.name not in rows:  # an optional one
            continue
        values = rows[feature.name]
        if feature.type in FROM_TEXT and pd.api.types.infer_dtype(values, skipna=True) == "string":
            values, known = retyped.as_type(values, feature.type)
            if known.all():
                converted[feature.name] = values
    return rows.assign(**converted)
