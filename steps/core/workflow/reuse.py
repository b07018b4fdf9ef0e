"""What a step's results depend on, and whether an earlier run with the same has made them already.

All that a step reads never changes under its name, so its inputs are text: its part of the config with parameters
applied, pinned URIs, the environment, and the code. What code a run used is known when it has ended (loaded_code), so
the tag `key` is a digest of the rest, and the code of a run with the same key is compared with the files there are now.
"""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.entities import Run, ViewType

from steps.core.config import PROJECT, Config
from steps.core.models import aliases, registry
from steps.core.process import loaded_code
from steps.core.tables import location, snapshot
from steps.core.tracking import artifacts, runs
from steps.core.workflow import differences
from steps.core.workflow.differences import CODE

KEY = "key"  # tag on a run: the digest of its inputs without the code
WORKFLOW = "workflow"  # tag on a run: the config's name, by which the nearest earlier run is found
RECEIPT = "receipt.json"
RECEIPT_SHA256 = "receipt.sha256"  # tag on a run
# Tags on a run, input_identity.<name> and output_identity.<name>: the identity of each URI that it read and wrote.
INPUT_IDENTITY, OUTPUT_IDENTITY = "input_identity.", "output_identity."
EARLIER_RUNS = 20  # how many are looked at, for one to reuse and for the one that differs least
DELETED = ViewType.DELETED_ONLY


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What a step reads: keys of the config, and what it works on. What it does not read cannot change its results."""

    config: tuple[str, ...]
    given: tuple[str, ...]


READS = {
    "ingest": Reads(config=("name", "source", "columns", "target"), given=("lake", "content")),
    "train": Reads(config=("columns", "key", "target", "task", "split", "model"), given=("table",)),
    "evaluate": Reads(config=("columns", "key", "target", "task", "split", "gate"), given=("table", "model")),
    "infer": Reads(config=("name",), given=("lake", "table", "model")),
}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`run` is one whose results can be taken again; where there is none, `because` says why.

    `earlier` has the inputs of the runs that `because` compares with; it is empty where another reason is known.
    """

    run: Run | None = None
    because: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)  # what it was decided on; {} where that did not matter
    earlier: Sequence[Mapping[str, str]] = ()

    def in_hindsight(self, ran_with: Mapping[str, str]) -> str:
        """Why the step ran, by the inputs that its receipt has: a config or a file may have been edited meanwhile."""
        if self.earlier:
            return _nearest(self.earlier, ran_with) or "what had changed was changed back before it ran"
        expected = {**self.inputs, **_code_of(ran_with)}
        meanwhile = differences.in_words(list(differences.between(expected, ran_with))) if self.inputs else ""
        return f"{self.because}, and meanwhile {meanwhile}" if meanwhile else self.because


def inputs(step: str, settings: Config, **given: str) -> dict[str, str]:
    """What the results of `step` depend on but for its code, by name.

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
    return {**found, **environment()}


def key_of(step: str, inputs: Mapping[str, str]) -> str:
    """SHA-256 of a step's inputs."""
    return hashlib.sha256(json.dumps([step, *sorted(inputs.items())]).encode()).hexdigest()


def identity(uri: str) -> str:
    """What tells the thing at a URI from another that had that URI before; "" when it is neither table nor model."""
    if uri.startswith("models:/"):
        return str(registry.resolve(uri).source)
    if re.search(r"@v\d+$", uri):
        return snapshot.identity(location.table_uri(uri))
    return ""


def code() -> dict[str, str]:
    """The project's files that this process has loaded by now, each with a digest of what was read."""
    return {f"{CODE}{file}": digest for file, digest in loaded_code.digests().items()}


@cache
def environment() -> dict[str, str]:
    """Each pin of conda.yaml, with what is installed where that is another version."""
    listed = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    pins = [pin for each in listed for pin in (each["pip"] if isinstance(each, dict) else [each])]
    found, installed = {"environment.python": platform.python_version()}, _installed()
    for pin in pins:
        name, wanted = re.fullmatch(r"\s*([\w.-]*)(?:\[.*?\])?([^;]*).*", pin, re.DOTALL).groups()  # type: ignore[union-attr]
        wanted = wanted.strip().lstrip("=")
        found.setdefault(f"environment.{name}", wanted)
        if "==" in pin and installed.get(name, wanted) != wanted:
            found[f"environment.{name}"] = f"{installed[name]} (conda.yaml: {wanted})"
        elif re.match(r"$|[<>~!]", wanted) and name in installed:  # a range, or none: what is there decides
            found[f"environment.{name}"] = f"{installed[name]} (conda.yaml: {wanted or 'any'})"
    return found


def find_reusable(step: str, inputs: Mapping[str, str], *, workflow: str, experiment_id: str) -> Decision:
    """The newest finished run with these inputs, and the code that is there now, whose results still stand."""
    key = {KEY: key_of(step, inputs)}
    same = runs.newest(experiment_id, key, count=EARLIER_RUNS)
    why_not = []
    for run, receipt, damage in _receipts(same):
        if damage:
            why_not.append(damage)
        elif _code_of(receipt["inputs"]) == _code_now(receipt["inputs"]):
            if not (damage := staleness_reason(run, receipt)):
                return Decision(run=run, inputs=inputs)
            why_not.append(damage)
    if same and not any(run.info.status == "FINISHED" for run in same):
        why_not.append(f"its run {same[0].info.run_id[:8]} is {same[0].info.status}")
    if not why_not:
        for run, receipt, damage in _receipts(runs.newest(experiment_id, key, count=EARLIER_RUNS, view=DELETED)):
            if not damage and _code_of(receipt["inputs"]) == _code_now(receipt["inputs"]):
                why_not.append(f"its run {run.info.run_id[:8]} was deleted")
    if why_not:
        return Decision(because=why_not[0], inputs=inputs)
    its_runs = {WORKFLOW: f"{workflow}.{step}"}
    of_the_step = runs.newest(experiment_id, its_runs, count=EARLIER_RUNS)
    earlier = [receipt["inputs"] for _, receipt, damage in _receipts(of_the_step) if not damage]
    if earlier:
        return Decision(because=_nearest(earlier, inputs), inputs=inputs, earlier=earlier)
    deleted_too = runs.newest(experiment_id, its_runs, count=1, view=DELETED)
    return Decision(because="its earlier runs were deleted" if deleted_too else "first run", inputs=inputs)


def staleness_reason(run: Run, receipt: Mapping[str, Any]) -> str:
    """Why the results of a finished run cannot be taken again, "" when all of them stand as it left them."""
    its_files = f"run {run.info.run_id[:8]}"
    if damage := artifacts.damage(receipt["artifacts"], artifacts.of_run(run), of=its_files):
        return damage
    for name, uri in receipt["wrote"].items():
        if name == "verdict":
            reason = registry.verdict_staleness(receipt["read"]["model"], run.info.run_id)
        else:
            reason = aliases.champion_staleness(receipt["read"]["model"], uri) if name == "champion" else ""
            reason = reason or _staleness_of(uri, receipt)
        if reason:
            return reason
    return ""


def write_receipt(run: Run, receipt: Mapping[str, Any]) -> None:
    """Keep what a run read and wrote, with what tells its results, when it is reusable, from later or damaged ones."""
    receipt = dict(receipt)
    if "inputs" in receipt:
        wrote = receipt["wrote"].values()
        receipt["inputs"] = {**receipt["inputs"], **code()}
        known = receipt["identities"] = {uri: its for uri in wrote if (its := identity(uri))}
        named = {name: known[uri] for name, uri in receipt["wrote"].items() if uri in known}
        mlflow.set_tags({f"{OUTPUT_IDENTITY}{name}": its for name, its in named.items()})
        receipt["artifacts"] = artifacts.of_run(run)
        receipt["models"] = {
            uri: registry.files(uri) for uri in receipt["wrote"].values() if uri.startswith("models:/")
        }
    text = json.dumps(receipt, indent=2, default=str)
    mlflow.log_text(text, RECEIPT)
    mlflow.set_tag(RECEIPT_SHA256, hashlib.sha256(text.encode()).hexdigest())


def receipt_of(run: Run) -> tuple[dict[str, Any], str]:
    """What a run wrote down, or why that cannot be relied on."""
    text = artifacts.read(run, RECEIPT)
    if text is None:
        return {}, f"{RECEIPT} of run {run.info.run_id[:8]} is gone"
    digest = hashlib.sha256(text).hexdigest()
    try:
        receipt: dict[str, Any] = json.loads(text)
    except ValueError:
        digest = ""
    if run.data.tags.get(RECEIPT_SHA256, digest) != digest:
        return {}, f"{RECEIPT} of run {run.info.run_id[:8]} is damaged"
    return receipt, ""


def _staleness_of(uri: str, receipt: Mapping[str, Any]) -> str:
    if uri.startswith("models:/"):
        return registry.staleness_reason(uri, source=receipt["identities"][uri], files=receipt["models"][uri])
    return snapshot.staleness_reason(location.table_uri(uri), identity=receipt["identities"][uri]) if uri else ""


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}")
    else:
        yield name, json.dumps(value, ensure_ascii=False)


def _installed() -> dict[str, str]:
    """Package to version, from the names of their folders: opening the 120 that there are takes a tenth of a second."""
    folders = [folder.name for path in reversed(sys.path) for folder in Path(path).glob("*-*.dist-info")]
    pairs = (name.removesuffix(".dist-info").split("-")[:2] for name in folders)
    return {re.sub(r"[-_.]+", "-", name).lower(): number for name, number in pairs}


def _receipts(finished_or_not: list[Run]) -> Iterator[tuple[Run, dict[str, Any], str]]:
    """Of finished runs that say what they depend on, or of which it cannot be known: the receipt, or its damage."""
    for run in finished_or_not:
        if run.info.status == "FINISHED":
            receipt, damage = receipt_of(run)
            if damage or "inputs" in receipt:
                yield run, receipt, damage


def _nearest(earlier: Sequence[Mapping[str, str]], now: Mapping[str, str]) -> str:
    """What differs from the inputs that differ least. Where `now` has no code, it is what the files hold now."""
    has_code = any(name.startswith(CODE) for name in now)
    found = [list(differences.between(before, now if has_code else {**now, **_code_now(before)})) for before in earlier]
    return differences.in_words(min(found, key=len))


def _code_of(inputs: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in inputs.items() if name.startswith(CODE)}


def _code_now(inputs: Mapping[str, str]) -> dict[str, str]:
    """The code of a run, as its files are now."""
    return {name: loaded_code.digest(name.removeprefix(CODE)) for name in _code_of(inputs)}
