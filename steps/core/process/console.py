"""Messages for the person at the terminal, beside what a command prints."""

import os
import sys
import threading

CLEAR = "\r\x1b[K"  # to the beginning of the line, and nothing on it
WIDTH = 80  # of a terminal that does not tell

_lock = threading.Lock()
_status = ""  # the line that is on the terminal now, and will be rewritten


def message(text: str) -> None:
    """Show a line to the user at once, above the status line where there is one."""
    with _lock:
        before, after = (CLEAR, _status) if _status else ("", "")
        print(f"{before}{text}\n{after}", end="", file=sys.stderr, flush=True)


def status(text: str) -> None:
    """Rewrite the last line of the terminal; "" leaves it as it was before the first."""
    global _status
    with _lock:
        if text or _status:
            _status = text[: _columns() - 1]  # a line that wraps cannot be rewritten
            print(f"{CLEAR}{_status}", end="", file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether somebody looks at a terminal on which a line can be rewritten."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except OSError:  # no terminal after all
        return WIDTH
