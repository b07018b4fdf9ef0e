"""Who holds the rows of a table is decided by their number and types, not by the bytes of its files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from steps.core.tables import in_memory, snapshot
from steps.core.tables.location import TableUri

COLUMNS = pa.schema(
    {
        **{"text": pa.string(), "number": pa.float64(), "flag": pa.bool_(), "day": pa.date32()},
        **{"at": pa.timestamp("us", "UTC"), "list": pa.list_(pa.int64()), "price": pa.decimal128(9, 2)},
    }
)


def test_many_rows_of_few_values_do_not_fit_however_few_bytes_their_file_has(tmp_path: Path) -> None:
    rows = pa.table({name: np.zeros(5_000_000, dtype="int8") for name in ("a", "b")})
    write_deltalake(tmp_path / "t", rows)
    table = snapshot.open(TableUri(str(tmp_path / "t")))
    assert table.size_bytes < 2**17
    assert not table.fits_in_memory


def test_few_rows_fit_however_many_bytes_their_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_IN_MEMORY_MEBIBYTES", "1")
    write_deltalake(tmp_path / "t", pa.table({"a": [np.random.default_rng(1).bytes(2**21)]}))
    table = snapshot.open(TableUri(str(tmp_path / "t")))
    assert table.size_bytes > 2**20
    assert table.fits_in_memory


def test_the_estimate_is_near_what_arrow_takes() -> None:
    rows = pa.Table.from_pylist(
        [{"text": "some words of text", "number": 1.5, "flag": True, "list": [1, 2, 3]}] * 1000, COLUMNS
    )
    estimate = in_memory.estimated_bytes(COLUMNS, rows=1000) - 1000 * in_memory.ROW_BYTES
    assert 0.5 < estimate / rows.nbytes < 2


def test_with_a_limit_of_0_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_IN_MEMORY_MEBIBYTES", "0")
    assert not in_memory.fits(COLUMNS, rows=0)


def test_rows_are_counted_where_the_log_does_not_tell(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"a": [1, 2, 3]}))
    entry = tmp_path / "t" / "_delta_log" / f"{0:020}.json"
    lines = entry.read_text().splitlines()
    lines = [line.replace('"stats":"{\\"numRecords\\":3', '"stats":"{\\"other\\":3') for line in lines]
    entry.write_text("\n".join(lines))
    assert "numRecords" not in entry.read_text()
    assert snapshot.open(TableUri(str(tmp_path / "t"))).row_count == 3
