"""A process that is interrupted by a signal, or whose launcher is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from place import BIN, PROJECT, until

from steps.core.process import interruption, processes

PROGRAM = """
import ctypes, os, signal, sys, threading, time
from steps.core.process import interruption, processes
{before}
with interruption.handling_signals():
    print(os.getpid(), flush=True)
    {body}
print("went on", flush=True)
"""
WAIT = "time.sleep(30)"


def environment(**extra: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name != processes.STARTED_BY_MLFLOW}
    return {**clean, "PYTHONPATH": str(PROJECT), "PATH": os.pathsep.join([str(BIN), clean["PATH"]]), **extra}


@contextmanager
def started(*command: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, env=environment(**extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def handling(body: str, *, before: str = "") -> tuple[str, str, str]:
    return sys.executable, "-c", PROGRAM.format(body=body, before=before)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_process_without_a_word_and_with_a_shells_exit_code(name: str) -> None:
    with started(*handling(WAIT)) as process:
        line_of(process)
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (128 + signal.Signals[name], "", "")


@pytest.mark.parametrize("what", ["a signal", "a failure"])
def test_what_is_raised_where_python_drops_it_is_raised_again(what: str) -> None:
    """As in __del__, which XGBoost's boosters have; here of one object after the other."""
    before = """
class Slow:
    def __init__(self, more): self.more = more
    def __del__(self):
        if not self.more: print("inside", flush=True)
        time.sleep(0.5)
"""
    raise_failure = 'threading.Timer(0.2, interruption.fail_main_thread, [TimeoutError("silent")]).start()'
    body = f"""
    {raise_failure if what == "a failure" else ""}
    try:
        for more in range(3):
            Slow(more)
        {WAIT}
    except TimeoutError as err:
        print(err, flush=True)
    finally:
        print("cleaning up", flush=True)
"""
    with started(*handling(body, before=before)) as process:
        line_of(process)
        assert line_of(process) == "inside"
        if what == "a signal":
            process.terminate()
        out, err = process.communicate(timeout=5)
    expected = (143, "cleaning up\n") if what == "a signal" else (0, "silent\ncleaning up\nwent on\n")
    assert (process.returncode, out, err) == (*expected, "")


def test_later_signals_do_not_disturb_the_clean_up() -> None:
    body = f"""
    try:
        print("inside", flush=True)
        {WAIT}
    finally:
        print("cleaning up", flush=True)
        time.sleep(1)
        print("done", flush=True)
"""
    with started(*handling(body)) as process:
        line_of(process)
        assert line_of(process) == "inside"
        process.terminate()
        assert line_of(process) == "cleaning up"
        process.terminate()
        process.send_signal(signal.SIGINT)
        assert line_of(process) == "done"
        assert process.wait(timeout=5) == 143


def test_signals_that_come_in_the_same_moment_are_one() -> None:
    body = """
    both = {signal.SIGHUP, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for signum in both:
        signal.pthread_kill(threading.get_ident(), signum)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    finally:
        print("cleaning up")
"""
    with started(*handling(body)) as process:
        line_of(process)
        assert line_of(process) == "cleaning up"
        _, err = process.communicate(timeout=5)
    assert (process.returncode, err) == (128 + signal.SIGHUP, "")


@pytest.mark.parametrize("body", ["ctypes.CDLL(None).sleep(30)", WAIT], ids=["foreign code", "a clean-up that hangs"])
def test_a_process_that_does_not_come_to_its_end_is_cut_off_with_its_children(body: str) -> None:
    """ctypes lets other threads run, as XGBoost and Arrow do, but not Python's handlers of signals."""
    before = "interruption.GRACE_SECONDS = 0.5\nimport subprocess\nchild = subprocess.Popen(['sleep', '60'])"
    hangs = f"""
    try:
        print(child.pid, flush=True)
        {body}
    finally:
        {WAIT}
"""
    with started(*handling(hangs, before=before)) as process:
        line_of(process)
        child = psutil.Process(int(line_of(process)))
        process.terminate()
        assert process.wait(timeout=5) == 143
        assert until(lambda: not child.is_running())


def test_a_signal_that_is_ignored_stays_so() -> None:
    """nohup ignores SIGHUP; a shell's background job ignores SIGINT."""
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with started(*handling("time.sleep(1)", before=ignore)) as process:
        line_of(process)
        process.send_signal(signal.SIGHUP)
        assert line_of(process) == "went on"
        assert process.wait(timeout=5) == 0


def test_after_the_block_signals_mean_what_they_did() -> None:
    before = {signum: signal.getsignal(signum) for signum in interruption.SIGNALS}
    with interruption.handling_signals():
        assert {signum: signal.getsignal(signum) for signum in interruption.SIGNALS} != before
    assert {signum: signal.getsignal(signum) for signum in interruption.SIGNALS} == before


@pytest.mark.parametrize("kill", ["terminate", "kill"])
@pytest.mark.parametrize("shell", ["", "; true"], ids=["exec", "a shell stays between"])
def test_what_mlflow_started_ends_with_the_process_that_did(kill: str, shell: str, tmp_path: Path) -> None:
    """As MLflow does it: Python, `bash -c <command>`, Python."""
    (tmp_path / "program.py").write_text(handling(WAIT)[2])
    launch = f"import subprocess; subprocess.run(['bash', '-c', 'python {tmp_path}/program.py{shell}'])"
    with started(sys.executable, "-c", launch, MLFLOW_RUN_ID="0" * 32) as launcher:
        child = psutil.Process(int(line_of(launcher)))
        getattr(launcher, kill)()
        assert until(lambda: not child.is_running())


def test_what_mlflow_started_ends_when_that_process_was_gone_before_it_could_look(tmp_path: Path) -> None:
    """Its imports take seconds."""
    imports = """
from steps.core.process import startup
startup.set_up()
print("imports", flush=True)
while os.getppid() == startup.launched_by: time.sleep(0.01)
"""
    (tmp_path / "program.py").write_text(handling(WAIT, before=imports)[2])
    launch = f"import subprocess; subprocess.Popen(['python', '{tmp_path}/program.py']); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", launch],
        env=environment(MLFLOW_RUN_ID="0" * 32),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert until(lambda: bool(psutil.Process(process.pid).children()))
    (child,) = psutil.Process(process.pid).children()
    assert line_of(process) == "imports"
    process.kill()
    process.communicate()
    assert until(lambda: not child.is_running())


def test_what_was_started_by_hand_outlives_its_shell(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(handling("time.sleep(3)")[2])
    with started("bash", "-c", f"python {tmp_path}/program.py & wait") as shell:
        child = psutil.Process(int(line_of(shell)))
        shell.kill()
        assert not until(lambda: not child.is_running(), seconds=1.5)
        assert line_of(shell) == "went on"


def test_a_process_is_known_by_its_start_too() -> None:
    me = processes.this_process()
    machine, boot, pid, began = me.split(":")
    assert not processes.has_ended(me)
    assert processes.has_ended(f"{machine}:{boot}:{pid}:{int(began) - 1}")


def test_a_process_of_an_earlier_boot_is_told_from_one_that_has_ended() -> None:
    """A copy of this machine has its name and another boot: so no run of it is marked."""
    me = processes.this_process()
    machine, _, pid, began = me.split(":")
    then = f"{machine}:0f6b2c9e-earlier:{pid}:{began}"
    assert not processes.has_ended(then)
    assert processes.ran_before_boot(then)
    assert not processes.ran_before_boot(me)
    assert not processes.ran_before_boot(then.replace(machine, "elsewhere"))


def test_a_process_that_has_ended_is_told_from_one_that_lives() -> None:
    program = "from steps.core.process import processes; print(processes.this_process(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    it = line_of(process)
    assert not processes.has_ended(it)
    process.kill()
    assert until(lambda: processes.has_ended(it))  # a zombie
    process.communicate()
    assert processes.has_ended(it)


@pytest.mark.parametrize("text", ["elsewhere/4026531836:1:1.0", "etl", "", "a:b:c"])
def test_of_others_nothing_is_line_of(text: str) -> None:
    assert not processes.has_ended(text)


def test_children_are_ended_those_that_do_not_listen_too() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    program = f"""
import subprocess, sys
from steps.core.process import interruption, processes
processes.CHILD_SECONDS = 0.5
deaf = subprocess.Popen([sys.executable, "-c", {deaf!r}], stdout=subprocess.PIPE)
deaf.stdout.readline()
quick = subprocess.Popen(["sleep", "60"])
processes.end_children()
print(deaf.wait(), quick.wait())
"""
    with started(sys.executable, "-c", program) as process:
        assert line_of(process) == f"{-signal.SIGKILL} {-signal.SIGTERM}"


def test_another_thread_can_raise_an_error_where_the_main_thread_waits() -> None:
    """As one does that watches a service; what unwinds is not cut off, since no signal has ended the process."""
    before = "import socket\ninterruption.GRACE_SECONDS = 0.3\nends = socket.socketpair()"
    body = """
    threading.Timer(0.3, interruption.fail_main_thread, [TimeoutError("silent")]).start()
    try:
        ends[0].recv(1)
    except TimeoutError as err:
        print(err, flush=True)
        time.sleep(1)
"""
    with started(*handling(body, before=before)) as process:
        line_of(process)
        assert line_of(process) == "silent"
        assert line_of(process) == "went on"
        assert process.wait(timeout=5) == 0


def test_a_process_whose_watching_thread_dies_ends_rather_than_goes_on_unwatched() -> None:
    before = "def broken(listen, launchers): raise KeyError('a bug')\ninterruption._watch = broken"
    with started(*handling(WAIT, before=before)) as process:
        line_of(process)
        _, err = process.communicate(timeout=5)
    assert process.returncode == 143
    assert "KeyError: 'a bug'" in err


def test_a_process_that_may_not_be_looked_at_is_taken_for_a_living_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "status", refuse)
    assert not processes.has_ended(processes.this_process())


def test_children_are_killed_by_the_folder_that_they_work_in(tmp_path: Path) -> None:
    program = f"""
import pathlib, subprocess
from steps.core.process import interruption, processes
command = ["bash", "-c", "sleep 60 & echo; wait"]
there = subprocess.Popen(command, cwd={str(tmp_path)!r}, stdout=subprocess.PIPE)
there.stdout.readline()  # it has a child
elsewhere = subprocess.Popen(["sleep", "60"])
processes.kill_children(working_in=pathlib.Path({str(tmp_path)!r}))
there.stdout.read()  # until that child is gone, too
is_alive = elsewhere.poll() is None
elsewhere.kill()  # before the test, which ends this process, hears of it
print(there.wait(), is_alive)
"""
    with started(sys.executable, "-c", program) as process:
        assert line_of(process) == f"{-signal.SIGKILL} True"
