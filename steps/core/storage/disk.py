"""What an error says of a disk: that it is full, read-only, or not ours to use."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

from steps.core.errors import DiskUnusable, causes

ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.ESTALE,
}  # fmt: skip
REASONS = re.compile(
    "|".join(
        [
            *(re.escape(os.strerror(number)) for number in sorted(ERRNOS)),
            "No usable temporary directory found",  # Python's, where TMPDIR and all others are full or read-only
            "Mkdirs failed to create",  # Hadoop's
        ]
    )
)
TEXT_CHARACTERS = 300  # of another program's message
OF_MLFLOW = (
    "set MLFLOW_TRACKING_URI=sqlite:///mlflow.db: by default MLflow makes a folder beside this one, by its name as a "
    "URI writes it, and may not do so there"
)


@contextlib.contextmanager
def named_in_errors(path: str) -> Iterator[None]:
    """Python tells a file's name where it cannot be opened, and not where the disk is full: in this block it is."""
    try:
        yield
    except OSError as err:
        err.filename = err.filename or path
        raise


def _is_quoted(path: str) -> bool:
    """Whether it is a folder that is there, as a URI writes it: MLflow makes its database's by that name."""
    return unquote(path) != path and os.path.exists(unquote(path))


def failure(error: BaseException | None) -> DiskUnusable | None:
    """What `error` says of a disk, in the words of the system, of Delta's own code, or of Java's."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in ERRNOS:
            where, why = str(cause.filename or "a file"), os.strerror(cause.errno)
            return DiskUnusable(where, why, next=OF_MLFLOW) if _is_quoted(where) else DiskUnusable(where, why)
        if isinstance(cause, Exception) and (reason := REASONS.search(str(cause))):
            line = next(line for line in str(cause).splitlines() if reason.group() in line)
            return DiskUnusable("a file cannot be read or written", " ".join(line.split())[:TEXT_CHARACTERS])
    return None
