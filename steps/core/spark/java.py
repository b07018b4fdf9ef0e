"""The Java that Spark will run on. Standard library only: set-up asks for it before anything is installed."""

import os
import re
import shutil
import subprocess
import sys

from steps.core.errors import JavaUnusable

SUPPORTED = (17, 21)  # https://spark.apache.org/docs/4.2.0/#downloading


def check() -> str:
    """The version line of the Java that Spark will use; JavaUnusable when there is none or a wrong one."""
    home = os.environ.get("JAVA_HOME", "")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    where = f"JAVA_HOME={home}" if home else "on PATH"
    if not java or not os.access(java, os.X_OK):
        raise JavaUnusable(f"there is no Java {where}")
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError as err:
        raise JavaUnusable(f"{java} cannot be run: {err.strerror}") from err
    version = re.search(r'^.*version "(\d+)(?:\.(\d+))?.*$', output, re.MULTILINE)
    if version is None:
        raise JavaUnusable(f"{java} does not tell its version")
    major = int(version[2] if version[1] == "1" and version[2] else version[1])  # Java 8 calls itself 1.8
    if major not in SUPPORTED:
        raise JavaUnusable(f"Java {where} is version {major} ({java})")
    return version[0]


if __name__ == "__main__":
    try:
        check()
    except JavaUnusable as err:
        sys.exit(str(err))
