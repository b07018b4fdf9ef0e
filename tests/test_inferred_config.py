"""What is inferred of a source without a config: names, types, roles, the key, the target, and a file that says so."""

import datetime as dt
import json
import random
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from place import CASES, PROJECT
from small import QUICK

from benchmarks import churn_data
from steps.core import config
from steps.core.columns import Column
from steps.core.config import LONGEST_NAME, PREDICTION_COLUMNS, Config
from steps.core.errors import ConfigInvalid, FeaturesMissing, SourceUnreadable, TargetNotFound, TargetUnfit
from steps.core.sources import column_notes, column_types, contract, kinds, source_sample, written_forms
from steps.core.sources.column_names import VALID, contract_names
from steps.core.sources.column_types import InferredType, infer_type
from steps.core.sources.decisions_in_words import LISTED_COLUMNS
from steps.core.sources.inferred_config import InferredConfig, infer_config
from steps.core.sources.rows import Part, RawRows
from steps.core.sources.source import Source
from steps.core.sources.values import convert


class Held(Part):
    """Rows in memory; `columns` are names in the contract to names in the source."""

    file, size_bytes = "held", 0

    def __init__(self, table: pa.Table, columns: Mapping[str, str]) -> None:
        self.table, self.columns = table, columns

    def read(self) -> Iterator[RawRows]:
        for batch in self.table.to_batches(max_chunksize=997):
            yield RawRows(columns=pa.table({name: batch[source] for name, source in self.columns.items()}))


class HeldSource(Source):
    def __init__(
        self, table: pa.Table, *, uri: str = "/data/customers.csv", format: str = "csv", parts: int = 1
    ) -> None:
        super().__init__(config.Source(uri=uri, format=format))
        self.table, self.part_rows = table, -(-len(table) // parts) or 1

    @property
    def is_text(self) -> bool:
        return self.settings.format in ("csv", "json")

    def check(self) -> None:
        pass

    def fingerprint(self) -> str:
        return ""

    def columns(self) -> dict[str, pa.DataType]:
        return dict(zip(self.table.column_names, self.table.schema.types, strict=True))

    def parts(self, columns: Mapping[str, Column]) -> list[Part]:
        names = {name: column.source or name for name, column in columns.items()}
        starts = range(0, max(len(self.table), 1), self.part_rows)
        return [Held(self.table.slice(start, self.part_rows), names) for start in starts]


LABELS = [f"class {number % 2}" for number in range(40)]


def texts(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


def keys_of(*values: str | None) -> dict[str, object]:
    inferred = infer_type(texts(*values), is_text=True)
    assert inferred is not None
    return inferred.keys


def inferred(columns: Mapping[str, Any], *, target: str = "label", **source: Any) -> InferredConfig:
    """Of a source with these columns, and a label where they have none."""
    rows = len(next(iter(columns.values()))) if columns else len(LABELS)
    table = pa.table({**columns, **({} if target in columns else {"label": [f"class {n % 2}" for n in range(rows)]})})
    return infer_config(HeldSource(table, **source), target=target)


def units() -> list[str]:
    """Rows whose third value is 60 in sum."""
    january = [f"2024-01-{n + 1:02},{'north' if n % 3 else 'south'},{n % 4},{'ab'[n % 2]}" for n in range(24)]
    return [*january, *(f"2024-02-{n + 1:02},east,3,{'ab'[n % 2]}" for n in range(8))]


def of_lines(folder: Path, *lines: str) -> list[str]:
    """What is told of a CSV file with these lines below a header."""
    path = folder / "sales.csv"
    path.write_text("\n".join(["date,region,units,label", *lines]), encoding="utf-8")
    return infer_config(kinds.resolve(config.Source(uri=str(path))), target="label").lines


def numbers(rows: int = 40) -> list[str]:
    return [f"{number % 7}.5" for number in range(rows)]


class TestSample:
    def test_a_source_of_ordinary_size_is_looked_at_whole(self) -> None:
        """Sorted as it is, its first rows have one class, no fraction and no word for a missing value."""
        rows = 30_000
        amounts = [*map(str, range(rows - 2)), "0.5", "n/a"]
        found = inferred({"amount": amounts, "label": sorted(f"class {number % 3}" for number in range(rows))})
        columns = yaml.safe_load(found.text)["columns"]
        assert columns["amount"] == {"type": "double", "missing": ["n/a"]}
        assert columns["label"]["allowed"] == ["class 0", "class 1", "class 2"]
        assert "inferred from all 30000 rows of 2 columns" in found.lines[0]

    @pytest.mark.parametrize("parts", [1, 3, 1_000])
    def test_a_larger_one_is_looked_at_all_over(self, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
        monkeypatch.setattr(source_sample, "MOST_SAMPLE_ROWS", 4_000)
        rows = 30_000
        columns = {
            "number": list(map(str, range(rows))),
            "place": [str(number * 3 % rows) for number in range(rows)],
            "late": [None] * (rows // 2) + ["1.5", "2.5"] * (rows // 4),
            "label": sorted(f"class {number % 3}" for number in range(rows)),
        }
        table = pa.table(columns)
        found = infer_config(HeldSource(table, parts=parts), target="label")
        keys = yaml.safe_load(found.text)["columns"]
        assert keys["label"] == {"type": "string"}  # without `allowed`, as not all rows were seen
        assert "'label' has 3 different values" in found.lines[1]
        assert keys["late"] == {"type": "double"}
        assert keys["number"] == {"type": "long", "feature": False}  # it counts the rows, with gaps in the sample
        assert keys["place"] == {"type": "long"}
        assert re.search(r"inferred from [4-8]\d{3} rows from all over it of 4 columns", found.lines[0])

    def test_a_large_file_beside_small_ones_is_looked_at_all_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_sample, "MOST_SAMPLE_ROWS", 4_000)
        small = [pa.table({"v": ["1"] * 2, "label": ["a", "b"]})] * 30
        values = [*map(str, range(5_000)), *(f"{number}.5" for number in range(25_000))]
        large = pa.table({"v": values, "label": ["a", "b"] * 14_900 + ["c"] * 200})
        tables = [*small[:15], large, *small[15:]]

        class Uneven(HeldSource):
            def parts(self, columns: Mapping[str, Column]) -> list[Part]:
                return [
                    Held(table, {name: column.source or name for name, column in columns.items()}) for table in tables
                ]

        keys = yaml.safe_load(infer_config(Uneven(pa.concat_tables(tables)), target="label").text)["columns"]
        assert keys == {"v": {"type": "double"}, "label": {"type": "string"}}

    @given(sizes=st.lists(st.integers(0, 40), max_size=20), wanted=st.integers(1, 20))
    @QUICK
    def test_thinned_rows_are_evenly_apart(self, sizes: list[int], wanted: int) -> None:
        thinned, start = source_sample.Thinned(wanted), 0
        for size in sizes:
            thinned.add(pa.table({"number": pa.array(range(start, start + size), pa.int64())}))
            start += size
        kept = [number for table in thinned.tables for number in table["number"].to_pylist()]
        assert kept == list(range(0, start, kept[1] if len(kept) > 1 else start + 1))
        assert min(start, wanted) <= len(kept) <= 2 * wanted

    def test_what_a_part_far_behind_refuses_is_left_to_ingest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_sample, "MOST_SAMPLE_ROWS", 1_000)

        class Refusing(HeldSource):
            def parts(self, columns: Mapping[str, Column]) -> list[Part]:
                class Broken(Part):
                    file, size_bytes = "broken", 0

                    def read(self) -> Iterator[RawRows]:
                        raise SourceUnreadable("broken", "it is cut off")

                return [*super().parts(columns), Broken()]

        found = infer_config(Refusing(pa.table({"x": numbers(3_000), "label": [*LABELS] * 75})), target="label")
        assert "inferred from the first 1000 rows of 2 columns" in found.lines[0]

    def test_a_folder_in_which_a_file_lacks_a_column_is_one_that_ingest_takes(self, tmp_path: Path) -> None:
        rows = [f"{number},{number % 7}.5,{number % 2}\n" for number in range(40)]
        (tmp_path / "2023.csv").write_text("".join(["id,x,label\n", *rows]))
        (tmp_path / "2024.csv").write_text("".join(["id,label\n", *(f"{number},1\n" for number in range(40, 80))]))
        source = kinds.resolve(config.Source(uri=str(tmp_path)))
        found = infer_config(source, target="label")
        assert found.config.columns["x"].nullable is True
        assert "feature, missing in 1 of 2 files, which have none" in "\n".join(found.lines)
        read = [raw.columns for part in source.parts(found.config.columns) for raw in part.read()]
        assert pa.concat_tables(read)["x"].null_count == 40


class TestJson:
    def infer(self, path: Path, rows: list[dict[str, Any]]) -> InferredConfig:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return infer_config(kinds.resolve(config.Source(uri=str(path))), target="label")

    def test_a_key_that_comes_late_is_a_column(self, tmp_path: Path) -> None:
        rows = [{"x": number % 7 * 1.5, "label": number % 2} for number in range(15_000)]
        found = self.infer(tmp_path / "rows.jsonl", [*rows, {"x": 1, "label": 1, "late": 2.5}, {"late": 3, "label": 0}])
        assert found.config.features == ["x", "late"]

    @pytest.mark.parametrize(
        ("other", "reason"),
        [({"tier": 1}, "customer is an object in 26 of 40 rows"), ([1], "customer is a list in 26 of 40 rows")],
    )
    def test_a_value_where_other_rows_have_more_than_one_is_told(
        self, tmp_path: Path, other: object, reason: str
    ) -> None:
        rows = [{"x": n % 7, "customer": other if n % 3 else "none", "label": n % 2} for n in range(40)]
        found = self.infer(tmp_path / "rows.jsonl", rows)
        assert f"left out 'customer': {reason}" in "\n".join(found.lines)

    def test_a_list_where_other_rows_have_an_object_is_told(self, tmp_path: Path) -> None:
        rows = [{"x": n % 7, "u": {"n": n % 4} if n % 5 else [1, 2], "label": n % 2} for n in range(40)]
        found = self.infer(tmp_path / "rows.jsonl", rows)
        assert "left out 'u': the contract has no type for list<" in "\n".join(found.lines)
        assert found.config.features == ["x", "u_n"]

    def test_an_object_that_is_null_in_other_rows_is_known_by_its_fields(self, tmp_path: Path) -> None:
        rows = [{"x": n % 7, "customer": {"tier": n % 3} if n % 4 else None, "label": n % 2} for n in range(40)]
        found = self.infer(tmp_path / "rows.jsonl", rows)
        assert found.config.features == ["x", "customer_tier"]
        assert "left out" not in "\n".join(found.lines)

    def test_a_key_is_a_column_also_where_another_one_goes_on_behind_a_dot(self, tmp_path: Path) -> None:
        found = self.infer(tmp_path / "rows.jsonl", [{"a": n % 7, "a.b": n % 5, "label": n % 2} for n in range(40)])
        assert found.config.features == ["a", "a_b"]


class TestNames:
    def test_a_name_keeps_its_letters_and_digits(self) -> None:
        given_names = ["sepal length (cm)", "Größe", "Høyde", "Łódź", "prix €", "PassengerId", "2020", "on"]
        assert list(contract_names(given_names).values()) == [
            *("sepal_length_cm", "Grosse", "Hoyde", "Lodz", "prix", "PassengerId", "column_2020", "on"),
        ]

    @pytest.mark.parametrize(
        ("given_name", "expected"),
        [
            ("возраст", "column_1e804df1"),
            ("温度C", "C_8cc94d0c"),
            ("Høydeй", "Hoyde_9041501d"),
            ("…", "column_b4935894"),
            ("prediction", "prediction_70ad7b8f"),
            ("Run_ID", "Run_ID_233fbe52"),
        ],
    )
    def test_a_name_that_loses_letters_or_is_taken_gets_a_hash_of_its_own(self, given_name: str, expected: str) -> None:
        assert contract_names([given_name]) == {given_name: expected}

    def test_a_name_is_one_in_whatever_form_unicode_writes_it(self) -> None:
        assert [*contract_names(["\u0439"]).values()] == [*contract_names(["\u0438\u0306"]).values()]

    @pytest.mark.parametrize(
        ("before", "added"),
        [
            (("возраст", "город"), "адрес"),
            (("温度C", "温度"), "湿度C"),
            (("user age",), "user.age"),
            (("user age",), "user_age"),
            (("age",), "Age"),
            (("...", "%"), "#"),
            (("user.age", "user_age_94693f18"), "user age"),
        ],
    )
    def test_no_name_becomes_that_of_another_column_when_one_is_added(
        self, before: tuple[str, ...], added: str
    ) -> None:
        names = contract_names(before)
        now = contract_names([*before, added])
        assert {valid: name for name, valid in now.items() if valid in names.values()}.items() <= {
            (valid, name) for name, valid in names.items()
        }

    def test_names_that_become_the_same_each_get_a_hash(self) -> None:
        assert contract_names(["user.age", "user age", "x"]) == {
            "user.age": "user_age_94693f18",
            "user age": "user_age_d78c9af3",
            "x": "x",
        }
        assert contract_names(["a b", "a_b"]) == {"a b": "a_b_c8687a08", "a_b": "a_b_648fa9b3"}

    @QUICK
    @given(st.lists(st.text(max_size=8), unique=True, max_size=12), st.randoms())
    def test_any_names_are_valid_different_and_independent_of_their_order(
        self, names: list[str], order: random.Random
    ) -> None:
        found = contract_names(names)
        assert all(VALID.fullmatch(name) for name in found.values())
        lower = [name.lower() for name in found.values()]
        assert len(set(lower)) == len(names)
        assert not {*lower} & {*PREDICTION_COLUMNS}
        shuffled = list(names)
        order.shuffle(shuffled)
        assert contract_names(shuffled) == found


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_infinity=False).map(str),
    st.sampled_from(
        [*map(str, column_notes.SENTINELS), "NA", "?", "-", "inf", "1.234", "0", "-0", "1e400", "007", " 5 "]
    ),
    st.from_regex(written_forms.WHOLE, fullmatch=True),
)


class TestTypes:
    @given(st.lists(NUMBERS, min_size=1, max_size=8))
    @QUICK
    def test_numbers_are_told_by_arrow_as_by_the_rules_for_all_texts(self, given_texts: list[str]) -> None:
        quick = infer_type(texts(*given_texts), is_text=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(column_types, "_of_plain_numbers", lambda texts: None)
            assert quick == infer_type(texts(*given_texts), is_text=True)

    @pytest.mark.parametrize(
        ("values", "keys"),
        [
            (("1", "-20", "0"), {"type": "long"}),
            (("1", "2.5", "1e3"), {"type": "double"}),
            (("01234", "1234"), {"type": "string"}),
            (("-007.5", "1.5"), {"type": "string"}),
            (("12345678901234567890", "1"), {"type": "string"}),
            (("1,5", "2"), {"type": "double", "decimal_mark": ","}),
            (("1.234,50", "7,25"), {"type": "double", "decimal_mark": ","}),
            (("1,234", "5,678"), {"type": "string"}),
            (("1,234", "15000", "2,500"), {"type": "string"}),
            (("0,756", "0,123"), {"type": "double", "decimal_mark": ","}),
            (("1,234.50", "7", "-12,000"), {"type": "double", "thousands_mark": ","}),
            (("1,234,567", "15000"), {"type": "long", "thousands_mark": ","}),
            (("1,234", "0.5"), {"type": "double", "thousands_mark": ","}),
            (("1,234", "0.5", "0,75"), {"type": "string"}),
            (("1,234.5", "007"), {"type": "string"}),
            (("1'234.5", "1\u2019000\u2019000"), {"type": "double", "thousands_mark": "'"}),
            (("1\u00a0234,5", "1\u202f000", "12 000"), {"type": "double", "thousands_mark": " ", "decimal_mark": ","}),
            (("555 123 456", "555 123 457"), {"type": "string"}),
            (("$1,234.50", "$2"), {"type": "double", "thousands_mark": ",", "symbol": "$"}),
            (("5%", "0", "12.5 %"), {"type": "double", "symbol": "%"}),
            (("-$5", "$ 6"), {"type": "long", "symbol": "$"}),
            (("5 %", "0.05"), {"type": "string"}),
            (("€ 3,50", "1.234,00\u00a0€"), {"type": "double", "decimal_mark": ",", "symbol": "€"}),
            (("$007", "$008"), {"type": "string"}),
            (("$5", "€5"), {"type": "string"}),
            (("$5$", "$6"), {"type": "string"}),
            (("12 kg", "13 kg"), {"type": "string"}),
            (("+491700000037", "+491700000038"), {"type": "string"}),
            (("+5", "-3"), {"type": "long"}),
            (("True", "FALSE"), {"type": "boolean"}),
            (("yes", "No"), {"type": "boolean"}),
            (("Ja", "Nein"), {"type": "boolean", "true_texts": ["Ja"], "false_texts": ["Nein"]}),
            (("WAHR", "WAHR"), {"type": "boolean", "true_texts": ["WAHR"]}),
            (("t", "f"), {"type": "boolean"}),
            (("t", "t"), {"type": "string"}),
            (("oui", "non"), {"type": "string"}),
            (("2024-02-29", "1999-12-31"), {"type": "date"}),
            (("2023-02-29", "1999-12-31"), {"type": "string"}),
            (("2024-02-29T10:00:00Z", "2024-02-29 10:00"), {"type": "timestamp"}),
            (("29.02.2024", "03.04.2024"), {"type": "date", "format": "%d.%m.%Y"}),
            (("02.03.2024", "03.04.2024"), {"type": "string"}),
            (("02/29/2024", "03/04/2024"), {"type": "date", "format": "%m/%d/%Y"}),
            (("29.02.2024 10:30", "03.04.2024 9:00"), {"type": "timestamp", "format": "%d.%m.%Y %H:%M"}),
            (("29.02.2023", "03.04.2024"), {"type": "string"}),
            (("2024/02/29", "2024/3/4"), {"type": "date", "format": "%Y/%m/%d"}),
            (("2024.02.29 10:30", "2024.03.04 9:00"), {"type": "timestamp", "format": "%Y.%m.%d %H:%M"}),
            (("2023/02/29", "2024/03/04"), {"type": "string"}),
            ((None, ""), {"type": "string"}),
            (("12 ", " 7"), {"type": "long"}),
        ],
    )
    def test_texts_are_of_the_narrowest_type_that_loses_nothing(
        self, values: tuple[str, ...], keys: dict[str, object]
    ) -> None:
        assert keys_of(*values) == keys

    @pytest.mark.parametrize("word", ["NA", "n/a", "NULL", "?", "-", r"\N", "(null)", "..", ":", "#DIV/0!", "1.#QNAN"])
    def test_words_for_missing_values_are_missing_among_numbers_and_dates(self, word: str) -> None:
        assert keys_of("1", word, "2") == {"type": "long", "missing": [word]}
        assert keys_of("2024-02-29", word) == {"type": "date", "missing": [word]}

    def test_na_is_a_value_among_texts(self) -> None:
        found = infer_type(texts("NA", "Grvl", "Pave"), is_text=True)
        assert found is not None
        assert found.keys == {"type": "string"}
        assert found.notes == ["'NA' are kept as values (`missing` would change that)"]

    @pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.dictionary(pa.int8(), pa.float64())])
    def test_infinite_numbers_are_missing_as_they_are_among_texts(self, kind: pa.DataType) -> None:
        values = pa.array([0.5, float("inf"), None, float("-inf"), float("nan")], pa.float64())
        sample = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
        found = infer_type(sample, is_text=False)
        keys: dict[str, object] = {"type": "double", "missing": ["-inf", "inf"]}
        assert found == InferredType(keys, ["missing where it says '-inf', 'inf'"])

    @pytest.mark.parametrize(
        ("kind", "inferred"),
        [(pa.string(), "long"), (pa.int16(), "long"), (pa.float32(), "double"), (pa.float64(), "double")],
    )
    def test_a_sentinel_is_told_and_stays_a_number(self, kind: pa.DataType, inferred: str) -> None:
        found = infer_type(pa.array([*range(20), -999]).cast(kind), is_text=pa.types.is_string(kind))
        assert found is not None
        assert found.keys == {"type": inferred}
        assert found.notes == ["-999 lies far from all others; if it means missing, say `missing: [-999]`"]

    @pytest.mark.parametrize("is_text", [True, False])
    def test_a_number_that_may_be_a_day_is_told(self, is_text: bool) -> None:
        days = [20240131, 20231231, 19991011]
        found = infer_type(texts(*map(str, days)) if is_text else pa.array([*days, None], pa.int32()), is_text=is_text)
        note = 'a number, as 19991011 may be one; if it is a day, say `type: date, format: "%Y%m%d"`'
        assert found is not None
        assert (found.keys, found.notes) == ({"type": "long"}, [note])
        for other in (20241301, 20240100, 20240132, 2024, 18991231, 21010101):
            others = infer_type(texts(*map(str, [*days, other])), is_text=True)
            assert others is not None
            assert others.notes == []

    def test_moments_of_which_some_say_no_zone_are_told(self) -> None:
        found = infer_type(texts("2024-01-05 10:00", "2024-01-05T10:00:00Z", "2024-01-06 10:00+02:00"), is_text=True)
        assert found is not None
        assert found.keys == {"type": "timestamp"}
        assert found.notes == [
            "'2024-01-05 10:00' counts as UTC, as it says no zone, unlike '2024-01-05T10:00:00Z'; if it is of another, "
            "say `zone`"
        ]
        for alike in (["2024-01-05 10:00", "2024-01-06"], ["2024-01-05T10:00:00Z", "2024-01-06 10:00+02:00"]):
            others = infer_type(texts(*alike), is_text=True)
            assert others is not None
            assert others.notes == []

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ("1 000|2", "not all of it is written as '1 000' is; `type: double, thousands_mark: \" \"` reads it"),
            ("$007|$008", "a number would lose the zero of '$007'"),
        ],
    )
    def test_numbers_whose_marks_differ_are_text_and_told_how_to_read_them(self, values: str, reason: str) -> None:
        found = infer_type(texts(*values.split("|")), is_text=True)
        assert found is not None
        assert (found.keys, found.notes) == ({"type": "string"}, [f"text, as {reason}"])

    @pytest.mark.parametrize("values", ["$5|€6", "$1,234.50|12.10", "(12.50)|3", "12-|3-"])
    def test_numbers_with_marks_are_text_and_told(self, values: str) -> None:
        first, *others = values.split("|")
        found = infer_type(texts(first, first.replace("1", "2").replace("5", "6"), *others), is_text=True)
        assert found is not None
        assert found.keys == {"type": "string"}
        assert found.notes == [
            f"text, as a number is digits, with marks of decimals and thousands, and nothing else, unlike {first!r}"
        ]

    def test_single_quotes_are_told(self) -> None:
        quoted = infer_type(texts("'a'", "'1.5'"), is_text=True)
        assert quoted is not None
        assert quoted.notes == ['text in single quotes; `quote: "\'"` under source.options takes them off']

    def test_a_spreadsheets_form_of_codes_is_told(self) -> None:
        found = infer_type(texts('="0042"', '="17"'), is_text=True)
        assert found is not None
        assert found.keys == {"type": "string"}
        assert found.notes == ["text, with the `=` and the quotes of '=\"0042\"', as spreadsheets write codes"]

    @pytest.mark.parametrize("is_text", [True, False], ids=["of a file of texts", "of a file with types"])
    @pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
    @pytest.mark.parametrize("times", [1, 2])
    @pytest.mark.parametrize("text", ["Café", "Größe", "O’Neil", "5 €", "Łódź", "Привет", "Αθήνα", "São Tomé"])
    def test_letters_that_were_misread_before_are_told(
        self, text: str, times: int, encoding: str, is_text: bool
    ) -> None:
        misread = text
        for _ in range(times):
            misread = "".join(
                byte.decode(encoding, errors="replace").replace("\ufffd", byte.decode("latin-1"))
                for byte in (bytes([number]) for number in misread.encode())
            )
        found = infer_type(texts("Rome", misread), is_text=is_text)
        assert found is not None
        assert found.notes == [f"{misread!r} seems to be {text!r}, which was misread before it came here"]

    @pytest.mark.parametrize("text", ["Café", "«CAFÉ»", "Ärger…", "Â", "NIÑO", "naïve", "Łódź", "Привет", "日本", "🙂"])
    def test_letters_that_were_read_as_they_are_written_are_not_told(self, text: str) -> None:
        found = infer_type(texts("Rome", text), is_text=True)
        assert found is not None
        assert found.notes == []

    @pytest.mark.parametrize("values", ["40-47-84|20-30-40", "1.2.34|1.3.1", "'a'|b'"])
    def test_what_is_no_date_and_not_quoted_is_not_told(self, values: str) -> None:
        found = infer_type(texts(*values.split("|")), is_text=True)
        assert found is not None
        assert found.notes == []

    def test_what_a_symbol_beside_numbers_leaves_open_is_told(self) -> None:
        ambiguous = infer_type(texts("$1,234", "$5"), is_text=True)
        assert ambiguous is not None
        assert ambiguous.notes == [
            'text, as its commas may be of thousands or of decimals; `type: double, symbol: "$"` with '
            '`thousands_mark: ","` or `decimal_mark: ","` says which'
        ]
        mixed = infer_type(texts("$5", "7"), is_text=True)
        assert mixed is not None
        assert mixed.notes == ["text, as '7' is without the '$' of others; `type: double, symbol: \"$\"` reads both"]
        shares = infer_type(texts("5 %", "0.05"), is_text=True)
        assert shares is not None
        assert "reads both" not in str(shares.notes)

    @pytest.mark.parametrize(
        ("values", "word"),
        [
            *(("2.2 kg|3 kg", "kg"), ("30°C|-4,5°C", "°C"), ("EUR 5|EUR 7", "EUR"), ("5 km/h|6 km/h", "km/h")),
            *(('12"|14"', '"'), ("5\\|6\\", "\\"), ("5 in (net)|6 in (net)", "in (net)")),
        ],
    )
    def test_a_unit_beside_all_numbers_is_told_with_the_keys_that_read_it(self, values: str, word: str) -> None:
        found = infer_type(texts(*values.split("|")), is_text=True)
        assert found is not None
        assert found.keys == {"type": "string"}
        told = re.fullmatch(r"text, as its numbers stand beside (.+); `(.+)` reads them", found.notes[0])
        assert told
        assert told[1] == repr(word)
        column = Column.model_validate(yaml.safe_load(f"{{{told[2]}}}"))
        assert not convert(texts(*values.split("|")), column).broken

    @pytest.mark.parametrize("values", ["1.234 €|2.500 €", "€1.234|€12.500"])
    def test_points_that_may_be_of_thousands_are_told_beside_a_symbol_too(self, values: str) -> None:
        found = infer_type(texts(*values.split("|")), is_text=True)
        assert found is not None
        assert found.keys == {"type": "double", "symbol": "€"}
        assert found.notes == [
            "'1.234' is read with a decimal point; if it is one of thousands, say `decimal_mark: \",\"`"
        ]

    @pytest.mark.parametrize(
        "values",
        [
            *("12 a|12 b", "A1001|A1002", "Room 1|Room 2", "1st|2nd", "kg|2 kg", "5|6 kg", "007 kg|008 kg"),
            *("1,234 kg|5,678 kg", "5 kilograms per square meter|6 kilograms per square meter"),
        ],
    )
    def test_what_is_no_unit_of_all_numbers_is_not_told(self, values: str) -> None:
        found = infer_type(texts(*values.split("|")), is_text=True)
        assert found is not None
        assert "symbol" not in str(found)

    @pytest.mark.parametrize("plain", [(), ("15000",), tuple(map(str, range(1000, 1040)))])
    def test_commas_that_may_be_of_thousands_are_told_whatever_is_beside_them(self, plain: tuple[str, ...]) -> None:
        inferred = infer_type(texts("1,234", *plain, "2,500"), is_text=True)
        assert inferred is not None
        assert inferred.notes == [
            "text, as its commas may be of thousands or of decimals; "
            '`type: double` with `thousands_mark: ","` or `decimal_mark: ","` says which'
        ]

    def test_codes_that_look_like_numbers_with_an_exponent_are_told(self) -> None:
        inferred = infer_type(texts("1E1", "10E0", "3e2"), is_text=True)
        assert inferred == InferredType(
            {"type": "double"}, ["'10E0' is read as a number; if it is a code, say `type: string`"]
        )
        with_a_fraction = infer_type(texts("1E1", "1.5e3"), is_text=True)
        assert with_a_fraction == InferredType({"type": "double"})

    def test_points_that_may_be_of_thousands_are_told(self) -> None:
        found = infer_type(texts("2.100", "13.250", "7"), is_text=True)
        assert found is not None
        assert found.keys == {"type": "double"}
        assert found.notes == [
            "'13.250' is read with a decimal point; if it is one of thousands, say `decimal_mark: \",\"`"
        ]
        for other in ("0.125", "2.5"):
            assert infer_type(texts("2.100", other), is_text=True) == InferredType({"type": "double"})

    def test_a_text_among_numbers_is_told(self) -> None:
        found = infer_type(texts(*map(str, range(20)), "12a"), is_text=True)
        assert found is not None
        assert found.notes == ["text, as '12a' is no number"]

    @pytest.mark.parametrize(
        ("values", "note"),
        [
            ([*(f"2024-01-{day}" for day in range(10, 30)), "0000-00-00"], "'0000-00-00' is no date; if it means"),
            (["2024-01-05 10:00:00.123456789"], "'2024-01-05 10:00:00.123456789' has more than the six"),
            (
                ["01/05/2024", "1/13/2024 10:00"],
                "dates are not all written in one way: '01/05/2024', '1/13/2024 10:00'",
            ),
            (["01/13/2024", "13/01/2024"], "the day comes first in '13/01/2024' and second in '01/13/2024'"),
            (["01/05/2024", "02/03/2024"], "no date shows which number is the day"),
            ([*(f"2024-01-{day} 10:00" for day in range(10, 30)), "2024-01-09 24:00"], "'2024-01-09 24:00' is no date"),
            (["05-Jan-2024", "06-Feb-2024"], "'05-Jan-2024' is a date in a form that is not inferred"),
            (["1/5/24", "2/6/24"], "'1/5/24' is a date in a form that is not inferred"),
            (["05.01.24", "31.12.23"], "'05.01.24' is a date in a form that is not inferred"),
            (
                ["1/31/2020 1:05 PM"] * 2,
                "'1/31/2020 1:05 PM' is a date in a form that is not inferred; `type: timestamp,",
            ),
            (["1.5", "1e400"], "a double does not hold '1e400' as it stands"),
            (["1.5", "1" * 400], f"a double does not hold '{'1' * 80}...' as it stands"),
            (
                ["-9223372036854775809", "1"],
                "'-9223372036854775809' is out of the range of a long; `type: decimal(38,0)` holds all of them",
            ),
            (["1" * 39, "1"], f"'{'1' * 39}' is out of the range of a long"),
            (["+491700000037", "+491700000038"], "a number would lose the plus of '+491700000037'"),
            (["007", "12"], "a number would lose the zero of '007'"),
        ],
    )
    def test_why_dates_and_numbers_are_text_is_told(self, values: list[str], note: str) -> None:
        found = infer_type(texts(*values), is_text=True)
        assert found is not None
        assert found.keys == {"type": "string"}
        assert found.notes[0].startswith(f"text, as {note}")

    def test_the_types_of_a_source_that_has_some_are_kept(self) -> None:
        columns = {
            "string": texts("1", "2"),
            "long": pa.array([1, 2], pa.int16()),
            "double": pa.array([1, 2], pa.float32()),
            "decimal(20,0)": pa.array([1, 2**64 - 1], pa.uint64()),
            "decimal(7,2)": pa.array([1, 2], pa.decimal128(7, 2)),
            "boolean": pa.array([True, False]),
            "date": pa.array([dt.date(2024, 2, 29)] * 2),
            "timestamp": pa.array([dt.datetime(2024, 2, 29)] * 2),
        }
        found = {name: infer_type(values, is_text=False) for name, values in columns.items()}
        assert {name: kind.type if kind else None for name, kind in found.items()} == {name: name for name in columns}

    @pytest.mark.parametrize("values", [pa.array([[1]]), pa.array([dt.time(1)]), pa.array([b"x"])], ids=str)
    def test_a_type_that_the_contract_does_not_have_is_none(self, values: pa.Array) -> None:
        assert infer_type(values, is_text=False) is None

    @QUICK
    @given(
        st.sampled_from(["long", "double", "date", "timestamp", "boolean"]).flatmap(
            lambda kind: st.tuples(
                st.just(kind),
                st.lists(
                    {
                        "long": st.integers(-(2**63), 2**63 - 1).map(str),
                        "double": st.floats(allow_nan=False, allow_infinity=False).map(repr),
                        "date": st.dates().map(str),
                        "timestamp": st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds")),
                        "boolean": st.sampled_from(["true", "false"]),
                    }[kind],
                    min_size=1,
                ),
            )
        ),
        st.integers(0, 3),
    )
    def test_values_written_as_text_are_inferred_as_what_they_were(
        self, written: tuple[str, list[str]], missing: int
    ) -> None:
        kind, values = written
        assert keys_of(*values, *[None] * missing)["type"] == kind

    @QUICK
    @given(st.lists(st.text(max_size=6).filter(lambda text: "\0" not in text and "\ufffd" not in text), max_size=20))
    def test_no_value_of_any_sample_breaks_what_was_inferred_of_it(self, values: list[str]) -> None:
        column = Column.model_validate(keys_of(*values))
        checked = contract.check(RawRows(columns=pa.table({"x": texts(*values)})), {"x": column}, file="a.csv")
        assert not checked.broken


class TestRoles:
    @pytest.mark.parametrize("name", ["id", "ID", "customer_id", "customerId", "PassengerId", "order_uuid"])
    def test_a_column_named_as_an_id_with_a_value_for_each_row_is_the_key(self, name: str) -> None:
        found = inferred({"x": numbers(), name: [str(7 * number) for number in range(40)]})
        assert found.config.key == (name,)
        assert found.config.features == ["x"]

    @pytest.mark.parametrize("name", ["paid", "grid", "amount"])
    def test_a_column_that_is_named_otherwise_is_no_key_and_a_feature(self, name: str) -> None:
        found = inferred({name: [str(number**2) for number in range(40)], "x": numbers()})
        assert found.config.key == ()
        assert found.config.features == [name, "x"]
        assert any(f"candidates: {name}" in line for line in found.lines)

    def test_an_id_that_is_there_twice_is_no_key(self) -> None:
        assert inferred({"x": numbers(), "id": ["1", *map(str, range(39))]}).config.key == ()

    def test_a_key_is_only_a_candidate_where_not_all_rows_were_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_sample, "MOST_SAMPLE_ROWS", 1_000)
        found = inferred({"id": list(map(str, range(10_001))), "x": numbers(10_001)})
        assert found.config.key == ()
        assert "not all rows were looked at" in "\n".join(found.lines)
        assert found.config.features == ["x"]

    @pytest.mark.parametrize(
        ("values", "kind", "said"),
        [
            (["1.5", "2.5"] * 20, "double", "2 different numbers with fractions"),
            ([str(number * 3) for number in range(40)], "long", "40 different numbers"),
        ],
    )
    def test_numbers_are_a_regressions(self, values: list[str], kind: str, said: str) -> None:
        found = inferred({"x": numbers(), "label": values})
        assert yaml.safe_load(found.text)["columns"]["label"] == {"type": kind}
        assert (found.config.task, found.config.gate.metric) == ("regression", "r2")
        assert f"regression: 'label' has {said}" in found.lines[1]

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            (["same"] * 40, "as it has one value, 'same'"),
            ([None] * 40, "as it has no value"),
            (
                [f"2024-01-{number % 28 + 1:02}" for number in range(40)],
                "as rows to come have a later date than any that training sees",
            ),
            (
                [f"{number % 28 + 1}-Jan-2024" for number in range(40)],
                "as rows to come have later dates than any that training sees",
            ),
            ([str(number) for number in range(40)], "as it counts the rows"),
            ([f"name {number}" for number in range(40)], "as it has 40 different texts in 40 rows"),
            ([f"called twice about bill {number}" for number in range(40)], "as it is free text: 5 words a value"),
        ],
    )
    def test_what_teaches_nothing_is_no_feature_and_said_so(self, values: list[str | None], reason: str) -> None:
        found = inferred({"x": numbers(), "odd": texts(*values)})
        assert found.config.features == ["x"]
        assert any(reason in line and "odd" in line for line in found.lines)

    def test_the_index_of_a_data_frame_is_no_feature(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"x": range(60), "label": ["a", "b"] * 30}).sample(frac=1, random_state=1)
        frame.to_parquet(path := tmp_path / "frame.parquet")
        found = infer_config(kinds.resolve(config.Source(uri=str(path))), target="label")
        assert found.config.features == ["x"]
        assert "__index_level_0__  long: no feature, as it is the index of a data frame" in "\n".join(found.lines)

    def test_a_box_that_is_ticked_or_left_blank_is_a_feature(self) -> None:
        assert inferred({"x": numbers(), "cancelled": ["x", None] * 20}).config.features == ["x", "cancelled"]

    def test_a_column_of_a_type_without_a_contract_is_left_out_and_told(self) -> None:
        found = inferred({"x": [1.5, 2.5] * 20, "tags": [[1]] * 40}, format="parquet")
        assert list(found.config.columns) == ["x", "label"]
        assert "  left out 'tags': the contract has no type for list<item: int64>" in found.lines

    @pytest.mark.parametrize(
        ("last", "said"),
        [
            ("Total,,60,", "it says 'Total'"),
            ("Grand total:,,,a", "it says 'Grand total:'"),
            (",north,60,", "its units is the sum of theirs"),
            ("Total,all,60,b", "it says 'Total'"),
            ("Source: the office,,,", "it has 'Source: the office' and no other value"),
        ],
    )
    def test_a_last_row_that_may_be_a_total_or_a_note_is_told(self, last: str, said: str, tmp_path: Path) -> None:
        found = of_lines(tmp_path, *units(), last)
        assert [line for line in found if line.startswith("  rows")] == [
            f"  rows     the last one may be a total or a note, as {said}; if it is, take it out of the source"
        ]

    @pytest.mark.parametrize(
        "last", ["2024-02-10,north,,", "2024-02-10,Total Wine,7,a", ",,0,a", "2024-02-10,north,60,a"]
    )
    def test_a_last_row_like_others_is_no_total(self, last: str, tmp_path: Path) -> None:
        assert "  rows  " not in "\n".join(of_lines(tmp_path, *units(), last))

    @pytest.mark.parametrize("dashes", ["----,--------,-----,-----", ":---,---:,:--:,---"])
    def test_a_line_of_dashes_below_the_header_is_told(self, dashes: str, tmp_path: Path) -> None:
        [line] = [line for line in of_lines(tmp_path, dashes, *units()) if line.startswith("  rows")]
        assert (
            line == f"  rows     the first one is a line of dashes, {dashes.split(',')[0]!r}; take it out of the source"
        )

    def test_lines_below_the_table_are_told(self, tmp_path: Path) -> None:
        [line] = [line for line in of_lines(tmp_path, *units(), "", "Total,60", "as of May") if "  rows  " in line]
        assert line.startswith(
            "  rows     2 lines below them, such as 'Total,60', cannot be one: a reject, of which `rej"
        )
        above = of_lines(tmp_path, *units()[:3], "Total,60", *units()[3:])
        assert "  rows  " not in "\n".join(above)

    def test_a_column_that_cannot_be_read_stops_nothing(self, tmp_path: Path) -> None:
        rows = [{"id": n, "who": {"tier": "ab"[n % 2]}, "tags": [n], "label": f"class {n % 2}"} for n in range(40)]
        path = tmp_path / "orders.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        found = infer_config(kinds.resolve(config.Source(uri=str(path))), target="label")
        assert list(found.config.columns) == ["id", "who_tier", "label"]
        assert found.config.columns["who_tier"].source == "who.tier"
        assert [line.partition(":")[0] for line in found.lines if "left out" in line] == ["  left out 'tags'"]

    def test_a_column_that_has_another_type_in_another_file_stops_nothing(self, tmp_path: Path) -> None:
        for name, values in (("a", [1.5, 2.5]), ("b", ["1", "2"])):
            rows = pa.table(
                {"id": [f"{name}{n}" for n in range(40)], "x": values * 20, "y": [n % 5 for n in range(40)]}
            )
            pq.write_table(rows.append_column("label", pa.array(LABELS)), tmp_path / f"{name}.parquet")
        found = infer_config(kinds.resolve(config.Source(uri=str(tmp_path))), target="label")
        assert list(found.config.columns) == ["id", "y", "label"]
        assert "  left out 'x': its files have x as double and as string" in found.lines

    def test_rows_none_of_which_can_be_read_are_refused_for_their_form(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("text,label\n" + '"say \\"yes\\"",a\n' * 40, encoding="utf-8")
        with pytest.raises(SourceUnreadable, match=r"its 40 rows have text behind .*\n.*\n.*options\.escape: '\\'"):
            infer_config(kinds.resolve(config.Source(uri=str(path))), target="label")

    def test_a_name_in_another_case_in_another_file_is_one_column(self) -> None:
        fees = [1.5, 2.5] * 20
        found = inferred({"Fee": fees, "fee": fees}, format="parquet")
        assert list(found.config.columns) == ["Fee", "label"]
        assert "  left out 'fee': it is 'Fee', whose name differs only by case" in found.lines

    def test_names_that_differ_by_case_are_two_columns_where_their_values_differ(self) -> None:
        found = inferred({"Fee": [1.5, 2.5] * 20, "fee": [3.5, 1.5] * 20}, format="parquet")
        assert {name: column.source for name, column in found.config.columns.items()} == {
            **{"Fee_f842c3e1": "Fee", "fee_b80cdaae": "fee"},
            "label": None,
        }

    def test_a_target_in_another_case_in_another_file_is_no_feature(self) -> None:
        found = inferred({"Label": LABELS, "label": LABELS, "x": numbers()}, format="parquet")
        assert list(found.config.columns) == ["label", "x"]


class TestTarget:
    def test_a_source_without_it_is_refused_with_the_nearest_name_and_all(self) -> None:
        with pytest.raises(TargetNotFound, match=r"no column 'lable' \(did you mean 'label'\?\)\n.*: x, label\n"):
            infer_config(HeldSource(pa.table({"x": numbers(), "label": LABELS})), target="lable")

    def test_a_nested_one_is_the_nearest_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"of": {"label": "a", "x": 1}}\n', encoding="utf-8")
        with pytest.raises(TargetNotFound, match=r"no column 'label' \(did you mean 'of.label'\?\)"):
            infer_config(kinds.resolve(config.Source(uri=str(path))), target="label")

    def test_it_may_be_written_by_other_characters(self) -> None:
        found = inferred({"e\u0301tat": LABELS, "x": numbers()}, target="état").config
        assert found.columns[found.target].source == "e\u0301tat"

    def test_it_may_be_given_by_its_name_in_the_contract(self) -> None:
        assert inferred({"has left": LABELS, "x": numbers()}, target="has_left").config.target == "has_left"

    @pytest.mark.parametrize(
        ("values", "keys"),
        [
            (["yes", "no"] * 20, {"type": "string", "allowed": ["no", "yes"]}),
            (["true", "false"] * 20, {"type": "boolean"}),
            (["1", "0"] * 20, {"type": "long"}),
            (["1.0", "0.0"] * 20, {"type": "long"}),
            ([str(number % 7 + 1) for number in range(40)], {"type": "long"}),
            (["Ja", "Nein"] * 20, {"type": "string", "allowed": ["Ja", "Nein"]}),
            (["yes", "no", "unknown", "None"] * 10, {"type": "string", "allowed": ["None", "no", "unknown", "yes"]}),
            ([*string.ascii_uppercase] * 5, {"type": "string", "allowed": [*string.ascii_uppercase]}),
        ],
    )
    def test_classes_keep_the_words_of_the_source(self, values: list[str], keys: dict[str, Any]) -> None:
        found = inferred({"x": numbers(len(values)), "label": values})
        assert yaml.safe_load(found.text)["columns"]["label"] == keys
        assert f"classification: 'label' has {len(set(values))} different values" in found.lines[1]

    def test_a_word_for_a_missing_value_that_no_class_has_is_missing(self) -> None:
        found = inferred({"x": numbers(), "label": ["yes", "no", "n/a", "unknown"] * 10})
        keys = yaml.safe_load(found.text)["columns"]["label"]
        assert keys == {"type": "string", "missing": ["n/a"], "allowed": ["no", "unknown", "yes"]}
        assert "missing where it says 'n/a'; 'unknown' are kept as values" in found.lines[-1]

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            (["same"] * 40, "it has one value, 'same'"),
            ([f"name {number // 2}" for number in range(60)], "it has 30 different values"),
            (
                [f"({number})" for number in range(60)],
                r"it has 60 different values; text, as a number is .* unlike '\(0\)'",
            ),
            ([""] * 40, "it has no value at all"),
            (["2024-02-29", "2024-03-01"] * 20, "it holds values of type date"),
        ],
    )
    def test_what_has_no_classes_is_refused(self, values: list[str], reason: str) -> None:
        with pytest.raises(TargetUnfit, match=f"cannot be the target: {reason}"):
            inferred({"x": numbers(len(values)), "label": values})


class TestFile:
    def test_the_text_is_the_config(self) -> None:
        found = inferred({"No": numbers(), "on": numbers(), "it's: {odd}, #1": numbers(), "label": ["yes", "no"] * 20})
        assert list(found.config.columns) == ["No", "on", "it_s_odd_1", "label"]
        assert found.config.columns["it_s_odd_1"].source == "it's: {odd}, #1"
        assert config.parse(found.text, path="customers.yaml") == found.config
        assert found.file_name == "customers.yaml"

    def test_it_has_a_column_a_line(self) -> None:
        lines = inferred({"x": numbers(), "price, eur": numbers()}).text.splitlines()
        assert "  x: {type: double}" in lines
        assert "  price_eur: {source: 'price, eur', type: double}" in lines

    @QUICK
    @given(st.lists(st.text(string.printable + "é€\u2028", min_size=1, max_size=10), unique_by=str.lower, max_size=6))
    def test_any_name_survives_it(self, names: list[str]) -> None:
        columns = {name: numbers() for name in names if name.lower() not in ("label", "x\0")}
        found = inferred({"x\0": numbers(), **columns})
        assert [column.source or name for name, column in found.config.columns.items()] == ["x\0", *columns, "label"]

    @pytest.mark.parametrize(
        ("uri", "name"),
        [
            ("/data/churn.csv", "churn"),
            ("/data/my table.csv.gz", "my_table"),
            ("/data/2024-*.csv", "table_2024"),
            ("/data/größe.csv", "grosse"),
            ("/data/København.csv", "Kobenhavn"),
            ("/data/a_rejects.csv", "a_rejects_ddba6aac"),
            ("/data/данные.csv", "table_9d8cf70d"),
            ("/data/клиенты.csv", "table_c1b99440"),
            ("/data/клиенты 2.csv", "table_2_fc773378"),
            ("s3://bucket/folder/", "folder"),
            ("sklearn:wine", "wine"),
        ],
    )
    def test_the_name_is_that_of_the_source(self, uri: str, name: str) -> None:
        found = inferred({"x": numbers()}, uri=uri)
        assert (found.config.name, found.config.model.name) == (name, f"{name}_model")

    def test_long_names_that_begin_alike_stay_apart(self) -> None:
        names = {inferred({"x": numbers()}, uri=f"/data/{'a' * 240}{end}.csv").config.name for end in "bc"}
        assert len(names) == 2
        assert {len(name) for name in names} == {LONGEST_NAME}

    def test_a_name_that_cannot_be_one_is_refused(self) -> None:
        with pytest.raises(ConfigInvalid, match="name: 'my churn' given; a name has letters"):
            infer_config(HeldSource(pa.table({"x": numbers(), "label": LABELS})), target="label", name="my churn")

    def test_a_wide_table_is_told_on_one_screen(self) -> None:
        found = inferred({f"x{number}": numbers() for number in range(1_200)})
        assert "  columns  1200 double, 1 string" in found.lines
        assert len(found.lines) <= LISTED_COLUMNS + 10

    def test_all_columns_unseen_is_refused_with_the_reason_of_each(self) -> None:
        with pytest.raises(FeaturesMissing, match="no column from which a model may learn(.|\n)*one value, 1"):
            inferred({"x": ["1"] * 40})


class TestFiles:
    def of(self, path: Path, target: str) -> Config:
        return infer_config(kinds.resolve(config.Source(uri=str(path))), target=target).config

    @pytest.mark.parametrize(("other", "equal"), [("Y", "equal but for upper and lower case"), ("y", "equal")])
    def test_a_target_whose_name_another_column_has_is_refused_by_that(
        self, tmp_path: Path, other: str, equal: str
    ) -> None:
        path = tmp_path / "in.csv"
        path.write_text(f"x,y,{other}\n" + "1,a,2\n2,b,3\n" * 20)
        columns = re.escape(f"the target 'y' cannot be read: of its columns 'y' (column 2), '{other}' (column 3)")
        with pytest.raises(SourceUnreadable, match=rf"{columns} the names are {equal}\n.*\n.*pass another column"):
            self.of(path, "y")

    def test_odd_names_stay_apart(self) -> None:
        found = self.of(CASES / "I05_odd_names.csv", "label")
        assert {name for name, column in found.columns.items() if "age" in (column.source or "")} == {
            *("user_age_94693f18", "user_age_d78c9af3", "user_age_fa433ab4"),
        }

    def test_codes_keep_their_zeros(self) -> None:
        assert self.of(CASES / "I07_zips.csv", "label").columns["zip"].type == "string"

    def test_the_shipped_example_differs_from_what_is_inferred_only_by_rules(self) -> None:
        shipped = config.load("configs/churn.yaml", home=PROJECT)
        found = self.of(PROJECT / "configs" / "data" / "churn.csv", "left")
        rules = dict.fromkeys(("pattern", "nullable", "min", "unit", "allowed"))
        without_rules = {name: column.model_copy(update=rules) for name, column in shipped.columns.items()}
        assert {name: column.model_copy(update=rules) for name, column in found.columns.items()} == without_rules
        assert found.model_copy(update={"columns": {}, "source": shipped.source}) == shipped.model_copy(
            update={"columns": {}}
        )

    def test_the_shipped_table_is_what_its_generator_makes(self) -> None:
        lines = churn_data.FILE.read_text(encoding="utf-8").splitlines()
        assert len(lines) == churn_data.ROWS + 1
        assert lines[1:] == [",".join(map(str, row)) for row in churn_data.rows()]
