"""Files in folders of this machine, as files.Files asks for them."""

import builtins
import contextlib
import glob
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from steps.core.storage.interface import Stored


def matching(pattern: str) -> Iterator[tuple[str, Stored]]:
    for root in [Path(path) for path in glob.glob(pattern)] or [Path(pattern)]:
        yield from [(str(root), _stored(root))] if root.is_file() else below(str(root))


def below(folder: str) -> Iterator[tuple[str, Stored]]:
    return ((str(file), _stored(file)) for file in Path(folder).rglob("*") if file.is_file())


def is_folder(path: str) -> bool:
    return os.path.isdir(path)


def subfolders(folder: str) -> list[str]:
    return [path.name for path in Path(folder).glob("*") if path.is_dir()]


def sizes(folder: str, names: Collection[str]) -> dict[str, int]:
    paths = {name: os.path.join(folder, name) for name in names}
    return {name: os.path.getsize(path) for name, path in paths.items() if os.path.exists(path)}


def read(path: str, size_bytes: int | None = None) -> bytes:
    with open(path, 0) as file:
        return file.read(-1 if size_bytes is None else size_bytes)


def open(path: str, size_bytes: int) -> IO[bytes]:
    return builtins.open(path, "rb")


def write(path: str, content: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


def create(path: str, content: bytes) -> bool:
    draft = Path(f"{path}.{uuid.uuid4().hex}")
    draft.write_bytes(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def remove(folder: str) -> None:
    shutil.rmtree(folder)


def remove_if_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # something is in it
        os.rmdir(folder)


def _stored(file: Path) -> Stored:
    status = file.stat()
    return Stored(size_bytes=status.st_size, modified=status.st_mtime, version=str(status.st_mtime_ns))
