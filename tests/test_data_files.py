"""The files that were added to a table since a version of it, and when nobody may go by them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from steps.core.tables import data_files, snapshot
from steps.core.tables.data_files import DataFiles
from steps.core.tables.location import TableUri


def write(folder: Path, rows: list[dict[str, Any]], **how: Any) -> None:
    write_deltalake(folder / "t", pa.Table.from_pylist(rows), **{"mode": "append", "schema_mode": "merge", **how})


def added_since(folder: Path, version: int) -> DataFiles | None:
    before, newest = (snapshot.open(TableUri(f"{folder}/t", at)) for at in (version, None))
    return data_files.added_since(before, newest)


def test_their_rows_are_those_that_the_earlier_version_has_not(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, [{"a": number, "b": "x"}])
    added = added_since(tmp_path, 0)
    assert added is not None
    assert (added.row_count, str(added)) == (2, f"{tmp_path}/t@v2")
    assert added.read(["b", "a"]).sort_by("a").to_pylist() == [{"b": "x", "a": 1}, {"b": "x", "a": 2}]


def test_a_column_that_a_file_has_not_is_missing_in_its_rows(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1}])
    write(tmp_path, [{"a": 2}])
    write(tmp_path, [{"a": 3, "b": "x"}])
    added = added_since(tmp_path, 0)
    assert added is not None
    assert added.read(["a", "b"]).sort_by("a").to_pylist() == [{"a": 2, "b": None}, {"a": 3, "b": "x"}]
    assert added.read(["b"]).num_rows == 2


def test_none_are_added_where_nothing_is_new(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1}])
    added = added_since(tmp_path, 0)
    assert added is not None
    assert (added.names, added.read(["a"]).num_rows) == ([], 0)


def test_they_do_not_tell_where_a_row_has_gone(tmp_path: Path) -> None:
    write(tmp_path, [{"a": 1}, {"a": 2}])
    DeltaTable(tmp_path / "t").delete("a = 1")
    assert added_since(tmp_path, 0) is None


def test_they_do_not_tell_of_columns_that_are_in_the_names_of_folders(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path, [{"a": number, "b": "x"}], partition_by=["b"])
    assert added_since(tmp_path, 0) is None


@pytest.mark.parametrize("is_same", [True, False])
def test_they_are_of_one_table_by_its_id(tmp_path: Path, is_same: bool) -> None:
    write(tmp_path, [{"a": 1}])
    before = snapshot.open(TableUri(f"{tmp_path}/t"))
    if not is_same:
        entry = tmp_path / "t" / "_delta_log" / f"{0:020}.json"
        entry.write_text(entry.read_text().replace(str(before.delta_table.metadata().id), "another"))
    assert (data_files.added_since(before, snapshot.open(TableUri(f"{tmp_path}/t"))) is not None) == is_same


def test_those_with_values_in_a_column_are_told_from_the_log(tmp_path: Path) -> None:
    for rows in ([{"a": 1, "b": None}], [{"a": 2, "b": "x"}, {"a": 3, "b": None}]):
        write_deltalake(
            tmp_path / "t", pa.Table.from_pylist(rows, pa.schema({"a": pa.int64(), "b": pa.string()})), mode="append"
        )
    found = data_files.with_values(snapshot.open(TableUri(f"{tmp_path}/t")), "b")
    assert found.read(["a"])["a"].to_pylist() == [2, 3]
