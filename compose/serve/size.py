"""Make an environment of the packages that the Dockerfile beside this file installs, and say how large they are.

usage: size.py <a new folder>

Versions are those of conda.yaml, as in the image. What else is in the image is its base, Python on Debian, and the
project's own code.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCKERFILE = Path(__file__).with_name("Dockerfile")
LARGEST = 6  # packages that are named


def installed() -> list[str]:
    """The packages that are asked for."""
    (names,) = re.findall(r"--constraint \S+ ([^&]+) &&", DOCKERFILE.read_text(encoding="utf-8"))
    return str(names).replace("\\\n", " ").split()


def uninstalled() -> list[str]:
    """Those that come with them and are removed again."""
    return re.findall(r"pip uninstall --yes (\S+)", DOCKERFILE.read_text(encoding="utf-8"))


def make(folder: Path) -> None:
    """An environment in `folder`, which is made."""
    pins = re.findall(r"^ *- ([^ ]*==.*)$", (PROJECT / "conda.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    (folder / "pins.txt").write_text("\n".join(pins), encoding="utf-8")
    python = ["--python", str(folder / "bin" / "python")]
    _uv("pip", "install", "--quiet", *python, "--constraint", str(folder / "pins.txt"), *installed())
    _uv("pip", "uninstall", "--quiet", *python, *uninstalled())


def site_packages(folder: Path) -> Path:
    """Where the environment in `folder` has its packages."""
    (found,) = folder.glob("lib/python*/site-packages")
    return found


def sizes_bytes(folder: Path) -> dict[str, int]:
    """Of each package in an environment, by what its record of files says."""
    found = distributions(path=[str(site_packages(folder))])
    return {each.metadata["Name"]: sum(file.size or 0 for file in each.files or ()) for each in found}


def report(folder: Path) -> Iterator[str]:
    """How many packages the environment in `folder` has, their size in MiB together, and the largest ones."""
    sizes = sizes_bytes(folder)
    largest = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
    yield f"{len(sizes)} packages, {sum(sizes.values()) / 2**20:,.0f} MiB; the largest in MiB: " + ", ".join(
        f"{name} {sizes[name] / 2**20:.0f}" for name in largest
    )


def _uv(*words: str) -> None:
    path = os.pathsep.join([os.environ["PATH"], str(PROJECT / ".uv" / "bin")])
    subprocess.run([shutil.which("uv", path=path) or "uv", *words], check=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    print("\n".join(report(Path(sys.argv[1]))))
