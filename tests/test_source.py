"""Where a source is and what format it has, before Spark reads it."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from small import sqlite, tracked

from steps.core import config
from steps.core.errors import SourceUnreadable
from steps.core.sources import contract, reader, source


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> Iterator[None]:
    with tracked(sqlite(tmp_path)):
        yield


def folder(path: Path, *names: str, text: bytes = b"x\n1\n") -> str:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text)
    return str(path)


def resolve(uri: str, instead: str = "", **changes: object) -> config.Source:
    return source.resolve(config.Source.model_validate({"uri": uri, **changes}), instead)


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


def test_what_spark_passes_over_says_nothing_of_the_format(tmp_path: Path) -> None:
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
    made = resolve("sklearn:wine")
    assert (made.uri, made.format, source.size_bytes(made)) == ("sklearn:wine", None, 0)


@pytest.mark.parametrize("name", ["nope.csv", "nope/", "*.csv"])
def test_a_source_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"there is no such file or folder\n.*\n.*-P source=URI"):
        resolve(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.csv", "b.json"], r"\.csv, \.json"),
        (["a.txt"], r"\.txt"),
        (["a.csv.gzip"], r"\.gzip"),
        (["a.csv", "README.md"], r"\.csv, \.md"),
        (["part-00000"], "no ending"),
    ],
)
def test_a_format_that_does_not_follow_is_asked_for(names: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    message = rf"its format does not follow from its files' names \({said}\)\n.*\n.*say source.format"
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
    assert sorted(source.files(uri)) == [f"{uri}/_day=1/b.csv", f"{uri}/a.csv"]
    assert source.passed_over(uri) == []


def test_the_size_is_that_of_the_data_files(tmp_path: Path) -> None:
    uri = folder(tmp_path / "in", "a.csv", "deep/b.csv", text=b"12345")
    folder(tmp_path / "in", "_SUCCESS", ".hidden", "_delta_log/0.json", text=b"not data")
    assert source.size_bytes(config.Source(uri=uri)) == 10
    assert source.size_bytes(config.Source(uri=f"{tmp_path}/in/*.csv")) == 5


@pytest.mark.parametrize(
    ("text", "document"),
    [
        (b'[{"a": 1}]', True),
        (b'\xef\xbb\xbf\r\n\t [\n {"a": 1}\n]', True),
        (b'{"a": 1}\n{"a": 2}\n', False),
        (b'{"a": [1]}', False),
        (b'{\n  "a": 1\n}\n', True),
        (b"", False),
    ],
)
def test_an_array_is_told_from_an_object_a_line(text: bytes, document: bool, tmp_path: Path) -> None:
    folder(tmp_path, "a.json", text=text)
    assert reader._is_one_document(str(tmp_path / "a.json")) is document
    assert reader._is_one_document(str(tmp_path)) is document


def test_a_folder_without_files_is_told_also_when_its_format_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceUnreadable, match="no files"):
        reader._is_one_document(resolve(str(tmp_path / "in"), format="json").uri)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv.gz", b"x\n1\n", "it is named .gz and not compressed with gzip"),
        ("a.csv", gzip.compress(b"x\n1\n"), "it is compressed with gzip and not named so"),
        ("a.csv.gzip", gzip.compress(b"x\n1\n"), "it is compressed with gzip and not named so"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, text: bytes, said: str, tmp_path: Path) -> None:
    """I15: Spark would read the one as letters and stop at the other."""
    folder(tmp_path / "in", name, text=text)
    with pytest.raises(SourceUnreadable, match=rf"in/{name}: {said}\n.*\n.*rename"):
        resolve(f"{tmp_path}/in", format="csv")


def test_a_compressed_file_has_the_format_that_its_name_says(tmp_path: Path) -> None:
    assert resolve(folder(tmp_path / "in", "a.csv.gz", text=gzip.compress(b"x\n1\n"))).format == "csv"


def test_arrays_and_lines_in_one_folder_are_not_both_read_as_one_of_them(tmp_path: Path) -> None:
    folder(tmp_path / "in", "a.json", text=b'[{"x": 1}]')
    folder(tmp_path / "in", "b.json", text=b'{"x": 2}\n{"x": 3}\n')
    with pytest.raises(SourceUnreadable, match="arrays"):
        reader._is_one_document(str(tmp_path / "in"))


def test_an_array_is_found_in_a_compressed_file(tmp_path: Path) -> None:
    folder(tmp_path, "a.json.gz", text=gzip.compress(b'[{"x": 1}]'))
    assert reader._is_one_document(str(tmp_path / "a.json.gz"))


@pytest.mark.parametrize("uri", ["gs://bucket/a.csv", "https://host/a.csv", "sklean:iris"])
def test_a_source_of_an_unknown_kind_is_a_mistake_in_the_source(uri: str) -> None:
    with pytest.raises(SourceUnreadable, match=uri):
        resolve(uri)


def test_tables_of_scikit_learn_carry_their_labels_as_text() -> None:
    from sklearn.datasets import load_iris

    table = reader._sklearn_table("sklearn:iris")
    reference = load_iris()
    assert table["target"].tolist() == [reference.target_names[code] for code in reference.target]
    assert table.columns.tolist() == [*reference.feature_names, "target"]


def test_a_data_set_that_scikit_learn_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(SourceUnreadable, match="no data set 'irs'; there are iris, wine, breast_cancer and diabetes"):
        reader._sklearn_table("sklearn:irs")


@pytest.mark.parametrize(
    ("format", "option", "hint"),
    [
        ("csv", "seperator", r"seperator is no option"),
        ("csv", "delimeter", r"delimeter is no option of Spark's reader \(did you mean 'delimiter'\?\)"),
        (None, "multiline_", r"\(did you mean 'multiLine'\?\)"),
        ("parquet", "sep", "sep is no option"),
    ],
)
def test_an_option_that_spark_would_ignore_is_refused_with_the_nearest(
    format: str | None, option: str, hint: str, tmp_path: Path
) -> None:
    folder(tmp_path, "a.csv")
    with pytest.raises(SourceUnreadable, match=hint):
        resolve(str(tmp_path / "a.csv"), format=format, options={option: ";"})


def test_options_are_taken_in_any_case_as_spark_does(tmp_path: Path) -> None:
    folder(tmp_path, "a.csv")
    assert resolve(str(tmp_path / "a.csv"), options={"SEP": ";"}).options == {"SEP": ";"}


COLUMNS = {"id": config.Column(type="long"), "prénom": config.Column(type="string")}


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_a_header_that_was_not_split_makes_one_think_of_the_separator(separator: str) -> None:
    (mistake,) = contract.missing(COLUMNS, [separator.join(["id", "prénom", "load"])])
    assert f"are its values separated by {separator!r}? Then say source.options.sep: " in mistake


def test_a_header_that_is_not_utf8_makes_one_think_of_the_encoding() -> None:
    (mistake,) = contract.missing(COLUMNS, ["id", "pr\ufffdnom"])
    assert mistake.endswith("is not UTF-8: say source.options.encoding, such as iso-8859-1")
    assert "did you mean" not in mistake


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    (mistake,) = contract.missing(COLUMNS, ["id", "prenom"])
    assert mistake == "column 'prénom': the source has no 'prénom' (did you mean 'prenom'?); it has id, prenom"
