"""What processes on one machine share: a lock goes with its holder, and so does a folder, sooner or later."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import PROJECT

from steps.core import machine

HOLD = (
    "import sys, time; from steps.core import machine\nwith machine.{block}: print({say}, flush=True); time.sleep(60)"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temp folder of this process and of those it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def holder(block: str, say: str = "'in'") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in a block of `machine`, and what it said there."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(block=block, say=say)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def age(folder: Path) -> None:
    """Make a scratch folder two minutes old."""
    before = time.time() - 120
    os.utime(folder / machine.OWNED, (before, before))


class TestAlone:
    def test_a_second_process_waits_until_the_first_is_out(self, tmp_path: Path) -> None:
        """Each of four adds one to a number thirty times, by reading and writing it."""
        number = tmp_path / "number"
        number.write_text("0")
        program = f"""
from pathlib import Path
from steps.core import machine
number = Path({str(number)!r})
for _ in range(30):
    with machine.alone("table", "/lake/iris"):
        number.write_text(str(int(number.read_text()) + 1))
"""
        processes = [subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT) for _ in range(4)]
        assert [process.wait(timeout=60) for process in processes] == [0] * 4
        assert number.read_text() == "120"
        assert list(tmp_path.iterdir()) == [number]

    def test_it_ends_with_a_holder_that_is_killed(self) -> None:
        with holder("alone('model', 'iris')") as (process, _):
            process.kill()
            process.wait()
            began = time.monotonic()
            with machine.alone("model", "iris"):
                assert time.monotonic() - began < 5

    def test_who_waits_says_for_what(self) -> None:
        waiting = [sys.executable, "-c", HOLD.format(block="alone('model', 'iris')", say="'in'")]
        with holder("alone('model', 'iris')") as (process, _):
            second = subprocess.Popen(waiting, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert second.stderr is not None
            assert second.stderr.readline() == "waiting for another process, which is at work on model iris\n"
            process.kill()
            assert second.stdout is not None
            assert second.stdout.readline() == "in\n"
            second.kill()
            second.communicate()

    def test_other_things_do_not_wait(self) -> None:
        with holder("alone('model', 'iris')") as (process, _), machine.alone("model", "wine"):
            assert process.poll() is None


class TestScratch:
    def test_a_folder_goes_with_its_block(self, tmp_path: Path) -> None:
        with machine.scratch("workflow-") as folder:
            (folder / "file").touch()
            assert folder.parent == tmp_path
        assert list(tmp_path.iterdir()) == []

    def test_that_of_a_killed_process_is_removed_by_the_next_start(self, tmp_path: Path) -> None:
        with machine.scratch("mine-"), holder("scratch('workflow-') as folder", "folder") as (process, folder):
            process.kill()
            process.wait()
            age(Path(folder))
            machine.remove_left_folders()
            assert not Path(folder).exists()

    def test_that_of_a_living_process_stays(self) -> None:
        with holder("scratch('workflow-') as folder", "folder") as (_, folder):
            age(Path(folder))
            machine.remove_left_folders()
            assert Path(folder).exists()

    def test_a_young_one_stays_as_its_owner_may_not_have_locked_it_yet(self) -> None:
        with holder("scratch('workflow-') as folder", "folder") as (process, folder):
            process.kill()
            process.wait()
            machine.remove_left_folders()
            assert Path(folder).exists()

    def test_a_folder_of_somebody_elses_with_such_a_name_stays(self, tmp_path: Path) -> None:
        (tmp_path / "workflow-of-ada").mkdir()
        os.utime(tmp_path / "workflow-of-ada", (0, 0))
        machine.remove_left_folders()
        assert (tmp_path / "workflow-of-ada").exists()
