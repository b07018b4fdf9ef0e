"""Importances, worst rows and calibration, compared with XGBoost's and scikit-learn's own answers."""

import numpy as np
import pandas as pd
import pytest
import xgboost
from small import fit, flower_parts, flowers, flowers_config, flowers_model

from steps.core import config
from steps.core.models import explanations, scorer, split


def raw_output(model: scorer.Scorer, rows: pd.DataFrame) -> np.ndarray:
    matrix = xgboost.DMatrix(
        scorer.design_matrix(rows, model.schema.features),
        feature_names=model.booster.feature_names,
        feature_types=model.booster.feature_types,
        enable_categorical=True,
    )
    return np.asarray(model.booster.predict(matrix, output_margin=True))


def regression() -> tuple[scorer.Scorer, pd.DataFrame]:
    columns = {"petal_length": {"type": "double"}, "color": {"type": "string"}, "petals": {"type": "long"}}
    settings = config.Config.model_validate(
        {"name": "r", "source": {"uri": "x"}, "columns": columns, "target": "petals", "task": "regression",
         "model": {"name": "m", "num_boost_round": 20}}
    )  # fmt: skip
    rows = flowers().assign(petals=lambda frame: (frame["petal_length"].fillna(0) * 3).astype(int))
    parts = split.split(rows[list(columns)], split.settings_of(settings))
    return fit(settings, parts), parts.test


def test_contributions_of_categories_too_sum_to_what_the_booster_says() -> None:
    """The property that defines SHAP values, with missing values and texts among the features."""
    for model, rows in ((flowers_model(), flower_parts().test), regression()):
        values = explanations.contributions(model.booster, model.schema, rows)
        np.testing.assert_allclose(values.sum(axis=-1), raw_output(model, rows), atol=1e-4)


def test_importances_are_shares_and_the_largest_is_what_decides() -> None:
    model = flowers_model()
    found = explanations.importances(model.booster, model.schema, flower_parts().test)
    assert [one.feature for one in found[:2]] == ["petal_length", "color"]
    assert {one.feature for one in found} == {"petal_length", "petals", "wild", "color"}
    assert sum(one.gain for one in found) == pytest.approx(1)
    assert sum(one.contribution for one in found) == pytest.approx(1)


def test_however_many_rows_there_are_only_some_are_explained() -> None:
    model, rows = flowers_model(), flowers(3000)
    assert len(explanations.contributions(model.booster, model.schema, rows)) == explanations.EXPLAINED_ROWS


def test_the_worst_rows_are_those_with_the_largest_loss_the_worst_first() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"id": [f"r{i}" for i in range(50)], "x": random.random(50)})
    rows.loc[3, "x"] = np.nan
    losses = random.permutation(50).astype(float)
    losses[3] = 99
    found = explanations.worst_rows(rows, losses, truth=["a"] * 50, predicted=["b"] * 50, columns=["id", "x"])
    assert [one.loss for one in found] == sorted(losses, reverse=True)[:10]
    assert [one.values["id"] for one in found] == [f"r{i}" for i in np.argsort(-losses)[:10]]
    assert found[0].values["x"] == "–"


def test_the_config_knows_the_columns_of_its_slices() -> None:
    assert flowers_config(gate={"slices": ["color"]}).gate.slices == ("color",)
    with pytest.raises(ValueError, match="gate.slices: 'colour' is not under columns"):
        flowers_config(gate={"slices": ["colour"]})
