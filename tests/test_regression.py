"""A regression through the entry points, on the shipped config."""

from pathlib import Path

import pytest
import sklearn.metrics
from deltalake import DeltaTable
from place import Place

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
