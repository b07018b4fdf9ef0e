"""A step that is handed over to the driver's warm process is, for whoever looks, the step that runs by itself."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import psutil
import pytest
from place import PREFIXES, PROJECT, Place, new_database, until

from steps.core.process import hand_over

# Stands for the driver: it serves until its standard input is closed.
DRIVER = """
import sys
from steps.core.process import warm_process
def main(argv=None):
    warm_process.serve(sys.argv[1])
    print("serving", flush=True)
    sys.stdin.read()
    warm_process.end()
"""
STEPS = {
    "report": """
import gc, json, os, random, signal, sys
import numpy
from steps.core.process import loaded_code, startup
def main(argv=None):
    umask = os.umask(0)
    os.umask(umask)
    ignored = [signum for signum in signal.valid_signals() if signal.getsignal(signum) is signal.SIG_IGN]
    streams = [[stream.encoding, stream.errors, stream.isatty(), stream.line_buffering]
               for stream in (sys.stdin, sys.stdout, sys.stderr)]
    same = {"argv": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ), "umask": umask,
            "ignored": ignored, "blocked": list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
            "streams": streams, "input": sys.stdin.read(), "session": os.getsid(0), "code": loaded_code.digests(),
            "files": sorted(os.listdir("/proc/self/fd"))[:-1], "collector": gc.isenabled()}
    own = {"handed over": startup.client is not None, "random": [random.random(), float(numpy.random.random())]}
    print(json.dumps([same, own]))
    print("a word of warning", file=sys.stderr)
""",
    "mistake": """
import sys
from steps.core.errors import SettingInvalid
def main(argv=None):
    print("first line")
    sys.exit(str(SettingInvalid("SIZE", "large", expected="a number")))
""",
    "bug": """
def main(argv=None):
    try:
        {}["key"]
    except KeyError as err:
        raise ValueError("a bug") from err
""",
    "broken": "import steps.no_such_module\n",
    "wait": """
import os, sys, time
from steps.core.process import interruption
def main(argv=None):
    with interruption.handling_signals():
        try:
            print(os.getpid(), flush=True)
            time.sleep(float(sys.argv[1]))
            print("done", flush=True)
        finally:
            print("cleaned up", flush=True)
""",
    "crash": """
import ctypes
def main(argv=None):
    print("before", flush=True)
    ctypes.string_at(0)
""",
    "packages": """
import sys
print(" ".join(sys.modules))
def main(argv=None): pass
""",
}
OF_THE_PROJECT = ("ingest", "train", "evaluate", "infer")


@dataclass(frozen=True, kw_only=True)
class Warm:
    """A driver with its warm process; `project` has the steps of this file beside the project's own."""

    project: Path
    path: Path
    driver: subprocess.Popen[str]

    @property
    def process(self) -> psutil.Process:
        (child,) = psutil.Process(self.driver.pid).children()
        return child

    def environment(self, *, handed_over: bool = True) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        served = {hand_over.SOCKET_VARIABLE: str(self.path)} if handed_over else {}
        return {**clean, "PYTHONPATH": str(self.project), **served}

    def start(
        self,
        *words: str,
        handed_over: bool = True,
        out: int | IO[str] = subprocess.PIPE,
        in_child: Callable[[], None] | None = None,
    ) -> "Step":
        return subprocess.Popen(
            [sys.executable, "-m", "steps", *words],
            cwd=self.path.parent,
            env=self.environment(handed_over=handed_over),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            preexec_fn=in_child,
        )

    def run(
        self, *words: str, handed_over: bool = True, given: str = "", in_child: Callable[[], None] | None = None
    ) -> tuple[int, str, str]:
        """The exit code, and what a step printed."""
        step = self.start(*words, handed_over=handed_over, in_child=in_child)
        out, err = step.communicate(given, timeout=60)
        return step.returncode, out, err


type Step = subprocess.Popen[str]


@contextlib.contextmanager
def warm_process(folder: Path) -> Iterator[Warm]:
    project = folder / "project"
    (project / "steps").mkdir(parents=True)
    for entry in PROJECT.iterdir():
        if entry.name not in ("steps", "main.py") and not entry.name.startswith("."):
            (project / entry.name).symlink_to(entry)
    for entry in (PROJECT / "steps").iterdir():
        (shutil.copytree if entry.is_dir() else shutil.copy)(entry, project / "steps" / entry.name)
    for name, text in STEPS.items():
        (project / "steps" / f"{name}.py").write_text(text)
    (project / "main.py").write_text(DRIVER)
    path = folder / "socket"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    driver = subprocess.Popen(
        [sys.executable, "-m", "steps", "main", path],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(project)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "serving\n"
    with driver:  # its standard input is closed at the end
        yield Warm(project=project, path=path, driver=driver)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm_process(tmp_path_factory.mktemp("warm")) as warm:
        yield warm


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Warm]:
    """One that the test may kill."""
    with warm_process(tmp_path) as warm:
        yield warm


def refuse_pidfd_open() -> None:
    """Let the kernel refuse this process to watch another one, as some container runtimes do (seccomp(2))."""
    load_number, if_equal, give = 0x20, 0x15, 0x06  # of BPF: into the accumulator, jump, return
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    pidfd_open = 434  # on every architecture
    filters = b"".join(
        struct.pack("=HBBI", *each)
        for each in ((load_number, 0, 0, 0), (if_equal, 0, 1, pidfd_open), (give, 0, 0, refuse), (give, 0, 0, allow))
    )
    held = ctypes.create_string_buffer(filters, len(filters))
    program = struct.pack("@HP", 4, ctypes.addressof(held))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_no_new_privileges, set_seccomp, by_filter = 38, 22, 2
    assert prctl(set_no_new_privileges, 1, 0, 0, 0) == 0
    assert prctl(set_seccomp, by_filter, program, 0, 0) == 0


def line_of(step: Step) -> str:
    assert step.stdout is not None
    return step.stdout.readline().strip()


class TestBothWaysAreEqual:
    def test_a_step_finds_what_it_would_find_by_itself(self, warm: Warm) -> None:
        ended = [warm.run("report", "--x=1", "a b", given="é\n", handed_over=way) for way in (True, False)]
        (same, own), (same_alone, own_alone) = (json.loads(out) for _, out, _ in ended)
        assert (own["handed over"], own_alone["handed over"]) == (True, False)
        assert same["environment"].pop(hand_over.SOCKET_VARIABLE) == str(warm.path)
        assert same == same_alone
        assert [(code, err) for code, _, err in ended] == [(0, "a word of warning\n")] * 2

    def test_where_nothing_may_watch_it_a_step_runs_once_where_it_is(self, warm: Warm) -> None:
        exit_code, out, err = warm.run("report", in_child=refuse_pidfd_open)
        assert (exit_code, err) == (0, "a word of warning\n")
        assert json.loads(out)[1]["handed over"] is False  # one document: printed once

    def test_a_step_that_has_ended_before_its_process_can_watch_it_is_not_run_once_more(
        self, warm: Warm, tmp_path: Path
    ) -> None:
        """As on a machine that is busy. This listener is the warm process, with a step that has ended."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path := str(tmp_path / "socket"))
            listener.listen()
            there = replace(warm, path=Path(path))
            step = there.start("report")
            connection, _ = listener.accept()
            with connection:
                while not connection.recv(2**20).endswith(b"\n"):
                    pass
                with subprocess.Popen(["true"]) as ended:
                    ended.wait()
                connection.sendall(f"{ended.pid}\n3\n".encode())
            assert (*step.communicate(timeout=60), step.returncode) == ("", "", 3)

    def test_its_random_numbers_are_its_own(self, warm: Warm) -> None:
        drawn = [json.loads(warm.run("report")[1])[1]["random"] for _ in range(2)]
        assert drawn[0][0] != drawn[1][0]
        assert drawn[0][1] != drawn[1][1]

    @pytest.mark.parametrize(("step", "exit_code"), [("mistake", 1), ("bug", 1), ("broken", 1), ("crash", -11)])
    def test_it_fails_as_it_would_by_itself(self, warm: Warm, step: str, exit_code: int) -> None:
        handed_over = warm.run(step)
        assert handed_over == warm.run(step, handed_over=False)
        assert handed_over[0] == exit_code
        assert warm.run("report")[0] == 0

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
    @pytest.mark.parametrize("target", ["process", "group"])
    def test_it_ends_by_a_signal_as_it_would_by_itself(self, warm: Warm, name: str, target: str) -> None:
        ended = []
        for way in (True, False):
            step = warm.start("wait", "30", handed_over=way)
            pid = int(line_of(step))
            assert (pid == step.pid) is not way
            assert os.getpgid(pid) == step.pid
            (os.killpg if target == "group" else os.kill)(step.pid, signal.Signals[name])
            ended.append((*step.communicate(timeout=10), step.returncode))
        if target == "group":  # it comes twice then, the second time perhaps as Python ends
            number = signal.Signals[name]
            assert {exit_code for *_, exit_code in ended} <= {128 + number, -number}
        else:
            assert ended[0][1:] == ended[1][1:]
        assert ended[0][0] == ended[1][0] or name == "SIGKILL"  # the step has the time to clean up

    def test_a_signal_before_the_step_has_begun_is_not_lost(self, warm: Warm) -> None:
        for delay_seconds in (0.0, 0.02, 0.04, 0.08):
            step = warm.start("wait", "30")
            time.sleep(delay_seconds)
            step.terminate()
            step.communicate(timeout=10)
            assert step.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)

    def test_a_signal_that_is_ignored_stays_ignored(self, warm: Warm) -> None:
        words = f"trap '' HUP; exec {sys.executable} -m steps wait 0.5"
        folder = warm.path.parent
        step = subprocess.Popen(
            ["bash", "-c", words], cwd=folder, env=warm.environment(), stdout=subprocess.PIPE, text=True
        )
        assert int(line_of(step)) != step.pid
        step.send_signal(signal.SIGHUP)
        assert step.communicate(timeout=10)[0] == "done\ncleaned up\n"
        assert step.returncode == 0

    @pytest.mark.spark
    def test_a_run_of_a_step_has_the_same_tags_and_inputs(self, warm: Warm, tmp_path: Path) -> None:
        found = []
        for way in (True, False):
            folder = tmp_path / f"handed-over-{way}" / "stand"
            folder.mkdir(parents=True)
            new_database(folder)
            ended = subprocess.run(
                [sys.executable, "-m", "steps", "ingest"],
                cwd=folder,
                env=warm.environment(handed_over=way),
                capture_output=True,
                text=True,
                check=False,
            )
            (run,) = Place(folder).runs()
            (receipt,) = folder.glob("mlruns/0/*/artifacts/receipt.json")
            own = ("process", "receipt.sha256", "key", "output_identity.table")  # of a lake of its own
            tags = {name: value for name, value in run.data.tags.items() if name not in own}
            printed = [text.replace(str(folder), "") for text in (ended.stdout, ended.stderr, json.dumps(tags))]
            inputs = json.loads(receipt.read_text())["inputs"]
            found.append((ended.returncode, *printed, {**inputs, "lake": ""}))
        assert found[0] == found[1]


class TestWithoutProject:
    """`python -m steps without-project <script>`."""

    PROGRAM = """
import importlib.util, json, os, sys
known = [name for name in ("steps", "main", "mlflow") if importlib.util.find_spec(name)]
loaded = [name for name in sys.modules if name.partition(".")[0] == "steps"]
print(json.dumps([known, loaded, sys.path, sys.argv, __name__, "xgboost" in sys.modules]))
"""

    def test_a_script_finds_the_installed_packages_alone(self, warm: Warm, tmp_path: Path) -> None:
        script = tmp_path / "a script.py"
        script.write_text(self.PROGRAM)
        ended = [warm.run("without-project", str(script), "--x=1", handed_over=way) for way in (True, False)]
        alone = subprocess.run([sys.executable, "-I", script, "--x=1"], capture_output=True, text=True, check=True)
        *expected, _ = json.loads(alone.stdout)
        assert [(code, json.loads(out)[:-1], err) for code, out, err in ended] == [(0, expected, "")] * 2
        assert expected[:2] == [["mlflow"], []]
        assert [json.loads(out)[-1] for _, out, _ in ended] == [True, False]  # the warm process has the libraries

    @pytest.mark.parametrize("way", [True, False], ids=["handed over", "by itself"])
    def test_an_error_in_it_is_its_own(self, warm: Warm, tmp_path: Path, way: bool) -> None:
        script = tmp_path / "script.py"
        script.write_text("import steps\n")
        exit_code, out, err = warm.run("without-project", str(script), handed_over=way)
        assert (exit_code, out) == (1, "")
        assert err.endswith("ModuleNotFoundError: No module named 'steps'\n")


class TestWhoIsKilled:
    def test_a_step_ends_with_the_process_that_handed_it_over(self, warm: Warm, tmp_path: Path) -> None:
        output = tmp_path / "output"
        with output.open("w") as file:
            step = warm.start("wait", "30", out=file)
        assert until(lambda: "\n" in output.read_text())
        step.kill()
        step.communicate()
        assert until(lambda: output.read_text().endswith("cleaned up\n"))

    def test_a_step_ends_with_the_launcher_of_the_process_that_handed_it_over(self, warm: Warm, tmp_path: Path) -> None:
        """As MLflow does it: Python, `bash -c <command>`, Python."""
        launch = f"import subprocess; subprocess.run(['bash', '-c', '{sys.executable} -m steps wait 30; true'])"
        launcher = subprocess.Popen(
            [sys.executable, "-c", launch],
            cwd=warm.path.parent,
            env={**warm.environment(), "MLFLOW_RUN_ID": "0" * 32},
            stdout=subprocess.PIPE,
            text=True,
        )
        step = psutil.Process(int(line_of(launcher)))
        assert step.name() == "steps-wait"
        launcher.kill()
        assert launcher.communicate(timeout=10)[0] == "cleaned up\n"
        assert not step.is_running()

    def test_a_step_that_is_killed_ends_its_process_in_the_same_way(self, warm: Warm) -> None:
        step = warm.start("wait", "30")
        os.kill(int(line_of(step)), signal.SIGKILL)
        assert step.communicate(timeout=10) == ("", "")
        assert step.returncode == -signal.SIGKILL

    def test_without_its_keeper_a_step_is_ended_with_a_message(self, warm: Warm) -> None:
        step = warm.start("wait", "30")
        keeper = psutil.Process(int(line_of(step))).parent()
        assert keeper is not None
        keeper.kill()
        out, err = step.communicate(timeout=10)
        assert (step.returncode, out) == (1, "cleaned up\n")
        assert err == "the process that waited for this step was killed, and the step was ended: run it again\n"

    def test_without_a_warm_process_a_step_goes_on_and_the_next_runs_by_itself(self, doomed: Warm) -> None:
        step = doomed.start("wait", "0.5")
        assert int(line_of(step)) != step.pid
        doomed.process.kill()
        assert step.communicate(timeout=10) == ("done\ncleaned up\n", "")
        assert step.returncode == 0
        exit_code, out, _ = doomed.run("report")
        assert (exit_code, json.loads(out)[1]["handed over"]) == (0, False)

    def test_nothing_is_left_of_a_driver_that_is_killed(self, doomed: Warm) -> None:
        warm, step = doomed.process, doomed.start("wait", "0.5")
        line_of(step)
        doomed.driver.kill()
        assert until(lambda: not warm.is_running())
        assert step.communicate(timeout=10)[0] == "done\ncleaned up\n"

    def test_nothing_is_left_of_a_driver_that_runs_no_step(self, tmp_path: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        (tmp_path / "steps").symlink_to(PROJECT / "steps")
        (tmp_path / "main.py").write_text(
            "import os\ndef main():\n    os.system('ps -o pid= --ppid ' + str(os.getpid()))\n"
        )
        ended = subprocess.run(
            [sys.executable, "-m", "steps", "main"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert until(lambda: not any(map(psutil.pid_exists, map(int, ended.stdout.split()))))
        assert ended.stderr == ""


class TestTheWarmProcess:
    def test_it_and_its_steps_can_be_told_apart_by_their_names(self, warm: Warm) -> None:
        assert warm.process.name() == "steps-warm"
        step = warm.start("wait", "30")
        assert psutil.Process(int(line_of(step))).name() == "steps-wait"
        step.terminate()
        step.communicate(timeout=10)

    def test_it_has_one_thread_when_it_has_forked(self, warm: Warm) -> None:
        """Python warns of a fork with more, whose locks nobody would release."""
        warm.run("report")
        assert warm.process.num_threads() == 1

    def test_it_has_the_libraries_of_every_step_and_no_module_of_the_project(self, warm: Warm) -> None:
        program = f"import sys, {', '.join(f'steps.{step}' for step in OF_THE_PROJECT)}; print(' '.join(sys.modules))"
        ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
        needed = {name.partition(".")[0] for name in ended.stdout.split()} - sys.stdlib_module_names - {"steps"}
        there: set[str] = set()

        def has_all() -> bool:
            there.update(warm.run("packages")[1].split())
            return needed <= {name.partition(".")[0] for name in there}

        assert until(has_all, seconds=20), needed - there
        of_the_project = {name for name in there if name.partition(".")[0] == "steps"}
        launcher = {f"steps.core.process.{name}" for name in ("hand_over", "loaded_code", "startup", "warm_process")}
        assert of_the_project == {"steps", "steps.core", "steps.core.process", "steps.packages", *launcher}

    def test_code_that_is_edited_meanwhile_is_read_when_the_step_begins(self, warm: Warm) -> None:
        (warm.project / "steps" / "late.py").write_text("def main(argv=None):\n    print('one')\n")
        assert warm.run("late") == (0, "one\n", "")
        (warm.project / "steps" / "late.py").write_text("def main(argv=None):\n    print('two')\n")
        assert warm.run("late") == (0, "two\n", "")

    @pytest.mark.parametrize("file", ["steps/__main__.py", "steps/core/process/startup.py"])
    def test_it_is_refused_when_the_start_of_a_step_was_edited(self, warm: Warm, file: str) -> None:
        path = warm.project / file
        before = path.stat()
        os.utime(path)
        assert json.loads(warm.run("report")[1])[1]["handed over"] is False
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert json.loads(warm.run("report")[1])[1]["handed over"] is True
