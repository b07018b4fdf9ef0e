"""A table's versions are committed one after another, each whole and none lost, whoever else writes the table."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from place import Place, rows_of
from services import HeldRequests, ObjectStore
from writers import Writer, save

from steps.core.errors import TableNotWritten, TableUnfit, TableUnreadable
from steps.core.tables import commit, location, snapshot

pytestmark = pytest.mark.usefixtures("own_store")

COMMITS = 10  # of each of two writers, and of the late one
WRITER = """
import sys
import pyarrow as pa
from steps.core.tables import commit, location, snapshot
who, path = sys.argv[1:]
table = location.parse_table(path)
print("ready", flush=True)
for line in sys.stdin:
    name = f"{who}-{line.strip()}"
    rows = pa.table({"who": [name]})
    save = lambda folder: commit.save(rows, folder)
    done = commit.once(table, made_of={"made": name}, made_by={"run_id": name}, write=save)
    print(done.table.version, done.written, flush=True)
"""


def numbers(*values: int) -> pa.Table:
    return pa.table({"number": list(values)})


def once(table: location.TableUri, rows: pa.Table, *, run_id: str, **made_of: str) -> commit.Committed:
    return commit.once(table, made_of=made_of or {"made": run_id}, made_by={"run_id": run_id}, write=save(rows))


def parquet_files(table: location.TableUri) -> list[str]:
    return sorted(path.relative_to(table.path).as_posix() for path in Path(table.path).rglob("*.parquet"))


class TestATableInAFolder:
    @pytest.fixture
    def table(self, tmp_path: Path) -> location.TableUri:
        return location.TableUri(f"{tmp_path}/my lake é/numbers")

    def test_rows_become_the_newest_version_in_place_of_the_rows_before(self, table: location.TableUri) -> None:
        assert str(once(table, numbers(1, 2), run_id="a").table) == f"{table.path}@v0"
        other = pa.table({"number": [1.5], "text": ["é"]})
        assert str(once(table, other, run_id="b").table) == f"{table.path}@v1"
        assert rows_of(table.path).to_pylist() == other.to_pylist()
        assert rows_of(table.path, 0).to_pylist() == numbers(1, 2).to_pylist()

    def test_what_the_newest_version_is_made_of_is_not_written_again(self, table: location.TableUri) -> None:
        once(table, numbers(1), run_id="a", source="x")
        again = once(table, numbers(1), run_id="b", source="x")
        assert (str(again.table), again.written) == (f"{table.path}@v0", False)
        assert len(parquet_files(table)) == 1

    def test_one_that_lost_a_file_is_written_again(self, table: location.TableUri) -> None:
        once(table, numbers(1), run_id="a", source="x")
        Path(table.path, parquet_files(table)[0]).unlink()
        assert once(table, numbers(1), run_id="b", source="x").written
        assert rows_of(table.path).to_pylist() == numbers(1).to_pylist()

    def test_a_version_tells_how_many_rows_it_has_and_between_what(self, table: location.TableUri) -> None:
        once(table, numbers(3, 7, 5), run_id="a")
        (file,) = pa.table(DeltaTable(table.path).get_add_actions(flatten=True)).to_pylist()
        assert (file["num_records"], file["min.number"], file["max.number"]) == (3, 3, 7)

    def test_no_row_at_all_is_a_version_too(self, table: location.TableUri) -> None:
        once(table, numbers(1).slice(1), run_id="a")
        assert (rows_of(table.path).num_rows, snapshot.open(table).row_count) == (0, 0)

    def test_nothing_is_left_of_a_write_that_failed(self, table: location.TableUri) -> None:
        once(table, numbers(1), run_id="a")

        def write(folder: str) -> None:
            commit.save(numbers(2), folder)
            raise RuntimeError("in its midst")

        with pytest.raises(RuntimeError, match="in its midst"):
            commit.once(table, made_of={"made": "b"}, made_by={"run_id": "b"}, write=write)
        assert DeltaTable(table.path).version() == 0
        assert len(parquet_files(table)) == 1

    def test_a_type_that_not_every_reader_takes_is_refused_before_the_commit(self, table: location.TableUri) -> None:
        local = pa.table({"number": [1], "at": pa.array([[0]], pa.list_(pa.timestamp("us")))})
        with pytest.raises(TableUnfit, match="column 'at' would be of type timestamp_ntz"):
            once(table, local, run_id="a")
        assert snapshot.find(table) is None
        assert parquet_files(table) == []

    def test_files_are_as_private_as_their_writers_others(self, table: location.TableUri) -> None:
        before = os.umask(0o077)
        try:
            once(table, numbers(1), run_id="a")
        finally:
            os.umask(before)
        open_to_others = [path for path in Path(table.path).rglob("*") if path.stat().st_mode & 0o077]
        assert open_to_others == []

    def test_a_log_that_takes_no_entry_is_told_and_the_files_stay_as_the_commit_may_come_yet(
        self, table: location.TableUri
    ) -> None:
        once(table, numbers(1), run_id="a")
        Path(table.path, "_delta_log", f"{1:020}.json").mkdir()  # in the way of the next entry
        with pytest.raises(TableNotWritten, match="numbers could not be written; its newest version is the one from"):
            once(table, numbers(2), run_id="b")
        assert rows_of(table.path).to_pylist() == numbers(1).to_pylist()
        assert len(parquet_files(table)) == 2

    def test_versions_put_back_from_a_backup_are_not_those_that_come_after(self, table: location.TableUri) -> None:
        once(table, numbers(1), run_id="a")
        backup = {path: path.read_bytes() for path in Path(table.path).rglob("*") if path.is_file()}
        once(table, numbers(2), run_id="b")
        lost = snapshot.open(location.TableUri(table.path, 1)).identity
        for path in Path(table.path).rglob("*"):
            if path.is_file() and path not in backup:
                path.unlink()
        once(table, numbers(3), run_id="c")
        assert snapshot.open(location.TableUri(table.path, 1)).identity != lost
        assert DeltaTable(table.path, version=1).metadata().id == DeltaTable(table.path, version=0).metadata().id

    def test_a_version_has_one_identity_wherever_the_table_lies(self, table: location.TableUri, tmp_path: Path) -> None:
        once(table, numbers(1), run_id="a")
        before = snapshot.open(location.TableUri(table.path, 0)).identity
        moved = tmp_path / "moved"
        Path(table.path).rename(moved)
        assert snapshot.open(location.TableUri(str(moved), 0)).identity == before


class TestATableWithACollationInItsLog:
    """Spark writes `string collate UTF8_BINARY` from Arrow schemas; delta-rs knows no such type."""

    @pytest.fixture
    def table(self, tmp_path: Path) -> location.TableUri:
        table = location.TableUri(f"{tmp_path}/texts")
        once(table, pa.table({"text": ["a", None]}), run_id="a")
        entry = Path(table.path, "_delta_log", f"{0:020}.json")
        text = entry.read_text().replace('\\"type\\":\\"string\\"', '\\"type\\":\\"string collate UTF8_BINARY\\"')
        assert "collate" in text
        entry.write_text(text)
        return table

    def test_is_told_with_the_way_out(self, table: location.TableUri) -> None:
        with pytest.raises(TableUnreadable, match="run `mlflow run . -e infer`, which writes plain types"):
            snapshot.open(table)

    def test_is_mended_by_the_next_commit_and_keeps_its_rows(self, table: location.TableUri) -> None:
        done = once(table, pa.table({"text": ["b"]}), run_id="b")
        assert (str(done.table), done.written) == (f"{table.path}@v2", True)
        assert rows_of(table.path, 1).to_pylist() == [{"text": "a"}, {"text": None}]
        assert rows_of(table.path).to_pylist() == [{"text": "b"}]
        assert all("timestamp" in commit for commit in DeltaTable(table.path).history())

    def test_that_is_broken_otherwise_is_left_as_it_is(self, table: location.TableUri) -> None:
        entry = Path(table.path, "_delta_log", f"{0:020}.json")
        entry.write_text(entry.read_text().replace("collate UTF8_BINARY", "of pearls"))
        with pytest.raises(TableUnreadable, match="texts cannot be read"):
            once(table, pa.table({"text": ["b"]}), run_id="b")
        assert [path.name for path in entry.parent.iterdir()] == [entry.name]


def writer_of(store: ObjectStore, folder: Path, who: str, path: str, **extra: str) -> Writer:
    """One that commits once for each line that it is sent."""
    return Writer(Place(folder, {**store.settings, **extra}), WRITER, who, path)


def version_of(writer: Writer) -> int:
    """The version that the oldest commit that was begun has written."""
    version, written = writer.line().split()
    assert written == "True"
    return int(version)


class TestATableInAnObjectStore:
    @staticmethod
    def names(store: ObjectStore, path: str) -> list[str]:
        """What made each version, the oldest first."""
        history = DeltaTable(path, storage_options=store.deltalake_options).history()
        return [json.loads(version["userMetadata"])["run_id"] for version in reversed(history)]

    def test_two_writers_lose_no_commit(self, store: ObjectStore, tmp_path: Path) -> None:
        path = "s3://delta/commit/two writers"
        writers = {who: writer_of(store, tmp_path, who, path) for who in "ab"}
        for writer in writers.values():
            for number in range(COMMITS):
                writer.begin(number)
        versions = {who: [version_of(writer) for _ in range(COMMITS)] for who, writer in writers.items()}
        for writer in writers.values():
            assert writer.written() == []
        names = self.names(store, path)
        assert sorted(names) == sorted(f"{who}-{number}" for who in "ab" for number in range(COMMITS))
        for who, own in versions.items():
            assert [names[version] for version in own] == [f"{who}-{number}" for number in range(COMMITS)]

    def test_a_late_commit_does_not_replace_another_writers(self, store: ObjectStore, tmp_path: Path) -> None:
        """Its put is held back, as by a machine that sleeps, until another program has committed that version."""
        path = "s3://delta/commit/late"
        with HeldRequests(store.port, name=r"/commit/late/_delta_log/\d+\.json") as proxy:
            late = writer_of(store, tmp_path, "late", path, MLFLOW_S3_ENDPOINT_URL=proxy.url)
            for number in range(COMMITS):
                proxy.hold()
                late.begin(number)
                proxy.wait_for_request()
                self.write(store, path, f"other-{number}")
                proxy.release()
                assert version_of(late) == 2 * number + 1
            assert late.written() == []
        expected = [f"{who}-{number}" for number in range(COMMITS) for who in ("other", "late")]
        assert self.names(store, path) == expected
        rows = rows_of(path, options=store.deltalake_options).to_pylist()
        assert rows == [{"who": f"late-{COMMITS - 1}"}]

    def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        path = "s3://delta/commit/unheard"
        with HeldRequests(store.port, name=r"/commit/unheard/_delta_log/\d+\.json", lose_answers=True) as proxy:
            writer = writer_of(store, tmp_path, "a", path, MLFLOW_S3_ENDPOINT_URL=proxy.url)
            for number in range(3):
                proxy.hold()
                writer.begin(number)
                proxy.wait_for_request()
                proxy.release()
                assert version_of(writer) == number
            assert writer.written() == []
        assert self.names(store, path) == ["a-0", "a-1", "a-2"]

    @staticmethod
    def write(store: ObjectStore, path: str, who: str) -> None:
        """A commit by a program that is not of this project."""
        metadata: dict[str, Any] = {"userMetadata": json.dumps({"run_id": who})}
        write_deltalake(
            path,
            pa.table({"who": [who]}),
            mode="overwrite",
            storage_options=store.deltalake_options,
            commit_properties=CommitProperties(custom_metadata=metadata),
        )
