"""Where the jars and the archive of their classes lie."""

import os
from pathlib import Path

import pyspark
import pytest

from steps.core.spark import jars


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A jar of Spark's own and one of Delta's."""
    own, delta = tmp_path / "pyspark" / "jars" / "spark.jar", tmp_path / "delta.jar"
    own.parent.mkdir(parents=True)
    for jar in (own, delta):
        jar.write_bytes(b"PK")
    monkeypatch.setattr(pyspark, "__file__", str(tmp_path / "pyspark" / "__init__.py"))
    return [own, delta]


def test_an_archive_is_found_again(installed: list[Path]) -> None:
    made = jars.for_folders().class_archive(installed[1:])
    assert jars.for_folders().class_archive(installed[1:]) == made


@pytest.mark.parametrize("which", [0, 1], ids=["Spark's own", "Delta's"])
def test_an_archive_of_jars_that_were_installed_anew_is_another(installed: list[Path], which: int) -> None:
    made = jars.for_folders().class_archive(installed[1:])
    os.utime(installed[which], (1, 1))
    assert jars.for_folders().class_archive(installed[1:]) != made


def test_the_jars_for_folders_and_for_object_stores_are_apart() -> None:
    assert jars.for_folders().folder != jars.for_object_stores().folder
    assert jars.for_folders().packages in jars.for_object_stores().packages
