"""train and evaluate on a table that is split by time, through the entry points, as it grows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow import MlflowClient
from small import FLOWERS, flowers, flowers_home

from steps import evaluate, train
from steps.core.metrics import logged_label
from steps.core.models import registry
from steps.core.monitoring import gate_reference

NAME = "flowers_model"
COLUMNS = {**FLOWERS["columns"], "day": {"type": "date", "feature": False}}
CONFIG = {
    **FLOWERS,
    "columns": {**COLUMNS, "field": {"type": "string", "feature": False}},
    "split": {"time": "day"},
    "gate": {"slices": ["field", "petal_length"], "calibration_error_at_most": 0.5},
}


def write(folder: Path, rows: pd.DataFrame) -> None:
    days = pd.date_range("2024-01-01", periods=len(rows)).date
    table = rows.assign(day=days, field=[f"field {row % 2}" for row in range(len(rows))])
    write_deltalake(str(folder), pa.Table.from_pandas(table, preserve_index=False), mode="overwrite")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a table of 400 days, a version that was trained and judged on it, and then 100 days more."""
    folder = tmp_path_factory.mktemp("home")
    with flowers_home(folder, CONFIG):
        write(folder / "lake" / "flowers", flowers(400))
        train.main(["--config=flowers.yaml"])
        evaluate.main(["--config=flowers.yaml"])
        write(folder / "lake" / "flowers", flowers(500))
        yield folder


def judged(version: str) -> dict[str, str]:
    evaluate.main(["--config=flowers.yaml", f"--model=models:/{NAME}/{version}"])
    return dict(registry.resolve(f"models:/{NAME}/{version}").tags)


def test_the_times_at_which_the_parts_begin_are_kept_with_the_model(home: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{NAME}/1"))
    schema = json.loads((folder / "artifacts" / "schema.json").read_text())
    assert schema["format_version"] == 3  # earlier releases would not know which rows it was trained on
    assert schema["split"]["boundaries"] == [
        "2024-10-07T00:00:00.000000",
        "2024-11-16T00:00:00.000000",
    ]  # days 280 and 320


def test_a_version_is_judged_on_the_newest_rows_and_on_columns_that_it_does_not_see(home: Path) -> None:
    tags = registry.resolve(f"models:/{NAME}/1").tags
    assert tags["verdict"] == "pass"
    assert "the calibration error 0." in tags["verdict.reasons"]


def test_on_a_table_that_has_grown_all_that_is_newer_is_its_test_part(home: Path) -> None:
    """It was trained on none of these rows; and the next version is compared with it on those that are new to both."""
    assert judged("1")["verdict"] == "pass"
    runs = MlflowClient().search_runs(["0"], order_by=["attributes.start_time DESC"])
    report = mlflow.artifacts.load_text(f"runs:/{runs[0].info.run_id}/report.html")
    assert re.search(r">\s*180\s*<", report)  # of 500 days, from day 320 on
    train.main(["--config=flowers.yaml"])
    assert "of models:/flowers_model/1: " in judged("2")["verdict.reasons"]


def test_what_the_gate_saw_is_kept_for_those_who_watch_the_version(home: Path) -> None:
    reference = gate_reference.find(registry.resolve(f"models:/{NAME}/1"))
    assert reference is not None
    run = mlflow.get_run(registry.resolve(f"models:/{NAME}/1").tags["verdict.run_id"])
    assert reference.rows == int(registry.resolve(f"models:/{NAME}/1").tags["verdict.test_rows"])
    logged = {name: value for name, value in run.data.metrics.items() if name in reference.scores}
    assert {name: reference.scores[name] for name in logged} == pytest.approx(logged)
    assert {"f1_macro", "f1.setosa"} <= set(logged)
    assert reference.interval is not None
    assert reference.interval[0] <= reference.scores["f1_macro"] <= reference.interval[1]
    assert reference.predicted.sum() == reference.rows
    assert reference.confidence is not None
    assert reference.calibration is not None
    told = re.search(r"the calibration error (0\.\d+)", registry.resolve(f"models:/{NAME}/1").tags["verdict.reasons"])
    assert told
    assert reference.calibration.error == pytest.approx(float(told[1]), abs=1e-4)


def test_how_many_rows_of_the_test_part_belong_together_is_kept_and_how_alike_their_predictions_are(
    tmp_path: Path,
) -> None:
    """Of each field all flowers are of the length that decides their species."""
    rows = flowers(900)
    fields = np.arange(900) // 15
    rows["petal_length"] = rows["petal_length"].groupby(fields).transform("mean") * 3 - 8
    rows["species"] = np.where(rows["petal_length"] > 4, "virginica", "setosa")
    columns = {**FLOWERS["columns"], "field": {"type": "long", "feature": False}}
    with flowers_home(tmp_path, {**FLOWERS, "columns": columns, "split": {"group": "field", "test": 0.4}}):
        stored = pa.Table.from_pandas(rows.assign(field=fields), preserve_index=False)
        write_deltalake(str(tmp_path / "lake" / "flowers"), stored)
        train.main(["--config=flowers.yaml"])
        evaluate.main(["--config=flowers.yaml"])
        reference = gate_reference.find(registry.resolve(f"models:/{NAME}/1"))
    assert reference is not None
    assert reference.rows_together == 15
    assert reference.correlations["classes"] == pytest.approx(1, abs=0.05)
    assert set(reference.correlations) == {"classes", "confidence"}


def test_the_metrics_of_classes_whose_labels_look_alike_to_mlflow_are_told_apart(tmp_path: Path) -> None:
    gate = {"metric": "f1.>30", "limits": {"f1.<30": 0.0}, "slices": ["field"]}
    with flowers_home(tmp_path, {**CONFIG, "gate": gate}):
        table = flowers(400).replace({"species": {"setosa": ">30", "virginica": "<30"}})
        write(tmp_path / "lake" / "flowers", table)
        train.main(["--config=flowers.yaml"])
        evaluate.main(["--config=flowers.yaml"])
        version = registry.resolve(f"models:/{NAME}/1")
        logged = mlflow.get_run(version.tags["verdict.run_id"]).data.metrics
        told = dict(re.findall(r"(f1\.[<>]30) (\d\.\d{4})", version.tags["verdict.reasons"]))
        for label, count in table["species"][320:].value_counts().items():
            name = logged_label(str(label))
            assert logged[f"rows.{name}"] == count
            if label in ("<30", ">30"):
                assert f"{logged[f'f1.{name}']:.4f}" == told[f"f1.{label}"]
                assert f"baseline_f1.{name}" in logged
        reference = gate_reference.find(version)
        assert reference is not None
        assert reference.seen()[reference.metric][0] == logged[f"f1.{logged_label('>30')}"]
        assert sum(reference.rows_of_class.values()) == reference.rows
