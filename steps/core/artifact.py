"""The model of a registered version, loaded to score with. Not in registry.py, as importing XGBoost takes a second."""

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.models import set_model
from mlflow.pyfunc import PyFuncModel, load_model

from steps.core import registry
from steps.core.scorer import Scorer


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A version with its model: `enforced` checks its input against the signature, `scorer` is what it wraps."""

    uri: str
    enforced: PyFuncModel
    scorer: Scorer


def load(version: ModelVersion) -> LoadedModel:
    enforced = load_model(registry.uri_of(version))
    scorer: Scorer = enforced.unwrap_python_model()
    let_go_of_model()
    return LoadedModel(uri=registry.uri_of(version), enforced=enforced, scorer=scorer)


def let_go_of_model() -> None:
    """Take the last loaded model out of MLflow's own hands, which outlive XGBoost's when the process ends."""
    set_model(Scorer())
