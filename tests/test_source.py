"""Where a source is and what format it has, before Spark reads it."""

import bz2
import datetime as dt
import gzip
import itertools
import json
import lzma
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import Schema, write_deltalake
from deltalake.transaction import AddAction, create_table_with_add_actions

from steps.core import config
from steps.core.errors import FormatsMixed, SourceChanged, SourceUnreadable
from steps.core.process import memory
from steps.core.sources import contract, ingestion, kinds, listing, sklearn_dataset
from steps.core.sources.job import Job
from steps.core.sources.rows import BatchesPart, Part, RawRows
from steps.core.sources.source import Source

pytestmark = pytest.mark.usefixtures("own_store")


def folder(path: Path, *names: str, text: bytes = b"x\n1\n") -> str:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text)
    return str(path)


def find(uri: str, instead: str = "", **changes: object) -> Source:
    return kinds.resolve(config.Source.model_validate({"uri": uri, **changes}), instead)


def resolve(uri: str, instead: str = "", **changes: object) -> config.Source:
    return find(uri, instead, **changes).settings


def rows_read(path: Path, *columns: str) -> list[tuple[object, ...]]:
    """The values of these columns, of all rows, as text."""
    wanted = {name: config.Column(type="string") for name in columns}
    parts = find(str(path)).parts(wanted)
    tables = [raw.columns.select(list(columns)) for part in parts for raw in part.read()]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.json", "json"),
        ("a.jsonl", "json"),
        ("a.ndjson", "json"),
        ("a.parquet", "parquet"),
        ("data 1.2.csv", "csv"),
    ],
)
def test_the_format_follows_from_the_files_name(name: str, kind: str, tmp_path: Path) -> None:
    folder(tmp_path, name)
    assert resolve(str(tmp_path / name)) == config.Source(uri=str(tmp_path / name), format=kind)


def test_a_folder_has_the_format_of_its_files_however_deep(tmp_path: Path) -> None:
    assert resolve(folder(tmp_path / "in", "day=1/a.parquet", "day=2/b.parquet")).format == "parquet"


def test_what_is_passed_over_says_nothing_of_the_format(tmp_path: Path) -> None:
    assert resolve(folder(tmp_path / "in", "a.parquet", "_SUCCESS", "._SUCCESS.crc", "_notes.csv")).format == "parquet"


def test_a_glob_has_the_format_of_what_it_matches(tmp_path: Path) -> None:
    folder(tmp_path, "a1.csv", "a2.csv", "b.json")
    assert resolve(f"{tmp_path}/a*.csv").format == "csv"


def test_a_folder_with_a_delta_log_is_delta(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"x": [1]}))
    assert resolve(str(tmp_path / "t")).format == "delta"


def test_a_format_that_is_said_goes_before_the_name(tmp_path: Path) -> None:
    folder(tmp_path, "a.txt")
    assert resolve(str(tmp_path / "a.txt"), format="csv").format == "csv"


def test_a_relative_path_starts_beside_the_tracking_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, "data/a.csv")
    monkeypatch.chdir("/")
    assert resolve("data/a.csv").uri == f"{tmp_path}/data/a.csv"


@pytest.mark.parametrize("name", ["my data é.csv", "a [1].csv", "50%.csv", "c#.csv"])
def test_a_file_of_any_name_is_found(name: str, tmp_path: Path) -> None:
    folder(tmp_path, name)
    assert resolve(str(tmp_path / name)).uri == str(tmp_path / name)


def test_a_parameter_goes_before_the_config_and_keeps_its_options(tmp_path: Path) -> None:
    folder(tmp_path, "a.csv")
    made = resolve("sklearn:iris", instead=str(tmp_path / "a.csv"), options={"sep": ";"})
    assert made == config.Source(uri=str(tmp_path / "a.csv"), format="csv", options={"sep": ";"})


def test_a_data_set_of_scikit_learn_is_left_as_it_is() -> None:
    made = find("sklearn:wine")
    assert (made.settings, made.size_bytes()) == (config.Source(uri="sklearn:wine"), 0)


@pytest.mark.parametrize("name", ["nope.csv", "nope/", "*.csv"])
def test_a_source_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"there is no such file or folder\n.*\n.*-P source=URI"):
        resolve(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.csv", "b.json"], r"\.csv, \.json"),
        (["a.txt"], r"\.txt"),
        (["a.csv", "README.md"], r"\.csv, \.md"),
        (["a.csv", "b.CSV", "README.md"], r"\.csv, \.md"),
        (["part-00000"], "no ending"),
    ],
)
def test_a_format_that_does_not_follow_is_asked_for(names: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    message = rf"its format does not follow from the names of its files \({said}\)\n.*\n.*say source.format"
    with pytest.raises(SourceUnreadable, match=message):
        resolve(folder(tmp_path / "in", *names))


def test_what_lies_in_a_hidden_folder_is_not_data_and_the_sources_own_name_hides_nothing(tmp_path: Path) -> None:
    names = [
        "a.csv",
        "_day=1/b.csv",
        ".ipynb_checkpoints/a-checkpoint.csv",
        "_temporary/0/part.csv",
        "__MACOSX/._a.csv",
    ]
    uri = folder(tmp_path / "_in", *names)
    assert sorted(listing.data_files(uri)) == [f"{uri}/_day=1/b.csv", f"{uri}/a.csv"]
    assert listing.hidden_files(uri) == []


def test_the_size_is_that_of_the_data_files(tmp_path: Path) -> None:
    uri = folder(tmp_path / "in", "a.csv", "deep/b.csv", text=b"12345")
    folder(tmp_path / "in", "_SUCCESS", ".hidden", "_log/0.json", text=b"not data")
    assert find(uri).size_bytes() == 10
    assert find(f"{tmp_path}/in/*.csv").size_bytes() == 5


@pytest.mark.parametrize(
    "text",
    [
        b'[{"x": 1}, {"x": 2}]',
        b'\xef\xbb\xbf\r\n\t [\n {"x": 1},{"x": 2}\n]',
        b'{"x": 1}\n{"x": 2}\n',
        b'{"x": 1}\r\n\r\n{"x": 2}',
        gzip.compress(b'[{"x": 1}, {"x": 2}]', mtime=0),
    ],
    ids=["array", "mark and blanks", "lines", "an empty line", "gzip"],
)
def test_an_array_and_an_object_a_line_are_the_same_rows(text: bytes, tmp_path: Path) -> None:
    folder(tmp_path, "a.json", text=text)
    assert rows_read(tmp_path / "a.json", "x") == [("1",), ("2",)]


def test_an_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    folder(tmp_path, "a.json", text=b'{\n  "x": 1\n}\n')
    assert rows_read(tmp_path / "a.json", "x") == [("1",)]


@pytest.mark.parametrize(
    ("names", "glob"),
    [
        (["1.csv", "2.csv"], "*.csv"),
        (["1.CSV", "2.CSV"], "*.CSV"),
        (["1.csv.gz", "2.csv.gz"], "*.csv.gz"),
        (["1.csv", "2.csv.gz"], "*.csv*"),
        (["1.csv", "2.csv", "1.json"], "*.csv"),
    ],
)
def test_data_beside_other_files_is_named_by_a_glob(names: list[str], glob: str, tmp_path: Path) -> None:
    folder(tmp_path, "README.md", *names)
    with pytest.raises(FormatsMixed, match=rf"such as {re.escape(str(tmp_path / glob))}; or say source.format"):
        resolve(str(tmp_path))


def test_moments_of_sparks_old_type_keep_their_year(tmp_path: Path) -> None:
    """An open end is the year 9999, which nanoseconds do not reach."""
    moments = [dt.datetime(9999, 12, 31, 23, 59, 59), dt.datetime(1, 1, 1), dt.datetime(2024, 3, 1, 12, 0, 0, 1)]
    rows = pa.table({"x": pa.array(moments, pa.timestamp("us"))})
    (path := tmp_path / "table").mkdir()
    pq.write_table(rows, path / "1.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    assert [value for (value,) in rows_read(path / "1.parquet", "x")] == moments
    schema = Schema.from_arrow(pa.schema([("x", pa.timestamp("us", "UTC"))]))
    file = AddAction("1.parquet", (path / "1.parquet").stat().st_size, {}, 0, True, "{}")
    create_table_with_add_actions(str(path), schema, [file])
    stored = [value for (value,) in rows_read(path, "x")]
    assert stored == [moment.replace(tzinfo=dt.UTC) for moment in moments]


def test_a_folder_without_files_is_told_also_when_its_format_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceUnreadable, match="no files"):
        resolve(str(tmp_path / "in"), format="json")


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        *[("a.csv", gzip.compress), ("a.csv.gzip", gzip.compress), ("a.csv.gz", bytes), ("a.csv.gz", bz2.compress)],
        ("a.csv.xz", lzma.compress),
    ],
)
def test_a_file_is_decompressed_by_its_content_whatever_its_name(
    name: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    folder(tmp_path / "in", name, text=compress(b"x,y\n1,2\n"))
    assert rows_read(tmp_path / "in", "y") == [("2",)]


def test_a_compressed_file_has_the_format_that_its_name_says(tmp_path: Path) -> None:
    assert resolve(folder(tmp_path / "in", "a.csv.gz", text=gzip.compress(b"x\n1\n", mtime=0))).format == "csv"


def test_arrays_and_lines_in_one_folder_are_each_read_as_what_they_are(tmp_path: Path) -> None:
    folder(tmp_path / "in", "a.json", text=b'[{"x": 1}]')
    folder(tmp_path / "in", "b.json", text=b'{"x": 2}\n{"x": 3}\n')
    assert rows_read(tmp_path / "in", "x") == [("1",), ("2",), ("3",)]


def test_a_document_that_memory_does_not_hold_is_refused_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object a line takes as little, whatever the size of the file."""
    rows = [json.dumps({"x": number}) for number in range(1000)]
    folder(tmp_path, "a.json", text=f"[{','.join(rows)}]".encode())
    folder(tmp_path, "b.jsonl", text="\n".join(rows).encode())
    monkeypatch.setattr(memory, "available_bytes", lambda: 50_000)
    with pytest.raises(SourceUnreadable, match=r"(?s)it is one document, .* of more than 5,000 letters; .*\.jsonl"):
        rows_read(tmp_path / "a.json", "x")
    assert len(rows_read(tmp_path / "b.jsonl", "x")) == 1000


@pytest.mark.parametrize("uri", ["gs://bucket/a.csv", "https://host/a.csv", "sklean:iris"])
def test_a_source_of_an_unknown_kind_is_a_mistake_in_the_source(uri: str) -> None:
    with pytest.raises(SourceUnreadable, match=uri):
        resolve(uri)


def test_tables_of_scikit_learn_carry_their_labels_as_text() -> None:
    from sklearn.datasets import load_iris

    table = sklearn_dataset.load("iris")
    reference = load_iris()
    assert table["target"].to_pylist() == [reference.target_names[code] for code in reference.target]
    assert table.column_names == [*reference.feature_names, "target"]


def test_a_data_set_that_scikit_learn_does_not_have_is_refused_with_those_that_it_has() -> None:
    message = r"no data set 'irs' \(did you mean 'iris'\?\); there are iris, wine, breast_cancer, diabetes\n"
    with pytest.raises(SourceUnreadable, match=message):
        resolve("sklearn:irs")


@pytest.mark.parametrize(
    ("format", "option", "hint"),
    [
        ("csv", "seperator", r"seperator is not an option"),
        ("csv", "delimeter", r"delimeter is not an option of this source \(did you mean 'delimiter'\?\)"),
        (None, "multiline_", r"\(did you mean 'multiLine'\?\)"),
        ("csv", "dateFormat", r"dateFormat is not an option of this source: say columns\.<name>\.format"),
        ("parquet", "sep", "sep is not an option"),
    ],
)
def test_an_option_that_there_is_not_is_refused_with_what_says_the_same(
    format: str | None, option: str, hint: str, tmp_path: Path
) -> None:
    folder(tmp_path, "a.csv")
    with pytest.raises(SourceUnreadable, match=hint):
        resolve(str(tmp_path / "a.csv"), format=format, options={option: ";"})


def test_options_are_taken_in_any_case_as_spark_does(tmp_path: Path) -> None:
    folder(tmp_path, "a.csv")
    assert resolve(str(tmp_path / "a.csv"), options={"SEP": ";"}).options == {"SEP": ";"}


@pytest.mark.parametrize(("given", "hint"), [("xls", ""), ("cvs", r" \(did you mean 'csv'\?\)")])
def test_a_format_that_there_is_not_is_refused_with_those_that_there_are(given: str, hint: str) -> None:
    with pytest.raises(
        SourceUnreadable, match=rf"source\.format: '{given}' is none of delta, csv, json, parquet{hint}\n"
    ):
        resolve("a.xls", format=given)


def test_a_folder_that_is_said_to_be_delta_and_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"in: it is not a Delta table\n.*\n.*correct source\.format"):
        resolve(folder(tmp_path / "in", "a.csv"), format="delta")


def test_a_file_that_is_there_under_a_globs_own_letters_goes_before_what_the_glob_matches(tmp_path: Path) -> None:
    uri = f"{folder(tmp_path, 'a [1].csv', 'a 1.csv', 'a 2.csv')}/a [1].csv"
    assert list(listing.data_files(uri)) == [uri]
    assert list(listing.data_files(f"{tmp_path}/a [2].csv")) == [f"{tmp_path}/a 2.csv"]


@pytest.mark.parametrize("name", ["12:30.csv", "12:30/a.csv", "a?.csv", "a#1 %20.csv", "{x}*.csv"])
def test_a_file_of_any_name_is_read(name: str, tmp_path: Path) -> None:
    folder(tmp_path / "in", name, text=b"x,y\n1,2\n")
    assert rows_read(tmp_path / "in", "x", "y") == [("1", "2")]


def test_the_settings_of_a_source_are_enough_to_have_it_again(tmp_path: Path) -> None:
    folder(tmp_path, "a.csv")
    write_deltalake(str(tmp_path / "t"), pa.table({"x": [1]}))
    for uri in ("sklearn:iris", f"{tmp_path}/a.csv", f"{tmp_path}/t"):
        found = find(uri)
        again = kinds.source_of(found.settings)
        assert type(again) is type(found)
        assert again.fingerprint() == found.fingerprint()


def test_a_folder_below_is_read_and_counted(tmp_path: Path) -> None:
    folder(tmp_path / "in", "a.csv", "sub/b.csv", "sub/deep/c.csv", text=b"x,y\n1,2\n")
    assert len(rows_read(tmp_path / "in", "x")) == 3


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    assert contract.missing_columns({"id": "id", "first_name": "prénom"}, ["id", "prenom"]) == {
        "first_name": "column 'first_name': the source has no 'prénom' (did you mean 'prenom'?); it has id, prenom"
    }


def test_rows_that_share_a_key_are_rejects_whatever_the_key_is_called(tmp_path: Path) -> None:
    names = ("row", "place", "count_all", "0", "file", "text")
    rows = (names, *(digit * len(names) for digit in "122"))
    (tmp_path / "in.csv").write_text("\n".join(map(",".join, rows)))
    job = Job(
        columns={name: config.Column(type="long") for name in names},
        key=names,
        target="",
        folder=f"{tmp_path}/rows",
        rejects_folder=f"{tmp_path}/rejects",
        table=f"{tmp_path}/table",
    )
    result = ingestion.run(find(f"{tmp_path}/in.csv"), job)
    broken = {str(rule): count for rule, count in result.broken.items()}
    assert (result.rows, broken) == (1, {f"key {', '.join(names)}: {ingestion.REPEATED_KEY}": 2})


def test_a_key_of_json_that_comes_after_the_first_thousands_of_rows_is_a_column(tmp_path: Path) -> None:
    text = b'{"x": 1}\n' * 9_000 + b'{"x": 2, "late": 1, "nest": {"k": 2}}\n'
    assert {"x", "late", "nest.k"} <= {*find(folder(tmp_path, "a.jsonl", text=text)).columns()}


@pytest.mark.parametrize(("name", "text"), [("part.csv", b"a,b\n7,8\n"), ("part.json", b'{"a": 7, "b": 8}\n')])
def test_a_column_that_both_a_file_and_its_folder_have_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    folder(tmp_path / "in", f"a=1/{name}", f"a=2/{name}", text=text)
    with pytest.raises(SourceUnreadable, match=rf"a=1/{name}: it has a column 'a', and so has the name of its folder"):
        rows_read(tmp_path / "in", "a", "b")
    assert rows_read(tmp_path / "in", "b") == [("8",), ("8",)]


def test_a_key_of_json_with_a_dot_that_is_the_path_of_a_nested_one_is_refused(tmp_path: Path) -> None:
    uri = folder(tmp_path, "a.jsonl", text=b'{"a.b": 0.1, "a": {"b": 7, "c": 1}}\n')
    with pytest.raises(SourceUnreadable, match=r"'a\.b' is both a key with a dot and the path of a nested field"):
        find(uri).columns()


class LiveTable(Source):
    """A table that somebody writes to all the time: `readings` are the ids that it has, one time after another."""

    def __init__(self, *readings: list[int]) -> None:
        super().__init__(config.Source(uri="live"))
        self.readings = list(readings)

    def check(self) -> None:
        """Nothing is wrong with it."""

    def fingerprint(self) -> None:
        """It has none."""

    def columns(self) -> dict[str, pa.DataType]:
        return {"id": pa.int64()}

    def parts(self, columns: Mapping[str, config.Column]) -> list[Part]:
        rows = pa.record_batch({"id": self.readings.pop(0)})
        batches = iter([RawRows(columns=pa.Table.from_batches([rows]))])
        return [BatchesPart(file="live", size_bytes=0, batches=batches)]


class TestALiveTable:
    def ingested(self, tmp_path: Path, *readings: list[int]) -> tuple[list[int], int]:
        """The ids of the good rows, and how many rejects there are."""
        job = Job(
            columns={"id": config.Column(type="long")},
            key=("id",),
            target="",
            folder=str(tmp_path / "rows"),
            rejects_folder=str(tmp_path / "rejects"),
            table="t",
        )
        result = ingestion.run(LiveTable(*readings), job)
        ids = [pq.read_table(tmp_path / "rows" / name)["id"].to_pylist() for name in result.files]
        return sorted(itertools.chain.from_iterable(ids)), result.rejected

    def test_is_read_again_without_the_keys_that_more_than_one_row_has(self, tmp_path: Path) -> None:
        assert self.ingested(tmp_path, [1, 1, 2], [1, 1, 2, 3]) == ([2, 3], 2)

    def test_is_refused_where_other_keys_are_repeated_by_then(self, tmp_path: Path) -> None:
        with pytest.raises(SourceChanged, match="source live was written to while it was read"):
            self.ingested(tmp_path, [1, 1, 2], [1, 1, 2, 2])
