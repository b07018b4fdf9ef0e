"""Files of every format: which are read, how many rows of each, and what is said of those that are not."""

import datetime as dt
import gzip
import http.server
import json
import os
import tempfile
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from http_servers import answering
from services import ObjectStore, reaching

from steps.core import config
from steps.core.columns import Column
from steps.core.errors import ContractBroken, SourceChanged, SourceUnreadable, TableVersionGone
from steps.core.sources import kinds, source_sample, values
from steps.core.sources.column_types import InferredType, infer_type
from steps.core.sources.file_source import Files
from steps.core.sources.source import Source
from steps.core.storage import filesystem

pytestmark = pytest.mark.usefixtures("own_store")

NOBODY = 65534  # a user who owns no files


def find(path: Path | str, **settings: object) -> Source:
    return kinds.resolve(config.Source.model_validate({"uri": str(path), **settings}))


def read(source: Source, *names: str, nullable: bool | None = None) -> list[tuple[object, ...]]:
    """The values of these columns in all rows."""
    columns = {name: config.Column(type="string", nullable=nullable) for name in names}
    tables = [raw.columns.select(list(names)) for part in source.parts(columns) for raw in part.read()]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def malformed(source: Source, *names: str) -> list[tuple[int | None, str]]:
    columns = {name: config.Column(type="string") for name in names}
    return [(row.line, row.reason) for part in source.parts(columns) for raw in part.read() for row in raw.malformed]


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class TestRowsAreCounted:
    """The rows read of each file are those that Python or pyarrow count in it."""

    SIZES: ClassVar = {"a": 3, "sub/b": 25_000, "day=1/c": 1, "day=2/deep/d": 7}

    @pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".jsonl", ".json", ".parquet"])
    def test_every_row_of_every_file_below_a_folder_is_read(self, ending: str, tmp_path: Path) -> None:
        expected = {}
        for name, row_count in self.SIZES.items():
            path = tmp_path / "in" / f"{name}{ending}"
            self._write(path, row_count, ending)
            expected[str(path)] = self._count(path, ending)
        source = find(tmp_path / "in")
        counts: Counter[str] = Counter()
        for part in source.parts({"x": config.Column(type="long")}):
            for raw in part.read():
                counts[part.file] += len(raw.columns)
        assert counts == expected
        assert sum(counts.values()) == sum(self.SIZES.values())
        assert isinstance(source, Files)
        assert source.files() == {
            f"{name}{ending}": (tmp_path / "in" / f"{name}{ending}").stat().st_size for name in self.SIZES
        }

    @staticmethod
    def _write(path: Path, row_count: int, ending: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        separator = "\t" if ending == ".tsv" else ","
        if ending == ".parquet":
            pq.write_table(pa.table({"x": range(row_count), "y": range(row_count)}), path)
        elif ending in (".json", ".jsonl"):
            rows = [{"x": row, "y": row} for row in range(row_count)]
            path.write_text(json.dumps(rows) if ending == ".json" else "\n".join(map(json.dumps, rows)))
        else:
            text = "".join([f"x{separator}y\n", *(f"{row}{separator}{row}\n" for row in range(row_count))])
            path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())

    @staticmethod
    def _count(path: Path, ending: str) -> int:
        if ending == ".parquet":
            return int(pq.read_metadata(path).num_rows)
        content = path.read_bytes()
        text = (gzip.decompress(content) if ending.endswith(".gz") else content).decode()
        if ending == ".json":
            return len(json.loads(text))
        return len(text.splitlines()) - (ending != ".jsonl")


class TestWhichFiles:
    def test_what_is_hidden_or_still_being_written_counts_for_nothing_and_is_told(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        write(folder / "a.csv", "x\n1\n")
        fingerprint = find(folder).fingerprint()
        for name in ("b.csv.crdownload", "c.tmp", "d.csv.part", ".e.csv", "_f.csv", "__MACOSX/._a.csv", "_SUCCESS"):
            write(folder / name, "no data")
        source = find(folder)
        assert (read(source, "x"), source.fingerprint()) == ([("1",)], fingerprint)
        assert source.remarks() == [
            f"{folder}: skipped, as the name begins with _ or .: .e.csv, _f.csv",
            f"{folder}: skipped, as still being written: b.csv.crdownload, c.tmp, d.csv.part",
        ]

    def test_copies_are_read_and_told_but_those_in_folders_of_other_values(self, tmp_path: Path) -> None:
        for name in ("day=1/a.csv", "day=1/a (copy).csv", "day=2/a.csv"):
            write(tmp_path / "in" / name, "x\n1\n")
        os.symlink(tmp_path / "in/day=2/a.csv", tmp_path / "in/day=2/link.csv")
        source = find(tmp_path / "in")
        assert sorted(read(source, "day", "x")) == [("1", "1"), ("1", "1"), ("2", "1"), ("2", "1")]
        assert source.remarks() == [
            f"{tmp_path / 'in'}: with the content of another file, so that its rows count twice: "
            "day=1/a.csv, day=2/link.csv"
        ]

    def test_a_glob_of_any_folders_reads_what_a_folder_does(self, tmp_path: Path) -> None:
        names = ("a.csv", "2024/b.csv", "2024/01/c.csv", "_temporary/0/d.csv", ".trash/e.csv", "_f.csv", "2024/.g.csv")
        for row, name in enumerate(names):
            write(tmp_path / "in" / name, f"x\n{row}\n")
        write(tmp_path / "in/2024/readme.txt", "no data")
        source = find(tmp_path / "in/**/*.csv")
        assert isinstance(source, Files)
        assert sorted(source.files()) == ["2024/01/c.csv", "2024/b.csv", "a.csv"]
        assert sorted(read(source, "x")) == [("0",), ("1",), ("2",)]
        assert f"{tmp_path}/in/_f.csv" in "".join(source.remarks())

    def test_a_glob_of_any_folders_has_their_values_as_columns(self, tmp_path: Path) -> None:
        for name in ("day=1/a.csv", "day=2/b.csv"):
            write(tmp_path / "in" / name, "x\n7\n")
        assert read(find(tmp_path / "in/**/*.csv"), "day", "x") == [("1", "7"), ("2", "7")]

    def test_a_link_in_a_circle_below_a_glob_is_named(self, tmp_path: Path) -> None:
        write(tmp_path / "in/a.csv", "x\n1\n")
        os.symlink(tmp_path / "in", tmp_path / "in/loop")
        with pytest.raises(SourceUnreadable, match="loop: it is a link to a folder that it is in"):
            find(tmp_path / "in/**/*.csv")

    def test_a_file_that_is_still_being_written_is_named_when_there_is_no_other(self, tmp_path: Path) -> None:
        with pytest.raises(SourceUnreadable, match="still being written"):
            find(write(tmp_path / "a.csv.part", "x\n1\n"))

    def test_a_folder_that_is_a_link_is_read(self, tmp_path: Path) -> None:
        write(tmp_path / "elsewhere/b.csv", "x\n2\n")
        write(tmp_path / "in/a.csv", "x\n1\n")
        os.symlink(tmp_path / "elsewhere", tmp_path / "in/linked")
        assert read(find(tmp_path / "in"), "x") == [("1",), ("2",)]

    def test_a_link_into_the_folder_that_it_is_in_is_named(self, tmp_path: Path) -> None:
        write(tmp_path / "in/a.csv", "x\n1\n")
        os.symlink(tmp_path / "in", tmp_path / "in/loop")
        with pytest.raises(SourceUnreadable, match="loop: it is a link to a folder that it is in"):
            find(tmp_path / "in")

    def test_a_link_that_leads_nowhere_is_named(self, tmp_path: Path) -> None:
        write(tmp_path / "in/a.csv", "x\n1\n")
        os.symlink("/nowhere.csv", tmp_path / "in/b.csv")
        with pytest.raises(SourceUnreadable, match=r"b\.csv: it is a link to /nowhere\.csv, which is not there"):
            find(tmp_path / "in")

    def test_a_pipe_is_named_and_not_waited_for(self, tmp_path: Path) -> None:
        write(tmp_path / "in/a.csv", "x\n1\n")
        os.mkfifo(tmp_path / "in/b.csv")
        with pytest.raises(SourceUnreadable, match=r"b\.csv: it is no file, but a pipe"):
            find(tmp_path / "in")

    @pytest.mark.parametrize("locked", ["in/sub", "in/sub/b.csv"])
    def test_what_may_not_be_read_is_named(self, locked: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            write(Path(folder, "in/a.csv"), "x\n1\n")
            write(Path(folder, "in/sub/b.csv"), "x\n2\n")
            os.chmod(Path(folder, locked), 0)
            user = os.geteuid()
            try:
                if user == 0:  # who may read everything
                    os.seteuid(NOBODY)
                with pytest.raises(SourceUnreadable, match=r"sub.*Permission denied"):
                    read(find(Path(folder, "in")), "x")
            finally:
                os.seteuid(user)
                os.chmod(Path(folder, locked), 0o700)

    def test_a_glob_of_one_files_name_means_that_file(self, tmp_path: Path) -> None:
        write(tmp_path / "a [1].csv", "x\nitself\n")
        write(tmp_path / "a 1.csv", "x\nneighbour\n")
        assert read(find(tmp_path / "a [1].csv"), "x") == [("itself",)]

    @pytest.mark.parametrize("name", ["q?.csv", "h#a.csv", "c:d.csv", "p%20x.csv", " b .csv", "é*.csv", "a{b,c}.csv"])
    def test_a_file_of_any_name_is_read(self, name: str, tmp_path: Path) -> None:
        assert read(find(write(tmp_path / name, "x\n1\n")), "x") == [("1",)]

    def test_folder_names_are_columns_of_texts(self, tmp_path: Path) -> None:
        for region in ("a%2Fb", "x%3D1", "Köln", "01", "__HIVE_DEFAULT_PARTITION__"):
            write(tmp_path / f"in/region={region}/p.csv", "x\n1\n")
        regions = {region for _, region in read(find(tmp_path / "in"), "x", "region")}
        assert regions == {"a/b", "x=1", "Köln", "01", None}


class TestColumnsByName:
    @pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
    def test_files_are_aligned_by_name_whatever_their_order(self, names: tuple[str, str], tmp_path: Path) -> None:
        write(tmp_path / "in" / names[0], "x,y\n1,2\n")
        write(tmp_path / "in" / names[1], "extra,Y,x\n0,4,3\n")
        assert sorted(read(find(tmp_path / "in"), "x", "y")) == [("1", "2"), ("3", "4")]

    def test_a_name_that_unicode_writes_in_two_ways_is_one(self, tmp_path: Path) -> None:
        write(tmp_path / "in/a.csv", "größe,x\n1,2\n")
        write(tmp_path / "in/b.csv", "x,gro\u0308ße\n4,3\n")
        assert sorted(read(find(tmp_path / "in"), "größe")) == [("1",), ("3",)]

    def test_all_columns_that_no_file_has_are_named_at_once(self, tmp_path: Path) -> None:
        source = find(write(tmp_path / "a.csv", "width,height\n1,2\n"))
        with pytest.raises(ContractBroken, match=r"(?s)'widht'.*did you mean 'width'.*'depth'") as raised:
            read(source, "widht", "height", "depth")
        assert raised.value.missing == {"widht": "widht", "depth": "depth"}

    def test_a_column_that_one_file_lacks_is_an_error_unless_it_may_be_missing(self, tmp_path: Path) -> None:
        write(tmp_path / "in/a.csv", "x,y\n1,2\n")
        write(tmp_path / "in/b.csv", "x,z\n3,4\n")
        with pytest.raises(ContractBroken, match=r"1 of 2 files have no 'y', such as b\.csv, which has x, z"):
            read(find(tmp_path / "in"), "x", "y")
        assert read(find(tmp_path / "in"), "x", "y", nullable=True) == [("1", "2"), ("3", None)]

    @pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
    def test_a_sample_has_some_rows_and_all_columns_that_have_a_value(
        self, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / f"a{ending}"
        if ending == ".csv":
            write(path, "x,y\n" + "1,2\n" * 50)
        elif ending == ".jsonl":
            write(path, '{"x": 1, "y": 2, "list": [1], "object": {}}\n' * 50)
        else:
            pq.write_table(pa.table({"x": [1] * 50, "y": [2] * 50, "list": [[1]] * 50}), path)
        monkeypatch.setattr(source_sample, "MOST_SAMPLE_ROWS", 20)
        source = find(path)
        sample = source_sample.read_sample(source, {name: name for name in source.columns()})
        assert (sample.rows.column_names, sample.is_whole) == (["x", "y"], False)
        assert 20 + 10 <= sample.rows.num_rows <= 20 + 20


class TestManyFiles:
    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_files_with_the_same_columns_share_what_is_known_of_them(self, ending: str, tmp_path: Path) -> None:
        for name, columns in {"a": "xy", "b": "xy", "c": "x", "d": "xy"}.items():
            self._write(tmp_path / f"in/{name}.{ending}", list(columns))
        source = find(tmp_path / "in")
        assert isinstance(source, Files)
        a, b, c, d = source.headers.values()
        assert a is b is d
        assert a is not c
        assert source.files_without("y") == [f"{tmp_path}/in/c.{ending}"]

    def test_memory_for_columns_does_not_grow_with_the_files(self, tmp_path: Path) -> None:
        names = [f"column_{place}" for place in range(1_000)]
        for number in range(50):
            self._write(tmp_path / f"in/{number}.csv", names)
        source = find(tmp_path / "in")
        assert isinstance(source, Files)
        assert len(source.headers) == 50
        tracemalloc.start()
        source.parts({name: Column(type="long") for name in names})
        kept_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept_bytes < 6 * 2**20  # 24 MB when each file looked its columns up in a table of its own

    @staticmethod
    def _write(path: Path, names: list[str]) -> None:
        rows = pd.DataFrame({name: [1] for name in names})
        if path.suffix == ".parquet":
            path.parent.mkdir(exist_ok=True)
            rows.to_parquet(path)
        else:
            is_csv = path.suffix == ".csv"
            write(path, rows.to_csv(index=False) if is_csv else rows.to_json(orient="records", lines=True))


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            '{"x": 9007199254740993, "y": 1.10}\n{"x": true, "y": null}\n',
            '[{"x": 9007199254740993, "y": 1.10}, {"x": true}]',
            '{\n"x": 9007199254740993,\n"y": 1.10\n}\n{\n"x": true\n}\n',
        ],
    )
    def test_lines_arrays_and_objects_in_a_row_are_the_same_and_numbers_keep_their_digits(
        self, text: str, tmp_path: Path
    ) -> None:
        source = find(write(tmp_path / "a.json", text))
        assert read(source, "x", "y") == [("9007199254740993", "1.10"), ("true", None)]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_an_encoding_with_a_mark_is_known(self, encoding: str, tmp_path: Path) -> None:
        source = find(write(tmp_path / "a.jsonl", '{"x": "é"}\n{"x": "ü"}\n'.encode(encoding)))
        assert read(source, "x") == [("é",), ("ü",)]

    def test_lines_that_are_no_objects_are_malformed_with_their_lines(self, tmp_path: Path) -> None:
        lines = ['{"x": 1}', "oops", "[1]", '{"x": 1, "x": 2}', "", '{"x":' * 100_000, '{"x": 4}', '{"x": 5']
        source = find(write(tmp_path / "a.jsonl", "\n".join(lines)))
        assert read(source, "x") == [("1",), ("4",)]
        assert malformed(source, "x") == [
            (2, "are no JSON objects"),
            (3, "are no JSON objects"),
            (4, "have a key twice"),
            (6, "are no JSON objects"),
            (8, "are no JSON objects"),
        ]

    def test_lines_that_are_all_malformed_say_why(self, tmp_path: Path) -> None:
        said = r"its lines have a key twice; line 1 is .*\n.*\n.*write each key of an object once"
        with pytest.raises(SourceUnreadable, match=said):
            read(find(write(tmp_path / "a.jsonl", '{"x": 1, "x": 2}\n' * 3)), "x")

    def test_a_document_with_a_key_twice_says_which(self, tmp_path: Path) -> None:
        said = r"a.json: an object has the key 'x' twice\n.*\n.*write each key of an object once"
        with pytest.raises(SourceUnreadable, match=said):
            read(find(write(tmp_path / "a.json", '[{"x": 1}, {"x": 1, "x": 2}]')), "x")

    @pytest.mark.parametrize("orient", ["columns", "split", "list"])
    def test_values_by_columns_are_no_rows(self, orient: Any, tmp_path: Path) -> None:
        rows = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})
        text = json.dumps(rows.to_dict("list")) if orient == "list" else rows.to_json(orient=orient)
        with pytest.raises(SourceUnreadable, match="the values of each column together.*\n.*\n.*orient='records'"):
            read(find(write(tmp_path / "a.json", text)), "x")

    def test_a_key_that_comes_late_is_found(self, tmp_path: Path) -> None:
        source = find(write(tmp_path / "a.jsonl", '{"x": 1}\n' * 1500 + '{"x": 2, "late": "y"}\n'))
        assert Counter(read(source, "late")) == {(None,): 1500, ("y",): 1}

    def test_a_key_that_no_row_has_is_an_error_also_in_a_long_file(self, tmp_path: Path) -> None:
        source = find(write(tmp_path / "a.jsonl", '{"price": 1}\n' * 1500))
        with pytest.raises(ContractBroken, match="did you mean 'price'"):
            read(source, "prise")

    @pytest.mark.parametrize(
        ("document", "key"),
        [({"data": [{"x": 1}], "page": 1}, "data"), ({"result": {"items": [{"x": 1}]}}, "result.items")],
    )
    @pytest.mark.parametrize("indent", [None, 2])
    def test_rows_under_a_key_are_named_and_read_where_that_is_said(
        self, document: object, key: str, indent: int | None, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "a.json", json.dumps(document, indent=indent))
        with pytest.raises(SourceUnreadable, match=rf"(?s)its rows are under '{key}'.*source\.options\.rows: {key}"):
            read(find(path), "x")
        assert read(find(path, options={"rows": key}), "x") == [("1",)]

    @pytest.mark.parametrize("count", [8, 200])
    @pytest.mark.parametrize(("other", "what"), [({"tier": 1}, "an object"), ([1, 2], "a list")])
    def test_a_row_with_more_than_one_value_where_others_have_one_is_malformed(
        self, other: object, what: str, count: int, tmp_path: Path
    ) -> None:
        rows = [{"x": number, "y": other if number == 7 else number} for number in range(count)]
        source = find(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
        [part] = source.parts({name: Column(type="string") for name in ("x", "y")})
        [read_rows] = part.read()
        assert read_rows.columns["x"].to_pylist() == [str(number) for number in range(count) if number != 7]
        [malformed] = read_rows.malformed
        assert (malformed.reason, malformed.line) == (f"have {what} in 'y', not a value", 8)
        assert malformed.text == json.dumps(rows[7])

    def test_pandas_categories_in_one_file_and_texts_in_another_are_one_column(self, tmp_path: Path) -> None:
        texts = pa.array(["a", "b"])
        pq.write_table(pa.table({"y": texts.dictionary_encode()}), tmp_path / "1.parquet")
        pq.write_table(pa.table({"y": texts}), tmp_path / "2.parquet")
        source = find(str(tmp_path))
        assert source.columns() == {"y": pa.string()}
        assert read(source, "y") == [("a",), ("b",)] * 2
        assert (
            len(
                pa.concat_tables(
                    [rows.columns for part in source.parts({"y": config.Column(type="string")}) for rows in part.read()]
                )
            )
            == 4
        )

    def test_a_number_has_a_point_whatever_the_decimal_mark_of_texts(self, tmp_path: Path) -> None:
        source = find(write(tmp_path / "a.jsonl", '{"x": 1.234}\n{"x": 12}\n{"x": 1.5e3}\n{"x": "1.234,5"}\n'))
        for kind in ("double", "decimal(12,3)"):
            column = Column(type=kind, decimal_mark=",")
            [part] = source.parts({"x": column})
            [read_rows] = part.read()
            converted = values.convert(read_rows.columns["x"], column)
            assert ([float(value) for value in converted.values.to_pylist()], converted.broken) == (
                [1.234, 12.0, 1500.0, 1234.5],
                {},
            )

    def test_an_object_and_a_list_are_refused_when_they_are_asked_for(self, tmp_path: Path) -> None:
        source = find(write(tmp_path / "a.jsonl", '{"customer": {"tier": "gold"}, "tags": [1]}\n'))
        assert read(source, "customer.tier") == [("gold",)]
        with pytest.raises(SourceUnreadable, match=r"customer is an object with customer\.tier"):
            read(source, "customer")
        with pytest.raises(SourceUnreadable, match="tags is a list"):
            read(source, "tags")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("42", "its lines are no JSON objects; line 1 is '42'"),
            ('[{"x": 1}, {"x"', "it is not JSON"),
            ("[" * 100_000, "it is not JSON"),
            ("[[1], [2]]", "it is no array of objects"),
        ],
    )
    def test_what_is_no_table_is_refused(self, text: str, said: str, tmp_path: Path) -> None:
        with pytest.raises(SourceUnreadable, match=said):
            read(find(write(tmp_path / "a.json", text)), "x")

    def test_half_of_a_character_pair_is_a_text_that_the_contract_refuses(self, tmp_path: Path) -> None:
        assert read(find(write(tmp_path / "a.jsonl", '{"x": "\\ud800"}\n')), "x") == [("\ufffd",)]


class TestParquet:
    @pytest.fixture
    def odd(self, tmp_path: Path) -> Path:
        columns = {
            "x": pa.array([1, None]),
            "half": pa.array([1.5, None], pa.float16()),
            "opens": pa.array([dt.time(9), None]),
            "took": pa.array([dt.timedelta(1), None]),
            "tags": pa.array([["a"], None]),
            "id": pa.array([uuid.UUID(int=1).bytes, None], pa.binary(16)),
            "image": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)).cast(
                pa.fixed_shape_tensor(pa.float32(), [2])
            ),
            "place": pa.array([{"q.r": {"lat": 5}}, None]),
        }
        pq.write_table(pa.table(columns), tmp_path / "odd.parquet")
        return tmp_path / "odd.parquet"

    def test_types_that_nobody_asked_for_stop_nothing(self, odd: Path) -> None:
        assert read(find(odd), "x", "half", "place.q.r.lat") == [(1, 1.5, 5), (None, None, None)]

    @pytest.mark.parametrize("name", ["opens", "took", "tags", "id", "image", "place"])
    def test_a_type_that_no_column_takes_is_named_when_it_is_asked_for(self, name: str, odd: Path) -> None:
        kind = str(pq.read_schema(odd).field(name).type)[:6]
        with pytest.raises(SourceUnreadable, match=rf"odd\.parquet: its column '{name}' is of type {kind}"):
            read(find(odd), name)

    def test_a_name_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "a.parquet")
        with pytest.raises(SourceUnreadable, match=r"'x' \(column 1\), 'x' \(column 2\)"):
            read(find(tmp_path / "a.parquet"), "x")

    @pytest.mark.parametrize("kept_bytes", [-20, 100, 6])
    def test_a_file_that_is_not_whole_is_one_message(self, kept_bytes: int, odd: Path) -> None:
        cut = write(odd.parent / "cut.parquet", odd.read_bytes()[:kept_bytes])
        with pytest.raises(SourceUnreadable, match=r"cut\.parquet: it is not a Parquet file, or not whole"):
            read(find(cut), "x")

    @pytest.mark.parametrize("has_arrow_schema", [True, False])
    def test_a_uuid_and_json_are_texts(self, has_arrow_schema: bool, tmp_path: Path) -> None:
        """Also of other writers, whose files say it by Parquet's own types alone."""
        ids = [uuid.UUID("0F5E2A9C-66f1-4C0B-9d3e-00000000000a"), None, uuid.UUID(int=7)]
        columns = {
            "id": pa.array([value and value.bytes for value in ids], pa.uuid()),
            "event": pa.array(['{"x": 1}', "[]", None], pa.json_()),
        }
        table = pa.table({**columns, "of": pa.StructArray.from_arrays(list(columns.values()), list(columns))})
        pq.write_table(table, tmp_path / "a.parquet", store_schema=has_arrow_schema)
        source = find(tmp_path / "a.parquet")
        types = {name: str(kind) for name, kind in source.columns().items() if name != "of"}
        assert types == dict.fromkeys(("id", "event", "of.id", "of.event"), "string")
        rows = [
            ("0f5e2a9c-66f1-4c0b-9d3e-00000000000a", '{"x": 1}'),
            (None, "[]"),
            ("00000000-0000-0000-0000-000000000007", None),
        ]
        assert read(source, "id", "event") == read(source, "of.id", "of.event") == rows
        assert [infer_type(pa.array([], source.columns()[name]), is_text=False) for name in columns] == [
            InferredType({"type": "string"})
        ] * 2

    def test_a_truth_of_a_byte_is_a_boolean(self, tmp_path: Path) -> None:
        values = [True, None, False]
        pq.write_table(pa.table({"x": pa.array(values).cast(pa.bool8())}), tmp_path / "a.parquet")
        source = find(tmp_path / "a.parquet")
        assert source.columns() == {"x": pa.bool_()}
        (part,) = source.parts({"x": Column(type="boolean")})
        assert [raw.columns["x"].to_pylist() for raw in part.read()] == [values]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
class TestAFileThatGoesMeanwhile:
    @pytest.fixture
    def file(self, ending: str, tmp_path: Path) -> Path:
        path = tmp_path / f"a.{ending}"
        if ending == "parquet":
            pq.write_table(pa.table({"x": [1, 2]}), path)
        else:
            write(path, "x\n1\n2\n" if ending == "csv" else '{"x": 1}\n{"x": 2}\n')
        return path

    def test_is_a_change(self, file: Path) -> None:
        source = find(file.parent)
        assert (len(read(source, "x")), source.has_changed()) == (2, False)
        file.unlink()
        assert source.has_changed()

    def test_before_it_is_read_is_told(self, file: Path) -> None:
        [part] = find(str(file)).parts({"x": config.Column(type="string")})
        file.unlink()
        with pytest.raises(SourceUnreadable, match=r"a\.\w+: it cannot be read: No such file or directory\n"):
            list(part.read())


class TestChanges:
    """Whether files were written to since they were first looked at, of which the digests are kept."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write(tmp_path / "in" / "a.csv", "x\n1\n")
        return write(tmp_path / "in" / "b.csv", "x\n2\n").parent

    @pytest.mark.parametrize(
        "act",
        [
            lambda file: file.write_text("x\n3\n"),
            lambda file: file.write_text("x\n2\n4\n"),
            lambda file: file.unlink(),
            lambda file: (file.unlink(), file.mkdir()),
            lambda file: write(file.with_name("c"), "x\n3\n").replace(file),
        ],
        ids=["same size", "longer", "gone", "a folder", "another file in its place"],
    )
    def test_other_bytes_are_a_change(self, act: Callable[[Path], object], folder: Path) -> None:
        source = find(folder)
        source.fingerprint()
        act(folder / "b.csv")
        assert source.has_changed()

    @pytest.mark.parametrize(
        "act",
        [
            lambda file: write(file.with_name("c.csv"), "x\n3\n"),
            lambda file: file.with_name("c.csv").symlink_to("nowhere"),
            lambda file: file.touch(),
            lambda file: file.chmod(0o600),
            lambda file: file.with_name("c").hardlink_to(file),
            lambda file: write(file.with_name("c"), file.read_bytes()).replace(file),
        ],
        ids=["new file", "broken link", "touched", "rights", "hard link", "its copy in its place"],
    )
    def test_the_same_bytes_are_none_and_files_that_came_are_not_read(
        self, act: Callable[[Path], object], folder: Path
    ) -> None:
        source = find(folder)
        first = source.fingerprint()
        act(folder / "b.csv")
        assert (read(source, "x"), source.fingerprint(), source.has_changed()) == ([("1",), ("2",)], first, False)

    def test_a_file_that_was_written_to_between_its_header_and_its_digest_is_one(self, folder: Path) -> None:
        source = find(folder)
        assert list(source.columns()) == ["x"]
        (folder / "b.csv").write_text("y\n2\n")
        source.fingerprint()
        assert source.has_changed()

    def test_files_that_are_not_read_may_go(self, folder: Path) -> None:
        source = find(folder)
        source.fingerprint()
        (folder / "b.csv").unlink()
        assert (source.has_changed([f"{folder}/a.csv"]), source.has_changed()) == (False, True)

    def test_a_file_that_grew_before_its_digest_was_taken_is_one(self, folder: Path) -> None:
        source = find(folder)
        (folder / "b.csv").write_text("x\n2\n4\n")  # of which the parts that are read know nothing
        source.fingerprint()
        assert source.has_changed()


class TestDelta:
    @pytest.fixture
    def table(self, tmp_path: Path) -> str:
        path = str(tmp_path / "table")
        write_deltalake(path, pa.table({"x": [1], "tags": [["a"]], "place": [{"lat": 5}]}))
        write_deltalake(path, pa.table({"x": [2], "tags": [["b"]], "place": [{"lat": 6}]}), mode="append")
        return path

    def test_a_version_is_pinned_in_the_path_or_by_an_option(self, table: str) -> None:
        assert sorted(read(find(table), "X", "place.lat")) == [(1, 5), (2, 6)]
        assert read(find(f"{table}@v0"), "x") == read(find(table, options={"versionAsOf": 0}), "x") == [(1,)]

    def test_the_version_that_was_newest_is_read_and_recorded_whatever_is_written_later(self, table: str) -> None:
        source = find(table)
        first = source.fingerprint()
        write_deltalake(table, pa.table({"x": [3], "tags": [["c"]], "place": [{"lat": 7}]}), mode="append")
        assert (sorted(read(source, "x")), source.fingerprint(), source.has_changed()) == ([(1,), (2,)], first, False)
        assert find(table).fingerprint() not in (first, find(f"{table}@v0").fingerprint())

    def test_a_version_that_is_none_is_refused(self, table: str) -> None:
        with pytest.raises(SourceUnreadable, match="versionAsOf: 'newest' is no version"):
            find(table, options={"versionAsOf": "newest"})
        with pytest.raises(TableVersionGone, match="no such version yet"):
            read(find(f"{table}@v7"), "x")

    def test_a_list_is_refused_when_it_is_asked_for(self, table: str) -> None:
        with pytest.raises(SourceUnreadable, match="'tags' is of type list"):
            read(find(table), "tags")


def test_tsv_as_a_format_is_csv_with_tabs(tmp_path: Path) -> None:
    source = find(write(tmp_path / "a", "x\ty\n1\t2\n"), format="tsv")
    assert (source.format, read(source, "x", "y")) == ("csv", [("1", "2")])


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: (status, headers, body)."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}

    def do_GET(self) -> None:
        status, headers, body = self.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class TestHttp:
    @pytest.fixture
    def server(self) -> Iterator[str]:
        _Handler.answers = {}
        with answering(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)) as url:
            yield url

    @pytest.mark.parametrize(
        ("path", "media_type", "body"),
        [
            ("/a.csv", "", b"x,y\n1,2\n"),
            ("/a.csv.gz?page=1", "application/gzip", gzip.compress(b"x,y\n1,2\n", mtime=0)),
            ("/a.tsv", "", b"x\ty\n1\t2\n"),
            ("/export", "text/csv; charset=utf-8", b"x,y\n1,2\n"),
            ("/export", "text/tab-separated-values", b"x\ty\n1\t2\n"),
            ("/export", "application/json", b'[{"x": 1, "y": 2}]'),
        ],
    )
    def test_the_format_follows_from_the_path_or_the_media_type(
        self, path: str, media_type: str, body: bytes, server: str
    ) -> None:
        _Handler.answers[path] = (200, {"Content-Type": media_type} if media_type else {}, body)
        source = find(f"{server}{path}")
        assert read(source, "x", "y") == [("1", "2")]
        assert {part.file for part in source.parts({"x": config.Column(type="string")})} == {f"{server}{path}"}

    def test_a_parquet_file_is_read_through_a_redirect(self, server: str, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": range(1000)}), tmp_path / "a.parquet")
        _Handler.answers["/new"] = (200, {}, (tmp_path / "a.parquet").read_bytes())
        _Handler.answers["/a.parquet"] = (302, {"Location": "/new"}, b"")
        source = find(f"{server}/a.parquet")
        assert read(source, "x") == [(row,) for row in range(1000)]

    @pytest.mark.parametrize("headers", [{}, {"ETag": '"1"'}])
    def test_what_was_loaded_is_read_and_recorded_whatever_the_server_sends_later(
        self, headers: dict[str, str], server: str
    ) -> None:
        _Handler.answers["/a.csv"] = (200, headers, b"x\n1\n")
        source = find(f"{server}/a.csv")
        first = source.fingerprint()
        assert find(f"{server}/a.csv").fingerprint() == first
        _Handler.answers["/a.csv"] = (200, {"ETag": '"2"'} if headers else {}, b"x\n2\n")
        assert (read(source, "x"), source.fingerprint(), source.has_changed()) == ([("1",)], first, False)
        assert find(f"{server}/a.csv").fingerprint() != first

    def test_a_file_is_the_same_one_each_time_that_it_is_loaded(self, server: str) -> None:
        _Handler.answers["/a.csv"] = (200, {}, b"x\n1\n")
        assert find(f"{server}/a.csv").digests() == find(f"{server}/a.csv").digests()

    @pytest.mark.parametrize(
        ("path", "answer", "said"),
        [
            ("/gone.csv", (404, {}, b""), "its server answers 404"),
            ("/mine.csv", (401, {}, b""), r"its server answers 401 .*~/\.netrc"),
            ("/page.csv", (200, {"Content-Type": "text/html"}, b"<html>"), "answers with a web page"),
            ("/what", (200, {}, b"x\n1\n"), "its format follows neither from its name nor from its media type"),
            ("/round.csv", (302, {"Location": "/round.csv"}, b""), "redirects in a circle"),
            ("/short.csv", (200, {"Content-Length": "100"}, b"x\n1\n"), "its server ended"),
        ],
    )
    def test_what_cannot_be_had_is_one_message(
        self, path: str, answer: tuple[int, dict[str, str], bytes], said: str, server: str
    ) -> None:
        _Handler.answers[path] = answer
        with pytest.raises(SourceUnreadable, match=said):
            read(find(f"{server}{path}"), "x")

    def test_a_server_that_is_not_there_is_one_message(self) -> None:
        with pytest.raises(SourceUnreadable, match="its server cannot be reached"):
            find("http://127.0.0.1:9/a.csv")

    def test_what_is_no_url_is_told(self) -> None:
        with pytest.raises(SourceUnreadable, match=r"http://\[abc/x\.csv: it is no URL: Invalid IPv6 URL"):
            find("http://[abc/x.csv")

    def test_a_password_in_a_url_is_refused_and_not_shown(self, server: str) -> None:
        with pytest.raises(SourceUnreadable, match=r"~/\.netrc") as raised:
            find(server.replace("http://", "http://ann:secret@") + "/a.csv")
        assert "secret" not in str(raised.value)

    @pytest.mark.parametrize("name", ["token", "X-Amz-Signature", "sig", "api_key", "password", "X-Goog-Credential"])
    def test_a_secret_among_the_parameters_of_a_url_is_refused_and_not_shown(self, name: str, server: str) -> None:
        with pytest.raises(SourceUnreadable, match=f"its parameter {name} holds a secret") as raised:
            find(f"{server}/a.csv?page=1&{name}=abc123")
        assert "abc123" not in str(raised.value)

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("x,ä\n1,ü\n".encode("cp1252"), "it is not UTF-8"),
            (b"x,x\n1,2\n", "of its columns 'x'"),
            (b"PK\x03\x04", "a zip archive"),
        ],
    )
    def test_what_is_wrong_with_its_content_is_told_by_its_url(self, body: bytes, said: str, server: str) -> None:
        _Handler.answers["/a.csv"] = (200, {}, body)
        with pytest.raises(SourceUnreadable, match=f"{server}/a.csv: .*{said}"):
            read(find(f"{server}/a.csv"), "x")

    def test_a_column_that_it_lacks_is_told_by_its_url(self, server: str) -> None:
        _Handler.answers["/a.csv"] = (200, {}, b"x\n1\n")
        with pytest.raises(ContractBroken, match=f"source {server}/a.csv breaks the contract"):
            read(find(f"{server}/a.csv"), "y")

    def test_it_is_named_after_its_path(self, server: str) -> None:
        _Handler.answers["/data/churn.csv.gz?page=1"] = (200, {}, b"x\n1\n")
        assert find(f"{server}/data/churn.csv.gz?page=1").named_after == "churn"

    def test_the_loaded_file_is_removed_with_the_source(self, server: str) -> None:
        _Handler.answers["/a.csv"] = (200, {}, b"x\n1\n")
        source = find(f"{server}/a.csv")
        folder = Path(source._file.uri).parent  # type: ignore[attr-defined]
        assert folder.is_dir()
        del source
        assert not folder.exists()


class TestInAnObjectStore:
    @pytest.fixture
    def bucket_folder(self, store: ObjectStore, tmp_path: Path) -> Iterator[str]:
        """The URI of a folder of each test's own."""
        with reaching(store):
            yield f"s3://delta/files/{tmp_path.name}"

    def test_objects_that_stand_for_folders_are_no_files_of_it(self, bucket_folder: str) -> None:
        for name, content in {"": b"", "sub/": b"", "sub_$folder$": b"", "sub/a.csv": b"x\n1\n"}.items():
            filesystem.write(f"{bucket_folder}/{name}", content)
        source = find(bucket_folder)
        assert (source.format, read(source, "x"), source.remarks()) == ("csv", [("1",)], [])

    def test_a_glob_of_any_folders_reads_what_a_folder_does(self, bucket_folder: str) -> None:
        for row, name in enumerate(("a.csv", "2024/b.csv", "2024/01/c.csv", "_temporary/0/d.csv", ".trash/e.csv")):
            filesystem.write(f"{bucket_folder}/{name}", f"x\n{row}\n".encode())
        filesystem.write(f"{bucket_folder}/2024/readme.txt", b"no data")
        assert sorted(read(find(f"{bucket_folder}/**/*.csv"), "x")) == [("0",), ("1",), ("2",)]

    @pytest.mark.parametrize("row_count", [9_000, 900, 0])
    @pytest.mark.parametrize("ending", ["csv", "csv.gz", "csv.zst", "jsonl", "parquet"])
    def test_a_file_that_is_replaced_before_it_is_read_is_told(
        self, bucket_folder: str, ending: str, row_count: int
    ) -> None:
        path = f"{bucket_folder}/a.{ending}"
        filesystem.write(path, self._content(ending, 10_000))
        parts = find(path).parts({"x": Column(type="long")})
        filesystem.write(path, self._content(ending, row_count))
        with pytest.raises(SourceChanged, match="was written to while it was read"):
            [raw for part in parts for raw in part.read()]

    @staticmethod
    def _content(ending: str, row_count: int) -> bytes:
        """A file of hundreds of kilobytes for 10,000 rows, compressed or not."""
        table = pa.table({"x": range(row_count), "y": [str(uuid.uuid4()) for _ in range(row_count)]})
        if ending == "parquet":
            pq.write_table(table, sink := pa.BufferOutputStream())
            return bytes(sink.getvalue())
        rows = table.to_pandas()
        text = rows.to_json(orient="records", lines=True) if ending == "jsonl" else rows.to_csv(index=False)
        if ending == "csv.zst":
            return bytes(pa.compress(text.encode(), codec="zstd"))
        return gzip.compress(text.encode()) if ending == "csv.gz" else text.encode()
