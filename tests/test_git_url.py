"""`mlflow run <git URL>`: the project in a temporary clone, everything that it makes where the user stands."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import PROJECT, Place, new_database

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"


def git(*words: str | Path, cwd: Path) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository whose tag v1.0 and branch release/1 are this project's working tree, committed or not."""
    tmp_path = tmp_path_factory.mktemp("repository")
    tree, bare = tmp_path / "tree", tmp_path / "served" / "project"
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=PROJECT).rstrip("\0").split("\0")
    for name in names:
        if (PROJECT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tree / name)
    git("init", "--quiet", "--initial-branch=main", cwd=tree)
    git("add", "--all", cwd=tree)
    git("commit", "--quiet", "--message=working tree", cwd=tree)
    git("tag", "v1.0", cwd=tree)
    git("branch", "release/1", cwd=tree)
    for name in ("MLproject", "main.py"):  # the newest commit is one that cannot run
        (tree / name).unlink()
    git("commit", "--quiet", "--all", "--message=without a project", cwd=tree)
    git("clone", "--quiet", "--bare", tree, bare, cwd=tmp_path)
    return bare


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    """Where a git daemon on a free port of the loopback interface serves the repository."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--listen=127.0.0.1", f"--port={port}", "--reuseaddr", f"--base-path={repository.parent}", "--export-all"]
    program = Path(git("--exec-path", cwd=repository)) / "git-daemon"  # `git daemon` would be its parent, in the way
    daemon = subprocess.Popen([program, *where, str(repository.parent)])
    try:
        for _ in range(100):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"git://127.0.0.1:{port}/project"
    finally:
        daemon.terminate()
        daemon.wait()


def test_a_workflow_from_a_git_url_leaves_its_results_where_the_user_stands_and_reuses_them(
    tmp_path: Path, repository: Path, url: str
) -> None:
    folder = tmp_path / "stand"
    folder.mkdir()
    place = Place(folder)
    new_database(folder)
    ended = place.mlflow_run("main", project=url, at="v1.0")
    assert ended.exit_code == 0, ended.text
    assert {entry.name for entry in folder.iterdir()} == {"mlflow.db", "mlruns", "lake"}
    assert {entry.name for entry in (folder / "lake").iterdir()} == {"iris", "iris_predictions"}
    commit = git("rev-parse", "v1.0", cwd=repository)
    version = place.client.get_model_version(MODEL, "1")
    assert version.tags["git_commit"] == commit
    assert version.tags["table_uri"] == place.lake("iris@v0")
    assert {run.info.status for run in place.runs()} == {"FINISHED"}

    again = place.mlflow_run("main", project=url, at="release/1")  # another name, another clone: the same code
    assert again.exit_code == 0, again.text
    assert again.out.count("reused, run ") == 4


def test_a_token_in_the_url_is_kept_nowhere(tmp_path: Path, url: str) -> None:
    """The address that git is given holds a user and a token, and leads to the daemon."""
    base = url.removesuffix("project")
    settings = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{base}.insteadOf"}
    new_database(tmp_path)
    place = Place(tmp_path, {**settings, "GIT_CONFIG_VALUE_0": "https://ada:t0ken-9d1c@example.org/"})
    ended = place.mlflow_run("status", project="https://ada:t0ken-9d1c@example.org/project", at="v1.0")
    assert ended.exit_code == 0, ended.text
    run = place.runs()[0]
    assert run.data.tags["mlflow.source.name"] == "https://example.org/project"
    planned = Path(place.client.download_artifacts(run.info.run_id, "workflow.json")).read_text()
    assert "mlflow run https://example.org/project -v " in planned
    left = [path for path in tmp_path.rglob("*") if path.is_file() and b"t0ken-9d1c" in path.read_bytes()]
    assert left == []


def test_a_commit_without_the_project_is_told_before_anything_is_made(tmp_path: Path, url: str) -> None:
    new_database(tmp_path)
    ended = Place(tmp_path).mlflow_run("main", project=url)
    assert ended.exit_code == 1
    assert "Could not find main among entry points []" in ended.text
    assert not (tmp_path / "lake").exists()
