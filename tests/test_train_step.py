"""The step `train` on tables of every type, with the steps after it; and what it refuses, after which nothing is there.

Without Spark: the tables are written by deltalake.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient
from place import new_database
from small import sqlite, tracked, without_artifact_check

from steps import evaluate, infer, train
from steps.core.models import aliases, registry

NAME = "visits_model"
KINDS: dict[str, tuple[dict[str, Any], pa.DataType]] = {
    "amount": ({"type": "double"}, pa.float64()),
    "age": ({"type": "long"}, pa.int64()),
    "member": ({"type": "boolean"}, pa.bool_()),
    "city": ({"type": "string"}, pa.string()),
    "shop": ({"type": "int", "categorical": True}, pa.int32()),
    "since": ({"type": "date"}, pa.date32()),
    "at": ({"type": "timestamp"}, pa.timestamp("us", "UTC")),
    "note": ({"type": "string", "nullable": True}, pa.string()),
    "times": ({"type": "double"}, pa.float64()),
}


def visits(rows: int = 600, *, seed: int = 1) -> pd.DataFrame:
    """Visits to shops, with missing values; whether someone bought, and what was paid, follow from most columns."""
    random = np.random.default_rng(seed)
    day = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
    frame = pd.DataFrame(
        {
            "amount": random.normal(0, 1, rows),
            "age": random.integers(20, 90, rows),
            "member": random.random(rows) < 0.5,
            "city": random.choice(["Bonn", "Kiel", "Ulm"], rows),
            "shop": random.choice([31, 77, 90210], rows),
            "since": [(day + dt.timedelta(days=int(days))).date() for days in random.integers(0, 900, rows)],
            "at": [day + dt.timedelta(minutes=int(minutes)) for minutes in random.integers(0, 10**6, rows)],
            "note": random.choice(["gift", "return"], rows),
            "times": random.integers(1, 4, rows).astype(float),
        }
    ).astype(object)
    score = frame["amount"] + (frame["shop"] == 77) + frame["member"] + [at.hour >= 12 for at in frame["at"]]
    frame["bought"] = np.where(score.astype(float) > 1.5, "yes", "no")
    frame["paid"] = np.exp(score.astype(float) + random.normal(0, 0.1, rows))
    for name in frame.columns.difference(["bought", "paid", "times"]):
        frame[name] = frame[name].mask(random.random(rows) < 0.1, None)
    return frame


def stored(frame: pd.DataFrame, **kinds: pa.DataType) -> pa.Table:
    fields = {**{name: kind for name, (_, kind) in KINDS.items()}, "bought": pa.string(), "paid": pa.float64(), **kinds}
    return pa.table({name: pa.array(frame[name].tolist(), fields[name], from_pandas=True) for name in frame})


def settings(target: str, kind: str, **changes: Any) -> dict[str, Any]:
    model = {"name": NAME, "num_boost_round": 20, "max_depth": 3, **changes.pop("model", {})}
    columns = {**{name: keys for name, (keys, _) in KINDS.items()}, target: {"type": kind}}
    task = "classification" if kind in ("string", "boolean", "int", "long") else "regression"
    rest = {"source": {"uri": "visits.csv"}, "weight": "times", "model": model}
    return {"name": "visits", "columns": columns, "target": target, "task": task, **rest, **changes}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite(tmp_path))
    without_artifact_check(monkeypatch, tmp_path)
    with tracked(new_database(tmp_path)):
        yield tmp_path


def write(home: Path, table: pa.Table, config: dict[str, Any]) -> None:
    write_deltalake(str(home / "lake" / "visits"), table, mode="overwrite", schema_mode="overwrite")
    (home / "visits.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def newest_run() -> mlflow.entities.Run:
    return MlflowClient().search_runs(["0"], order_by=["attributes.start_time DESC"])[0]


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "two classes, weighted": ("bought", "string", {"model": {"class_weights": "balanced"}}),
    "counts of a log target": ("paid", "double", {"model": {"target_transform": "log", "params": {"max_bin": 64}}}),
    "gamma": ("paid", "double", {"model": {"objective": "reg:gamma", "subsample": 0.8, "seed": 4}}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_trained_is_judged_and_infer_and_python_answer_alike(
    home: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, kind, changes = CASES[case]
    rows = visits().drop(columns="paid" if target == "bought" else "bought")
    write(home, stored(rows), settings(target, kind, **changes))
    train.main(["--config=visits.yaml"])
    parameters = newest_run().data.params
    assert parameters["model.num_boost_round"] == "20"
    assert {f"model.{key}" for key in changes["model"] if key != "params"} <= set(parameters)
    assert ("model.params.max_bin" in parameters) == ("params" in changes["model"])
    evaluate.main(["--config=visits.yaml"])
    assert newest_run().data.tags["output.verdict"] == "pass"
    infer.main(["--config=visits.yaml"])
    predicted = DeltaTable(str(home / "lake" / "visits_predictions")).to_pyarrow_table()
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@staging")
    answered = model.predict(rows.drop(columns=[target, "times"]))
    assert predicted["age"].to_pylist() == [None if pd.isna(age) else age for age in rows["age"]]
    assert answered["prediction"].tolist() == predicted["prediction"].to_pylist()
    assert answered["prediction"].nunique() > 1
    assert "note" in model.metadata.signature.inputs.optional_input_names()
    assert "times" not in model.metadata.signature.inputs.input_names()


def test_a_table_that_lacks_an_optional_column_is_predicted_and_one_that_lacks_another_is_not(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = stored(visits().drop(columns="paid"))
    write(home, table, settings("bought", "string"))
    train.main(["--config=visits.yaml"])
    aliases.move_alias(registry.resolve(f"models:/{NAME}/1"), aliases.STAGING, how="promote")
    write(home, table.drop_columns(["note", "bought", "times"]), settings("bought", "string"))
    infer.main(["--config=visits.yaml"])
    predicted = DeltaTable(str(home / "lake" / "visits_predictions")).to_pyarrow_table()
    answered = mlflow.pyfunc.load_model(f"models:/{NAME}/1").predict(visits().assign(note=None))
    assert sorted(predicted["probability"].to_pylist()) == sorted(answered["probability"])
    write(home, table.drop_columns(["note", "since", "shop"]), settings("bought", "string"))
    with pytest.raises(SystemExit, match="^1$"):
        infer.main(["--config=visits.yaml"])
    told = capsys.readouterr().err
    assert "has no column 'shop', which the model needs" in told
    assert "has no column 'since', which the model needs" in told
    assert "'note'" not in told


def test_numbers_that_float32_rounds_are_told_once_and_codes_are_not(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = visits().drop(columns="paid")
    large = rows.assign(age=[2**24 + 1] * len(rows), shop=[2**40 + number % 3 for number in range(len(rows))])
    config = settings("bought", "string")
    config["columns"]["shop"]["type"] = "long"
    write(home, stored(large, shop=pa.int64()), config)
    train.main(["--config=visits.yaml"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "its float32" in line]
    assert line.startswith("train: age: the model rounds 600 whole numbers, as its float32 holds them up to 2^24")
    assert "float32" in newest_run().data.tags["remarks"]


NOTHING = {name: pa.nulls(600, kind) for name, (_, kind) in KINDS.items() if name != "times"}
REFUSED: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], str]] = {
    "one class": ("bought", "string", {}, {"bought": ["yes"] * 600}, "bought has one value (yes) in its train part"),
    "as many classes as rows": (
        *("bought", "string", {}, {"bought": [f"y{number}" for number in range(600)]}),
        "fewer than two rows a class",
    ),
    "no target at all": ("bought", "string", {}, {"bought": [None] * 600}, "its train part has no labelled row"),
    "a constant target": ("paid", "double", {}, {"paid": [2.5] * 600}, "paid has one value (2.5) in its train part"),
    "an infinite target": (
        *("paid", "double", {}, {"paid": [float("inf"), *map(float, range(599))]}),
        "paid is inf in its",
    ),
    "a negative count": (
        *("paid", "double", {"objective": "count:poisson"}, {"paid": [-1.0, *map(float, range(599))]}),
        "`objective: count:poisson` takes targets 0 or more",
    ),
    "all features missing": ("bought", "string", {}, NOTHING, "all values of all features are missing in "),
    "a parameter of no use": (
        *("bought", "string", {"params": {"max_depht": 3}}, {}),
        "config visits.yaml: model.params: XGBoost has no use for 'max_depht' with binary:logistic (did you mean",
    ),
    "a weight that is missing": ("bought", "string", {}, {"times": [None] * 600}, "the weight times is missing in its"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learnt_is_one_message_and_no_version(
    home: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, kind, model, values, message = REFUSED[case]
    table = stored(visits().drop(columns="paid" if target == "bought" else "bought"))
    for name, column in values.items():
        position, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(
            position, field, column if isinstance(column, pa.Array) else pa.array(column, field.type)
        )
    write(home, table, settings(target, kind, model=model))
    with pytest.raises(SystemExit, match="^1$"):
        train.main(["--config=visits.yaml"])
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert MlflowClient().search_registered_models() == []


def test_rows_without_a_target_are_left_out_and_counted(home: Path) -> None:
    rows = visits().drop(columns="bought")
    write(home, stored(rows.assign(paid=rows["paid"].where(rows.index % 10 > 0))), settings("paid", "double"))
    train.main(["--config=visits.yaml"])
    metrics = newest_run().data.metrics
    assert metrics["unlabelled_rows"] == 60
    assert metrics["train_rows"] + metrics["validation_rows"] + metrics["test_rows"] == 540


def test_rows_without_the_time_that_parts_them_are_trained_on_and_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = visits().drop(columns="bought")
    write(home, stored(rows), settings("paid", "double", split={"time": "since"}))
    train.main(["--config=visits.yaml"])
    assert f"train: {rows['since'].isna().sum()} rows have no since, and are trained on" in capsys.readouterr().err


def test_a_model_of_the_newest_rows_learns_and_is_judged_on_these_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people bought was turned round in the last year, so a model of all rows is wrong there."""
    rows = visits(2000).drop(columns="paid")
    since = dt.datetime(2024, 9, 1, tzinfo=dt.UTC)
    rows["at"] = [at if not pd.isna(at) else since - dt.timedelta(days=1) for at in rows["at"]]
    is_new = rows["at"] >= since
    turned = rows["bought"].map({"yes": "no", "no": "yes"})
    days = (rows["at"].max() - since) / dt.timedelta(days=1)
    window = {"split": {"columns": ["age", "amount"], "window": {"column": "at", "days": days}}}
    write(
        home, stored(rows.assign(bought=turned.where(is_new, rows["bought"]))), settings("bought", "string", **window)
    )
    train.main(["--config=visits.yaml", "--train_on=window"])
    metrics = newest_run().data.metrics
    assert metrics["rows_outside_window"] == (~is_new).sum()
    assert sum(metrics[f"{part}_rows"] for part in ("train", "validation", "test")) == is_new.sum()
    assert f"{(~is_new).sum():,} rows are left out, whose at is before 2024-09-01 or missing" in capsys.readouterr().err
    evaluate.main(["--config=visits.yaml"])
    assert newest_run().data.tags["output.verdict"] == "pass"
    assert newest_run().data.metrics["accuracy"] > 0.7
    train.main(["--config=visits.yaml"])
    evaluate.main(["--config=visits.yaml"])
    judged = newest_run()
    assert judged.data.tags["input.model"].endswith("/2")
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/2")
    answered = model.predict(rows[is_new].drop(columns=["bought", "times"]))
    assert (answered["prediction"] == rows.loc[is_new, "bought"]).mean() < 0.5
