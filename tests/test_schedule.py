"""As a scheduler's shell task: few environment variables, a folder that is removed, and the last line handed on.

tests/cases/N27/task.sh is such a task.
"""

import re
from pathlib import Path

import pytest
from place import BIN, CASES, PROJECT, Ended, Finished, Place, new_database, rows_of

pytestmark = pytest.mark.spark

TASK = CASES / "N27" / "task.sh"
ENVIRONMENT = {"PATH": f"{BIN}:/usr/bin:/bin"}


def task(place: Place, *command: object, **variables: str) -> Ended:
    """`out` is the last line of the task's output, which the next task would be handed."""
    given = [f"{name}={value}" for name, value in {**ENVIRONMENT, **variables}.items()]
    return place.run("bash", TASK, *given, "--", *map(str, command))


def log_of(ended: Ended) -> str:
    found = re.search(r"all of it in (\S+)", ended.err)
    assert found is not None
    log = Path(found[1])
    text = log.read_text(encoding="utf-8")
    log.unlink()
    return text


def mlflow_run(entry_point: str, **parameters: str) -> tuple[object, ...]:
    given = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    return ("mlflow", "run", PROJECT, "-e", entry_point, *given, "--env-manager", "local")


def test_what_is_kept_in_a_folder_that_will_be_removed_is_told(tmp_path: Path) -> None:
    new_database(tmp_path)
    ended = task(Place(tmp_path, {"TMPDIR": str(tmp_path)}), *mlflow_run("ingest"), TMPDIR=str(tmp_path))
    assert ended.exit_code == 0, ended.text
    log = log_of(ended)
    folder = re.search(r"ingest: artifacts and models in (\S+)/mlruns/0 and runs and tables in \1 are kept", log)
    assert folder is not None
    assert not Path(folder[1]).exists()
    assert f"below the temporary folder {tmp_path}; if that is removed, give the command in a folder that stays" in log


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "stays").mkdir()
    new_database(tmp_path / "stays")
    return Place(tmp_path / "stays")


def test_tasks_in_a_folder_that_stays_hand_on_their_uris(place: Place) -> None:
    """By a file that is asked for, and by the last line where MLflow's own are turned off."""
    there, variables = f"cd '{place.folder}' && exec \"$@\"", {"MLFLOW_LOGGING_LEVEL": "CRITICAL"}
    in_folder = ("bash", "-c", there, "task")
    ended = task(place, *in_folder, *mlflow_run("ingest"), WORKFLOW_OUTPUTS="ingest.txt", **variables)
    assert ended.exit_code == 0, ended.text
    assert ended.out == f"ingest: table = {place.lake('iris@v0')}\n"
    [line] = (place.folder / "ingest.txt").read_text(encoding="utf-8").splitlines()
    assert line == f"table={place.lake('iris@v0')}"
    assert rows_of(place.lake("iris"), 0).num_rows == 150

    trained = task(place, *in_folder, *mlflow_run("train", table=line.removeprefix("table=")), **variables)
    assert trained.out == "train: model = models:/iris_xgboost_classifier/1\n"

    failed = task(place, *in_folder, *mlflow_run("ingest", source="nowhere.csv"), **variables)
    assert failed.exit_code == 1
    assert failed.out == "  next      correct source.uri in the config, or pass -P source=URI\n"
    assert f"SourceUnreadable: source {place.folder}/nowhere.csv" in log_of(failed)


def test_the_driver_writes_the_results_of_all_steps(finished: Finished, tmp_path: Path) -> None:
    """Of those that it took from an earlier workflow, too."""
    file, place = tmp_path / "all.txt", finished.place
    ended = Place(place.folder, {"WORKFLOW_OUTPUTS": str(file)}).step("main")
    assert ended.exit_code == 0, ended.text
    lines = file.read_text(encoding="utf-8").splitlines()
    results = dict(line.split("=", 1) for line in lines)
    assert {*results} == {"table", "model", "verdict", "champion", "predictions"}
    assert results["predictions"] == place.lake("iris_predictions@v0")


def test_a_file_that_cannot_be_written_is_told_before_any_work(place: Place) -> None:
    ended = Place(place.folder, {"WORKFLOW_OUTPUTS": "/nowhere/outputs.txt"}).step("ingest")
    assert ended.exit_code == 1
    assert "SettingInvalid: WORKFLOW_OUTPUTS=/nowhere/outputs.txt in the environment" in ended.text
    assert not Path(place.lake("iris")).exists()
