"""A workflow that is changed, broken and killed at random: after each act `main` hands on what a run from nothing does.

SOAK_ACTS says how many acts there are, SOAK_SEED which; `make soak` runs many.
"""

import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable
from place import COLUMNS, PROJECT, Ended, Place, new_database, rows_of, until
from sklearn.datasets import load_iris

pytestmark = pytest.mark.spark

ACTS = int(os.environ.get("SOAK_ACTS", "2"))  # a sample; `make soak` does sixty
SEED = int(os.environ.get("SOAK_SEED", "9"))  # which begins with a kill and an older lake; test_reuse.py has the others
MODEL = "iris_xgboost_classifier"
# What a file has in place of its last lines, or after them, when it is edited. Each changes what its step makes.
EDITS = {
    "steps/core/models/training.py": """
_fit_rows = fit_rows
def fit_rows(*given, **named):
    return _fit_rows(*given, **{**named, "model": named["model"].model_copy(update={"num_boost_round": 3})})
""",
    "steps/core/metrics.py": """
_scores = scores
def scores(*given, **named):
    return {name: value * 0.99 if name == "accuracy" else value for name, value in _scores(*given, **named).items()}
""",
    "steps/core/models/predictions.py": """
_add_predictions = add_predictions
def add_predictions(*given, **named):
    rows = _add_predictions(*given, **named)
    at = rows.schema.get_field_index("probability")
    return rows.set_column(at, rows.schema.field(at), [[value / 2 for value in rows["probability"].to_pylist()]])
""",
}
MAIN = 'if __name__ == "__main__":'


@dataclass(frozen=True, kw_only=True)
class State:
    """All that the results depend on."""

    edited: frozenset[str] = frozenset()
    max_depth: int = 4  # the parameter
    at_least: float = 0.5  # of the gate in the config
    rows: int = 150  # of the source


class Soak:
    """One place where `main` runs again and again, and what a run from nothing makes for each state."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.random = random.Random(SEED)
        self.project = base / "project"
        for name in ("MLproject", "conda.yaml", "main.py", "configs", "steps"):
            source = PROJECT / name
            self.project.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.project / name)
        self.place = self.new_place("stand")
        self.state = State()
        self.lakes: list[Path] = []  # a copy of the lake after each act
        self.from_nothing: dict[State, dict[str, Any]] = {}
        self.log: list[str] = []
        self.main(self.place)
        self.from_nothing[self.state] = results_of(self.place)
        self.keep_the_lake()

    def new_place(self, name: str) -> Place:
        (self.base / name).mkdir()
        new_database(self.base / name)
        return Place(self.base / name, {"PYTHONPATH": str(self.project)})

    def command(self, place: Place) -> list[str]:
        """Write what the state says of code, config and source, and the command of `main` for it."""
        for file, text in EDITS.items():
            before, main, after = (PROJECT / file).read_text(encoding="utf-8").partition(MAIN)
            edit = text if file in self.state.edited else ""
            content = (before + edit + main + after).encode()
            if content != (self.project / file).read_bytes():  # else another `main` may just be reading it
                draft = place.folder / "draft"  # not one for all: another thread may just be writing another file
                draft.write_bytes(content)
                draft.replace(self.project / file)
        flowers = load_iris(as_frame=True)
        rows: pd.DataFrame = flowers.frame.set_axis([*list(COLUMNS)[:4], "species"], axis=1)
        rows["species"] = [str(flowers.target_names[code]) for code in rows["species"]]
        rows.head(self.state.rows).to_csv(place.folder / "iris.csv", index=False)
        settings = yaml.safe_load((PROJECT / "configs" / "iris.yaml").read_text(encoding="utf-8"))
        settings |= {"source": {"uri": "iris.csv"}, "columns": COLUMNS}
        settings["model"] |= {"num_boost_round": 10}
        # every version passes, or the results would depend on what came before
        settings["gate"] = {"metric": "accuracy", "at_least": self.state.at_least, "max_drop_below_champion": 1}
        (place.folder / "iris.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        given = {"config": place.folder / "iris.yaml", "max_depth": self.state.max_depth}
        return [sys.executable, "-m", "steps", "main", *[f"--{name}={value}" for name, value in given.items()]]

    def main(self, place: Place) -> Ended:
        ended = place.run(*self.command(place))
        assert ended.exit_code == 0, f"{self.history}\n{ended.text}"
        return ended

    def check(self) -> None:
        """Run `main` here and, where that was not done yet, in an empty folder, and compare."""
        with ThreadPoolExecutor(1) as beside:
            anew = beside.submit(self.results_from_nothing)
            ended = self.main(self.place)
            expected = anew.result()
        results = results_of(self.place)
        different = [name for name in expected if results[name] != expected[name]]
        assert not different, f"{different}\n{self.history}\n{ended.text}\n{results}\n{expected}"
        self.keep_the_lake()

    def keep_the_lake(self) -> None:
        self.lakes.append(self.base / f"lake-{len(self.lakes)}")
        shutil.copytree(self.place.folder / "lake", self.lakes[-1])

    def results_from_nothing(self) -> dict[str, Any]:
        if self.state not in self.from_nothing:
            place = self.new_place(f"nothing-{len(self.from_nothing)}")
            self.main(place)
            self.from_nothing[self.state] = results_of(place)
        return self.from_nothing[self.state]

    @property
    def history(self) -> str:
        return f"SOAK_SEED={SEED} SOAK_ACTS={len(self.log)}\n" + "\n".join(self.log)

    def act(self, kind: str) -> None:
        """Do something of that kind to what is there."""
        did = getattr(self, kind)()
        self.log.append(f"{len(self.log) + 1} {kind}: {did}")

    def edit_a_file(self) -> str:
        file = self.random.choice(list(EDITS))
        self.state = replace(self.state, edited=self.state.edited ^ {file})
        return file

    def change_a_parameter(self) -> str:
        self.state = replace(self.state, max_depth=self.random.choice([1, 2, 3]))
        return f"max_depth={self.state.max_depth}"

    def change_the_config(self) -> str:
        self.state = replace(self.state, at_least=0.9 - self.state.at_least)
        return f"gate.at_least={self.state.at_least}"

    def change_the_source(self) -> str:
        self.state = replace(self.state, rows=290 - self.state.rows)
        return f"{self.state.rows} rows"

    def restore_an_older_lake(self) -> str:
        """And let the source have changed since, or not."""
        lake = self.random.choice(self.lakes)
        shutil.rmtree(self.place.folder / "lake")
        shutil.copytree(lake, self.place.folder / "lake")
        return f"{lake.name}, {self.change_the_source() if self.random.random() < 0.5 else 'the same source'}"

    def damage_an_artifact(self) -> str:
        path = self.random.choice(self.artifacts())
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        return str(path)

    def delete_something(self) -> str:
        main = newest_main(self.place)
        model, client = main.data.tags["output.model"], self.place.client
        run_id = self.random.choice([step["run_id"] for step in steps_of(main)])
        table = self.place.lake(self.random.choice(["iris", "iris_predictions"]))
        deletions: dict[str, Callable[[], object]] = {
            f"run {run_id}": lambda: client.delete_run(run_id),
            model: lambda: client.delete_model_version(MODEL, model.rpartition("/")[2]),
            table: lambda: shutil.rmtree(table),
        }
        what = self.random.choice(list(deletions))
        deletions[what]()
        return what

    def kill_main(self) -> str:
        """While it makes something else than before."""
        change = self.random.choice([self.change_a_parameter, self.change_the_source, self.edit_a_file])()
        seconds = self.random.uniform(1, 15)
        how = self.random.choice([signal.SIGKILL, signal.SIGTERM])
        began = subprocess.Popen(
            self.command(self.place),
            cwd=self.place.folder,
            env=self.place.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            began.wait(seconds)
        began.send_signal(how)
        began.wait()
        assert until(lambda: not self.place.processes(), seconds=20), self.place.processes()
        return f"{how.name} after {seconds:.1f} s, {change}"

    def artifacts(self) -> list[Path]:
        """Files of the newest results: of each run, of the model, of both tables."""
        main = newest_main(self.place)
        receipts = [Path(artifact_folder(self.place, step["run_id"]), "receipt.json") for step in steps_of(main)]
        report = next(path.with_name("report.html") for path in receipts if path.with_name("report.html").exists())
        model = model_folder(self.place, main.data.tags["output.model"]) / "artifacts" / "booster.ubj"
        tables = [main.data.tags[f"output.{name}"].rpartition("@v")[0] for name in ("table", "predictions")]
        parquet = [
            Path(path, name)
            for path in tables
            for name in pa.table(DeltaTable(path).get_add_actions())["path"].to_pylist()
        ]
        return [*receipts, report, model, *parquet]


def newest_main(place: Place) -> Any:
    return next(run for run in place.runs() if run.info.run_name == "main" and run.info.status == "FINISHED")


def steps_of(main: Any) -> list[dict[str, str]]:
    record = json.loads(Path(main.info.artifact_uri, "workflow.json").read_text(encoding="utf-8"))
    return list(record["steps"])


def artifact_folder(place: Place, run_id: str) -> str:
    return str(place.client.get_run(run_id).info.artifact_uri)


def model_folder(place: Place, uri: str) -> Path:
    version = place.client.get_model_version(MODEL, uri.rpartition("/")[2])
    (folder,) = place.folder.glob(f"mlruns/*/models/{str(version.source).rpartition('/')[2]}/artifacts")
    return folder


def results_of(place: Place) -> dict[str, Any]:
    """What the newest workflow handed on, read from where that is, without the names of runs and versions."""
    main = newest_main(place)
    made = {name.removeprefix("output."): uri for name, uri in main.data.tags.items() if name.startswith("output.")}
    pinned = {name: made[name].rpartition("@v") for name in ("table", "predictions")}
    stored = {name: rows_of(path, int(version)).to_pandas() for name, (path, _, version) in pinned.items()}
    live = stored["predictions"][stored["predictions"]["deleted_at"].isna()]
    predictions = live[[*COLUMNS, "prediction", "probability"]]
    judged = next(step["run_id"] for step in steps_of(main) if step["step"] == "evaluate")
    staging = place.client.get_registered_model(MODEL).aliases["staging"]
    return {
        "rows": sorted(stored["table"].itertuples(index=False, name=None)),
        "booster": hashlib.sha256(
            (model_folder(place, made["model"]) / "artifacts/booster.ubj").read_bytes()
        ).hexdigest(),
        "verdict": made["verdict"],
        "accuracy": place.client.get_run(judged).data.metrics["accuracy"],
        "predictions": sorted(predictions.itertuples(index=False, name=None)),
        "made of": [
            set(live["model_uri"]) == {made["model"]} == {made["champion"]},
            set(live["table_uri"]) == {made["table"]},
            f"models:/{MODEL}/{staging}" == made["champion"],
            *(DeltaTable(path).version() == int(version) for path, _, version in pinned.values()),
        ],
    }


KINDS = [
    "edit_a_file",
    "change_a_parameter",
    "change_the_config",
    "change_the_source",
    "restore_an_older_lake",
    "damage_an_artifact",
    "delete_something",
    "kill_main",
]


def test_after_any_act_main_hands_on_what_a_run_from_nothing_does(tmp_path: Path) -> None:
    soak = Soak(tmp_path)
    for kind in kinds(soak.random):
        soak.act(kind)
        soak.check()


def kinds(random: random.Random) -> Iterator[str]:
    """All kinds in one order after another."""
    rounds = (random.sample(KINDS, len(KINDS)) for _ in range(0, ACTS, len(KINDS)))
    return itertools.islice(itertools.chain.from_iterable(rounds), ACTS)
