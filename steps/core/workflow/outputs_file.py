"""A file that gets what a command hands on, a line `name=uri` each, for what starts commands in turn: a scheduler.

Its path is in the environment, WORKFLOW_OUTPUTS; a relative one starts beside an embedded tracking store.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from steps.core.errors import SettingInvalid
from steps.core.storage import disk
from steps.core.tables import location

VARIABLE = "WORKFLOW_OUTPUTS"


def check() -> None:
    """SettingInvalid for a path in a folder that is not there, or may not be written; nothing else is tried."""
    if (path := _path()) and not (os.access(path.parent, os.W_OK) and not path.is_dir()):
        raise SettingInvalid(VARIABLE, str(path), expected="the path of a file in a folder that may be written")


def write(outputs: Mapping[str, str]) -> None:
    """Write them in place of what was there; nothing where no file is asked for."""
    if path := _path():
        with disk.named_in_errors(str(path)):
            path.write_text("".join(f"{name}={uri}\n" for name, uri in outputs.items()), encoding="utf-8")


def _path() -> Path | None:
    given = os.environ.get(VARIABLE, "")
    return location.home() / given if given else None
