"""Each row of a table has one prediction, whatever became of the table between two runs; rows that it lost are kept."""

import datetime as dt
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from place import rows_of
from scored import SCORED, TYPES, Lake, Row, optional_color_model, row, rows
from small import QUICK, flowers_model, sqlite, tracked

from steps.core.errors import TableBusy, TableUnfit
from steps.core.models import earlier_predictions, predictions
from steps.core.models.inference import Result
from steps.core.models.scorer import Scorer
from steps.core.models.scoring_plan import Columns
from steps.core.tables import commit, snapshot
from steps.core.tables.location import TableUri


@pytest.fixture(autouse=True)
def _tracking(tmp_path: Path) -> Iterator[None]:
    with tracked(sqlite(tmp_path)):
        yield


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def counts(result: Result) -> tuple[int, int, int, int]:
    metrics = result.metrics
    return tuple(int(metrics[name]) for name in ("rows", "rows_scored", "rows_kept", "rows_deleted"))  # type: ignore[return-value]


def content(stored: Sequence[Row]) -> Counter[str]:
    """How often there is a row of these values; NaN is NaN, and 0.0 is -0.0."""
    canonical = (
        {name: value + 0.0 if isinstance(value, float) else value for name, value in row.items()} for row in stored
    )
    return Counter(repr([row.get(name) for name in TYPES.names]) for row in canonical)


def is_as_scored_anew(lake: Lake) -> bool:
    """Whether the newest version has, for each row of the table, what its model says of that row."""
    live = lake.live()
    table = pa.Table.from_pylist([{name: row[name] for name in TYPES.names} for row in live], TYPES)
    expected: list[Row] = flowers_model().predict(None, predictions.to_frame(table)).to_dict(orient="records")
    found = [{**{name: row[name] for name in SCORED}, "probabilities": dict(row["probabilities"])} for row in live]
    return found == expected


class TestRowsThatCame:
    def test_the_first_run_scores_every_row(self, lake: Lake) -> None:
        lake.write(rows(1, 2, 3))
        result = lake.infer()
        assert counts(result) == (3, 3, 0, 0)
        assert result.lines() == []
        assert is_as_scored_anew(lake)

    def test_the_same_again_writes_nothing_and_says_so(self, lake: Lake) -> None:
        lake.write(rows(1, 2, 3))
        lake.infer()
        again = lake.infer()
        assert (counts(again), again.committed.written, again.committed.table.version) == ((3, 0, 3, 0), False, 0)
        assert again.lines() == ["t_predictions@v0 has the predictions of all 3 rows already (run 1)"]

    def test_rows_that_were_appended_are_scored_alone_and_added(self, lake: Lake) -> None:
        lake.write(rows(1, 2, 3))
        lake.infer()
        lake.write(rows(3, 4), mode="append")
        result = lake.infer()
        assert counts(result) == (5, 2, 3, 0)
        assert result.lines() == ["scored 2 new of 5 rows; 3 kept from t_predictions@v0 (run 1)"]
        assert lake.runs_of(lake.live()) == {"1": 3, "2": 2}
        assert content(lake.live()) == content(rows(1, 2, 3, 3, 4))
        assert is_as_scored_anew(lake)
        before, after = (set(snapshot.open(TableUri(lake.predicted.path, v)).data_files) for v in (0, 1))
        assert before < after  # nothing was written again

    def test_several_appends_since_then_are_scored_at_once(self, lake: Lake) -> None:
        lake.write(rows(1))
        lake.infer()
        for number in (2, 3):
            lake.write(rows(number), mode="append")
        assert counts(lake.infer()) == (3, 2, 1, 0)

    def test_a_version_without_new_rows_is_noted_and_scores_none(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write([], mode="append")
        assert counts(lake.infer()) == (2, 0, 2, 0)
        assert not lake.infer().committed.written
        assert content(lake.live()) == content(rows(1, 2))

    def test_files_that_were_only_rewritten_change_no_prediction(self, lake: Lake) -> None:
        for number in range(4):
            lake.write(rows(number), mode="append")
        lake.infer()
        DeltaTable(lake.table.path).optimize.compact()
        assert counts(lake.infer()) == (4, 0, 4, 0)
        assert lake.runs_of(lake.predictions()) == {"1": 4}


class TestRowsThatChangedOrWent:
    def test_without_a_key_a_changed_row_is_one_that_went_and_one_that_came(self, lake: Lake) -> None:
        """F06, as 5 rows changed and 5 gone of 20."""
        lake.write(rows(*range(20)))
        lake.infer()
        lake.write(rows(*range(10), *range(100, 105)))
        result = lake.infer()
        assert counts(result) == (15, 5, 10, 10)
        (line,) = result.lines()
        assert line == (
            "scored 5 new or changed of 15 rows; 10 kept from t_predictions@v0 (run 1); 10 marked as deleted"
        )
        assert content(lake.live()) == content(rows(*range(10), *range(100, 105)))
        assert content(lake.gone()) == content(rows(*range(10, 20)))
        assert lake.runs_of(lake.live()) == {"1": 10, "2": 5}
        assert is_as_scored_anew(lake)

    def test_with_a_key_a_changed_row_is_scored_again_in_its_place(self, lake: Lake) -> None:
        keyed = pa.schema([pa.field("id", pa.int64()), *TYPES])
        lake.write([row(n, id=n) for n in range(20)], schema=keyed)
        lake.infer(key=["id"])
        changed = [row(n + 100 * (n < 5), id=n) for n in range(15)]
        lake.write(changed, schema=keyed)
        assert counts(lake.infer(key=["id"])) == (15, 5, 10, 5)
        assert {r["id"]: r["petal_length"] for r in lake.live()} == {r["id"]: r["petal_length"] for r in changed}
        assert {r["id"]: r["run_id"] for r in lake.live()} == {n: "2" if n < 5 else "1" for n in range(15)}
        assert sorted(r["id"] for r in lake.gone()) == list(range(15, 20))
        assert {r["run_id"] for r in lake.gone()} == {"1"}

    def test_with_a_key_a_label_that_comes_later_leaves_the_prediction_as_it_is(self, lake: Lake) -> None:
        """What the model does not read is taken over, and says nothing of when a row was scored."""
        labelled = pa.schema([pa.field("id", pa.int64()), *TYPES])
        lake.write([row(n, id=n, species=None) for n in range(6)], schema=labelled)
        lake.infer(key=["id"])
        before = {r["id"]: r["scored_at"] for r in lake.live()}
        species = {0: "setosa", 1: "virginica", 2: None}
        lake.write([row(n + 100 * (n == 5), id=n, species=species.get(n)) for n in range(6)], schema=labelled)
        assert counts(lake.infer(key=["id"])) == (6, 1, 5, 0)
        assert {r["id"]: r["species"] for r in lake.live()} == {n: species.get(n) for n in range(6)}
        assert {r["id"] for r in lake.live() if r["scored_at"] != before[r["id"]]} == {5}
        assert is_as_scored_anew(lake)

    def test_of_equal_rows_as_many_are_marked_as_went(self, lake: Lake) -> None:
        lake.write(rows(1, 1, 1, 2))
        lake.infer()
        lake.write(rows(1, 2, 2))
        assert counts(lake.infer()) == (3, 1, 2, 2)
        assert (content(lake.live()), content(lake.gone())) == (content(rows(1, 2, 2)), content(rows(1, 1)))

    @pytest.mark.parametrize("key", [[], ["petals"]])
    def test_a_row_that_comes_back_is_no_longer_marked_and_is_scored_again(self, lake: Lake, key: list[str]) -> None:
        """Its last prediction may be of code that is no longer what scores."""
        both, one = [row(1, petals=1), row(2, petals=2)], [row(1, petals=1)]
        for stored in (both, one, both):
            lake.write(stored)
            result = lake.infer(key=key)
        assert counts(result) == (2, 1, 1, 0)
        assert {r["petals"]: r["run_id"] for r in lake.live()} == {1: "1", 2: "3"}

    def test_a_row_that_comes_back_by_an_append_is_no_longer_marked(self, lake: Lake) -> None:
        for stored in (rows(1, 2), rows(1)):
            lake.write(stored)
            lake.infer()
        lake.write(rows(2), mode="append")
        assert counts(lake.infer()) == (2, 1, 1, 0)

    @pytest.mark.parametrize("key", [[], ["petals"]])
    def test_beside_rows_that_went_others_are_appended_as_before(self, lake: Lake, key: list[str]) -> None:
        for stored in ([row(1, petals=1), row(2, petals=2)], [row(1, petals=1)]):
            lake.write(stored)
            lake.infer(key=key)
        lake.write([row(3, petals=3)], mode="append")
        assert counts(lake.infer(key=key)) == (2, 1, 1, 1)
        before, after = (set(snapshot.open(TableUri(lake.predicted.path, v)).data_files) for v in (1, 2))
        assert before < after

    def test_the_mark_of_a_row_stays_as_it_was_set(self, lake: Lake) -> None:
        for stored in (rows(1, 2), rows(1), rows(1, 3)):
            lake.write(stored)
            lake.infer()
        (before,), (after,) = ([r for r in lake.predictions(v) if r["deleted_at"]] for v in (1, 2))
        assert before == after
        assert before["scored_at"] < before["deleted_at"]

    def test_all_rows_may_go(self, lake: Lake) -> None:
        for stored in (rows(1, 2), []):
            lake.write(stored)
            result = lake.infer()
        assert counts(result) == (0, 0, 0, 2)

    def test_missing_values_and_numbers_that_are_none_are_equal_to_themselves(self, lake: Lake) -> None:
        odd = [row(petal_length=value) for value in (None, math.nan, 0.0, -0.0)]
        lake.write(odd)
        lake.infer()
        lake.write([row(petal_length=value) for value in (-0.0, None, 0.0, math.nan)])
        assert counts(lake.infer()) == (4, 0, 4, 0)


class TestWhatIsScoredAgain:
    def test_another_model_scores_all_and_leaves_the_marks_and_predictions_of_rows_that_went(self, lake: Lake) -> None:
        for stored in (rows(1, 2), rows(1)):
            lake.write(stored)
            lake.infer()
        lake.write(rows(1, 3))
        result = lake.infer(model="models:/m/2")
        assert counts(result) == (2, 2, 0, 1)
        assert result.lines() == ["scored all 2 rows; 1 marked as deleted"]
        assert {r["model_uri"] for r in lake.live()} == {"models:/m/2"}
        assert {(r["petal_length"], r["model_uri"], r["run_id"]) for r in lake.gone()} == {(1.0, "models:/m/1", "1")}

    def test_mode_all_scores_all_again_and_earlier_versions_keep_what_was(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        result = lake.infer(mode="all")
        assert (counts(result), result.committed.written, result.lines()) == ((2, 2, 0, 0), True, [])
        assert [lake.runs_of(lake.predictions(version)) for version in (0, 1)] == [{"1": 2}, {"2": 2}]

    def test_other_code_scores_all_again(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write(rows(3), mode="append")
        assert counts(lake.infer(code="changed")) == (3, 3, 0, 0)

    def test_a_version_whose_files_are_gone_is_made_anew(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        next(Path(lake.predicted.path).rglob("*.parquet")).unlink()
        assert counts(lake.infer()) == (2, 2, 0, 0)

    def test_what_another_program_wrote_is_scored_again_and_rows_that_it_removed_stay_so(self, lake: Lake) -> None:
        for stored in (rows(1, 2, 3), rows(1)):
            lake.write(stored)
            lake.infer()
        DeltaTable(lake.predicted.path).delete("petal_length = 1.0")
        lake.write(rows(1, 4))
        assert counts(lake.infer()) == (2, 2, 0, 1)
        assert content(lake.gone()) == content(rows(3))

    def test_predictions_of_another_table_are_replaced_and_found_again(self, lake: Lake) -> None:
        """By their last version of this table, with its marks."""
        for stored in (rows(1, 2), rows(1)):
            lake.write(stored)
            lake.infer()
        own = lake.table
        lake.table = TableUri(f"{own.path}_unlabelled")
        lake.write(rows(7))
        assert counts(lake.infer()) == (1, 1, 0, 0)
        assert content(lake.predictions()) == content(rows(7))
        lake.table = own
        lake.write(rows(1, 3))
        assert counts(lake.infer()) == (2, 1, 1, 1)
        assert content(lake.predictions()) == content(rows(1, 3, 2))

    def test_a_table_whose_earlier_log_is_gone_is_matched_by_its_rows(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write(rows(3), mode="append")
        table = DeltaTable(lake.table.path)
        table.create_checkpoint()
        Path(lake.table.path, "_delta_log", f"{0:020}.json").unlink()
        assert counts(lake.infer()) == (3, 1, 2, 0)

    def test_predictions_of_the_form_before_marks_are_taken_on(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        old = rows_of(lake.predicted.path).drop_columns(["deleted_at"])
        commit.once(
            TableUri(lake.predicted.path),
            made_of={"table": f"{lake.table.path}@v0", "model": "models:/m/1", "key": "of then"},
            made_by={"run_id": "old"},
            write=lambda folder: commit.save(old, folder),
        )
        assert "deleted_at" not in rows_of(lake.predicted.path).schema.names
        lake.write(rows(1, 3))
        assert counts(lake.infer()) == (2, 2, 0, 1)
        assert content(lake.gone()) == content(rows(2))


class TestColumnsThatChanged:
    def test_a_new_column_that_the_model_reads_changes_the_rows_that_have_a_value_in_it(self, lake: Lake) -> None:
        model = optional_color_model()
        lake.write(rows(1, 2, 3), schema=TYPES.remove(TYPES.get_field_index("color")))
        lake.infer(scorer=model)
        lake.write([row(1, color=None), row(2, color="red"), row(3, color=None)])
        assert counts(lake.infer(scorer=model)) == (3, 1, 2, 0)
        assert {r["petal_length"]: (r["color"], r["run_id"]) for r in lake.predictions()} == {
            0.5: (None, "1"),
            1.0: ("red", "2"),
            1.5: (None, "1"),
        }

    def test_a_new_column_that_the_model_does_not_read_is_taken_over(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write([row(1), row(2, note="x")], schema=TYPES.append(pa.field("note", pa.string())))
        assert counts(lake.infer()) == (2, 0, 2, 0)
        assert [(r["petal_length"], r["note"]) for r in lake.predictions()] == [(0.5, None), (1.0, "x")]

    def test_a_column_that_the_model_does_not_read_may_be_dropped(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write(rows(1, 2), schema=TYPES.remove(TYPES.get_field_index("day")))
        assert counts(lake.infer()) == (2, 0, 2, 0)
        assert "day" not in lake.predictions()[0]

    def test_a_column_that_the_model_reads_changes_the_rows_that_had_a_value_in_it(self, lake: Lake) -> None:
        model = optional_color_model()
        lake.write([row(1, color="red"), row(2, color=None)])
        lake.infer(scorer=model)
        lake.write(rows(1, 2), schema=TYPES.remove(TYPES.get_field_index("color")))
        assert counts(lake.infer(scorer=model)) == (2, 1, 1, 0)
        assert {r["petal_length"]: r["run_id"] for r in lake.predictions()} == {0.5: "2", 1.0: "1"}

    def test_a_column_of_another_type_has_all_rows_scored_and_none_marked(self, lake: Lake) -> None:
        lake.write(rows(1, 2, 3))
        lake.infer()
        other = pa.schema([pa.field("petals", pa.float64()) if f.name == "petals" else f for f in TYPES])
        lake.write(rows(1, 2), schema=other)
        assert counts(lake.infer()) == (2, 2, 0, 1)
        assert [(r["petal_length"], r["petals"]) for r in lake.gone()] == [(1.5, None)]

    def test_lists_and_other_values_that_no_model_reads_stay_with_their_rows(self, lake: Lake) -> None:
        nested = {
            "list": pa.list_(pa.string()),
            "bytes": pa.binary(),
            "price": pa.decimal128(9, 2),
            "map": pa.map_(pa.string(), pa.int64()),
            "struct": pa.struct({"x": pa.string()}),
        }
        schema = pa.schema([*TYPES, *(pa.field(name, kind) for name, kind in nested.items())])
        values = {"list": ["a", None], "bytes": b"\0\xff", "price": 1, "map": [("k", 1)], "struct": {"x": "a"}}
        lake.write([row(1, **values), row(2), row(3, **values)], schema=schema)
        lake.infer()
        lake.write([row(1, **values), row(3, **{**values, "list": ["b"]})], schema=schema)
        assert counts(lake.infer()) == (2, 1, 1, 2)
        assert sorted(r["list"] or ["-"] for r in lake.gone()) == [["-"], ["a", None]]


class TestKeys:
    @pytest.mark.parametrize("mode", ["overwrite", "append"])
    def test_a_table_with_keys_that_are_missing_or_repeated_is_refused(self, lake: Lake, mode: str) -> None:
        """F04: by the first run already, and also where the other row with that key was scored long ago."""
        keyed = pa.schema([pa.field("id", pa.int64()), *TYPES])
        if mode == "append":
            lake.write([row(id=n) for n in range(4)], schema=keyed)
            lake.infer(key=["id"])
        lake.write([row(id=n % 4, petals=n) for n in range(7)] + [row(), row()], schema=keyed, mode=mode)
        repeated = f"keys of more than one row: {3 if mode == 'overwrite' else 4}, such as id 0; id 1; id 2\n"
        with pytest.raises(TableUnfit, match=f"rows without a value for 'id', of the key: 2\n.*{repeated}"):
            lake.infer(key=["id"])
        assert Path(lake.predicted.path).exists() == (mode == "append")

    def test_a_key_that_an_append_repeats_is_refused(self, lake: Lake) -> None:
        keyed = pa.schema([pa.field("id", pa.string()), *TYPES])
        lake.write([row(id="a"), row(id="b")], schema=keyed)
        lake.infer(key=["id"])
        lake.write([row(id="c"), row(id="b", petals=7)], schema=keyed, mode="append")
        with pytest.raises(TableUnfit, match="keys of more than one row: 1, such as id b\n"):
            lake.infer(key=["id"])
        assert len(lake.predictions()) == 2

    def test_a_key_may_have_any_names(self, lake: Lake) -> None:
        key = ["count_all", "row", "place", "0"]
        keyed = pa.schema([*(pa.field(name, pa.int64()) for name in key), *TYPES])
        lake.write([row(**dict.fromkeys(key, n)) for n in range(3)], schema=keyed)
        assert counts(lake.infer(key=key)) == (3, 3, 0, 0)
        lake.write([row(**dict.fromkeys(key, 1), petals=7)], schema=keyed, mode="append")
        with pytest.raises(
            TableUnfit, match="keys of more than one row: 1, such as count_all 1, row 1, place 1, 0 1\n"
        ):
            lake.infer(key=key)

    def test_a_table_without_the_columns_of_the_key_is_known_by_its_values(self, lake: Lake) -> None:
        for stored in (rows(1, 1), rows(1)):
            lake.write(stored)
            result = lake.infer(key=["id"])
        assert counts(result) == (1, 0, 1, 1)

    def test_of_rows_that_a_new_key_makes_one_the_last_prediction_stays(self, lake: Lake) -> None:
        lake.write([row(petals=1, color="red"), row(petals=1, color="blue"), row(petals=2)])
        lake.infer()
        lake.write([row(petals=2)])
        assert counts(lake.infer(key=["petals"])) == (1, 0, 1, 1)


class TestSeveralAtOnce:
    def test_what_another_run_has_written_meanwhile_is_not_written_again(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        result = lake.infer(meanwhile=lake.infer)
        assert (counts(result), result.committed.written) == ((2, 0, 2, 0), False)
        assert lake.runs_of(lake.predictions()) == {"2": 2}
        assert len(DeltaTable(lake.predicted.path).history()) == 1

    def test_appended_rows_are_added_once(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write(rows(3), mode="append")
        lake.infer(meanwhile=lake.infer)
        assert lake.runs_of(lake.predictions()) == {"1": 2, "3": 1}

    def test_after_a_run_of_another_model_all_is_scored_again(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer()
        lake.write(rows(2, 3))
        result = lake.infer(meanwhile=lambda: lake.infer(model="models:/m/2"))
        assert counts(result) == (2, 2, 0, 1)
        assert Counter(r["model_uri"] for r in lake.live()) == {"models:/m/1": 2}
        assert {r["model_uri"] for r in lake.predictions(1) if r["deleted_at"] is None} == {"models:/m/2"}

    def test_no_file_is_left_of_what_came_second(self, lake: Lake) -> None:
        lake.write(rows(1, 2))
        lake.infer(meanwhile=lambda: lake.infer(model="models:/m/2"))
        known = set(snapshot.open(lake.predicted).data_files) | set(
            snapshot.open(TableUri(lake.predicted.path, 0)).data_files
        )
        found = {
            path.relative_to(lake.predicted.path).as_posix() for path in Path(lake.predicted.path).rglob("*.parquet")
        }
        assert found == known

    def test_a_run_that_is_always_second_gives_up(self, lake: Lake) -> None:
        class Slow(Scorer):
            def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
                lake.runs += 1
                commit.once(
                    lake.predicted,
                    made_of={},
                    made_by={"run_id": str(lake.runs)},
                    write=lambda folder: commit.save(pa.table({"x": [1]}), folder),
                )
                return super().probabilities(rows)

        slow = Slow()
        slow.booster, slow.schema = flowers_model().booster, flowers_model().schema
        lake.write(rows(1))
        with pytest.raises(TableBusy, match="each of 20 commits came after that of another writer"):
            lake.infer(scorer=slow)


VALUES = st.fixed_dictionaries(
    {
        "petal_length": st.sampled_from([None, math.nan, 0.0, -0.0, 3.5]),
        "petals": st.sampled_from([None, 2**53 + 1, 4]),
        "color": st.sampled_from([None, "", "red", "a color of its own"]),
        "day": st.sampled_from([None, dt.date(1, 1, 1)]),
    }
)
VERSIONS = st.lists(
    st.tuples(st.lists(VALUES, max_size=8), st.sampled_from(["overwrite", "append"]), st.sampled_from([1, 1, 1, 2])),
    min_size=1,
    max_size=5,
)


@settings(QUICK, max_examples=20)
@given(versions=VERSIONS)
def test_a_version_has_the_rows_of_the_table_once_and_those_that_it_lost(
    versions: list[tuple[list[Row], str, int]],
) -> None:
    """Beside a plain count of equal rows: as many are kept as were scored by the same model, and as many are marked as
    went and did not come back."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        live, gone, before = Counter[str](), Counter[str](), 0
        for stored, mode, model in versions:
            lake.write([{**row(), **values} for values in stored], mode=mode)
            table = content(rows_of(lake.table.path).to_pylist())
            result = lake.infer(model=f"models:/m/{model}")
            returned = (table - live) & gone
            gone = gone - returned + (live - table)
            kept = (table & live).total() if model == before else 0
            live, before = table, model
            assert (content(lake.live()), content(lake.gone())) == (live, gone)
            assert counts(result) == (table.total(), table.total() - kept, kept, gone.total())
            assert {r["model_uri"] for r in lake.live()} <= {f"models:/m/{model}"}
            assert is_as_scored_anew(lake)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_row_without_any_value_is_matched_where_no_feature_has_its_type_of_before(keeps: bool) -> None:
    """Of all that the two sides share, the model reads nothing."""
    rows = pa.table({"id": [1, 2], "y": ["a", "b"], "x": pa.array([None, 0.5], pa.float64())})
    labels = [None, "b"]
    earlier = pa.table({"id": [1, 2], "y": labels, "x": pa.array([None, 7], pa.int64()), "run_id": ["1", "1"]})
    schema = pa.schema([*rows.schema, pa.field("run_id", pa.string()), predictions.ORIGIN.field("deleted_at")])
    columns = Columns(common=["id", "y"], new=["x"], identity=["id"], read=[], gained=["x"], dropped=["x"])
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    found = earlier_predictions.joined(rows, earlier, columns=columns, keeps=keeps, schema=schema, now=now)
    assert found["run_id"].to_pylist() == ["1" if keeps else None, None]
    assert found["x"].to_pylist() == [None, 0.5]
