"""The entry points: one module, one step, run as `python -m steps.<name>`."""

import gc
import importlib.util
import os
import signal
import sys
from types import TracebackType

from steps.core.process import loaded_code

loaded_code.watch()

# Imports leave no garbage, and looking for it among their objects took a sixth of each step's time
# (docs/decisions.md). step.start() turns it on.
gc.disable()

PARENT = os.getppid()  # who started this process, before its imports: afterwards it may be gone
# Until step.start() a Ctrl-C ends what MLflow started silently, not in a traceback among imports; a background job
# ignores it, and somebody's notebook has a handler of its own.
if "MLFLOW_RUN_ID" in os.environ and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _tell_what_is_missing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One message where this is not the project's Python: MLflow takes whichever `python` comes first on PATH."""
    from steps.core.errors import PackageMissing  # not before a step needs it: it is in the key of whoever loads it

    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if (package and importlib.util.find_spec(package) is None) or (
        isinstance(error, SyntaxError) and sys.version_info < (3, 12)
    ):
        sys.stderr.write(f"{PackageMissing(sys.executable, str(error))}\n")
    else:
        sys.__excepthook__(kind, error, trace)


if "MLFLOW_RUN_ID" in os.environ and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _tell_what_is_missing
