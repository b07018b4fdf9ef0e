"""What stands here in place of names that MLflow keeps in private modules is what MLflow means."""

import pytest
from mlflow.protos import databricks_pb2
from mlflow.utils import mlflow_tags
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from steps.core.tracking import artifacts, mlflow_constants

ERROR_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED")
TAGS = {
    "PARENT_RUN_ID": mlflow_tags.MLFLOW_PARENT_RUN_ID,
    "ENTRY_POINT": mlflow_tags.MLFLOW_PROJECT_ENTRY_POINT,
    "RUN_NAME": mlflow_tags.MLFLOW_RUN_NAME,
    "RUN_NOTE": mlflow_tags.MLFLOW_RUN_NOTE,
    "SOURCE_NAME": mlflow_tags.MLFLOW_SOURCE_NAME,
    "GIT_COMMIT": mlflow_tags.MLFLOW_GIT_COMMIT,
    "USER": mlflow_tags.MLFLOW_USER,
}


def test_every_name_is_mlflows() -> None:
    expected = {name: databricks_pb2.ErrorCode.Name(getattr(databricks_pb2, name)) for name in ERROR_CODES} | TAGS
    assert {name: value for name, value in vars(mlflow_constants).items() if name.isupper()} == expected


@pytest.mark.parametrize(
    "location",
    [
        "/stand/mlruns/0/1a/artifacts",
        "/my project é/mlruns #1/0?/artifacts",
        "file:///stand/mlruns/0",
        "file:///my%20project/mlruns",
        "file://localhost/stand/mlruns",
        "mlruns/0",
        "mlflow-artifacts:/0/1a/artifacts",
        "s3://bucket/0/1a/artifacts",
        "http://localhost/artifacts",
    ],
)
def test_artifacts_on_this_machine_are_found_where_mlflow_finds_them(location: str) -> None:
    is_local = is_local_uri(location, is_tracking_or_registry_uri=False)
    folder = artifacts._local_folder(location)
    assert (None if folder is None else str(folder)) == (local_file_uri_to_path(location) if is_local else None)
