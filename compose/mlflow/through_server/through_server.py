"""S3 behind a tracking server whose clients do not reach the object store: through-server://<bucket>.

To s3:// MLflow 3.17 answers each download with a presigned URL, at the address by which the server itself knows the
store. Outside the stack nobody does: a client that asks for an artifact retries for many minutes. This is MLflow's S3
repository without that offer, so that what is downloaded comes through the server, as what is uploaded does.
"""

from mlflow.store.artifact.artifact_repo import ArtifactRepository  # MLflow's interface for plugins
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

SCHEME = "through-server"  # the name of the entry point in pyproject.toml


class ThroughServer(ArtifactRepository):
    """MLflow's S3 repository for the bucket that the URI names, without presigned URLs."""

    def __init__(self, artifact_uri, tracking_uri=None, registry_uri=None):
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._s3 = S3ArtifactRepository(artifact_uri.replace(f"{SCHEME}://", "s3://", 1), tracking_uri, registry_uri)

    def log_artifact(self, local_file, artifact_path=None):
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir, artifact_path=None):
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path=None):
        return self._s3.list_artifacts(path)

    def delete_artifacts(self, artifact_path=None):
        self._s3.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path, local_path):
        self._s3._download_file(remote_file_path, local_path)
