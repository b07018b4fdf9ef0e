"""Small real things that several test files need: a config, a table of flowers, a trained model, a tracking store."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml
from hypothesis import settings
from place import new_database

from steps.core import config
from steps.core.models import artifact_check, judged_rows, loading, scorer, split, training

xgboost.set_config(nthread=1)  # threads that wait for a core that others use take a hundred times as long
QUICK = settings(deadline=None, max_examples=60)  # the machine may be shared: no time limit for one example
TABLE = "/lake/flowers@v3"
FLOWERS: dict[str, Any] = {
    "name": "flowers",
    "source": {"uri": "flowers.csv"},
    "columns": {
        "petal_length": {"type": "double"},
        "petals": {"type": "long"},
        "wild": {"type": "boolean"},
        "color": {"type": "string"},
        "species": {"type": "string"},
    },
    "target": "species",
    "model": {"name": "flowers_model", "num_boost_round": 30, "max_depth": 3, "early_stopping_rounds": 5},
}


OF_EVERY_TYPE: dict[str, dict[str, Any]] = {  # columns of flowers with a day and a moment
    "petal_length": {"type": "double"},
    "petals": {"type": "long", "categorical": True},
    "wild": {"type": "boolean"},
    "color": {"type": "string", "nullable": True},
    "day": {"type": "date"},
    "at": {"type": "timestamp"},
    "species": {"type": "string"},
}


def flowers_config(**changes: Any) -> config.Config:
    return config.Config.model_validate({**FLOWERS, **changes})


def flowers(rows: int = 400, *, seed: int = 1) -> pd.DataFrame:
    """Flowers whose species follows from length and color, mostly; some features are missing."""
    random = np.random.default_rng(seed)
    length = random.normal(4, 2, rows)
    color = random.choice(["blue", "red", "white"], rows)
    score = length + 3 * (color == "red") + random.normal(0, 0.3, rows)
    species = np.select([score < 3.5, score < 6], ["setosa", "versicolor"], "virginica")
    return pd.DataFrame(
        {
            "petal_length": np.where(random.random(rows) < 0.1, np.nan, length),
            "petals": random.integers(3, 9, rows),
            "wild": random.random(rows) < 0.5,
            "color": pd.Series(color, dtype=object).mask(random.random(rows) < 0.1, None),
            "species": species.astype(object),
        }
    )


def flower_parts(settings: config.Config | None = None) -> split.Parts:
    return split.split(flowers(), split.settings_of(settings or flowers_config()))


def judged_parts(
    rows: pd.DataFrame, settings: config.Config, *, model: loading.LoadedModel | None = None
) -> split.Parts:
    """What evaluate judges `model` on in a table of these rows."""
    columns = list(rows.columns)
    split_settings = judged_rows.split_to_judge_by(columns, settings, model)
    return judged_rows.select([rows], settings, split_settings, table_uri="t", columns=columns).parts


def model_of(booster: xgboost.Booster, schema: scorer.Schema) -> scorer.Scorer:
    model = scorer.Scorer()
    model.booster, model.schema = booster, schema
    return model


def fit(settings: config.Config, parts: split.Parts) -> scorer.Scorer:
    rows = pd.concat([parts.train, parts.validation, parts.test])
    split_settings = split.with_boundaries(split.settings_of(settings), rows)
    schema = training.learn_schema(parts, settings, split_settings=split_settings, table_uri=TABLE)
    return model_of(training.fit_booster(parts, schema, model=settings.model).booster, schema)


@cache
def flowers_model() -> scorer.Scorer:
    return fit(flowers_config(), flower_parts())


def loaded(model: scorer.Scorer, uri: str = "models:/flowers_model/1") -> loading.LoadedModel:
    """`model` as if it came from the registry."""
    return loading.LoadedModel(uri=uri, scorer=model, schema=model.schema)


@contextlib.contextmanager
def tracked(uri: str) -> Iterator[str]:
    """MLflow on `uri`, and as it was afterwards."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield uri
    finally:
        mlflow.set_tracking_uri(cast(str, before))  # None means MLflow's default again


@contextlib.contextmanager
def flowers_home(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Steps called from this process work in `folder`, which has `settings` as flowers.yaml and a store of its own."""
    (folder / "flowers.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder), tracked(new_database(folder)):
        without_artifact_check(patch, folder)
        yield


def without_artifact_check(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """The process in which evaluate loads a version takes seconds: tests/test_artifact_check.py has it."""
    program = folder / "passes.py"
    program.write_text("""print('{"inputs": [], "example": 3}')""")
    patch.setattr(artifact_check, "PROGRAM", program)


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"
