"""The step `infer` on a table that changes: what it scores, keeps, marks and says, also when it is killed."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from place import PROJECT, Ended, Place, new_database, rows_of
from small import flowers

pytestmark = pytest.mark.spark

KILLED = """
import os, runpy, signal, sys
from steps.core.tables import conditional
name, when, *words = sys.argv[1:]
function = getattr(conditional, name)

def killed(*given, **named):
    if when == "after":
        function(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(conditional, name, killed)
sys.argv[1:] = words
runpy.run_module("steps", run_name="__main__", alter_sys=True)
"""
COLUMNS: dict[str, dict[str, Any]] = {
    **{"id": {"type": "long"}, "petal_length": {"type": "double"}, "petals": {"type": "long"}},
    **{"wild": {"type": "boolean"}, "color": {"type": "string"}, "species": {"type": "string"}},
}
FLOWERS = flowers(300).assign(id=range(300))[list(COLUMNS)]


def done(ended: Ended) -> Ended:
    assert ended.exit_code == 0, ended.text
    return ended


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where versions 1 and 2 of a model were trained, and the first has passed the gate."""
    base = tmp_path_factory.mktemp("infer")
    place = Place(base / "stand", {"PYTHONPATH": str(PROJECT), "TMPDIR": str(base / "tmp")})
    (base / "tmp").mkdir()
    (place.folder / "source").mkdir(parents=True)
    new_database(place.folder)
    for name, changes in {"keyed": {"key": ["id"]}, "flowers": {}}.items():
        config = place.config(
            name="flowers",
            source={"uri": "source"},
            columns=COLUMNS,
            target="species",
            model={"name": "flowers_model", "num_boost_round": 5},
            gate={"at_least": 0.5},
            **changes,
        )
        config.rename(place.folder / f"{name}.yaml")
    ingest(place, "source", FLOWERS)
    done(place.step("train", config="keyed.yaml"))
    done(place.step("evaluate", config="keyed.yaml"))
    done(place.step("train", config="keyed.yaml", num_boost_round=3))
    return place


def ingest(place: Place, lake: str, rows: pd.DataFrame) -> None:
    """In place of the rows that the table of a lake has; by default the lake is that of the models."""
    rows.to_csv(place.folder / "source" / "flowers.csv", index=False)
    where = {} if lake == "source" else {"lake": lake}
    done(place.step("ingest", config="keyed.yaml", **where))


def infer(place: Place, lake: str, *, config: str = "keyed", **given: str) -> Ended:
    return place.step("infer", config=f"{config}.yaml", lake=lake, table=f"{place.folder}/{lake}/flowers", **given)


def predictions(place: Place, lake: str) -> pa.Table:
    return rows_of(f"{place.folder}/{lake}/flowers_predictions")


def run_ids(place: Place, lake: str) -> list[int]:
    """How many rows of the table each run has scored, the most first."""
    rows = predictions(place, lake).to_pylist()
    return [count for _, count in Counter(row["run_id"] for row in rows if row["deleted_at"] is None).most_common()]


def write(place: Place, lake: str, rows: pd.DataFrame, *, mode: Any = "overwrite") -> None:
    write_deltalake(place.folder / lake / "flowers", pa.Table.from_pandas(rows, preserve_index=False), mode=mode)


@pytest.mark.parametrize("config", ["keyed", "flowers"])
def test_rows_that_changed_are_scored_again_and_rows_that_went_are_marked(trained: Place, config: str) -> None:
    """F06: nothing is to be reset by hand."""
    lake = f"replaced {config}"
    ingest(trained, lake, FLOWERS[:100])
    assert done(infer(trained, lake, config=config)).err == ""
    changed = FLOWERS[:95].copy()
    changed.loc[:4, "petal_length"] = 9.5
    ingest(trained, lake, changed)
    ended = done(infer(trained, lake, config=config))
    first = rows_of(f"{trained.folder}/{lake}/flowers_predictions", 0)["run_id"][0].as_py()
    gone = 5 if config == "keyed" else 10  # without a key, a changed row is one that went and one that came
    assert ended.err == (
        f"infer: scored 5 new or changed of 95 rows; 90 kept from flowers_predictions@v0 (run {first[:8]}); "
        f"{gone} marked as deleted\n"
    )
    assert run_ids(trained, lake) == [90, 5]
    stored = predictions(trained, lake).to_pandas()
    is_live = stored["deleted_at"].isna()
    assert (is_live.sum(), (~is_live).sum()) == (95, gone)
    assert sorted(stored.loc[is_live, "id"]) == list(range(95))
    run = next(run for run in trained.runs() if run.info.run_name == "infer")
    assert run.data.metrics == {"rows": 95, "rows_scored": 5, "rows_kept": 90, "rows_deleted": gone}
    assert run.data.tags["remarks"] == ended.err.strip()
    status = done(trained.step("main", config=f"{config}.yaml", lake=lake, dry_run="true")).out
    assert f"flowers_predictions@v1  95 rows, {gone} marked as deleted  " in status
    again = done(infer(trained, lake, config=config))
    assert again.out == ended.out
    assert again.err.startswith("infer: flowers_predictions@v1 has the predictions of all 95 rows already (run ")


def test_rows_that_were_added_are_scored_alone_until_another_model_or_mode_all(trained: Place) -> None:
    write(trained, "added", FLOWERS[:150])
    done(infer(trained, "added"))
    write(trained, "added", FLOWERS[150:162], mode="append")
    ended = done(infer(trained, "added"))
    assert ended.err.startswith("infer: scored 12 new of 162 rows; 150 kept from flowers_predictions@v0 (run ")
    assert run_ids(trained, "added") == [150, 12]
    assert set(predictions(trained, "added")["species"].to_pylist()) == set(FLOWERS["species"])
    assert done(infer(trained, "added", model="models:/flowers_model/2")).err == ""
    assert run_ids(trained, "added") == [162]
    assert done(infer(trained, "added", model="models:/flowers_model/2", mode="all")).out.endswith("_predictions@v3\n")
    assert run_ids(trained, "added") == [162]


def test_a_table_with_repeated_keys_is_refused_before_anything_is_written(trained: Place) -> None:
    write(trained, "repeated", FLOWERS[:9].assign(id=[1, 1, 2, 2, 3, 3, 4, 4, 5]))
    for _ in range(2):
        ended = infer(trained, "repeated")
        assert (ended.exit_code, ended.out) == (1, "")
        assert "TableUnfit: " in ended.err
        assert "keys of more than one row: 4, such as id 1; id 2; id 3\n" in ended.err
    assert not Path(trained.folder, "repeated", "flowers_predictions").exists()


def test_another_mode_is_refused(trained: Place) -> None:
    ended = infer(trained, "added", mode="some")
    assert ended.exit_code == 1
    assert "it cannot take: mode='some': input should be 'new' or 'all'\n" in ended.err


@pytest.fixture(scope="module")
def scored(trained: Place) -> str:
    """A lake whose table grows."""
    write(trained, "killed", FLOWERS[:20])
    done(infer(trained, "killed"))
    return "killed"


@pytest.mark.parametrize("moment", ["before stage", "after stage", "after add"])
def test_after_a_kill_the_next_run_leaves_no_row_without_a_prediction_and_none_with_two(
    trained: Place, scored: str, moment: str
) -> None:
    """F09: before the rows are written, between that and the commit, and right after it."""
    (when, name), rows = moment.split(), predictions(trained, scored).num_rows
    path = trained.folder / scored
    version = DeltaTable(path / "flowers_predictions").version()
    write(trained, scored, FLOWERS[rows : rows + 20], mode="append")
    words = ["infer", "--config=keyed.yaml", f"--lake={path}", f"--table={path}/flowers"]
    killed = trained.run(sys.executable, "-c", KILLED, name, when, *words)
    assert killed.exit_code == -signal.SIGKILL, killed.text
    assert DeltaTable(path / "flowers_predictions").version() == version + (moment == "after add")
    ended = done(infer(trained, scored))
    assert (f"has the predictions of all {rows + 20} rows already" in ended.err) == (moment == "after add")
    assert sorted(predictions(trained, scored)["id"].to_pylist()) == list(range(rows + 20))
    assert run_ids(trained, scored) == [20] * (rows // 20 + 1)
    assert "RUNNING" not in {run.info.status for run in trained.runs()}


def test_runs_of_two_models_at_once_leave_the_whole_predictions_of_each(trained: Place) -> None:
    write(trained, "both", FLOWERS[:200])
    words = [sys.executable, "-m", "steps", "infer", "--config=keyed.yaml", "--lake=both"]
    started = [
        subprocess.Popen(
            [*words, f"--model=models:/flowers_model/{number}"],
            cwd=trained.folder,
            env=trained.environment,
            stderr=subprocess.PIPE,
        )
        for number in (1, 2)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0), (b"", 0)]
    for version in (0, 1):
        stored = rows_of(f"{trained.folder}/both/flowers_predictions", version)
        assert sorted(stored["id"].to_pylist()) == list(range(200))
        assert len(stored["model_uri"].unique()) == len(stored["run_id"].unique()) == 1


def test_rows_to_predict_never_take_the_place_of_other_predictions(trained: Place) -> None:
    ingest(trained, "unlabelled", FLOWERS[:100])
    done(infer(trained, "unlabelled"))
    new = trained.folder / "new.csv"
    FLOWERS[100:130].drop(columns="species").to_csv(new, index=False)
    done(trained.step("ingest", config="keyed.yaml", lake="unlabelled", source="new.csv", labelled="false"))
    table = f"{trained.folder}/unlabelled/flowers_unlabelled"
    for _ in range(2):
        ended = done(trained.step("infer", config="keyed.yaml", lake="unlabelled", table=table))
        assert ended.out.splitlines()[-1] == f"infer: predictions = {table}_predictions@v0"
        assert sorted(rows_of(f"{table}_predictions")["id"].to_pylist()) == list(range(100, 130))
        done(infer(trained, "unlabelled"))
        assert DeltaTable(f"{trained.folder}/unlabelled/flowers_predictions").version() == 0
        assert sorted(predictions(trained, "unlabelled")["id"].to_pylist()) == list(range(100))
