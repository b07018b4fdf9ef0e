"""One reading of values: infer on a table, the model on a frame in Python and the same model over REST answer alike,
by `mlflow models serve` and by the entry point `serve`."""

import csv
import datetime as dt
import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import requests
from hypothesis import example as with_example
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models.utils import load_serving_example
from mlflow.pyfunc import PyFuncModel, load_model
from place import PROJECT, Place, new_database
from services import Service, free_port
from small import FLOWERS, QUICK, fit, flowers, flowers_config, sqlite, tracked

from steps.core.models import registration, split
from steps.core.models.predictions import add_predictions
from steps.core.models.scorer import Scorer

UTC_MICROSECONDS = pa.timestamp("us", "UTC")
TYPES = {
    **{"petal_length": pa.float64(), "petals": pa.int64(), "wild": pa.bool_(), "color": pa.string()},
    **{"garden": pa.int64(), "planted": pa.date32(), "picked": UTC_MICROSECONDS, "note": pa.string()},
}
FEATURES = list(TYPES)
PLANTED, PICKED = dt.date(2024, 2, 29), dt.datetime(2024, 7, 1, 9, 30, tzinfo=dt.UTC)
ROW: dict[str, Any] = {
    **{"petal_length": 4.25, "petals": 5, "wild": True, "color": "red"},
    **{"garden": 80331, "planted": PLANTED, "picked": PICKED, "note": "dry"},
}
GARDENS, NOTES = (10115, 20095, 80331), ("dry", "wet")
COLUMNS: dict[str, Any] = {
    **FLOWERS["columns"],
    "garden": {"type": "long", "categorical": True},
    "planted": {"type": "date"},
    "picked": {"type": "timestamp"},
    "note": {"type": "string", "nullable": True},
}
JSON, PARQUET, CSV = "application/json", "application/vnd.apache.parquet", "text/csv"
URI = "models:/flowers_model/1"

# XML and JSON take no lone surrogates, and NumPy's text, which MLflow makes of `instances`, ends at a NUL.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
VALUES = {
    "petal_length": st.floats(allow_nan=False, allow_infinity=False) | st.floats(-9, 9) | st.integers(-(2**53), 2**53),
    "petals": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9),
    "wild": st.booleans(),
    "color": st.sampled_from(["blue", "red", "white"]) | st.sampled_from(["7", "", "nan", "None", "true"]) | TEXT,
    "garden": st.sampled_from(GARDENS) | st.integers(-(2**53), 2**53),
    "planted": st.dates(dt.date(2020, 1, 1), dt.date(2025, 1, 1)) | st.dates(),
    "picked": st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2025, 1, 1), timezones=st.just(dt.UTC))
    | st.datetimes(timezones=st.just(dt.UTC)),
    "note": st.sampled_from(NOTES) | TEXT,
}
TABLES = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), min_size=1)
NOTHING = dict.fromkeys(VALUES)

Rows = list[dict[str, Any]]


def sensitive_flowers() -> pd.DataFrame:
    """Flowers whose species follows from every feature, and from whether it is missing, which is like no one value."""
    random = np.random.default_rng(2)
    rows = flowers(1500).astype({"petals": "Int64", "wild": "boolean"})
    days = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(random.integers(0, 1800, len(rows)), unit="D")
    moments = days + pd.to_timedelta(random.integers(0, 86_400, len(rows)), unit="s")
    rows["garden"] = pd.array(random.choice(GARDENS, len(rows)), dtype="Int64")
    rows["planted"] = pd.Series(days.date, dtype=object)
    rows["picked"] = moments.as_unit("us")
    rows["note"] = pd.Series(random.choice(NOTES, len(rows)), dtype=object)
    for name in ("petals", "wild", "garden", "planted", "picked", "note"):
        rows[name] = rows[name].mask(random.random(len(rows)) < 0.2)
    is_red = rows["color"] == "red"
    score = (rows["petal_length"].fillna(9) > 4).astype(int) + (rows["petals"].fillna(9) > 5).astype(int)
    score += rows["wild"].fillna(is_red).astype(int) * 2 + is_red.astype(int) + rows["color"].isna().astype(int) * 2
    score += (rows["garden"] != 20095).fillna(False).astype(int) + (rows["note"] == "dry").astype(int)
    score += (pd.to_datetime(rows["planted"]).dt.month < 6).astype(int) + (rows["picked"].dt.hour < 12).astype(int)
    return rows.assign(species=np.select([score < 4, score < 7], ["setosa", "versicolor"], "virginica").astype(object))


@cache
def sensitive_model() -> Scorer:
    stored = pa.Table.from_pandas(sensitive_flowers(), preserve_index=False).to_pandas()
    settings = flowers_config(columns=COLUMNS, model={**FLOWERS["model"], "max_depth": 5, "learning_rate": 0.3})
    return fit(settings, split.split(stored, split.settings_of(settings)))


@cache
def example() -> pd.DataFrame:
    """Rows as `train` takes them from its table, with something missing."""
    rows = sensitive_flowers()[FEATURES]
    return pa.Table.from_pandas(rows[rows.isna().any(axis=1)].head(3), preserve_index=False).to_pandas()


class ScoringServer(Service):
    """A server of one model, as a user starts it: MLflow's own, of a model in a folder, or the project's."""

    health = "/ping"

    def __init__(self, folder: Path, model: Path, *, is_mlflows: bool) -> None:
        port = free_port()
        self.is_mlflows = is_mlflows
        environment = Place(folder).environment
        if is_mlflows:
            command = ["mlflow", "models", "serve", "-m", model, "-p", port, "--env-manager", "local"]
        else:
            command = ["steps", "serve", f"--model={URI}", f"--port={port}"]
            environment |= {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": sqlite(model.parent)}
        super().__init__(folder, [sys.executable, "-m", *command], environment, port)

    def answer(self, body: Any, kind: str = JSON) -> requests.Response:
        data = json.dumps(body) if kind == JSON else body
        return requests.post(f"{self.url}/invocations", data=data, headers={"Content-Type": kind}, timeout=60)

    def predict(self, body: Any, kind: str = JSON) -> Rows:
        response = self.answer(body, kind)
        assert response.status_code == 200, response.text
        rows: Rows = response.json()["predictions"]
        return rows


def logged(model: Scorer, folder: Path, *, example: pd.DataFrame) -> Path:
    """`model` as the step `train` registers it, downloaded to `folder`."""
    with tracked(new_database(folder)):
        experiment_id = mlflow.create_experiment("e", artifact_location=str(folder / "artifacts"))
        with mlflow.start_run(experiment_id=experiment_id):
            version = registration.register(model.booster, model.schema, example=example, name="flowers_model", tags={})
        uri = f"models:/{version.name}/{version.version}"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "downloaded")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return logged(sensitive_model(), tmp_path_factory.mktemp("logged"), example=example())


@pytest.fixture(scope="module")
def model(folder: Path) -> PyFuncModel:
    return load_model(str(folder))


@pytest.fixture(scope="module", params=["mlflow models serve", "serve"])
def server(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScoringServer]:
    is_mlflows = request.param == "mlflow models serve"
    server = ScoringServer(tmp_path_factory.mktemp("server"), folder, is_mlflows=is_mlflows)
    server.start()
    yield server
    server.stop()


def table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(list(TYPES.items())))


def as_json(rows: Rows) -> Rows:
    """The same rows as JSON has them, which knows no dates."""
    return [
        {name: value.isoformat() if isinstance(value, dt.date) else value for name, value in row.items()}
        for row in rows
    ]


def rows_of(frame: pd.DataFrame) -> Rows:
    records: Rows = frame.to_dict(orient="records")
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in records]


def inferred(rows: Rows) -> Rows:
    """What infer writes beside these rows of a table."""
    added = add_predictions(table(rows), sensitive_model()).select(["prediction", "probability", "probabilities"])
    return [{**row, "probabilities": dict(row["probabilities"])} for row in added.to_pylist()]


def answers(model: PyFuncModel, frame: pd.DataFrame) -> Rows:
    predicted: Any = model.predict(frame)
    rows: Rows = predicted.to_dict(orient="records")
    return rows


def narrowest(values: pd.Series) -> pd.Series:
    """float32 where it holds a column's numbers exactly."""
    if values.dtype.kind not in "if" or not values.notna().any():
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype("float32")
    return narrow if narrow.astype("float64").equals(values.astype("float64")) else values


def frames(rows: Rows) -> dict[str, pd.DataFrame]:
    """The same rows in the types in which people have them."""
    stored = table(rows)
    plain = stored.to_pandas()
    nullable = {
        **{"petal_length": "Float64", "petals": "Int64", "wild": "boolean", "color": "string", "garden": "Int64"},
        **{"planted": "datetime64[us]", "picked": "datetime64[us, UTC]", "note": "string"},
    }
    return {
        "of Python objects": pd.DataFrame(rows, columns=FEATURES, dtype=object),
        "as pandas guesses": pd.DataFrame(rows, columns=FEATURES),
        "of Arrow's types": stored.to_pandas(types_mapper=pd.ArrowDtype),
        "of pandas' nullable types": pd.DataFrame(
            {name: pd.array(stored[name].to_pylist(), dtype=kind) for name, kind in nullable.items()}
        ),
        "with categories": plain.astype(dict.fromkeys(["color", "wild", "garden", "planted", "note"], "category")),
        "with moments of another zone": plain.assign(
            picked=plain["picked"].dt.tz_convert(dt.timezone(dt.timedelta(hours=5.5)))
        )
        if not any(row["picked"] and row["picked"].year in (1, 9999) for row in rows)
        else plain,
        "of the narrowest types": plain.apply(narrowest),
        "with moments without a zone": plain.assign(picked=plain["picked"].dt.tz_localize(None)),
        "with dates as text": pd.DataFrame(as_json(rows), columns=FEATURES, dtype=object),
        "of another order, width and index": plain[FEATURES[::-1]].assign(extra="x").set_axis([7] * len(rows)),
    }


def bodies(rows: Rows) -> dict[str, dict[str, Any]]:
    """The same rows in the forms in which MLflow's server takes JSON."""
    rows = as_json(rows)
    names = [*FEATURES[::-1], "extra"]
    return {
        "split, of another order and width": {
            "dataframe_split": {
                "columns": names,
                "data": [[*(row[name] for name in FEATURES[::-1]), {"a": []}] for row in rows],
            }
        },
        "records, of another order and width": {
            "dataframe_records": [{"extra": None, **{name: row[name] for name in FEATURES[::-1]}} for row in rows]
        },
        "split": {"dataframe_split": {"columns": FEATURES, "data": [[row[name] for name in FEATURES] for row in rows]}},
        "records": {"dataframe_records": rows},
        "inputs, by row": {"inputs": rows},
        "inputs, by column": {"inputs": {name: [row[name] for row in rows] for name in FEATURES}},
        "instances": {"instances": rows},
    }


def parquet(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    table(rows).to_pandas().to_parquet(buffer)
    return buffer.getvalue()


def as_csv(rows: Rows) -> str:
    """The same rows as a file with a header, where missing cells are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FEATURES)
    writer.writeheader()
    writer.writerows(as_json(rows))
    return text.getvalue()


class TestTheSameAnswers:
    """To the last bit."""

    @QUICK
    @given(rows=TABLES)
    @with_example(rows=[NOTHING, {**NOTHING, "petals": -(2**63)}])
    def test_for_any_table(self, server: ScoringServer, model: PyFuncModel, rows: Rows) -> None:
        expected = inferred(rows)
        for form, body in bodies(rows).items():
            assert server.predict(body) == expected, form
        assert server.predict(parquet(rows), PARQUET) == expected
        if not server.is_mlflows:
            without_empty_text = [{name: None if value == "" else value for name, value in row.items()} for row in rows]
            assert server.predict(as_csv(rows).encode(), CSV) == inferred(without_empty_text)
        for types, frame in frames(rows).items():
            assert answers(model, frame) == expected, types

    def test_for_a_frame_as_pandas_reads_it_from_csv(self, model: PyFuncModel) -> None:
        rows = sensitive_flowers().head(60).astype({"wild": object})[FEATURES].dropna(subset=["wild"])
        whole = rows.assign(petal_length=rows["petal_length"].round().fillna(0).astype(int))
        for frame in (rows, whole, rows.assign(color=None), rows.assign(wild=rows["wild"].astype(int))):
            read = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
            assert answers(model, read) == inferred(rows_of(frame.assign(wild=frame["wild"].astype(bool))))

    @pytest.mark.parametrize("name", FEATURES)
    def test_for_a_missing_value(self, server: ScoringServer, model: PyFuncModel, name: str) -> None:
        rows = [{**ROW, name: None}]
        assert inferred(rows) != inferred([ROW])  # else this would show nothing
        for body in bodies(rows).values():
            assert server.predict(body) == inferred(rows)
        assert answers(model, pd.DataFrame(rows)) == inferred(rows)

    def test_for_numbers_as_databases_and_exact_arithmetic_have_them(self, model: PyFuncModel) -> None:
        exact = [None, Decimal("4.25"), Decimal("3")]
        frame = pd.DataFrame([ROW] * 3).assign(
            petal_length=exact, petals=[5.0, 6.0, None], wild=[1, 0, None], garden=[None, Decimal("10115"), 80331.0]
        )
        rows: Rows = [
            {**ROW, "petal_length": None, "petals": 5, "wild": True, "garden": None},
            {**ROW, "petal_length": 4.25, "petals": 6, "wild": False, "garden": 10115},
            {**ROW, "petal_length": 3.0, "petals": None, "wild": None, "garden": 80331},
        ]
        assert answers(model, frame) == inferred(rows)

    def test_the_index_of_a_frame_stays(self, model: PyFuncModel) -> None:
        predicted: Any = model.predict(pd.DataFrame([ROW] * 4, index=[7, 7, "a", None]))
        assert predicted.index.tolist() == [7, 7, "a", None]

    def test_for_requests_at_once(self, server: ScoringServer) -> None:
        rows = rows_of(sensitive_flowers()[FEATURES].head(400))
        parts = [rows[i : i + 10] for i in range(0, 400, 10)]
        with ThreadPoolExecutor(8) as pool:
            answered = list(pool.map(lambda part: server.predict({"dataframe_records": as_json(part)}), parts))
        assert answered == [inferred(part) for part in parts]

    def test_for_no_rows(self, server: ScoringServer, model: PyFuncModel) -> None:
        assert server.predict({"dataframe_split": {"columns": FEATURES, "data": []}}) == []
        assert inferred([]) == []
        assert answers(model, table([]).to_pandas()) == []

    def test_for_the_example_that_is_logged_with_the_model(self, folder: Path, server: ScoringServer) -> None:
        assert server.predict(json.loads(load_serving_example(str(folder)))) == inferred(rows_of(example()))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "text for a number": ({"petal_length": "abc"}, "'abc' is not a finite number"),
    "a number as text": ({"petal_length": "4.25"}, "'4.25' is not a finite number"),
    "a boolean for a number": ({"petal_length": True}, "True is not a finite number"),
    "infinity": ({"petal_length": float("inf")}, "inf is not a finite number"),
    "a list": ({"petal_length": [4.25]}, r"\[4.25\] is not a finite number"),
    "a fraction for a whole number": ({"petals": 3.5}, "3.5 is not a whole number of 64 bits"),
    "more than 64 bits": ({"petals": 2**64}, "18446744073709551616 is not a whole number of 64 bits"),
    "a word for a boolean": ({"wild": "maybe"}, "'maybe' is not true, false, 1 or 0"),
    "a boolean as text": ({"wild": "false"}, "'false' is not true, false, 1 or 0"),
    "another number for a boolean": ({"wild": 2}, "2 is not true, false, 1 or 0"),
    "an object for text": ({"color": {"name": "red"}}, "{'name': 'red'} is not text"),
    "a number for text": ({"color": 7}, "7 is not text"),
    "a boolean for text": ({"color": True}, "True is not text"),
    "text for a code": ({"garden": "80331"}, "'80331' is not a whole number of 64 bits"),
    "a fraction for a code": ({"garden": 0.5}, "0.5 is not a whole number of 64 bits"),
    "a moment for a date": ({"planted": "2024-02-29T12:00:00"}, "'2024-02-29T12:00:00' is not a date"),
    "a date as Germans write it": ({"planted": "29.02.2024"}, "'29.02.2024' is not a date"),
    "a day that there is not": ({"planted": "2023-02-29"}, "'2023-02-29' is not a date"),
    "a number for a date": ({"planted": 19782}, "19782 is not a date"),
    "a number for a moment": ({"picked": 1719826200000}, "1719826200000 is not a moment"),
    "a list for a moment": ({"picked": [2024, 7, 1]}, r"\[2024, 7, 1\] is not a moment"),
    "a word for a moment": ({"picked": "today"}, "'today' is not a moment"),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
class TestTheSameRefusals:
    """With row and column, and as the client's mistake; never another value, and never an error of the server."""

    def test_in_python(self, model: PyFuncModel, change: dict[str, Any], reason: str) -> None:
        frame = pd.DataFrame([ROW, {**ROW, **change}], dtype=object)
        with pytest.raises(MlflowException, match=f"row 1, column '{next(iter(change))}': {reason}") as refusal:
            model.predict(frame)
        assert refusal.value.get_http_status_code() == 400

    def test_over_rest(self, server: ScoringServer, change: dict[str, Any], reason: str) -> None:
        for body in bodies([{**ROW, **change}]).values():
            response = server.answer(body)
            assert response.status_code == 400
            assert f"row 0, column '{next(iter(change))}': {reason}".replace("\\", "") in response.json()["message"]


class TestColumns:
    def test_one_that_is_absent_is_refused_by_name(self, server: ScoringServer, model: PyFuncModel) -> None:
        rows = [{name: value for name, value in ROW.items() if name != "color"}]
        with pytest.raises(MlflowException, match=r"missing inputs \['color'\]"):
            model.predict(pd.DataFrame(rows))
        with pytest.raises(MlflowException, match="the columns color are missing"):
            sensitive_model().predict(None, pd.DataFrame(rows))
        for form in ("records", "inputs, by row", "instances"):
            body = {key: as_json(rows) for key in bodies([ROW])[form]}
            response = server.answer(body)
            assert response.status_code == 400
            told = "missing inputs ['color']" if server.is_mlflows else "the columns color are missing"
            assert told in response.json()["message"]

    def test_an_optional_one_that_is_absent_is_missing_in_all_rows(
        self, server: ScoringServer, model: PyFuncModel
    ) -> None:
        rows = [{name: value for name, value in ROW.items() if name != "note"}]
        expected = inferred([{**ROW, "note": None}])
        assert expected != inferred([ROW])
        assert answers(model, pd.DataFrame(rows)) == expected
        assert server.predict({"dataframe_records": as_json(rows)}) == expected
        added = add_predictions(table(rows).drop_columns("note"), sensitive_model())
        assert added["probability"].to_pylist() == [row["probability"] for row in expected]

    def test_csv_which_has_no_types_is_refused_by_mlflow_and_read_by_the_models_types(
        self, server: ScoringServer
    ) -> None:
        response = server.answer(pd.DataFrame([ROW]).to_csv(index=False), CSV)
        assert response.status_code == (400 if server.is_mlflows else 200)


def test_texts_that_training_did_not_have_are_logged_and_do_not_fill_the_log(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(str(folder))
    for _ in range(25):
        model.predict(pd.DataFrame([{**ROW, "color": "green"}, {**ROW, "color": None}, ROW]))
    told = [record.getMessage() for record in caplog.records if "training" in record.getMessage()]
    assert told == [
        f"column 'color': {count} values so far were not seen in training, such as 'green'; each counts as missing"
        for count in (1, 10)
    ]


def test_a_server_logs_texts_that_training_did_not_have(server: ScoringServer) -> None:
    server.predict({"dataframe_records": as_json([{**ROW, "color": "a color of its own"}])})
    assert "values so far were not seen in training" in server.log.read_text(encoding="utf-8")


def test_the_types_of_the_features_are_in_the_models_metadata(model: PyFuncModel) -> None:
    types = {
        **{"petal_length": "double", "petals": "long", "wild": "boolean", "color": "string"},
        **{"garden": "long", "planted": "date", "picked": "timestamp", "note": "string"},
    }
    assert model.metadata.metadata == {"input_types": types}
