"""Commands that workflows and pages name, held against what this project has."""

import re
import shlex
from typing import Any

import yaml
from composed import services
from makefile import MAKEFILE
from place import PROJECT


def entry_points() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    return parsed


def profiles() -> set[str]:
    """Those of compose.yaml."""
    return {profile for service in services().values() for profile in service.get("profiles", [])}


def unknown_words(command: str) -> list[str]:
    """What a command names that this project has not: a target, an entry point, a parameter, a profile or a file."""
    match shlex.split(command):
        case ["make", *targets]:
            return [word for word in targets if not re.search(rf"^{re.escape(word)}:", MAKEFILE, re.MULTILINE)]
        case ["mlflow", "run", ".", "-e", name, *words]:
            known = entry_points().get(name, {"parameters": {}})["parameters"]
            given = {word.partition("=")[0] for word in words if word != "-P"}
            return [*([] if known else [name]), *sorted(given - set(known))]
        case ["docker", "compose", "-f", "compose/compose.yaml", "--profile", name, "up", *_]:
            return [] if name in profiles() else [name]
        case ["python", "-m", module]:
            return [] if (PROJECT / f"{module.replace('.', '/')}.py").is_file() else [module]
        case ["kustomize", "build", folder]:
            return [] if (PROJECT / folder / "kustomization.yaml").is_file() else [folder]
        case ["git", "tag", tag]:
            tags = re.findall(r'tags: \["(.*)"\]', (PROJECT / ".github/workflows/release.yml").read_text("utf-8"))
            return [] if any(re.fullmatch(pattern, tag) for pattern in tags) else [tag]
        case [file] if (PROJECT / file).is_file() and not file.endswith(".md"):
            return []
        case words:
            return words
