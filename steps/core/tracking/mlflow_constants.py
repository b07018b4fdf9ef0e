"""MLflow's error codes and system tags. Both are documented, but its public API has no constants for them."""

# Of MlflowException.error_code: https://mlflow.org/docs/latest/api_reference/rest-api.html
RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE"
PERMISSION_DENIED = "PERMISSION_DENIED"

# On runs: https://mlflow.org/docs/latest/ml/tracking/tracking-api/#system-tags
PARENT_RUN_ID = "mlflow.parentRunId"
ENTRY_POINT = "mlflow.project.entryPoint"
RUN_NAME = "mlflow.runName"
RUN_NOTE = "mlflow.note.content"
SOURCE_NAME = "mlflow.source.name"
GIT_COMMIT = "mlflow.source.git.commit"
USER = "mlflow.user"
