"""The `model` part of a config: what may be said together, and each mistake with its key."""

from typing import Any

import pytest
import yaml
from small import FLOWERS

from steps.core import config
from steps.core.config_model import NAMED, SET_BY_THE_PROJECT, Model
from steps.core.errors import ConfigInvalid

REGRESSION = {"task": "regression", "target": "petal_length"}


def parsed(model: dict[str, Any], **changes: Any) -> Model:
    """The model of the flowers' config, through YAML as a user writes it."""
    raw = {**FLOWERS, **changes, "model": {"name": "m", **model}}
    return config.parse(yaml.safe_dump(raw), path="flowers.yaml").model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"objective": "reg:gamma"}, r"model.objective: 'reg:gamma' is for `task: regression`, not classification"),
        ({"target_transform": "log"}, r"model.target_transform: 'log' is for `task: regression`, not classification"),
        ({"quantile": 0.9}, r"model.quantile: 0.9 is for `task: regression`, not classification"),
        ({"class_weights": {1: 2.0}}, r"model.class_weights: 1 is no string, which the target is"),
        ({"class_weights": {"setosa": 0}}, r"class_weights: 0 given for 'setosa'; a weight of a class is a number abo"),
        (
            {"class_weights": {"setosa": True}},
            r"class_weights: True given for 'setosa'; a weight of a class is a numbe",
        ),
        ({"class_weights": "balancd"}, r"yaml: model.class_weights: 'balancd' given; it is balanced, or a weight of"),
        (
            {"params": {"max_bin": [1]}},
            r"yaml: model.params: \[1\] given for 'max_bin', no number, text or truth value",
        ),
        ({"params": "max_bin"}, r"yaml: model.params: 'max_bin' given; they are names and values, such as"),
        ({"monotone": {"petal_lenght": "increasing"}}, r"'petal_lenght' is no feature \(did you mean 'petal_length'"),
        ({"monotone": {"species": "increasing"}}, r"model.monotone: 'species' is no feature"),
        ({"monotone": {"color": "decreasing"}}, r"model.monotone: 'color' is string; increasing and decreasing are"),
        ({"monotone": {"wild": "decreasing"}}, r"model.monotone: 'wild' is boolean; increasing and decreasing are"),
        ({"monotone": {"petals": "up"}}, r"model.monotone.petals: 'up' given, input should be 'increasing' or"),
        ({"subsample": 0}, r"model.subsample: 0 given, input should be greater than 0"),
        ({"colsample_bytree": 1.5}, r"model.colsample_bytree: 1.5 given, input should be less than or equal to 1"),
        ({"reg_lambda": -1}, r"model.reg_lambda: -1 given, input should be greater than or equal to 0"),
        ({"min_child_wieght": 1}, r"model.min_child_wieght is not a key \(did you mean 'min_child_weight'\?\)"),
        ({"params": {"eta": 0.1}}, r"model.params: 'eta' is model.learning_rate"),
        ({"params": {"alpha": 1, "nthread": 4}}, r"model.params: 'alpha' is model.reg_alpha, 'nthread' is set by"),
    ],
)
def test_what_does_not_fit_classes_is_told_with_its_key(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        parsed(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"class_weights": "balanced"}, r"model.class_weights: is for `task: classification`, not regression"),
        ({"objective": "reg:squared"}, r"model.objective: 'reg:squared' given, input should be 'reg:squarederror', "),
        ({"quantile": 0.9}, r"model.quantile: 0.9 is for `objective: reg:quantileerror`"),
        ({"quantile": 1, "objective": "reg:quantileerror"}, r"model.quantile: 1 given, input should be less than 1"),
        ({"target_transform": "log", "objective": "count:poisson"}, r"count:poisson learns the logarithm of the mean"),
    ],
)
def test_what_does_not_fit_a_regression_is_told_with_its_key(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        parsed(model, **REGRESSION)


def test_all_of_it_can_be_said_where_it_fits() -> None:
    of_classes = parsed({"class_weights": {"setosa": 2}, "params": {"max_bin": 64}})
    assert of_classes.class_weights == {"setosa": 2.0}
    assert of_classes.params == {"max_bin": 64}
    of_numbers = parsed({"objective": "reg:quantileerror", "quantile": 0.9, "target_transform": "log"}, **REGRESSION)
    assert (of_numbers.quantile, of_numbers.target_transform) == (0.9, "log")
    assert parsed({"monotone": {"petals": "increasing"}}, **REGRESSION).monotone == {"petals": "increasing"}


@pytest.mark.parametrize("label", [True, 7])
def test_weights_of_classes_are_by_labels_as_the_target_has_them(label: bool | int) -> None:
    kind = "boolean" if label is True else "long"
    columns = {**FLOWERS["columns"], "species": {"type": kind}}
    weights = parsed({"class_weights": {label: 3}}, columns=columns).class_weights
    assert isinstance(weights, dict)
    assert [(type(read), read) for read in weights] == [(type(label), label)]
    with pytest.raises(ConfigInvalid, match=f"model.class_weights: {label} is no string, which the target is"):
        parsed({"class_weights": {label: 3}})


def test_codes_have_no_direction() -> None:
    columns = {**FLOWERS["columns"], "petals": {"type": "long", "categorical": True}}
    with pytest.raises(ConfigInvalid, match="model.monotone: 'petals' is categories; increasing and decreasing are"):
        parsed({"monotone": {"petals": "increasing"}}, columns=columns)


def test_no_parameter_of_xgboost_can_be_given_twice() -> None:
    assert not set(NAMED) & set(SET_BY_THE_PROJECT)
    assert set(NAMED.values()) <= set(Model.model_fields)
