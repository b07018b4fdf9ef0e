"""infrastructure/ as the tests read it: its tools, and the manifests as kustomize renders them."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from place import PROJECT
from services import needed

INFRASTRUCTURE = PROJECT / "infrastructure"
TERRAFORM = INFRASTRUCTURE / "terraform"
KUBERNETES = INFRASTRUCTURE / "kubernetes"
CHECKS = INFRASTRUCTURE / "checks"
OVERLAYS = ("dev", "production")


def tool(name: str) -> Path:
    """A command of infrastructure/tools.sh; where it was not run the test is skipped."""
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return needed(name, cache_folder / "tabular-workflow/infrastructure/bin")


def text_of(path: str) -> str:
    return (TERRAFORM / path).read_text(encoding="utf-8")


def names_of_map(text: str, name: str) -> set[str]:
    """The keys of the map `name`, written one a line as `tofu fmt` has them."""
    block = re.search(rf"^( *){name} = {{\n(.*?)^\1}}", text, re.MULTILINE | re.DOTALL)
    assert block is not None, name
    return set(re.findall(rf"^{block[1]}  ([\w-]+) +=", block[2], re.MULTILINE))


def service_accounts() -> dict[str, set[str]]:
    """The accounts of each role in roles.tf."""
    roles = re.findall(r"^    (\w+) += \{ accounts = (\[.*?\])", text_of("roles.tf"), re.MULTILINE)
    return {name: set(json.loads(accounts)) for name, accounts in roles}


def run_check(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """One of infrastructure/checks, in the Python of the tools."""
    command = [str(tool("infrastructure-python")), str(CHECKS / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=bare_environment(), check=False)


def bare_environment() -> dict[str, str]:
    """This process's own, without what this machine's user set for OpenTofu."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return {**clean, "TF_CLI_CONFIG_FILE": os.devnull}


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    command = [str(tool("kustomize")), "build", str(KUBERNETES / "overlays" / overlay)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def manifest(overlay: str, kind: str, name: str) -> dict[str, Any]:
    """The one of that kind and name; a ConfigMap's name is taken without the hash that kustomize adds."""
    found = [one for one in rendered(overlay) if one["kind"] == kind and _name(one) == name]
    assert len(found) == 1, f"{len(found)} {kind} {name}"
    return found[0]


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Each workload's pod (`metadata` with labels, `spec`) by the workload's name, and Spark's executor."""
    found = {"spark-executor": yaml.safe_load((KUBERNETES / "base/spark/executor.yaml").read_text(encoding="utf-8"))}
    for one in rendered(overlay):
        if one["kind"] == "Deployment":
            found[_name(one)] = one["spec"]["template"]
        elif one["kind"] == "CronJob":
            found[_name(one)] = one["spec"]["jobTemplate"]["spec"]["template"]
    return found


def container(pod: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any] = pod["spec"]["containers"][0]
    assert len(pod["spec"]["containers"]) == 1
    return only


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def env_file(overlay: str, name: str) -> dict[str, str]:
    lines = (KUBERNETES / "overlays" / overlay / "platform" / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def _name(one: dict[str, Any]) -> str:
    name: str = one["metadata"]["name"]
    return name.rpartition("-")[0] if one["kind"] == "ConfigMap" else name
