"""One version of a model as the server answers by it: loaded beside any other, and checked before it is served."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.utils import load_serving_example
from mlflow.types import Schema as MlflowSchema

from steps.core.errors import ModelUnreadable
from steps.core.models import loading, model_files, registry
from steps.core.models.scorer import Schema, Scorer
from steps.core.process import scratch
from steps.core.serving import request_body
from steps.core.serving.refusals import invalid
from steps.core.serving.request_body import Rows

logger = logging.getLogger(__name__)

type Answers = Mapping[str, list[Any]]  # the columns of predictions: prediction, probability, probabilities


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The rows of one request, of which the request log takes the features, and what `model` answers to them."""

    model: "ServedModel"
    rows: Rows
    answers: Answers

    def __len__(self) -> int:
        return len(self.answers["prediction"])

    @property
    def body(self) -> bytes:
        """The answer in MLflow's JSON: {"predictions": [{"prediction": ...}, ...]}."""
        names = list(self.answers)
        records = [dict(zip(names, row, strict=True)) for row in zip(*self.answers.values(), strict=True)]
        return orjson.dumps({"predictions": records})


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """`input_schema` is what MLflow's parser is told; `example` is a body for /invocations."""

    name: str
    version: str
    uri: str
    scorer: Scorer
    schema: Schema
    input_schema: MlflowSchema
    example: dict[str, Any]

    @cached_property
    def feature_names(self) -> frozenset[str]:
        """The names of the columns that the model looks at."""
        return frozenset(feature.name for feature in self.schema.features)

    def score_plain(self, body: bytes, kind: str, *, row_limit: int) -> Scored | None:
        """The answer to a JSON body that needs no parser of MLflow's; None where one has to look at it, or where a
        value is refused, since that one's message is the one to give."""
        columns = request_body.plain_columns(body, self.feature_names) if kind == request_body.JSON else None
        if columns is None:
            return None
        request_body.check_count(len(next(iter(columns.values()))), row_limit)
        rows = request_body.with_dates(columns, self.schema.features)
        try:
            return Scored(model=self, rows=rows, answers=self._answers(rows))
        except MlflowException:
            return None

    def score(self, body: bytes, kind: str, *, row_limit: int) -> Scored:
        """The answer to a body of this media type. Refused with 400 when it has rows that cannot be scored."""
        if scored := self.score_plain(body, kind, row_limit=row_limit):
            return scored
        features = self.schema.features
        rows = request_body.parse(body, kind, schema=self.input_schema, features=features, row_limit=row_limit)
        try:
            rows = rows if kind == request_body.CSV else request_body.with_dates(rows, features)
            return Scored(model=self, rows=rows, answers=self._answers(rows))
        except MlflowException as err:
            raise invalid(err.message) from err
        except Exception as err:  # what a client sent, whatever it is, is no error of the server
            logger.exception("a request could not be scored")
            raise invalid(f"the rows cannot be scored: {type(err).__name__}") from err

    def _answers(self, rows: Rows) -> Answers:
        # The scorer is the code that was logged with the model: that of earlier releases takes frames alone.
        answers = getattr(self.scorer, "answers", None)
        values = answers(rows) if answers else self.scorer.predict(None, pd.DataFrame(rows))
        return {name: column if isinstance(column, list) else column.tolist() for name, column in values.items()}


def load(version: ModelVersion) -> ServedModel:
    """The model of a version, which has predicted its input example. The errors of loading.load(), and ModelUnreadable
    when it does not predict it, or not the same by each way."""
    with scratch.scratch_folder("workflow-serve-") as folder:
        files = model_files.fetch(version, into=folder / "model")
        loaded = loading.load(version, folder=files)
        model = ServedModel(
            name=version.name,
            version=str(version.version),
            uri=registry.uri_of(version),
            scorer=loaded.scorer,
            schema=loaded.schema,
            input_schema=Model.load(str(files)).get_input_schema(),
            example=_example(files, loaded.schema),
        )
    _check(model)
    return model


def _example(files: Path, schema: Schema) -> dict[str, Any]:
    """The rows that were logged with the model, two at the most, else one whose values are all missing."""
    try:
        logged = json.loads(load_serving_example(str(files)), parse_constant=lambda name: None)  # NaN, as MLflow has it
        split = logged["dataframe_split"]
        records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"][:2]]
    except (OSError, MlflowException, ValueError, LookupError, TypeError):
        records = []
    return {"dataframe_records": records or [{feature.name: None for feature in schema.features}]}


def _check(model: ServedModel) -> None:
    """ModelUnreadable unless the model answers its example, with or without MLflow's parser the same."""
    body = orjson.dumps(model.example)
    rows = model.example["dataframe_records"]
    try:
        plain = model.score_plain(body, request_body.JSON, row_limit=len(rows))
        expected = model.scorer.predict(None, pd.DataFrame(rows))
    except Exception as err:  # whatever the code that was logged with the model raises
        raise _not_served(model, f"its input example is not predicted: {err}") from err
    if plain is None or len(plain) != len(rows):
        raise _not_served(model, "its input example is not predicted")
    if any(expected[name].tolist() != values for name, values in plain.answers.items()):
        raise _not_served(model, "its input example is predicted in two ways")
    if not np.isfinite(np.array(plain.answers.get("probability", [0]), dtype=float)).all():
        raise _not_served(model, "a probability of its input example is no number")


def _not_served(model: ServedModel, reason: str) -> ModelUnreadable:
    return ModelUnreadable(
        model.uri,
        reason,
        expected="a model that predicts the rows that were logged with it",
        next="look at its input_example.json in MLflow",
    )
