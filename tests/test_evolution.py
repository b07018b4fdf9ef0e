"""How the columns of a table change, and how they do not, when rows are added to those that are there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from place import rows_of
from writers import save

from steps.core.errors import TableUnfit
from steps.core.tables import collation, commit, snapshot, upsert
from steps.core.tables.location import TableUri

pytestmark = pytest.mark.usefixtures("own_store")

LONG, DOUBLE, TEXT = pa.int64(), pa.float64(), pa.string()


@pytest.fixture
def table(tmp_path: Path) -> TableUri:
    return TableUri(f"{tmp_path}/flowers")


def column(name: str, kind: pa.DataType, unit: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"comment": unit} if unit else None)


def rows(*columns: pa.Field, **values: list[Any]) -> pa.Table:
    """`values` by column; a column without any is null."""
    count = max(map(len, values.values()))
    return pa.table({each.name: values.get(each.name, [None] * count) for each in columns}, pa.schema(columns))


def replace(table: TableUri, added: pa.Table, run_id: str, **given: Any) -> commit.Committed:
    return commit.once(
        table, made_of={"made": run_id}, made_by={"run_id": run_id}, write=save(added), files=[run_id], **given
    )


def append(table: TableUri, added: pa.Table, run_id: str, **given: Any) -> commit.Committed:
    return commit.append(
        table, made_of={"made": run_id}, made_by={"run_id": run_id}, write=save(added), files=[run_id], **given
    )


def merge(table: TableUri, added: pa.Table, run_id: str, **given: Any) -> commit.Committed:
    return upsert.upsert(
        table, key=["id"], made_of={"made": run_id}, made_by={"run_id": run_id}, write=save(added), **given
    )


ADDING = pytest.mark.parametrize("add", [append, merge])
ID, LENGTH = column("id", LONG), column("length", DOUBLE, "cm")


def comments(table: TableUri) -> dict[str, str]:
    """As deltalake has them for whoever asks for the schema as Arrow."""
    schema = pa.schema(DeltaTable(table.path).schema().to_arrow())
    return {field.name: field.metadata[b"comment"].decode() for field in schema if field.metadata}


def stored(table: TableUri, version: int | None = None) -> list[dict[str, Any]]:
    return sorted(rows_of(table.path, version).to_pylist(), key=lambda row: row["id"])


@ADDING
class TestWhatIsAdded:
    def test_a_new_column_is_null_in_the_rows_before(self, table: TableUri, add: Callable[..., Any]) -> None:
        replace(table, rows(ID, LENGTH, id=[1, 2], length=[1.5, 2.5]), "a")
        new = column("color", TEXT), column("price", pa.decimal128(10, 2), "€")
        done = add(table, rows(LENGTH, *new, ID, id=[3], length=[3.5], color=["red"]), "b")
        assert done.written
        assert stored(table) == [
            {"id": 1, "length": 1.5, "color": None, "price": None},
            {"id": 2, "length": 2.5, "color": None, "price": None},
            {"id": 3, "length": 3.5, "color": "red", "price": None},
        ]
        assert comments(table) == {"length": "cm", "price": "€"}
        assert stored(table, 0) == [{"id": 1, "length": 1.5}, {"id": 2, "length": 2.5}]

    def test_the_columns_are_a_commit_of_their_own_and_the_table_stays_the_same_one(
        self, table: TableUri, add: Callable[..., Any]
    ) -> None:
        replace(table, rows(ID, id=[1]), "a")
        before = DeltaTable(table.path).metadata()
        assert add(table, rows(ID, LENGTH, id=[2], length=[1.0]), "b").table.version == 2
        assert stored(table, 1) == [{"id": 1, "length": None}]
        commits = snapshot.open(table).commits
        assert commits[1].operation == "ADD COLUMN"
        assert commits[1].metadata == {"run_id": "b"}
        assert commits[2].metadata == {"made": "b", "run_id": "b"}
        after = DeltaTable(table.path).metadata()
        assert (after.id, after.configuration) == (before.id, before.configuration)
        assert DeltaTable(table.path).protocol().min_writer_version == 2

    def test_a_run_that_died_after_it_had_added_the_columns_goes_on(
        self, table: TableUri, add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace(table, rows(ID, id=[1]), "a")
        more = rows(ID, LENGTH, id=[2], length=[1.0])
        with monkeypatch.context() as patched:
            _interrupt_second_look(patched)
            with pytest.raises(KeyboardInterrupt, match="at the second look"):
                add(table, more, "b")
        assert stored(table) == [{"id": 1, "length": None}]
        assert add(table, more, "c").written
        assert stored(table) == [{"id": 1, "length": None}, {"id": 2, "length": 1.0}]
        assert DeltaTable(table.path).version() == 2

    def test_another_writer_may_add_the_same_column_first(self, table: TableUri, add: Callable[..., Any]) -> None:
        replace(table, rows(ID, id=[1]), "a")
        before = snapshot.open(table)
        append(table, rows(ID, LENGTH, id=[2], length=[2.0]), "other")
        late = [before, before]

        def opened(table: TableUri) -> snapshot.Snapshot | None:
            return late.pop() if late else open_newest(table)

        open_newest = collation.open_newest
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collation, "open_newest", opened)  # as if it had looked before the other's commit
            assert add(table, rows(ID, LENGTH, id=[3], length=[3.0]), "b").written
        assert not late
        assert [row["length"] for row in stored(table)] == [None, 2.0, 3.0]
        operations = [each.operation for each in snapshot.open(table).commits.values()]
        assert operations.count("ADD COLUMN") == 1

    def test_a_unit_is_added_where_there_was_none(self, table: TableUri, add: Callable[..., Any]) -> None:
        replace(table, rows(ID, column("length", DOUBLE), column("width", DOUBLE, "mm"), id=[1], length=[1.0]), "a")
        units = column("length", DOUBLE, "cm"), column("width", DOUBLE)
        add(table, rows(column("id", LONG, "no."), *units, id=[2], length=[1.0]), "b")
        assert comments(table) == {"id": "no.", "length": "cm", "width": "mm"}
        assert [row["id"] for row in stored(table)] == [1, 2]


@ADDING
class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            (LONG, TEXT, "column 'x' is long in the table and would be string"),
            (pa.int32(), LONG, "column 'x' is integer in the table and would be long"),
            (LONG, pa.int32(), "column 'x' is long in the table and would be integer"),
            (pa.float32(), DOUBLE, "column 'x' is float in the table and would be double"),
            (LONG, DOUBLE, "column 'x' is long in the table and would be double"),
            (pa.decimal128(8, 2), pa.decimal128(10, 2), r"column 'x' is decimal\(8,2\) in the table and would be deci"),
            (pa.date32(), pa.timestamp("us", "UTC"), "column 'x' is date in the table and would be timestamp"),
            (pa.list_(LONG), pa.list_(TEXT), r"column 'x' is .*long.* in the table and would be .*string"),
        ],
        ids=str,
    )
    def test_another_type_is_told_with_the_way_to_migrate(
        self, table: TableUri, add: Callable[..., Any], before: pa.DataType, after: pa.DataType, message: str
    ) -> None:
        replace(table, rows(ID, column("x", before), id=[1]), "a")
        with pytest.raises(TableUnfit, match=rf"{message}[^\n]*\n.*\n  next      set `mode: replace` and ingest"):
            add(table, rows(ID, column("x", after), id=[2]), "b")
        assert_untouched(table)

    def test_all_reasons_are_told_at_once(self, table: TableUri, add: Callable[..., Any]) -> None:
        before = ID, LENGTH, column("Color", TEXT), column("gone", pa.bool_()), column("petals", LONG)
        replace(table, rows(*before, id=[1]), "a")
        after = ID, column("length", DOUBLE, "mm"), column("color", TEXT), column("petals", TEXT), column("new", TEXT)
        with pytest.raises(TableUnfit, match="column 'length' is in 'cm' in the table") as raised:
            add(table, rows(*after, id=[2]), "b", required=["id", "new"])
        assert str(raised.value).splitlines()[1:6] == [
            "    - column 'length' is in 'cm' in the table and would be in 'mm'",
            "    - column 'color' is 'Color' in the table, which Delta does not tell apart",
            "    - column 'petals' is long in the table and would be string",
            "    - column 'gone' of type boolean is in the table, and no longer among the columns",
            "    - column 'new' is new and may not be null, and the rows in the table have no value for it",
        ]
        assert_untouched(table)


class TestReplace:
    def test_takes_any_columns_and_units(self, table: TableUri) -> None:
        replace(table, rows(ID, LENGTH, id=[1], length=[1.0]), "a")
        replace(table, rows(column("id", TEXT), column("length", DOUBLE, "mm"), id=["1"]), "b")
        assert stored(table) == [{"id": "1", "length": None}]
        assert comments(table) == {"length": "mm"}

    def test_another_unit_alone_is_taken_over(self, table: TableUri) -> None:
        replace(table, rows(ID, LENGTH, id=[1], length=[1.0]), "a")
        replace(table, rows(ID, column("length", DOUBLE, "mm"), id=[1], length=[1.0]), "b")
        assert comments(table) == {"length": "mm"}


def test_units_are_kept_from_the_parquet_files_and_in_the_log_as_delta_defines_it(table: TableUri) -> None:
    replace(table, rows(ID, LENGTH, id=[1], length=[1.0]), "a")
    (file,) = Path(table.path, "a").glob("*.parquet")
    assert pq.read_schema(file).field("length").metadata == {b"comment": b"cm"}
    assert comments(table) == {"length": "cm"}
    assert r"\"metadata\":{\"comment\":\"cm\"}" in Path(table.path, "_delta_log", f"{0:020}.json").read_text()


def assert_untouched(table: TableUri) -> None:
    assert DeltaTable(table.path).version() == 0
    assert len(list(Path(table.path).rglob("*.parquet"))) == 1


def _interrupt_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ^C when the newest version is opened for the first time after its columns have changed."""
    interrupted: list[bool] = []
    open_newest = collation.open_newest

    def opened(table: TableUri) -> snapshot.Snapshot | None:
        newest = open_newest(table)
        if newest and newest.version == 1 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt("at the second look")
        return newest

    monkeypatch.setattr(collation, "open_newest", opened)
