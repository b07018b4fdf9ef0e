"""Promote a version, deploy the image that serves it, ask the server, and take all of it back when anything fails.

    python -m automation.rollout --version=staging --image=registry/serve@sha256:... --url=https://...

Reads   the registry through the entry point `promote`; the deployment's revision
Writes  the alias; the deployment as the overlay describes it, with the image; a line for each command
Fails   with exit code 1 after everything is as it was; what could not be taken back is named
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from automation import smoke_test
from steps.core.models import aliases

PROJECT = Path(__file__).resolve().parents[1]
PREVIOUS = "previous"  # as the entry point promote has it
REVISION = r"jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What is rolled out, and where; the fields are the options of the command, all texts."""

    config: str = "configs/iris.yaml"
    name: str = ""  # of the model; by default the config's
    version: str = "staging"  # a number or an alias
    alias: str = "production"
    force: str = "false"  # also a version that did not pass the gate
    reason: str = ""
    image: str  # <repository>@sha256:<digest>
    overlay: str = "infrastructure/kubernetes/overlays/production"
    namespace: str = "tabular-workflow"
    deployment: str = "serve"  # and the name of its container
    url: str  # of the server
    seconds: str = "300"  # for the deployment, and as much for the smoke test


class RolloutFailed(Exception):
    """A command of the rollout ended badly."""


def roll_out(asked: Rollout) -> None:
    """All steps; after a failure, or when it is interrupted, those that were done are undone, the last one first."""
    if not re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", asked.image):
        raise RolloutFailed(f"image {asked.image!r} has no digest: <repository>@sha256:<digest> is expected")
    with contextlib.ExitStack() as undo:
        model = _promote(asked, undo)
        _deploy(asked, undo)
        smoke_test.check(asked.url, model, seconds=float(asked.seconds))
        undo.pop_all()
    print(f"rollout: {asked.url} answers by {model}, image {asked.image}", flush=True)


def _promote(asked: Rollout, undo: contextlib.ExitStack) -> str:
    """The version that the alias names now."""
    wanted = {name: getattr(asked, name) for name in ("config", "name", "version", "alias", "force", "reason")}
    said, model = _promoted(**wanted)
    if " now names " in said:  # else it named this version already, and what it named before that is none of ours
        version = version_before(asked, model)
        back = {**wanted, "version": version, "force": "true", "reason": f"the rollout of {model} failed"}
        undo.callback(_undone, f"alias {asked.alias}", lambda: _promoted(**back))
    return model


def version_before(asked: Rollout, model: str) -> str:
    """What `promote` takes to bring the alias back from `model`, to which it has just moved.

    A move forward is taken back as "previous". After a move back that would be one more step back: there it is the
    number of the version that the alias came from.
    """
    if asked.version != PREVIOUS:
        return PREVIOUS
    name = model.removeprefix("models:/").rpartition("/")[0]
    return aliases.history(name, asked.alias)[-1].from_version


def _promoted(**parameters: str) -> tuple[str, str]:
    """What the entry point `promote` printed, and the version that it handed on."""
    given = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder, "outputs")
        command = ["mlflow", "run", str(PROJECT), "-e", "promote", *given, "--env-manager", "local"]
        said = _run(command, WORKFLOW_OUTPUTS=str(outputs))
        handed_on = dict(line.split("=", 1) for line in outputs.read_text(encoding="utf-8").splitlines())
    return said, handed_on["model"]


def _deploy(asked: Rollout, undo: contextlib.ExitStack) -> None:
    kubectl = ["kubectl", "--namespace", asked.namespace]
    deployment = f"deployment/{asked.deployment}"
    revision = _run([*kubectl, "get", deployment, "--ignore-not-found", "--output", REVISION]).strip()
    finished = [*kubectl, "rollout", "status", deployment, f"--timeout={asked.seconds}s"]

    def go_back() -> None:
        if not revision:
            raise RolloutFailed("there was no deployment before")
        _run([*kubectl, "rollout", "undo", deployment, f"--to-revision={revision}"])
        _run(finished)

    manifests = _manifests(asked)
    undo.callback(_undone, deployment, go_back)
    _run([*kubectl, "apply", "--filename", "-"], stdin=manifests)
    _run(finished)


def _manifests(asked: Rollout) -> str:
    """As JSON what the overlay has of the deployment, with the image, and the ConfigMaps, whose names change with what
    they hold. What else is in the overlay is the platform's, which a promotion leaves alone."""
    rendered = _run(["kubectl", "kustomize", str(PROJECT / asked.overlay)], is_shown=False)
    kept = []
    for manifest in yaml.safe_load_all(rendered):
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == asked.deployment:
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container["image"] = asked.image
        elif manifest["kind"] != "ConfigMap":
            continue
        kept.append(manifest)
    if [manifest["kind"] for manifest in kept].count("Deployment") != 1:
        raise RolloutFailed(f"{asked.overlay} has no Deployment {asked.deployment!r}")
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": kept})


def _undone(what: str, go_back: Callable[[], object]) -> None:
    """Take one step back; where that fails the others are taken back all the same."""
    try:
        go_back()
        print(f"rollout: {what} is as it was", file=sys.stderr, flush=True)
    except RolloutFailed as err:
        print(f"rollout: {what} could not be taken back: {err}", file=sys.stderr, flush=True)


def _run(command: Sequence[str], *, stdin: str = "", is_shown: bool = True, **variables: str) -> str:
    """What a command printed, which is shown too. RolloutFailed where its exit code is not 0."""
    print(f"$ {shlex.join(command)}", flush=True)
    environment = {**os.environ, **variables}
    ended = subprocess.run(command, env=environment, input=stdin, stdout=subprocess.PIPE, text=True, check=False)
    if is_shown:
        print(ended.stdout, end="", flush=True)
    if ended.returncode:
        raise RolloutFailed(f"`{shlex.join(command)}` ended with exit code {ended.returncode}")
    return ended.stdout


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    for field in fields(Rollout):
        is_needed = field.name in ("image", "url")
        parser.add_argument(
            f"--{field.name}", required=is_needed, default=None if is_needed else field.default, metavar="TEXT"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is ended is taken back too
    try:
        roll_out(Rollout(**vars(parser.parse_args(argv))))
    except (RolloutFailed, smoke_test.SmokeTestFailed) as err:
        sys.exit(f"{type(err).__name__}: {err}")


if __name__ == "__main__":
    main()
