"""What a step's results depend on, and whether an earlier run with the same has made them already.

All that a step reads never changes under its name, so its inputs are text: the code that it imports, the environment,
its part of the config with parameters applied, and pinned URIs. A digest of them is the run's tag `key`.
"""

import ast
import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from steps.core import lake, registry, runs
from steps.core.config import PROJECT, Config

KEY = "key"  # tag on a run: the digest of its inputs
WORKFLOW = "workflow"  # tag on a run: the config's name, by which the nearest earlier run is found
RECEIPT = "receipt.json"
EARLIER_RUNS = 20  # how many are looked at for the one that differs least
TOLD = 3  # differences that are told; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What a step reads: keys of the config, and what it works on. What it does not read cannot change its results."""

    config: tuple[str, ...]
    given: tuple[str, ...]


READS = {
    "ingest": Reads(config=("name", "source", "columns"), given=("lake", "content")),
    "train": Reads(config=("columns", "key", "target", "task", "split", "model"), given=("table",)),
    "evaluate": Reads(config=("columns", "key", "target", "task", "split", "gate"), given=("table", "model")),
    "infer": Reads(config=("name",), given=("lake", "table", "model")),
}


def inputs(step: str, settings: Config, **given: str) -> dict[str, str]:
    """All that the results of `step` depend on, by name.

    `settings` has the parameters applied. `given` has what the step works on, and may have more: pinned tables and
    models, each with what tells it from an older thing of the same name; the lake; a fingerprint of the source.
    """
    reads = READS[step]
    found = dict(_flat(settings.model_dump(mode="json", include=set(reads.config)), "config"))
    if "columns" in reads.config:  # a mapping, but their order is the table's and the model's
        found["config.columns.order"] = ", ".join(settings.columns)
    for name in reads.given:
        found[name] = given[name]
        if made := identity(given[name]):
            found[f"{name}.identity"] = made
    return {**found, **code(step), **environment()}


def key_of(step: str, inputs: Mapping[str, str]) -> str:
    """SHA-256 of a step's inputs."""
    return hashlib.sha256(json.dumps([step, *sorted(inputs.items())]).encode()).hexdigest()


def identity(uri: str) -> str:
    """What tells the thing at a URI from another that had that URI before; "" when it is neither table nor model."""
    if uri.startswith("models:/"):
        return str(registry.resolve(uri).source)
    if re.search(r"@v\d+$", uri):
        return lake.identity(lake.table_uri(uri))
    return ""


def code(step: str) -> dict[str, str]:
    """Each project file that a step imports, at any depth, with a digest of its bytes."""
    waiting, files = [PROJECT / "steps" / f"{step}.py"], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += _project_files(_imported(file.read_bytes()))
    return {
        f"code.{file.relative_to(PROJECT).as_posix()}": hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
    }


@cache
def environment() -> dict[str, str]:
    """Each pin of conda.yaml, with what is installed where that is another version."""
    listed = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    pins = [pin for each in listed for pin in (each["pip"] if isinstance(each, dict) else [each])]
    found, installed = {"environment.python": platform.python_version()}, _installed()
    for pin in pins:
        name, _, wanted = re.fullmatch(r"([^=]+?)(==?)([^;]+)(?:;.*)?", pin).groups()  # type: ignore[union-attr]
        found.setdefault(f"environment.{name}", wanted.strip())
        if "==" in pin and installed.get(name, wanted.strip()) != wanted.strip():
            found[f"environment.{name}"] = f"{installed[name]} (conda.yaml: {wanted.strip()})"
    return found


def find(step: str, inputs: Mapping[str, str], *, workflow: str, experiment_id: str) -> tuple[Run | None, str]:
    """The newest finished run with these inputs whose results still stand, or None and why there is none."""
    same = runs.newest(experiment_id, {KEY: key_of(step, inputs)}, count=EARLIER_RUNS)
    why_not = []
    for run in same:
        if run.info.status == "FINISHED":
            if not (gone := what_is_gone(run)):
                return run, ""
            why_not.append(gone)
    if why_not:
        return None, why_not[0]
    if same:
        return None, f"its run {same[0].info.run_id[:8]} is {same[0].info.status}"
    of_the_step = runs.newest(experiment_id, {WORKFLOW: f"{workflow}.{step}"}, count=EARLIER_RUNS)
    earlier = [receipt.get("inputs") for receipt in _receipts(of_the_step)]
    differences = [list(_differences(each, inputs)) for each in earlier if each]
    if not differences:
        return None, "first run"
    nearest = min(differences, key=len)
    more = f" and {len(nearest) - TOLD} more" if len(nearest) > TOLD else ""
    return None, ", ".join(nearest[:TOLD]) + more


def what_is_gone(run: Run) -> str:
    """Why the results of a finished run cannot be taken again, "" when all of them stand as it left them."""
    kept = artifacts(run.info.run_id)
    receipt = _receipt(run, kept)
    if receipt is None:
        return f"{RECEIPT} of run {run.info.run_id[:8]} is gone"
    if lost := [name for name in receipt.get("artifacts", []) if name not in kept]:
        return f"{', '.join(lost)} of run {run.info.run_id[:8]} is gone"
    for name, uri in receipt["wrote"].items():
        if name == "champion":
            reason = registry.why_not_champion(receipt["read"]["model"], uri)
        elif name == "verdict":
            reason = registry.why_not_judged_by(receipt["read"]["model"], run.info.run_id)
        elif uri.startswith("models:/"):
            reason = registry.what_is_gone(uri, source=receipt["identities"][uri])
        else:
            reason = lake.what_is_gone(lake.table_uri(uri), identity=receipt["identities"][uri])
        if reason:
            return reason
    return ""


def artifacts(run_id: str) -> list[str]:
    """The names of a run's artifacts, folders as one."""
    return [file.path for file in MlflowClient().list_artifacts(run_id)]


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}")
    else:
        yield name, json.dumps(value, ensure_ascii=False)


@cache
def _imported(text: bytes) -> frozenset[str]:
    """The modules, and what may be modules, that the import statements of a file name, wherever they stand."""
    names = set()
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):  # an expression holds no statement
            inner = getattr(node, block, [])
            waiting += inner if isinstance(inner, list) else []
    return frozenset(names)


def _project_files(names: frozenset[str]) -> list[Path]:
    """The files of these modules, and of the packages that they are in, as far as they are the project's."""
    parents = {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}
    paths = [PROJECT.joinpath(*name.split(".")) for name in parents]
    found = [path.with_suffix(".py") for path in paths] + [path / "__init__.py" for path in paths]
    return [path for path in found if path.is_file()]


def _installed() -> dict[str, str]:
    """Package to version, from the names of their folders: opening the 120 that there are takes a tenth of a second."""
    folders = [folder.name for path in reversed(sys.path) for folder in Path(path).glob("*-*.dist-info")]
    pairs = (name.removesuffix(".dist-info").split("-")[:2] for name in folders)
    return {re.sub(r"[-_.]+", "-", name).lower(): number for name, number in pairs}


def _receipts(finished_or_not: list[Run]) -> Iterator[dict[str, Any]]:
    for run in finished_or_not:
        if run.info.status == "FINISHED" and (receipt := _receipt(run, artifacts(run.info.run_id))):
            yield receipt


def _receipt(run: Run, kept: list[str]) -> dict[str, Any] | None:
    """What a run wrote down, None when that is not among the artifacts that it has kept."""
    if RECEIPT not in kept:
        return None
    try:
        receipt: dict[str, Any] = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{RECEIPT}")
    except MlflowException:  # it is there, and not JSON
        return None
    return receipt


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What changed, in words: the config first, then what the step works on, its code and its environment."""
    names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    for name in names:
        kind, _, rest = name.partition(".")
        old, new = before.get(name), now.get(name)
        if kind == "code":
            yield f"{rest} {'changed' if old and new else 'is new' if new else 'is no longer imported'}"
        elif rest == "identity":
            if kind not in names:
                yield f"{_short(now.get(kind, ''))} was made anew"
        elif kind in ("config", "environment"):
            yield f"{rest} {old or 'none'} -> {new or 'none'}"
        elif name == "content":
            yield "the source's content changed"
        else:
            yield f"{name} {_change(old or 'none', new or 'none')}"


def _change(old: str, new: str) -> str:
    """Both by their names or, where those are the same, by their URIs."""
    names = (_short(old), _short(new))
    return " -> ".join(names if names[0] != names[1] else (old, new))


def _short(uri: str) -> str:
    return uri.rpartition("/")[2] if not uri.startswith("models:/") else uri.removeprefix("models:/")
