"""The entry point `ingest`: the same rows from every kind of source, and nothing from a source that is not right."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
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


def test_what_is_written_is_what_was_checked_also_when_the_source_is_replaced_meanwhile(place: Place) -> None:
    source = place.folder / "replaced.csv"
    flowers().to_csv(source, index=False)
    config = place.config(name="replaced", source={"uri": str(source)}, columns=COLUMNS)
    script = f"""
from pathlib import Path
from steps import ingest
from steps.core.sources import contract
validate = contract.validate
def and_then_it_is_replaced(*given):
    result = validate(*given)
    Path({str(source)!r}).write_text("sepal_length,sepal_width,petal_length,petal_width,species\\n-1,-1,-1,-1,rose\\n")
    return result
contract.validate = and_then_it_is_replaced
ingest.main(["--config={config}"])
"""
    ended = Place(place.folder, {"PYTHONPATH": str(PROJECT), **place.extra}).run(sys.executable, "-c", script)
    assert ended.exit_code == 0, ended.text
    assert f"{source} was written to meanwhile; this run will not be reused" in ended.err
    assert counted(table(place, "replaced")) == counted(pa.Table.from_pandas(flowers(), preserve_index=False))


def test_another_source_can_be_given_instead_of_the_configs(place: Place) -> None:
    source = place.folder / "instead of.csv"
    flowers()[:120].to_csv(source, index=False)
    config = place.config(name="instead", columns=COLUMNS)
    ended = place.mlflow_run("ingest", config=config, source=source, lake=place.folder / "other lake")
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
    assert place.runs()[0].data.tags["remarks"].splitlines() == lines
    assert table(place, "hidden").num_rows == 100


def test_columns_that_differ_only_by_case_are_refused(place: Place) -> None:
    ended = ingest(place, "case", CASES / "I04_dup_case.csv", {"id": "long", "amount": "double", "label": "long"})
    refused(place, "case", ended, "'Amount', 'amount'")
    assert "Amount1" not in ended.err


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
    refused(place, "latin", ended, "column 'label'", "are not UTF-8 (say source.options.encoding)")


def test_an_encoding_can_be_said(place: Place) -> None:
    columns = {"id": "long", "label": "string"}
    ended = ingest(place, "latin1", CASES / "I09_cp1252.csv", columns, encoding="iso-8859-1")
    assert ended.exit_code == 0, ended.text
    assert set(table(place, "latin1")["label"].to_pylist()) == {"café", "thé"}


@pytest.mark.parametrize("encoding", ["windows-1252", "nonsense"])
def test_an_encoding_that_spark_does_not_take_is_refused_with_those_that_it_takes(place: Place, encoding: str) -> None:
    columns = {"id": "long", "label": "string"}
    ended = ingest(place, "cp1252", CASES / "I09_cp1252.csv", columns, encoding=encoding)
    refused(place, "cp1252", ended, "SourceUnreadable", encoding, "iso-8859-1", "utf-8", "source.options")


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
    assert re.search(r"column 'amount': \d+ of \d+ rows are not of type long, such as '10.5'", ended.err)
    assert version_of(place.lake("days")) == 0


@pytest.mark.parametrize("line", ["4,0.5", "4,0.5,a,more"])
def test_a_row_with_more_or_fewer_values_than_the_header_is_refused(place: Place, line: str) -> None:
    name = f"ragged{len(line)}"
    source = place.folder / f"{name}.csv"
    source.write_text(f"id,x,label\n1,0.1,a\n2,0.2,b\n{line}\n")
    ended = ingest(place, name, source, {"id": "long", "x": "double", "label": "string"})
    refused(place, name, ended, "SourceUnreadable", str(source), line, f"line 4 of {source}", "(1 such row in all)")


def test_an_indented_json_array_is_read_row_by_row(place: Place) -> None:
    ended = ingest(place, "pretty", CASES / "I17_pretty.json", {"id": "long", "x": "double", "label": "string"})
    assert ended.exit_code == 0, ended.text
    assert sorted(table(place, "pretty")["id"].to_pylist()) == list(range(15))


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


UNLABELLED = ["its target, column 'species', is empty in all 150 rows; nothing was written", "-e infer -P table=PATH"]


@pytest.mark.parametrize(
    ("required", "label"), [(False, None), (True, None), (False, "  ")], ids=["empty", "empty and required", "blank"]
)
def test_rows_without_any_label_are_refused_and_the_table_stays(
    place: Place, required: bool, label: str | None
) -> None:
    name = f"labels{int(required)}{len(label or '')}"
    source = place.folder / f"{name}.csv"
    columns = {**COLUMNS, "species": {"type": "string", "required": required}}
    config = place.config(name=name, source={"uri": str(source)}, columns=columns)
    flowers().to_csv(source, index=False)
    assert place.step("ingest", config=config).exit_code == 0
    flowers().assign(species=label).to_csv(source, index=False)
    ended = place.step("ingest", config=config)
    assert ended.exit_code == 1
    assert f"SourceUnlabelled: source {source} has no labels: " in ended.err
    assert [text for text in UNLABELLED if text not in ended.err] == []
    assert version_of(place.lake(name)) == 0


def test_a_source_without_the_targets_column_is_told_what_to_do_with_rows_to_predict(place: Place) -> None:
    flowers().drop(columns="species").to_csv(place.folder / "featuresonly.csv", index=False)
    config = place.config(name="featuresonly", source={"uri": "featuresonly.csv"}, columns=COLUMNS)
    ended = place.step("ingest", config=config)
    said = ["SourceUnlabelled", "column 'species': the source has no 'species'", "nothing was written", UNLABELLED[1]]
    refused(place, "featuresonly", ended, *said)


def test_labels_of_another_type_are_a_broken_contract_and_not_missing(place: Place) -> None:
    source = place.folder / "othertype.csv"
    flowers().to_csv(source, index=False)
    ended = ingest(place, "othertype", source, {**dict.fromkeys(FEATURES, "double"), "species": "long"})
    refused(place, "othertype", ended, "ContractBroken", "column 'species': 150 of 150 rows are not of type long")


def test_some_labels_are_enough(place: Place) -> None:
    rows = flowers()
    rows.loc[1:, "species"] = None
    rows.to_csv(place.folder / "some.csv", index=False)
    config = place.config(name="some", source={"uri": "some.csv"}, columns=COLUMNS)
    assert place.step("ingest", config=config).exit_code == 0
    assert table(place, "some")["species"].null_count == 149
