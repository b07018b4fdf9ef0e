"""The config: what a YAML file may say, and every mistake in it at once, with the key and the nearest right name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import FLOWERS, flowers_config

from steps.core import config
from steps.core.errors import ConfigInvalid, ConfigNotFound


def write(folder: Path, text: str, name: str = "flowers.yaml") -> None:
    (folder / name).write_text(text, encoding="utf-8")


def load(folder: Path, **changes: Any) -> config.Config:
    """The flowers' config with changes, through a file: None takes a key away."""
    keys = {name: value for name, value in {**FLOWERS, **changes}.items() if value is not None}
    write(folder, yaml.safe_dump(keys, sort_keys=False))
    return config.load("flowers.yaml", home=folder)


def columns(**changes: Any) -> dict[str, Any]:
    return {**FLOWERS["columns"], **changes}


def test_the_shipped_config_says_what_its_comments_promise() -> None:
    iris = config.load("configs/iris.yaml", home=Path("/"))
    assert iris.name == "iris"
    assert iris.features == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert iris.columns["petal_width"].source == "petal width (cm)"
    assert iris.columns["species"].allowed == ("setosa", "versicolor", "virginica")
    assert iris.model == config.Model(
        name="iris_xgboost_classifier",
        num_boost_round=200,
        max_depth=4,
        learning_rate=0.1,
        early_stopping_rounds=20,
        seed=7,
    )
    assert iris.gate == config.Gate(
        metric="f1_macro", at_least=0.85, min_gain_over_baseline=0.05, max_drop_below_champion=0.01
    )


def test_what_is_left_out_has_its_documented_default(tmp_path: Path) -> None:
    loaded = load(tmp_path, model={"name": "m"})
    assert (loaded.split.test, loaded.split.validation, loaded.split.group) == (0.2, 0.1, None)
    assert (loaded.gate.metric, loaded.gate.at_least, loaded.key) == ("f1_macro", None, ())
    assert (loaded.model.num_boost_round, loaded.model.seed) == (200, 0)


def test_a_relative_path_starts_where_the_command_was_given_then_in_the_project(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    write(tmp_path, yaml.safe_dump({**FLOWERS, "name": "mine"}), "configs/iris.yaml")
    assert config.load("configs/iris.yaml", home=tmp_path).name == "mine"
    assert config.load("configs/iris.yaml", home=tmp_path / "configs").name == "iris"


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    load(tmp_path)
    assert config.load(str(tmp_path / "flowers.yaml"), home=Path("/")).name == "flowers"


@pytest.mark.parametrize("path", ["nope.yaml", "", "."])
def test_a_path_that_is_no_file_is_told_with_the_places_that_were_looked_at(path: str, tmp_path: Path) -> None:
    wanted = f"config {path!r} is not a file\n.*looked for in {tmp_path} and {config.PROJECT}\n"
    with pytest.raises(ConfigNotFound, match=wanted):
        config.load(path, home=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"columns": columns(petals={"type": "long", "required": True})},
            "columns.petals.required is `nullable: false` now",
        ),
        ({"modell": {}}, "modell is not a key (did you mean 'model'?)"),
        ({"gate": {"at_last": 0.5}}, "gate.at_last is not a key (did you mean 'at_least'?)"),
        ({"columns": columns(petals={"typ": "long"})}, "columns.petals.typ is not a key (did you mean 'type'?)"),
        ({"columns": columns(petals={"typ": "long"})}, "columns.petals.type is missing"),
        (  # a column may be called like a key of the config: below it are the keys of a column
            {"columns": columns(source={"type": "long", "sourc": "a"})},
            "columns.source.sourc is not a key (did you mean 'source'?)",
        ),
        ({"target": None}, "target is missing"),
        ({"target": "specis"}, "target: 'specis' is not under columns (did you mean 'species'?)"),
        ({"key": ["petals", "species"]}, "key: the target 'species' tells no rows apart, as rows to predict have none"),
        ({"key": ["petal"]}, "key: 'petal' is not under columns (did you mean 'petals'?)"),
        ({"split": {"group": "colour"}}, "split.group: 'colour' is not under columns (did you mean 'color'?)"),
        ({"target": "petal_length"}, "target: 'petal_length' is double; a class is string, int, long or boolean"),
        ({"split": {"time": "color"}}, "split.time: 'color' is no date or timestamp"),
        ({"split": {"columns": ["colour"]}}, "split.columns: 'colour' is not under columns (did you mean 'color'?)"),
        ({"split": {"columns": ["species"]}}, "split: the target 'species' cannot decide a row's part"),
        ({"split": {"group": "color", "columns": ["petals"]}}, "split: group and columns given; one of them decides"),
        ({"split": {"folds": 1}}, "split.folds: 1 given, input should be greater than or equal to 2"),
        ({"gate": {"slices": ["colour"]}}, "gate.slices: 'colour' is not under columns (did you mean 'color'?)"),
        ({"gate": {"calibration_error_at_most": 2}}, "gate.calibration_error_at_most: 2 given, input should be less"),
        ({"monitor": {"quality": {"metrics": ["r2"]}}}, "monitor.quality.metrics: 'r2' is not of a classification"),
        ({"monitor": {"quality": {"drop": {"warn": 0.2, "alert": 0.1}}}}, "monitor.quality.drop: warn 0.2 is above"),
        ({"monitor": {"quality": {"calibration_error_at_most": 1}}}, "monitor.quality.calibration_error_at_most: 1 "),
        ({"split": {"test": 1}}, "split.test: 1 given, input should be less than 1"),
        ({"split": {"test": 0.6, "validation": 0.4}}, "split: test 0.6 and validation 0.4 leave nothing to train on"),
        (
            {"model": {"name": "m", "num_boost_round": 0}},
            "model.num_boost_round: 0 given, input should be greater than or equal to 1",
        ),
        ({"model": {"name": "team/iris"}}, "model.name: 'team/iris' given; a model's name is not empty"),
        ({"model": {"name": "iris@home"}}, "model.name: 'iris@home' given; a model's name is not empty"),
        ({"model": {"name": "iris:2"}}, "model.name: 'iris:2' given; a model's name is not empty"),
        (
            {"gate": {"metric": "f1"}},
            "gate.metric: 'f1' given; the metrics are accuracy, balanced_accuracy, f1_macro, precision_macro, ",
        ),
        ({"gate": {"max_drop_below_champion": -0.1}}, "gate.max_drop_below_champion: -0.1 given"),
        ({"gate": {"metric": "f1"}}, "(did you mean 'f1_macro'?)"),
        (
            {"gate": {"metric": "f2.setosa"}},
            "one of a class such as recall.<class> (precision, recall, f1, roc_auc, av",
        ),
        (
            {"gate": {"limits": {"recall.setosa": 85}}},
            "limits.recall.setosa: 85 given; recall.setosa is at least 0 and",
        ),
        ({"gate": {"limits": {"f1_macro": 0.5}}}, "limits: f1_macro is the gate's metric, whose limit is at_least"),
        ({"gate": {"limits": {"recal.setosa": 0.5}}}, "'recal.setosa' given; the metrics are accuracy, balanced_accur"),
        ({"gate": {"limits": {"rmse": 0.5}}}, "gate.limits: 'rmse' is not of a classification, whose metrics are accu"),
        ({"gate": {"metric": "recall.setosa", "at_least": 85}}, "85 given; recall.setosa is at least 0 and at most 1"),
        ({"source": "flowers.csv"}, "source: 'flowers.csv' given; it has the keys uri, format, "),
        ({"gate": 0.8}, "gate: 0.8 given; it has the keys metric, at_least, "),
        ({"gate": {"slices": ["species"]}}, "gate.slices: by the target 'species' each slice has one class alone"),
        ({"gate": {"at_least": 85}}, "gate: at_least: 85 given; f1_macro is at least 0 and at most 1"),
        ({"gate": {"at_least": -0.1}}, "gate: at_least: -0.1 given; f1_macro is at least 0 and"),
        ({"gate": {"metric": "log_loss", "at_least": -1}}, "gate: at_least: -1 given; log_loss is at least 0"),
        ({"gate": {"metric": "brier", "at_least": 15}}, "gate: at_least: 15 given; brier is at least 0 and at most 2"),
        (
            {"gate": {"at_least": 85, "min_gain_over_baseline": 5, "max_drop_in_slice": 3}},
            "at most 1; min_gain_over_baseline: 5, max_drop_in_slice: 3 given; two versions differ by at most 1",
        ),
        (
            {"gate": {"min_gain_over_baseline": 5}},
            "min_gain_over_baseline: 5 given; two versions differ by at most 1 in",
        ),
        (
            {"gate": {"max_drop_below_champion": 2}},
            "max_drop_below_champion: 2 given; two versions differ by at most 1",
        ),
        (
            {"gate": {"max_drop_in_slice": 5}},
            "gate: max_drop_in_slice: 5 given; two versions differ by at most 1 in f1_",
        ),
        ({"gate": {"at_least": float("nan")}}, "gate.at_least: nan given, input should be a finite number"),
        ({"name": "my-flowers"}, "name: 'my-flowers' given; a name has letters from a to z"),
        ({"name": "a" * 201}, "aaa' has 201 letters; a table's name has at most 200"),
        ({"model": {"name": "a" * 257}}, "aaa' given, string should have at most 256 characters"),
        ({"source": {"uri": ""}}, "source.uri: '' given, string should have at least 1 character"),
        ({"name": "iris_predictions"}, "name: 'iris_predictions' ends in _predictions, as tables beside those of"),
        ({"name": "a_rejects"}, "name: 'a_rejects' ends in _rejects, as tables beside those of another config do"),
        ({"task": "ranking"}, "task: 'ranking' given, input should be 'classification' or 'regression'"),
        ({"columns": {"species": {"type": "string"}}}, "columns: "),
        ({"columns": columns(**{"petal width": {"type": "double"}})}, "columns.petal width: "),
        ({"columns": columns(Color={"type": "string"})}, "columns: two columns differ only by case"),
        ({"columns": columns(Prediction={"type": "double"})}, "Prediction: the predictions table has columns of these"),
        ({"columns": columns(color={"type": "string", "min": 0})}, "columns.color: min and max are for columns of"),
        ({"weight": "petalz"}, "weight: 'petalz' is not under columns (did you mean 'petals'?)"),
        ({"weight": "color"}, "weight: 'color' is string; a row's weight is a number"),
        ({"weight": "petals", "key": ["petals"]}, "weight: 'petals' is the target, the key or the group as well"),
        (
            {"columns": columns(wild={"type": "boolean", "categorical": True})},
            "columns.wild: categorical is for columns of type int, long, string, not boolean",
        ),
        (
            {"columns": columns(day={"type": "date", "feature": False, "allowed": ["2020-01-01"]})},
            "columns.day: allowed is not for columns of type date",
        ),
        (
            {"columns": {"a": {"type": "long", "feature": False}, "species": {"type": "string"}}},
            "columns: none is left as a feature",
        ),
    ],
)
def test_a_mistake_is_told_with_its_key(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(message)):
        load(tmp_path, **changes)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="flowers.yaml") as caught:
        load(tmp_path, target=None, modle={}, gate={"metric": "f1"}, split={"test": 2})
    assert re.findall(r"    - ([\w.]+)", str(caught.value)) == ["target", "split.test", "gate.metric", "modle"]


def test_all_names_that_do_not_fit_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="'specis' is not under columns") as caught:
        load(tmp_path, target="specis", key=["petal"], split={"group": "colour"})
    assert re.findall(r"    - ([\w.]+)", str(caught.value)) == ["target", "key", "split.group"]
    with pytest.raises(ConfigInvalid, match="'color' is no date or timestamp") as caught:
        load(tmp_path, gate={"metric": "rmse"}, split={"time": "color"}, weight="color")
    assert re.findall(r"    - ([\w.]+)", str(caught.value)) == ["gate.metric", "split.time", "weight"]


def test_each_key_by_its_old_name_is_told_at_once_with_the_new_one(tmp_path: Path) -> None:
    """A line a key, beside the other mistakes."""
    with pytest.raises(ConfigInvalid, match="flowers.yaml") as caught:
        load(
            tmp_path,
            model={"name": "m", "rounds": 20, "max_dept": 3},
            gate={"over_baseline": 0.1, "below_champion": 0.2},
        )
    assert re.findall(r"    - (.*)", str(caught.value)) == [
        "model.rounds was renamed to 'num_boost_round'",
        "model.max_dept is not a key (did you mean 'max_depth'?)",
        "gate.over_baseline was renamed to 'min_gain_over_baseline'",
        "gate.below_champion was renamed to 'max_drop_below_champion'",
    ]


def test_a_column_may_be_called_like_an_old_key(tmp_path: Path) -> None:
    assert "rounds" in load(tmp_path, columns=columns(rounds={"type": "long"})).features


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not YAML: "),
        ("name: flowers\nname: iris\n", r"is not YAML: name given twice\n(.|\n)*line 2, column 1"),
        ("columns: {a: {type: long}, a: {type: double}}", "is not YAML: a given twice"),
        (
            "columns: {a: {type: date, max: 2024-02-30}}",
            "'2024-02-30' cannot be read: day is out of range(.|\n)*line 1",
        ),
        ("name: !!int few", r"'few' cannot be read: (.|\n)*line 1, column 7"),
        ("name: !!bool perhaps", r"'perhaps' cannot be read: (.|\n)*line 1, column 7"),
        ("", "config flowers.yaml: is empty"),
        ("name: " + "[" * 3000, "is not YAML: maximum recursion depth"),
        ("- name", "holds list, not a mapping of keys"),
        ("name: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
        ("{[a]: 1}", "is not YAML: "),
    ],
)
def test_a_file_that_is_no_mapping_of_keys_is_refused(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigInvalid, match=message):
        config.load("flowers.yaml", home=tmp_path)


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flowers.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigInvalid, match="is not YAML: 'utf-8' codec"):
        config.load("flowers.yaml", home=tmp_path)


def test_features_are_all_columns_but_target_key_group_and_those_that_say_no(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        columns=columns(id={"type": "long"}, day={"type": "date", "feature": False}, field={"type": "string"}),
        key=["id"],
        split={"group": "field"},
    )
    assert loaded.features == ["petal_length", "petals", "wild", "color"]
    assert loaded.training_columns == ["petal_length", "petals", "wild", "color", "species", "field"]


def test_a_weight_is_no_feature_and_is_not_needed_where_rows_are_only_predicted(tmp_path: Path) -> None:
    loaded = load(tmp_path, columns=columns(times_seen={"type": "int"}), weight="times_seen")
    assert loaded.features == ["petal_length", "petals", "wild", "color"]
    assert loaded.training_columns == ["petal_length", "petals", "wild", "color", "species", "times_seen"]
    assert "times_seen" in loaded.contract()
    assert list(loaded.contract(labelled=False)) == loaded.features


def test_a_config_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="Instance is frozen"):
        flowers_config().name = "other"  # type: ignore[misc]


def test_a_merge_key_joins_two_mappings_as_yaml_says(tmp_path: Path) -> None:
    text = yaml.safe_dump(FLOWERS, sort_keys=False)
    write(tmp_path, text.replace("  petals:\n    type: long", "  petals: &whole {type: long}\n  sepals: {<<: *whole}"))
    assert config.load("flowers.yaml", home=tmp_path).columns["sepals"].type == "long"


@pytest.mark.parametrize(
    "column", ["{type: string, allowed: [NO, SE]}", "{type: long, allowed: [a]}", "{type: string, allowed: [1, 2]}"]
)
def test_an_allowed_value_of_another_type_than_its_column_is_refused(column: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(FLOWERS, sort_keys=False)
    write(tmp_path, text.replace("columns:\n", f"columns:\n  country: {column}\n"))
    with pytest.raises(ConfigInvalid, match="columns.country"):
        config.load("flowers.yaml", home=tmp_path)


def test_a_minimum_above_the_maximum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"columns\.petals"):
        load(tmp_path, columns=columns(petals={"type": "long", "min": 5, "max": 1}))
