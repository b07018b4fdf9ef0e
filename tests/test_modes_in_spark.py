"""Spark, a second reader, sees what was appended and merged, and the units; and what it writes can be added to."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from place import rows_of
from pyspark.sql import SparkSession
from writers import save

from steps.core.spark.session import spark_session
from steps.core.tables import commit, snapshot, upsert
from steps.core.tables.location import TableUri

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("own_store")]

FLOWERS = pa.schema([pa.field("id", pa.int64()), pa.field("length", pa.float64(), metadata={"comment": "cm"})])
COLORED = FLOWERS.append(pa.field("color", pa.string(), metadata={"comment": "as seen at noon"}))


@pytest.fixture(scope="module")
def session(served: dict[str, str]) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.items():
            patch.setenv(name, value)
        with spark_session(data_bytes=0) as made:
            yield made


@pytest.fixture
def table(tmp_path: Path) -> TableUri:
    table = TableUri(f"{tmp_path}/flowers")
    commit.once(table, made_of={}, made_by={"run_id": "a"}, write=save(flowers([1, 2], [1.5, 2.5])), files=["x"])
    commit.append(table, made_of={}, made_by={"run_id": "b"}, write=save(flowers([3], [3.5])), files=["y"])
    rows = pa.table({"id": [2, 4], "length": [2.75, 4.5], "color": ["red", None]}, COLORED)
    upsert.upsert(table, key=["id"], made_of={"made": "c"}, made_by={"run_id": "c"}, write=save(rows))
    return table


def flowers(ids: list[int], lengths: list[float]) -> pa.Table:
    return pa.table({"id": ids, "length": lengths}, FLOWERS)


def in_spark(session: SparkSession, table: TableUri, version: int) -> list[tuple[object, ...]]:
    frame = session.read.format("delta").option("versionAsOf", version).load(table.path)
    return sorted(tuple(row) for row in frame.collect())


def test_spark_reads_every_version_as_it_was_written(session: SparkSession, table: TableUri) -> None:
    assert in_spark(session, table, 0) == [(1, 1.5), (2, 2.5)]
    assert in_spark(session, table, 1) == [(1, 1.5), (2, 2.5), (3, 3.5)]
    assert in_spark(session, table, 2) == [(1, 1.5, None), (2, 2.5, None), (3, 3.5, None)]
    assert in_spark(session, table, 3) == [(1, 1.5, None), (2, 2.75, "red"), (3, 3.5, None), (4, 4.5, None)]


def test_spark_describes_the_columns_with_their_units(session: SparkSession, table: TableUri) -> None:
    described = session.sql(f"DESCRIBE delta.`{table.path}`").collect()
    units = {row["col_name"]: row["comment"] for row in described if row["col_name"] in COLORED.names}
    assert units == {"id": None, "length": "cm", "color": "as seen at noon"}


def test_which_files_are_ingested_outlives_what_spark_writes_and_its_checkpoints(
    session: SparkSession, table: TableUri
) -> None:
    # Spark's interval between checkpoints; by default 10 versions, each of which takes it seconds.
    session.sql(f"ALTER TABLE delta.`{table.path}` SET TBLPROPERTIES ('delta.checkpointInterval' = '2')").collect()
    for _ in range(2):
        session.sql(f"UPDATE delta.`{table.path}` SET length = length + 1 WHERE id = 1").collect()
    newest = snapshot.open(table)
    assert list(Path(table.path, "_delta_log").glob("*.checkpoint*.parquet"))
    assert commit.ingested_files(newest) == {"x", "y"}
    again = commit.append(table, made_of={}, made_by={"run_id": "d"}, write=save(flowers([9], [9.0])), files=["y"])
    assert (again.table.version, again.written) == (newest.version, False)


def test_files_that_spark_has_written_are_added_and_merged(session: SparkSession, table: TableUri) -> None:
    rows = session.createDataFrame(pa.table({"id": [5], "length": [5.5], "color": ["blue"]}))
    commit.append(table, made_of={}, made_by={"run_id": "d"}, write=save(rows), files=["z"])
    changed = session.createDataFrame(pa.table({"id": [5, 6], "length": [6.5, 6.5], "color": ["blue", "red"]}))
    upsert.upsert(table, key=["id"], made_of={"made": "e"}, made_by={"run_id": "e"}, write=save(changed))
    stored = {row["id"]: row["length"] for row in rows_of(table.path).to_pylist()}
    assert stored == {1: 1.5, 2: 2.75, 3: 3.5, 4: 4.5, 5: 6.5, 6: 6.5}
    comments = [field.metadata.get("comment") for field in DeltaTable(table.path).schema().fields]
    assert comments == [None, "cm", "as seen at noon"]
