"""Set up a process that runs one entry point and nothing else. `python -m steps` does so; no import does."""

import gc
import os
import signal

from steps.core.process import lean_imports, loaded_code

launched_by: int | None = None  # the process that started this one; None in a process that was not set up


def before_imports() -> None:
    """Before the imports of an entry point, which take seconds."""
    global launched_by
    launched_by = os.getppid()  # now: the process that started this one may end during the imports
    loaded_code.watch()
    lean_imports.leave_sklearn_out_of_xgboost()
    gc.disable()  # imports leave no garbage, and looking for it took a sixth of a step's time
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback


def after_imports() -> None:
    """When the entry point is imported. Signals are handled by the step itself."""
    gc.freeze()  # the imported modules stay until the end
    gc.enable()
