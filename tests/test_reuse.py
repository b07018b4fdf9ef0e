"""What makes a step run again, and only that: its inputs, and whether the results of earlier runs still stand."""

import copy
import functools
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from place import COLUMNS, PROJECT, Ended, Place, new_database, rows_of, without_java
from sklearn.datasets import load_iris
from small import QUICK, tracked

from steps.core import config
from steps.core.process import loaded_code
from steps.core.workflow import differences, reuse, run_tags, step_inputs
from steps.core.workflow.step_spec import read_spec

STEPS = ["ingest", "train", "evaluate", "infer"]
SPECS = {step: read_spec(step) for step in STEPS}
MODEL = "iris_xgboost_classifier"
IRIS: dict[str, Any] = yaml.safe_load((PROJECT / "configs" / "iris.yaml").read_text(encoding="utf-8"))
GIVEN = {"lake": "/lake", "content": "c", "table": "", "model": ""}


def inputs(step: str, settings: config.Config) -> dict[str, str]:
    return step_inputs.inputs_of(SPECS[step], settings, **GIVEN)


def key(step: str, settings: dict[str, Any]) -> str:
    return step_inputs.key_of(step, inputs(step, config.Config.model_validate(settings)))


class TestEnvironment:
    @pytest.fixture
    def conda(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """conda.yaml of a project in the place of this one."""
        shutil.copy(PROJECT / "conda.yaml", tmp_path)
        monkeypatch.setattr(step_inputs, "PROJECT", tmp_path)
        step_inputs.environment.cache_clear()
        yield tmp_path / "conda.yaml"
        step_inputs.environment.cache_clear()

    @pytest.mark.parametrize("line", ["pydantic>=2.1,<3", "pydantic", "pydantic[email] >= 2; python_version > '3'"])
    def test_a_line_of_conda_yaml_that_pins_nothing_counts_by_what_is_installed(self, conda: Path, line: str) -> None:
        conda.write_text(re.sub(r"pydantic==[\d.]+", line, conda.read_text()))
        step_inputs.environment.cache_clear()
        assert step_inputs.environment()["environment.pydantic"].startswith(f"{version('pydantic')} (conda.yaml: ")

    def test_a_pin_in_conda_yaml_changes_every_step(self, conda: Path) -> None:
        settings = config.Config.model_validate(IRIS)
        before = {step: inputs(step, settings) for step in STEPS}
        conda.write_text(re.sub(r"pydantic==[\d.]+", "pydantic==1.0", conda.read_text()))
        step_inputs.environment.cache_clear()
        told = {text for step in STEPS for text in differences.between(before[step], inputs(step, settings))}
        assert len(told) == 1
        assert re.fullmatch(r"pydantic [\d.]+ -> [\d.]+ \(conda\.yaml: 1\.0\)", told.pop())


class World:
    """Everything that a step may read, as it is in one state: config, parameters, tables, models, packages, code.

    A state says of each of PLACES which of its values it has. Tables, models and files are real ones.
    """

    PLACES: dict[str, list[Any]] = {
        "config.name": ["iris", "flowers"],
        "config.source.uri": ["a.csv", "b.csv"],
        "config.source.options": [{}, {"sep": ";"}],
        "config.columns.petal_width.max": [None, 3.0, 9.0],
        "config.columns.species.nullable": [None, False],
        "config.key": [[], ["petal_width"]],
        "config.target": ["species", "origin"],
        "config.split.test": [0.2, 0.3],
        "config.split.seed": [7, 8],
        "config.model.max_depth": [4, 6],
        "config.model.seed": [7, 8],
        "config.tune.trials": [0, 5],
        "config.tune.space": [{}, {"max_depth": [2, 8]}],
        "config.gate.metric": ["f1_macro", "log_loss"],
        "config.gate.at_least": [None, 0.5],
        "columns are reversed": [False, True],
        "parameter max_depth": [None, 4, 6],
        "parameter seed": [None, 8],
        "parameter trials": [None, 5],
        "table": ["lake/iris@v0", "lake/iris@v1", "other/iris@v0"],
        "lake/iris was made anew": [False, True],
        "model": ["models:/iris/1", "models:/iris/2"],
        "content": ["one", "other"],
        "lake": ["/lake", "/other"],
        "pin of pydantic": [version("pydantic"), "1.0"],
        "comment in conda.yaml": ["", "# a comment"],
        **{f"steps/{step}.py": ["x = 1", "x = 2", None] for step in STEPS},
        "steps/core/shared.py": ["x = 1", "x = 2"],
        "steps/core/unused.py": ["x = 1", "x = 2", None],
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "steps" / "core").mkdir(parents=True)
        for table in ("first", "anew", "other/iris"):
            for number in range(2):
                write_deltalake(str(folder / table), pa.table({"n": [number]}), mode="overwrite")
        (folder / "lake").mkdir()
        client = MlflowClient()
        client.create_registered_model("iris")
        for number in range(2):
            client.create_model_version("iris", f"file:///nowhere/{number}")

    def settings(self, state: dict[str, Any]) -> config.Config:
        raw = {**copy.deepcopy(IRIS), "gate": {}, "tune": {}}
        raw["columns"]["origin"] = {"type": "string"}
        for place, value in state.items():
            if place.startswith("config."):
                *holders, name = place.split(".")[1:]
                functools.reduce(lambda holder, key: holder[key], holders, raw)[name] = value
        if state["columns are reversed"]:
            raw["columns"] = dict(reversed(raw["columns"].items()))
        parameters = {name: state[f"parameter {name}"] for name in ("max_depth", "seed", "trials")}
        given = {name: value for name, value in parameters.items() if value is not None}
        return config.Config.model_validate(raw).with_hyperparameters(**given)

    def enter(self, state: dict[str, Any]) -> None:
        """Make the tables, files and packages those of the state."""
        link = self.folder / "lake" / "iris"
        link.unlink(missing_ok=True)
        link.symlink_to(self.folder / ("anew" if state["lake/iris was made anew"] else "first"))
        for file in (place for place in state if place.endswith(".py")):
            (self.folder / file).unlink(missing_ok=True)
            if state[file] is not None:
                (self.folder / file).write_text(state[file])
        pins = f"dependencies:\n- python=3.12\n- pip:\n  - pydantic=={state['pin of pydantic']}\n"
        (self.folder / "conda.yaml").write_text(pins + state["comment in conda.yaml"], encoding="utf-8")
        step_inputs.environment.cache_clear()

    def keys(self, state: dict[str, Any]) -> dict[str, str]:
        """The key of a run of each step, its code included."""
        self.enter(state)
        settings = self.settings(state)
        works_on = {name: state[name] for name in ("model", "content", "lake")}
        works_on["table"] = f"{self.folder}/{state['table']}"
        keys = {}
        for step in STEPS:
            inputs = step_inputs.inputs_of(SPECS[step], settings, **works_on)
            loaded = {f"{differences.CODE}{file}": "" for file in (f"steps/{step}.py", "steps/core/shared.py")}
            keys[step] = step_inputs.key_of(step, {**inputs, **step_inputs.code_now(loaded)})
        return keys

    def steps_that_differ(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        keys = [self.keys(before), self.keys(after)]
        return [step for step in STEPS if keys[0][step] != keys[1][step]]

    def steps_that_read_something_else(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        return [step for step in STEPS if self.read(step, before) != self.read(step, after)]

    def read(self, step: str, state: dict[str, Any]) -> list[Any]:
        """What a step reads of a state, written down here by hand."""
        settings = self.settings(state)
        contract = [list(settings.columns.items()), settings.target]
        split = [settings.key, settings.task, settings.split]
        search = [settings.tune, settings.gate.metric] if settings.tune.trials else []
        anew = state["lake/iris was made anew"] and state["table"].startswith("lake/")
        table = [state["table"], anew]
        own = {
            "ingest": [settings.name, settings.source, *contract, settings.key, state["lake"], state["content"]],
            "train": [*contract, *split, settings.model, *search, *table],
            "evaluate": [*contract, *split, settings.gate, *table, state["model"]],
            "infer": [settings.name, settings.key, state["lake"], *table, state["model"]],
        }
        return [*own[step], state["pin of pydantic"], state[f"steps/{step}.py"], state["steps/core/shared.py"]]


class TestRandomEdits:
    STATES = st.fixed_dictionaries({place: st.sampled_from(values) for place, values in World.PLACES.items()})
    EDITS = st.lists(
        st.sampled_from(list(World.PLACES)).flatmap(
            lambda place: st.tuples(st.just(place), st.sampled_from(World.PLACES[place]))
        ),
        max_size=4,
    )

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, tmp_path_factory: pytest.TempPathFactory, store: None) -> Iterator[World]:
        folder = tmp_path_factory.mktemp("world")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step_inputs, "PROJECT", folder)
            patch.setattr(loaded_code, "PROJECT", str(folder))
            yield World(folder)
        step_inputs.environment.cache_clear()

    @given(before=STATES, edits=EDITS)
    @QUICK
    def test_two_keys_are_equal_exactly_when_nothing_that_the_step_reads_differs(
        self, world: World, before: dict[str, Any], edits: list[tuple[str, Any]]
    ) -> None:
        after = {**before, **dict(edits)}
        assert world.steps_that_differ(before, after) == world.steps_that_read_something_else(before, after)

    @pytest.mark.parametrize("place", World.PLACES)
    def test_one_edit_changes_the_steps_that_read_it_and_no_other(self, world: World, place: str) -> None:
        before = {name: values[0] for name, values in World.PLACES.items()}
        after = {**before, place: World.PLACES[place][-1]}
        differ = world.steps_that_differ(before, after)
        assert differ == world.steps_that_read_something_else(before, after)
        matters_to_none = ("config.tune.space", "comment in conda.yaml", "steps/core/unused.py")  # without trials
        assert differ or place in matters_to_none


class TestConfig:
    def test_the_order_of_the_columns_counts_as_it_is_the_models(self) -> None:
        turned = {**IRIS, "columns": dict(reversed(IRIS["columns"].items()))}
        assert [step for step in STEPS if key(step, IRIS) != key(step, turned)] == ["ingest", "train", "evaluate"]

    def test_a_default_that_is_written_out_is_the_same(self) -> None:
        """D01: the key does not tell whether a value was given or is the default."""
        written = {**IRIS, "key": [], "split": {**IRIS["split"], "group": None}}
        assert [key(step, written) for step in STEPS] == [key(step, IRIS) for step in STEPS]

    def test_two_steps_never_share_a_key(self) -> None:
        assert len({step_inputs.key_of(step, {"a": "b"}) for step in STEPS}) == len(STEPS)

    @pytest.mark.parametrize("missing", ["table", "lake"])
    def test_a_step_must_say_all_that_it_works_on(self, missing: str) -> None:
        given = {name: value for name, value in GIVEN.items() if name != missing}
        with pytest.raises(KeyError, match=missing):
            step_inputs.inputs_of(SPECS["infer"], config.Config.model_validate(IRIS), **given)


class TestDifferences:
    def told(self, before: dict[str, str], now: dict[str, str]) -> list[str]:
        return list(differences.between(before, now))

    def test_they_are_told_in_the_words_of_who_changed_them(self) -> None:
        before = {"config.model.max_depth": "4", "table": "/a/iris@v2", "code.steps/train.py": "1", "content": "x"}
        now = {"config.model.max_depth": "6", "table": "/a/iris@v3", "code.steps/train.py": "2", "content": "y"}
        assert self.told(before, now) == [
            "model.max_depth 4 -> 6",
            "table iris@v2 -> iris@v3",
            "steps/train.py changed",
            "the source's content changed",
        ]

    def test_what_is_new_or_no_longer_there_is_told_so(self) -> None:
        before = {"code.steps/core/a.py": "1", "config.columns.x.max": "1.0"}
        now = {"code.steps/core/b.py": "1", "config.columns.y.type": '"long"', "config.columns.y.max": "null"}
        assert self.told(before, now) == [
            "steps/core/b.py is new",
            "column y is new",
            "steps/core/a.py is no longer used",
            "column x is gone",
        ]

    def test_a_key_that_a_later_release_has_is_no_difference_until_it_has_a_value(self) -> None:
        before = {"config.columns.x.type": '"long"', "code.steps/core/columns.py": "1"}
        now = {**before, "config.columns.x.symbol": "null", "code.steps/core/columns.py": "2"}
        assert self.told(before, now) == ["steps/core/columns.py changed"]
        assert self.told(now, before) == ["steps/core/columns.py changed"]
        assert self.told(now, {**now, "config.columns.x.symbol": '"$"'}) == ['columns.x.symbol null -> "$"']

    def test_a_column_that_came_is_one_difference_and_its_place_is_none(self) -> None:
        columns = dict(IRIS["columns"])
        before = inputs("ingest", config.Config.model_validate(IRIS))
        wider = {**columns, "leaf_width": {"type": "double"}}
        now = inputs("ingest", config.Config.model_validate({**IRIS, "columns": wider}))
        assert self.told(before, now) == ["column leaf_width is new"]
        assert self.told(now, before) == ["column leaf_width is gone"]
        turned = {**IRIS, "columns": dict(reversed(wider.items()))}
        [came, order] = self.told(before, inputs("ingest", config.Config.model_validate(turned)))
        assert (came, order.partition(" ")[0]) == ("column leaf_width is new", "columns.order")

    def test_a_file_that_came_went_or_was_edited_meanwhile_is_told_so(self) -> None:
        before = {f"code.{name}.py": digest for name, digest in {"a": "absent", "b": "1", "c": "unknown"}.items()}
        now = {f"code.{name}.py": digest for name, digest in {"a": "2", "b": "absent", "c": "3"}.items()}
        assert self.told(before, now) == ["a.py is new", "b.py is gone", "c.py was edited while it was used"]

    def test_what_has_one_name_in_two_places_is_told_with_its_place(self) -> None:
        told = self.told({"table": "/lake/iris@v0"}, {"table": "s3://delta/iris@v0"})
        assert told == ["table /lake/iris@v0 -> s3://delta/iris@v0"]

    def test_a_table_that_was_made_anew_under_its_old_name_is_told(self) -> None:
        before, now = ({"table": "/a/iris@v0", "table.identity": made} for made in ("1", "2"))
        assert self.told(before, now) == ["iris@v0 was made anew"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This process's MLflow has a store of its own."""
    with tracked(new_database(tmp_path_factory.mktemp("store"))):
        yield


@pytest.mark.usefixtures("store")
class TestFind:
    """What is found among runs that were recorded as steps record them, for one file of code and one input."""

    @pytest.fixture
    def code(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file that is all the code of the steps that are recorded."""
        file = tmp_path / "steps" / "train.py"
        file.parent.mkdir()
        file.write_text("1")
        monkeypatch.setattr(loaded_code, "PROJECT", str(tmp_path))
        digests = {"steps/train.py": hashlib.sha256(b"1").hexdigest()}
        monkeypatch.setattr(loaded_code, "digests", lambda: digests)
        return file

    @pytest.fixture
    def workflow(self, request: pytest.FixtureRequest) -> str:
        return str(request.node.name)

    def record(self, workflow: str, *, artifact: str = "a report", **inputs: str) -> str:
        of_run = {run_tags.KEY: step_inputs.key_of("train", inputs), run_tags.WORKFLOW: f"{workflow}.train"}
        with mlflow.start_run(experiment_id="0", tags=of_run) as run:
            mlflow.log_text(artifact, "report.html")
            reuse.write_receipt(run, {"inputs": inputs, "read": {}, "wrote": {}}, tables={})
        run_id: str = run.info.run_id
        return run_id

    def find(self, workflow: str, **inputs: str) -> reuse.Decision:
        return reuse.find_reusable("train", inputs, workflow=workflow, experiment_id="0")

    def artifact(self, run_id: str, name: str) -> Path:
        return Path(mlflow.artifacts.download_artifacts(f"{mlflow.get_run(run_id).info.artifact_uri}/{name}"))

    def test_nothing_in_a_store_without_runs_of_the_workflow(self, workflow: str) -> None:
        assert self.find(workflow, name=workflow).reason == "first run"

    def test_a_run_with_the_same_inputs_and_code(self, workflow: str, code: Path) -> None:
        run_id = self.record(workflow, name=workflow)
        found = self.find(workflow, name=workflow).run
        assert found
        assert found.info.run_id == run_id

    def test_no_run_with_other_code_until_it_is_changed_back(self, workflow: str, code: Path) -> None:
        self.record(workflow, name=workflow)
        code.write_text("2")
        assert self.find(workflow, name=workflow).reason == "steps/train.py changed"
        code.unlink()
        assert self.find(workflow, name=workflow).reason == "steps/train.py is gone"
        code.write_text("1")
        assert self.find(workflow, name=workflow).run

    def test_of_runs_with_the_same_inputs_the_one_that_ran_the_code_of_now(
        self, workflow: str, code: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = self.record(workflow, name=workflow)
        monkeypatch.setattr(loaded_code, "digests", lambda: {"steps/train.py": hashlib.sha256(b"2").hexdigest()})
        second = self.record(workflow, name=workflow)
        for text, run_id in {"2": second, "1": first}.items():
            code.write_text(text)
            found = self.find(workflow, name=workflow).run
            assert found
            assert found.info.run_id == run_id

    @pytest.mark.parametrize(
        ("digests", "because"),
        [
            (
                {"steps/train.py": hashlib.sha256(b"1").hexdigest(), "steps/levels.json": loaded_code.UNKNOWN},
                "steps/levels.json was edited while it was used",
            ),
            (
                {"steps/__init__.py": loaded_code.UNKNOWN, "steps/train.py": loaded_code.UNKNOWN},
                "the earlier run was not started by `mlflow run`, so its code is not known",
            ),
        ],
        ids=["one file", "a notebook's run"],
    )
    def test_no_run_that_does_not_know_what_it_read(
        self, digests: dict[str, str], because: str, workflow: str, code: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loaded_code, "digests", lambda: digests)
        self.record(workflow, name=workflow)
        assert self.find(workflow, name=workflow).reason == because

    def test_no_deleted_run_and_that_is_told(self, workflow: str, code: Path) -> None:
        run_id = self.record(workflow, name=workflow)
        mlflow.delete_run(run_id)
        assert self.find(workflow, name=workflow).reason == f"its run {run_id[:8]} was deleted"
        assert self.find(workflow, name="other").reason == "its earlier runs were deleted"
        code.write_text("2")
        assert self.find(workflow, name=workflow).reason == "its earlier runs were deleted"

    def test_a_deleted_run_is_not_told_of_where_another_one_differs(self, workflow: str, code: Path) -> None:
        self.record(workflow, table="/iris@v1", name=workflow)
        mlflow.delete_run(self.record(workflow, table="/iris@v2", name=workflow))
        assert self.find(workflow, table="/iris@v3", name=workflow).reason == "table iris@v1 -> iris@v3"

    @pytest.mark.parametrize(
        ("name", "content", "damage"),
        [
            ("receipt.json", "", "receipt.json of run {} is damaged"),
            ("receipt.json", "{}", "receipt.json of run {} is damaged"),
            ("receipt.json", None, "receipt.json of run {} is gone"),
            ("report.html", "a re", "report.html of run {} is damaged: 4 bytes, 8 expected"),
            ("report.html", "a rePORT", "report.html of run {} is damaged: its content changed"),
            ("report.html", None, "report.html of run {} is gone"),
        ],
    )
    def test_no_run_with_a_damaged_artifact(
        self, workflow: str, code: Path, name: str, content: str | None, damage: str
    ) -> None:
        run_id = self.record(workflow, name=workflow)
        path = self.artifact(run_id, name)
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        assert self.find(workflow, name=workflow).reason == damage.format(run_id[:8])

    def test_a_damaged_run_does_not_hide_an_older_whole_one(self, workflow: str, code: Path) -> None:
        older = self.record(workflow, name=workflow)
        self.artifact(self.record(workflow, name=workflow), "receipt.json").write_text("")
        found = self.find(workflow, name=workflow).run
        assert found
        assert found.info.run_id == older


class TestHindsight:
    """Why a step ran, once it has written down what it ran with."""

    def decided(self, reason: str, *earlier: dict[str, str], **inputs: str) -> reuse.Decision:
        return reuse.Decision(reason=reason, inputs=inputs, earlier=earlier)

    def test_it_is_what_was_decided_on_when_that_is_what_ran(self) -> None:
        decision = self.decided("table iris@v1 -> iris@v2", {"table": "/iris@v1", "code.a.py": "1"}, table="/iris@v2")
        assert decision.in_hindsight({"table": "/iris@v2", "code.a.py": "1"}) == "table iris@v1 -> iris@v2"

    def test_an_edit_between_decision_and_run_is_told_as_it_ran(self) -> None:
        decision = self.decided("x 4 -> 3", {"config.x": "4", "code.a.py": "1"}, **{"config.x": "3"})
        assert decision.in_hindsight({"config.x": "5", "code.a.py": "1"}) == "x 4 -> 5"
        assert decision.in_hindsight({"config.x": "3", "code.a.py": "2"}) == "x 4 -> 3, a.py changed"
        changed_back = "what had changed was changed back before it ran"
        assert decision.in_hindsight({"config.x": "4", "code.a.py": "1"}) == changed_back

    def test_another_reason_stays_and_the_edit_is_told_beside_it(self) -> None:
        decision = self.decided("first run", **{"config.x": "3"})
        assert decision.in_hindsight({"config.x": "3", "code.a.py": "1"}) == "first run"
        assert decision.in_hindsight({"config.x": "5", "code.a.py": "1"}) == "first run, and meanwhile x 3 -> 5"
        assert reuse.Decision(reason="reuse=false").in_hindsight({"config.x": "5"}) == "reuse=false"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that may be changed, in a folder with a blank in its name (D02)."""
    folder = tmp_path_factory.mktemp("copied") / "my project é"
    names = ["MLproject", "conda.yaml", "main.py", "configs", "steps"]
    folder.mkdir()
    for name in names:
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


class Workflow:
    """Runs main on a copied project, on a config and a source that may be changed."""

    def __init__(self, place: Place, project: Path) -> None:
        self.place, self.project = place, project
        self.settings = {**IRIS, "source": {"uri": "data dir/iris.csv"}, "columns": copy.deepcopy(COLUMNS)}
        self.settings["model"] = {**IRIS["model"], "num_boost_round": 20}
        self.path = place.folder / "iris.yaml"
        (place.folder / "data dir").mkdir(exist_ok=True)
        flowers = load_iris(as_frame=True)
        rows: pd.DataFrame = flowers.frame.set_axis([*list(COLUMNS)[:4], "species"], axis=1)
        rows["species"] = [str(flowers.target_names[code]) for code in rows["species"]]
        self.rows = rows

    def main(self, **parameters: object) -> Ended:
        return self.run("main", **parameters)

    def run(self, name: str, **parameters: object) -> Ended:
        self.write_inputs()
        there = Place(self.place.folder, {"PYTHONPATH": str(self.project), **self.place.extra})
        return there.step(name, config=self.path, **parameters)

    def write_inputs(self) -> None:
        self.path.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")
        self.rows.to_csv(self.place.folder / "data dir" / "iris.csv", index=False)

    def step(self, name: str, **parameters: object) -> str:
        """What a step by itself hands on first."""
        ended = self.run(name, **parameters)
        assert ended.exit_code == 0, ended.text
        return ended.out.splitlines()[0].partition(" = ")[2]

    def because(self, **parameters: object) -> dict[str, str]:
        """Why each step ran, or from where it was reused, as the summary says."""
        ended = self.main(**parameters)
        assert ended.exit_code == 0, ended.text
        return because(ended)

    def ran(self, **parameters: object) -> dict[str, str]:
        return {step: why for step, why in self.because(**parameters).items() if not why.startswith("reused")}

    def outputs(self) -> dict[str, str]:
        """What the newest workflow handed on."""
        main = next(run for run in self.place.runs() if run.info.run_name == "main")
        return {name[7:]: uri for name, uri in main.data.tags.items() if name.startswith("output.")}

    def would_run(self) -> dict[str, str]:
        return self.ran(dry_run="true")


def because(ended: Ended) -> dict[str, str]:
    lines = ended.out[ended.out.index("\nstep ") :].splitlines()
    start = lines[1].index("because")
    return {line.split()[0]: line[start:] for line in lines[2:] if line.split()[0] in STEPS}


@pytest.fixture(scope="module")
def workflow(place: Place, project: Path) -> Workflow:
    made = Workflow(place, project)
    assert made.because() == dict.fromkeys(STEPS, "first run")
    return made


@pytest.mark.spark
class TestRunsAgain:
    def test_nothing_when_nothing_changed_and_no_jvm_is_needed(self, workflow: Workflow, tmp_path: Path) -> None:
        """Where a step that ran would need one."""
        no_java = {"PATH": without_java(tmp_path / "bin"), "JAVA_HOME": "", "WORKFLOW_IN_MEMORY_MEBIBYTES": "0"}
        without = Place(workflow.place.folder, {"PYTHONPATH": str(workflow.project), **no_java})
        ended = without.step("main", config=workflow.path, reuse="false")
        assert "JavaUnusable: there is no Java on PATH" in ended.err
        ended = without.step("main", config=workflow.path)
        assert ended.exit_code == 0, ended.text
        assert all(re.fullmatch(r"reused, run [0-9a-f]{8}", why) for why in because(ended).values())
        assert list(because(ended)) == STEPS
        assert " ... " not in ended.err

    def test_parameters_are_logged_as_they_arrived_beside_what_mlflow_quotes(self, workflow: Workflow) -> None:
        config = workflow.place.folder / "l'âge $5.yaml"
        config.write_text(workflow.path.read_text(encoding="utf-8"), encoding="utf-8")
        source = "data dir/iris.csv"
        ended = workflow.place.mlflow_run(
            "main", project=workflow.project, config=config, source=source, dry_run="true"
        )
        assert ended.exit_code == 0, ended.text
        parameters = workflow.place.runs()[0].data.params
        assert parameters["source"] == "'data dir/iris.csv'"
        unquoted = {name: value for name, value in parameters.items() if name.endswith(".unquoted")}
        assert unquoted == {"config.unquoted": str(config), "source.unquoted": source}

    def test_the_parent_run_links_to_what_it_reused(self, workflow: Workflow) -> None:
        workflow.because()
        runs = workflow.place.runs()
        parent = runs[0]
        origin = {step: next(r for r in reversed(runs) if r.info.run_name == step).info.run_id for step in STEPS}
        assert {step: parent.data.tags[f"reused.{step}"] for step in STEPS} == origin
        for step, run_id in origin.items():
            row = f"| [{step}](#/experiments/0/runs/{run_id})&nbsp; | "
            assert re.search(
                f"{re.escape(row)}.* \\| reused, run {run_id[:8]} \\|", parent.data.tags["mlflow.note.content"]
            )
        assert parent.data.tags["output.model"] == f"models:/{MODEL}/1"
        assert parent.data.metrics.keys() == runs[-1].data.metrics.keys()

    def test_train_and_what_follows_for_a_hyperparameter(self, workflow: Workflow) -> None:
        model = f"model {MODEL}/1 -> {MODEL}/2"
        expected = {"train": "model.max_depth 4 -> 3", "evaluate": model, "infer": model}
        assert workflow.ran(max_depth=3) == expected
        assert workflow.ran(max_depth=3) == {}
        workflow.settings["model"]["max_depth"] = 3
        assert workflow.ran() == {}

    def test_evaluate_alone_for_a_gate_that_moves_nothing(self, workflow: Workflow) -> None:
        workflow.settings["gate"] = {**workflow.settings["gate"], "at_least": 0.8}
        assert workflow.ran() == {"evaluate": "gate.at_least 0.85 -> 0.8"}

    def test_all_for_a_row_of_the_source(self, workflow: Workflow) -> None:
        workflow.rows.loc[0, "sepal_length"] = 5.05
        ran = workflow.ran()
        assert list(ran) == STEPS
        assert ran["ingest"] == "the source's content changed"
        assert ran["train"] == "table iris@v0 -> iris@v1"

    def test_ingest_alone_for_a_source_that_says_the_same_in_other_words(self, workflow: Workflow) -> None:
        workflow.rows = workflow.rows.iloc[::-1]
        assert workflow.ran() == {"ingest": "the source's content changed"}

    def test_all_for_the_contract_of_a_column(self, workflow: Workflow) -> None:
        workflow.settings["columns"]["petal_width"]["max"] = 99
        follows = {"train": "follows ingest", "evaluate": "follows train", "infer": "follows evaluate"}
        assert workflow.would_run() == {"ingest": "columns.petal_width.max null -> 99", **follows}
        del workflow.settings["columns"]["petal_width"]["max"]

    def test_infer_alone_for_a_comment_in_it(self, workflow: Workflow) -> None:
        file = workflow.project / "steps" / "infer.py"
        code = file.read_text()
        file.write_text(f"{code}# a comment\n")
        assert workflow.would_run() == {"infer": "steps/infer.py changed"}
        file.write_text(code)

    def test_infer_in_other_words_and_the_predictions_are_what_it_says_now(self, workflow: Workflow) -> None:
        file = workflow.project / "steps" / "core" / "models" / "inference.py"
        file.write_text(file.read_text().replace('"table_uri": str(table)', '"table_uri": "in other words"'))
        assert workflow.ran() == {"infer": "steps/core/models/inference.py changed"}
        predictions = rows_of(workflow.place.lake("iris_predictions")).to_pylist()
        assert {row["table_uri"] for row in predictions if row["deleted_at"] is None} == {"in other words"}
        assert workflow.ran() == {}

    def test_nothing_for_a_file_that_no_step_imports(self, workflow: Workflow) -> None:
        (workflow.project / "steps" / "core" / "notes.py").write_text("x = 1\n")
        assert workflow.ran() == {}

    def test_all_when_told_to(self, workflow: Workflow) -> None:
        ran = workflow.ran(reuse="false", dry_run="true")
        assert ran["ingest"] == "reuse=false"
        assert list(ran) == STEPS

    def test_another_lake_and_another_model_share_nothing_that_is_theirs(self, workflow: Workflow) -> None:
        other = workflow.ran(lake="out dir", dry_run="true")
        assert other == {
            "ingest": "lake lake -> out dir",
            "train": "follows ingest",
            "evaluate": "follows train",
            "infer": "follows evaluate",
        }
        kept = workflow.settings["model"]
        workflow.settings["model"] = {**kept, "name": "other"}
        assert workflow.would_run() == {
            "train": f'model.name "{MODEL}" -> "other"',
            "evaluate": "follows train",
            "infer": "follows evaluate",
        }
        workflow.settings["model"] = kept


@pytest.fixture(scope="module")
def whole(workflow: Workflow) -> Workflow:
    workflow.ran()
    assert workflow.would_run() == {}
    return workflow


@pytest.mark.spark
class TestIsNeverWrong:
    """Each takes something away that an earlier run left, and asks what would be done."""

    def newest(self, workflow: Workflow, step: str) -> str:
        finished = [run for run in workflow.place.runs() if run.info.run_name == step]
        run_id: str = finished[0].info.run_id
        return run_id

    def test_a_run_that_failed_is_not_reused(self, whole: Workflow) -> None:
        run_id = self.newest(whole, "ingest")
        reused = f"reused, run {run_id[:8]}"
        whole.place.client.set_terminated(run_id, "KILLED")
        assert whole.because(dry_run="true")["ingest"] != reused
        whole.place.client.set_terminated(run_id, "FINISHED")
        assert whole.because(dry_run="true")["ingest"] == reused

    def test_a_deleted_run_is_not_reused(self, whole: Workflow) -> None:
        run_id = self.newest(whole, "train")
        reused = f"reused, run {run_id[:8]}"
        whole.place.client.delete_run(run_id)
        assert whole.because(dry_run="true")["train"] != reused
        whole.place.client.restore_run(run_id)
        assert whole.because(dry_run="true")["train"] == reused

    def test_a_model_whose_booster_is_gone_or_cut_off_is_trained_again(self, whole: Workflow) -> None:
        boosters = list(whole.place.folder.rglob("booster.ubj"))
        kept = {path: path.read_bytes() for path in boosters}
        for path in boosters:
            path.unlink()
        assert re.fullmatch(rf"artifacts/booster.ubj of models:/{MODEL}/\d is gone", whole.would_run()["train"])
        for path in boosters:
            path.write_bytes(kept[path][:12])
        damaged = rf"artifacts/booster.ubj of models:/{MODEL}/\d is damaged: 12 bytes, [\d,]+ expected"
        assert re.fullmatch(damaged, whole.would_run()["train"])
        for path, content in kept.items():
            path.write_bytes(content)

    def test_an_evaluation_without_its_report_is_made_again(self, whole: Workflow) -> None:
        reports = list(whole.place.folder.rglob("report.html"))
        for path in reports:
            path.rename(path.with_suffix(".away"))
        assert re.fullmatch(r"report.html of run [0-9a-f]{8} is gone", whole.would_run()["evaluate"])
        for path in reports:
            path.with_suffix(".away").rename(path)

    def test_a_deleted_version_is_trained_again(self, whole: Workflow) -> None:
        versions = [str(each.version) for each in whole.place.client.search_model_versions(f"name = '{MODEL}'")]
        for number in versions:
            whole.place.client.delete_model_version(MODEL, number)
        assert re.fullmatch(rf"models:/{MODEL}/\d was deleted", whole.would_run()["train"])
        assert list(whole.ran()) == ["train", "evaluate", "infer"]

    def test_an_alias_that_somebody_moved_is_judged_again(self, whole: Workflow) -> None:
        client = whole.place.client
        source = client.get_model_version_download_uri(
            MODEL, str(client.get_registered_model(MODEL).aliases["staging"])
        )
        now = str(client.get_registered_model(MODEL).aliases["staging"])
        other = client.create_model_version(MODEL, source)
        client.set_registered_model_alias(MODEL, "staging", other.version)
        expected = {"evaluate": f"staging names models:/{MODEL}/{other.version} now", "infer": "follows evaluate"}
        assert whole.would_run() == expected
        client.set_registered_model_alias(MODEL, "staging", now)
        client.delete_model_version(MODEL, other.version)

    def test_a_table_whose_files_are_gone_or_cut_off_is_written_again(self, whole: Workflow) -> None:
        newest = DeltaTable(whole.place.lake("iris"))
        path = Path(whole.place.lake("iris"), pa.table(newest.get_add_actions())["path"][0].as_py())
        content = path.read_bytes()
        path.write_bytes(content[:12])
        damaged = rf"a file of .*/iris@v\d is damaged: 12 bytes, {len(content):,} expected"
        assert re.fullmatch(damaged, whole.would_run()["ingest"])
        path.unlink()
        assert re.fullmatch(r"a file of .*/iris@v\d is gone", whole.would_run()["ingest"])
        ran = whole.ran()
        assert set(ran) >= {"ingest", "train"}
        assert rows_of(whole.place.lake("iris")).num_rows == 150

    def test_a_table_that_was_made_anew_from_other_rows_is_not_taken_for_the_old_one(self, whole: Workflow) -> None:
        assert whole.would_run() == {}
        rows = whole.rows
        shutil.rmtree(whole.place.folder / "lake")
        whole.rows = rows.assign(sepal_width=rows["sepal_width"] + 1)
        assert whole.step("ingest") == whole.place.lake("iris@v0")
        whole.rows = rows
        ran = whole.ran()
        assert list(ran) == STEPS
        stored = rows_of(whole.place.lake("iris")).to_pandas()
        assert sorted(stored["sepal_width"]) == sorted(rows["sepal_width"])

    def test_a_file_that_comes_while_others_are_read_is_for_the_next_ingest(
        self, whole: Workflow, tmp_path: Path
    ) -> None:
        folder = tmp_path / "comes"
        meanwhile = "other.with_name('late.csv').write_text(text); other.chmod(0o600); os.link(other, '{}')"
        ended = self.ingest_and_meanwhile(meanwhile.format(tmp_path / "linked"), whole, folder)
        assert ended.exit_code == 0, ended.text
        assert rows_of(str(tmp_path / "lake" / "iris")).num_rows == 300
        ended = self.ingest_and_meanwhile("pass", whole, folder)
        assert ended.exit_code == 0, ended.text
        assert rows_of(str(tmp_path / "lake" / "iris")).num_rows == 450

    def ingest_and_meanwhile(self, act: str, whole: Workflow, folder: Path) -> Ended:
        """The step ingest on a folder of two files; when it has read them, `act` is done to the `other` one."""
        program = (
            "import os, sys; from pathlib import Path\n"
            "from steps import ingest; from steps.core.sources import ingestion\n"
            f"run, other = ingestion.run, Path({str(folder / 'other.csv')!r})\n"
            "def run_and_act(*args, **settings):\n"
            "    result, text = run(*args, **settings), other.read_text()\n"
            f"    {act}\n"
            "    return result\n"
            "ingestion.run = run_and_act\n"
            "ingest.main(sys.argv[1:])"
        )
        folder.mkdir(exist_ok=True)
        for name in ("iris.csv", "other.csv"):
            whole.rows.to_csv(folder / name, index=False)
        config = folder.with_suffix(".yaml")
        config.write_text(yaml.safe_dump({**whole.settings, "source": {"uri": str(folder)}}))
        there = Place(whole.place.folder, {"PYTHONPATH": str(whole.project), **whole.place.extra})
        lake = folder.parent / "lake"
        return there.run(sys.executable, "-c", program, f"--config={config}", f"--lake={lake}")

    def test_code_that_is_edited_while_a_step_runs_counts_as_it_ran(self, whole: Workflow) -> None:
        scorer = whole.project / "steps" / "core" / "models" / "scorer.py"
        before = scorer.read_text()
        program = (
            "from steps.core.process import loaded_code; loaded_code.watch();"
            "import sys; from pathlib import Path; from steps import train; from steps.core.models import scorer;"
            "file = Path(scorer.__file__); file.write_text(file.read_text().replace('argmax', 'argmin'));"
            "train.main(sys.argv[1:])"
        )
        there = Place(whole.place.folder, {"PYTHONPATH": str(whole.project), **whole.place.extra})
        ended = there.run(sys.executable, "-c", program, f"--config={whole.path}", "--max_depth=7")
        assert ended.exit_code == 0, ended.text
        trained = whole.place.runs()[0]
        version = trained.data.tags["output.model"].rpartition("/")[2]
        model_id = str(whole.place.client.get_model_version(MODEL, version).source).rpartition("/")[2]
        (logged,) = whole.place.folder.glob(f"mlruns/*/models/{model_id}/artifacts/scorer.py")
        assert ("argmin" in scorer.read_text(), logged.read_text()) == (True, before)
        assert whole.ran(max_depth=7, dry_run="true")["train"] == "steps/core/models/scorer.py changed"
        scorer.write_text(before)
        assert whole.because(max_depth=7, dry_run="true")["train"] == f"reused, run {trained.info.run_id[:8]}"

    def test_the_summary_says_what_ran_where_the_config_was_edited_meanwhile(self, whole: Workflow) -> None:
        kept = whole.settings["model"]
        whole.settings["model"] = {**kept, "max_depth": 2}
        whole.ran(dry_run="true")  # writes the config
        program = """
import pathlib, runpy, sys, mlflow
run, config = mlflow.run, pathlib.Path(sys.argv[1].partition("=")[2])
def edited(project, *, entry_point, **given):
    if entry_point == "train":
        config.write_text(config.read_text().replace("max_depth: 2", "max_depth: 5"))
    return run(project, entry_point=entry_point, **given)
mlflow.run = edited
sys.argv.insert(1, "main")
runpy.run_module("steps", run_name="__main__", alter_sys=True)
"""
        there = Place(whole.place.folder, {"PYTHONPATH": str(whole.project), **whole.place.extra})
        ended = there.run(sys.executable, "-c", program, f"--config={whole.path}")
        assert ended.exit_code == 0, ended.text
        assert re.search(r"train \.\.\. \(model\.max_depth \d -> 2\)", ended.err)
        assert re.fullmatch(r"model\.max_depth \d -> 5", because(ended)["train"])
        main = next(run for run in whole.place.runs() if run.info.run_name == "main")
        steps = json.loads((Path(main.info.artifact_uri) / "workflow.json").read_text())["steps"]
        assert steps[1]["because"] == because(ended)["train"]
        whole.settings["model"] = kept

    def test_a_lake_put_back_from_a_backup_is_not_taken_for_the_one_that_it_replaces(self, whole: Workflow) -> None:
        """Its table has the id and, after the next ingest, the version number of a table that was lost."""
        rows, lake, backup = whole.rows, whole.place.folder / "lake", whole.place.folder / "backup"
        shutil.copytree(lake, backup)
        whole.rows = rows.assign(sepal_width=rows["sepal_width"] + 2)
        lost = whole.step("ingest")
        model = whole.step("train", table=lost)
        shutil.rmtree(lake)
        backup.rename(lake)
        whole.rows = rows.assign(sepal_width=rows["sepal_width"] + 3)
        assert list(whole.ran()) == STEPS
        assert whole.outputs()["table"] == lost
        for table in ("iris", "iris_predictions"):
            stored = rows_of(whole.place.lake(table)).to_pandas()
            if table == "iris_predictions":  # the rows of the table that was put back are marked
                stored = stored[stored["deleted_at"].isna()]
            assert sorted(stored["sepal_width"]) == sorted(whole.rows["sepal_width"])
        status = whole.place.step("main", config=whole.path, dry_run="true").out
        assert re.search(f"{model}  .*  trained on {re.escape(lost)}, which is another one now", status), status
        lineage = whole.place.step("lineage", uri=model).out
        assert "another has its name now" in lineage
        whole.rows = rows


@pytest.mark.spark
@pytest.mark.parametrize("step", STEPS)
def test_a_step_reads_of_the_config_what_its_key_holds(workflow: Workflow, step: str) -> None:
    program = """
import json, sys
from steps.core import config
load, read = config.load, set()
def recorded(*given, **named):
    loaded = load(*given, **named)
    ask = config.Config.__getattribute__
    def noted(self, name):
        if name in config.Config.model_fields:
            read.add(name)
        return ask(self, name)
    config.Config.__getattribute__ = noted
    return loaded
config.load = recorded
import importlib
importlib.import_module(f"steps.{sys.argv[1]}").main(sys.argv[2:])
print(json.dumps(sorted(read)))
"""
    there = Place(workflow.place.folder, {"PYTHONPATH": str(workflow.project), **workflow.place.extra})
    handed_on = workflow.outputs()
    given = [f"--config={workflow.path}", *(f"--{name}={handed_on[name]}" for name in SPECS[step].works_on_uris)]
    ended = there.run(sys.executable, "-c", program, step, *given)
    assert ended.exit_code == 0, ended.text
    read = set(json.loads(ended.out.splitlines()[-1]))
    assert read - {"name"} <= set(SPECS[step].config_keys)  # the name is also the tag by which a run is found
    assert read
