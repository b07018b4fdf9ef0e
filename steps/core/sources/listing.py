"""The files that a path, folder or glob means as a source, and which of them are data.

One rule for all formats, in folders and in object stores. A path that is there under that very name means itself, be it
written like a glob, in which `**` stands for any number of folders, or none. A folder means all files below it at any
depth, links followed. Passed over for everything (format, size, fingerprint, rows): what is hidden, as a name below the
path begins with a dot or _ (.ipynb_checkpoints, _temporary, __MACOSX, _SUCCESS, .part.crc) unless it is a partition's
(_day=1); and what is still being written, by its ending (.tmp, .part, .crdownload). Files of 0 bytes have no rows. What
else is there and cannot be read is an error.
"""

import glob
import os
from collections.abc import Iterable

from steps.core.errors import SourceUnreadable
from steps.core.storage import filesystem, globs
from steps.core.wording import listed

COMPRESSED_ENDINGS = (".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd", ".lz4")  # of text
UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart")  # endings while a file is written or loaded
SHOWN_NAMES = 5  # in a message


def matching_files(path: str) -> dict[str, filesystem.Stored]:
    """All files that a path means, by their own paths. What is there under that very name goes before a glob."""
    return _literal_files(path) or filesystem.matching_files(path)


def data_files(path: str) -> dict[str, filesystem.Stored]:
    """The files with rows that a path means, by the rule above. SourceUnreadable for one that cannot be read."""
    files = {name: file for name, file in matching_files(path).items() if not any(map(_is_hidden, below(name, path)))}
    finished = {name: file for name, file in files.items() if not name.lower().endswith(UNFINISHED)}
    for name, file in finished.items():
        if file.problem:
            whole = "" if name == path else f"{shown([name], below=path)}: "
            next = "correct or remove it, or name what is to be read with a glob"
            raise SourceUnreadable(path, f"{whole}{file.problem}", next=next)
    return finished


def hidden_files(path: str) -> list[str]:
    """Files that are passed over for a leading _ or . of their names, but for those in a folder that is as well."""
    parts = {name: below(name, path) for name in sorted(matching_files(path))}
    return [name for name, (*folders, file) in parts.items() if _is_hidden(file) and not any(map(_is_hidden, folders))]


def unfinished_files(path: str) -> list[str]:
    """Files that are passed over as they are still being written, by their endings."""
    names = (name for name in matching_files(path) if name.lower().endswith(UNFINISHED))
    return sorted(name for name in names if not any(map(_is_hidden, below(name, path))))


def nothing_to_read(path: str) -> SourceUnreadable:
    """The error for a path that means no data files."""
    if hidden := hidden_files(path):
        reason = f"of {shown(hidden, below=path)} the name begins with _ or ., which is passed over"
        return SourceUnreadable(path, reason, next="rename what is to be read")
    if unfinished := unfinished_files(path):
        reason = f"{shown(unfinished, below=path)}: by its ending a file that is still being written, passed over"
        return SourceUnreadable(path, reason, next="wait until it is whole, or rename it")
    return SourceUnreadable(path, "there are no files in it")


def uncompressed(name: str) -> str:
    """A file's name without the ending that says its compression."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in COMPRESSED_ENDINGS else name


def shown(names: Iterable[str], *, below: str) -> str:
    """Some of the files that a path means, for a message."""
    return listed([name.removeprefix(f"{below}/") for name in names], SHOWN_NAMES)


def _literal_files(path: str) -> dict[str, filesystem.Stored]:
    return filesystem.matching_files(glob.escape(path))


def below(name: str, path: str) -> list[str]:
    """The folders below one that `path` means in which a file is, and its own name."""
    parts, depth = name.split("/"), globs.fixed_depth(path.rstrip("/").split("/"))
    return parts[depth:] or parts[-1:]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)  # _day=1 is a partition
