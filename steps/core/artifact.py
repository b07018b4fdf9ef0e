"""The model of a registered version, loaded to score with. Not in registry.py, as importing XGBoost takes a second."""

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import load_model

from steps.core import lean_xgboost as lean_xgboost  # before XGBoost is imported by scorer
from steps.core import registry
from steps.core.errors import ModelNotFound
from steps.core.scorer import Scorer


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    uri: str
    scorer: Scorer


def load(version: ModelVersion) -> LoadedModel:
    """ModelNotFound when the version's files are gone, or are not those of a model of this project."""
    uri = registry.uri_of(version)
    try:
        scorer: Scorer = load_model(uri).unwrap_python_model()
    except (MlflowException, OSError) as err:
        lost = registry.what_is_gone(uri, source=str(version.source))
        raise ModelNotFound(f"{uri} cannot be loaded: {lost or err}", known=_others(version)) from err
    finally:
        let_go_of_model()
    if not hasattr(scorer, "schema"):
        raise ModelNotFound(f"{uri} was not trained by this project", known=_others(version))
    return LoadedModel(uri=uri, scorer=scorer)


def let_go_of_model() -> None:
    """Take the last loaded model out of MLflow's own hands, which outlive XGBoost's when the process ends."""
    set_model(Scorer())


def _others(version: ModelVersion) -> list[str]:
    found = [registry.uri_of(each) for each in registry.newest(version.name) if each.version != version.version]
    return found or [f"no other version of {version.name}"]
