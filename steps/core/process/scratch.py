"""Scratch folders, which are removed with the process that made them."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

OWNED = ".owned"  # a file in a scratch folder, locked by its owner
YOUNG_SECONDS = 60  # a younger folder may not be locked yet


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder for this block. If this process is killed, a later remove_abandoned_folders() removes it."""
    folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    with folder, Path(folder.name, OWNED).open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield Path(folder.name)


def remove_abandoned_folders() -> None:
    """Remove the scratch folders of this user whose owner has ended."""
    for owned in Path(tempfile.gettempdir()).glob(f"workflow-*/{OWNED}"):
        with contextlib.suppress(OSError):  # its owner has it locked, or another process removes it now
            status = owned.stat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > YOUNG_SECONDS:
                with owned.open() as lock_file:
                    fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(owned.parent, ignore_errors=True)
