"""Rows replace those of the same key and others are kept, as a dict does it, whoever else writes the table."""

import datetime
import decimal
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from place import PROJECT, Place, rows_of
from services import HeldRequests, ObjectStore
from small import QUICK
from writers import Writer, save

from steps.core.errors import TableUnfit, UpsertTooLarge
from steps.core.process import memory
from steps.core.tables import commit, snapshot, upsert
from steps.core.tables.location import TableUri
from steps.core.tables.staged import Staged

pytestmark = pytest.mark.usefixtures("own_store")

ROUNDS = 15  # of each of two writers
# Upserts, round by round, its own key and one that all writers share. With a pause it stays between files and commit.
WRITER = """
import sys, time, uuid
import pyarrow as pa
from steps.core.tables import commit, location, upsert
who, path, rounds, pause = sys.argv[1:]
def write(folder):
    commit.save(pa.table({"id": [who, "shared"], "round": [number, number], "who": [who, who]}), folder)
    if float(pause):
        print("staged", flush=True)
        time.sleep(float(pause))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(rounds)):
    made_by = {"run_id": uuid.uuid4().hex}
    done = upsert.upsert(
        location.parse_table(path), key=["id"], made_of={"made": f"{who}{number}"}, made_by=made_by, write=write
    )
    print(number, done.written, flush=True)
"""


@pytest.fixture
def table(tmp_path: Path) -> TableUri:
    return TableUri(f"{tmp_path}/my lake é/prices")


def prices(values: Mapping[int, float | None]) -> pa.Table:
    return pa.table({"id": pa.array(values.keys(), pa.int64()), "price": pa.array(values.values(), pa.float64())})


def put(table: TableUri, rows: pa.Table, run_id: str, *, key: tuple[str, ...] = ("id",)) -> commit.Committed:
    return upsert.upsert(table, key=key, made_of={"made": run_id}, made_by={"run_id": run_id}, write=save(rows))


def stored(table: TableUri, version: int | None = None) -> dict[int, float | None]:
    rows = rows_of(table.path, version).to_pylist()
    found = {row["id"]: row["price"] for row in rows}
    assert len(found) == len(rows)
    return found


def parquet_files(table: TableUri) -> set[str]:
    return {path.relative_to(table.path).as_posix() for path in Path(table.path).rglob("*.parquet")}


class TestUpsert:
    def test_rows_of_the_same_key_are_replaced_and_others_kept(self, table: TableUri) -> None:
        put(table, prices({1: 1.0, 2: 2.0, 3: None}), "a")
        done = put(table, prices({2: 2.5, 3: 3.0, 4: 4.0}), "b")
        assert (str(done.table), done.written) == (f"{table.path}@v1", True)
        assert stored(table) == {1: 1.0, 2: 2.5, 3: 3.0, 4: 4.0}
        assert stored(table, 0) == {1: 1.0, 2: 2.0, 3: None}
        assert done.table.row_count == 4

    def test_what_the_newest_version_is_made_of_is_not_read_again(self, table: TableUri) -> None:
        put(table, prices({1: 1.0}), "a")

        def write(folder: str) -> None:
            raise AssertionError("it was read again")

        again = upsert.upsert(table, key=["id"], made_of={"made": "a"}, made_by={"run_id": "b"}, write=write)
        assert (str(again.table), again.written) == (f"{table.path}@v0", False)

    def test_rows_that_are_there_as_they_are_make_no_version_and_leave_no_file(self, table: TableUri) -> None:
        values = {1: 1.0, 2: float("nan"), 3: None, 4: float("inf"), 5: -0.0}
        put(table, prices(values), "a")
        files = parquet_files(table)
        again = put(table, prices({number: values[number] for number in (3, 2, 1, 5)}), "b")
        assert (str(again.table), again.written) == (f"{table.path}@v0", False)
        assert parquet_files(table) == files

    def test_a_value_may_become_null_and_back(self, table: TableUri) -> None:
        put(table, prices({1: 1.0, 2: None}), "a")
        put(table, prices({1: None, 2: 2.0}), "b")
        assert stored(table) == {1: None, 2: 2.0}

    def test_only_files_with_a_row_that_changes_are_rewritten(self, table: TableUri) -> None:
        for number in range(4):
            made: dict[str, Any] = {"made_of": {}, "made_by": {"run_id": f"run{number}"}}
            rows = prices({10 * number + digit: 0.0 for digit in range(10)})
            commit.append(table, **made, write=save(rows), files=[f"{number}"])
        before = set(snapshot.open(table).data_files)
        after = set(put(table, prices({11: 1.0, 21: 0.0}), "b").table.data_files)
        assert before - after == {"run1/part-00000.parquet"}
        assert stored(table) == {**dict.fromkeys(range(40), 0.0), 11: 1.0}

    def test_a_table_stays_one_for_plain_readers(self, table: TableUri) -> None:
        put(table, prices({1: 1.0, 2: 2.0}), "a")
        newest = put(table, prices({2: 2.5}), "b").table
        assert newest.delta_table.protocol().min_reader_version == 1
        assert [path.name for path in Path(table.path).rglob("deletion_vector*")] == []
        parts = [pq.read_table(Path(table.path, name)) for name in newest.data_files]
        assert sorted(pa.concat_tables(parts).to_pylist(), key=str) == [
            {"id": 1, "price": 1.0},
            {"id": 2, "price": 2.5},
        ]
        assert newest.commit.metadata == {"made": "b", "run_id": "b"}

    def test_every_type_of_a_contract_is_compared_and_kept(self, table: TableUri) -> None:
        names = ("whole", "Long one", "single", "double", "exact", "day", "moment", 'yes "or" no', "text")
        kinds = [pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(38, 9), pa.date32()]
        kinds += [pa.timestamp("us", "UTC"), pa.bool_(), pa.string()]
        schema = pa.schema([*zip(names, kinds, strict=True)])
        moment = datetime.datetime(1500, 1, 1, 1, 2, 3, 4, tzinfo=datetime.UTC)
        one = [1, 2**62 + 1, 1.5, 0.1, decimal.Decimal("1.000000001"), datetime.date(9999, 12, 31), moment, True, "é"]
        others = [
            2,
            2**62 + 2,
            2.5,
            0.2,
            decimal.Decimal("1.000000002"),
            datetime.date(1, 1, 1),
            moment.now(moment.tzinfo),
        ]
        others += [False, ""]
        key = ("whole", "Long one")
        first = pa.table([[value] for value in one], schema)
        put(table, first, "a", key=key)
        assert not put(table, first.select(sorted(names)), "again", key=key).written
        for position in range(len(key), len(names)):
            changed = [*one[:position], others[position], *one[position + 1 :]]
            assert put(table, pa.table([[value] for value in changed], schema), f"run{position}", key=key).written
            assert rows_of(table.path).cast(schema).to_pylist() == [dict(zip(names, changed, strict=True))]
        second = [*others[:2], *one[2:]]
        put(table, pa.table([[value] for value in second], schema), "b", key=key)
        assert rows_of(table.path).num_rows == 2

    def test_columns_that_are_all_key_are_added_once(self, table: TableUri) -> None:
        put(table, prices({1: 1.0}), "a", key=("id", "price"))
        assert not put(table, prices({1: 1.0}), "b", key=("id", "price")).written
        assert put(table, prices({1: 1.0, 2: 1.0}), "c", key=("id", "price")).written
        assert stored(table) == {1: 1.0, 2: 1.0}

    def test_files_that_were_merged_are_known_to_append(self, table: TableUri) -> None:
        made: dict[str, Any] = {"made_by": {"run_id": "a"}, "write": save(prices({1: 1.0}))}
        upsert.upsert(table, key=["id"], made_of={"made": "a"}, files=["x"], **made)
        assert not commit.append(table, made_of={"made": "b"}, files=["x"], **made).written
        assert commit.ingested_files(snapshot.open(table)) == {"x"}

    def test_rows_are_added_to_a_table_without_any(self, table: TableUri) -> None:
        put(table, prices({}), "a")
        put(table, prices({1: 1.0}), "b")
        assert stored(table) == {1: 1.0}

    @pytest.mark.parametrize("before", [{}, {1: 0.0}])
    def test_a_key_that_is_repeated_or_missing_is_refused(self, table: TableUri, before: dict[int, float]) -> None:
        put(table, prices(before), "a")
        rows = pa.table({"id": pa.array([1, 2, 1, None], pa.int64()), "price": [1.0, 2.0, 3.0, 4.0]})
        with pytest.raises(
            TableUnfit, match=r"(?s)without a value for 'id'.*more than one row has the key {'id': 1}\n"
        ):
            put(table, rows, "b")
        assert stored(table) == before
        assert not Path(table.path, "b").exists()

    def test_rows_beyond_the_memory_are_refused_before_they_are_merged(
        self, table: TableUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(table, prices({1: 1.0}), "one")
        many = prices(dict.fromkeys(range(10_000), 3.0))
        with monkeypatch.context() as patch:
            patch.setattr(memory, "available_bytes", lambda: 2**20)
            put(table, prices({1: 2.0}), "two")
            with pytest.raises(UpsertTooLarge, match=r"upsert 10,000 rows takes up to 3\.\d MiB; 1\.0 MiB of memory"):
                put(table, many, "three")
        assert stored(table) == {1: 2.0}
        assert not Path(table.path, "three").exists()
        put(table, many, "three")
        assert len(stored(table)) == 10_000

    def test_long_texts_count_with_their_length(self, table: TableUri, monkeypatch: pytest.MonkeyPatch) -> None:
        put(table, pa.table({"id": [1], "text": ["short"]}), "one")
        texts = [f"{number:05}" * 2_000 for number in range(1_000)]
        monkeypatch.setattr(memory, "available_bytes", lambda: 2**24)
        with pytest.raises(UpsertTooLarge, match=r"upsert 1,000 rows takes up to 4\d\.\d MiB; 16\.0 MiB of memory"):
            put(table, pa.table({"id": list(range(1_000)), "text": texts}), "two")

    def test_keys_beyond_the_memory_are_refused_before_they_are_read(
        self, table: TableUri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A table that is not there yet needs no merge, so that its rows may be more, if not its keys."""
        read: list[str] = []
        monkeypatch.setattr(Staged, "read", lambda rows, columns: read.extend(columns))
        monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
        with pytest.raises(UpsertTooLarge, match=r"upsert 10,000 rows takes up to 3\.\d MiB; 1\.0 MiB of memory"):
            put(table, prices(dict.fromkeys(range(10_000), 3.0)), "one")
        assert not read
        monkeypatch.undo()
        monkeypatch.setattr(memory, "available_bytes", lambda: 2 * 2**20)
        put(table, prices(dict.fromkeys(range(10_000), 3.0)), "one")
        assert len(stored(table)) == 10_000

    def test_a_key_may_have_any_names(self, table: TableUri) -> None:
        key = ("count_all", "row", "place", "0", "new")
        put(table, pa.table({**{name: [1, 2] for name in key}, "old": [1.5, 2.5]}), "a", key=key)
        put(table, pa.table({**{name: [2, 3] for name in key}, "old": [2.0, 3.0]}), "b", key=key)
        assert {row["place"]: row["old"] for row in rows_of(table.path).to_pylist()} == {1: 1.5, 2: 2.0, 3: 3.0}
        with pytest.raises(TableUnfit, match="more than one row has the key {'count_all': 4, 'row': 4, "):
            put(table, pa.table({**{name: [4, 4] for name in key}, "old": [2.0, 3.0]}), "c", key=key)

    def test_a_table_without_the_key_is_refused(self, table: TableUri) -> None:
        put(table, prices({1: 1.0}), "a")
        rows = prices({1: 1.0}).append_column("day", [["monday"]])
        with pytest.raises(TableUnfit, match="has no column 'day', of the key"):
            put(table, rows, "b", key=("id", "day"))

    def test_a_table_whose_files_are_gone_is_not_added_to(self, table: TableUri) -> None:
        put(table, prices({1: 1.0}), "a")
        Path(table.path, *parquet_files(table)).unlink()
        with pytest.raises(TableUnfit, match=r"its file a/part-00000.parquet is gone\n.*\n.*set `mode: replace`"):
            put(table, prices({2: 2.0}), "b")

    def test_a_wide_table_takes_seconds(self, table: TableUri) -> None:
        """600 columns took 12 s when the comparison of all was one chain."""
        before = pa.table({"id": [1, 2], **{f"c{number}": [0.0, 0.0] for number in range(600)}})
        after = before.set_column(600, "c599", [[0.0, 1.0]])
        put(table, before, "a")
        assert not put(table, before, "b").written
        began = time.process_time()
        assert put(table, after, "c").written
        assert time.process_time() - began < 8
        assert sorted(rows_of(table.path)["c599"].to_pylist()) == [0.0, 1.0]

    def test_memory_does_not_grow_with_the_table(self, tmp_path: Path) -> None:
        growth = {}
        for rows in (250_000, 1_000_000):
            place = Place(tmp_path, {"PYTHONPATH": str(PROJECT)})
            ended = place.run(sys.executable, "-c", PEAK, tmp_path / f"of{rows}", str(rows))
            assert ended.exit_code == 0, ended.text
            growth[rows] = float(ended.out)
        assert growth[1_000_000] < growth[250_000] + 150


# A table of rows x 11 columns in files of 50,000 rows, of which one row in 1,000 is replaced; MiB that the merge takes.
PEAK = """
import resource, sys
import numpy as np, pyarrow as pa
from steps.core.tables import commit, location, upsert
table, count = location.parse_table(sys.argv[1]), int(sys.argv[2])
def rows(ids):
    return pa.table({"id": ids, **{f"c{n}": np.random.default_rng(n).random(len(ids)) for n in range(10)}})
def add(run_id, ids):
    made = {"made_of": {"made": run_id}, "made_by": {"run_id": run_id}}
    commit.append(table, **made, write=lambda folder: commit.save(rows(ids), folder), files=[run_id])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for start in range(0, count, 50_000):
    add(f"r{start}", np.arange(start, start + 50_000))
before = peak()
some = rows(np.arange(0, count, count // 250))
write = lambda folder: commit.save(some, folder)
assert upsert.upsert(table, key=["id"], made_of={"made": "u"}, made_by={"run_id": "u"}, write=write).written
print(peak() - before)
"""

VALUES = st.none() | st.floats(width=32) | st.sampled_from([0.0, 1.0])
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["replace", "append", "upsert", "upsert"]),
        st.dictionaries(st.integers(0, 12), VALUES, max_size=8),
    ),
    max_size=7,
)


class TestAnySequence:
    """A dict is the model: replace begins it anew, append adds keys that it has not, upsert updates it."""

    @given(changes=CHANGES)
    @settings(QUICK)
    def test_reads_as_the_model_and_keeps_its_versions(
        self, changes: list[tuple[str, dict[int, float | None]]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        table = TableUri(str(tmp_path_factory.mktemp("any") / "prices"))
        model: dict[int, float | None] = {}
        versions: list[dict[int, float | None]] = []
        for number, (mode, values) in enumerate(changes):
            made: dict[str, Any] = {"made_of": {"made": f"{number}"}, "made_by": {"run_id": f"r{number}"}}
            before = dict(model)
            if mode == "replace":
                model = dict(values)
                done = commit.once(table, **made, write=save(prices(values)), files=[f"{number}"])
            elif mode == "append":
                new = {key: value for key, value in values.items() if key not in model}
                model |= new
                done = commit.append(table, **made, write=save(prices(new)), files=[f"{number}"])
            else:
                model |= values
                done = upsert.upsert(table, key=["id"], **made, write=save(prices(values)), files=[f"{number}"])
                unchanged = bool(versions) and same(model, before)
                if unchanged and values and before:
                    assert not done.written
            if done.written:
                versions.append(dict(model))
            assert done.table.version == len(versions) - 1
            assert same(stored(table), model)
        for version, values in enumerate(versions):
            assert same(stored(table, version), values)


def same(one: Mapping[int, float | None], other: Mapping[int, float | None]) -> bool:
    """Equal as values are in SQL where null and NaN equal themselves; so 0.0 is -0.0."""
    return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())


def _is_same(one: float | None, other: float | None) -> bool:
    return one == other or (one != one and other != other)  # both NaN


def rows_by_id(path: str, version: int | None = None, **options: Any) -> dict[str, tuple[int, str]]:
    rows = rows_of(path, version, **options).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: (row["round"], row["who"]) for row in rows}


def writer_of(place: Place, who: str, path: str, *, rounds: int = ROUNDS, pause: float = 0) -> Writer:
    return Writer(place, WRITER, who, path, rounds, pause)


class TestSeveralProcesses:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(tmp_path)

    def test_of_two_at_once_each_version_holds_what_both_have_written_until_then(
        self, place: Place, table: TableUri
    ) -> None:
        writers = [writer_of(place, who, table.path) for who in "ab"]
        for writer in writers:
            writer.begin()
        assert [writer.written() for writer in writers] == [[*range(ROUNDS)]] * 2
        model: dict[str, tuple[int, str]] = {}
        history = sorted(DeltaTable(table.path).history(), key=lambda each: each["version"])
        assert len(history) == 2 * ROUNDS
        for each in history:
            made = json.loads(each["userMetadata"])["made"]
            row = (int(made[1:]), made[0])
            model |= {made[0]: row, "shared": row}
            assert rows_by_id(table.path, each["version"]) == model

    def test_one_that_is_killed_before_its_commit_has_changed_nothing(self, place: Place, table: TableUri) -> None:
        first = writer_of(place, "a", table.path, rounds=1)
        first.begin()
        assert first.written() == [0]
        killed = writer_of(place, "b", table.path, rounds=1, pause=60)
        killed.begin()
        assert killed.line() == "staged"
        killed.kill()
        assert rows_by_id(table.path) == {"a": (0, "a"), "shared": (0, "a")}

    def test_whenever_it_is_killed_it_ends_as_if_it_had_not_been(self, place: Place, table: TableUri) -> None:
        choose = random.Random(12)
        for _ in range(4):
            writer = writer_of(place, "a", table.path)
            writer.begin()
            for _ in range(choose.randrange(4)):
                writer.line()
            time.sleep(choose.random() / 25)
            writer.kill()
            if snapshot.find(table):
                assert len(set(rows_by_id(table.path).values())) == 1  # both rows of one round, or of none
        last = writer_of(place, "a", table.path)
        last.begin()
        last.written()
        assert rows_by_id(table.path) == {"a": (ROUNDS - 1, "a"), "shared": (ROUNDS - 1, "a")}


def test_in_an_object_store_a_commit_whose_answer_is_lost_is_not_made_twice(store: ObjectStore, tmp_path: Path) -> None:
    path = "s3://delta/upsert/unheard"
    first = writer_of(Place(tmp_path, store.settings), "a", path, rounds=1)
    first.begin()
    assert first.written() == [0]
    with HeldRequests(store.port, name=r"/upsert/unheard/_delta_log/\d+\.json", lose_answers=True) as proxy:
        there = Place(tmp_path, {**store.settings, "MLFLOW_S3_ENDPOINT_URL": proxy.url})
        unheard = writer_of(there, "b", path, rounds=1)
        proxy.hold()
        unheard.begin()
        proxy.wait_for_request()
        proxy.release()
        assert unheard.written() == [0]
    assert len(DeltaTable(path, storage_options=store.deltalake_options).history()) == 2
    rows = rows_by_id(path, options=store.deltalake_options)
    assert rows == {"a": (0, "a"), "b": (0, "b"), "shared": (0, "b")}
