"""Rows are added to a table once for each file of the source, whoever else adds, and whenever a process dies."""

import json
import random
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder
from place import Place, rows_of
from services import HeldRequests, ObjectStore, reaching
from writers import Writer, save

from steps.core.errors import SourceIngestedMeanwhile, TableChanged, TableNotWritten, TableUnfit
from steps.core.tables import commit, location, log, snapshot
from steps.core.tables.location import TableUri

pytestmark = pytest.mark.usefixtures("own_store")

FILES = 12  # that each writer appends
# Appends the files whose numbers it is given, one after the other; says of each whether it wrote it. With a pause it
# stays between the Parquet files and the commit.
WRITER = """
import sys, time, uuid
import pyarrow as pa
from steps.core.tables import commit, location
who, path, numbers, pause = sys.argv[1:]
def write(folder):
    commit.save(pa.table({"who": [who], "number": [number]}), folder)
    if float(pause):
        print("staged", flush=True)
        time.sleep(float(pause))
print("ready", flush=True)
sys.stdin.readline()
for number in map(int, numbers.split(",")):
    made_by = {"run_id": uuid.uuid4().hex}
    done = commit.append(
        location.parse_table(path), made_of={"made": str(number)}, made_by=made_by, write=write, files=[f"f{number}"]
    )
    print(number, done.written, flush=True)
"""


@pytest.fixture
def table(tmp_path: Path) -> TableUri:
    return TableUri(f"{tmp_path}/my lake é/numbers")


def numbers(*values: int) -> pa.Table:
    return pa.table({"number": list(values)})


def append(table: TableUri, rows: pa.Table, *, run_id: str, files: Collection[str]) -> commit.Committed:
    return commit.append(table, made_of={"made": run_id}, made_by={"run_id": run_id}, write=save(rows), files=files)


def replace(table: TableUri, rows: pa.Table, *, run_id: str, files: Collection[str]) -> commit.Committed:
    return commit.once(table, made_of={"made": run_id}, made_by={"run_id": run_id}, write=save(rows), files=files)


def stored(table: TableUri, version: int | None = None) -> list[int]:
    return sorted(rows_of(table.path, version)["number"].to_pylist())


def ingested(table: TableUri) -> set[str]:
    return commit.ingested_files(snapshot.open(table))


class TestAppend:
    def test_rows_are_added_to_those_before_and_earlier_versions_stay(self, table: TableUri) -> None:
        assert str(append(table, numbers(1, 2), run_id="a", files=["x"]).table) == f"{table.path}@v0"
        assert str(append(table, numbers(2, 3), run_id="b", files=["y", "z"]).table) == f"{table.path}@v1"
        assert stored(table) == [1, 2, 2, 3]
        assert stored(table, 0) == [1, 2]
        assert ingested(table) == {"x", "y", "z"}
        assert ingested(TableUri(table.path, 0)) == {"x"}

    def test_a_file_that_is_there_is_not_even_read_though_other_commits_came_after(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])
        append(table, numbers(2), run_id="b", files=["y"])

        def write(folder: str) -> None:
            raise AssertionError("it was read again")

        again = commit.append(table, made_of={"made": "c"}, made_by={"run_id": "c"}, write=write, files=["x"])
        assert (str(again.table), again.written) == (f"{table.path}@v1", False)

    def test_what_was_staged_of_a_file_that_is_there_is_removed(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])
        with commit.staging(table, "b") as folder:
            commit.save(numbers(1), folder)
            made_by = {"run_id": "b"}
            assert not commit.append(table, made_of={}, made_by=made_by, write=lambda _: None, files=["x"]).written
        assert {path.name for path in Path(table.path).iterdir()} == {"a", "_delta_log"}

    def test_files_of_which_another_run_has_added_some_are_refused_and_nothing_stays(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])

        def write(folder: str) -> None:
            append(table, numbers(2), run_id="other", files=["y"])  # which comes first
            commit.save(numbers(2, 3), folder)

        with pytest.raises(SourceIngestedMeanwhile, match="rows of 1 of these 2 source files already"):
            commit.append(table, made_of={}, made_by={"run_id": "b"}, write=write, files=["y", "z"])
        assert stored(table) == [1, 2]
        assert ingested(table) == {"x", "y"}

    @pytest.mark.parametrize("is_there_before", [True, False])
    def test_rows_whose_keys_were_compared_with_another_version_are_not_added(
        self, table: TableUri, is_there_before: bool
    ) -> None:
        if is_there_before:
            append(table, numbers(1), run_id="a", files=["x"])
        compared_with = snapshot.open(table).identity if is_there_before else ""

        def write(folder: str) -> None:
            append(table, numbers(2), run_id="other", files=["y"])  # which comes first
            commit.save(numbers(2), folder)

        def append_checked(write: Callable[[str], None], identity: str) -> commit.Committed:
            made_by = {"run_id": "b"}
            return commit.append(table, made_of={}, made_by=made_by, write=write, files=["z"], keys_checked=identity)

        with pytest.raises(TableChanged, match="since the keys of the source's rows were compared"):
            append_checked(write, compared_with)
        assert ingested(table) == ({"x", "y"} if is_there_before else {"y"})
        assert append_checked(save(numbers(3)), snapshot.open(table).identity).written

    def test_a_replace_holds_its_own_files_and_forgets_those_before(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x", "y"])
        replace(table, numbers(2), run_id="b", files=["y", "z"])
        assert ingested(table) == {"y", "z"}
        assert append(table, numbers(1), run_id="c", files=["x"]).written
        assert not append(table, numbers(9), run_id="d", files=["z"]).written
        assert stored(table) == [1, 2]

    def test_a_table_of_whose_rows_nobody_knows_the_files_is_not_added_to(self, table: TableUri) -> None:
        commit.once(table, made_of={"made": "a"}, made_by={"run_id": "a"}, write=save(numbers(1)))
        with pytest.raises(TableUnfit, match="does not tell which source files its rows are from"):
            append(table, numbers(1), run_id="b", files=["x"])
        replace(table, numbers(2), run_id="c", files=[])  # of a source that has none
        append(table, numbers(1), run_id="d", files=["x"])
        assert stored(table) == [1, 2]

    def test_a_table_whose_files_are_gone_is_not_added_to(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])
        next(Path(table.path).rglob("*.parquet")).unlink()
        for files in (["x"], ["y"]):
            with pytest.raises(TableUnfit, match=r"its file a/part-00000.parquet is gone\n.*\n.*set `mode: replace`"):
                append(table, numbers(2), run_id="b", files=files)
        assert DeltaTable(table.path).version() == 0

    def test_ten_thousand_files_of_one_commit_are_known_and_read_at_once(self, table: TableUri) -> None:
        files = {f"{number:064x}" for number in range(10_000)}
        append(table, numbers(1), run_id="a", files=files)
        newest = snapshot.open(table)
        began = time.process_time()
        assert commit.ingested_files(newest) == files
        assert time.process_time() - began < 2

    def test_what_is_ingested_outlives_log_entries_that_a_checkpoint_replaced(self, table: TableUri) -> None:
        for number in range(5):
            append(table, numbers(number), run_id=str(number), files=[f"f{number}"])
        DeltaTable(table.path, version=3).create_checkpoint()
        for version in range(3):
            Path(log.entry(table.path, version)).unlink()
        assert ingested(table) == {f"f{number}" for number in range(5)}
        known = {f"f{n}": DeltaTable(table.path).transaction_version(f"{commit.INGESTED}f{n}") for n in range(5)}
        assert known == {f"f{number}": number for number in range(5)}
        assert not append(table, numbers(0), run_id="again", files=["f0"]).written

    def test_a_checkpoint_of_which_a_part_is_missing_is_passed_over(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])
        DeltaTable(table.path).create_checkpoint()
        whole = Path(table.path, "_delta_log", f"{0:020}.checkpoint.parquet")
        append(table, numbers(2), run_id="b", files=["y"])
        whole.rename(whole.with_name(f"{1:020}.checkpoint.{1:010}.{2:010}.parquet"))
        assert log.transactions(table.path, 1) == {f"{commit.INGESTED}x": 0, f"{commit.INGESTED}y": 1}


class TestFilesThatCount:
    def test_files_of_attempts_that_failed_are_removed_and_not_committed(self, table: TableUri) -> None:
        def write(folder: str) -> list[str]:
            commit.save(numbers(1), folder)
            Path(folder, "part-of-a-failed-attempt.parquet").write_bytes(
                Path(folder, "part-00000.parquet").read_bytes()
            )
            Path(folder, "torn.parquet").write_bytes(b"PAR1 and no end")
            Path(folder, "_temporary").mkdir()
            Path(folder, "_temporary", "0.parquet").write_bytes(b"")
            return ["part-00000.parquet"]

        commit.once(table, made_of={}, made_by={"run_id": "a"}, write=write)
        assert stored(table) == [1]
        assert [path.name for path in Path(table.path).rglob("*.parquet")] == ["part-00000.parquet"]

    def test_a_file_that_was_written_and_is_gone_is_told(self, table: TableUri) -> None:
        def write(folder: str) -> list[str]:
            commit.save(numbers(1), folder)
            return ["part-00000.parquet", "part-00001.parquet"]

        with pytest.raises(TableNotWritten, match=r"a/part-00001\.parquet was written and is gone"):
            commit.once(table, made_of={}, made_by={"run_id": "a"}, write=write)
        assert snapshot.find(table) is None


class TestRejects:
    """What is kept of rows that break the contract: raw values as they were, and the rules."""

    SCHEMA = pa.schema(
        [
            pa.field("raw", pa.map_(pa.string(), pa.string())),
            pa.field("rules", pa.list_(pa.string())),
            pa.field("file", pa.string()),
            pa.field("line", pa.int64()),
        ]
    )

    def test_lists_and_maps_come_back_as_they_were_written(self, table: TableUri) -> None:
        rows: list[dict[str, Any]] = [
            {
                "raw": [("x", "1,5"), ("é", None)],
                "rules": ["x: not a number", "é: missing"],
                "file": "a.csv",
                "line": 3,
            },
            {"raw": [], "rules": [], "file": None, "line": None},
        ]
        rejects = pa.Table.from_pylist(rows, schema=self.SCHEMA)
        commit.once(table, made_of={}, made_by={"run_id": "a"}, write=save(rejects))
        assert rows_of(table.path).cast(self.SCHEMA).to_pylist() == rows
        assert snapshot.open(table).read(["rules", "raw"]).to_pylist() == [
            {"rules": row["rules"], "raw": row["raw"]} for row in rows
        ]
        sql = "SELECT count(*) AS n FROM r WHERE array_has(rules, 'é: missing')"
        counted = QueryBuilder().register("r", DeltaTable(table.path)).execute(sql).read_all()
        assert pa.table(counted)["n"].to_pylist() == [1]

    def test_no_reject_is_a_version_with_the_same_columns(self, table: TableUri) -> None:
        commit.once(table, made_of={}, made_by={"run_id": "a"}, write=save(self.SCHEMA.empty_table()))
        assert rows_of(table.path).num_rows == 0
        assert [field.name for field in DeltaTable(table.path).schema().fields] == self.SCHEMA.names
        some = pa.Table.from_pylist([{"raw": [("x", "a")], "rules": ["r"], "file": "f", "line": 1}], schema=self.SCHEMA)
        commit.once(table, made_of={"made": "b"}, made_by={"run_id": "b"}, write=save(some))
        assert rows_of(table.path).num_rows == 1


class TestStaging:
    def test_what_is_not_committed_is_removed(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])

        def ingest() -> None:
            with commit.staging(table, "b") as folder:
                commit.save(numbers(2), folder)
                raise RuntimeError("too many rejects")

        with pytest.raises(RuntimeError, match="too many rejects"):
            ingest()
        assert len(list(Path(table.path).rglob("*.parquet"))) == 1

    def test_what_is_committed_stays(self, table: TableUri) -> None:
        with commit.staging(table, "a") as folder:
            commit.save(numbers(1), folder)
            commit.append(table, made_of={}, made_by={"run_id": "a"}, write=lambda _: None, files=["x"])
        assert stored(table) == [1]

    def test_files_of_a_commit_that_may_come_yet_stay(self, table: TableUri) -> None:
        append(table, numbers(1), run_id="a", files=["x"])
        Path(log.entry(table.path, 1)).mkdir()  # in the way of the next entry

        def ingest() -> None:
            with commit.staging(table, "b") as folder:
                commit.save(numbers(2), folder)
                commit.append(table, made_of={}, made_by={"run_id": "b"}, write=lambda _: None, files=["y"])

        with pytest.raises(TableNotWritten, match="could not be written"):
            ingest()
        assert len(list(Path(table.path).rglob("*.parquet"))) == 2


def writer_of(place: Place, who: str, path: str, files: Collection[int], *, pause: float = 0) -> Writer:
    return Writer(place, WRITER, who, path, ",".join(map(str, files)), pause)


class TestSeveralProcesses:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(tmp_path)

    def test_of_two_that_append_the_same_files_one_lands_each(self, place: Place, table: TableUri) -> None:
        writers = [writer_of(place, who, table.path, range(FILES)) for who in "ab"]
        for writer in writers:
            writer.begin()
        written = [writer.written() for writer in writers]
        assert stored(table) == list(range(FILES))
        assert sorted(written[0] + written[1]) == list(range(FILES))
        assert DeltaTable(table.path).version() == FILES - 1

    def test_of_two_that_append_different_files_all_land(self, place: Place, table: TableUri) -> None:
        files = {"a": range(FILES), "b": range(FILES, 2 * FILES)}
        writers = {who: writer_of(place, who, table.path, own) for who, own in files.items()}
        for writer in writers.values():
            writer.begin()
        assert {who: writer.written() for who, writer in writers.items()} == {who: [*own] for who, own in files.items()}
        assert stored(table) == list(range(2 * FILES))
        assert ingested(table) == {f"f{number}" for number in range(2 * FILES)}

    def test_one_that_is_killed_before_its_commit_has_added_nothing(self, place: Place, table: TableUri) -> None:
        append(table, numbers(0).append_column("who", pa.array(["z"])), run_id="z", files=["f0"])
        killed = writer_of(place, "a", table.path, [1], pause=60)
        killed.begin()
        assert killed.line() == "staged"
        killed.kill()
        assert stored(table) == [0]
        again = writer_of(place, "a", table.path, [1])
        again.begin()
        assert again.written() == [1]
        assert stored(table) == [0, 1]

    def test_whenever_it_is_killed_each_file_is_there_once_in_the_end(self, place: Place, table: TableUri) -> None:
        choose = random.Random(12)
        for _ in range(4):
            writer = writer_of(place, "a", table.path, range(FILES))
            writer.begin()
            for _ in range(choose.randrange(4)):
                writer.line()
            time.sleep(choose.random() / 50)
            writer.kill()
        last = writer_of(place, "a", table.path, range(FILES))
        last.begin()
        last.written()
        assert stored(table) == list(range(FILES))
        history = DeltaTable(table.path).history()
        assert sorted(json.loads(each["userMetadata"])["made"] for each in history) == sorted(map(str, range(FILES)))


def test_in_an_object_store_a_commit_whose_answer_is_lost_is_not_made_twice(store: ObjectStore, tmp_path: Path) -> None:
    path = "s3://delta/append/unheard"
    with HeldRequests(store.port, name=r"/append/unheard/_delta_log/\d+\.json", lose_answers=True) as proxy:
        there = Place(tmp_path, {**store.settings, "MLFLOW_S3_ENDPOINT_URL": proxy.url})
        writer = writer_of(there, "a", path, [0, 1])
        proxy.hold()
        writer.begin()
        proxy.wait_for_request()
        proxy.release()
        assert writer.written() == [0, 1]
    rows = rows_of(path, options=store.deltalake_options)
    assert sorted(rows["number"].to_pylist()) == [0, 1]


def test_in_an_object_store_leftovers_are_removed_and_checkpoints_read(store: ObjectStore) -> None:
    def write(folder: str) -> list[str]:
        commit.save(numbers(1), folder)
        key = f"{folder.removeprefix('s3://delta/')}/torn.parquet"
        store.client().put_object(Bucket="delta", Key=key, Body=b"PAR1")
        return ["part-00000.parquet"]

    with reaching(store):
        table = location.parse_table("s3://delta/leftovers")
        commit.append(table, made_of={}, made_by={"run_id": "a"}, write=write, files=["x"])
        DeltaTable(table.path, storage_options=store.deltalake_options).create_checkpoint()
        append(table, numbers(2), run_id="b", files=["y"])
        assert [name for name in store.names("delta", "leftovers/") if "torn" in name] == []
        assert ingested(table) == {"x", "y"}
