"""Run one entry point in this process: `python -m steps <name> --<parameter>=<value> ...`, as MLproject does.

The names are main and those of the modules beside this one. `python -m steps without-project <script> ...` runs a
script as one that knows nothing of the project, from the warm process too.
"""

import importlib
import importlib.util
import os
import runpy
import site
import sys
from pathlib import Path

from steps.core.process import hand_over, loaded_code, startup, warm_process

PROJECT = Path(__file__).absolute().parent.parent
WITHOUT_PROJECT = "without-project"
WITH_WARM_PROCESS = ("main", "evaluate")  # they start others: the steps, and the check of the artifact


def run() -> None:
    """Hand a step over to the driver's warm process, or set this process up, import the entry point and run it."""
    names = ["main", *sorted(path.stem for path in (PROJECT / "steps").glob("[a-z]*.py"))]
    if len(sys.argv) < 2 or sys.argv[1] not in (*names, WITHOUT_PROJECT):
        sys.exit(f"usage: python -m steps {'|'.join(names)} [--<parameter>=<value> ...]")
    sys.path.insert(0, str(PROJECT))  # before the folder where the user stands, which may have a main.py too
    startup.set_up()
    try:
        if sys.argv[1] != "main":
            hand_over.to_warm_process()
        if sys.argv[1] in WITH_WARM_PROCESS:
            warm_process.start()  # returns in each process that it forks too, with the arguments of that one
        name = sys.argv.pop(1)
        if name != WITHOUT_PROJECT:
            _run_entry_point("main" if name == "main" else f"steps.{name}")
            return
    except (ModuleNotFoundError, SyntaxError) as err:
        if not _is_from_another_python(err):
            raise
        from steps.core.errors import PackageMissing  # not earlier: a run depends on every file that its process loads

        sys.exit(str(PackageMissing(sys.executable, str(err))))
    _run_without_project()


def _run_entry_point(module: str) -> None:
    loaded_code.watch()
    entry_point = importlib.import_module(module)
    startup.after_imports()
    sys.argv[0] = str(entry_point.__file__)  # MLflow's name for the source of a run
    entry_point.main()


def _run_without_project() -> None:
    """The script that the next argument names. It finds what `python -I` finds: the installed packages alone."""
    for module in [name for name in sys.modules if name.partition(".")[0] == "steps"]:
        del sys.modules[module]
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    added += [os.getcwd(), str(PROJECT), str(PROJECT / "steps"), site.getusersitepackages()]
    not_installed = {os.path.abspath(path) for path in added} - {*site.getsitepackages()}
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in not_installed]
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _is_from_another_python(error: Exception) -> bool:
    """Whether this Python has not the project's packages: MLflow takes whichever `python` comes first on PATH."""
    if isinstance(error, SyntaxError):
        return sys.version_info < (3, 12)
    package = (getattr(error, "name", None) or "").partition(".")[0]
    return bool(package) and importlib.util.find_spec(package) is None


if __name__ == "__main__":
    run()
    startup.skip_teardown()
