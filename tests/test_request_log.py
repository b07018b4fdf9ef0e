"""What a server was asked is in the requests table exactly once, whatever becomes of server, disk and lake."""

import datetime as dt
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from place import Place, rows_of, until
from services import HeldRequests, ObjectStore, object_store
from small import QUICK
from writers import Writer

from steps.core.errors import DiskUnusable
from steps.core.serving import request_log, request_table
from steps.core.serving.request_log import RequestLog
from steps.core.serving.spool import Batch, Spool
from steps.core.tables import conditional, snapshot
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot
from steps.core.tables.staged import Staged
from steps.core.workflow import retention

MOMENT = dt.datetime(2026, 11, 27, 9, 30, 0, 123456, tzinfo=dt.UTC)
SCHEMA = pa.schema(
    [
        *(("petal_length", pa.float64()), ("petals", pa.int64()), ("color", pa.string()), ("day", pa.date32())),
        *(("prediction", pa.string()), ("probability", pa.float64())),
        *(("probabilities", pa.map_(pa.string(), pa.float64())), ("model_uri", pa.string())),
        *(("request_id", pa.string()), ("scored_at", pa.timestamp("us", "UTC")), ("row", pa.int64())),
    ]
)
WRITER = """
import sys
import pyarrow as pa
from pathlib import Path
from steps.core.serving import request_log
from steps.core.tables.location import TableUri
request_log.SYNC_SECONDS, request_log.COMPACT_EVERY = 0.01, 4
path, spool = sys.argv[1:]
log = request_log.RequestLog(TableUri(path), Path(spool), batch_seconds=0)
print("ready", flush=True)
for line in sys.stdin:
    log.add(pa.table({"request_id": [line.strip()]}))
    print(line.strip(), flush=True)
log.close(60)
"""
# The same, of a process that is killed in the midst of its first batch.
DYING = """
import os, signal
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def then_die(function):
    def called(*args, **kwargs):
        function(*args, **kwargs)
        die()
    return called
from steps.core.serving import spool
from steps.core.tables import conditional
{}
"""


def requests(*ids: str, **columns: pa.Array) -> pa.Table:
    """A row for each, as a server writes them; `columns` are others, or others of the same names."""
    rows = {
        **{"petal_length": 4.5, "petals": 2**53 + 1, "color": None, "day": dt.date(2024, 2, 29)},
        **{"prediction": "setosa", "probability": 0.75, "probabilities": [("setosa", 0.75), ("virginica", 0.25)]},
        **{"model_uri": "models:/flowers_model/1", "scored_at": MOMENT, "row": 0},
    }
    table = pa.Table.from_pylist([{**rows, "request_id": name} for name in ids], SCHEMA)
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, values)
        else:
            table = table.append_column(name, values)
    return table


def stored(path: str) -> Counter[Any]:
    """The ids of requests, read by the log's entries and the files that they name, as Delta's protocol has it."""
    files: set[str] = set()
    for entry in sorted(Path(path, "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in entry.read_text(encoding="utf-8").splitlines()]
        files -= {action["remove"]["path"] for action in actions if "remove" in action}
        files |= {action["add"]["path"] for action in actions if "add" in action}
    return Counter(
        value for file in files for value in pq.ParquetFile(Path(path, file)).read()["request_id"].to_pylist()
    )


def rows_by_id(path: str, version: int | None = None) -> list[dict[str, Any]]:
    """All rows as deltalake reads them, sorted."""
    rows: list[dict[str, Any]] = rows_of(path, version).to_pylist()
    return sorted(rows, key=lambda row: str(row["request_id"]))


def once(names: list[str]) -> Counter[str]:
    return Counter(dict.fromkeys(names, 1))


@pytest.fixture
def table(tmp_path: Path) -> TableUri:
    return TableUri(f"{tmp_path}/my lake é/flowers_requests")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def open_log(table: TableUri, spool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RequestLog]]:
    """Makes logs that look at their spool often, and write what is there at once."""
    monkeypatch.setattr(request_log, "SYNC_SECONDS", 0.01)
    logs = []

    def opened(**changes: Any) -> RequestLog:
        logs.append(RequestLog(table, spool, **{"batch_seconds": 0, **changes}))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


class TestRows:
    def test_are_in_the_table_with_their_types_and_values(
        self, table: TableUri, open_log: Callable[..., RequestLog]
    ) -> None:
        rows = requests("a", "b")
        open_log().add(rows)
        assert until(lambda: snapshot.find(table))
        assert rows_by_id(table.path) == rows.to_pylist()
        assert snapshot.open(table).schema == SCHEMA

    def test_are_written_together_when_the_time_has_come(
        self, table: TableUri, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log(batch_seconds=0.5)
        for number in range(20):
            log.add(requests(str(number)))
        assert until(lambda: log.state()["written_rows"] == 20)
        assert log.state()["version"] == 0

    def test_are_written_together_when_they_are_many(
        self, table: TableUri, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log(batch_seconds=600, batch_bytes=30_000)
        for number in range(100):
            log.add(requests(str(number)))
        assert until(lambda: log.state()["written_rows"] > 50)
        log.close()
        assert stored(table.path) == once([str(number) for number in range(100)])
        assert 3 <= log.state()["version"] < 20

    def test_that_wait_are_written_at_the_end(self, table: TableUri, open_log: Callable[..., RequestLog]) -> None:
        log = open_log(batch_seconds=600)
        log.add(requests("a", "b"))
        log.close()
        assert stored(table.path) == once(["a", "b"])

    def test_none_at_all_make_no_version(
        self, table: TableUri, spool: Path, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log()
        log.add(requests())
        time.sleep(0.1)
        log.close()
        assert not Path(table.path).exists()
        assert list(spool.rglob("*.arrows")) == []

    def test_leave_nothing_in_the_spool_once_they_are_in_the_table(
        self, spool: Path, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log()
        log.add(requests("a"))
        log.close()
        assert log.state()["spool_bytes"] == 0
        assert [path for path in spool.rglob("*") if path.is_file() and path.suffix != ".lock"] == []

    def test_in_the_spool_are_for_their_user_alone(self, spool: Path, open_log: Callable[..., RequestLog]) -> None:
        open_log(batch_seconds=600).add(requests("a"))
        (file,) = spool.rglob("*.arrows")
        assert (file.stat().st_mode | file.parent.stat().st_mode) & 0o077 == 0

    def test_after_the_end_are_dropped_and_told(
        self, open_log: Callable[..., RequestLog], caplog: pytest.LogCaptureFixture
    ) -> None:
        log = open_log()
        log.close()
        log.add(requests("a"))
        assert log.state()["dropped_rows"] == 1
        assert "1 rows so far were not kept in the request log" in caplog.text


class TestColumns:
    def test_a_new_one_has_no_value_in_earlier_rows(self, table: TableUri, open_log: Callable[..., RequestLog]) -> None:
        log = open_log()
        log.add(requests("a"))
        log.add(requests("b", height=pa.array([7.5])))
        log.close()
        assert [(row["request_id"], row["height"]) for row in rows_by_id(table.path)] == [("a", None), ("b", 7.5)]

    def test_one_that_a_model_has_no_more_has_no_value_in_later_rows(
        self, table: TableUri, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log()
        log.add(requests("a"))
        log.add(requests("b").drop_columns(["petals"]))
        log.close()
        assert [(row["request_id"], row["petals"]) for row in rows_by_id(table.path)] == [("a", 2**53 + 1), ("b", None)]

    def test_numbers_take_the_tables_type_where_none_changes(
        self, table: TableUri, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log()
        log.add(requests("a"))
        log.add(requests("b", petal_length=pa.array([3]), petals=pa.array([5.0])))
        log.close()
        (row,) = [row for row in rows_of(table.path).to_pylist() if row["request_id"] == "b"]
        assert (row["petal_length"], row["petals"]) == (3.0, 5)
        assert snapshot.open(table).schema == SCHEMA

    @pytest.mark.parametrize("values", [pa.array([5.5]), pa.array(["5"])])
    def test_of_another_type_wait_until_the_table_takes_them_and_hold_back_no_others(
        self,
        table: TableUri,
        open_log: Callable[..., RequestLog],
        caplog: pytest.LogCaptureFixture,
        values: pa.Array,
    ) -> None:
        log = open_log()
        log.add(requests("a"))
        log.add(requests("b", petals=values))
        log.add(requests("c"))
        log.close()
        assert stored(table.path) == once(["a", "c"])
        assert (log.state()["refused_rows"], log.state()["dropped_rows"]) == (1, 0)
        assert log.state()["spool_bytes"] > 0
        assert "column 'petals' is long in the table and would be" in caplog.text
        assert "move the table away" in caplog.text
        Path(table.path).rename(f"{table.path}_before")
        open_log().close()
        assert stored(table.path) == once(["b"])

    @pytest.mark.parametrize("name", ["row", "Row", "request_ID"])
    @pytest.mark.parametrize("is_first", [False, True], ids=["later", "first"])
    def test_two_of_one_name_in_any_case_wait_and_hold_back_no_others(
        self,
        table: TableUri,
        open_log: Callable[..., RequestLog],
        caplog: pytest.LogCaptureFixture,
        name: str,
        is_first: bool,
    ) -> None:
        rows = requests("b")
        twice = rows.append_column(name, pa.array([7]))
        log = open_log()
        if not is_first:
            log.add(requests("a"))
        log.add(twice)
        log.add(requests("c"))
        log.close()
        assert stored(table.path) == once(["c"] if is_first else ["a", "c"])
        assert (log.state()["status"], log.state()["refused_rows"]) == ("ok", 1)
        assert re.search(f"would have the columns '.*'{name}', which Delta does not tell apart", caplog.text)
        following = open_log()
        following.add(requests("d"))
        following.close()
        assert set(stored(table.path)) == {*([] if is_first else ["a"]), "c", "d"}
        assert following.state()["refused_rows"] == 1

    def test_that_nothing_can_write_wait_with_the_reason_and_hold_back_no_others(
        self,
        table: TableUri,
        open_log: Callable[..., RequestLog],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        append = request_table.append

        def fail_for_b(table: TableUri, rows: pa.Table, **batch: Any) -> Snapshot:
            if rows["request_id"].to_pylist() == ["b"]:
                raise pa.ArrowInvalid("no such rows")
            return append(table, rows, **batch)

        monkeypatch.setattr(request_table, "append", fail_for_b)
        log = open_log(batch_bytes=1)
        for name in ("a", "b", "c"):
            log.add(requests(name))
        log.close()
        assert stored(table.path) == once(["a", "c"])
        assert "1 rows of requests wait in" in caplog.text
        assert "no such rows" in caplog.text
        monkeypatch.undo()
        open_log().close()
        assert stored(table.path) == once(["a", "b", "c"])

    def test_whose_commit_failed_after_it_was_there_are_in_the_table_once(
        self, table: TableUri, open_log: Callable[..., RequestLog], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append = request_table.append

        def append_and_fail(*rows: Any, **batch: Any) -> Snapshot:
            append(*rows, **batch)
            monkeypatch.setattr(request_table, "append", append)
            raise pa.ArrowInvalid("nobody knows")

        monkeypatch.setattr(request_table, "append", append_and_fail)
        log = open_log()
        log.add(requests("a"))
        assert until(lambda: log.state()["written_rows"] == 1, seconds=30)
        log.close()
        assert stored(table.path) == once(["a"])
        assert log.state()["refused_rows"] == 0

    def test_of_another_type_are_written_once_the_table_has_that_type(
        self, table: TableUri, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log()
        log.add(requests("a"))
        log.add(requests("b", petals=pa.array(["5"])))
        log.add(requests("c"))
        log.close()
        converted = requests("a", "c", petals=pa.array(["3", "3"]))
        write_deltalake(table.path, converted, mode="overwrite", schema_mode="overwrite")
        open_log().close()
        assert [(row["request_id"], row["petals"]) for row in rows_by_id(table.path)] == [
            *(("a", "3"), ("b", "5"), ("c", "3")),
        ]

    def test_that_another_writer_makes_meanwhile_are_compared_again(
        self, table: TableUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the moment when rows took the types of the table and their commit."""
        request_table.append(table, requests("a"), writer="one", number=1)
        stage = conditional.stage

        def stage_late(*words: Any) -> Staged:
            monkeypatch.undo()
            request_table.append(table, requests("b", height=pa.array([1.5])), writer="two", number=1)
            return stage(*words)

        monkeypatch.setattr(conditional, "stage", stage_late)
        request_table.append(table, requests("c", height=pa.array([2])), writer="one", number=2)
        assert [row["height"] for row in rows_by_id(table.path)] == [None, 1.5, 2.0]


class TestALakeThatIsAway:
    """A file stands where the lake belongs."""

    @pytest.fixture(autouse=True)
    def away(self, table: TableUri) -> None:
        Path(table.path).parent.write_text("no folder")

    @staticmethod
    def back(table: TableUri) -> None:
        Path(table.path).parent.unlink()

    def test_is_told_once_and_its_return_too(
        self, table: TableUri, open_log: Callable[..., RequestLog], caplog: pytest.LogCaptureFixture
    ) -> None:
        log = open_log()
        log.add(requests("a"))
        assert until(lambda: log.state()["status"] == "away")
        assert log.state()["problem"] != ""
        json.dumps(log.state())
        log.add(requests("b"))
        self.back(table)
        assert until(lambda: log.state()["status"] == "ok", seconds=30)
        log.close()
        assert stored(table.path) == once(["a", "b"])
        told = [record.getMessage() for record in caplog.records if record.name == request_log.__name__]
        assert [text.partition("flowers_requests")[2][:30] for text in told] == [
            f", and wait in {log.state()['spool']}"[:30],
            " again, after 1 attempts"[:30],
        ]

    def test_leaves_rows_for_the_next_server(self, table: TableUri, open_log: Callable[..., RequestLog]) -> None:
        log = open_log()
        log.add(requests("a"))
        log.close()
        self.back(table)
        other = open_log()
        other.add(requests("b"))
        other.close()
        assert stored(table.path) == once(["a", "b"])
        assert other.state()["written_rows"] == 2

    def test_does_not_let_files_of_the_spool_become_many(
        self, spool: Path, open_log: Callable[..., RequestLog]
    ) -> None:
        log = open_log()
        for number in range(50):
            log.add(requests(str(number)))
            time.sleep(0.002)
        assert len(list(spool.rglob("*.arrows"))) <= 3

    def test_drops_rows_that_the_spool_has_no_room_for_and_says_how_many(
        self, table: TableUri, open_log: Callable[..., RequestLog], caplog: pytest.LogCaptureFixture
    ) -> None:
        log = open_log(spool_bytes=50_000)
        names = [str(number) for number in range(100)]
        kept = []
        for name in names:
            before = log.state()["accepted_rows"]
            log.add(requests(name))
            kept += [name] if log.state()["accepted_rows"] > before else []
        state = log.state()
        assert 5 < len(kept) < 60
        assert (state["accepted_rows"], state["dropped_rows"]) == (len(kept), 100 - len(kept))
        assert state["spool_bytes"] <= 50_000
        assert caplog.text.count("rows so far were not kept") == 2  # of the first and of the tenth
        assert "has reached its 50,000 bytes" in caplog.text
        self.back(table)
        assert until(lambda: log.state()["spool_bytes"] == 0, seconds=30)
        log.add(requests("later"))
        log.close()
        assert stored(table.path) == once([*kept, "later"])


class TestAnObjectStoreThatIsAway:
    @pytest.fixture(scope="class")
    @classmethod
    def own_object_store(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
        with object_store(tmp_path_factory.mktemp("object-store"), bucket="delta") as store:
            yield store

    @pytest.mark.parametrize("is_paused", [True, False])
    def test_makes_no_answer_wait_and_loses_no_row(
        self,
        own_object_store: ObjectStore,
        spool: Path,
        monkeypatch: pytest.MonkeyPatch,
        is_paused: bool,
    ) -> None:
        monkeypatch.setattr(request_log, "SYNC_SECONDS", 0.01)
        monkeypatch.setenv("WORKFLOW_ANSWER_SECONDS", "8")
        for name, value in own_object_store.settings.items():
            monkeypatch.setenv(name, value)
        path = f"s3://delta/away_{is_paused}/flowers_requests"
        log = RequestLog(TableUri(path), spool, batch_seconds=0)
        log.add(requests("before"))
        assert until(lambda: log.state()["written_rows"] == 1, seconds=30)
        if is_paused:
            own_object_store.pause()
        else:
            own_object_store.stop()
        slowest = 0.0
        for number in range(50):
            began = time.perf_counter()
            log.add(requests(str(number)))
            time.sleep(0.005)  # the answers of other threads, which the one that writes must not hold up
            slowest = max(slowest, time.perf_counter() - began)
        assert slowest < 2  # one that waited for the store would take half of WORKFLOW_ANSWER_SECONDS
        assert until(lambda: log.state()["status"] == "away", seconds=60)
        if is_paused:
            own_object_store.resume()
        else:
            own_object_store.start()
        assert until(lambda: log.state()["written_rows"] == 51, seconds=60)
        log.close()
        ids = rows_of(path, options=own_object_store.deltalake_options)["request_id"].to_pylist()
        assert Counter(ids) == once(["before", *map(str, range(50))])


class TestAServerThatIsKilled:
    @pytest.mark.parametrize("seed", range(2))
    def test_loses_no_row_that_was_added_and_writes_none_twice(self, tmp_path: Path, seed: int) -> None:
        table, spool = TableUri(f"{tmp_path}/lake/flowers_requests"), tmp_path / "spool"
        moments = random.Random(seed)
        added = []
        for life in range(3):
            writer = Writer(Place(tmp_path), WRITER, table.path, spool)
            for number in range(moments.randrange(1, 60)):
                writer.begin(f"{life}-{number}")
                added.append(writer.line())
            writer.kill()
        RequestLog(table, spool).close(60)
        assert stored(table.path) == once(added)

    @pytest.mark.parametrize(
        "moment",
        {
            "before rows are staged": "conditional.stage = die",
            "before the put": "conditional.add = die",
            "after the put": "conditional.add = then_die(conditional.add)",
            "after the commit": "spool.Spool.remove = die",
        }.items(),
        ids=lambda moment: moment[0],
    )
    def test_in_the_midst_of_a_commit_has_its_rows_in_the_table_once(
        self, tmp_path: Path, moment: tuple[str, str]
    ) -> None:
        table, spool = TableUri(f"{tmp_path}/lake/flowers_requests"), tmp_path / "spool"
        RequestLog(table, spool).close()
        request_table.append(table, pa.table({"request_id": ["before"]}), writer="another", number=1)
        writer = Writer(Place(tmp_path), DYING.format(moment[1]) + WRITER, table.path, spool)
        writer.begin("a")
        assert writer.exit_code() == -9
        survivor = RequestLog(table, spool, batch_seconds=600)
        survivor.add(pa.table({"request_id": ["b"]}))
        survivor.close(60)
        assert stored(table.path) == once(["before", "a", "b"])
        assert list(spool.rglob("*.arrows")) == []

    @pytest.mark.parametrize("arrives_late", [True, False])
    def test_while_its_commit_is_on_its_way_has_its_rows_in_the_table_once(
        self, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrives_late: bool
    ) -> None:
        """The put of the log's entry is held back, and passed on, or not, when the server is dead."""
        path, spool = f"s3://delta/killed_{arrives_late}/flowers_requests", tmp_path / "spool"
        for name, value in store.settings.items():
            monkeypatch.setenv(name, value)
        request_table.append(TableUri(path), pa.table({"request_id": ["before"]}), writer="another", number=1)
        entry = rf"/killed_{arrives_late}/flowers_requests/_delta_log/\d+\.json"
        with HeldRequests(store.port, name=entry, lose_answers=arrives_late) as proxy:
            place = Place(tmp_path, {**store.settings, "MLFLOW_S3_ENDPOINT_URL": proxy.url})
            writer = Writer(place, WRITER, path, spool)
            proxy.hold()
            writer.begin("a")
            proxy.wait_for_request()
            writer.kill()
            if arrives_late:
                proxy.release()
                assert until(lambda: len(rows_of(path, options=store.deltalake_options)) == 2)
            RequestLog(TableUri(path), spool).close(60)
            proxy.release()  # of none, or of a put that comes too late
            time.sleep(0.5)
        ids = rows_of(path, options=store.deltalake_options)["request_id"].to_pylist()
        assert Counter(ids) == once(["before", "a"])


class TestSeveralServers:
    def test_write_one_table_at_once_and_compact_it_meanwhile(self, tmp_path: Path) -> None:
        table, spool = TableUri(f"{tmp_path}/lake/flowers_requests"), tmp_path / "spool"
        writers = [Writer(Place(tmp_path), WRITER, table.path, spool) for _ in range(2)]
        for number in range(40):
            for who, writer in enumerate(writers):
                writer.begin(f"{who}-{number}")
            time.sleep(0.01)
        for writer in writers:
            writer.written()
        assert stored(table.path) == once([f"{who}-{number}" for who in range(2) for number in range(40)])
        operations = [commit.operation for commit in snapshot.open(table).commits.values()]
        assert operations.count("WRITE") > 2  # how many a commit has depends on the machine
        assert "OPTIMIZE" in operations

    def test_leave_the_rows_of_one_that_lives_to_it(
        self, table: TableUri, spool: Path, open_log: Callable[..., RequestLog]
    ) -> None:
        first = open_log(batch_seconds=600)
        first.add(requests("a"))
        second = open_log()
        second.add(requests("b"))
        second.close()
        assert stored(table.path) == once(["b"])
        first.close()
        assert stored(table.path) == once(["a", "b"])

    def test_of_different_tables_share_a_folder_for_spools(self, tmp_path: Path) -> None:
        tables = [TableUri(f"{tmp_path}/{lake}/flowers_requests") for lake in ("lake", "other")]
        Path(tmp_path, "lake").write_text("away")
        with RequestLog(tables[0], tmp_path / "spool") as log:
            log.add(requests("a"))
        with RequestLog(tables[1], tmp_path / "spool") as log:
            log.add(requests("b"))
        assert stored(tables[1].path) == once(["b"])


class TestSmallFiles:
    def test_are_put_together_by_a_version_with_the_same_rows(
        self, table: TableUri, open_log: Callable[..., RequestLog], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(request_log, "COMPACT_EVERY", 8)
        log = open_log()
        for number in range(20):
            log.add(requests(str(number)))
            assert until(lambda expected=number + 1: log.state()["written_rows"] == expected)  # type: ignore[misc]
        log.close()
        assert stored(table.path) == once([str(number) for number in range(20)])
        newest = snapshot.open(table)
        assert len(newest.data_files) < 8
        for version in range(newest.version):
            pinned = TableUri(table.path, version)
            assert len(rows_of(table.path, version)) == snapshot.open(pinned).row_count
        assert newest.commits[8].operation == "OPTIMIZE"
        assert rows_by_id(table.path, 7) == rows_by_id(table.path, 8)

    def test_that_were_put_together_are_what_a_vacuum_deletes(self, table: TableUri) -> None:
        for number in range(3):
            request_table.append(table, requests(str(number)), writer="a", number=number)
        before = snapshot.open(table)
        request_table.compact(table)
        newest = snapshot.open(table)
        planned = retention.plan_table(newest, limit=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1), needed={})
        assert set(planned.files) == set(before.data_files)
        assert table.name.removeprefix("flowers") in retention.BESIDE

    def test_that_are_large_enough_stay_as_they_are(self, table: TableUri, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(request_table, "SMALL_FILE_BYTES", 20_000)
        for number in range(4):
            request_table.append(table, requests(*map(str, range(5000))), writer="a", number=number)
        before = snapshot.open(table)
        assert min(before.data_files.values()) > 20_000
        request_table.compact(table)
        assert snapshot.open(table).version == before.version


class TestMemory:
    def test_stays_as_it_is_while_the_lake_is_away_and_when_it_is_back(self, tmp_path: Path) -> None:
        Path(tmp_path, "lake").write_text("away")
        program = """
import sys, time
import numpy as np, pyarrow as pa
from pathlib import Path
from steps.core.serving import request_log
from steps.core.tables.location import TableUri
def mebibytes():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024
folder = Path(sys.argv[1])
request_log.SYNC_SECONDS = 0.05
log = request_log.RequestLog(
    TableUri(f"{folder}/lake/numbers_requests"), folder / "spool", batch_seconds=0, batch_bytes=2 * 2**20
)
rows = pa.table({str(column): np.random.default_rng(column).random(2**14) for column in range(8)})
log.add(rows)
time.sleep(0.5)
print("ready", flush=True)
sys.stdin.readline()
before = mebibytes()
for _ in range(60):
    log.add(rows)
print(mebibytes() - before, log.state()["spool_bytes"] // 2**20, flush=True)
(folder / "lake").unlink()
log._next_attempt = 0
highest = 0
while log.state()["spool_bytes"]:
    highest = max(highest, mebibytes() - before)
    time.sleep(0.01)
print(highest, log.state()["written_rows"], flush=True)
"""
        writer = Writer(Place(tmp_path), program, tmp_path)
        writer.begin()
        while_away, in_spool = map(int, writer.line().split())
        assert in_spool >= 60
        assert while_away < 30
        while_back, written = map(int, writer.line().split())
        assert writer.exit_code() == 0
        assert written == 61 * 2**14
        assert while_back < 60


class TestASpool:
    @pytest.fixture(scope="class")
    @classmethod
    def one_batch(cls, tmp_path_factory: pytest.TempPathFactory) -> Batch:
        spool = spool_at(tmp_path_factory.mktemp("spool"))
        for number in range(5):
            spool.append(requests(str(number)))
        spool.seal()
        (batch,) = spool.batches()
        return batch

    @given(st.data())
    @QUICK
    def test_whose_file_was_cut_has_the_rows_that_are_whole(self, one_batch: Batch, data: st.DataObject) -> None:
        content = one_batch.path.read_bytes()
        cut = one_batch.path.with_name("cut")
        length = data.draw(st.integers(0, len(content)))
        cut.write_bytes(content[:length])
        rows = Batch(path=cut, writer="a", number=1, size_bytes=length).read()
        whole = [] if rows is None else rows["request_id"].to_pylist()
        assert whole == ["0", "1", "2", "3", "4"][: len(whole)]
        if length == len(content):
            assert len(whole) == 5
        each_bytes = len(b"".join(batch.serialize().to_pybytes() for batch in requests("0").to_batches()))
        assert len(whole) == max(0, 5 - -(-(len(content) - length) // each_bytes))

    def test_on_a_disk_that_takes_no_more_keeps_the_rows_before_and_after(self, tmp_path: Path) -> None:
        program = """
import resource, sys
import pyarrow as pa
from pathlib import Path
from steps.core.serving.request_log import RequestLog
from steps.core.tables.location import TableUri
folder = Path(sys.argv[1])
log = RequestLog(TableUri(f"{folder}/lake/flowers_requests"), folder / "spool", batch_seconds=600)
print("ready", flush=True)
sys.stdin.readline()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
log.add(pa.table({"request_id": ["before"]}))
log.add(pa.table({"request_id": ["x" * 30_000]}))
log.add(pa.table({"request_id": ["after"]}))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.close(60)
print(log.state()["accepted_rows"], log.state()["dropped_rows"], flush=True)
"""
        writer = Writer(Place(tmp_path), program, tmp_path)
        writer.begin()
        assert writer.line() == "2 1"
        assert writer.exit_code() == 0
        assert stored(f"{tmp_path}/lake/flowers_requests") == once(["before", "after"])

    def test_that_cannot_be_made_is_one_message(self, table: TableUri, tmp_path: Path) -> None:
        Path(tmp_path, "spool").write_text("no folder")
        with pytest.raises(DiskUnusable, match="the spool of requests at .*spool"):
            RequestLog(table, tmp_path / "spool")

    def test_whose_file_was_deleted_is_told_and_later_rows_are_written(
        self,
        table: TableUri,
        spool: Path,
        open_log: Callable[..., RequestLog],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        log = open_log(batch_seconds=0.3)
        log.add(requests("a"))
        (file,) = spool.rglob("*.arrows")
        file.unlink()
        assert until(lambda: "is gone, with rows that were in no table yet" in caplog.text)
        log.add(requests("b"))
        log.close()
        assert stored(table.path) == once(["b"])


def spool_at(folder: Path, path: str = "/lake/flowers_requests") -> Spool:
    return Spool(folder, TableUri(path), batch_bytes=2**20, limit_bytes=2**30)


def die(spool: Spool) -> None:
    """As the kernel ends a process: its locks go, its files stay."""
    for lock in spool._owned.values():
        os.close(lock)


ACTS = st.lists(st.sampled_from(["add", "add wider", "add narrower", "write", "die before the commit", "die after it"]))


@given(ACTS)
@settings(QUICK, max_examples=25)
def test_whatever_happens_each_row_is_in_the_table_once(acts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = TableUri(f"{folder}/lake/flowers_requests")
        kinds: Mapping[str, Callable[[str], pa.Table]] = {
            "add": lambda name: requests(name),
            "add wider": lambda name: requests(name, height=pa.array([1.5])),
            "add narrower": lambda name: requests(name).drop_columns(["color"]),
        }
        added: list[str] = []
        spool = spool_at(Path(folder, "spool"), table.path)
        for act in [*acts, "write"]:
            if act in kinds:
                added.append(str(len(added)))
                spool.append(kinds[act](added[-1]))
                continue
            spool.seal()
            for batch in spool.batches():
                if act == "die before the commit":
                    break
                rows = batch.read()
                assert rows is not None
                request_table.append(table, rows, writer=batch.writer, number=batch.number)
                if act == "die after it":
                    break
                spool.remove(batch)
            if act != "write":
                die(spool)
                spool = spool_at(Path(folder, "spool"), table.path)
        spool.close()
        assert (stored(table.path) if added else Counter()) == once(added)
