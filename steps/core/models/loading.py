"""The model of a registered version, loaded to score with. Not in registry.py, as importing XGBoost takes a second."""

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import load_model

from steps.core.errors import ModelNotFound, ModelUnreadable
from steps.core.models import lean_xgboost as lean_xgboost  # before XGBoost is imported by scorer
from steps.core.models import registry, version_files
from steps.core.models.lean_xgboost import xgboost
from steps.core.models.scorer import Scorer


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    uri: str
    scorer: Scorer


def load(version: ModelVersion) -> LoadedModel:
    """ModelDamaged when the version's files are gone or not as logged, ModelNotFound when it is not of this project.

    ModelUnreadable when that cannot be told, or when the files are right and cannot be loaded here.
    """
    uri = registry.uri_of(version)
    folder = version_files.fetch(version)
    try:
        scorer: Scorer = load_model(str(folder)).unwrap_python_model()
    except (MlflowException, OSError, xgboost.core.XGBoostError) as err:
        raise ModelUnreadable(uri, str(err).partition("\n")[0]) from err
    finally:
        release_loaded_model()
    if not hasattr(scorer, "schema"):
        raise ModelNotFound(f"{uri} was not trained by this project", known=_others(version))
    return LoadedModel(uri=uri, scorer=scorer)


def release_loaded_model() -> None:
    """Take the last loaded model out of MLflow's own hands, which outlive XGBoost's when the process ends."""
    set_model(Scorer())


def _others(version: ModelVersion) -> list[str]:
    found = [registry.uri_of(each) for each in registry.newest(version.name) if each.version != version.version]
    return found or [f"no other version of {version.name}"]
