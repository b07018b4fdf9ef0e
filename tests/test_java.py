"""The look at the machine's Java, with small scripts in its place: what each of them says is what a real one says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steps.core.config import PROJECT
from steps.core.errors import JavaUnusable
from steps.core.spark import java

JAVA_17 = 'openjdk version "17.0.13" 2024-10-15'


def install(home: Path, *lines: str) -> Path:
    """A `java` under `home` that says `lines` where a real one says its version: on stderr."""
    said = "".join(f"echo '{line}' >&2\n" for line in lines)
    return put(home, f"#!/bin/sh\n{said}")


def put(home: Path, text: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text(text)
    (home / "bin" / "java").chmod(0o755)
    return home


@pytest.mark.parametrize("line", [JAVA_17, 'java version "21" 2023-09-19 LTS', 'openjdk version "17-ea" 2021-09-14'])
def test_a_supported_java_is_told_by_its_version_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path, line, "OpenJDK Runtime Environment")))
    assert java.check() == line


@pytest.mark.parametrize(
    ("line", "major"),
    [
        ('openjdk version "11.0.24" 2024-07-16', 11),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "24" 2025-03-18', 24),
    ],
)
def test_another_version_is_refused_and_named(
    line: str, major: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path, line)))
    with pytest.raises(JavaUnusable, match=rf"is version {major} \(.*\n  expected  Java 17"):
        java.check()


def test_without_java_home_the_java_on_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(install(tmp_path, JAVA_17) / "bin"))
    assert java.check() == JAVA_17


def test_java_home_goes_before_path_as_it_does_for_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(install(tmp_path / "good", JAVA_17) / "bin"))
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path / "old", 'openjdk version "11.0.1"')))
    with pytest.raises(JavaUnusable, match="is version 11"):
        java.check()


def test_no_java_anywhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaUnusable, match="there is no Java on PATH\n"):
        java.check()


def test_an_empty_java_home_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaUnusable, match="there is no Java on PATH\n"):
        java.check()


def test_a_java_home_that_holds_no_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(JavaUnusable, match="there is no Java JAVA_HOME=.*nowhere\n"):
        java.check()


def test_a_java_that_may_not_be_run_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (install(tmp_path, JAVA_17) / "bin" / "java").chmod(0o644)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaUnusable, match="there is no Java JAVA_HOME="):
        java.check()


def test_a_folder_with_blanks_is_as_good_as_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path / "my java é", JAVA_17)))
    assert java.check() == JAVA_17


@pytest.mark.parametrize("said", ["", "hello", "version 17", 'version "x.y"'])
def test_a_java_that_does_not_tell_its_version_is_refused(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path, said)))
    with pytest.raises(JavaUnusable, match="does not tell its version"):
        java.check()


@pytest.mark.parametrize("text", ["\x7fELF of another machine", "#!/no/such/shell\n"])
def test_a_file_that_cannot_be_run_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(put(tmp_path, text)))
    with pytest.raises(JavaUnusable, match=r"bin/java"):
        java.check()


def test_what_java_says_of_its_options_is_not_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is part of the name of the class archive: two Javas with one answer would share an archive."""
    said = ["Picked up JAVA_TOOL_OPTIONS: -Dfile.encoding=UTF-8", JAVA_17]
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path, *said)))
    assert java.check() == JAVA_17


def test_setup_asks_before_anything_is_installed(tmp_path: Path) -> None:
    """As the Makefile does: with no package but Python's own, and the message as its only output."""
    asked = subprocess.run(
        [sys.executable, "-S", "-m", "steps.core.spark.java"],
        cwd=PROJECT,
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr.startswith(f"JavaUnusable: there is no Java JAVA_HOME={tmp_path}\n  expected  Java 17")
    assert len(asked.stderr.splitlines()) == 3
