"""Compare artifacts of runs and models with what was logged: by size and, on this machine, by content."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run
from mlflow.exceptions import MlflowException

from steps.core.tracking import mlflow_constants

type Files = dict[str, dict[str, Any]]  # by name: size_bytes and sha256, None where that would be a download
# MLflow and Python write these among a model's files when it is loaded.
NOT_LOGGED = ("registered_model_meta", "__pycache__")


def of_run(run: Run) -> Files:
    """The artifacts of a run, at any depth."""
    run_id = run.info.run_id
    return _files(str(run.info.artifact_uri), lambda folder: MlflowClient().list_artifacts(run_id, folder))


def of_model(model_id: str) -> Files | None:
    """The files of a logged model, at any depth; None when the model was deleted."""
    client = MlflowClient()
    try:
        location = str(client.get_logged_model(model_id).artifact_location)
        return _files(location, lambda folder: client.list_logged_model_artifacts(model_id, folder))
    except MlflowException as err:
        if err.error_code != mlflow_constants.RESOURCE_DOES_NOT_EXIST:
            raise
        return None


def read(run: Run, name: str) -> bytes | None:
    """The content of an artifact right below a run's, None when it is not there."""
    location = str(run.info.artifact_uri)
    if root := _local_folder(location):
        return (root / name).read_bytes() if (root / name).is_file() else None
    if name not in {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(mlflow.artifacts.download_artifacts(f"{location}/{name}", dst_path=folder)).read_bytes()


def read_folder(run: Run, folder: str) -> dict[str, bytes]:
    """The contents of the artifacts right in a folder of a run's, by their names; {} when there is no such folder."""
    if not MlflowClient().list_artifacts(run.info.run_id, folder):
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        there = mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/{folder}", dst_path=scratch)
        return {path.name: path.read_bytes() for path in Path(there).iterdir() if path.is_file()}


def damage(logged: Mapping[str, Any], now: Mapping[str, Any], *, of: str) -> str:
    """What happened to files since they were logged, "" when they are the same. Other files do not matter.

    `of` names the run or model that has them, for the message.
    """
    if missing := [name for name in logged if name not in now]:
        return f"{', '.join(missing)} of {of} is gone"
    for name, file in logged.items():
        size, expected = now[name]["size_bytes"], file["size_bytes"]
        if None not in (size, expected) and size != expected:  # some stores have no sizes
            return f"{name} of {of} is damaged: {size:,} bytes, {expected:,} expected"
        if None not in (now[name]["sha256"], file["sha256"]) and now[name]["sha256"] != file["sha256"]:
            return f"{name} of {of} is damaged: its content changed"
    return ""


def _files(location: str, list_folder: Callable[[str | None], list[FileInfo]]) -> Files:
    files: Files = {}
    if root := _local_folder(location):
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            files[path.relative_to(root).as_posix()] = _size_and_digest(path)
    else:
        folders: list[str | None] = [None]
        while folders:
            for file in list_folder(folders.pop()):
                if file.is_dir:
                    folders.append(file.path)
                else:
                    files[file.path] = {"size_bytes": file.file_size, "sha256": None}
    return {name: file for name, file in files.items() if not set(NOT_LOGGED) & set(name.split("/"))}


def _local_folder(location: str) -> Path | None:
    """The folder of artifacts on this machine, None when a server has them."""
    uri = urlparse(location)
    if uri.scheme not in ("", "file"):
        return None
    return Path(url2pathname(uri.path if uri.scheme else location))


def _size_and_digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as opened:
        return {
            "size_bytes": os.fstat(opened.fileno()).st_size,
            "sha256": hashlib.file_digest(opened, "sha256").hexdigest(),
        }
