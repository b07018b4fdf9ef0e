"""Spark's workers make of a table and its earlier predictions what one process makes of them, to the last bit."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from scored import TYPES, Lake, Row, optional_color_model, row, rows
from small import sqlite, tracked

from steps.core.errors import TableUnfit

pytestmark = pytest.mark.spark

NESTED = {
    **{"list": pa.list_(pa.string()), "bytes": pa.binary(), "price": pa.decimal128(9, 2)},
    **{"map": pa.map_(pa.string(), pa.int64()), "struct": pa.struct({"x": pa.string()})},
}
OF_NESTED = {"list": ["a", None], "bytes": b"\0\xff", "price": 1, "map": [("k", 1)], "struct": {"x": "a"}}
KEYED = pa.schema(
    {"id": pa.int64(), "my key": pa.string(), "count": pa.int64()} | dict(zip(TYPES.names, TYPES.types, strict=True))
)
KEY = ["id", "my key", "count"]


@pytest.fixture(autouse=True)
def _tracking(tmp_path: Path, served: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in served.items():
        monkeypatch.setenv(name, value)
    with tracked(sqlite(tmp_path)):
        yield


type History = list[
    tuple[list[Row], dict[str, Any], dict[str, Any]]
]  # what is written, and given to write and to infer


def metrics_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: History) -> list[dict[str, float]]:
    """Of each run but the first, which is the same process in both: by one process and by workers."""
    made = []
    for name, mebibytes in (("here", "256"), ("by workers", "0")):
        (tmp_path / name).mkdir()
        made.append(lake := Lake(tmp_path / name))
        for place, (stored, writing, inferring) in enumerate(history):
            monkeypatch.setenv("WORKFLOW_IN_MEMORY_MEBIBYTES", mebibytes if place else "256")
            lake.write(stored, **writing)
            lake.infer(**inferring)
    here, by_workers = made
    assert comparable(by_workers.predictions()) == comparable(here.predictions())
    assert by_workers.metrics == here.metrics
    return here.metrics[1:]


def comparable(stored: Sequence[Row]) -> list[str]:
    """Rows in an order of their own, without what differs between two lakes."""
    return sorted(
        repr(
            {**row, "scored_at": row["scored_at"] is None, "table_uri": row["table_uri"].rpartition("@")[2]}
            | {"deleted_at": row["deleted_at"] is None, "probabilities": dict(row["probabilities"])}
        )
        for row in stored
    )


def keyed(number: int, **values: Any) -> Row:
    return row(number, id=number, count=number, **{"my key": "é" * (number % 3)}, **values)


def test_rows_that_were_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = [row(3), row(4, color="mauve"), row(5, color=None)]
    history: History = [(rows(1, 2, 3), {}, {}), (added, {"mode": "append"}, {})]
    assert metrics_of_both(tmp_path, monkeypatch, history) == [
        {"rows": 6, "rows_scored": 3, "rows_kept": 3, "rows_deleted": 0, "unseen.color": 1}
    ]


def test_rows_that_changed_went_and_came_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [row(petal_length=value, petals=petals) for value in (None, math.nan, 0.0, -0.0) for petals in (None, 3)]
    history: History = [
        ([*rows(1, 1, 1, 2, 3), *odd], {}, {}),
        ([*rows(1, 1, 2, 4, 4), *odd[:5]], {}, {}),
        ([*rows(1, 1, 1, 4, 3), *odd[3:]], {}, {}),
        ([*rows(1, 4, 3), *odd], {}, {"model": "models:/m/2"}),
    ]
    metrics = metrics_of_both(tmp_path, monkeypatch, history)
    assert [(m["rows_scored"], m["rows_kept"], m["rows_deleted"]) for m in metrics] == [
        (2, 8, 5),
        (5, 5, 5),
        (11, 0, 4),
    ]


def test_rows_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which two have other petals then, three rows went, and the labels of all came."""
    versions = [
        [keyed(n, petals=9 if n < first else 5, species=species) for n in range(rows)]
        for first, rows, species in ((0, 9, None), (2, 6, "setosa"))
    ]
    history: History = [(stored, {"schema": KEYED}, {"key": KEY}) for stored in versions]
    (metrics,) = metrics_of_both(tmp_path, monkeypatch, history)
    assert (metrics["rows_scored"], metrics["rows_deleted"]) == (2, 3)


def test_columns_that_came_and_went_and_values_that_no_model_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = [pa.field(name, kind) for name, kind in NESTED.items()]
    without_color = pa.schema([*TYPES.remove(TYPES.get_field_index("color")), *nested, pa.field("note", pa.string())])
    before = [row(1, **OF_NESTED), row(2, color=None), row(3, **OF_NESTED), row(4), row(5, color=None)]
    after = [row(1, **OF_NESTED), row(2), row(3, **{**OF_NESTED, "list": ["b"]}), row(5, note="x")]
    model = {"scorer": optional_color_model()}
    history: History = [
        (before, {"schema": pa.schema([*TYPES, *nested])}, model),
        (after, {"schema": without_color}, model),
    ]
    (metrics,) = metrics_of_both(tmp_path, monkeypatch, history)
    assert (metrics["rows_scored"], metrics["rows_deleted"]) == (2, 2)


def test_keys_that_are_missing_or_repeated_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_IN_MEMORY_MEBIBYTES", "0")
    lake = Lake(tmp_path)
    lake.write([keyed(n % 4, petals=n) for n in range(7)] + [row(id=1, count=1)], schema=KEYED)
    repeated = "keys of more than one row: 3, such as id 0, my key , count 0; "
    expected = f"rows without a value for 'my key', of the key: 1\n.*{repeated}"
    with pytest.raises(TableUnfit, match=expected):
        lake.infer(key=KEY)
    assert not Path(lake.predicted.path).exists()
