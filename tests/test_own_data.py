"""Own data in one command: a source and a target, without a config, from the file to predictions."""

import functools
import json
import re
import shlex
import shutil
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from http_servers import answering
from place import PROJECT, Ended, Place, new_database, rows_of

from steps.core import config

pytestmark = pytest.mark.spark
CUSTOMERS = PROJECT / "configs" / "data" / "churn.csv"


def reused(ended: Ended) -> int:
    return len(re.findall("reused, run", ended.out))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder in which `mlflow run . -e main -P source=... -P target=...` has ended well; nothing else is in it."""
    folder = tmp_path_factory.mktemp("own data é")
    new_database(folder)
    shutil.copy(CUSTOMERS, folder / "customers.csv")
    place = Place(folder)
    ended = place.mlflow_run("main", source="customers.csv", target="left")
    assert ended.exit_code == 0, ended.text
    assert "monthly_fee_EUR  double (from 'monthly fee (EUR)'): feature, missing where it says 'NA'" in ended.err
    assert re.search(r"evaluate +pass, models:/customers_model/1", ended.out)
    return place


def test_every_row_is_predicted_with_the_words_of_the_source(own: Place) -> None:
    predictions = rows_of(own.lake("customers_predictions"))
    assert len(predictions) == 400
    assert {*predictions["prediction"].to_pylist()} == {"no", "yes"}


def test_nothing_but_runs_and_tables_is_in_the_folder(own: Place) -> None:
    assert {path.name for path in own.folder.iterdir()} <= {"customers.csv", "mlflow.db", "mlruns", "lake"}


def test_the_same_command_again_runs_nothing(own: Place) -> None:
    ended = own.step("main", source="customers.csv", target="left")
    assert ended.exit_code == 0, ended.text
    assert reused(ended) == 4


def test_the_logged_config_saved_as_a_file_gives_the_same_results(own: Place, tmp_path: Path) -> None:
    run = next(run for run in own.runs() if run.info.run_name == "main")
    saved = own.client.download_artifacts(run.info.run_id, "customers.yaml", str(tmp_path))
    assert config.load(saved, home=tmp_path).source.uri == str(own.folder / "customers.csv")
    ended = own.step("main", config=saved)
    assert ended.exit_code == 0, ended.text
    assert reused(ended) == 4


def test_status_infers_too_and_does_nothing(own: Place) -> None:
    ended = own.step("main", source="customers.csv", target="left", dry_run="true")
    assert ended.exit_code == 0, ended.text
    assert reused(ended) == 4


def test_ingest_alone_infers_and_its_config_is_one_for_train(own: Place) -> None:
    ended = own.step("ingest", source="customers.csv", target="plan", name="plans")
    assert ended.exit_code == 0, ended.text
    path = re.search(r"config   (runs:/[0-9a-f]{32}/plans\.yaml)", ended.err)
    assert path is not None
    trained = own.step("train", config=path[1])
    assert trained.exit_code == 0, trained.text
    assert "model = models:/plans_model/1" in trained.out


def test_a_file_at_a_url_is_inferred_as_one_on_this_machine(own: Place) -> None:
    """In cp1252, with a line above its table, and of types that its texts tell."""
    rows = [f"{number},{number / 4},{('für', 'gegen')[number % 2]}" for number in range(100)]
    text = "\n".join(["Umfrage vom März", "id,Größe,Stimme", *rows])
    (folder := own.folder / "web").mkdir()
    (folder / "votes.csv").write_bytes(text.encode("cp1252"))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        url = f"{server}/votes.csv"
        ended = own.step("ingest", source=url, target="Stimme")
    assert ended.exit_code == 0, ended.text
    table = rows_of(own.lake("votes"))
    assert table.schema.types[:2] == [pa.int64(), pa.float64()]
    assert {*table["Stimme"].to_pylist()} == {"für", "gegen"}
    assert f"{url}: no config was given" in ended.err
    assert "workflow-source-" not in ended.err


def test_a_table_that_had_the_rows_of_another_source_of_that_name_is_told(own: Place) -> None:
    def told(folder: str) -> bool:
        ended = own.step("ingest", source=f"{folder}/same.csv", target="y")
        assert ended.exit_code == 0, ended.text
        had = f"{own.lake('same')} had the rows of {own.folder}/first/same.csv"
        return f"{had}; to keep both, name this one with -P name=NAME" in ended.err

    for folder in ("first", "second"):
        (own.folder / folder).mkdir()
        rows = [f"{number * 7 % 60 / 4},{'ab'[number % 2]}" for number in range(60)]
        (own.folder / folder / "same.csv").write_text("\n".join([f"{folder},y", *rows]), encoding="utf-8")
    assert [told(folder) for folder in ("first", "first", "second", "second")] == [False, False, True, False]


def test_the_command_that_a_failure_shows_runs_as_it_stands(own: Place) -> None:
    rows = CUSTOMERS.read_text(encoding="utf-8").splitlines(keepends=True)
    (own.folder / "bad.csv").write_text("".join(rows[:4]), encoding="utf-8")
    failed = own.step("main", source="bad.csv", target="left")
    assert failed.exit_code == 1
    command = re.search(r"again +(mlflow run .*)", failed.text)
    assert command is not None
    again = own.run(*shlex.split(command[1]))
    assert again.exit_code == 1
    assert "bad@v0:\n    - its validation part has no labelled row" in again.text
    (own.folder / "bad.csv").unlink()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"source": "customers.csv", "target": "lefd"}, r"no column 'lefd' \(did you mean 'left'\?\)"),
        ({"target": "left"}, "'target' needs 'source'"),
        ({"config": "mine.yaml", "source": "customers.csv", "target": "left"}, "mine.yaml says what its target is"),
        ({"name": "mine"}, "'name' goes with 'target'"),
        ({"config": f"runs:/{'0' * 32}/mine.yaml"}, "looked for in the artifacts of run 0000"),
    ],
)
def test_what_does_not_go_together_is_one_message(own: Place, parameters: dict[str, str], message: str) -> None:
    ended = own.step("main", **parameters)
    assert ended.exit_code == 1
    assert re.search(message, ended.err)
    assert "Traceback" not in ended.text


def test_lines_above_one_table_of_a_folder_are_not_skipped_in_the_others(own: Place) -> None:
    (own.folder / "months").mkdir()
    (own.folder / "months" / "1.csv").write_text(f"# made by a tool\n# on Monday\nx,t\n{rows_of_csv()}")
    (own.folder / "months" / "2.csv").write_text(f"x,t\n{rows_of_csv()}")
    ended = own.step("ingest", source="months", target="t")
    assert ended.exit_code == 1
    assert re.match(
        r"SourceUnreadable: source .*1\.csv: .*other files have no such lines above their table\n", ended.err
    )
    (own.folder / "months" / "2.csv").write_text(f"# made by a tool\n# on Friday\nx,t\n{rows_of_csv()}")
    ended = own.step("ingest", source="months", target="t")
    assert ended.exit_code == 0, ended.text
    assert len(rows_of(own.lake("months"))) == 120


def test_what_lies_beside_the_data_is_no_data(own: Place) -> None:
    (own.folder / "told").mkdir()
    (own.folder / "told" / "1.csv").write_text(f"x,t\n{rows_of_csv()}")
    (own.folder / "told" / "README.md").write_text("# Data\n\nThis is the data.\n")
    ended = own.step("ingest", source="told", target="t")
    assert ended.exit_code == 1
    assert re.match(
        r"FormatsMixed: .*\(\.csv, \.md\)\n.*\n.*name the data by a glob, such as .*told/\*\.csv; or", ended.err
    )
    ended = own.step("ingest", source="told/*.csv", target="t", name="told")
    assert ended.exit_code == 0, ended.text
    assert len(rows_of(own.lake("told"))) == 60


def test_a_file_whose_name_does_not_say_its_format_is_looked_at(own: Place) -> None:
    shutil.copy(CUSTOMERS, own.folder / "customers.data")
    ended = own.step("main", source="customers.data", target="left", dry_run="true")
    (own.folder / "customers.data").unlink()
    assert ended.exit_code == 0, ended.text
    assert "inferred from all 400 rows of 9 columns" in ended.err


def test_a_changed_type_is_told_in_the_summary(own: Place) -> None:
    """The last test here, as it changes the source."""
    path = own.folder / "customers.csv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    halves = [re.sub(r"^((?:[^,]*,){4}\d+)", r"\1.5", row) for row in rows]
    path.write_text("\n".join([header, *halves, ""]), encoding="utf-8")
    ended = own.step("main", source="customers.csv", target="left", dry_run="true")
    assert 'columns.months.type "long" -> "double"' in ended.out


def test_the_shipped_example_passes_its_gate(place: Place) -> None:
    ended = place.mlflow_run("ingest", config="configs/churn.yaml")
    assert ended.exit_code == 0, ended.text
    for step in ("train", "evaluate"):
        ended = place.step(step, config="configs/churn.yaml")
        assert ended.exit_code == 0, ended.text
    assert "evaluate: verdict = pass\nevaluate: champion = models:/churn_model/1\n" in ended.out
    ingested = rows_of(place.lake("churn"))
    assert (len(ingested), ingested["monthly_fee_EUR"].null_count) == (400, _count_of_na())


def _count_of_na() -> int:
    return sum(",NA," in line for line in CUSTOMERS.read_text(encoding="utf-8").splitlines())


def rows_of_csv(separator: str = ",", end: str = "") -> str:
    return "".join(f"{number % 7}.5{separator}{'yes' if number % 3 else 'no'}{end}\n" for number in range(60))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("notes.csv", f"# made by a tool\n# on Monday\nx,t\n{rows_of_csv()}", "text     skip_lines 2, as"),
        ("title.csv", f"Sales;;\n;;\n2024;;\nx;t;n\n{rows_of_csv(';', ';1')}", "text     skip_lines 3, as"),
        (
            "answer.json",
            json.dumps({"page": 1, "data": [{"x": 1, "t": "no"}, {"x": 2, "t": "yes"}] * 30}),
            "rows 'data'",
        ),
        ("text.parquet", f"x,t\n{rows_of_csv()}", "format   csv, by the content of its files"),
    ],
)
def test_a_file_in_an_unusual_form_is_read_in_the_one_that_it_most_likely_has(
    own: Place, name: str, text: str, told: str
) -> None:
    (own.folder / name).write_text(text)
    ended = own.step("ingest", source=name, target="t")
    assert ended.exit_code == 0, ended.text
    assert told in ended.err
    assert len(rows_of(own.lake(name.partition(".")[0]))) == 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.csv", b"", "SourceUnreadable: source .*nothing.csv: it has no rows"),
        ("header.csv", b"x,t\n", "SourceUnreadable: source .*header.csv: it has no rows"),
        ("picture.csv", bytes(range(256)) * 8, "NotText: source .*: it is not a text, it is binary data"),
        ("sheet.xlsx", b"PK\x03\x04" + bytes(range(256)), r"NotText: .*a zip archive, as \.xlsx files of Excel are"),
        ("cut.bin", b"PAR1" + bytes(20), "SourceUnreadable: .*cut.bin: it is not a Parquet file, or not whole"),
        (
            "page.txt",
            b"<html><body>404</body></html>",
            r"SourceUnreadable: .*page.txt: its format does not follow from the names of its files \(\.txt\)\n"
            r"    - as csv: .* it is HTML, such as a server's error\n    - as json: its lines are no JSON objects",
        ),
        (
            "quote.txt",
            b'x,t\n1,"no\n' + b"2,yes\n" * 9,
            r".*\n    - as csv: line 2 opens a quote that is not closed\n    - as json: .*\n.*\n.*correct it, or",
        ),
        ("twice.csv", b"x,x,t\n" + b"1,2,no\n3,4,yes\n" * 20, r"FeaturesMissing: (.|\n)*left out 'x': .*\(column 2\)"),
    ],
)
def test_a_file_that_teaches_nothing_is_refused_in_words_about_it(
    own: Place, name: str, content: bytes, message: str
) -> None:
    (own.folder / name).write_bytes(content)
    ended = own.step("ingest", source=name, target="t")
    assert ended.exit_code == 1
    assert re.match(message, ended.err)
    assert "Traceback" not in ended.text


@pytest.mark.parametrize(
    ("encoding", "city"),
    [("cp1252", "Besançon"), ("cp1250", "Łódź"), ("cp1251", "Санкт-Петербург"), ("shift_jis", "さくらんぼ")],
)
def test_a_file_that_is_not_utf8_is_read_in_the_encoding_that_it_most_likely_has(
    own: Place, encoding: str, city: str
) -> None:
    rows = [f"{city if number % 2 else 'Rom'},{number % 2}" for number in range(80)]
    file = own.folder / f"cities {encoding}.csv"
    file.write_text("\n".join(["city,at home", *rows]) + "\n", encoding=encoding)
    ended = own.step("ingest", source=file, target="at home", name=f"cities_{encoding}")
    assert ended.exit_code == 0, ended.text
    assert f"as it is not UTF-8; if {city!r} is not what it should be" in ended.err
    stored = set(rows_of(own.lake(f"cities_{encoding}"))["city"].to_pylist())
    assert stored == {city, "Rom"}
