"""The project's code, for workers that have no copy of it."""

import tempfile
import zipfile
from pathlib import Path

from pyspark.sql import SparkSession

from steps.core.config import PROJECT
from steps.core.spark import connect_server


def send(session: SparkSession) -> None:
    """Let the workers of `session` import the project. Those of the workflow's own Spark can do that already."""
    if connect_server.is_own():
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "tabular_workflow.zip")
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted((PROJECT / "steps").rglob("*")):
                if path.suffix in (".py", ".j2"):
                    file.write(path, path.relative_to(PROJECT))
        session.addArtifacts(str(archive), pyfile=True)
