"""What becomes of the gate when the data or the config has changed since the champion was trained: never a dead end."""

import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from place import new_database
from small import FLOWERS, fit, flowers, flowers_config, judged_parts, loaded, tracked

from steps.core import config
from steps.core.models import aliases, evaluation_log, split
from steps.core.models.comparison import ENOUGH_ROWS
from steps.core.models.evaluation import Evaluation, evaluate
from steps.core.models.evaluation_report import report_of
from steps.core.models.loading import LoadedModel

COLUMNS: dict[str, Any] = FLOWERS["columns"]
CHAMPION, VERSION = "models:/flowers_model/1", "models:/flowers_model/2"
MANY, FEW = 1500, 400  # rows: of a fifth of which a fifth is enough to compare on, or not


def table(rows: int) -> pd.DataFrame:
    """Flowers with an id, a day, and what some changes of the config need."""
    made = flowers(rows)
    days = pd.date_range("2024-01-01", periods=rows, tz="UTC").astype("datetime64[us, UTC]")
    field = [f"field {row % 90}" for row in range(rows)]
    return made.assign(id=range(rows), field=field, day=days, leaves=range(rows), kind=made["species"].map(len))


def trained(settings: config.Config, rows: pd.DataFrame, uri: str) -> LoadedModel:
    return loaded(fit(settings, split.split(split.labelled(rows, settings), split.settings_of(settings))), uri)


@dataclasses.dataclass(frozen=True)
class Change:
    """`config` are the keys of the config that have changed since the champion was trained by `before`; `rows` makes
    of the champion's table that of the version."""

    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    before: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows
    champion: Callable[[LoadedModel], LoadedModel] = lambda model: model

    def judged(self, count: int, **more: Any) -> Evaluation:
        rows = table(count)
        champion = self.champion(trained(flowers_config(**self.before), rows, CHAMPION))
        rows, settings = self.rows(rows), flowers_config(**{**self.config, **more})
        version = trained(settings, rows, VERSION)
        parts = judged_parts(rows, settings, model=version)
        return evaluate(parts, version, settings=settings, champion=champion)


def columns(**changes: dict[str, Any] | None) -> dict[str, Any]:
    """The flowers' columns with changes; None takes one away."""
    return {name: column for name, column in {**COLUMNS, **changes}.items() if column is not None}


def without_table(model: LoadedModel) -> LoadedModel:
    return dataclasses.replace(model, schema=dataclasses.replace(model.schema, table_uri="/vacuumed@v0"))


def peonies(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(species=rows["species"].where(~(rows["petal_length"] > 6.5), "peony"))


def texts(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(petals=rows["petals"].astype(str).astype(object))


def codes(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(color=rows["color"].map({"blue": 1, "red": 2, "white": 3}))


def numbered(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(kind=rows["kind"].astype(str).astype(object))


SCORED_ON_ALL = r"^f1_macro 0\.\d+ against 0\.\d+ of models:/flowers_model/1: "
SCORED_ON_SOME = r"^f1_macro .* of models:/flowers_model/1 on the \d+ of \d+ test rows that neither was trained on: "
KIND = {"columns": columns(species=None, kind={"type": "long"}), "target": "kind"}
CHANGES: dict[str, tuple[Change, str]] = {  # and what the verdict says of the champion
    "a class is added": (Change(rows=peonies), SCORED_ON_ALL),
    "a class is gone": (Change(rows=lambda rows: rows[rows["species"] != "setosa"]), SCORED_ON_ALL),
    "a feature is added": (Change(config={"columns": columns(leaves={"type": "long"})}), SCORED_ON_SOME),
    "a feature is dropped from the config": (Change(config={"columns": columns(wild=None)}), SCORED_ON_SOME),
    "a feature is dropped from the table": (
        Change(config={"columns": columns(wild=None)}, rows=lambda rows: rows.drop(columns="wild")),
        f"^{CHAMPION} is not compared with: the table has no column wild$",
    ),
    "a feature is renamed": (
        Change(
            config={"columns": columns(wild=None, feral={"type": "boolean"})},
            rows=lambda rows: rows.rename(columns={"wild": "feral"}),
        ),
        f"^{CHAMPION} is not compared with: the table has no column wild$",
    ),
    "a number is text": (Change(config={"columns": columns(petals={"type": "string"})}, rows=texts), SCORED_ON_SOME),
    "a text is a number": (
        Change(config={"columns": columns(color={"type": "long"})}, rows=codes),
        f"^{CHAMPION} is not compared with: the test part, .*column 'color': .* is not text",
    ),
    "the target is renamed": (
        Change(
            config={"columns": columns(species=None, genus={"type": "string"}), "target": "genus"},
            rows=lambda rows: rows.rename(columns={"species": "genus"}),
        ),
        f"^{CHAMPION} is not compared with: it is a classification of species, the config asks for a classification of",
    ),
    "the target has another type": (
        Change(
            before=KIND,
            config={"columns": columns(species=None, kind={"type": "string"}), "target": "kind"},
            rows=numbered,
        ),
        SCORED_ON_ALL,
    ),
    "the target has other values": (
        Change(rows=lambda rows: rows.assign(species=rows["species"].str.upper())),
        f"^{CHAMPION} is not compared with: the test part has none of its classes of species, setosa, versicolor, vir",
    ),
    "the task is another one": (
        Change(
            config={**KIND, "task": "regression", "gate": {"metric": "mae"}},
        ),
        f"^{CHAMPION} is not compared with: it is a classification of species, the config asks for a regression of kin",
    ),
    "the seed of the split is another one": (Change(config={"split": {"seed": 8}}), SCORED_ON_SOME),
    "the test part is larger": (Change(config={"split": {"test": 0.4}}), SCORED_ON_SOME),
    "rows are split by a key": (
        Change(config={"columns": columns(id={"type": "long"}), "key": ["id"]}),
        SCORED_ON_SOME,
    ),
    "rows are split by a group": (
        Change(config={"columns": columns(field={"type": "string"}), "split": {"group": "field"}}),
        SCORED_ON_SOME,
    ),
    "rows are split by time": (
        Change(
            config={
                "columns": columns(day={"type": "timestamp", "feature": False}),
                "split": {"time": "day"},
            }
        ),
        SCORED_ON_SOME,
    ),
    "rows were split by time": (
        Change(
            before={"columns": columns(day={"type": "timestamp", "feature": False}), "split": {"time": "day"}},
        ),
        SCORED_ON_SOME,
    ),
    "the table of the champion is vacuumed": (Change(champion=without_table), SCORED_ON_ALL),
}


UNDECIDED_ON_FEW_ROWS = (
    "a feature is added",
    "a feature is dropped from the config",
    "a number is text",
    "the seed of the split is another one",
    "rows are split by a key",
    "rows are split by a group",
    "rows are split by time",
    "rows were split by time",
)
# Splits that no line of the new config can say: a column has another type, or is no column of it.
WITHOUT_LINE = ("a number is text", "a feature is dropped from the config", "rows were split by time")


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_leaves_a_verdict_and_says_what_it_is_by(name: str) -> None:
    change, said = CHANGES[name]
    verdict = change.judged(MANY).verdict
    assert verdict.outcome in ("pass", "fail"), verdict.reasons
    assert [reason for reason in verdict.reasons if re.search(said, reason)], verdict.reasons


def test_these_changes_are_undecided_on_few_rows() -> None:
    undecided = [name for name, (change, _) in CHANGES.items() if change.judged(FEW).verdict.outcome == "undecided"]
    assert set(undecided) == set(UNDECIDED_ON_FEW_ROWS)


@pytest.mark.parametrize("name", UNDECIDED_ON_FEW_ROWS)
def test_where_few_rows_are_new_to_both_the_verdict_says_what_leads_on(name: str) -> None:
    """A line for the config, by which the next version is judged; or the whole command that needs no verdict."""
    change, said = CHANGES[name]
    verdict = change.judged(FEW).verdict
    assert said == SCORED_ON_SOME
    (reason,) = [rule.sentence for rule in verdict.rules if rule.outcome == "undecided"]
    line, command = re.search(r"`(split: .*?)`", reason), re.search(r"`(mlflow run .*?)`", reason)
    assert command is not None
    words = shlex.split(command[1])
    assert words[:5] == ["mlflow", "run", ".", "-e", "promote"]
    assert {*words[6::2]} >= {"name=flowers_model", "version=2", "alias=staging", "force=true"}
    if line is None:
        assert name in WITHOUT_LINE
        return
    again = change.judged(FEW, **yaml.safe_load(line[1])).verdict
    assert again.outcome in ("pass", "fail"), again.reasons


def test_a_class_that_the_champion_never_knew_counts_as_its_mistakes() -> None:
    result = CHANGES["a class is added"][0].judged(MANY)
    assert [line for line in result.verdict.reasons if re.search(f"{CHAMPION} never saw species peony: \\d+", line)]
    rows = table(MANY)
    champion = trained(flowers_config(), rows, CHAMPION)
    test = split.split(rows, split.settings_of(flowers_config())).test
    expected = champion.scorer.predict(None, test)["prediction"] == peonies(test)["species"]
    assert result.scores[CHAMPION]["accuracy"] == pytest.approx(expected.mean())


def test_the_scores_of_the_version_are_those_of_its_whole_test_part() -> None:
    change = CHANGES["the seed of the split is another one"][0]
    result = change.judged(MANY)
    alone = flowers_config(split={"seed": 8})
    rows = table(MANY)
    version = trained(alone, rows, VERSION)
    parts = judged_parts(rows, alone, model=version)
    assert result.scores[VERSION] == evaluate(parts, version, settings=alone, champion=None).scores[VERSION]


def test_the_rows_that_are_compared_on_are_in_neither_train_part() -> None:
    result = CHANGES["a number is text"][0].judged(MANY)
    (compared,) = [line for line in result.verdict.reasons if re.search(SCORED_ON_SOME, line)]
    count = int(re.search(r"on the (\d+) of", compared)[1])  # type: ignore[index]
    rows, settings = table(MANY), flowers_config(columns=columns(petals={"type": "string"}))
    before = split.parts(rows, split.settings_of(flowers_config())) == "test"
    after = split.parts(texts(rows), split.settings_of(settings)) == "test"
    assert count == (before & after).sum()
    assert 0.1 < count / after.sum() < 0.3  # a fifth


def test_a_champion_of_a_release_that_recorded_no_types_is_compared_by_those_of_its_features() -> None:
    def as_it_was(model: LoadedModel) -> LoadedModel:
        old = {name: value for name, value in model.schema.split.items() if name in ("test", "validation", "seed")}
        schema = dataclasses.replace(model.schema, split={**old, "columns": list(model.schema.split["columns"])})
        return dataclasses.replace(model, schema=schema)

    change = CHANGES["a number is text"][0]
    now, then = change.judged(MANY), dataclasses.replace(change, champion=as_it_was).judged(MANY)
    assert now.verdict == then.verdict


def test_rows_that_a_time_has_passed_since_are_what_two_splits_by_time_are_compared_on() -> None:
    """As the table grows, the newer test part is new to both."""
    settings = flowers_config(columns=columns(day={"type": "timestamp", "feature": False}), split={"time": "day"})
    rows = table(MANY)
    champion, version = trained(settings, rows[:1000], CHAMPION), trained(settings, rows, VERSION)
    parts = judged_parts(rows, settings, model=version)
    result = evaluate(parts, version, settings=settings, champion=champion)
    assert [line for line in result.verdict.reasons if re.search(SCORED_ON_ALL, line)]
    assert parts.test["day"].min() > rows["day"].sort_values().iloc[-len(parts.test) - 1]


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "log_loss"])
@pytest.mark.parametrize("name", ["a class is added", "a class is gone", "the target has another type"])
def test_classes_may_change_by_every_kind_of_metric(name: str, metric: str) -> None:
    verdict = CHANGES[name][0].judged(MANY, gate={"metric": metric}).verdict
    assert verdict.outcome in ("pass", "fail"), verdict.reasons
    (gain,) = [rule.value for rule in verdict.rules if rule.name == "champion"]
    assert gain is not None
    assert np.isfinite(gain)


def test_a_command_that_is_printed_is_one_for_the_shell_whatever_the_models_name() -> None:
    command = aliases.promote_command("my model", "3", alias="staging", reason="the split has changed")
    assert shlex.split(command)[5:11] == ["-P", "name=my model", "-P", "version=3", "-P", "alias=staging"]


def test_slices_are_compared_on_the_rows_of_both_versions_or_listed_without_the_champion() -> None:
    """Of 600 test rows a fifth are new to both: some 60 are wild, some 20 have a number of petals."""
    change, gate = CHANGES["the seed of the split is another one"][0], {"slices": ["wild", "petals"]}
    result, rows = change.judged(2 * MANY, gate=gate), table(2 * MANY)
    test = rows[split.parts(rows, split.settings_of(flowers_config(split={"seed": 8}))) == "test"]
    both = test[split.parts(test, split.settings_of(flowers_config())) == "test"]
    for one in result.slices:
        of_both, of_test = ((part[one.column].astype(str) == one.value).sum() for part in (both, test))
        assert one.rows == (of_both if of_both >= ENOUGH_ROWS else of_test)
        assert (one.other is not None) == (one.gain is not None) == (of_both >= ENOUGH_ROWS)
    assert {one.name for one in result.slices if one.other is not None} >= {"wild False", "wild True"}
    left_out = [one.name for one in result.slices if one.other is None]
    assert len(left_out) == 5
    (rule,) = [rule for rule in result.verdict.rules if rule.name == "slices"]
    assert rule.sentence.endswith(f"to compare with the champion on: {', '.join(left_out[:3])} and 2 more slices")


def test_slices_none_of_which_can_be_compared_say_so_in_the_verdict() -> None:
    result = CHANGES["the seed of the split is another one"][0].judged(MANY, gate={"slices": ["petals"]})
    said = "slices: too few rows to compare with the champion on: petals 3, petals 4, petals 5 and 3 more slices"
    assert said in result.verdict.reasons


def test_report_and_metrics_have_the_version_on_the_rows_of_the_champion_beside_it(tmp_path: Path) -> None:
    """Else scores of different rows would stand side by side."""
    rows, settings = table(MANY), flowers_config(split={"seed": 8})
    champion, version = trained(flowers_config(), rows, CHAMPION), trained(settings, rows, VERSION)
    test = judged_parts(rows, settings, model=version)
    result = evaluate(test, version, settings=settings, champion=champion)
    told = report_of(result, test.test, version, settings=settings, facts={})
    assert list(told.scores) == [
        VERSION,
        "baseline",
        f"{CHAMPION} on the rows new to both",
        "this version on the rows new to both",
    ]
    assert re.fullmatch(
        r"the \d+ of \d+ test rows that neither was trained on", told.facts[f"compared with {CHAMPION} on"]
    )
    both = test.test[split.parts(test.test, split.settings_of(flowers_config())) == "test"]
    expected = (version.scorer.predict(None, both)["prediction"] == both["species"]).mean()
    assert told.scores["this version on the rows new to both"]["accuracy"] == pytest.approx(expected)
    with tracked(new_database(tmp_path)), mlflow.start_run() as run:
        evaluation_log.log_scores(result, {}, model_uri=VERSION)
    logged = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run.info.run_id).data.metrics
    assert logged["against_champion_accuracy"] == pytest.approx(expected)
    assert logged["champion_accuracy"] == result.scores[CHAMPION]["accuracy"]
    assert logged["accuracy"] == result.scores[VERSION]["accuracy"]


def test_a_champion_that_is_compared_on_rows_of_few_groups_leaves_the_verdict_undecided() -> None:
    fields = {"columns": columns(field={"type": "string"}), "split": {"group": "field", "test": 0.3}}
    change = Change(before={**fields, "split": {**fields["split"], "seed": 5, "test": 0.1}}, config=fields)
    verdict = change.judged(MANY).verdict
    assert verdict.outcome == "undecided"
    assert [
        why for why in verdict.reasons if re.search(r"new to both are of \d groups of field \(10 are needed\)", why)
    ]
