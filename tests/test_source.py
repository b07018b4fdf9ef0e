"""Where a source is and what format it has, before Spark reads it."""

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from small import sqlite, tracked

from steps.core import config
from steps.core.errors import SourceChanged, SourceUnreadable
from steps.core.sources import contract, kinds, listing
from steps.core.sources.csv_files import CsvFiles
from steps.core.sources.json_files import JsonFiles
from steps.core.sources.reader import SourceReader
from steps.core.sources.sklearn_dataset import SklearnDataset
from steps.core.sources.source import Source
from steps.core.spark import connect_server


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> Iterator[None]:
    with tracked(sqlite(tmp_path)):
        yield


def folder(path: Path, *names: str, text: bytes = b"x\n1\n") -> str:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text)
    return str(path)


def find(uri: str, instead: str = "", **changes: object) -> Source:
    return kinds.resolve(config.Source.model_validate({"uri": uri, **changes}), instead)


def resolve(uri: str, instead: str = "", **changes: object) -> config.Source:
    return find(uri, instead, **changes).settings


def is_one_document(path: Path) -> bool:
    return JsonFiles(config.Source(uri=str(path))).is_one_document()


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
        (["a.csv.gzip"], r"\.gzip"),
        (["a.csv", "README.md"], r"\.csv, \.md"),
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
    folder(tmp_path / "in", "_SUCCESS", ".hidden", "_delta_log/0.json", text=b"not data")
    assert find(uri).size_bytes() == 10
    assert find(f"{tmp_path}/in/*.csv").size_bytes() == 5


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
    assert is_one_document(tmp_path / "a.json") is document
    assert is_one_document(tmp_path) is document


def test_a_folder_without_files_is_told_also_when_its_format_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceUnreadable, match="no files"):
        resolve(str(tmp_path / "in"), format="json")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv.gz", b"x\n1\n", "it is named .gz and not compressed with gzip"),
        ("a.csv", gzip.compress(b"x\n1\n", mtime=0), "it is compressed with gzip and not named .gz"),
        ("a.csv.gzip", gzip.compress(b"x\n1\n", mtime=0), "it is compressed with gzip and not named .gz"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, text: bytes, said: str, tmp_path: Path) -> None:
    """I15: Spark would read the one as letters and stop at the other."""
    folder(tmp_path / "in", name, text=text)
    with pytest.raises(SourceUnreadable, match=rf"in/{name}: {said}\n.*\n.*rename"):
        resolve(f"{tmp_path}/in", format="csv")


def test_a_compressed_file_has_the_format_that_its_name_says(tmp_path: Path) -> None:
    assert resolve(folder(tmp_path / "in", "a.csv.gz", text=gzip.compress(b"x\n1\n", mtime=0))).format == "csv"


def test_arrays_and_lines_in_one_folder_are_not_both_read_as_one_of_them(tmp_path: Path) -> None:
    folder(tmp_path / "in", "a.json", text=b'[{"x": 1}]')
    folder(tmp_path / "in", "b.json", text=b'{"x": 2}\n{"x": 3}\n')
    with pytest.raises(SourceUnreadable, match="arrays"):
        is_one_document(tmp_path / "in")


def test_an_array_is_found_in_a_compressed_file(tmp_path: Path) -> None:
    folder(tmp_path, "a.json.gz", text=gzip.compress(b'[{"x": 1}]', mtime=0))
    assert is_one_document(tmp_path / "a.json.gz")


@pytest.mark.parametrize("uri", ["gs://bucket/a.csv", "https://host/a.csv", "sklean:iris"])
def test_a_source_of_an_unknown_kind_is_a_mistake_in_the_source(uri: str) -> None:
    with pytest.raises(SourceUnreadable, match=uri):
        resolve(uri)


def test_tables_of_scikit_learn_carry_their_labels_as_text() -> None:
    from sklearn.datasets import load_iris

    table = SklearnDataset(config.Source(uri="sklearn:iris")).load()
    reference = load_iris()
    assert table["target"].tolist() == [reference.target_names[code] for code in reference.target]
    assert table.columns.tolist() == [*reference.feature_names, "target"]


def test_a_data_set_that_scikit_learn_does_not_have_is_refused_with_those_that_it_has() -> None:
    message = r"no data set 'irs' \(did you mean 'iris'\?\); there are iris, wine, breast_cancer, diabetes\n"
    with pytest.raises(SourceUnreadable, match=message):
        resolve("sklearn:irs")


@pytest.mark.parametrize(
    ("format", "option", "hint"),
    [
        ("csv", "seperator", r"seperator is not an option"),
        ("csv", "delimeter", r"delimeter is not an option of Spark's reader \(did you mean 'delimiter'\?\)"),
        (None, "multiline_", r"\(did you mean 'multiLine'\?\)"),
        ("parquet", "sep", "sep is not an option"),
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


@pytest.mark.parametrize("name", ["12:30.csv", "12:30/a.csv"])
def test_a_name_that_spark_takes_for_a_uri_is_refused(name: str, tmp_path: Path) -> None:
    uri = folder(tmp_path / "at 12:30", name)
    with pytest.raises(SourceUnreadable, match=rf"12:30/{name}: Spark cannot read a file with a colon in its name"):
        resolve(uri)
    assert resolve(folder(tmp_path / "at 12:31", "a.csv")).format == "csv"


def test_the_settings_of_a_source_are_enough_to_have_it_again(tmp_path: Path) -> None:
    folder(tmp_path, "a.csv")
    write_deltalake(str(tmp_path / "t"), pa.table({"x": [1]}))
    for uri in ("sklearn:iris", f"{tmp_path}/a.csv", f"{tmp_path}/t"):
        found = find(uri)
        again = kinds.source_of(found.settings)
        assert type(again) is type(found)
        assert again.fingerprint() == found.fingerprint()


@pytest.mark.parametrize(("size_bytes", "is_refused"), [(1, True), (1000, False)])
def test_only_a_source_too_large_to_keep_must_not_change_until_its_rows_are_committed(
    size_bytes: int, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_server, "SMALL_BYTES", size_bytes)
    source_reader = SourceReader(find(folder(tmp_path / "in", "a.csv")))
    source_reader.check_unchanged()
    assert not source_reader.source_has_changed()
    folder(tmp_path / "in", "b.csv")
    assert source_reader.source_has_changed()
    with pytest.raises(SourceChanged, match="in was written to") if is_refused else contextlib.nullcontext():
        source_reader.check_unchanged()


CSV = CsvFiles(config.Source(uri="a.csv"))


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_a_header_that_was_not_split_makes_one_think_of_the_separator(separator: str) -> None:
    reason = CSV.misread_reason([separator.join(["id", "prénom", "load"])])
    assert f"are its values separated by {separator!r}? Then say source.options.sep: " in reason


def test_a_header_that_is_not_utf8_makes_one_think_of_the_encoding() -> None:
    reason = CSV.misread_reason(["id", "pr\ufffdnom"])
    assert reason.endswith("is not UTF-8: say source.options.encoding, such as iso-8859-1")


def test_a_header_of_names_is_not_taken_for_misread() -> None:
    assert CSV.misread_reason(["id", "prénom", "a;b"]) == CSV.misread_reason(["id"]) == ""


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    assert contract.missing_columns({"id": "id", "first_name": "prénom"}, ["id", "prenom"]) == {
        "first_name": "column 'first_name': the source has no 'prénom' (did you mean 'prenom'?); it has id, prenom"
    }
