"""What `python -m steps` does to its process, and that an import does nothing of it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from place import PROJECT

ENTRY_POINTS = ["main", *sorted(path.stem for path in (PROJECT / "steps").glob("[a-z]*.py"))]
# An entry point that says what its process is like.
REPORT = """
import gc, json, signal, sys
def main(argv=None):
    handler = signal.getsignal(signal.SIGINT)
    print(json.dumps({"argv": sys.argv, "gc": gc.isenabled(), "SIGINT": handler is signal.SIG_DFL}))
"""


def python(*words: str, folder: Path = PROJECT, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), **extra}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the launcher and one entry point, `report`."""
    in_core = [f"steps/core/{name}.py" for name in ("__init__", "errors", "redaction")]
    for name in ("steps/__init__.py", "steps/__main__.py", *in_core):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((PROJECT / name).read_text())
    (tmp_path / "steps/core/process").mkdir()
    for name in ("__init__.py", "console.py", "hand_over.py", "loaded_code.py", "startup.py", "warm_process.py"):
        (tmp_path / "steps/core/process" / name).write_text((PROJECT / "steps/core/process" / name).read_text())
    (tmp_path / "steps/report.py").write_text(REPORT)
    return tmp_path


def test_an_import_changes_nothing_in_the_process() -> None:
    """Of signals, hooks and the garbage collector. Libraries add finders of their own to sys.meta_path."""
    program = """
import gc, importlib, json, pkgutil, signal, sys, threading
audit_hooks = []
sys.addaudithook = audit_hooks.append
def state():
    handlers = [str(signal.getsignal(each)) for each in signal.valid_signals()]
    return [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), handlers, signal.set_wakeup_fd(-1),
            str(sys.excepthook), str(threading.excepthook), threading.active_count(), sys.path, len(audit_hooks)]
before = state()
import steps
names = [module.name for module in pkgutil.walk_packages(steps.__path__, "steps.") if module.name != "steps.__main__"]
for name in [*names, "main"]:
    importlib.import_module(name)
finders = [repr(finder) for finder in sys.meta_path if "steps" in repr(finder)]
print(json.dumps([len(names), before, state(), finders]))
"""
    ended = python("-c", program)
    assert ended.returncode == 0, ended.stderr
    count, before, after, finders = json.loads(ended.stdout)
    assert count > 30
    assert (after, finders) == (before, [])


def test_an_entry_point_runs_with_its_own_arguments_and_the_collector_on(project: Path) -> None:
    ended = python("-m", "steps", "report", "--x=1", "--y", "a b", folder=project)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report == {"argv": [str(project / "steps/report.py"), "--x=1", "--y", "a b"], "gc": True, "SIGINT": True}


def test_ctrl_c_among_the_imports_ends_the_process_without_a_word(project: Path) -> None:
    (project / "steps/report.py").write_text("import time\nprint('imports', flush=True)\ntime.sleep(30)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "steps", "report"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "imports\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == -signal.SIGINT


AT_THE_END = """
import atexit, os, sys, threading, time
class Kept:
    def __del__(self, write=os.write):
        write(1, b"taken apart")
def finish():
    time.sleep(0.2)
    print("a thread is done")
def main(argv=None):
    atexit.register(print, "called at exit")
    threading.Thread(target=finish).start()
    print("main is done")
    END
sys.kept = Kept()
"""


@pytest.mark.parametrize(
    ("end", "exit_code", "last"),
    [("pass", 0, []), ("sys.exit(0)", 0, ["taken apart"]), ("raise ValueError('a bug')", 1, ["taken apart"])],
    ids=["in the ordinary way", "early", "by a bug"],
)
def test_a_process_that_has_done_all_waits_for_its_threads_and_leaves_its_modules_whole(
    end: str, exit_code: int, last: list[str], project: Path
) -> None:
    (project / "steps/report.py").write_text(AT_THE_END.replace("END", end))
    ended = python("-m", "steps", "report", folder=project)
    assert ended.returncode == exit_code, ended.stderr
    assert ended.stdout.splitlines() == ["main is done", "a thread is done", "called at exit", *last]


def test_output_that_nobody_can_take_is_no_good_end(project: Path) -> None:
    (project / "steps/report.py").write_text("def main():\n    print('text')\n")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "steps", "report"],
            cwd=project,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # it is written at the end
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (120, "OSError: [Errno 28] No space left on device")


def test_the_projects_main_is_run_wherever_the_user_stands(tmp_path: Path, project: Path) -> None:
    (project / "main.py").write_text("def main():\n    print('the project')\n")
    stand = tmp_path / "stand"
    stand.mkdir()
    (stand / "main.py").write_text("print('somebody else')\n")
    ended = subprocess.run(
        [sys.executable, "-m", "steps", "main"],
        cwd=stand,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("the project\n", "")


@pytest.mark.parametrize("words", [[], ["rain"], ["--config=x"], ["core"]])
def test_a_name_that_is_no_entry_point_is_refused_with_those_that_are(words: list[str]) -> None:
    ended = python("-m", "steps", *words)
    assert ended.returncode == 1
    assert re.fullmatch(rf"usage: python -m steps {re.escape('|'.join(ENTRY_POINTS))} .*\n", ended.stderr)


@pytest.mark.parametrize(
    ("cause", "is_explained"),
    [("import absent_package", True), ("import steps.absent", False), ("raise KeyError('a bug')", False)],
)
def test_a_package_that_is_missing_is_one_message_and_a_bug_keeps_its_traceback(
    cause: str, is_explained: bool, project: Path
) -> None:
    (project / "steps/report.py").write_text(f"{cause}\n")
    ended = python("-m", "steps", "report", folder=project)
    assert ended.returncode == 1
    assert ended.stderr.startswith("PackageMissing: ") is is_explained
    assert ("Traceback" in ended.stderr) is not is_explained
