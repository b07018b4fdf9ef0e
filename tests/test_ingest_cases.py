"""Files as people have them, through the entry point: read rightly, or refused in words that say what to do."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from place import CASES, Ended, Place, new_database, rows_of


@pytest.fixture
def place(tmp_path: Path) -> Place:
    new_database(tmp_path)
    return Place(tmp_path)


def ingest(place: Place, case: str, config: str, **parameters: object) -> Ended:
    """ingest in a copy of a case's folder."""
    shutil.copytree(CASES / case, place.folder, dirs_exist_ok=True)
    return place.step("ingest", config=f"{config}.yaml", **parameters)


def table(place: Place, case: str, config: str, name: str = "", **parameters: object) -> pa.Table:
    """What is in the table afterwards."""
    ended = ingest(place, case, config, **parameters)
    assert ended.exit_code == 0, ended.text
    return rows_of(place.lake(name or config))


def refused(place: Place, ended: Ended, name: str, *said: str) -> None:
    """One message with all of `said`, and no table."""
    assert ended.exit_code == 1, ended.text
    assert "Traceback" not in ended.text
    assert [text for text in said if text not in ended.err] == [], ended.err
    assert not (Path(place.lake(name)) / "_delta_log").exists()


def counts(rows: pa.Table, column: str) -> dict[Any, int]:
    return dict(Counter(rows[column].to_pylist()))


class TestFormsOfSeparatedValues:
    def test_a_census_file_without_header_with_blanks_and_question_marks(self, place: Place) -> None:
        rows = table(place, "N01", "census")
        assert rows.num_rows == 240
        assert counts(rows, "income") == {"<=50K": 121, ">50K": 119}
        missing = [rows[name].null_count for name in ("workclass", "occupation", "native_country")]
        assert missing == [12, 12, 8]
        assert pc.sum(rows["fnlwgt"]).as_py() == 50735122

    def test_blanks_around_values_are_no_part_of_them(self, place: Place) -> None:
        assert counts(table(place, "N01", "census_blanks", "census"), "income") == {"<=50K": 121, ">50K": 119}

    def test_a_line_above_a_table_without_header_is_refused_as_what_it_is(self, place: Place) -> None:
        ended = ingest(place, "N01", "census", source="adult.test")
        refused(place, ended, "census", "|1x3 Cross validator", "skip_lines")

    def test_labels_that_differ_by_a_mark_only_are_told(self, place: Place) -> None:
        ended = ingest(place, "N01", "census_both")
        assert ended.exit_code == 0, ended.text
        for labels in ("'<=50K', '<=50K.'", "'>50K', '>50K.'"):
            assert f"income: {labels} differ by case or a mark only" in ended.err, ended.text

    def test_a_spreadsheets_separator_line_is_heeded(self, place: Place) -> None:
        assert table(place, "N07", "kunden_sep", "kunden").num_rows == 120

    @pytest.mark.parametrize("config", ["kunden_utf16", "kunden_utf16_default"])
    def test_unicode_text_of_a_spreadsheet_is_read_by_its_byte_order_mark(self, place: Place, config: str) -> None:
        rows = table(place, "N07", config, "kunden")
        assert rows.num_rows == 120
        assert counts(rows, "Bundesland")["Thüringen"] == 30

    def test_a_separator_at_the_end_of_each_line_is_no_column(self, place: Place) -> None:
        rows = table(place, "N08", "flights")
        assert rows.num_rows == 200
        assert counts(rows, "late") == {"0.00": 102, "1.00": 98}
        assert pc.sum(rows["DEP_DELAY"]).as_py() == pytest.approx(821.0)

    def test_comments_are_passed_over_where_that_is_said(self, place: Place) -> None:
        assert table(place, "N08", "station").num_rows == 150

    def test_lines_above_the_header_are_shown_with_what_to_set(self, place: Place) -> None:
        refused(place, ingest(place, "N08", "indicators"), "indicators", "Indicators of a Made-up Bank", "skip_lines")

    def test_notes_below_the_table_are_rejects(self, place: Place) -> None:
        config = place.folder / "indicators.yaml"
        shutil.copytree(CASES / "N08", place.folder, dirs_exist_ok=True)
        text = config.read_text().replace("{uri: indicators.csv}", "{uri: indicators.csv, options: {skip_lines: 4}}")
        config.write_text(f"{text}\nrejects_at_most: 0.1\n")
        ended = place.step("ingest", config="indicators.yaml")
        assert ended.exit_code == 0, ended.text
        rows = rows_of(place.lake("indicators"))
        assert set(rows["income_group"].to_pylist()) <= {"Low", "High"}
        kept = rows_of(place.lake("indicators_rejects"))
        assert kept.num_rows == 2, kept.to_pylist()

    def test_runs_of_blanks_separate(self, place: Place) -> None:
        rows = table(place, "N11", "auto")
        assert rows.num_rows == 150
        assert counts(rows, "origin") == {1: 89, 2: 25, 3: 36}
        assert rows["horsepower"].null_count == 3

    def test_a_header_that_begins_with_a_separator_is_no_obstacle(self, place: Place) -> None:
        assert table(place, "N06", "flowers_index").num_rows == 150

    @pytest.mark.parametrize("name", ["not_gzip.csv.gz", "really_gzip.csv.gzip"])
    def test_a_file_is_decompressed_by_its_content_whatever_its_name(self, place: Place, name: str) -> None:
        columns = {"id": {"type": "long"}, "x": {"type": "double"}, "label": {"type": "string"}}
        config = place.config(name="gz", source={"uri": str(CASES / "I15_gz" / name)}, columns=columns, target="label")
        assert place.step("ingest", config=config).exit_code == 0
        assert rows_of(place.lake("gz")).num_rows == 20


class TestValues:
    def test_a_blank_in_a_column_of_numbers_is_missing(self, place: Place) -> None:
        rows = table(place, "N02", "telco")
        assert rows.num_rows == 300
        assert rows["TotalCharges"].null_count == 5
        assert pc.sum(rows["TotalCharges"]).as_py() == pytest.approx(639533.52)
        assert counts(rows, "Partner")[True] == 141
        assert counts(rows, "PhoneService")[False] == 32

    def test_a_text_is_a_level_in_one_column_and_missing_in_another(self, place: Place) -> None:
        shutil.copytree(CASES / "N03", place.folder, dirs_exist_ok=True)
        config = place.folder / "houses.yaml"
        text = config.read_text()
        for name, kind in (("LotFrontage", "double, min: 1"), ("GarageYrBlt", "long, min: 1900, max: 2030")):
            text = text.replace(f"{name}: {{type: {kind}}}", f"{name}: {{type: {kind}, missing: [NA]}}")
        config.write_text(text)
        ended = place.step("ingest", config="houses.yaml")
        assert ended.exit_code == 0, ended.text
        rows = rows_of(place.lake("houses"))
        assert [rows[name].null_count for name in ("LotFrontage", "GarageYrBlt", "Alley")] == [46, 19, 0]
        assert counts(rows, "Alley") == {"NA": 244, "Grvl": 11, "Pave": 5}
        assert [counts(rows, name)["NA"] for name in ("BsmtQual", "PoolQC", "Fence", "GarageType")] == [
            27,
            256,
            196,
            19,
        ]

    def test_the_spellings_of_nan_are_missing_and_infinity_is_a_reject(self, place: Place) -> None:
        columns: dict[str, Any] = {"id": {"type": "long"}, "x": {"type": "double", "missing": ["NULL", "N/A", -999]}}
        columns["label"] = {"type": "string"}
        source = {"uri": str(CASES / "I18_missing.csv")}
        config = place.config(name="m", source=source, columns=columns, target="label", rejects_at_most=0.5)
        ended = place.step("ingest", config=config)
        assert ended.exit_code == 0, ended.text
        given = [line.split(",")[1] for line in (CASES / "I18_missing.csv").read_text().split()[1:]]
        expected = sum(value.lower() in ("nan", "", "null", "n/a", "-999") for value in given)
        assert rows_of(place.lake("m"))["x"].null_count == expected
        assert rows_of(place.lake("m_rejects")).num_rows == sum(value.lower() == "inf" for value in given) > 0
        assert "rows are infinite, such as 'inf'" in ended.err

    def test_a_column_without_any_value_has_the_contracts_type(self, place: Place) -> None:
        columns = {
            "id": {"type": "long"},
            "x": {"type": "double"},
            "note": {"type": "string"},
            "label": {"type": "long"},
        }
        for version, case in enumerate(("I06_allnull_1.jsonl", "I06_allnull_2.jsonl")):
            config = place.config(name="void", source={"uri": str(CASES / case)}, columns=columns, target="label")
            ended = place.step("ingest", config=config)
            assert ended.out == f"ingest: table = {place.lake('void')}@v{version}\n", ended.text
        rows = rows_of(place.lake("void"))
        assert rows.schema.field("note").type in (pa.string(), pa.string_view())
        assert rows["note"].null_count < rows.num_rows

    def test_codes_keep_their_zeros_in_names_of_folders(self, place: Place) -> None:
        columns = {"id": {"type": "string"}, "hour": {"type": "string"}, "label": {"type": "string"}}
        header = (CASES / "I07_part" / "hour=01" / "rows.csv").read_text().splitlines()[0].split(",")
        config = place.config(
            name="hours",
            source={"uri": str(CASES / "I07_part")},
            columns={name: rule for name, rule in columns.items() if name in (*header, "hour")},
            target=header[-1],
        )
        ended = place.step("ingest", config=config)
        assert ended.exit_code == 0, ended.text
        assert set(rows_of(place.lake("hours"))["hour"].to_pylist()) == {"01", "10"}

    def test_ids_above_2_to_the_53_and_offsets_are_exact(self, place: Place) -> None:
        rows = table(place, "N12", "orders")
        assert rows.num_rows == 120
        assert counts(rows, "tier") == {"basic": 30, "gold": 44, "silver": 46}
        ids = rows["account_id"].to_pylist()
        assert (min(ids), max(ids) - min(ids)) == (9007199254740993, 238)
        assert pc.sum(rows["amount"]).as_py() == pytest.approx(8746.99)
        first = rows["created_at"].to_pylist()[ids.index(min(ids))]
        assert first.isoformat() == "2024-02-29T22:00:00+00:00"

    def test_rows_under_a_key_are_named(self, place: Place) -> None:
        ended = ingest(place, "N12", "orders", source="orders_api.json")
        refused(place, ended, "orders", "its rows are under 'data'", "source.options.rows: data")

    def test_rows_under_a_key_are_the_same_table_where_that_is_said(self, place: Place) -> None:
        first = table(place, "N12", "orders")
        text = (place.folder / "orders.yaml").read_text()
        (place.folder / "api.yaml").write_text(
            text.replace("{uri: orders.jsonl}", "{uri: orders_api.json, options: {rows: data}}")
        )
        assert place.step("ingest", config="api.yaml").out == f"ingest: table = {place.lake('orders')}@v0\n"
        assert first.num_rows == 120

    def test_types_of_parquet_are_read_exactly_and_others_are_left_alone(self, place: Place) -> None:
        rows = table(place, "N13", "types")
        sums = [pc.sum(rows[name]).as_py() for name in ("u8", "u16", "u32")]
        assert sums == [12140, 3064650, 322849886765]
        assert pc.max(rows["u64"]).as_py() == 9223372036854775807
        assert pc.sum(rows["price"]).as_py() == pytest.approx(6288.37)
        assert counts(rows, "good")[True] == 54
        for other in ("int96", "with_opens", "with_ratio", "with_took", "with_uuid"):
            ended = place.step("ingest", config="types.yaml", source=f"{other}.parquet")
            assert ended.out == f"ingest: table = {place.lake('types')}@v0\n", (other, ended.text)


class TestFolders:
    def test_files_with_another_type_or_case_are_read_by_the_contract_in_any_order(self, place: Place) -> None:
        rows = table(place, "N04", "taxi")
        assert rows.num_rows == 240
        assert pc.sum(rows["passenger_count"]).as_py() == 724
        assert rows["passenger_count"].null_count == 6
        assert pc.sum(rows["airport_fee"]).as_py() == pytest.approx(49.75)
        assert counts(rows, "payment_type") == {1: 162, 2: 78}
        jan, feb = sorted((place.folder / "trips").iterdir())
        jan.rename(place.folder / "x"), feb.rename(jan), (place.folder / "x").rename(feb)
        assert place.step("ingest", config="taxi.yaml").out == f"ingest: table = {place.lake('taxi')}@v0\n"

    @pytest.mark.parametrize("source", ["trips", "trips_zero"])
    def test_values_in_names_of_folders_are_decoded(self, place: Place, source: str) -> None:
        rows = table(place, "N16", "trips", source=source)
        assert counts(rows, "region") == {"a/b": 50, "x=1": 40, "Köln": 40, None: 30}
        assert set(counts(rows, "day").values()) == {80}
        assert counts(rows, "label") == {0: 80, 1: 80}

    def test_what_notebooks_and_crashed_jobs_leave_counts_for_nothing(self, place: Place) -> None:
        rows = table(place, "N24", "events", "leftovers")
        assert counts(rows, "kind") == {"hi": 65, "lo": 55}
        assert pc.sum(rows["x"]).as_py() == pytest.approx(2.381)


class TestLabels:
    def test_rows_without_labels_never_replace_the_table(self, place: Place) -> None:
        rows = table(place, "N23", "churn")
        assert counts(rows, "churned") == {"yes": 110, "no": 90}
        for source in ("test.csv", "test_empty_target.csv"):
            ended = place.step("ingest", config="churn.yaml", source=source)
            assert ended.exit_code == 1
            assert "-e ingest -P labelled=false" in ended.err
        ended = place.step("ingest", config="churn.yaml", source="test.csv", labelled="false")
        assert ended.exit_code == 0, ended.text
        assert rows_of(place.lake("churn_unlabelled")).num_rows == 100
        assert rows_of(place.lake("churn")).num_rows == 200

    @pytest.mark.parametrize(("config", "name"), [("flowers_index", "row"), ("visits", "closing_code")])
    def test_a_feature_that_knows_the_answer_is_named(self, place: Place, config: str, name: str) -> None:
        assert f"{name}: tells " in ingest(place, "N06", config).err

    def test_it_is_in_the_report_of_a_model_that_learnt_from_it(self, place: Place) -> None:
        assert ingest(place, "N06", "visits").exit_code == 0
        for step in ("train", "evaluate"):
            ended = place.step(step, config="visits.yaml")
            assert ended.exit_code == 0, ended.text
        evaluated = place.runs()[0]
        report = place.client.download_artifacts(evaluated.info.run_id, "report.html", str(place.folder))
        assert "closing_code: tells " in Path(report).read_text()

    def test_an_honest_feature_is_not(self, place: Place) -> None:
        assert "tells" not in ingest(place, "N06", "flowers").err
