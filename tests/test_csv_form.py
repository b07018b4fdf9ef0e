"""What a file of delimited text looks like is told by its content, or it is refused for what it is."""

import bz2
import codecs
import gzip
import io
import lzma
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steps.core.errors import FormUnclear, SourceUnreadable
from steps.core.sources import csv_form, csv_options, csv_rows
from steps.core.sources.csv_form import CsvForm

CASES = Path(__file__).parent / "cases"
TABLE = "id;preis;ort\n1;1,5;Köln\n2;2,5;Ulm\n3;3,5;Genf\n"


def form_of(path: Path, **options: str | bool | int) -> CsvForm:
    return csv_form.look_at(str(path), path.stat().st_size, csv_options.parse(str(path), options))


def form_of_text(folder: Path, text: str, **options: str | bool | int) -> CsvForm:
    path = folder / "file.csv"
    path.write_bytes(text.encode())
    return form_of(path, **options)


def test_text_in_single_quotes_names_the_option_that_reads_it(tmp_path: Path) -> None:
    (path := tmp_path / "a.csv").write_text("name;x;y\n" + "'O''Brien; x';-0.07;no\n" * 3)
    with pytest.raises(
        FormUnclear, match=r"""(?s)say source.options.quote: "'", if that stands around its values; else"""
    ) as raised:
        csv_form.look_at(str(path), path.stat().st_size, csv_options.parse(str(path), {}))
    assert raised.value.likely == {}


def test_separators_behind_a_backslash_name_the_option_that_reads_them(tmp_path: Path) -> None:
    text = "id|note|y\n" + "1|a\\|b|no\n" * 3
    with pytest.raises(
        FormUnclear, match=r"say source.options.escape: '\\', if that stands before a separator"
    ) as raised:
        form_of_text(tmp_path, text)
    assert raised.value.likely == {}
    assert form_of_text(tmp_path, text, escape="\\").names == ("id", "note", "y")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_told_by_the_rows(tmp_path: Path, separator: str) -> None:
    rows = [["id", "note", "x"], ["1", "a, b; c | d", "1.5"], ["2", "plain", "2.5"], ["3", "", "-1"]]
    text = "".join(separator.join(f'"{value}"' for value in row) + "\n" for row in rows)
    form = form_of_text(tmp_path, text)
    assert (form.dialect.separator, form.names) == (separator, ("id", "note", "x"))


def test_decimal_commas_do_not_separate(tmp_path: Path) -> None:
    assert form_of_text(tmp_path, TABLE).names == ("id", "preis", "ort")
    assert form_of_text(tmp_path, "1,5;2,5\n3,5;4,5\n", header=False).names == ("_c0", "_c1")


def test_single_blanks_separate_where_they_tell_numbers_apart(tmp_path: Path) -> None:
    assert form_of_text(tmp_path, "x y z\n1 2 3\n4 5 6\n").names == ("x", "y", "z")
    assert form_of_text(tmp_path, "full name\nAnn Lee\nBo Li\n").names == ("full name",)
    assert form_of_text(tmp_path, "street\nMain 5\nHigh 12\n").names == ("street",)


def test_a_separator_that_is_not_there_is_refused_with_the_one_that_is(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"have no ';', they are separated by '\\t'.*\n.*\n.*sep: \"\\t\""):
        form_of_text(tmp_path, "a\tb\n1\t2\n", sep=";")
    assert form_of_text(tmp_path, "a;b\n1\n2\n", sep=",").names == ("a;b",)


@pytest.mark.parametrize(("text", "line"), [('"a,b\n1,2\n', 1), ('a,b\n"1,2\n', 2), ('a,b\n\n1,2\n"3,4\n', 4)])
def test_a_quote_that_is_not_closed_in_the_first_lines_is_refused(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(SourceUnreadable, match=f"line {line} opens a quote that is not closed"):
        form_of_text(tmp_path, text)


def test_a_file_without_line_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST_ROW_BYTES", 2**19)
    with pytest.raises(SourceUnreadable, match="line 1 is longer than 524,288 bytes"):
        form_of_text(tmp_path, "1,2," * 2**19)


def test_a_file_of_zeros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="it is not a text, it is binary data"):
        form_of_text(tmp_path, "\0" * 1000)


def test_a_header_with_a_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="first line has bytes that are zero"):
        form_of_text(tmp_path, "x\0,y\n" + "1,2\n" * 50)


def test_one_column_needs_no_separator(tmp_path: Path) -> None:
    assert form_of_text(tmp_path, "name\nAnn Lee\nBo\n").names == ("name",)


@pytest.mark.parametrize(
    ("option", "text"),
    [("::", "a::b\n1::2\n"), ("§", "a§b\n1§2\n"), (r"\t", "a\tb\n1\t2\n"), ("whitespace", "a    b\n  1 2\n")],
)
def test_any_separator_can_be_given(tmp_path: Path, option: str, text: str) -> None:
    assert form_of_text(tmp_path, text, sep=option).names == ("a", "b")


ENCODED: dict[str, tuple[bytes, str]] = {
    "UTF-8 with a mark": (codecs.BOM_UTF8 + TABLE.encode(), "utf-8"),
    "UTF-16 LE with a mark": (codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le"), "utf-16-le"),
    "UTF-16 BE with a mark": (codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"), "utf-16-be"),
    "UTF-16 LE without": (TABLE.encode("utf-16-le"), "utf-16-le"),
    "UTF-16 BE without": (TABLE.encode("utf-16-be"), "utf-16-be"),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_the_encoding_is_told_by_the_content(tmp_path: Path, kind: str) -> None:
    content, encoding = ENCODED[kind]
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    form = form_of(path)
    assert (form.text.encoding, form.names) == (encoding, ("id", "preis", "ort"))


def test_a_text_in_another_encoding_is_refused_until_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(TABLE.encode("cp1252"))
    with pytest.raises(
        SourceUnreadable,
        match="not UTF-8 .line 2 has the byte 0xf6.: .*\n.*\n.*say source.options.encoding: cp1252 in the config",
    ):
        form_of(path)
    assert form_of(path, encoding="cp1252").text.encoding == "cp1252"


@pytest.mark.parametrize("name", ["utf9", "hex"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceUnreadable, match=f"'{name}' is no encoding that Python knows"):
        form_of_text(tmp_path, TABLE, encoding=name)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "": bytes,
}


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.gzip", "a.csv.zst"])
def test_the_compression_is_told_by_the_content(tmp_path: Path, compression: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(COMPRESSORS[compression](TABLE.encode()))
    form = form_of(path)
    assert (form.text.compression, form.names) == (compression, ("id", "preis", "ort"))


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    return sink.getvalue()


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("xl/workbook.xml", "<x/>")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (parquet(), "Parquet"),
        (archive(), "Excel"),
        (b'{"a": 1}\n{"a": 2}\n', "JSON"),
        (b'[\n  {"a": 1}\n]\n', "JSON"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b'<?xml version="1.0"?><a/>', "XML"),
        (b"%PDF-1.7\n", "a PDF document"),
    ],
)
def test_another_format_under_its_name_is_refused_for_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable, match=f"it is not .*text, it is .*{what}"):
        form_of(path)


def test_a_spreadsheets_separator_line_is_heeded_and_is_no_row(tmp_path: Path) -> None:
    form = form_of_text(tmp_path, "sep=|\r\na,x|b\r\n1,2|3\r\n")
    assert (form.names, form.dialect.separator, form.data_line) == (("a,x", "b"), "|", 3)


def test_lines_above_the_header_are_refused_in_one_line_with_the_way_out() -> None:
    path = CASES / "N08/indicators.csv"
    with pytest.raises(SourceUnreadable, match="line 1 has 3 values where most rows have 9") as refused:
        form_of(path)
    message = str(refused.value)
    assert "Indicators of a Made-up Bank" in message
    assert "skip_lines: 4" in message
    assert len(message.splitlines()) == 3
    form = form_of(path, skip_lines=4)
    assert (form.names[0], len(form.names), form.data_line) == ("Country Name", 8, 6)


def test_a_title_as_wide_as_the_table_is_refused_with_the_way_out(tmp_path: Path) -> None:
    text = "Sales,,\n,,\n2024,,\nx,y,z\n1,2,3\n"
    with pytest.raises(SourceUnreadable, match="line 1 has one value alone, .* line 4 one for each.*\n.*\n.*: 3; or"):
        form_of_text(tmp_path, text)
    assert form_of_text(tmp_path, text, skip_lines=3).names == ("x", "y", "z")
    assert form_of_text(tmp_path, text, header=True).names == ("Sales", "_c1", "_c2")
    for other in ("x,,y\n1,2,3\n", "x,,\n1,2,3\n", ",,x\n1,,2\n", "x,,\nred,blue,white\n", "x,\ny,z\n1,2\n"):
        assert "x" in form_of_text(tmp_path, other).names


def test_comments_above_the_header_are_refused_with_the_way_out() -> None:
    path = CASES / "N08/station.csv"
    with pytest.raises(SourceUnreadable, match="Station 12.*\n.*\n.*skip_lines: 3.*comment: '#'"):
        form_of(path)
    assert form_of(path, comment="#").names == ("temp", "wind", "co2_class")


def test_a_header_that_lacks_the_name_of_one_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="2 values where most rows have 3.*\n.*\n.*give each column a name"):
        form_of_text(tmp_path, '"x","y"\n"1",2,3\n"2",4,5\n"3",6,7\n')


def test_lines_to_skip_include_a_spreadsheets_separator_line(tmp_path: Path) -> None:
    assert form_of_text(tmp_path, "sep=;\na;b\n1;2\n", skip_lines=1).names == ("a", "b")


def test_a_separator_at_the_end_of_each_line_makes_no_column(tmp_path: Path) -> None:
    assert form_of_text(tmp_path, "a,b,\n1,2,\n3,4,\n").names == ("a", "b")
    assert form_of_text(tmp_path, "a,b\n1,2,\n3,4,\n").names == ("a", "b")
    assert form_of_text(tmp_path, "a,b,\n1,2\n3,4\n").names == ("a", "b")


def test_a_column_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    assert form_of(CASES / "N06/flowers.csv").names[0] == "_c0"
    assert form_of_text(tmp_path, "a,,\n1,2,3\n4,5,6\n").names == ("a", "_c1", "_c2")


def test_a_first_line_of_values_is_refused_until_it_is_said_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="first line seems to hold values.*\n.*\n.*header: false"):
        form_of(CASES / "N01/adult.data")
    assert form_of(CASES / "N01/adult.data", header=False).names[-1] == "_c13"
    assert form_of_text(tmp_path, "1.5,2\n3,4\n", header=True).names == ("1.5", "2")


@pytest.mark.parametrize("header", ["country,2018,2019,2020", "0,1,2,3", ",0,1,2", "a,b,c,d", "2018,2019,2020,2021"])
def test_years_and_counts_are_names(tmp_path: Path, header: str) -> None:
    assert len(form_of_text(tmp_path, f"{header}\n1,2.5,3,4\n5,6,7.5,8\n").names) == 4


def test_columns_aligned_by_blanks_are_refused_with_the_way_out() -> None:
    path = CASES / "N11/auto.data"
    with pytest.raises(SourceUnreadable, match="separated by runs of blanks.*\n.*\n.*sep: whitespace"):
        form_of(path, header=False)
    assert form_of(path, header=False, sep="whitespace").width == 9


def test_a_few_ragged_rows_are_left_to_the_rejects(tmp_path: Path) -> None:
    assert form_of_text(tmp_path, "a,b,c\n1,2,3\n1,2\n1,2,3,4\n").names == ("a", "b", "c")


@pytest.mark.parametrize("content", ["", "\n\n", "a,b\n", "a,b"])
def test_a_file_may_have_no_rows(tmp_path: Path, content: str) -> None:
    form = form_of_text(tmp_path, content)
    assert form.names == (("a", "b") if content.strip() else ())
    assert not form.has_rows


def test_names_with_odd_letters_stay_as_they_are(tmp_path: Path) -> None:
    names = ["a.b", "`c`", "d,e", "f;g", "{h}", "(i)=1", "j\tk", "l\nm", 'n"o']
    header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    form = form_of_text(tmp_path, f"{header}\n1,2,3,4,5,6,7,8,9\nx,2,3,4,5,6,7,8,9\n")
    assert (list(form.names), form.data_line) == (names, 3)


def test_a_header_may_be_longer_than_the_sample(tmp_path: Path) -> None:
    names = [f"column_{'x' * 200}_{place}" for place in range(2000)]
    form = form_of_text(tmp_path, ",".join(names) + "\n" + ",".join("1" * 2000) + "\n")
    assert list(form.names) == names


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("dateFormat", "dd.MM.yyyy", r"dateFormat is not an option.*\n.*\n.*columns.<name>.format"),
        ("mode", "DROPMALFORMED", r"mode is not an option.*\n.*\n.*rejects_at_most"),
        ("header", "maybe", "header: 'maybe' given\n.*\n.*true or false"),
        ("skip_lines", "-1", "skip_lines: '-1' given\n.*\n.*a number of lines"),
        ("quote", "''", "quote: .* given\n.*\n.*one ASCII letter"),
        ("sep", '"', "sep: .* given"),
    ],
)
def test_an_option_that_cannot_be_heeded_is_refused(option: str, value: str, match: str) -> None:
    with pytest.raises(SourceUnreadable, match=match):
        csv_options.parse("a.csv", {option: value})


def test_a_form_can_be_pickled() -> None:
    form = form_of(CASES / "N07/kunden_sep.csv")
    assert pickle.loads(pickle.dumps(form)) == form
