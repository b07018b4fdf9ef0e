"""What a source's files become as rows: by name, whole, as text where they have no types, and told where not."""

import datetime as dt
import gzip
import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from place import CASES
from pyspark.sql import DataFrame, SparkSession
from small import flowers_config, sqlite, tracked

from steps.core import config
from steps.core.errors import ContractBroken, SourceUnreadable
from steps.core.sources import contract, kinds
from steps.core.sources.source import Source
from steps.core.spark.session import spark_session

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def session(served: dict[str, str]) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.items():
            patch.setenv(name, value)
        with spark_session(data_bytes=0) as made:
            yield made


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> Iterator[None]:
    with tracked(sqlite(tmp_path)):
        yield


def source(path: Path, **options: object) -> Source:
    return kinds.resolve(config.Source.model_validate({"uri": str(path), "options": options}))


def read(session: SparkSession, path: Path, *columns: str, **options: object) -> DataFrame:
    return source(path, **options).read(session, columns=columns)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def rows(frame: DataFrame, *names: str) -> list[tuple[object, ...]]:
    return sorted(tuple(row) for row in frame.select(*names).collect())


CSV = ("a,b\n1,2\n", "b,a\n4,3\n", "a,c,b\n5,x,6\n")
EXPECTED = [("1", "2"), ("3", "4"), ("5", "6")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_csv_files_are_read_by_the_names_of_their_columns_in_whatever_order(
    session: SparkSession, order: tuple[int, ...], tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", **{f"f{place}": CSV[number] for place, number in enumerate(order)})
    assert rows(read(session, folder, "a", "b"), "a", "b") == EXPECTED


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_parquet_files_are_read_by_name_and_with_the_wider_type(
    session: SparkSession, order: tuple[int, int], tmp_path: Path
) -> None:
    tables = [pa.table({"x": [1.5], "n": pa.array([1], pa.int64())}),
              pa.table({"n": pa.array([2], pa.int32()), "more": ["?"], "x": pa.array([3], pa.int64())})]  # fmt: skip
    for place, number in enumerate(order):
        pq.write_table(tables[number], tmp_path / f"f{place}.parquet")
    assert rows(read(session, tmp_path / "*.parquet", "x", "n"), "x", "n") == [(1.5, 1), (3.0, 2)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_json_files_are_read_by_name(session: SparkSession, order: tuple[int, int], tmp_path: Path) -> None:
    texts = ['{"a": 1, "b": 2}\n', '{"b": 4, "c": 5, "a": 3}\n']
    for place, number in enumerate(order):
        (tmp_path / f"f{place}.jsonl").write_text(texts[number])
    assert rows(read(session, tmp_path / "*.jsonl", "a", "b"), "a", "b") == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_without_a_column_that_others_have_is_named_with_both_headers(
    session: SparkSession, kind: str, order: tuple[int, int], tmp_path: Path
) -> None:
    frames = [pd.DataFrame({"id": [1], "width": [2]}), pd.DataFrame({"id": [1], "Width": [2]})]
    for place, number in enumerate(order):
        name = tmp_path / "in" / f"f{place}.{kind}"
        name.parent.mkdir(exist_ok=True)
        frames[number].to_csv(name, index=False) if kind == "csv" else frames[number].to_parquet(name)
    lacking, having = (f"f{order.index(number)}.{kind}" for number in (1, 0))
    message = rf"column 'width': {lacking} has id, Width; {having} has id, width\n"
    with pytest.raises(SourceUnreadable, match=message):
        read(session, tmp_path / "in", "id", "width")


@pytest.mark.parametrize("headers", ["one", "two"])
def test_values_in_the_names_of_folders_are_text_as_it_is_written_there(
    session: SparkSession, headers: str, tmp_path: Path
) -> None:
    values = {"01": "01", "1": "1", "a%2Fb": "a/b", "Köln": "Köln", "__HIVE_DEFAULT_PARTITION__": None}
    for number, name in enumerate(values):
        write(tmp_path / "in" / f"hour={name}", f="x,y\n1,2\n" if number % 2 and headers == "two" else "y,x\n2,1\n")
    frame = read(session, tmp_path / "in", "x", "hour")
    assert {row["hour"] for row in frame.collect()} == set(values.values())
    assert rows(frame, "x", "y") == [("1", "2")] * 5


def test_parquet_below_such_folders_is_read_so_too_and_a_part_of_no_bytes_is_told(
    session: SparkSession, tmp_path: Path
) -> None:
    for name in ("2024-01", "07"):
        folder = tmp_path / "in" / f"month={name}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), folder / "part-0.parquet")
    (tmp_path / "in" / "month=07" / "part-1.parquet").touch()
    assert rows(read(session, tmp_path / "in", "month"), "month", "x") == [("07", 1), ("2024-01", 1)]
    assert source(tmp_path / "in").remarks() == [f"{tmp_path}/in: without rows: month=07/part-1.parquet"]


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", jan="x\n1\n", _feb="x\n2\n", mar="", apr="x\n")
    (folder / ".may.csv.gz").write_bytes(gzip.compress(b"x\n1\n"))
    (folder / "_SUCCESS").touch()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "jan-checkpoint.csv").write_text("x\n1\n")
    assert source(folder).remarks() == [
        f"{folder}: skipped, as the name begins with _ or .: .may.csv.gz, _feb.csv",
        f"{folder}: without rows: apr.csv, mar.csv",
    ]


@pytest.mark.parametrize("empty", ["a", "z"])
def test_the_header_of_a_file_without_rows_counts_for_nothing(
    session: SparkSession, empty: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", **{empty: "c,a\n", "m": "a,b\n1,2\n"})
    assert rows(read(session, folder, "a", "b"), "a", "b") == [("1", "2")]


def test_a_source_of_nothing_but_empty_files_is_told_with_their_names(session: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"no file has rows: a\.csv, b\.csv\n"):
        read(session, write(tmp_path / "in", a="x\n", b=""))


def test_a_file_that_spark_skips_for_its_name_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", _feb="x\n2\n")
    with pytest.raises(
        SourceUnreadable, match=r"of _feb\.csv the name begins with _ or \., which Spark skips\n.*\n.*rename"
    ):
        source(folder)


@pytest.mark.parametrize(("case", "columns", "named"), [
    ("I04_dup_case.csv", ("id", "amount"), "'Amount', 'amount'"), ("I04_dup_exact.csv", ("x",), "'x', 'x'")
])  # fmt: skip
def test_columns_that_spark_cannot_tell_apart_are_refused_by_their_own_names(
    session: SparkSession, case: str, columns: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceUnreadable, match=rf"of its columns {named} the names are equal but for upper and lower"):
        read(session, CASES / case, *columns)


@pytest.mark.parametrize("line", ["4,0.5", "4,0.5,a,more"])
def test_a_row_of_another_length_is_told_with_its_line_and_how_many_there_are(
    session: SparkSession, line: str, tmp_path: Path
) -> None:
    text = f'id,x,label\n1,0.1,"a\nb"\n2,0.2,b\n{line}\n5,0.1,a\n{line}\n'
    ragged = source(write(tmp_path / "in", ragged=text))
    message = f"line 5 of ragged.csv has {line.count(',') + 1} values and the header 3 (2 such rows in all): {line!r}\n"
    with pytest.raises(SourceUnreadable, match=re.escape(message)), ragged.explaining_errors():
        ragged.read(session).collect()


def test_timestamps_in_nanoseconds_as_pandas_writes_them_are_read(session: SparkSession, tmp_path: Path) -> None:
    times = ["2024-02-29 12:00:00.123456789", "1969-12-31 23:59:59.999999001"]
    frame = pd.DataFrame({"at": pd.to_datetime(times), "x": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert pq.read_schema(tmp_path / "a.parquet").field("at").type == pa.timestamp("ns")
    columns = {"at": config.Column(type="timestamp"), "x": config.Column(type="long")}
    read_rows = contract.conform(read(session, tmp_path / "a.parquet", "at", "x"), columns).orderBy("x").collect()
    assert [row["at"].replace(tzinfo=None) for row in read_rows] == [
        dt.datetime(2024, 2, 29, 12, 0, 0, 123456), dt.datetime(1969, 12, 31, 23, 59, 59, 999999)
    ]  # fmt: skip


def test_a_column_that_spark_has_no_type_for_is_named(session: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "opens": [dt.time(9, 30)]}), tmp_path / "a.parquet")
    with pytest.raises(SourceUnreadable, match=r"Spark has no type for its columns opens \(time64\[us\]\)\n"):
        read(session, tmp_path / "a.parquet", "x")


def test_values_that_were_not_split_are_a_broken_contract_and_no_missing_labels(
    session: SparkSession, tmp_path: Path
) -> None:
    found = source(write(tmp_path / "in", f="petal_length;petals;wild;color;species\n1;2;true;red;rose\n"))
    message = r"are its values separated by ';'\? Then say source.options.sep"
    with pytest.raises(ContractBroken, match=message):
        contract.check(found.read(session), flowers_config(), source=found, table="/lake/flowers")


NAMES = ["my data é.csv", "a [1].csv", "[x]*?.csv", "a{1,2}.csv", "50%.csv", "c#.csv", "a\\b.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_read(session: SparkSession, name: str, tmp_path: Path) -> None:
    for other in ("a 1.csv", "a1.csv", "xyz.csv"):
        (tmp_path / other).write_text("other,names\nwrong,wrong\n")
    (tmp_path / name).write_text("a\nright\n")
    assert rows(read(session, tmp_path / name, "a"), "a") == [("right",)]


def test_a_json_array_is_refused_where_spark_would_learn_its_columns_from_another_file(
    session: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "a 1.json").write_text('[{"wrong": 1}]')
    (tmp_path / "a [1].json").write_text('[{"a": 1}]')
    with pytest.raises(SourceUnreadable, match=r"a \[1\]\.json: .* in its name for a pattern\n.*\n.*rename the file"):
        read(session, tmp_path / "a [1].json")
    (tmp_path / "a [1].json").write_text('{"a": 1}\n{"a": 2}\n')
    assert rows(read(session, tmp_path / "a [1].json", "a"), "a") == [("1",), ("2",)]


@pytest.mark.parametrize("folder", ["[x]*?", "a{1,2}"])
def test_a_folder_of_any_name_is_read(session: SparkSession, folder: str, tmp_path: Path) -> None:
    write(tmp_path / folder / "day=1", f="a,b\n1,2\n")
    assert rows(read(session, tmp_path / folder, "a"), "a", "day") == [("1", "1")]
    write(tmp_path / folder / "day=2", f="b,a\n4,3\n")
    assert rows(read(session, tmp_path / folder, "a"), "a", "day") == [("1", "1"), ("3", "2")]


@pytest.mark.parametrize("options", [{"HEADER": "false"}, {"header": False}])
def test_an_option_counts_in_any_case(session: SparkSession, options: dict[str, object], tmp_path: Path) -> None:
    folder = write(tmp_path / "in", f="1,2\n3,4\n")
    assert rows(read(session, folder, **options), "_c0", "_c1") == [("1", "2"), ("3", "4")]
