"""Delimited text is read as Python's csv reads it, with the line of each row; what is no row is told beside."""

import bz2
import csv
import gzip
import io
import lzma
import os
import pickle
import random
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps.core import config
from steps.core.columns import Column
from steps.core.errors import SourceUnreadable
from steps.core.sources import csv_form, csv_options, csv_part, csv_rows, kinds, refusals
from steps.core.sources.csv_dialect import Dialect
from steps.core.sources.csv_part import CsvPart
from steps.core.sources.rows import Malformed

CASES = Path(__file__).parent / "cases"
NAMES = ["alpha", "beta", "gamma"]
Option = str | bool | int


def parts_of(path: Path, columns: list[str] | None = None, **options: Option) -> list[CsvPart]:
    parsed = csv_options.parse(str(path), options)
    form = csv_form.look_at(str(path), path.stat().st_size, parsed)
    asked = {name: name for name in columns or form.names}
    places = csv_part.places_of(form, asked)
    return csv_part.parts_of(str(path), path.stat().st_size, form, parsed, places)


class Rows:
    """All that parts hand over, in order."""

    def __init__(self, parts: list[CsvPart]) -> None:
        self.values: list[tuple[str | None, ...]] = []
        self.lines: list[int] = []
        self.malformed: list[Malformed] = []
        self.blank_count = 0
        for part in parts:
            for rows in pickle.loads(pickle.dumps(part)).read():
                assert rows.lines is not None
                assert len(rows.lines) == rows.columns.num_rows
                self.values += zip(*rows.columns.to_pydict().values(), strict=True)
                self.lines += rows.lines.tolist()
                self.malformed += rows.malformed
                self.blank_count += rows.blank_count


def read(path: Path, columns: list[str] | None = None, **options: Option) -> Rows:
    return Rows(parts_of(path, columns, **options))


def read_text(folder: Path, text: str | bytes, columns: list[str] | None = None, **options: Option) -> Rows:
    path = folder / "file.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, columns, **options)


def walk(text: str, **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """By Python's csv: the line at which each row begins, and its values; without blank ones."""
    rows = csv.reader(io.StringIO(text, newline=""), **dialect)
    line = 1
    for row in rows:
        if row:
            yield line, row
        line = rows.line_num + 1


TEXTS = st.text(st.sampled_from("ab1,;\t| '\"é€\n\\-.\x00😀"), max_size=6)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), table=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=30))
def test_what_pythons_csv_writes_is_read_back_with_its_lines(
    tmp_path: Path, data: st.DataObject, table: list[tuple[str, str, str]]
) -> None:
    separator = data.draw(st.sampled_from([",", ";", "\t", "|", " "]))
    line_end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quote = data.draw(st.sampled_from(['"', "'"]))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]))
    quoting: Literal[0, 1] = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    table = [tuple(value.replace("\n", line_end) for value in row) for row in table]  # type: ignore[misc]
    target = io.StringIO(newline="")
    writer = csv.writer(target, delimiter=separator, lineterminator=line_end, quotechar=quote, quoting=quoting)
    writer.writerow(NAMES)
    target.write(line_end * data.draw(st.integers(0, 2)))
    writer.writerows(table)
    content = target.getvalue().encode(encoding)
    path = tmp_path / "file.csv"
    path.write_bytes(gzip.compress(content) if data.draw(st.booleans()) else content)

    is_plain = encoding.startswith("utf-8") and "\0" not in target.getvalue()  # zeros may be taken for UTF-16's
    given_encoding = "" if is_plain else encoding
    rows = read(path, sep=separator, header=True, quote=quote, encoding=given_encoding)

    expected = list(walk(target.getvalue(), delimiter=separator, quotechar=quote))[1:]
    assert [tuple(row) for _, row in expected] == table
    expected = [(line, row) for line, row in expected if any(map(str.strip, row))]  # the others are blank
    assert [tuple(value or "" for value in row) for row in rows.values] == [tuple(row) for _, row in expected]
    assert rows.lines == [line for line, _ in expected]
    assert len(rows.values) + rows.blank_count == len(table)
    assert not rows.malformed


WORDS = st.text("abcé", min_size=1, max_size=5)
NUMBERS = st.floats(-1e6, 1e6).map("{:.2f}".format)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.tuples(WORDS, NUMBERS, st.text('abc ,;|\t\n"', max_size=8)), min_size=2, max_size=30),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_nothing_has_to_be_said_of_an_ordinary_file(
    tmp_path: Path, table: list[tuple[str, str, str]], separator: str, encoding: str
) -> None:
    path = tmp_path / "file.csv"
    with path.open("w", encoding=encoding, newline="") as target:
        csv.writer(target, delimiter=separator).writerows([NAMES, *table])
    assert [tuple(value or "" for value in row) for row in read(path).values] == table


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.sampled_from('ab,"\n\r'), max_size=60), size_bytes=st.integers(1, 20))
def test_blocks_of_any_size_have_the_rows_and_lines_of_the_whole(text: str, size_bytes: int) -> None:
    dialect = Dialect()
    rows: list[tuple[int, list[str]]] = []
    malformed: list[Malformed] = []
    try:
        for block in csv_rows.blocks(io.BytesIO(text.encode()).read, dialect, size_bytes=size_bytes):
            values = [row for _, row in walk(block.text.decode())]
            rows += zip(block.lines_of(len(values), dialect).tolist(), values, strict=True)
            malformed += block.malformed
    except csv_rows.UnclosedQuote:
        assert not _is_standard(text)
        return
    if _is_standard(text):
        assert (rows, malformed) == (list(walk(text)), [])
    lines = {line for line, _ in rows} | {row.line for row in malformed}
    assert len(lines) == len(rows) + len(malformed)  # no line is told twice


def _is_standard(text: str) -> bool:
    """Whether Python's csv finds every quote where RFC 4180 has it."""
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from('ab,"\n'), max_size=60), size_bytes=st.integers(1, 20))
def test_every_letter_is_in_a_row_or_told(text: str, size_bytes: int) -> None:
    told = ""
    try:
        for block in csv_rows.blocks(io.BytesIO(text.encode()).read, Dialect(), size_bytes=size_bytes):
            told += block.text.decode() + "".join(row.text for row in block.malformed)
    except csv_rows.UnclosedQuote:
        assert not _is_standard(text)
        return
    assert sorted(told.replace("\n", "")) == sorted(text.replace("\n", ""))


def test_a_field_may_have_line_breaks_and_doubled_quotes() -> None:
    rows = read(CASES / "I11_quoted.csv", ["text"])
    assert [row[0] for row in rows.values] == [
        "line one\nline two, with comma",
        'she said "hi, there"',
        "C:\\dir\\",
        "plain",
        'ends with quote "',
    ]
    assert rows.lines == [2, 4, 5, 6, 7]


def test_an_empty_field_is_null_and_an_empty_text_is_not(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a,b,c\n,"",1\nNA,null,2\n').values == [(None, "", "1"), ("NA", "null", "2")]


def test_rows_of_another_width_are_malformed_with_line_and_text(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a,b,c\n1,2,3\n\n4,5\n"x\ny",5,6\n7,8,9,10\n11,12,13\n')
    assert rows.values == [("1", "2", "3"), ("x\ny", "5", "6"), ("11", "12", "13")]
    assert rows.lines == [2, 5, 8]
    assert [(row.line, row.text) for row in rows.malformed] == [(4, "4,5"), (7, "7,8,9,10")]
    assert {row.reason for row in rows.malformed} == {csv_part.OTHER_WIDTH}


def test_notes_below_the_table_are_malformed() -> None:
    rows = read(CASES / "N08/indicators.csv", skip_lines=4)
    assert len(rows.values) == 90
    assert [row.line for row in rows.malformed] == [97, 98]


def test_a_header_that_comes_again_is_malformed(tmp_path: Path) -> None:
    rows = read_text(tmp_path, "a,b\n1,2\na,b\n3,4\n")
    assert (rows.values, rows.lines) == ([("1", "2"), ("3", "4")], [2, 4])
    assert [(row.line, row.reason) for row in rows.malformed] == [(3, "repeat the header")]


def test_blank_lines_and_lines_of_blanks_are_passed_over(tmp_path: Path) -> None:
    rows = read_text(tmp_path, "a,b\n\n1,2\n   \n\r\n3,4\n\n")
    assert (rows.values, rows.lines, rows.malformed) == ([("1", "2"), ("3", "4")], [3, 6], [])


def test_rows_of_separators_alone_are_passed_over_and_counted(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a,b,c\n1,2,3\n,,\n,,4\n,"",\n5,6\n, ,\n,,\n,,', ["a", "b"])
    assert (rows.values, rows.lines) == ([("1", "2"), (None, None)], [2, 4])
    assert [(row.line, row.text) for row in rows.malformed] == [(6, "5,6")]
    assert rows.blank_count == 5


def test_so_are_those_of_another_width_and_those_above_the_header(tmp_path: Path) -> None:
    rows = read_text(tmp_path, ";;\n ; ;\na;b;c\n1;2;3\n;\n;;;;\n4;5\n;;\n")
    assert (rows.values, rows.lines) == ([("1", "2", "3")], [4])
    assert [(row.line, row.text) for row in rows.malformed] == [(7, "4;5")]
    assert rows.blank_count == 3


@pytest.mark.parametrize(("separator", "row"), [("whitespace", "whitespace"), ("::", "a"), ("ab", "b ab")])
def test_a_row_of_the_letters_of_a_separator_is_none_of_them(tmp_path: Path, separator: str, row: str) -> None:
    mark = "  " if separator == "whitespace" else separator
    text = f"x{mark}y{mark}z\n" + f"1{mark}2{mark}3\n" * 9 + f"{row}\n" + ("" if separator == "whitespace" else mark)
    rows = read_text(tmp_path, text, sep=separator)
    assert [malformed.text for malformed in rows.malformed] == [row]
    assert rows.blank_count == (separator != "whitespace")


def test_so_are_those_of_a_file_whose_rows_all_end_with_a_separator(tmp_path: Path) -> None:
    rows = read_text(tmp_path, "a,b,\n1,2,\n,,\n,\n3,4,\n")
    assert (rows.values, rows.blank_count, rows.malformed) == ([("1", "2"), ("3", "4")], 2, [])


def test_a_missing_value_of_the_only_column_is_one(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a\n1\n""\n2\n')
    assert (rows.values, rows.blank_count) == ([("1",), ("",), ("2",)], 0)


def test_comments_are_passed_over_anywhere_when_it_is_said(tmp_path: Path) -> None:
    rows = read_text(tmp_path, "a,b\n# it's \"so\n1,2\n3,#4\n#\n5,6\n", comment="#")
    assert (rows.values, rows.lines) == ([("1", "2"), ("3", "#4"), ("5", "6")], [3, 4, 6])


def test_a_quote_that_is_never_closed_is_refused_with_its_line(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 10 + '3,"4\n' + "5,6\n" * 1000
    with pytest.raises(SourceUnreadable, match="line 12 opens a quote that is not closed"):
        read_text(tmp_path, text)


def test_a_stray_quote_joins_no_rows_without_a_word(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a,b\n1,"2\n3,4\n5,"6"\n7,8\n')
    assert rows.values == [("7", "8")]
    assert [(row.line, row.text) for row in rows.malformed] == [(2, '1,"2'), (3, "3,4"), (4, '5,"6"')]


def test_a_quote_within_an_unquoted_value_is_a_letter(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a,b\n5" pipe,1\n"2,3",4\n3"x"y,5\n')
    assert rows.values == [('5" pipe', "1"), ("2,3", "4"), ('3"x"y', "5")]


def test_a_file_without_quotes_as_such_is_read_when_it_is_said(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a,b\n"1,2\n3",4\n', quote="").values == [('"1', "2"), ('3"', "4")]


def test_escaped_quotes_are_read_when_it_is_said(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a,b\n"x \\"y\\", z",1\nc\\,d,2\n', escape="\\")
    assert rows.values == [('x "y", z', "1"), ("c,d", "2")]


def test_a_field_of_ten_megabytes_and_what_follows_it_are_read(tmp_path: Path) -> None:
    long = "line\n," * 1_700_000
    rows = read_text(tmp_path, f'a,b\n1,"{long}"\n2,x\n')
    assert rows.values == [("1", long), ("2", "x")]
    assert rows.lines == [2, 1_700_003]


def test_nul_bytes_reach_the_contract_as_text(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a,b\nx\0y,\0\n1,2\n").values == [("x\0y", "\0"), ("1", "2")]


def test_a_row_that_is_not_utf8_is_malformed_where_the_others_are(tmp_path: Path) -> None:
    content = "a,b\né,ü\nß,1\n".encode() + b"caf\xe9,2\n" + "ö,3\n".encode()
    rows = read_text(tmp_path, content)
    assert rows.values == [("é", "ü"), ("ß", "1"), ("ö", "3")]
    assert [(row.line, row.reason) for row in rows.malformed] == [(4, refusals.NOT_UTF8)]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_byte_that_the_encoding_does_not_have_is_refused_with_its_line(tmp_path: Path, line_end: bytes) -> None:
    """Also behind what is decoded at once."""
    for above in (1, 600_000):
        content = b"a,b\n" + b"1,2\n" * above + b"\x81,3\n" + b"4,5\n" * 100_000
        with pytest.raises(SourceUnreadable, match=f"line {above + 2} is not cp1252: it has the bytes 81"):
            read_text(tmp_path, content.replace(b"\n", line_end), encoding="cp1252")
    with pytest.raises(SourceUnreadable, match=r"it is not UTF-8 \(line 3 has the byte 0xe9\): 'caf\ufffd,2'"):
        read_text(tmp_path, line_end.join([b"a,b", b"1,2", b"caf\xe9,2", b"3,4"]))


def test_text_in_another_encoding_comes_out_right() -> None:
    values = read(CASES / "I09_cp1252.csv", ["prénom", "label"], encoding="cp1252").values
    assert values[:2] == [("Renée", "café"), ("O’Neil", "thé")]


def test_utf16_and_utf8_of_one_spreadsheet_are_the_same_rows() -> None:
    one, other = (read(CASES / f"N07/{name}") for name in ("kunden_utf16.txt", "kunden_sep.csv"))
    assert one.values == other.values
    assert len(one.values) == 120
    assert sum(row[5] == "Thüringen" for row in one.values) == 30


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_compressed_file_may_have_several_members_and_is_refused_when_it_was_cut_off(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    rows = "".join(f"{random.Random(number).random()},2\n" for number in range(50_000)).encode()
    content = compress(b"a,b\n" + rows) + compress(rows)
    assert len(read_text(tmp_path, content).values) == 100_000
    for end in (len(content) // 3, len(content) - 3):
        with pytest.raises(SourceUnreadable, match="ends too early|Truncated compressed stream"):
            read_text(tmp_path, content[:end])


def test_blanks_around_values_stay_unless_it_is_said() -> None:
    path = CASES / "N01/adult.data"
    assert read(path, ["_c1"], header=False).values[1] == (" Private",)
    workclass = [
        row[0] for row in read(path, ["_c1"], header=False, ignoreLeadingWhiteSpace=True, nullValue="?").values
    ]
    assert len(workclass) == 240
    assert workclass.count("?") == 12
    assert workclass[1] == "Private"


def test_blanks_before_quotes_do_not_unmake_them(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a, "b"\n1, "x, y"\n2, "z"\n').values == [("1", "x, y"), ("2", "z")]


@pytest.mark.parametrize("separator", ["whitespace", " "])
def test_columns_aligned_by_blanks_are_read_with_the_blanks_in_quotes(separator: str) -> None:
    rows = read(CASES / "N11/auto.data", ["_c1", "_c7", "_c8"], header=False, sep=separator)
    assert len(rows.values) == 150
    assert [sum(row[1] == origin for row in rows.values) for origin in "123"] == [89, 25, 36]
    assert rows.values[1] == ("8", "1", "alpha s w")


def test_a_separator_of_several_letters_is_read(tmp_path: Path) -> None:
    rows = read_text(tmp_path, 'a::b\n1::x:y\n2::"z::z"\n3\n', sep="::")
    assert rows.values == [("1", "x:y"), ("2", "z::z")]
    assert [(row.line, row.text) for row in rows.malformed] == [(4, "3")]


def test_a_value_behind_the_last_separator_is_malformed_where_others_have_none(tmp_path: Path) -> None:
    rows = read_text(tmp_path, "a,b,\n1,2,\n3,4,\n" + "5,6,\n" * 300 + "7,8,9\n")
    assert len(rows.values) == 302
    assert [(row.line, row.text) for row in rows.malformed] == [(304, "7,8,9")]


def test_a_separator_at_the_end_of_each_line_is_no_obstacle() -> None:
    rows = read(CASES / "N08/flights.csv", ["DEP_DELAY", "ARR_DEL15"])
    assert len(rows.values) == 200
    assert sum(float(row[0] or "nan") for row in rows.values) == 821
    assert [row[1] for row in rows.values].count("0.00") == 102


def test_a_column_that_the_file_lacks_is_null(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a,b\n1,2\n", ["b", "c"]).values == [("2", None)]
    assert read_text(tmp_path, "a,b\n1,2\n", ["c"]).values == [(None,)]


def asked_of(path: Path, *columns: str) -> Rows:
    """What a source with this file hands over of these columns of the contract."""
    source = kinds.resolve(config.Source(uri=str(path)))
    parts = source.parts({f"column_{place}": Column(source=name, type="string") for place, name in enumerate(columns)})
    return Rows(cast("list[CsvPart]", parts))


def test_a_name_in_another_case_is_found(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("ID,Größe\n1,2\n", encoding="utf-8")
    assert asked_of(tmp_path / "file.csv", "größe").values == [("2",)]


def test_names_that_are_not_equal_but_for_case_are_two(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("straße,strasse\n1,2\n", encoding="utf-8")
    assert asked_of(tmp_path / "file.csv", "strasse", "straße").values == [("2", "1")]


@pytest.mark.parametrize(
    ("name", "column", "match"),
    [
        (
            "I04_dup_case.csv",
            "amount",
            r"'Amount' \(column 2\), 'amount' \(column 3\) the names are equal but for",
        ),
        ("I04_dup_exact.csv", "x", r"'x' \(column 2\), 'x' \(column 3\) the names are equal\n"),
    ],
)
def test_equal_names_are_refused_only_when_they_are_asked_for(name: str, column: str, match: str) -> None:
    with pytest.raises(SourceUnreadable, match=match):
        asked_of(CASES / name, column)
    assert len(asked_of(CASES / name, "id", "label").values) == 40


def test_leading_zeros_stay() -> None:
    values = read(CASES / "I07_zips.csv", ["id", "zip"]).values
    assert values[:2] == [("00000", "01234"), ("00001", "1234")]


@pytest.mark.parametrize("name", ["not_gzip.csv.gz", "really_gzip.csv.gzip"])
def test_a_wrong_ending_of_the_name_is_no_obstacle(name: str) -> None:
    assert len(read(CASES / "I15_gz" / name).values) == 20


@pytest.mark.parametrize("kind", ["plain", "quoted", "blank lines", "marked"])
def test_ranges_of_a_large_file_are_all_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(csv_part, "RANGE_BYTES", 2**20)
    value = {"quoted": '"line\nbreak, and ""quotes"""', "blank lines": "x\n"}.get(kind, "x")
    text = "a,b\n" + "".join(f"{number},{value}\n" for number in range(300_000))
    path = tmp_path / "file.csv"
    path.write_text(text, encoding="utf-8-sig" if kind == "marked" else "utf-8", newline="")
    monkeypatch.setattr(csv_rows.blocks, "__kwdefaults__", {"line": 1, "header": b"", "size_bytes": 2**16})
    parts = parts_of(path)
    assert len(parts) > 2
    assert max(part.size_bytes for part in parts) < 2**20 + 2**17
    rows = Rows(parts)
    expected = list(walk(text))[1:]
    assert rows.values == [tuple(row) for _, row in expected]
    assert rows.lines == [line for line, _ in expected]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        path.write_text("a,b\n" + 'some text,"more\ntext"\n' * rows)
        tracemalloc.start()
        for part in parts_of(path):
            for _ in part.read():
                pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(1_000_000) < 1.5 * peak(300_000)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gone.csv"
    path.write_text("a,b\n1,2\n")
    parts = parts_of(path)
    os.remove(path)
    with pytest.raises(SourceUnreadable, match="it cannot be read: No such file or directory"):
        Rows(parts)


def test_two_thousand_columns_are_read(tmp_path: Path) -> None:
    names = [f"c{place}" for place in range(2000)]
    row: Mapping[str, str] = {name: str(place) for place, name in enumerate(names)}
    text = ",".join(names) + "\n" + (",".join(row.values()) + "\n") * 3
    assert read_text(tmp_path, text, ["c7", "c1999"]).values == [("7", "1999")] * 3
