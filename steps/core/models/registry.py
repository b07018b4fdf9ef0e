"""Registered models: text to one version, its files and its verdict. Reads and writes MLflow."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from steps.core.errors import ModelNotFound, ModelProtected
from steps.core.process import processes
from steps.core.tracking import artifacts, mlflow_constants, runs

VERDICT = "verdict"  # tags on a version: verdict, verdict.reasons, verdict.run_id
TABLE_IDENTITY = "table_identity"  # tag on a version, beside table_uri: which table of that URI it was trained on
BOOSTER_SHA256 = "booster_sha256"  # tag on a version
# The files of each version of this project's.
ARTIFACT_FILES = ("MLmodel", "scorer.py", "artifacts/booster.ubj", "artifacts/schema.json")


def uri_of(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def resolve(uri: str) -> ModelVersion:
    """The version that `models:/<name>/<version>` or `models:/<name>@<alias>` names now. ModelNotFound else."""
    parsed = re.fullmatch(r"models:/([^/:@\x22]+)(?:/(\d+)|@([^/@]+))", uri)
    if parsed is None:
        raise ModelNotFound(f"{uri!r} does not name a version of a model", known=_model_names())
    name, number, alias = parsed.groups()
    version = find(name, number) if number else find_alias(name, alias)
    if version is None:
        known = [uri_of(other) for other in newest(name)] + [f"models:/{name}@{other}" for other in aliases_of(name)]
        raise ModelNotFound(f"{uri} does not exist", known=known or _model_names())
    return version


def newest_uri(name: str) -> str:
    """The URI of the version registered last. ModelNotFound when there is none."""
    versions = newest(name)
    if not versions:
        raise ModelNotFound(f"model {name} has no version", known=_model_names())
    return uri_of(versions[0])


def newest(name: str, *, count: int = 10) -> list[ModelVersion]:
    """The versions that were registered last, the newest first; [] when there is no such model."""
    # MLflow's filters know no escape; a model's name has no double quote
    versions = MlflowClient().search_model_versions(
        f'name = "{name}"', max_results=count, order_by=["version_number DESC"]
    )
    return sorted(versions, key=lambda version: int(version.version), reverse=True)


def find(name: str, number: str) -> ModelVersion | None:
    if int(number) >= 2**31:  # what a version is in MLflow's stores; PostgreSQL fails on more
        return None
    try:
        return MlflowClient().get_model_version(name, number)
    except MlflowException as err:
        if err.error_code != mlflow_constants.RESOURCE_DOES_NOT_EXIST:
            raise
        return None


def find_alias(name: str, alias: str) -> ModelVersion | None:
    """The version that an alias names, None when it names none or there is no such model."""
    number = aliases_of(name).get(alias)
    return find(name, number) if number else None


def find_uri(uri: str) -> ModelVersion | None:
    """The version that `models:/<name>/<version>` named once, None when it is not there any more."""
    name, _, number = uri.removeprefix("models:/").rpartition("/")
    return find(name, number)


def all_versions(condition: str = "") -> list[ModelVersion]:
    """The versions of all models that fit a condition in MLflow's filter language."""
    return runs.all_pages(lambda token: MlflowClient().search_model_versions(condition, page_token=token))


def staleness_reason(uri: str, *, source: str, files: Mapping[str, Any] | None = None) -> str:
    """Why `models:/<name>/<version>` is not what was registered from `source`, with these files; "" when it is."""
    version = find_uri(uri)
    if version is None:
        return f"{uri} was deleted"
    if version.source != source:
        return f"{uri} was registered anew"
    kept = _files(version)
    if kept is None:
        return f"the logged model of {uri} was deleted"
    if lost := [file for file in ARTIFACT_FILES if file not in kept]:
        return f"{', '.join(lost)} of {uri} is gone"
    return artifacts.damage(files or {}, kept, of=uri)


def files(uri: str) -> artifacts.Files:
    """The files of the version that `models:/<name>/<version>` names, with what tells damaged ones."""
    return _files(resolve(uri)) or {}


def verdict_staleness(judged: str, run_id: str) -> str:
    """Why a version's verdict is not the one of this run any more; "" when it is."""
    version = find_uri(judged)
    return "" if version and version.tags.get(f"{VERDICT}.run_id") == run_id else f"{judged} was judged again since"


def lost_files(uri: str) -> list[str]:
    """Which of a version's files are not in the artifact store, which has to answer."""
    folders = (uri, f"{uri}/artifacts")
    kept = [file.path for folder in folders for file in mlflow.artifacts.list_artifacts(artifact_uri=folder)]
    return [file for file in ARTIFACT_FILES if file not in kept]


def aliases_of(name: str) -> dict[str, str]:
    """Alias to version number. Read from the model: searching versions leaves aliases out (mlflow/mlflow#9783)."""
    try:
        return {alias: str(number) for alias, number in MlflowClient().get_registered_model(name).aliases.items()}
    except MlflowException as err:
        if err.error_code != mlflow_constants.RESOURCE_DOES_NOT_EXIST:
            raise
        return {}


@contextlib.contextmanager
def changing(name: str) -> Iterator[None]:
    """In this block a server's refusal to change model `name` is ModelProtected."""
    try:
        yield
    except MlflowException as err:
        if err.error_code != mlflow_constants.PERMISSION_DENIED:
            raise
        raise ModelProtected(name, acting_user()) from err


def tag(version: ModelVersion, tags: Mapping[str, str]) -> None:
    with changing(version.name):
        for key, value in tags.items():
            MlflowClient().set_model_version_tag(version.name, version.version, key, value)


def record_verdict(version: ModelVersion, *, verdict: str, reasons: list[str], run_id: str) -> None:
    """Tag a version with the gate's verdict on it; a later verdict replaces an earlier one."""
    reasons_text = "; ".join(reasons)[: runs.TAG_CHARACTERS]
    # The verdict last: nobody goes by one whose reasons were not written any more.
    tag(version, {f"{VERDICT}.reasons": reasons_text, f"{VERDICT}.run_id": run_id, VERDICT: verdict})


def _files(version: ModelVersion) -> artifacts.Files | None:
    return artifacts.of_model(str(version.source).rpartition("/")[2])


def acting_user() -> str:
    """Who changes the registry: the user of the tracking server, else of this machine."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or processes.user()


def _model_names() -> list[str]:
    return [f"models:/{model.name}" for model in MlflowClient().search_registered_models(max_results=10)]
