"""What processes on one machine share: a lock goes with its holder, and so does a folder, sooner or later."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import PROJECT

from steps.core.errors import LockNotReleased
from steps.core.process import locks, scratch

HOLD = (
    "import sys, time; from steps.core.process.locks import exclusive_lock\n"
    "from steps.core.process.scratch import scratch_folder\n"
    "with {block}: print({say}, flush=True); time.sleep(60)"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temp folder of this process and of those it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def holder(block: str, say: str = "'in'") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in a block of `locks` or `scratch`, and the line that it prints there."""
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
    os.utime(folder / scratch.OWNED, (before, before))


class TestAlone:
    def test_a_second_process_waits_until_the_first_is_out(self, tmp_path: Path) -> None:
        """Each of four adds one to a number thirty times, by reading and writing it."""
        number = tmp_path / "number"
        number.write_text("0")
        program = f"""
from pathlib import Path
from steps.core.process import locks, scratch
number = Path({str(number)!r})
for _ in range(30):
    with locks.exclusive_lock("table", {str(tmp_path / "iris")!r}):
        number.write_text(str(int(number.read_text()) + 1))
"""
        processes = [subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT) for _ in range(4)]
        assert [process.wait(timeout=60) for process in processes] == [0] * 4
        assert number.read_text() == "120"
        assert list(tmp_path.iterdir()) == [number]

    def test_it_ends_with_a_holder_that_is_killed(self, tmp_path: Path) -> None:
        database = str(tmp_path / "mlflow.db")
        with holder(f"exclusive_lock('model', {database!r}, 'iris')") as (process, _):
            process.kill()
            process.wait()
            began = time.monotonic()
            with locks.exclusive_lock("model", database, "iris"):
                assert time.monotonic() - began < 5

    def test_who_waits_says_for_whom_and_what(self, tmp_path: Path) -> None:
        block = f"exclusive_lock('model', {str(tmp_path / 'mlflow.db')!r}, 'iris')"
        waiting = [sys.executable, "-c", HOLD.format(block=block, say="'in'")]
        with holder(block) as (process, _):
            second = subprocess.Popen(waiting, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert second.stderr is not None
            told = rf"waiting for process {process.pid} \(python[\d.]*\), which is at work on model iris\n"
            assert re.fullmatch(told, second.stderr.readline())
            process.kill()
            assert second.stdout is not None
            assert second.stdout.readline() == "in\n"
            second.kill()
            second.communicate()

    def test_other_things_do_not_wait(self, tmp_path: Path) -> None:
        database = str(tmp_path / "mlflow.db")
        with (
            holder(f"exclusive_lock('model', {database!r}, 'iris')") as (process, _),
            locks.exclusive_lock("model", database, "wine"),
        ):
            assert process.poll() is None

    def test_a_wait_has_an_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "WAIT_MINUTES", 0.01)
        with (
            holder(f"exclusive_lock('table', {str(tmp_path / 'iris')!r})") as (process, _),
            pytest.raises(
                LockNotReleased, match=rf"process {process.pid} \(.*\) has been at work on table .*/iris for"
            ),
            locks.exclusive_lock("table", str(tmp_path / "iris")),
        ):
            pass

    @pytest.mark.parametrize("spelling", ["{0}/lake/iris", "{0}//lake/./iris", "{0}/link/iris", "lake/iris"])
    def test_one_thing_has_one_lock_however_it_is_spelt_and_wherever_temporary_files_go(
        self, spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "lake").mkdir()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "lake")
        with holder(f"exclusive_lock('table', {str(tmp_path / 'lake/iris')!r})"):
            monkeypatch.chdir(tmp_path)
            monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
            monkeypatch.setattr(tempfile, "tempdir", None)
            monkeypatch.setattr(locks, "WAIT_MINUTES", 0)
            with (
                pytest.raises(LockNotReleased, match="at work on table"),
                locks.exclusive_lock("table", spelling.format(tmp_path)),
            ):
                pass

    def test_what_a_server_has_is_locked_wherever_temporary_files_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with holder("exclusive_lock('model', 'http://localhost:5000', 'iris')"):
            monkeypatch.setenv("TMPDIR", "/")
            monkeypatch.setattr(tempfile, "tempdir", None)
            monkeypatch.setattr(locks, "WAIT_MINUTES", 0)
            with (
                pytest.raises(LockNotReleased, match="at work on model iris"),
                locks.exclusive_lock("model", "http://localhost:5000", "iris"),
            ):
                pass

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
    @pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["a shared folder", "a folder like /tmp"])
    def test_another_user_of_the_folder_waits_too_and_goes_on(self, mode: int) -> None:
        """The first has a umask that keeps others out of its files."""
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where other users get to
            os.chmod(folder, mode)
            os.chown(folder, 65533, 65533)  # neither of the two users owns it
            program = f"""
import os
from steps.core.process import locks, scratch
os.setuid(65534)
for minutes in (0, 1):
    locks.WAIT_MINUTES = minutes
    try:
        with locks.exclusive_lock("table", "{folder}/iris"):
            print("in", flush=True)
    except Exception as err:
        print(type(err).__name__, flush=True)
        input()
"""
            block = f"exclusive_lock('table', __import__('os').umask(0o077) and '{folder}/iris')"
            with holder(block):
                pass  # leaves its lock file, as it is killed
            command = [sys.executable, "-c", program]
            with holder(block) as (first, _):
                second = subprocess.Popen(
                    command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                assert second.stdout is not None
                assert second.stdout.readline() == "LockNotReleased\n"
                first.kill()
                first.wait()
                assert second.communicate("\n", timeout=30)[0] == "in\n"


class TestScratch:
    def test_a_folder_goes_with_its_block(self, tmp_path: Path) -> None:
        with scratch.scratch_folder("workflow-") as folder:
            (folder / "file").touch()
            assert folder.parent == tmp_path
        assert list(tmp_path.iterdir()) == []

    def test_that_of_a_killed_process_is_removed_by_the_next_start(self, tmp_path: Path) -> None:
        with (
            scratch.scratch_folder("mine-"),
            holder("scratch_folder('workflow-') as folder", "folder") as (process, folder),
        ):
            process.kill()
            process.wait()
            age(Path(folder))
            scratch.remove_abandoned_folders()
            assert not Path(folder).exists()

    def test_that_of_a_living_process_stays(self) -> None:
        with holder("scratch_folder('workflow-') as folder", "folder") as (_, folder):
            age(Path(folder))
            scratch.remove_abandoned_folders()
            assert Path(folder).exists()

    def test_a_young_one_stays_as_its_owner_may_not_have_locked_it_yet(self) -> None:
        with holder("scratch_folder('workflow-') as folder", "folder") as (process, folder):
            process.kill()
            process.wait()
            scratch.remove_abandoned_folders()
            assert Path(folder).exists()

    def test_a_folder_of_somebody_elses_with_such_a_name_stays(self, tmp_path: Path) -> None:
        (tmp_path / "workflow-of-ada").mkdir()
        os.utime(tmp_path / "workflow-of-ada", (0, 0))
        scratch.remove_abandoned_folders()
        assert (tmp_path / "workflow-of-ada").exists()
