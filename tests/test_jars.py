"""Where the jars and the archive of their classes lie."""

import os
import time
from pathlib import Path

import pyspark
import pytest

from steps.core.process import locks
from steps.core.spark import connect_server, gateway, jars, prepare


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


def test_a_second_process_does_not_download_the_jars_while_the_first_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(locks, "WAIT_MINUTES", 0)
    monkeypatch.setattr(gateway, "launch_gateway", lambda *given: pytest.fail("a JVM was started"))
    second = connect_server.Server(tmp_path, small=True, remote=False)
    with locks.exclusive_lock("jars", str(jars.for_folders().folder)):
        second._run()
    assert "at work on jars" in str(connect_server.read_failure(tmp_path))


def test_jars_are_there_once_their_download_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jar_set = jars.for_folders()
    (jar_set.folder / "jars").mkdir(parents=True)
    (jar_set.folder / "jars" / "delta.jar").touch()
    assert jar_set.downloaded() == []
    jar_set.mark_downloaded()
    assert [jar.name for jar in jar_set.downloaded()] == ["delta.jar"]


def test_an_archive_that_nobody_has_used_for_a_month_goes_when_another_is_made(tmp_path: Path) -> None:
    days = {"classes-1.jsa": 31, "classes-2.jsa": 29, "classes-3.jsa": 0, "classes-4.77": 31, "done": 99}
    for name, age in days.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age * 86_400,) * 2)
    (tmp_path / "draft").write_bytes(b"new")
    prepare.install(tmp_path / "draft", tmp_path / "classes-3.jsa")
    assert {path.name for path in tmp_path.glob("*")} == {"classes-2.jsa", "classes-3.jsa", "done", "draft"}
    assert (tmp_path / "classes-3.jsa").read_bytes() == b"new"
