"""Set up a process that runs one entry point and nothing else. `python -m steps` does so; no import does."""

import atexit
import contextlib
import gc
import os
import pwd
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a step that is handed over waits for no import
    import psutil

launched_by: int | None = None  # the process that started this one; None in a process that was not set up
client: "psutil.Process | None" = None  # the process that has handed this step over, and waits for it
_has_done_all = False


def set_up() -> None:
    """Before the imports of an entry point, which take a second."""
    global launched_by
    atexit.register(_end_at_once)  # the first one that is registered is the last one that is called
    launched_by = os.getppid()  # now: the process that started this one may end during the imports
    _name_user()
    gc.disable()  # imports leave no garbage, and looking for it takes a fifth of a second
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback


def after_imports() -> None:
    """When the entry point is imported. Signals are handled by the step itself."""
    from steps.core.process import console

    console.hide_secrets()
    gc.freeze()  # the imported modules stay until the end: nothing of them is garbage
    gc.enable()


def skip_teardown() -> None:
    """When all is done. At its end Python would free each object of the libraries, for a fifth of a second and more."""
    global _has_done_all
    _has_done_all = True


def _end_at_once() -> None:
    if _has_done_all:
        with contextlib.suppress(OSError, ValueError):  # Python says so itself, when it comes to a stream that fails
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(0)


def act_for(pid: int, *, launched_by_pid: int) -> None:
    """Take the place of the process `pid`, which waits for this one; it was launched by `launched_by_pid`."""
    global launched_by, client
    import psutil

    launched_by = launched_by_pid
    try:
        client = psutil.Process(pid)
    except psutil.NoSuchProcess:  # killed meanwhile: nobody waits for this process
        os._exit(1)


def _name_user() -> None:
    """Give a user id without a name in /etc/passwd, as in containers, one for MLflow; it has no home there either."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not any(map(os.environ.get, ("LOGNAME", "USER", "LNAME", "USERNAME"))):  # as getpass.getuser() looks
            os.environ["LOGNAME"] = f"uid{os.getuid()}"
        if not os.environ.get("HOME"):
            from steps.core.errors import SettingInvalid

            user = f"user id {os.getuid()} has no name and no home in /etc/passwd"
            expected = f"a folder that may be written, as {user}"
            sys.exit(str(SettingInvalid("HOME", "", expected=expected, next="set HOME")))
