"""Registered models: text to one version, its files and its verdict. Reads and writes MLflow."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from steps.core.errors import ModelNotFound, ModelProtected
from steps.core.process import processes
from steps.core.tracking import artifacts, mlflow_constants, runs

VERDICT = "verdict"  # tags on a version: verdict, verdict.reasons, verdict.run_id, verdict.test_rows
TEST_ROWS_DIGEST = f"{VERDICT}.test_rows_digest"  # of which rows these were
TABLE_IDENTITY = "table_identity"  # tag on a version, beside table_uri: which table of that URI it was trained on
BOOSTER_SHA256 = "booster_sha256"  # tag on a version
# In a description: above it stands what this project writes. It is a comment, which no page shows.
DESCRIPTION_LINE = (
    "\n\n<!-- Above: written by train, evaluate and promote. Your own text is kept below this line. -->\n\n"
)
# What MLflow answers when it is asked for a model or a version; the second for a name that no model can have.
NOT_THERE = (mlflow_constants.RESOURCE_DOES_NOT_EXIST, mlflow_constants.INVALID_PARAMETER_VALUE)
UNSET = (
    "let the alias name a version (`mlflow run . -e promote`, docs/how-to/promote.md; `-e evaluate` lets staging name "
    "one that passes), or pass another model"
)
DESCRIPTION_CHARACTERS = 5000  # MLflow's databases hold no more
USERS_CHARACTERS = 2000  # of these, for a user's own text
# The files of each version of this project's.
ARTIFACT_FILES = ("MLmodel", "scorer.py", "artifacts/booster.ubj", "artifacts/schema.json")


def uri_of(version: ModelVersion) -> str:
    """`models:/<name>/<version>`."""
    return f"models:/{version.name}/{version.version}"


def resolve(uri: str) -> ModelVersion:
    """The version that `models:/<name>/<version>` or `models:/<name>@<alias>` names now. ModelNotFound else."""
    parsed = re.fullmatch(r"models:/([^/:@\x22]+)(?:/(\d+)|@([^/@]+))", uri)
    if parsed is None:
        raise ModelNotFound(f"{uri!r} does not name a version of a model", known=_model_names())
    name, number, alias = parsed.groups()
    version = find(name, number) if number else find_alias(name, alias)
    if version is None:
        versions = [uri_of(other) for other in newest(name)]
        known = [*versions, *(f"models:/{name}@{other}" for other in aliases_of(name))]
        next = UNSET if alias and versions else ""
        raise ModelNotFound(f"{uri} does not exist", known=known or _model_names(), next=next)
    return version


def newest_uri(name: str) -> str:
    """The URI of the version registered last. ModelNotFound when there is none."""
    versions = newest(name)
    if not versions:
        raise ModelNotFound(f"model {name} has no version", known=_model_names())
    return uri_of(versions[0])


def newest(name: str, *, count: int = 10) -> list[ModelVersion]:
    """The versions that were registered last, the newest first; [] when there is no such model."""
    if '"' in name:  # no model of a config has one, and MLflow's filters know no escape
        return []
    versions = MlflowClient().search_model_versions(
        f'name = "{name}"', max_results=count, order_by=["version_number DESC"]
    )
    return sorted(versions, key=lambda version: int(version.version), reverse=True)


def find(name: str, number: str) -> ModelVersion | None:
    """The version of a registered model by its number, None when there is none."""
    if int(number) >= 2**31:  # what a version is in MLflow's stores; PostgreSQL fails on more
        return None
    try:
        return MlflowClient().get_model_version(name, number)
    except MlflowException as err:
        if err.error_code not in NOT_THERE:
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
    model = find_model(name)
    return {alias: str(number) for alias, number in model.aliases.items()} if model else {}


def find_model(name: str) -> RegisteredModel | None:
    """A registered model by its name, None when there is none."""
    try:
        return MlflowClient().get_registered_model(name)
    except MlflowException as err:
        if err.error_code not in NOT_THERE:
            raise
        return None


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
    """Set tags of a version. ModelProtected where the server does not let this user."""
    with changing(version.name):
        for key, value in tags.items():
            MlflowClient().set_model_version_tag(version.name, version.version, key, value)


def record_verdict(
    version: ModelVersion, *, verdict: str, reasons: list[str], run_id: str, test_rows: int, test_rows_digest: str = ""
) -> None:
    """Tag a version with the gate's verdict on it; a later verdict replaces an earlier one.

    `test_rows` is how many rows it was judged on, and the digest tells which these were: "" where it was on none.
    """
    reasons_text = "; ".join(reasons)[: runs.TAG_CHARACTERS]
    facts = {"reasons": reasons_text, "run_id": run_id, "test_rows": str(test_rows)}
    tags = {f"{VERDICT}.{name}": value for name, value in facts.items()}
    tags |= {TEST_ROWS_DIGEST: test_rows_digest} if test_rows_digest else {}
    # The verdict last: nobody goes by one whose reasons were not written any more.
    tag(version, {**tags, VERDICT: verdict})


def newest_passed(name: str, *, count: int) -> list[ModelVersion]:
    """The versions that passed the gate and were registered last, the newest first."""
    condition = f'name = "{name}" AND tags.`{VERDICT}` = "pass"'
    versions = MlflowClient().search_model_versions(condition, max_results=count, order_by=["version_number DESC"])
    return list(versions)


def doubts_of_rows(version: ModelVersion, test_rows_digest: str) -> list[str]:
    """A line where the rows with this digest have judged several versions of a model, `version` itself among them."""
    condition = f'name = "{version.name}" AND tags.`{TEST_ROWS_DIGEST}` = "{test_rows_digest}"'
    versions = {version.version, *(one.version for one in all_versions(condition))} if test_rows_digest else ()
    return [f"these test rows have judged {len(versions)} versions"] if len(versions) > 1 else []


def describe(registered: ModelVersion | RegisteredModel, text: str) -> None:
    """Let `text` be the description of a version or a model, above what a user wrote in it.

    `text` is Markdown of at most description_room() characters.
    """
    description = text + DESCRIPTION_LINE + _users_own(registered)
    if description == registered.description:
        return
    with changing(registered.name):
        if isinstance(registered, ModelVersion):
            MlflowClient().update_model_version(registered.name, registered.version, description)
        else:
            MlflowClient().update_registered_model(registered.name, description)


def description_room(registered: ModelVersion | RegisteredModel) -> int:
    """How many characters of a description are left beside a user's own."""
    return DESCRIPTION_CHARACTERS - len(_users_own(registered)) - len(DESCRIPTION_LINE)


def _users_own(registered: ModelVersion | RegisteredModel) -> str:
    """What a user wrote in a description, without what this project did."""
    before, line, after = (registered.description or "").partition(DESCRIPTION_LINE.strip())
    return (after if line else before).strip()[:USERS_CHARACTERS]


def _files(version: ModelVersion) -> artifacts.Files | None:
    return artifacts.of_model(str(version.source).rpartition("/")[2])


def acting_user() -> str:
    """Who changes the registry: the user of the tracking server, else of this machine."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or processes.user()


def _model_names() -> list[str]:
    return [f"models:/{model.name}" for model in MlflowClient().search_registered_models(max_results=10)]
