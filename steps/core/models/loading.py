"""The model of a registered version, loaded to score with. Not in registry.py, as importing XGBoost takes a second."""

from dataclasses import dataclass
from pathlib import Path

import xgboost
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import load_model

from steps.core.errors import ModelDamaged, ModelNotFound, ModelUnreadable
from steps.core.models import aliases, model_files, registry
from steps.core.models.scorer import FORMAT_VERSION, FormatUnknown, Schema, Scorer


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """`scorer` is of the code that was logged with the model, whose classes may be older or newer than the project's;
    `schema` is the project's own reading of what it says."""

    uri: str
    scorer: Scorer
    schema: Schema


def load(version: ModelVersion, *, folder: Path | None = None) -> LoadedModel:
    """The model of a version whose files are in `folder`, or are fetched.

    ModelDamaged when the version's files are gone or not as logged, ModelNotFound when it is not of this project.
    ModelUnreadable when the store does not say, or when the files are right and cannot be loaded here.
    """
    uri = registry.uri_of(version)
    folder = folder or model_files.fetch(version)
    schema = read_schema(folder, version)
    try:
        scorer: Scorer = load_model(str(folder)).unwrap_python_model()
    except (MlflowException, OSError, xgboost.core.XGBoostError) as err:
        raise ModelUnreadable(uri, str(err).partition("\n")[0]) from err
    finally:
        release_loaded_model()
    return LoadedModel(uri=uri, scorer=scorer, schema=schema)


def load_champion(name: str) -> tuple[LoadedModel | None, str]:
    """The version that `staging` names, and why it is lost where it is: a candidate must not wait for its repair.

    ModelUnreadable when it is not known to be lost.
    """
    version = aliases.champion(name)
    if version is None:
        deleted = aliases.deleted(name, aliases.STAGING)
        if not deleted:
            return None, ""
        return None, f"the champion models:/{name}/{deleted} was deleted, so only the baseline is compared with"
    try:
        return load(version), ""
    except ModelDamaged as err:
        uri = registry.uri_of(version)
        return None, f"the champion {uri} is lost ({err.what}), so only the baseline is compared with"


def release_loaded_model() -> None:
    """Take the last loaded model out of MLflow's own hands, which outlive XGBoost's when the process ends."""
    set_model(Scorer())


def read_schema(folder: Path, version: ModelVersion) -> Schema:
    """The schema of a version whose files are in `folder`. ModelNotFound when there is none: the version is of another
    project."""
    path, uri = folder / model_files.SCHEMA, registry.uri_of(version)
    if not path.is_file():
        raise ModelNotFound(f"{uri} was not trained by this project", known=_other_versions(version))
    try:
        return Schema.loads(path.read_text(encoding="utf-8"))
    except FormatUnknown as err:
        raise ModelUnreadable(
            uri,
            f"its {path.name} has {err}",
            expected=f"a format up to {FORMAT_VERSION}, which is what this version of the project reads",
            next="run the version of the project that trained it, or a later one",
        ) from err
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise ModelUnreadable(uri, f"its {path.name} is not as train writes it: {err!r}") from err


def _other_versions(version: ModelVersion) -> list[str]:
    others = [other for other in registry.newest(version.name) if other.version != version.version]
    return [registry.uri_of(other) for other in others] or [f"no other version of {version.name}"]
