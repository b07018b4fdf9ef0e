"""Log a trained model to MLflow, in the one form that batch and REST read, and register it as a version."""

import hashlib
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
import xgboost
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Map, TensorSpec
from mlflow.types.schema import Schema as MlflowSchema

from steps.core import config
from steps.core.models import loading, model_files, registry, scorer
from steps.core.process import loaded_code

TARGET_TYPES = {str: "string", int: "long", bool: "boolean"}  # MLflow's, by the type of the labels
REQUIREMENTS = ("mlflow", "xgboost", "pandas", "numpy")  # of the model where it is loaded


def register(
    booster: xgboost.Booster,
    schema: scorer.Schema,
    *,
    example: pd.DataFrame,
    name: str,
    tags: Mapping[str, str],
    reference: str = "",
) -> ModelVersion:
    """Log the model and register it as the next version of `name`, with `tags` and the digest of its booster.

    `example` has some rows as the model takes them, `reference` says as JSON what its training rows looked like, ""
    where nobody will ask. ModelProtected when the server does not let this user do that.
    """
    content = bytes(booster.save_raw("ubj"))
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {"booster": Path(folder, "booster.ubj"), "schema": Path(folder, "schema.json")}
        artifacts["booster"].write_bytes(content)
        artifacts["schema"].write_text(schema.dumps(), encoding="utf-8")
        if reference:
            artifacts["reference"] = Path(folder, Path(model_files.REFERENCE).name)
            artifacts["reference"].write_text(reference, encoding="utf-8")
        code = Path(folder, Path(scorer.__file__).name)
        code.write_bytes(loaded_code.source_of(scorer))  # what this process runs, also when the file was edited since
        try:
            with registry.changing(name):
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(code),
                    artifacts={key: str(path) for key, path in artifacts.items()},
                    signature=signature_of(schema),
                    metadata={"input_types": {feature.name: feature.type for feature in schema.features}},
                    input_example=example.map(_as_json_has_it),
                    pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
                    registered_model_name=name,
                )
        finally:
            loading.release_loaded_model()
    registered = registry.resolve(f"models:/{name}/{logged.registered_model_version}")
    registry.tag(registered, {**tags, registry.BOOSTER_SHA256: hashlib.sha256(content).hexdigest()})
    return registered


def _as_json_has_it(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


def tags_of(settings: config.Config) -> dict[str, str]:
    """What of a config a version's tags tell."""
    digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    return {"config": settings.name, "config_sha256": digest, "task": settings.task, "target": settings.target}


def signature_of(schema: scorer.Schema) -> ModelSignature:
    """Inputs are of MLflow's type Any: of every other type it casts or refuses values before the model sees them (a
    missing boolean becomes false, int64 is no double). The model itself is strict about the types of its features,
    which are in its metadata as `input_types`. A column that may be absent is not required."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), feature.name, required=not feature.optional) for feature in schema.features
    ]
    if schema.task == "regression":
        return ModelSignature(inputs=MlflowSchema(inputs), outputs=MlflowSchema([ColSpec("double", "prediction")]))
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(TARGET_TYPES[type(schema.classes[0])], "prediction"),
        ColSpec("double", "probability"),
        ColSpec(Map("double"), "probabilities"),
    ]
    return ModelSignature(inputs=MlflowSchema(inputs), outputs=MlflowSchema(outputs))
