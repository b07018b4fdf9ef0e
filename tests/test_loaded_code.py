"""What a process says of the project's files that it has loaded, in a copy of the project that is edited meanwhile."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path

import pytest
from place import PROJECT

STEPS = ["ingest", "train", "evaluate", "infer"]
ALWAYS = [
    "steps/__init__.py",
    "steps/core/__init__.py",
    "steps/core/process/__init__.py",
    "steps/core/process/loaded_code.py",
]
OF_THE_LAUNCHER = [
    "steps/core/redaction.py",
    *(f"steps/core/process/{name}.py" for name in ("console", "hand_over", "startup", "warm_process")),
]
SET_UP = "from steps.core.process import loaded_code\nloaded_code.watch()\n"


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


class Project:
    """A project with the packages of this one, and what else a test writes into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*ALWAYS, *OF_THE_LAUNCHER, "steps/__main__.py"):
            self.write(name, (PROJECT / name).read_text())

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, program: str, *arguments: str, **environment: str) -> dict[str, str]:
        """The digests that a process has at the end of a program, but for the files that are always there."""
        text = SET_UP + textwrap.dedent(program) + "\nimport json\nfrom steps.core.process import loaded_code"
        text += "\nprint(json.dumps(loaded_code.digests()))\n"
        command = [sys.executable, *(arguments or ("-c", text))]
        its = self.environment(**environment)
        ran = subprocess.run(command, cwd=self.folder, env=its, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        self.printed = ran.stdout.splitlines()[:-1]
        digests: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
        assert {name: digests.pop(name) for name in ALWAYS} == {name: sha256(self.read(name)) for name in ALWAYS}
        return digests

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder), **extra}

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "my project é")


@pytest.mark.parametrize("step", STEPS)
def test_it_is_every_project_file_that_a_step_imports_and_no_other(step: str) -> None:
    program = f"""
{SET_UP}
import json, sys, steps.{step}
from steps.core.process import loaded_code
files = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "steps"]
print(json.dumps([loaded_code.digests(), files]))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    digests, files = json.loads(ran.stdout)
    assert digests == {str(Path(file).relative_to(PROJECT)): sha256(Path(file).read_bytes()) for file in files}


def test_the_launcher_and_the_entry_point_count_too(project: Project) -> None:
    program = "import json\nfrom steps.core.process import loaded_code\n"
    program += "def main():\n    print(json.dumps(loaded_code.digests()))\n"
    project.write("steps/act.py", program)
    launcher = {name: sha256(project.read(name)) for name in ("steps/__main__.py", *OF_THE_LAUNCHER)}
    assert project.run("", "-m", "steps", "act") == {**launcher, "steps/act.py": sha256(program)}


def test_in_a_process_that_was_not_set_up_no_code_is_known(project: Project) -> None:
    """A notebook's, or a test's: what it read went unseen, and a function of a module may have been replaced."""
    file = project.write("steps/core/rate.py", "RATE = 1\n")
    program = f"""
import json
from steps.core import rate
from steps.core.process import loaded_code
open({str(file)!r}, "w").write("RATE = 2\\n")
print(json.dumps(loaded_code.digests()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=project.folder, env=project.environment(), capture_output=True, check=True
    )
    loaded = [*ALWAYS, "steps/core/rate.py"]
    assert json.loads(ran.stdout) == dict.fromkeys(loaded, "unknown")


def test_a_file_that_is_edited_after_its_import_counts_as_it_was_imported(project: Project) -> None:
    file = project.write("steps/core/rate.py", "RATE = 1\n")
    digests = project.run(f"""
        from steps.core import rate
        open({str(file)!r}, "w").write("RATE = 2\\n")
        print(rate.RATE)
    """)
    assert project.printed == ["1"]
    assert digests == {"steps/core/rate.py": sha256("RATE = 1\n")}


def test_an_edit_that_leaves_size_and_time_as_they_were_is_run_and_counted(project: Project) -> None:
    """Python itself runs the bytecode of before then."""
    program = "from steps.core import rate\nprint(rate.RATE)"
    file = project.write("steps/core/rate.py", "RATE = 1\n")
    project.run(program, PYTHONDONTWRITEBYTECODE="")
    before = file.stat()
    file.write_text("RATE = 2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert project.run(program, PYTHONDONTWRITEBYTECODE="") == {"steps/core/rate.py": sha256("RATE = 2\n")}
    assert project.printed == ["2"]


def test_bytecode_is_used_where_it_is_whole_and_of_this_source_and_place(project: Project, tmp_path: Path) -> None:
    program = "from steps.core import rate\nprint(rate.RATE, rate.of.__code__.co_filename)"
    source = "RATE = 1\ndef of(): ...\n"
    file = project.write("steps/core/rate.py", source)
    bytecode = Path(cache_from_source(str(file)))
    for kept in (b"", MAGIC_NUMBER + b"\3\0\0\0" + source_hash(source.encode()), None):
        if kept is not None:
            bytecode.parent.mkdir(exist_ok=True)
            bytecode.write_bytes(kept)
        before = bytecode.stat()
        assert project.run(program, PYTHONDONTWRITEBYTECODE="") == {"steps/core/rate.py": sha256(source)}
        assert project.printed == [f"1 {file}"]
        assert (bytecode.stat().st_ino == before.st_ino) == (kept is None)  # written once, and then read
    moved = tmp_path / "moved"
    shutil.move(project.folder, moved)
    project.folder = moved
    project.run(program, PYTHONDONTWRITEBYTECODE="")
    assert project.printed == [f"1 {moved / 'steps/core/rate.py'}"]


@pytest.mark.parametrize(
    "load",
    [
        'importlib.import_module("steps" + ".core.rate")',
        "def late():\n    from steps.core import rate\nlate()",
        'exec(compile(open("steps/core/rate.py").read(), "rate", "exec"))',
        'runpy.run_path("steps/core/rate.py")',
        'spec = importlib.util.spec_from_file_location("x", "steps/core/rate.py")\n'
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))",
    ],
)
def test_it_does_not_matter_how_a_file_is_loaded(project: Project, load: str) -> None:
    project.write("steps/core/rate.py", "RATE = 1\n")
    for _ in range(2):  # the second time there may be bytecode of it
        digests = project.run(f"import importlib.util, runpy, steps\n{load}", PYTHONDONTWRITEBYTECODE="")
        assert digests == {"steps/core/rate.py": sha256("RATE = 1\n")}


def test_a_module_beside_the_packages_counts(project: Project) -> None:
    project.write("helper.py", "x = 1\n")
    project.write("helpers/inner/deep.py", "x = 2\n")
    digests = project.run("import steps, helper, helpers.inner.deep")
    assert digests == {"helper.py": sha256("x = 1\n"), "helpers/inner/deep.py": sha256("x = 2\n")}


def test_a_data_file_beside_the_modules_counts_when_it_is_read(project: Project) -> None:
    project.write("steps/core/levels.json", "[1]")
    project.write("steps/core/not_read.json", "[2]")
    project.write("data/rows.csv", "a,b")  # a source, whose content ingest asks for itself
    digests = project.run("""
        import steps
        open("steps/core/levels.json").read()
        open("data/rows.csv").read()
        open("steps/core/written.json", "w").write("1")
    """)
    assert digests == {"steps/core/levels.json": sha256("[1]")}


def test_a_data_file_that_is_edited_after_it_was_opened_is_not_known(project: Project) -> None:
    project.write("steps/core/levels.json", "[1]")
    digests = project.run("""
        import steps
        with open("steps/core/levels.json") as read:
            open("steps/core/levels.json", "w").write("[2]")
    """)
    assert digests == {"steps/core/levels.json": "unknown"}


def test_what_was_looked_for_and_not_there_is_absent(project: Project) -> None:
    digests = project.run("""
        import contextlib, steps
        with contextlib.suppress(ImportError):
            from steps.core import local_settings
        with contextlib.suppress(OSError):
            open("steps/core/override.json")
    """)
    assert digests == {"steps/core/local_settings.py": "absent", "steps/core/override.json": "absent"}


def test_a_file_is_compared_with_what_would_be_loaded_under_its_name_now(project: Project) -> None:
    file = project.write("steps/core/rate.py", "RATE = 1\n")
    program = 'from steps.core.process import loaded_code\nprint(loaded_code.digest("steps/core/rate.py"))'
    project.run(program)
    assert project.printed == [sha256("RATE = 1\n")]
    project.write("steps/core/rate/__init__.py", "RATE = 2\n")
    project.run(program)
    assert project.printed == [sha256("RATE = 2\n")]
    shutil.rmtree(file.with_suffix(""))
    file.unlink()
    project.run(program)
    assert project.printed == ["absent"]


def test_installed_packages_and_hidden_folders_do_not_count(project: Project) -> None:
    project.write(".venv/lib/python3.12/site-packages/package.py", "x = 1\n")
    project.write(".cache/other.py", "x = 1\n")
    digests = project.run("""
        import sys
        sys.path += [".venv/lib/python3.12/site-packages", ".cache"]
        import steps, package, other
    """)
    assert digests == {}
