"""The entry point `ingest`: the same rows from every kind of source, and nothing from a source that is not right."""

import csv
import datetime as dt
import re
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from place import CASES, COLUMNS, FEATURES, PROJECT, Ended, Place, rows_of, version_of
from sklearn.datasets import load_iris

pytestmark = pytest.mark.spark


def flowers() -> pd.DataFrame:
    """Iris under the names that the config's columns have."""
    iris = load_iris()
    return pd.DataFrame(iris.data, columns=list(FEATURES)).assign(species=iris.target_names[iris.target])


def counted(rows: pa.Table) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row.values()) for row in rows.to_pylist())


def ingest(place: Place, name: str, source: Path, columns: dict[str, str], **options: object) -> Ended:
    """Ingest `source` as the table `name`, with columns of these types, the last one as the target."""
    config = place.config(
        name=name,
        source={"uri": str(source), "options": options},
        columns={column: {"type": kind} for column, kind in columns.items()},
        target=list(columns)[-1],
    )
    return place.step("ingest", config=config)


def table(place: Place, name: str) -> pa.Table:
    return rows_of(place.lake(name))


def refused(place: Place, name: str, ended: Ended, *said: str) -> None:
    """The command failed with a message that says all of `said`, and there is no table."""
    assert ended.exit_code == 1, ended.text
    assert "Traceback" not in ended.text
    assert [text for text in said if text not in ended.err] == [], ended.err
    assert not Path(place.lake(name)).exists()


def rejects(place: Place, name: str) -> list[tuple[Any, ...]]:
    """File, line, rules, values and text of each reject of a table."""
    rows = rows_of(place.lake(f"{name}_rejects")).to_pylist()
    return [(row["file"], row["line"], row["rules"], dict(row["values"]), row["text"]) for row in rows]


def write_csv(folder: Path, rows: pd.DataFrame) -> str:
    rows.to_csv(folder / "flowers.csv", index=False)
    return "flowers.csv"


def write_json_lines(folder: Path, rows: pd.DataFrame) -> str:
    rows.to_json(folder / "flowers.jsonl", orient="records", lines=True)
    return "flowers.jsonl"


def write_json_array(folder: Path, rows: pd.DataFrame) -> str:
    rows.to_json(folder / "flowers.json", orient="records", indent=1)
    return "flowers.json"


def write_parquet(folder: Path, rows: pd.DataFrame) -> str:
    pq.write_table(pa.Table.from_pandas(rows), folder / "flowers.parquet")
    return "flowers.parquet"


def write_delta(folder: Path, rows: pd.DataFrame) -> str:
    write_deltalake(folder / "flowers", pa.Table.from_pandas(rows))
    return "flowers"


def write_folder(folder: Path, rows: pd.DataFrame) -> str:
    (folder / "flowers").mkdir()
    rows[:60].to_csv(folder / "flowers" / "a.csv", index=False)
    rows[60:].to_csv(folder / "flowers" / "b.csv", index=False)
    return "flowers"


def write_glob(folder: Path, rows: pd.DataFrame) -> str:
    rows[:60].to_csv(folder / "part-1.csv", index=False)
    rows[60:].to_csv(folder / "part-2.csv", index=False)
    rows.to_csv(folder / "other.csv", index=False)
    return "part-*.csv"


@pytest.mark.parametrize(
    "write", [write_csv, write_json_lines, write_json_array, write_parquet, write_delta, write_folder, write_glob]
)
def test_the_same_rows_come_from_every_format(place: Place, write: Any) -> None:
    name = write.__name__
    folder = place.folder / "data dir" / name
    folder.mkdir(parents=True)
    source = folder / write(folder, flowers())
    config = place.config(name=name, source={"uri": str(source)}, columns=COLUMNS)
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 0, ended.text
    assert ended.out == f"ingest: table = {place.lake(name)}@v0\n"
    assert counted(table(place, name)) == counted(pa.Table.from_pandas(flowers(), preserve_index=False))


def test_only_a_source_that_changed_makes_a_new_version(place: Place) -> None:
    rows = flowers()
    rows.to_csv(place.folder / "changing.csv", index=False)
    config = place.config(name="changing", source={"uri": "changing.csv"}, columns=COLUMNS)  # where the user stands
    assert place.step("ingest", config=config).out == f"ingest: table = {place.lake('changing')}@v0\n"
    rows.sample(frac=1, random_state=1).to_csv(place.folder / "changing.csv", index=False)
    assert place.step("ingest", config=config).out == f"ingest: table = {place.lake('changing')}@v0\n"
    rows.loc[149, "petal_width"] = 1.9
    rows.to_csv(place.folder / "changing.csv", index=False)
    assert place.step("ingest", config=config).out == f"ingest: table = {place.lake('changing')}@v1\n"
    before, after = (rows_of(place.lake("changing"), version=version) for version in (0, 1))
    assert sum((counted(after) - counted(before)).values()) == 1


def test_a_microsecond_is_a_change(place: Place) -> None:
    columns = {"number": "long", "when": "timestamp", "word": "string"}
    for version, digit in enumerate((1, 2)):
        lines = [f"{n},2026-01-01T00:00:00.00000{digit}Z,w" for n in range(3)]
        (place.folder / "times.csv").write_text("\n".join(["number,when,word", *lines]))
        config = place.config(
            name="times",
            source={"uri": "times.csv"},
            columns={name: {"type": kind, "feature": kind == "long"} for name, kind in columns.items()},
            target="word",
        )
        assert place.step("ingest", config=config).out == f"ingest: table = {place.lake('times')}@v{version}\n"
    assert {when.microsecond for when in table(place, "times")["when"].to_pylist()} == {2}


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_a_file_that_is_replaced_once_its_digest_is_known_is_refused_and_read_the_next_time(
    place: Place, mode: str
) -> None:
    """By another of its size and its time, as a copy that keeps them is."""
    source, name = place.folder / f"{mode}.csv", f"{mode}_meanwhile"
    source.write_text("id,x,label\n1,10,a\n2,20,b\n3,30,a\n")
    (place.folder / "other.csv").write_text("id,x,label\n4,40,a\n5,50,b\n6,60,a\n")
    columns = {"id": {"type": "long"}, "x": {"type": "long"}, "label": {"type": "string"}}
    config = place.config(
        name=name, source={"uri": str(source)}, columns=columns, target="label", key=["id"], mode=mode
    )
    script = f"""
import os, shutil
from steps import ingest
from steps.core.sources import ingestion
run = ingestion.run
def on_what_replaced_it(*given, **named):
    status = os.stat({str(source)!r})
    shutil.copyfile("other.csv", {str(source)!r})
    os.utime({str(source)!r}, ns=(status.st_atime_ns, status.st_mtime_ns))
    return run(*given, **named)
ingestion.run = on_what_replaced_it
ingest.main(["--config={config}"])
"""
    ended = Place(place.folder, {"PYTHONPATH": str(PROJECT), **place.extra}).run(sys.executable, "-c", script)
    refused(place, name, ended, f"{mode}.csv was written to while it was read")
    assert place.step("ingest", config=config).exit_code == 0
    assert table(place, name)["id"].to_pylist() == [4, 5, 6]


def test_another_source_can_be_given_instead_of_the_configs(place: Place) -> None:
    source = place.folder / "instead of.csv"
    flowers()[:120].to_csv(source, index=False)
    config = place.config(name="instead", columns=COLUMNS)
    ended = place.step("ingest", config=config, source=source, lake=place.folder / "other lake")
    assert ended.exit_code == 0, ended.text
    assert rows_of(str(place.folder / "other lake" / "instead")).num_rows == 120


def test_a_byte_order_mark_and_crlf_are_not_data(place: Place) -> None:
    source = CASES / "I01_bom_crlf.csv"
    ended = ingest(place, "bom", source, {"id": "string", "x": "double", "y": "double", "label": "string"})
    assert ended.exit_code == 0, ended.text
    rows = table(place, "bom")
    assert rows.num_rows == 40
    assert rows["id"].null_count == 0
    assert set(rows["label"].to_pylist()) == {"a", "b"}


def test_a_file_with_its_columns_in_another_order_is_read_by_their_names(place: Place) -> None:
    columns = {"id": "long", "width": "double", "height": "double", "label": "long"}
    ended = ingest(place, "reordered", CASES / "I02_reordered", columns)
    assert ended.exit_code == 0, ended.text
    given = pd.concat([pd.read_csv(file) for file in (CASES / "I02_reordered").iterdir()])[list(columns)]
    assert counted(table(place, "reordered")) == counted(pa.Table.from_pandas(given, preserve_index=False))


def test_files_that_are_not_read_are_named_and_the_run_keeps_that(place: Place) -> None:
    folder = place.folder / "half hidden"
    folder.mkdir()
    for name, rows in (("jan", flowers()[:100]), ("_feb", flowers()[100:]), ("mar", flowers()[:0])):
        rows.to_csv(folder / f"{name}.csv", index=False)
    ended = place.step("ingest", config=place.config(name="hidden", source={"uri": str(folder)}, columns=COLUMNS))
    assert ended.exit_code == 0, ended.text
    lines = [
        f"{folder}: skipped, as the name begins with _ or .: _feb.csv",
        f"{folder}: without rows: mar.csv",
    ]
    assert [line for line in ended.err.splitlines() if line in lines] == lines
    assert place.runs()[0].data.tags["remarks"].splitlines()[:2] == lines
    assert table(place, "hidden").num_rows == 100


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("I04_dup_case.csv", "'Amount' (column 2), 'amount' (column 3)"),
        ("I04_dup_exact.csv", "'x' (column 2), 'x' (column 3)"),
    ],
)
def test_columns_whose_names_are_equal_or_differ_by_case_are_refused(place: Place, case: str, said: str) -> None:
    name = case.removesuffix(".csv")
    ended = ingest(place, name, CASES / case, {"id": "long", said.split("'")[3]: "double", "label": "long"})
    refused(place, name, ended, said)


def test_quoted_values_keep_line_breaks_quotes_and_backslashes(place: Place) -> None:
    columns = {"id": "long", "text": "string", "x": "double", "label": "string"}
    ended = ingest(place, "quoted", CASES / "I11_quoted.csv", columns)
    assert ended.exit_code == 0, ended.text
    texts = dict(zip(*(table(place, "quoted")[name].to_pylist() for name in ("id", "text")), strict=True))
    assert texts == {
        1: "line one\nline two, with comma",
        2: 'she said "hi, there"',
        3: "C:\\dir\\",
        4: "plain",
        5: 'ends with quote "',
    }


def test_odd_column_names_are_found_as_they_are(place: Place) -> None:
    odd = ["sepal length (cm)", "price, eur", "rate=1", "user.age", "user;age", "user age"]
    columns: dict[str, dict[str, str]] = {f"c{i}": {"source": name, "type": "double"} for i, name in enumerate(odd)}
    columns["label"] = {"type": "string"}
    source = {"uri": str(CASES / "I05_odd_names.csv")}
    ended = place.step("ingest", config=place.config(name="odd", source=source, columns=columns, target="label"))
    assert ended.exit_code == 0, ended.text
    first = min(table(place, "odd").to_pylist(), key=lambda row: float(row["c3"]))
    given = pd.read_csv(CASES / "I05_odd_names.csv").sort_values("user.age").iloc[0]
    assert [first[f"c{i}"] for i in range(6)] == given[odd].tolist()


def test_a_file_that_is_not_utf8_is_refused_by_default(place: Place) -> None:
    ended = ingest(place, "latin", CASES / "I09_cp1252.csv", {"id": "long", "label": "string"})
    refused(
        place,
        "latin",
        ended,
        "it is not UTF-8 (line 1 has the byte 0xe9",
        "say source.options.encoding: cp1252",
    )


@pytest.mark.parametrize("encoding", ["iso-8859-1", "cp1252", "windows-1252"])
def test_an_encoding_can_be_said(place: Place, encoding: str) -> None:
    name = encoding.replace("-", "_")
    ended = ingest(place, name, CASES / "I09_cp1252.csv", {"id": "long", "label": "string"}, encoding=encoding)
    assert ended.exit_code == 0, ended.text
    assert set(table(place, name)["label"].to_pylist()) == {"café", "thé"}


def test_an_encoding_that_nobody_knows_is_refused(place: Place) -> None:
    ended = ingest(place, "nonsense", CASES / "I09_cp1252.csv", {"id": "long", "label": "string"}, encoding="nonsense")
    refused(place, "nonsense", ended, "SourceUnreadable", "'nonsense' is no encoding that Python knows", "cp1252")


def test_codes_keep_their_leading_zeros(place: Place) -> None:
    columns = {"id": "string", "zip": "string", "x": "double", "label": "long"}
    ended = ingest(place, "zips", CASES / "I07_zips.csv", columns)
    assert ended.exit_code == 0, ended.text
    rows = table(place, "zips")
    assert {"01234", "1234", "00501"} <= set(rows["zip"].to_pylist())
    assert min(rows["id"].to_pylist()) == "00000"


def test_a_column_that_changed_its_type_is_refused_and_the_table_stays(place: Place) -> None:
    columns = {"id": "long", "code": "long", "amount": "long", "label": "long"}
    assert ingest(place, "days", CASES / "I14_day1.csv", columns).exit_code == 0
    ended = ingest(place, "days", CASES / "I14_day2.csv", columns)
    assert ended.exit_code == 1
    assert re.search(r"column 'code': \d+ of \d+ rows are not of type long, such as 'A\d+'", ended.err)
    assert re.search(r"column 'amount': \d+ of \d+ rows are not whole numbers, such as '10.5'", ended.err)
    assert version_of(place.lake("days")) == 0


@pytest.mark.parametrize("line", ["4,0.5", "4,0.5,a,more"])
def test_a_row_with_more_or_fewer_values_than_the_header_is_a_reject(place: Place, line: str) -> None:
    name = f"ragged{len(line)}"
    source = place.folder / f"{name}.csv"
    source.write_text(f'id,x,label\n1,0.1,"a\nb"\n2,0.2,b\n{line}\n5,0.3,a\n')
    ended = ingest(place, name, source, {"id": "long", "x": "double", "label": "string"})
    refused(
        place, name, ended, "ContractBroken", f"1 of 4 rows have more or fewer values than the header, such as '{line}'"
    )
    assert rejects(place, name) == [(str(source), 5, ["have more or fewer values than the header"], {}, line)]


def test_an_indented_json_array_is_read_row_by_row(place: Place) -> None:
    ended = ingest(place, "pretty", CASES / "I17_pretty.json", {"id": "long", "x": "double", "label": "string"})
    assert ended.exit_code == 0, ended.text
    assert sorted(table(place, "pretty")["id"].to_pylist()) == list(range(15))


def test_a_weight_is_no_feature_that_is_warned_of(place: Place) -> None:
    rows = flowers().assign(times=2.0, age=7)
    rows.to_csv(place.folder / "weighed.csv", index=False)
    columns = {**COLUMNS, "times": {"type": "double"}, "age": {"type": "long"}}
    config = place.config(name="weighed", source={"uri": "weighed.csv"}, columns=columns, weight="times")
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 0, ended.text
    assert "age: the same value in all rows" in ended.err
    assert "times" not in ended.err


def test_every_mistake_in_the_rows_is_reported_at_once(place: Place) -> None:
    rows = flowers()
    rows.loc[0, "petal_length"] = -1
    rows.loc[[1, 2], "species"] = "rose"
    rows["sepal_width"] = rows["sepal_width"].astype(object)
    rows.loc[3, "sepal_width"] = "wide"
    rows.to_csv(place.folder / "mistakes.csv", index=False)
    ended = place.step("ingest", config=place.config(name="mistakes", source={"uri": "mistakes.csv"}, columns=COLUMNS))
    refused(
        place,
        "mistakes",
        ended,
        "ContractBroken",
        "column 'petal_length': 1 of 150 rows are below 0, such as '-1.0'",
        "column 'species': 2 of 150 rows are none of setosa, versicolor, virginica, such as 'rose'",
        "column 'sepal_width': 1 of 150 rows are not of type double, such as 'wide'",
    )


UNLABELLED = [
    "its target, column 'species', is empty in all 150 rows; nothing was written",
    "-e ingest -P labelled=false",
]


@pytest.mark.parametrize(
    ("nullable", "label"), [(None, None), (False, None), (None, "  ")], ids=["empty", "empty and required", "blank"]
)
def test_rows_without_any_label_are_refused_and_the_table_stays(
    place: Place, nullable: bool | None, label: str | None
) -> None:
    name = f"labels{nullable}{len(label or '')}"
    source = place.folder / f"{name}.csv"
    columns = {**COLUMNS, "species": {"type": "string", "nullable": nullable}}
    config = place.config(name=name, source={"uri": str(source)}, columns=columns)
    flowers().to_csv(source, index=False)
    assert place.step("ingest", config=config).exit_code == 0
    flowers().assign(species=label).to_csv(source, index=False)
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 1
    assert f"SourceUnlabelled: source {source} has no labels: " in ended.err
    assert [text for text in UNLABELLED if text not in ended.err] == []
    assert version_of(place.lake(name)) == 0


def test_rows_to_predict_have_a_table_of_their_own(place: Place) -> None:
    columns = {"id": {"type": "long"}, **COLUMNS}
    rows = flowers().assign(id=range(150))
    rows.to_csv(place.folder / "known.csv", index=False)
    rows.drop(columns="species").to_csv(place.folder / "unknown.csv", index=False)
    config = place.config(name="own", source={"uri": "known.csv"}, columns=columns, key=["id"])
    assert place.step("ingest", config=config).exit_code == 0
    ended = place.step("ingest", config=config, source="unknown.csv")
    said = ["SourceUnlabelled", "it has no column 'species', the target; nothing was written", UNLABELLED[1]]
    assert [text for text in said if text not in ended.err] == [], ended.err
    ended = place.step("ingest", config=config, source="unknown.csv", labelled="false")
    assert ended.out == f"ingest: table = {place.lake('own_unlabelled')}@v0\n", ended.text
    assert table(place, "own_unlabelled").column_names == [name for name in columns if name != "species"]
    assert version_of(place.lake("own")) == 0


def test_labels_of_another_type_are_a_broken_contract_and_not_missing(place: Place) -> None:
    source = place.folder / "othertype.csv"
    flowers().to_csv(source, index=False)
    ended = ingest(place, "othertype", source, {**dict.fromkeys(FEATURES, "double"), "species": "long"})
    refused(place, "othertype", ended, "ContractBroken", "column 'species': 150 of 150 rows are not of type long")


def test_some_labels_are_enough_and_it_is_told_how_many_are_missing(place: Place) -> None:
    rows = flowers()
    rows.loc[1:, "species"] = None
    rows.to_csv(place.folder / "some.csv", index=False)
    config = place.config(name="some", source={"uri": "some.csv"}, columns=COLUMNS)
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 0, ended.text
    assert "149 of 150 rows have no species: train and evaluate leave them out" in ended.err
    assert table(place, "some")["species"].null_count == 149


def test_rows_of_separators_alone_are_passed_over_and_told(place: Place) -> None:
    """As a spreadsheet writes them below its table, a hundred for three."""
    source = place.folder / "sheet.csv"
    source.write_text("id,x,label\n1,0.5,a\n2,,b\n3,1.5,a\n" + ",,\n" * 100)
    ended = ingest(place, "sheet", source, {"id": "long", "x": "double", "label": "string"})
    assert ended.exit_code == 0, ended.text
    assert f"{source}: 100 rows are blank but for separators, and passed over" in ended.err
    assert table(place, "sheet").num_rows == 3


def of_days(place: Place, name: str, mode: str, *days: int, **changes: Any) -> Ended:
    """Ingest a folder with a file for each of these days, in which id 0 has the day as its value."""
    folder = place.folder / name
    folder.mkdir(exist_ok=True)
    for day in days:
        rows = pd.DataFrame({"id": [0, day], "x": [float(day), 0.5], "label": ["a", "b"]})
        rows.to_csv(folder / f"{day}.csv", index=False)
    columns = {"id": {"type": "long"}, "x": {"type": "double"}, "label": {"type": "string"}, **changes}
    config = place.config(
        name=name,
        source={"uri": str(folder)},
        columns=columns,
        target="label",
        mode=mode,
        key=["id"] if mode == "upsert" else [],
    )
    return place.step("ingest", config=config)


def test_append_adds_the_files_that_are_new_each_once(place: Place) -> None:
    assert of_days(place, "appended", "append", 1, 2).out == f"ingest: table = {place.lake('appended')}@v0\n"
    again = of_days(place, "appended", "append")
    assert again.out == f"ingest: table = {place.lake('appended')}@v0\n", again.text
    assert "all of its files are in" in again.err
    assert of_days(place, "appended", "append", 3).out == f"ingest: table = {place.lake('appended')}@v1\n"
    assert sorted(table(place, "appended")["x"].to_pylist()) == [0.5, 0.5, 0.5, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("content", ["id,x,label\n", ""], ids=["a header alone", "nothing at all"])
def test_append_of_a_new_file_without_rows_leaves_the_table_and_goes_on_with_the_next_one(
    place: Place, content: str
) -> None:
    name = f"sundays_{len(content)}"
    assert of_days(place, name, "append", 1).exit_code == 0
    (place.folder / name / "2.csv").write_text(content)
    ended = of_days(place, name, "append")
    assert ended.out == f"ingest: table = {place.lake(name)}@v0\n", ended.text
    assert f"{place.folder / name}: its new files have no rows: 2.csv" in ended.err
    assert of_days(place, name, "append", 3).out == f"ingest: table = {place.lake(name)}@v1\n"
    assert sorted(table(place, name)["x"].to_pylist()) == [0.5, 0.5, 1.0, 3.0]


def test_append_is_refused_for_a_table_of_delta_which_has_no_new_files(place: Place) -> None:
    assert of_days(place, "upstream", "replace", 1).exit_code == 0
    config = place.config(
        name="downstream",
        source={"uri": place.lake("upstream")},
        columns={"x": {"type": "double"}, "label": {"type": "string"}},
        target="label",
        mode="append",
    )
    refused(place, "downstream", place.step("ingest", config=config), "SourceUnreadable", "reads new files only")


def test_append_rejects_rows_whose_key_the_table_has_and_keeps_the_others(place: Place) -> None:
    keys = {"key": ["day", "name"], "rejects_at_most": 0.5}
    columns = {name: {"type": "string"} for name in ("name", "x", "label")} | {
        "day": {"type": "date", "feature": False}
    }
    (folder := place.folder / "keyed").mkdir()

    def ingest_file(name: str, rows: str, **changes: Any) -> Ended:
        (folder / name).write_text(f"day,name,x,label\n{rows}")
        settings = {"columns": columns, "target": "label", "mode": "append", **keys, **changes}
        return place.step("ingest", config=place.config(name="keyed", source={"uri": str(folder)}, **settings))

    assert ingest_file("1.csv", "2024-01-01,é,1,a\n2024-01-02,é,2,b\n").exit_code == 0
    ended = ingest_file("2.csv", "2024-01-02,é,other,b\n2024-01-02,e,3,a\n2024-01-03,é,4,b\n")
    assert ended.exit_code == 0, ended.text
    assert "key day, name: 1 of 3 rows have a key that is in the table already" in ended.err
    assert sorted(table(place, "keyed")["x"].to_pylist()) == ["1", "2", "3", "4"]
    [reject] = table(place, "keyed_rejects").to_pylist()
    assert dict(reject["values"])["x"] == "other"
    assert reject["line"] == 2

    refused = ingest_file("3.csv", "2024-01-01,é,5,a\n2024-01-04,é,6,b\n", rejects_at_most=0.1)
    assert refused.exit_code == 1
    assert "key day, name: 1 of 2 rows have a key that is in the table already" in refused.err
    assert table(place, "keyed").num_rows == 4


def test_a_column_that_is_new_is_told_to_be_missing_in_the_rows_before(place: Place) -> None:
    assert of_days(place, "wider", "append", 1).exit_code == 0
    misspelt = of_days(place, "wider", "append", ww={"type": "double"})
    assert "column 'ww': the source has no 'ww'" in misspelt.err
    assert version_of(place.lake("wider")) == 0
    columns = {**dict.fromkeys(("id", "x", "w"), {"type": "double"}), "label": {"type": "string"}}
    config = place.config(name="wider", columns=columns, target="label", key=[])
    narrow = place.step("train", table=place.lake("wider@v0"), config=config)
    assert narrow.exit_code == 1
    assert f"TableUnfit: {place.lake('wider@v0')}: has no column 'w'" in narrow.err
    ended = of_days(place, "wider", "append", w={"type": "double", "source": "x"})
    assert ended.exit_code == 0, ended.text
    assert (
        f"new columns, missing in the 2 rows that are in {place.lake('wider@v0')}: w; `mode: replace` reads"
        in ended.err
    )
    assert table(place, "wider")["w"].to_pylist() == [None, None]
    by_ingest = f"ADD COLUMN by ingest, run {place.runs()[0].info.run_id[:8]}"
    assert by_ingest in place.step("lineage", uri=place.lake("wider@v1")).out
    again = of_days(place, "wider", "append", w={"type": "double", "source": "x"})
    assert again.out == f"ingest: table = {place.lake('wider@v1')}\n"
    assert "new, and missing" not in again.err
    unfit = of_days(place, "wider", "append", w={"type": "double", "source": "x"}, x={"type": "string"})
    assert "column 'x' is double in the table and would be string" in unfit.err


def test_what_is_said_of_new_rows_is_not_said_of_the_table(place: Place) -> None:
    assert "label: fewer rows than parts of the split have" in of_days(place, "some_new", "append", 1).err
    assert "fewer rows than parts" not in of_days(place, "some_new", "append", 2).err


def test_upsert_replaces_rows_of_the_same_key_and_keeps_the_others(place: Place) -> None:
    assert of_days(place, "upserted", "upsert", 1).exit_code == 0
    (place.folder / "upserted" / "1.csv").unlink()
    ended = of_days(place, "upserted", "upsert", 2)
    assert ended.out == f"ingest: table = {place.lake('upserted')}@v1\n", ended.text
    assert {row["id"]: row["x"] for row in table(place, "upserted").to_pylist()} == {0: 2.0, 1: 0.5, 2: 0.5}
    assert of_days(place, "upserted", "upsert").out == f"ingest: table = {place.lake('upserted')}@v1\n"


def test_replace_leaves_no_row_that_an_upsert_or_an_append_has_kept(place: Place) -> None:
    """Also when its rows are those of the newest version's commit."""
    for mode in ("upsert", "append"):
        assert of_days(place, f"full_{mode}", mode, 1).exit_code == 0
        (place.folder / f"full_{mode}" / "1.csv").unlink()
        assert of_days(place, f"full_{mode}", mode, 2).exit_code == 0
        replaced = of_days(place, f"full_{mode}", "replace")
        assert replaced.out == f"ingest: table = {place.lake(f'full_{mode}')}@v2\n", replaced.text
        assert sorted(table(place, f"full_{mode}")["x"].to_pylist()) == [0.5, 2.0]
        assert of_days(place, f"full_{mode}", "replace").out == replaced.out


def test_a_column_that_changes_its_type_is_refused_by_append_with_the_way_out(place: Place) -> None:
    assert of_days(place, "retyped", "append", 1).exit_code == 0
    ended = of_days(place, "retyped", "append", 2, id={"type": "string"})
    assert ended.exit_code == 1
    assert [text for text in ("TableUnfit", "'id'", "long", "string", "mode: replace") if text not in ended.err] == []
    assert version_of(place.lake("retyped")) == 0


def test_rows_that_share_a_key_are_all_rejects(place: Place) -> None:
    source = place.folder / "keys.csv"
    source.write_text("id,x,label\n1,0.1,a\n2,0.2,b\n1,0.3,a\n3,0.4,b\n")
    config = place.config(
        name="keys",
        source={"uri": str(source)},
        columns={"id": {"type": "long"}, "x": {"type": "double"}, "label": {"type": "string"}},
        target="label",
        key=["id"],
        rejects_at_most=0.5,
    )
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 0, ended.text
    assert sorted(table(place, "keys")["id"].to_pylist()) == [2, 3]
    assert [(line, rules) for _, line, rules, _, _ in rejects(place, "keys")] == [
        (2, ["key id: have the key of another row"]),
        (4, ["key id: have the key of another row"]),
    ]
    assert "key id: 2 of 4 rows have the key of another row" in ended.err


def test_each_row_of_a_source_is_in_the_table_or_among_the_rejects(place: Place) -> None:
    random = np.random.default_rng(7)
    lines = [
        f"{number},{random.choice(['1.5', 'x', 'inf', '-1'])},{random.choice(['a', 'b', 'c'])}" for number in range(400)
    ]
    lines[::50] = ["ragged"] * 8
    (place.folder / "mixed.csv").write_text("\n".join(["id,x,label", *lines]))
    config = place.config(
        name="mixed",
        source={"uri": "mixed.csv"},
        columns={
            "id": {"type": "long"},
            "x": {"type": "double", "min": 0},
            "label": {"type": "string", "allowed": ["a", "b"]},
        },
        target="label",
        rejects_at_most=0.95,
    )
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 0, ended.text
    good = [place for place, line in enumerate(lines, 2) if re.fullmatch(r"\d+,1\.5,[ab]", line)]
    assert sorted(table(place, "mixed")["id"].to_pylist()) == [line - 2 for line in good]
    kept = rejects(place, "mixed")
    assert sorted(line for _, line, *_ in kept) == sorted(set(range(2, 402)) - set(good))
    run = place.runs()[0]
    assert (run.data.metrics["rows"], run.data.metrics["rows_rejected"]) == (len(good), 400 - len(good))


UGLY_COLUMNS: dict[str, dict[str, Any]] = {
    "id": {"type": "long", "feature": False},
    "text": {"type": "string"},
    "number": {"type": "double", "nullable": True},
    "price": {"type": "decimal(9,2)", "decimal_mark": ",", "nullable": True},
    "day": {"type": "date", "nullable": True},
    "moment": {"type": "timestamp", "zone": "Europe/Berlin", "nullable": True},
    "paid": {"type": "boolean"},
    "label": {"type": "string"},
}
UGLY_ROWS: list[tuple[str, str, str, str, str, str, str]] = [  # of those columns, between id and label; as people write
    ("x" * 10_000_000, "1e3", "1.234,50", "1500-02-28", "2024-07-01 12:00:00", "Y", ""),
    ("NA", "NaN", "5", "9999-12-31", "2024-07-01T12:00:00Z", "no", ""),
    ("a\nb", "-0.0", "", "0001-01-01", "", "true", ""),
    ("", "inf", "1,234", "1500-02-29", "2016-12-31T23:59:60Z", "maybe", "number price day moment paid"),
    ("nul\0", "3d", "1,2,3", "10000-01-01", "2024-03-31 02:30:00", "", "text number price day moment"),
    (" ", "0x10", "12.50", "12/13/2020", "1700000000", "2", "number price day moment paid"),
]


def test_every_value_is_read_as_its_column_says_or_is_the_reason_why_its_row_is_a_reject(place: Place) -> None:
    with (place.folder / "ugly.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(UGLY_COLUMNS)
        rows.writerows([number, *values[:-1], "ab"[number % 2]] for number, values in enumerate(UGLY_ROWS))
    config = place.config(
        name="ugly", source={"uri": "ugly.csv"}, columns=UGLY_COLUMNS, target="label", rejects_at_most=0.5
    )
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 0, ended.text
    good = sorted(table(place, "ugly").to_pylist(), key=lambda row: row["id"])
    assert [len(row["text"]) for row in good] == [10_000_000, 2, 3]
    utc = dt.UTC
    assert [[row[name] for name in ("number", "price", "day", "moment", "paid")] for row in good] == [
        [1000.0, Decimal("1234.50"), dt.date(1500, 2, 28), dt.datetime(2024, 7, 1, 10, tzinfo=utc), True],
        [None, Decimal("5.00"), dt.date(9999, 12, 31), dt.datetime(2024, 7, 1, 12, tzinfo=utc), False],
        [0.0, None, dt.date(1, 1, 1), None, True],
    ]
    broken = {values["id"]: rules for _, _, rules, values, _ in rejects(place, "ugly")}
    for number, (*_, columns) in enumerate(UGLY_ROWS[3:], 3):
        assert [rule.split("'")[1] for rule in broken[str(number)]] == columns.split()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows_at_least": 200}, "150 of its rows keep the contract, and rows_at_least is 200"),
        ({"freshness": {"column": "day", "at_most_hours": 24}}, "its newest row is of 2020-01-01 (day)"),
    ],
)
def test_rows_that_are_too_few_or_stale_are_refused(place: Place, changes: dict[str, Any], said: str) -> None:
    name = next(iter(changes))
    flowers().assign(day="2020-01-01").to_csv(place.folder / f"{name}.csv", index=False)
    columns = {**COLUMNS, "day": {"type": "date", "feature": False}}
    config = place.config(name=name, source={"uri": f"{name}.csv"}, columns=columns, **changes)
    refused(place, name, place.step("ingest", config=config), said)


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_the_unit_of_a_column_is_its_comment(mode: str, place: Place) -> None:
    """Another unit is another table, though its rows are the same: written in place of it, or refused beside it."""
    flowers().assign(id=range(150)).to_csv(place.folder / "units.csv", index=False)

    def ingested(unit: str) -> Ended:
        columns = {**COLUMNS, "id": {"type": "long"}, "petal_width": {"type": "double", "unit": unit}}
        settings = {"name": f"{mode}_units", "source": {"uri": "units.csv"}, "key": ["id"], "mode": mode}
        return place.step("ingest", config=place.config(columns=columns, **settings))

    def comment() -> object:
        fields = DeltaTable(place.lake(f"{mode}_units")).schema().fields
        return {field.name: field.metadata for field in fields}["petal_width"]

    assert ingested("cm").exit_code == 0
    assert comment() == {"comment": "cm"}
    changed = ingested("mm")
    if mode == "upsert":
        assert "column 'petal_width' is in 'cm' in the table and would be in 'mm'" in changed.err
    assert comment() == {"comment": "mm" if mode == "replace" else "cm"}
