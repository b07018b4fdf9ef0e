"""Folders for scratch files, which go with the process that made them."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

OWNED = ".owned"  # a scratch folder's file on which its owner holds a lock
YOUNG_SECONDS = 60  # a folder younger than that may not be locked yet


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder that goes with the block or, when this process is killed, with the next remove_abandoned_folders()."""
    folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    with folder, Path(folder.name, OWNED).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder.name)


def remove_abandoned_folders() -> None:
    """Remove this user's scratch folders whose owner is gone."""
    for owned in Path(tempfile.gettempdir()).glob(f"workflow-*/{OWNED}"):
        with contextlib.suppress(OSError):  # locked by its owner, or another start removes it now
            if owned.stat().st_uid == os.getuid() and time.time() - owned.stat().st_mtime > YOUNG_SECONDS:
                with owned.open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(owned.parent, ignore_errors=True)
