"""Set up a process that runs one entry point and nothing else. `python -m steps` does so; no import does."""

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


def set_up() -> None:
    """Before the imports of an entry point, which take a second."""
    global launched_by
    launched_by = os.getppid()  # now: the process that started this one may end during the imports
    _name_user()
    gc.disable()  # imports leave no garbage, and looking for it takes a fifth of a second
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports without a traceback


def after_imports() -> None:
    """When the entry point is imported. Signals are handled by the step itself."""
    from steps.core.process import console

    console.hide_secrets()
    gc.freeze()  # the imported modules stay until the end, which would take them apart for nearly half a second
    gc.enable()


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
