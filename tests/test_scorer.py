"""The model as it is logged: what it answers depends on the row's values by name, and on nothing else."""

import ast
import dataclasses
import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext
from place import CASES
from small import QUICK, flowers, flowers_config, flowers_model

from steps.core.models import scorer, split
from steps.core.models.scorer import Feature, Schema, design_matrix, unseen

FEATURES = ["petal_length", "petals", "wild", "color"]
TEXT = st.text(max_size=5)
LABELS = st.one_of(
    st.lists(TEXT, min_size=2, max_size=4, unique=True),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=4, unique=True),
    st.just([False, True]),
)
SCHEMAS = st.builds(
    Schema,
    features=st.lists(
        st.builds(
            Feature,
            name=TEXT,
            type=st.sampled_from(["double", "long", "boolean", "date", "timestamp"]),
            optional=st.booleans(),
            missing=st.lists(TEXT | st.integers() | st.just(0.5), max_size=2).map(tuple),
            as_text=st.fixed_dictionaries({}, optional={"type": TEXT, "zone": st.sampled_from(["UTC", "Asia/Tokyo"])}),
        )
        | st.builds(Feature, name=TEXT, type=st.just("string"), levels=st.lists(TEXT, max_size=3).map(tuple))
        | st.builds(Feature, name=TEXT, type=st.just("long"), levels=st.lists(st.integers(), max_size=3).map(tuple)),
        max_size=4,
    ).map(tuple),
    target=TEXT,
    classes=LABELS.map(tuple),
    split=st.fixed_dictionaries({"seed": st.integers(0, 9), "columns": st.lists(TEXT, max_size=2)}),
    table_uri=TEXT,
    objective=st.sampled_from(["", "multi:softprob"]),
    weight=st.none() | TEXT,
)


def rows(count: int = 50, seed: int = 5) -> pd.DataFrame:
    return flowers(count, seed=seed)[FEATURES]


def predict(frame: pd.DataFrame) -> pd.DataFrame:
    return flowers_model().predict(None, frame)


def test_probabilities_are_those_of_the_booster_alone() -> None:
    """By XGBoost's own reading of a pandas frame with categories, instead of ours."""
    levels = pd.CategoricalDtype(["blue", "red", "white"])
    frame = rows().assign(color=rows()["color"].astype(levels), wild=rows()["wild"].astype(int))
    expected = flowers_model().booster.predict(xgboost.DMatrix(frame, enable_categorical=True))
    np.testing.assert_allclose(flowers_model().probabilities(rows()), expected, rtol=1e-6)


def test_the_prediction_is_the_most_probable_of_the_targets_own_labels() -> None:
    predicted = predict(rows())
    for _, row in predicted.iterrows():
        assert set(row["probabilities"]) == {"setosa", "versicolor", "virginica"}
        assert row["probabilities"][row["prediction"]] == row["probability"] == max(row["probabilities"].values())
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-12)
    assert set(predicted["prediction"]) == {"setosa", "versicolor", "virginica"}


def test_the_model_has_learnt_something() -> None:
    fresh = flowers(500, seed=99)
    assert (predict(fresh)["prediction"] == fresh["species"]).mean() > 0.75


@QUICK
@given(st.permutations([*FEATURES, "species", "extra"]))
def test_the_order_of_columns_and_further_columns_do_not_matter(order: list[str]) -> None:
    wider = flowers(20).assign(extra="x")
    pd.testing.assert_frame_equal(predict(wider[order]), predict(flowers(20)[FEATURES]))


def test_a_batch_is_its_rows_one_by_one() -> None:
    batch = rows(30)
    alone = pd.concat([predict(batch.iloc[[i]]) for i in range(len(batch))])
    pd.testing.assert_frame_equal(predict(batch), alone)


@QUICK
@given(st.text().filter(lambda text: text not in ("blue", "red", "white")))
def test_a_text_that_training_did_not_have_is_as_good_as_missing(text: str) -> None:
    pd.testing.assert_frame_equal(predict(rows(9).assign(color=text)), predict(rows(9).assign(color=None)))


def test_a_text_that_is_not_in_this_batch_keeps_its_code() -> None:
    """F02: codes taken from the batch would make the only color of a batch the first one."""
    white = rows().assign(color="white")
    assert design_matrix(white, flowers_model().schema.features)[:, 3].tolist() == [2.0] * len(white)


def test_missing_values_of_every_kind_are_one() -> None:
    features = flowers_model().schema.features
    frame = pd.DataFrame({name: pd.Series([None, np.nan, pd.NA], dtype=object) for name in FEATURES})
    assert np.isnan(design_matrix(frame, features)).all()
    assert len({json.dumps(row) for row in predict(frame)["probabilities"]}) == 1


@pytest.mark.parametrize("kind", ["int32", "int64", "float64", "Int64", "Float64", "object"])
def test_a_number_is_the_same_in_any_type(kind: str) -> None:
    frame = pd.DataFrame({"petals": pd.Series([3, 8], dtype=kind)})
    assert design_matrix(frame, (Feature(name="petals", type="long"),)).tolist() == [[3.0], [8.0]]


@pytest.mark.parametrize("kind", ["bool", "boolean", "object", "float64"])
def test_a_boolean_is_the_same_in_any_type(kind: str) -> None:
    """Arrow gives pandas booleans, or objects where one is missing; REST gives booleans or numbers."""
    frame = pd.DataFrame({"wild": pd.Series([True, False], dtype="bool").astype(kind)})
    assert design_matrix(frame, (Feature(name="wild", type="boolean"),)).tolist() == [[1.0], [0.0]]


def test_a_missing_whole_number_and_a_missing_boolean_are_missing() -> None:
    frame = pd.DataFrame({"petals": [3.0, np.nan], "wild": pd.Series([True, None], dtype=object)})
    features = (Feature(name="petals", type="long"), Feature(name="wild", type="boolean"))
    np.testing.assert_array_equal(design_matrix(frame, features), [[3, 1], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("feature", "values", "is_missing"),
    [
        (
            Feature(name="x", type="double", missing=(-999, "n/a", "1e3")),
            [-999, -999.0, Decimal(-999), "n/a", " n/a ", 1000, 999, 0.5],
            [True, True, True, True, True, True, False, False],
        ),
        (Feature(name="x", type="long", missing=("-9",)), [-9, -9.0, "-9", 9, 0], [True, True, True, False, False]),
        (Feature(name="x", type="long", levels=(1, 2), missing=(9,)), [9, 1, 2], [True, False, False]),
        (Feature(name="x", type="boolean", missing=(1, "?")), ["?", True, 1, False], [True, False, True, False]),
        (
            Feature(name="x", type="string", levels=("a", "7"), missing=("-", 7)),
            ["-", " - ", "7", "a"],
            [True, True, True, False],
        ),
        (
            Feature(name="x", type="date", missing=("1900-01-01", "01.02.1900", "never")),
            ["1900-01-01", dt.date(1900, 1, 1), "01.02.1900", "never", dt.date(2024, 1, 1)],
            [True, True, True, True, False],
        ),
        (
            Feature(name="x", type="date", missing=("01.02.1900",), as_text={"format": "%d.%m.%Y"}),
            [dt.date(1900, 2, 1), "1900-02-01", "01.02.1900", dt.date(1900, 1, 2)],
            [True, True, True, False],
        ),
        (
            Feature(name="x", type="double", missing=("-999,9", -0.1), as_text={"decimal_mark": ","}),
            [-999.9, Decimal("-999.9"), Decimal("-0.1"), 1.5],
            [True, True, True, False],
        ),
        (
            Feature(name="x", type="double", missing=("-9,999.9",), as_text={"thousands_mark": ","}),
            [-9999.9, Decimal("-9999.9"), "-9,999.9", -9.9],
            [True, True, True, False],
        ),
        (
            Feature(
                name="x", type="double", missing=("-$9,999", "99%"), as_text={"thousands_mark": ",", "symbol": "$"}
            ),
            [-9999, "-$9,999", 99, 9999],
            [True, True, False, False],
        ),
        (
            Feature(name="x", type="double", missing=("-999.5", "1.2"), as_text={"decimal_mark": ","}),
            [-9995.0, -999.5, 12.0, 1.2, "-999.5"],
            [False, False, False, False, True],
        ),
        (
            Feature(name="x", type="date", missing=("1900-01-01",), as_text={"format": "%Y%m%d"}),
            [dt.date(1900, 1, 1), "1900-01-01"],
            [False, True],
        ),
        (
            Feature(name="x", type="timestamp", missing=("1900-01-01",)),
            [pd.Timestamp("1900-01-01", tz="UTC"), "1900-01-01T01:00+01:00", dt.datetime(1900, 1, 1, 1)],
            [True, True, False],
        ),
    ],
)
def test_what_the_config_takes_for_missing_is_missing(
    feature: Feature, values: list[object], is_missing: list[bool]
) -> None:
    """A client sends its rows as its own source has them; no table of the contract has such a value."""
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    expected = np.where(np.array(is_missing)[:, np.newaxis], np.nan, 0)
    np.testing.assert_array_equal(design_matrix(frame, [feature])[:, :1] * 0, expected)
    assert unseen(frame, [feature]) == {}


@pytest.mark.parametrize("kind", ["int64", "float32", "Int64", "double[pyarrow]", "object"])
def test_a_number_that_stands_for_a_missing_one_does_so_in_any_type(kind: str) -> None:
    frame = pd.DataFrame({"x": pd.Series([-999, 3], dtype=kind)})
    np.testing.assert_array_equal(
        design_matrix(frame, [Feature(name="x", type="long", missing=(-999,))]), [[np.nan], [3]]
    )


@pytest.mark.parametrize("kind", ["datetime64[ns]", "datetime64[us, UTC]", "datetime64[us, Europe/Berlin]", "object"])
@pytest.mark.parametrize("name", ["date", "timestamp"])
def test_a_moment_that_stands_for_a_missing_one_does_so_in_any_type(
    kind: str, name: Literal["date", "timestamp"]
) -> None:
    midnight = pd.Series(["1900-01-01", "2024-01-01"])
    zone = "Europe/Berlin" if "Berlin" in kind and name == "date" else "UTC"
    values = midnight.astype("datetime64[us]").dt.tz_localize(zone)
    values = values.astype(kind) if "," in kind or kind == "object" else values.dt.tz_localize(None).astype(kind)
    matrix = design_matrix(pd.DataFrame({"x": values}), [Feature(name="x", type=name, missing=("1900-01-01",))])
    assert np.isnan(matrix[0]).all()
    assert matrix[1, 0] == 2024


NOON = dt.datetime(2024, 7, 1, 12)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([NOON, NOON.replace(year=2050)], dtype="datetime64[us]"),
        pd.Series([NOON, NOON.replace(year=2050)], dtype=object),
        pd.Series([f"{NOON}", "2050-07-01T12:00"], dtype=object),
        pd.Series([np.datetime64(NOON), np.datetime64("2050-07-01T12:00")], dtype=object),
        pd.Series([NOON.replace(hour=10, tzinfo=dt.UTC), "2050-07-01T10:00Z"], dtype=object),
        pd.Series([NOON, NOON.replace(year=2050)], dtype="datetime64[us]").dt.tz_localize(ZoneInfo("Europe/Berlin")),
        np.array(["2024-07-01T12:00", "2050-07-01T12:00"], dtype="datetime64[us]"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_a_moment_that_says_no_zone_is_in_that_of_the_config(values: Any) -> None:
    in_berlin = Feature(name="x", type="timestamp", as_text={"zone": "Europe/Berlin"})
    matrix = design_matrix(
        {"x": values} if isinstance(values, np.ndarray) else pd.DataFrame({"x": values}), [in_berlin]
    )
    assert matrix[:, -1].tolist() == [10, 10]


@pytest.mark.parametrize("hour", [dt.datetime(2024, 3, 31, 2, 30), dt.datetime(2024, 10, 27, 2, 30)])
@pytest.mark.parametrize("kind", ["datetime64[us]", "object", "text"])
def test_an_hour_that_its_clocks_do_not_show_once_is_refused(hour: dt.datetime, kind: str) -> None:
    in_berlin = Feature(name="x", type="timestamp", as_text={"zone": "Europe/Berlin"})
    values = pd.Series([str(hour)], dtype=object) if kind == "text" else pd.Series([hour], dtype=kind)
    with pytest.raises(MlflowException, match="row 0, column 'x': .*2024.* is not a moment"):
        design_matrix(pd.DataFrame({"x": values}), [in_berlin])
    assert not np.isnan(design_matrix(pd.DataFrame({"x": values}), [Feature(name="x", type="timestamp")])).any()


def test_all_missing_columns_are_told_at_once() -> None:
    with pytest.raises(MlflowException, match="the columns petals, color are missing"):
        predict(rows().drop(columns=["petals", "color"]))


def test_no_rows_are_no_predictions() -> None:
    predicted = predict(rows().head(0))
    assert predicted.columns.tolist() == ["prediction", "probability", "probabilities"]
    assert predicted.empty


def test_predictions_keep_the_index_of_their_rows() -> None:
    frame = rows(4).set_axis([7, 7, "a", None])
    assert predict(frame).index.tolist() == frame.index.tolist()


def test_rows_are_not_changed_by_scoring_them() -> None:
    frame = rows()
    predict(frame)
    pd.testing.assert_frame_equal(frame, rows())


def test_values_that_were_not_seen_in_training_are_counted_without_the_missing_ones() -> None:
    frame = pd.DataFrame({"color": ["red", "green", None, "Red", "green"], "petals": [1, 2, 3, 4, 5]})
    features = (Feature(name="color", type="string", levels=("red",)), Feature(name="petals", type="long"))
    assert unseen(frame, features) == {"color": 3}
    assert unseen(frame.assign(color="red"), features) == {}


def test_blanks_around_a_text_count_for_nothing_as_in_a_source() -> None:
    features = [Feature(name="color", type="string", levels=("blue", "red", " odd "))]
    given = pd.DataFrame({"color": [" red ", "red", "\u2003blue", "  ", "", None, " odd ", "odd"]})
    codes = design_matrix(given, features)[:, 0]
    np.testing.assert_array_equal(codes, [1, 1, 0, np.nan, np.nan, np.nan, 2, np.nan])
    assert unseen(given, features) == {"color": 1}


@pytest.mark.parametrize("blank", ["", "  ", "\u00a0"])
@pytest.mark.parametrize("kind", ["double", "long", "boolean", "string", "date", "timestamp", "codes"])
def test_text_of_blanks_is_a_missing_value_of_any_type(kind: str, blank: str) -> None:
    """As many clients send an empty cell. Other text stays refused, in its place."""
    levels: dict[str, Any] = {"string": ("a",), "codes": (1, 2)}
    feature = Feature(name="x", type="long" if kind == "codes" else kind, levels=levels.get(kind))  # type: ignore[arg-type]
    missing = design_matrix(pd.DataFrame({"x": [None, None]}, dtype=object), [feature])
    for values in ([None, blank], pd.Categorical([None, blank]), pd.array([None, blank], dtype="string")):
        np.testing.assert_array_equal(design_matrix(pd.DataFrame({"x": values}), [feature]), missing)
    if kind != "string":
        with pytest.raises(MlflowException, match=r"row 1, column 'x': 'soon' is not (?!.*more in this)"):
            design_matrix(pd.DataFrame({"x": [blank, "soon"]}), [feature])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_a_double_beyond_the_range_of_float32_is_scored() -> None:
    """The contract takes any finite double; XGBoost refuses infinity with a trace of its own."""
    largest = predict(rows(1).assign(petal_length=np.finfo(np.float32).max))
    pd.testing.assert_frame_equal(predict(rows(1).assign(petal_length=1e300)), largest)


@QUICK
@given(SCHEMAS)
def test_a_schema_reads_back_as_itself(schema: Schema) -> None:
    assert Schema.loads(schema.dumps()) == schema
    assert [type(label) for label in Schema.loads(schema.dumps()).classes] == [type(label) for label in schema.classes]


@pytest.mark.parametrize("path", sorted((CASES / "M01_schemas").iterdir()), ids=lambda path: path.stem)
def test_a_schema_that_an_earlier_release_wrote_is_read_for_good(path: Path) -> None:
    """As they were logged, before there was a format version."""
    schema = Schema.loads(path.read_text(encoding="utf-8"))
    assert (schema.features, schema.target, schema.classes, schema.table_uri) == (
        (
            Feature(name="petal_length", type="double"),
            Feature(name="petals", type="long"),
            Feature(name="wild", type="boolean"),
            Feature(name="color", type="string", levels=("blue", "red", "white")),
        ),
        "species",
        ("setosa", "versicolor", "virginica"),
        "/lake/flowers@v3",
    )
    as_recorded = dataclasses.replace(split.settings_of(flowers_config()), types={})  # types came later
    assert split.recorded(schema.split) == as_recorded


def test_fields_that_a_later_release_added_to_the_same_format_are_passed_over() -> None:
    schema = flowers_model().schema
    written = json.loads(schema.dumps())
    wider = {**written, "thresholds": [0.5], "features": [{**feature, "unit": "cm"} for feature in written["features"]]}
    wider["split"] = {**written["split"], "note": ["x"]}
    read = Schema.loads(json.dumps(wider))
    assert dataclasses.replace(read, split=schema.split) == schema
    assert split.recorded(read.split) == split.recorded(schema.split)


@pytest.mark.parametrize("version", [scorer.FORMAT_VERSION + 1, "2.0", None])
def test_a_schema_of_a_later_format_is_refused_by_its_version(version: object) -> None:
    """Whatever its fields are called."""
    with pytest.raises(scorer.FormatUnknown, match=f"^format {version!r}$"):
        Schema.loads(json.dumps({"format_version": version, "inputs": []}))


def test_a_loaded_model_answers_as_the_one_that_was_saved(tmp_path: Path) -> None:
    files = {"booster": tmp_path / "booster.ubj", "schema": tmp_path / "schema.json"}
    flowers_model().booster.save_model(files["booster"])
    files["schema"].write_text(flowers_model().schema.dumps(), encoding="utf-8")
    read = scorer.Scorer()
    read.load_context(PythonModelContext({name: str(path) for name, path in files.items()}, {}))
    pd.testing.assert_frame_equal(read.predict(None, rows()), predict(rows()))


def test_the_file_imports_only_what_the_logged_model_requires() -> None:
    """It travels with the model, to where the project is not."""
    tree = ast.parse(Path(scorer.__file__).read_text(encoding="utf-8"))
    imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    packages = {name.partition(".")[0] for name in imports}
    assert packages - set(sys.stdlib_module_names) <= {"mlflow", "numpy", "pandas", "xgboost"}
