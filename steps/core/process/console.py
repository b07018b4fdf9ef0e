"""Messages for the person at the terminal, beside what a command prints."""

import logging
import os
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any

from steps.core.redaction import redacted

CLEAR = "\r\x1b[K"  # to the beginning of the line, and nothing on it
WIDTH = 80  # of a terminal that does not tell

_lock = threading.Lock()
_status = ""  # the line that is on the terminal now, and will be rewritten


def message(text: str) -> None:
    """Show a line to the user at once, above the status line where there is one."""
    with _lock:
        before, after = (CLEAR, _status) if _status else ("", "")
        print(f"{before}{redacted(text)}\n{after}", end="", file=sys.stderr, flush=True)


def status(text: str) -> None:
    """Rewrite the last line of the terminal; "" leaves it as it was before the first."""
    global _status
    with _lock:
        if text or _status:
            _status = text[: _columns() - 1]  # a line that wraps cannot be rewritten
            print(f"{CLEAR}{_status}", end="", file=sys.stderr, flush=True)


def hide_secrets() -> None:
    """Let no traceback, warning or log of this process show a secret from now on, whatever library has written it."""
    sys.excepthook = _print_traceback
    threading.excepthook = _print_traceback_of_thread
    logging.setLogRecordFactory(_log_record)
    format_warning = warnings.formatwarning
    warnings.formatwarning = lambda *arguments, **settings: redacted(format_warning(*arguments, **settings))


def is_terminal() -> bool:
    """Whether somebody looks at a terminal on which a line can be rewritten."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def _print_traceback_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        sys.stderr.write(f"Exception in thread {ended.thread.name if ended.thread else '(gone)'}:\n")
        _print_traceback(ended.exc_type, ended.exc_value, ended.exc_traceback)


def _log_record(*arguments: Any, **settings: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **settings)
    try:
        text = record.getMessage()
    except Exception:  # whatever a library's arguments raise: logging tells of it where the line is written
        return record
    if (shown := redacted(text)) != text:
        record.msg, record.args = shown, ()
    if record.exc_info:
        record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))  # what a formatter then takes
    return record


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except OSError:  # no terminal after all
        return WIDTH
