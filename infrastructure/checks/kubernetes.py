"""Compare rendered manifests with the schemas of the Kubernetes API.

usage: python kubernetes.py <Kubernetes version> <file> ...

Exit code 1 with a line for each that the API would refuse, also for a field that it does not know.
"""

import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

# Resources of operators; their schemas are in the cluster alone.
OPERATORS = ("external-secrets.io/", "monitoring.coreos.com/")


def main(version: str, files: list[Path]) -> int:
    manifests = [(file, manifest) for file in files for manifest in yaml.safe_load_all(file.read_text("utf-8"))]
    own = [(file, manifest) for file, manifest in manifests if not manifest["apiVersion"].startswith(OPERATORS)]
    problems = [f"{file}: {problem}" for file, manifest in own if (problem := _problem(manifest, version))]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    unread = len(manifests) - len(own)
    sys.stdout.write(f"{len(own)} manifests, {len(problems)} problems; {unread} of operators were not looked at\n")
    return 1 if problems or not own else 0


def _problem(manifest: dict[str, Any], version: str) -> str:
    name = f"{manifest['kind']} {manifest['metadata'].get('name', '')}"
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{name}: {'.'.join(map(str, error.path))}: {error.message}"
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return f"{name}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
