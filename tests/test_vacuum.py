"""What a vacuum removes and what it must leave, as deltalake alone reads it before and after."""

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType
from mlflow import MlflowClient
from place import COLUMNS, FEATURES, Place, new_database, rows_of, version_of
from sklearn.datasets import load_iris
from small import tracked

from steps.core.models import registry
from steps.core.process import processes
from steps.core.tables import location, snapshot
from steps.core.tables.location import TableUri
from steps.core.tracking import runs
from steps.core.workflow import retention

MODEL = "models:/iris_xgboost_classifier"
DAY = 86_400
NOW = datetime.now(UTC)
HERE = processes.this_process()
GONE = HERE.rsplit(":", 2)[0] + ":1:99"  # process 1 began at another time
BEFORE = HERE.replace(HERE.split(":")[1], "an-earlier-boot")
ELSEWHERE = "elsewhere/1:a-boot:1:99"


def readable(path: str) -> dict[int, bool]:
    """Whether deltalake can read all rows of each version."""
    found = {}
    for version in range(version_of(path) + 1):
        try:
            found[version] = rows_of(path, version).num_rows > 0
        except Exception as err:  # deltalake has no type of its own for a missing file
            if "not found" not in str(err):
                raise
            found[version] = False
    return found


def files(path: str) -> set[str]:
    return {file.name for file in Path(path).rglob("*.parquet")}


def write_flowers(place: Place, rows: int) -> str:
    iris = load_iris()
    flowers = pd.DataFrame(iris.data, columns=list(FEATURES)).assign(species=iris.target_names[iris.target])
    flowers[:rows].to_csv(place.folder / f"{rows}.csv", index=False)
    return f"{rows}.csv"


def done(place: Place, name: str, **parameters: object) -> str:
    ended = place.step(name, **parameters)
    assert ended.exit_code == 0, ended.text
    return ended.out


@pytest.mark.spark
class TestEntryPoint:
    """One after the other, on a table of four versions and predictions of two."""

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, place: Place, served: dict[str, str]) -> Place:
        """v0 was trained on, v1 and v2 predicted, v3 is the newest; a second model has lost its registered version."""
        place = replace(place, extra=served)
        config = place.config(columns=COLUMNS, source={"uri": "150.csv"})
        for version, rows in enumerate((150, 149, 148, 147)):
            done(place, "ingest", config=config, source=write_flowers(place, rows))
            if version == 0:
                done(place, "train", config=config)
                done(place, "train", config=config, num_boost_round=5)
                place.client.delete_model_version("iris_xgboost_classifier", "2")
            if version in (1, 2):
                done(place, "infer", config=config, model=f"{MODEL}/1")
        data = next(Path(place.lake("iris")).rglob("*.parquet"))
        for days in (0, 2):
            stray = shutil.copy(data, data.with_name(f"part-stray-{days}.parquet"))
            os.utime(stray, (time.time() - days * DAY,) * 2)
        other = next(run for run in place.runs() if run.info.run_name == "infer")
        place.client.create_logged_model("0", name="by-hand", source_run_id=other.info.run_id)
        return place

    def test_a_table_is_made_with_properties_that_keep_its_versions_readable(self, made: Place) -> None:
        for name in ("iris", "iris_predictions"):
            properties = DeltaTable(made.lake(name)).metadata().configuration
            assert properties["delta.logRetentionDuration"] == "interval 36500 days"
            assert properties["delta.deletedFileRetentionDuration"] == "interval 36500 days"

    def test_what_is_younger_than_keep_days_stays(self, made: Place) -> None:
        before = files(made.lake("iris"))
        assert done(made, "vacuum") == "removed\n  nothing\n"
        assert files(made.lake("iris")) == before

    @pytest.mark.parametrize("given", ["-1", "1.5", "soon", "1e9", "100000"])
    def test_keep_days_is_a_whole_number_of_days(self, made: Place, given: str) -> None:
        ended = made.step("vacuum", keep_days=given)
        assert ended.exit_code == 1
        assert (
            f"ParametersInvalid: -e vacuum was given parameters that it cannot take: keep_days='{given}'" in ended.err
        )

    def test_a_lake_without_the_table_is_told(self, made: Place) -> None:
        ended = made.step("vacuum", lake="nowhere")
        assert ended.exit_code == 1
        assert ended.err.startswith(f"TableNotFound: {made.folder}/nowhere/iris is not a Delta table\n")

    def test_a_dry_run_says_what_would_go_and_removes_nothing(self, made: Place) -> None:
        before = {name: files(made.lake(name)) for name in ("iris", "iris_predictions")}
        logged = {model.model_id for model in made.client.search_logged_models(["0"])}
        ended = made.step("vacuum", keep_days=0, dry_run="true")
        assert ended.exit_code == 0, ended.text
        assert plain(made, ended.out) == GOES.format(verb="would remove")
        assert {name: files(made.lake(name)) for name in before} == before
        assert {model.model_id for model in made.client.search_logged_models(["0"])} == logged
        run = made.runs()[0]
        assert run.data.metrics == {"files_removed": 0, "bytes_removed": 0, "models_removed": 0}

    def test_a_run_removes_just_what_nothing_needs(self, made: Place) -> None:
        """v1 goes with the only predictions that were made of it; v2 stays with the newest predictions."""
        sizes = {file: file.stat().st_size for file in Path(made.lake("")).rglob("*.parquet")}
        rows = {version: rows_of(made.lake("iris"), version) for version in range(4)}
        newest = rows_of(made.lake("iris_predictions"), 1)

        ended = made.mlflow_run("vacuum", keep_days=0)

        assert ended.exit_code == 0, ended.text
        assert plain(made, ended.out) == GOES.format(verb="removed")
        assert readable(made.lake("iris")) == {0: True, 1: False, 2: True, 3: True}
        assert readable(made.lake("iris_predictions")) == {0: False, 1: True}
        assert all(rows_of(made.lake("iris"), version).equals(rows[version]) for version in (0, 2, 3))
        assert rows_of(made.lake("iris_predictions"), 1).equals(newest)
        gone = {file: size for file, size in sizes.items() if not file.exists()}
        assert len(gone) == 3
        assert [file for file in gone if file.parent.exists() and not list(file.parent.iterdir())] == []
        assert made.runs()[0].data.metrics == {
            "files_removed": 3,
            "bytes_removed": sum(gone.values()),
            "models_removed": 1,
        }
        logged = json.loads(Path(made.client.download_artifacts(made.runs()[0].info.run_id, "vacuum.json")).read_text())
        assert logged["files"] == {str(file): size for file, size in gone.items()}
        assert logged["versions"] == [made.lake("iris@v1"), made.lake("iris_predictions@v0")]

    def test_a_stray_file_stays_while_its_writer_may_be_at_work(self, made: Place) -> None:
        assert "part-stray-0.parquet" in files(made.lake("iris"))
        assert "part-stray-2.parquet" not in files(made.lake("iris"))

    def test_a_model_goes_with_its_files_and_the_registered_one_and_another_hands_stay(self, made: Place) -> None:
        (registered,) = made.client.search_model_versions("name = 'iris_xgboost_classifier'")
        left = {model.name: model.model_id for model in made.client.search_logged_models(["0"])}
        assert set(left) == {"model", "by-hand"}
        assert registered.source == f"models:/{left['model']}"
        assert len(list(made.folder.glob("mlruns/**/booster.ubj"))) == 1

    def test_a_step_that_is_given_a_removed_version_says_so_and_other_steps_go_on(self, made: Place) -> None:
        ended = made.step("train", table=made.lake("iris@v1"))
        assert ended.exit_code == 1
        assert f"TableVersionGone: {made.lake('iris@v1')}: version 1 was vacuumed: files of it are gone" in ended.err
        predicted = done(made, "infer", table=made.lake("iris@v0"), model=f"{MODEL}/1")
        assert predicted == f"infer: predictions = {made.lake('iris_predictions@v2')}\n"

    def test_status_says_which_versions_can_no_longer_be_read(self, made: Place) -> None:
        told = dict(
            re.findall(
                r"(iris(?:_predictions)?@v\d)  (no longer readable|\d+ rows)", done(made, "main", dry_run="true")
            )
        )
        unreadable = {name for name, what in told.items() if what == "no longer readable"}
        assert unreadable == {"iris@v1", "iris_predictions@v0"}

    def test_lineage_says_which_versions_can_no_longer_be_read(self, made: Place) -> None:
        told = done(made, "lineage", uri=made.lake("iris_predictions@v0")).splitlines()
        assert told[2].endswith(", its files were vacuumed")
        assert [line for line in told if line.endswith("its files were vacuumed")] == [told[2], told[9]]
        assert told[8] == f"    {made.lake('iris@v1')}"

    def test_the_second_time_there_is_nothing_left_to_remove(self, made: Place) -> None:
        """But predictions@v1, which the infer since then has replaced, and the table that only they were made of."""
        assert plain(made, done(made, "vacuum", keep_days=0, dry_run="true")) == (
            "would remove\n  LAKE/iris@v2              1 file, N bytes\n  LAKE/iris_predictions@v1  1 file, N bytes\n"
            f"kept beyond the limit\n  LAKE/iris@v0              {MODEL}/1 was trained on it\n"
        )

    def test_nothing_goes_while_a_table_that_may_need_it_cannot_be_read(self, made: Place) -> None:
        before = files(made.lake("iris"))
        log = Path(made.lake("iris_predictions"), "_delta_log")
        newest = max(log.glob("*.json"))
        kept = newest.read_text()
        newest.write_text("no JSON")
        ended = made.step("vacuum", keep_days=0)
        newest.write_text(kept)
        assert ended.exit_code == 1
        assert f"TableUnreadable: {made.lake('iris_predictions')} cannot be read: " in ended.err
        assert files(made.lake("iris")) == before

    def test_a_lake_in_a_folder_of_any_name_is_vacuumed(self, place: Place) -> None:
        folder = place.folder / "it's my `lake` é"
        config = place.config(columns=COLUMNS)
        for rows in (150, 149):
            done(place, "ingest", config=config, source=write_flowers(place, rows), lake=folder)
        done(place, "vacuum", keep_days=0, lake=folder)
        assert readable(f"{folder}/iris") == {0: False, 1: True}


GOES = (
    "{verb}\n"
    "  LAKE/iris@v1              1 file, N bytes\n"
    "  LAKE/iris                 1 file, N bytes of no version\n"
    "  LAKE/iris_predictions@v0  1 file, N bytes\n"
    "  models:/m-MODEL  not registered, of run RUN\n"
    "kept beyond the limit\n"
    f"  LAKE/iris@v0              {MODEL}/1 was trained on it\n"
    "  LAKE/iris@v2              LAKE/iris_predictions@v1 was made of it\n"
)


def plain(place: Place, text: str) -> str:
    """`text` with what differs from time to time under a name, in columns as wide as that."""
    text = text.replace(place.lake("")[:-1] if place.lake("").endswith("/") else place.lake(""), "LAKE")
    text = re.sub(r"m-[0-9a-f]{32} +", "m-MODEL  ", text)
    text = re.sub(r"of run [0-9a-f]{8}\b", "of run RUN", text)
    text = re.sub(r"[\d,]+ bytes", "N bytes", text)
    return re.sub(r"^(  LAKE\S+) +", lambda found: f"{found[1]:<26}  ", text, flags=re.MULTILINE)


class TestRetention:
    """On tables of deltalake's, whose commits are made older by hand."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _store(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with tracked(new_database(tmp_path_factory.mktemp("store"))):
            yield

    def test_a_version_stays_until_its_commit_is_as_old_as_the_limit(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", days_ago=[40, 31, 29, 0])
        assert list(plan(table).lost) == [0, 1]

    def test_the_newest_version_stays_however_old_it_is(self, tmp_path: Path) -> None:
        assert list(plan(write(tmp_path / "t", days_ago=[99, 98])).lost) == [0]

    def test_a_version_that_something_names_stays_and_the_reason_is_told(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", days_ago=[40, 40, 0])
        made = plan(table, needed={f"{table}@v0": "someone", f"{table}@v9": "x", f"{tmp_path}/u@v1": "x"})
        assert (list(made.lost), made.kept) == ([1], {0: "someone"})

    def test_a_version_is_named_by_what_it_is_however_its_table_is_spelt(self, tmp_path: Path) -> None:
        """A lake that was moved, or is mounted elsewhere, keeps what models were trained on."""
        table = write(tmp_path / "t", days_ago=[40, 40, 0])
        identity = snapshot.open(TableUri(table.path, 0)).identity
        moved = TableUri(str(tmp_path / "moved"))
        Path(table.path).rename(moved.path)
        made = plan(moved, needed={identity: "someone", f"{table}@v1": "the text of another place"})
        assert (list(made.lost), made.kept) == ([1], {0: "someone"})

    def test_files_that_a_kept_version_shares_stay(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", days_ago=[40, 40, 0], mode="append")
        made = plan(table)
        assert (made.lost, made.files) == ({}, {})

    def test_strays_stay_where_a_version_can_no_longer_be_told(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", days_ago=[40, 40, 40])
        stray = stray_file(table, days=50)
        assert plan(table).strays == [stray.name]
        DeltaTable(table.path).create_checkpoint()
        os.remove(log_entry(table, 0))
        assert plan(table).files == {}

    def test_nothing_goes_while_a_version_that_the_log_has_cannot_be_opened(self, tmp_path: Path) -> None:
        """A model may need it, and what its files are is not known."""
        table = write(tmp_path / "t", days_ago=[40, 40, 0])
        DeltaTable(table.path, version=1).create_checkpoint()
        needed = {snapshot.open(TableUri(table.path, 0)).identity: "someone"}
        assert list(plan(table, needed=needed).lost) == [1]
        entry = log_entry(table, 0)
        whole = entry.read_bytes()
        entry.write_bytes(whole[: len(whole) // 2])
        made = plan(table, needed=needed)
        assert (made.files, made.lost) == ({}, {})
        assert made.kept == {0: "it cannot be opened now, so that no file of the table is removed"}
        entry.write_bytes(whole)
        assert list(plan(table, needed=needed).lost) == [1]

    def test_files_that_are_not_data_stay(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", days_ago=[40])
        for name in ("_symlinks/a.parquet", ".a.parquet.crc", "deletion_vector_1.bin", "note.txt", "_a.parquet"):
            file = tmp_path / "t" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text("x")
            os.utime(file, (0, 0))
        assert plan(table).files == {}

    @pytest.mark.parametrize("seed", range(12))
    def test_whatever_is_removed_what_is_kept_reads_as_before(self, tmp_path: Path, seed: int) -> None:
        choose = random.Random(seed)
        modes = [choose.choice(["append", "overwrite"]) for _ in range(8)]
        table = write(tmp_path / "my t é", days_ago=[choose.choice([0, 40]) for _ in modes], mode=modes)
        needed = {f"{table}@v{version}": "someone" for version in choose.sample(range(8), k=2)}
        before = {version: sorted(rows_of(table.path, version)["n"].to_pylist()) for version in range(8)}
        made = plan(table, needed=needed)
        for name in made.files:
            Path(table.path, name).unlink()
        reads = readable(table.path)
        assert {version for version, can in reads.items() if not can} == set(made.lost)
        left = [version for version, can in reads.items() if can]
        assert {location.parse_table(uri).version for uri in needed} <= set(left)
        assert 7 in left
        for version in left:
            assert sorted(rows_of(table.path, version)["n"].to_pylist()) == before[version]

    def test_receipts_count_until_they_are_older_than_the_limit(self) -> None:
        for name, days in (("young, it's", 29), ("old", 31)):
            ran({"input.table": f"/{name}@v0", "output.predictions": f"/{name}_p@v0"}, ended_days_ago=days)
        found = retention.references(NOW - timedelta(days=30))
        assert {"/young, it's@v0", "/young, it's_p@v0"} <= set(found)
        assert not {"/old@v0", "/old_p@v0"} & set(found)
        assert re.fullmatch(r"run [0-9a-f]{8} names it", found["/young, it's@v0"])

    @pytest.mark.parametrize(
        ("process", "counts"),
        [(HERE, True), (BEFORE, True), (ELSEWHERE, True), ("", True), (GONE, False)],
        ids=["living", "before the machine was started again", "on another machine", "not known", "gone"],
    )
    def test_a_run_that_has_not_ended_counts_unless_its_process_is_known_to_be_gone(
        self, process: str, counts: bool
    ) -> None:
        """However long ago it began."""
        table = f"/working-{process}@v0"
        run_id = ran({"input.table": table, **({"process": process} if process else {})}, started_days_ago=400)
        told = retention.references(NOW).get(table)
        assert told == (f"run {run_id[:8]}, which has not ended, names it" if counts else None)

    def test_files_that_a_run_at_work_has_written_stay_however_old_they_are(self, tmp_path: Path) -> None:
        """They are in a folder of its own until it commits them."""
        table = write(tmp_path / "iris", days_ago=[40])
        run_ids = [ran({"process": process}, started_days_ago=50) for process in (ELSEWHERE, GONE)]
        _, gone = (stray_file(table, days=45, name=f"{run_id}/part-0.parquet") for run_id in run_ids)
        planned = retention.plan(str(tmp_path), "iris", limit=NOW - timedelta(days=30), experiment_id="0")
        assert planned.tables[0].strays == [str(gone.relative_to(table.path))]

    def test_a_run_that_ends_between_two_questions_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run_id = ran({"input.table": "/ending@v0", "process": HERE}, started_days_ago=1)
        after_question(1, lambda: MlflowClient().set_terminated(run_id), monkeypatch)
        assert "/ending@v0" in retention.references(NOW)

    def test_a_deleted_runs_receipt_counts_as_it_may_be_restored(self) -> None:
        MlflowClient().delete_run(ran({"input.table": "/deleted@v0"}, ended_days_ago=1))
        assert "/deleted@v0" in retention.references(NOW - timedelta(days=30))

    def test_registered_versions_of_any_model_count_whatever_their_age(self) -> None:
        client = MlflowClient()
        client.create_registered_model("other")
        for version in range(2):
            client.create_model_version("other", "file:///nowhere", tags={"table_uri": f"/trained@v{version}"})
        client.delete_model_version("other", "2")
        found = retention.references(NOW)
        assert found["/trained@v0"] == "models:/other/1 names it"
        assert "/trained@v1" not in found

    def test_a_version_with_the_same_files_is_not_said_to_be_what_a_model_was_trained_on(self, tmp_path: Path) -> None:
        """A commit that only adds a column leaves the files, by which a version is known, as they were."""
        table = write(tmp_path / "iris", days_ago=[40])
        DeltaTable(table.path).alter.add_columns([Field("colour", PrimitiveType("string"))])
        write_deltalake(table.path, pa.table({"n": [7], "colour": ["red"]}), mode="overwrite")
        trained_on = snapshot.open(TableUri(table.path, 0))
        MlflowClient().create_registered_model("of-iris")
        tags = {"table_uri": str(trained_on), "table_identity": trained_on.identity}
        MlflowClient().create_model_version("of-iris", "file:///nowhere", tags=tags)
        planned = retention.plan(str(tmp_path), "iris", limit=datetime.now(UTC), experiment_id="0").tables[0]
        assert (planned.kept, planned.lost) == (
            {
                0: "models:/of-iris/1 was trained on it",
                1: "models:/of-iris/1 was trained on v0, which has the same files",
            },
            {},
        )

    def test_predictions_of_any_name_count_for_what_they_were_made_of(self, tmp_path: Path) -> None:
        table = write(tmp_path / "p", days_ago=[40, 40], metadata=[{"table": "/a@v0"}, {"step": "infer"}])
        assert retention.sources(table.path) == {"/a@v0": f"{table}@v0 names it"}
        assert retention.sources(table.path, without=[0]) == {}

    def test_rejects_go_by_the_rule_of_predictions(self, tmp_path: Path) -> None:
        write(tmp_path / "iris", days_ago=[40])
        days = [40, 31, 29, 0]
        endings = ("_predictions", "_rejects", "_unlabelled_rejects", "_unlabelled_predictions", "_unlabelled")
        beside = [write(tmp_path / f"iris{ending}", days_ago=days) for ending in endings]
        other = write(tmp_path / "tulips_rejects", days_ago=days)
        planned = retention.plan(str(tmp_path), "iris", limit=NOW - timedelta(days=30), experiment_id="0")
        lost = {table.path: list(table.lost) for table in planned.tables}
        assert lost == {str(tmp_path / "iris"): [], **{table.path: [0, 1] for table in beside}}
        assert other.path not in lost

    def test_rejects_that_a_receipt_names_or_another_table_was_made_of_stay(self, tmp_path: Path) -> None:
        write(tmp_path / "iris", days_ago=[40])
        rejects = write(tmp_path / "iris_rejects", days_ago=[40, 40, 40, 40])
        identity = snapshot.open(TableUri(rejects.path, 0)).identity
        summary = write(tmp_path / "iris_summary", days_ago=[40], metadata=[{"rejects.identity": identity}])
        run_id = ran({"input.table": f"{rejects}@v1"}, ended_days_ago=1)
        planned = retention.plan(str(tmp_path), "iris", limit=NOW - timedelta(days=30), experiment_id="0")
        assert [(table.kept, list(table.lost)) for table in planned.tables] == [
            ({}, []),
            ({0: f"{summary}@v0 was made of it", 1: f"run {run_id[:8]} names it"}, [2]),
        ]

    def test_the_rows_that_rejects_were_made_of_stay_with_them(self, tmp_path: Path) -> None:
        table = write(tmp_path / "iris", days_ago=[40, 40, 40])
        write(
            tmp_path / "iris_rejects", days_ago=[40, 0], metadata=[{"table": f"{table}@v0"}, {"table": f"{table}@v1"}]
        )
        planned = retention.plan(str(tmp_path), "iris", limit=NOW - timedelta(days=30), experiment_id="0")
        assert list(planned.tables[0].lost) == [0]

    def test_rows_to_predict_stay_with_the_predictions_that_were_made_of_them(self, tmp_path: Path) -> None:
        write(tmp_path / "iris", days_ago=[40])
        rows = write(tmp_path / "iris_unlabelled", days_ago=[40, 40, 40])
        made_of = [{"table": f"{rows}@v0"}, {"table": f"{rows}@v1"}]
        write(tmp_path / "iris_unlabelled_predictions", days_ago=[40, 0], metadata=made_of)
        planned = retention.plan(str(tmp_path), "iris", limit=NOW - timedelta(days=30), experiment_id="0")
        lost = {table.path.rpartition("/")[2]: list(table.lost) for table in planned.tables}
        assert lost == {"iris": [], "iris_unlabelled_predictions": [0], "iris_unlabelled": [0]}

    def test_predictions_stay_for_a_table_that_was_made_of_them(self, tmp_path: Path) -> None:
        write(tmp_path / "iris", days_ago=[40])
        predictions = write(tmp_path / "iris_predictions", days_ago=[40, 40, 40])
        identity = snapshot.open(TableUri(predictions.path, 0)).identity
        summary = write(tmp_path / "iris_summary", days_ago=[40], metadata=[{"predictions.identity": identity}])
        planned = retention.plan(str(tmp_path), "iris", limit=NOW - timedelta(days=30), experiment_id="0")
        assert [(table.kept, list(table.lost)) for table in planned.tables] == [
            ({}, []),
            ({0: f"{summary}@v0 was made of it"}, [1]),
        ]

    def test_predictions_that_can_no_longer_be_read_do_not_count(self, tmp_path: Path) -> None:
        table = write(tmp_path / "p", days_ago=[40, 40], metadata=[{"table": "/a@v0"}, {"table": "/a@v1"}])
        for name in plan(table).files:
            Path(table.path, name).unlink()
        assert retention.sources(table.path) == {"/a@v1": f"{table}@v1 names it"}

    def test_a_needed_version_that_was_lost_before_is_not_said_to_be_kept(self, tmp_path: Path) -> None:
        table = write(tmp_path / "t", days_ago=[40, 40, 40])
        needed = {f"{table}@v0": "someone", f"{table}@v1": "someone"}
        assert plan(table, needed=needed).kept == {0: "someone", 1: "someone"}
        (file,) = snapshot.open(TableUri(table.path, 0)).data_files
        Path(table.path, file).unlink()
        assert plan(table, needed=needed).kept == {1: "someone"}

    def test_a_logged_model_goes_when_it_is_old_and_a_train_run_made_it_and_nothing_registered_it(self) -> None:
        client = MlflowClient()
        receipt = {"mlflow.runName": "train", "input.table": "/a@v0"}
        run_ids = {
            "old": ran(receipt, ended_days_ago=0),
            "by source": ran(receipt, ended_days_ago=0),
            "by folder": ran(receipt, ended_days_ago=0),
            "by run": ran(receipt, ended_days_ago=0),
            "not of train": ran({**receipt, "mlflow.runName": "infer"}, ended_days_ago=0),
            "not of ours": ran({"mlflow.runName": "train"}, ended_days_ago=0),
            "at work": ran(receipt, started_days_ago=0.1),
        }
        models = {name: client.create_logged_model("0", name=name, source_run_id=run) for name, run in run_ids.items()}
        client.create_registered_model("kept")
        client.create_model_version("kept", f"models:/{models['by source'].model_id}")
        client.create_model_version("kept", models["by folder"].artifact_location)
        client.create_model_version("kept", "file:///nowhere", run_id=run_ids["by run"])
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert [each.name for each in retention.unregistered_models("0", limit=later)] == ["old"]
        assert retention.unregistered_models("0", limit=later - timedelta(days=1)) == []

    @pytest.mark.parametrize("registers_after", [1, 2])
    def test_a_model_that_is_registered_between_two_questions_keeps_its_files(
        self, monkeypatch: pytest.MonkeyPatch, registers_after: int
    ) -> None:
        client, name = MlflowClient(), f"between-{registers_after}"
        run_id = ran({"mlflow.runName": "train", "input.table": "/a@v0", "process": HERE}, started_days_ago=0)
        model = client.create_logged_model("0", name=name, source_run_id=run_id)
        client.create_registered_model(name)

        def register_and_end() -> None:
            client.create_model_version(name, f"models:/{model.model_id}")
            client.set_terminated(run_id)

        after_question(registers_after, register_and_end, monkeypatch)
        found = retention.unregistered_models("0", limit=datetime.now(UTC) + timedelta(seconds=1))
        assert model.model_id not in {other.model_id for other in found}

    def test_a_model_that_was_registered_since_it_was_chosen_is_not_deleted(self) -> None:
        client, receipt = MlflowClient(), {"mlflow.runName": "train", "input.table": "/a@v0"}
        names = ("registered since", "still in no registry")
        models = [
            client.create_logged_model("0", name=name, source_run_id=ran(receipt, ended_days_ago=0)) for name in names
        ]
        client.create_registered_model("late")
        client.create_model_version("late", f"models:/{models[0].model_id}")
        assert [model.name for model in retention.delete_models(models)] == ["still in no registry"]
        left = {model.model_id for model in client.search_logged_models(["0"])}
        assert {model.model_id for model in models} & left == {models[0].model_id}


def after_question(number: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Act just after a vacuum has got the answer to its question of that number: for runs, models or versions."""
    answered = 0

    def asked[**P, T](question: Callable[P, T]) -> Callable[P, T]:
        def ask(*arguments: P.args, **settings: P.kwargs) -> T:
            nonlocal answered
            answer = question(*arguments, **settings)
            answered += 1
            if answered == number:
                act()
            return answer

        return ask

    monkeypatch.setattr(runs, "search", asked(runs.search))
    monkeypatch.setattr(registry, "all_versions", asked(registry.all_versions))
    monkeypatch.setattr(retention, "_logged_models", asked(retention._logged_models))


def write(
    path: Path,
    *,
    days_ago: list[int],
    mode: str | list[str] = "overwrite",
    metadata: list[dict[str, str]] | None = None,
) -> TableUri:
    """A table with a version for each of `days_ago`."""
    modes = [mode] * len(days_ago) if isinstance(mode, str) else mode
    path.mkdir()
    for version, days in enumerate(days_ago):
        said = json.dumps(metadata[version] if metadata else {})
        properties = CommitProperties(custom_metadata={"userMetadata": said})
        rows = pa.table({"n": [version]})
        write_deltalake(str(path), rows, mode=modes[version], commit_properties=properties)  # type: ignore[call-overload]
        entry = log_entry(TableUri(str(path)), version)
        stamp = int((time.time() - days * DAY) * 1000)
        text = entry.read_text(encoding="utf-8")
        entry.write_text(re.sub(r'("commitInfo":\{"timestamp":)\d+', rf"\g<1>{stamp}", text), encoding="utf-8")
    return TableUri(str(path))


def log_entry(table: TableUri, version: int) -> Path:
    return Path(table.path, "_delta_log", f"{version:020d}.json")


def stray_file(table: TableUri, *, days: int, name: str = "part-stray.parquet") -> Path:
    file = Path(table.path, name)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    os.utime(file, (time.time() - days * DAY,) * 2)
    return file


def plan(table: TableUri, *, needed: dict[str, str] | None = None) -> retention.TablePlan:
    """With a limit of 30 days."""
    return retention.plan_table(snapshot.open(table), limit=NOW - timedelta(days=30), needed=needed or {})


def ran(tags: dict[str, str], *, ended_days_ago: float | None = None, started_days_ago: float = 60) -> str:
    """A run with these tags; one that does not end is at work."""
    client = MlflowClient()
    run = client.create_run("0", tags=tags, start_time=int((time.time() - started_days_ago * DAY) * 1000))
    if ended_days_ago is not None:
        client.set_terminated(run.info.run_id, end_time=int((time.time() - ended_days_ago * DAY) * 1000))
    return str(run.info.run_id)
