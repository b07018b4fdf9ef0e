"""Several processes at once on one place: workflows from nothing, writers of one table, makers of one database."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from deltalake import DeltaTable
from mlflow.entities import Run
from place import PROJECT, Place, rows_of

from steps.core.models import aliases

pytestmark = pytest.mark.spark

MODEL = "iris_xgboost_classifier"
DEPTHS = ("2", "6")  # of the two workflows, so that their models differ
COMMITS = 20  # of each writer
WRITER = f"""
import sys
import pyarrow as pa
from steps.core.tables import commit, location, snapshot
who, path = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range({COMMITS}):
    made = f"{{who}}{{number}}"
    write = lambda folder: commit.save(pa.table({{"who": [who], "number": [number]}}), folder)
    done = commit.once(location.TableUri(path), made_of={{"made": made}}, made_by={{"run_id": made}}, write=write)
    print(done.table, made, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Both:
    """Two workflows that were started in the same second from nothing, and have ended."""

    place: Place
    texts: list[str]
    exit_codes: list[int]

    def runs(self, name: str) -> dict[str, Run]:
        """The runs of a step by the max_depth of their workflow."""
        runs = self.place.runs()
        depth = {run.info.run_id: run.data.params["max_depth"] for run in runs if run.info.run_name == "main"}
        return {depth[run.data.tags["mlflow.parentRunId"]]: run for run in runs if run.info.run_name == name}


def started(place: Place, *command: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd or place.folder,
        env=place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """`make run` twice in one checkout whose environment is made."""
    folder = tmp_path_factory.mktemp("both") / "checkout"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "mlruns", "mlflow.db", "lake")
    shutil.copytree(PROJECT, folder, ignore=left_out)
    place = Place(folder)
    command = ("make", "--assume-old=setup", "run")
    runs = [started(place, *command, f"ARGS=-P max_depth={depth}") for depth in DEPTHS]
    texts = [run.communicate(timeout=240)[0] for run in runs]
    return Both(place=place, texts=texts, exit_codes=[run.returncode for run in runs])


def test_both_workflows_end_well(both: Both) -> None:
    assert both.exit_codes == [0, 0], "\n".join(both.texts)
    assert {run.info.status for run in both.place.runs()} == {"FINISHED"}
    # The same source: an ingest that starts after the other's has ended reuses it.
    assert len(both.place.runs()) in (9, 10)


def test_equal_rows_are_ingested_once(both: Both) -> None:
    made = {run.data.tags["output.table"] for run in both.runs("ingest").values()}
    assert made == {both.place.lake("iris@v0")}
    assert len(DeltaTable(both.place.lake("iris")).history()) == 1


def test_each_workflow_hands_on_its_own_model_and_predictions(both: Both) -> None:
    models = {depth: run.data.tags["output.model"] for depth, run in both.runs("train").items()}
    assert set(models) == set(DEPTHS)
    assert sorted(models.values()) == [f"models:/{MODEL}/1", f"models:/{MODEL}/2"]
    assert {depth: run.data.tags["input.model"] for depth, run in both.runs("evaluate").items()} == models
    for run in both.runs("infer").values():
        path, _, version = run.data.tags["output.predictions"].partition("@v")
        rows = rows_of(path, int(version))
        assert rows["run_id"].unique().to_pylist() == [run.info.run_id]
        assert rows["model_uri"].unique().to_pylist() == [run.data.tags["input.model"]]
        assert rows.num_rows == 150


def test_the_champion_that_was_judged_against_is_the_one_that_was_replaced(both: Both) -> None:
    model = both.place.client.get_registered_model(MODEL)
    moves = [json.loads(model.tags[key]) for key in sorted(model.tags) if key.startswith(aliases.HISTORY)]
    assert [move["from_version"] for move in moves] == ["", *[move["to_version"] for move in moves[:-1]]]
    assert moves[-1]["to_version"] == str(model.aliases["staging"])
    judged = {run.data.tags["input.model"]: run.data.tags["input.champion"] for run in both.runs("evaluate").values()}
    for move in moves:
        champion = f"models:/{MODEL}/{move['from_version']}" if move["from_version"] else ""
        assert judged[f"models:/{MODEL}/{move['to_version']}"] == champion


def test_of_two_writers_of_one_table_each_gets_every_version_in(tmp_path: Path) -> None:
    place = Place(tmp_path, {"PYTHONPATH": str(PROJECT)})
    writers = [started(place, sys.executable, "-c", WRITER, who, tmp_path / "table") for who in ("a", "b")]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    texts = [writer.communicate("go\n", timeout=100)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], "\n".join(texts)
    said = {uri: made for line in "".join(texts).splitlines() for uri, made in [line.split()]}
    history = DeltaTable(tmp_path / "table").history()
    stored = {f"{tmp_path}/table@v{each['version']}": json.loads(each["userMetadata"])["made"] for each in history}
    assert said == stored
    assert len(said) == 2 * COMMITS


class TestDatabase:
    MAKE = (sys.executable, "-m", "steps.core.tracking.store")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(tmp_path, {"PYTHONPATH": str(PROJECT)})

    def experiments(self, place: Place) -> list[str]:
        return [experiment.name for experiment in place.client.search_experiments()]

    def test_three_that_make_it_at_once_leave_one_that_works(self, place: Place) -> None:
        makers = [started(place, *self.MAKE) for _ in range(3)]
        texts = [maker.communicate(timeout=60)[0] for maker in makers]
        assert [maker.returncode for maker in makers] == [0, 0, 0], "\n".join(texts)
        assert self.experiments(place) == ["Default"]
        assert [path.name for path in place.folder.iterdir()] == ["mlflow.db"]

    def test_one_that_was_left_half_made_is_replaced(self, place: Place) -> None:
        with contextlib.closing(sqlite3.connect(place.folder / "mlflow.db")) as database:
            database.execute("create table runs (run_uuid text)")
        assert "OperationalError" in place.mlflow_run("main").text  # MLflow alone cannot go on from it
        assert place.run(*self.MAKE).exit_code == 0
        assert self.experiments(place) == ["Default"]

    def test_one_that_is_there_stays(self, place: Place) -> None:
        assert place.run(*self.MAKE).exit_code == 0
        place.client.create_experiment("mine")
        assert place.run(*self.MAKE).exit_code == 0
        assert sorted(self.experiments(place)) == ["Default", "mine"]
