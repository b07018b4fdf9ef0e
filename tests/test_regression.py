"""A regression through the entry points, on the shipped config."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import yaml
from deltalake import DeltaTable
from place import PROJECT, Place

from steps.core import config
from steps.core.models import split

pytestmark = pytest.mark.spark
SETTINGS = config.load("configs/diabetes.yaml", home=Path("/"))


def test_the_shipped_regression_goes_from_its_source_to_predictions(place: Place) -> None:
    """Its RMSE is that of scikit-learn on the predictions table, over the rows of the test part."""
    for step in ("ingest", "train", "evaluate", "infer"):
        ended = place.step(step, config="configs/diabetes.yaml")
        assert ended.exit_code == 0, ended.text
    run = next(run for run in place.runs() if run.info.run_name == "evaluate")
    predicted = DeltaTable(place.lake("diabetes_predictions")).to_pandas()
    assert {"probability", "probabilities"}.isdisjoint(predicted.columns)
    assert len(predicted) == 442
    test = predicted[split.parts(predicted, split.settings_of(SETTINGS)) == "test"]
    expected = sklearn.metrics.root_mean_squared_error(test["target"], test["prediction"])
    assert run.data.metrics["rmse"] == pytest.approx(expected)
    assert run.data.metrics["r2"] == pytest.approx(sklearn.metrics.r2_score(test["target"], test["prediction"]))
    pictures = {file.path for file in place.client.list_artifacts(run.info.run_id)}
    assert {"predicted_against_true.png", "residuals.png", "report.html"} <= pictures


def test_a_model_of_a_quantile_passes_the_gate_by_the_loss_of_that_quantile(place: Place) -> None:
    """Its loss is scikit-learn's on the predictions table; by R2 it would be worse than the mean."""
    settings = yaml.safe_load((PROJECT / "configs" / "diabetes.yaml").read_text(encoding="utf-8"))
    learnt = {"name": "diabetes_high", "objective": "reg:quantileerror", "quantile": 0.9}
    path = place.folder / "high.yaml"
    path.write_text(yaml.safe_dump({**settings, "name": "high", "model": {**settings["model"], **learnt}, "gate": {}}))
    for step in ("ingest", "train", "evaluate", "infer"):
        ended = place.step(step, config=path.name)
        assert ended.exit_code == 0, ended.text
    run = next(run for run in place.runs() if run.info.run_name == "evaluate")
    assert run.data.tags["output.verdict"] == "pass", run.data.tags
    predicted = DeltaTable(place.lake("high_predictions")).to_pandas()
    parts = split.parts(predicted, split.settings_of(SETTINGS))
    test, train = predicted[parts == "test"], predicted[parts == "train"]
    loss = sklearn.metrics.mean_pinball_loss(test["target"], test["prediction"], alpha=0.9)
    assert run.data.metrics["pinball_loss_0.9"] == pytest.approx(loss)
    constant = np.full(len(test), np.quantile(train["target"], 0.9))
    baseline = sklearn.metrics.mean_pinball_loss(test["target"], constant, alpha=0.9)
    assert run.data.metrics["baseline_pinball_loss_0.9"] == pytest.approx(baseline)
