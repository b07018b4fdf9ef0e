"""The entry points: one module, one step, run as `python -m steps.<name>`."""

import gc
import os
import signal

from steps.core import loaded_code

loaded_code.watch()

# Imports leave no garbage, and looking for it among their objects took a sixth of each step's time
# (docs/decisions.md). step.start() turns it on.
gc.disable()

PARENT = os.getppid()  # who started this process, before its imports: afterwards it may be gone
# Until step.start() a Ctrl-C ends what MLflow started silently, not in a traceback among imports; a background job
# ignores it, and somebody's notebook has a handler of its own.
if "MLFLOW_RUN_ID" in os.environ and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
