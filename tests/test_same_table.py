"""The same rows give the same table from CSV, JSON and Parquet, and are those that were written."""

import csv
import datetime as dt
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small import QUICK

from steps.core import config
from steps.core.columns import Column
from steps.core.sources import ingestion, kinds
from steps.core.sources.job import Job

COLUMNS = {
    "text": Column(type="string"),
    "whole": Column(type="long"),
    "number": Column(type="double"),
    "flag": Column(type="boolean"),
    "day": Column(type="date"),
    "moment": Column(type="timestamp"),
}
IN_PARQUET = pa.schema(
    {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "day": pa.date32(),
        "moment": pa.timestamp("us", "UTC"),
    }
)
Row = dict[str, Any]

LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufffd")  # the contract refuses these
TEXTS = st.text(LETTERS | st.sampled_from("\",;\t\r\n\\' éß中🙂"), max_size=12)
VALUES = {
    "text": TEXTS,
    "whole": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "day": st.dates(),
    "moment": st.datetimes(timezones=st.just(dt.UTC)),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), min_size=1)


def as_text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.date) else value


def write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_NOTNULL)
        writer.writerow(COLUMNS)
        writer.writerows([as_text(row[name]) for name in COLUMNS] for row in rows)


def write_json_lines(rows: Sequence[Row], path: Path) -> None:
    lines = [json.dumps(row, default=as_text, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=IN_PARQUET), path)


WRITERS: dict[str, tuple[str, Callable[[Sequence[Row], Path], None], dict[str, str | bool | int]]] = {
    "csv": ("rows.csv", write_csv, {"sep": ",", "header": True}),
    "json": ("rows.jsonl", write_json_lines, {}),
    "parquet": ("rows.parquet", write_parquet, {}),
}


def table_from(kind: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of the table that these become, written in that format."""
    name, write, options = WRITERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        write(rows, Path(folder, name))
        source = kinds.resolve(config.Source(uri=f"{folder}/{name}", options=options))
        (good := Path(folder, "good")).mkdir()
        (bad := Path(folder, "bad")).mkdir()
        job = Job(columns=COLUMNS, key=(), target="", folder=str(good), rejects_folder=str(bad), table="rows")
        result = ingestion.run(source, job)
        assert (result.rejected, result.broken) == (0, {})
        tables = [pq.read_table(good / file) for file in result.files]
        return [row for table in tables for row in table.to_pylist()]


def expected(row: Row) -> Row:
    """Blanks around a text are no part of it, and a text of blanks alone is missing."""
    text = row["text"]
    return {**row, "text": (text.strip() or None) if text is not None else None}


@pytest.mark.parametrize("kind", WRITERS)
@QUICK
@given(rows=ROWS)
@example(rows=[dict.fromkeys(COLUMNS)])
@example(rows=[{**dict.fromkeys(COLUMNS), "text": 'a "quoted"\r\nline, and ""two""'}])
@example(
    rows=[
        {**dict.fromkeys(COLUMNS), "number": -0.0, "whole": 2**53 + 1, "moment": dt.datetime.min.replace(tzinfo=dt.UTC)}
    ]
)
def test_each_format_gives_the_rows_that_were_written(kind: str, rows: list[Row]) -> None:
    with_values = [row for row in map(expected, rows) if kind != "csv" or any(v is not None for v in row.values())]
    assert table_from(kind, rows) == with_values  # a row of CSV without any is a blank one
