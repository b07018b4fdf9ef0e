"""What a step's results depend on, as text: what its SPEC declares, the environment, and the code.

Everything that a step reads never changes under its name: its part of the config with parameters applied, pinned URIs
with the identity of what is there, the pinned packages. What code a run used is known only when it has ended
(loaded_code), so the key of a run is a digest of the rest.
"""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from steps.core.config import PROJECT, Config
from steps.core.models import registry
from steps.core.process import loaded_code
from steps.core.tables import location, snapshot
from steps.core.tables.snapshot import Snapshot
from steps.core.workflow.differences import CODE, code_of
from steps.core.workflow.step_spec import StepSpec


def inputs_of(spec: StepSpec[Any], settings: Config, **works_on: str | Snapshot) -> dict[str, str]:
    """What the results of a step depend on but for its code, by name.

    `settings` has the parameters applied. `works_on` has at least what the SPEC names so, else KeyError.
    """
    values = dict(_flat(settings.model_dump(mode="json", include=set(spec.config_keys)), "config"))
    if "columns" in spec.config_keys:  # a mapping, but their order is the table's and the model's
        values["config.columns.order"] = ", ".join(settings.columns)
    for name in spec.works_on:
        values[name] = str(works_on[name])
        if uri_identity := identity(works_on[name]):
            values[f"{name}.identity"] = uri_identity
    return {**values, **environment()}


def key_of(step: str, inputs: Mapping[str, str]) -> str:
    """SHA-256 of a step's inputs."""
    return hashlib.sha256(json.dumps([step, *sorted(inputs.items())]).encode()).hexdigest()


def identity(thing: str | Snapshot) -> str:
    """What tells an open table, or what is at a URI, from another that had that URI before; "" for anything else."""
    if isinstance(thing, Snapshot):
        return thing.identity
    if thing.startswith("models:/"):
        return str(registry.resolve(thing).source)
    if re.search(r"@v\d+$", thing):
        return snapshot.open(location.parse_table(thing)).identity
    return ""


def code(later: Iterable[str] = ()) -> dict[str, str]:
    """The project's files that this process has loaded by now, each with a digest of what was read, and those that it
    may load `later`, with what it would read now."""
    digests = {**{file: loaded_code.digest(file) for file in later}, **loaded_code.digests()}
    return {f"{CODE}{file}": digest for file, digest in digests.items()}


def code_now(inputs: Mapping[str, str]) -> dict[str, str]:
    """The same files, with the digests that a step would read now."""
    return {name: loaded_code.digest(name.removeprefix(CODE)) for name in code_of(inputs)}


@cache
def environment() -> dict[str, str]:
    """Each pin of conda.yaml, with what is installed where that is another version."""
    dependencies = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    lines = [line for entry in dependencies for line in (entry["pip"] if isinstance(entry, dict) else [entry])]
    versions, installed = {"environment.python": platform.python_version()}, _installed()
    for line in lines:
        name, wanted = re.fullmatch(r"\s*([\w.-]*)(?:\[.*?\])?([^;]*).*", line, re.DOTALL).groups()  # type: ignore[union-attr]
        wanted = wanted.strip().lstrip("=")
        versions.setdefault(f"environment.{name}", wanted)
        if "==" in line and installed.get(name, wanted) != wanted:
            versions[f"environment.{name}"] = f"{installed[name]} (conda.yaml: {wanted})"
        elif re.match(r"$|[<>~!]", wanted) and name in installed:  # a range, or none: what is installed decides
            versions[f"environment.{name}"] = f"{installed[name]} (conda.yaml: {wanted or 'any'})"
    return versions


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
