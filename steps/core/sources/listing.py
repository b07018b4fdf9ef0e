"""The files that a path, folder or glob means as a source, and which of them Spark skips."""

import bz2
import glob
import os
import zlib
from collections.abc import Iterable

from steps.core.errors import SourceUnreadable
from steps.core.storage import filesystem

COMPRESSIONS = (".gz", ".bz2", ".deflate", ".lz4", ".snappy", ".zst")  # endings by which Spark decompresses text
GZIP_MAGIC = b"\x1f\x8b"
GZIP_WRAPPED = 16  # zlib: what to add to the window size for gzip's header and trailer
SHOWN_NAMES = 5  # in a message


def is_literal(path: str) -> bool:
    """Whether a path is no glob: it has no letters of one, or a file or folder has it as its very name."""
    return not glob.has_magic(path) or bool(_literal_files(path))


def matching_files(path: str) -> dict[str, filesystem.Stored]:
    """All files that a path means, by their own paths. What is there under that very name goes before a glob."""
    return _literal_files(path) or filesystem.matching_files(path)


def data_files(path: str) -> dict[str, filesystem.Stored]:
    """The files that a path means, without those that Spark skips."""
    return {name: file for name, file in matching_files(path).items() if not any(map(_is_hidden, _below(name, path)))}


def hidden_files(path: str) -> list[str]:
    """Files that Spark skips for a leading _ or . of their names, but for those in a folder that it skips as well."""
    parts = {name: _below(name, path) for name in sorted(matching_files(path))}
    return [name for name, (*folders, file) in parts.items() if _is_hidden(file) and not any(map(_is_hidden, folders))]


def nothing_to_read(path: str) -> SourceUnreadable:
    """The error for a path that means no data files."""
    if hidden := hidden_files(path):
        reason = f"of {shown(hidden, below=path)} the name begins with _ or ., which Spark skips"
        return SourceUnreadable(path, reason, next="rename what is to be read")
    return SourceUnreadable(path, "there are no files in it")


def check_names(names: Iterable[str], *, below: str) -> None:
    """SourceUnreadable for a name on a disk that Hadoop, by which Spark reads, takes for a URI with a scheme."""
    if filesystem.is_remote(below):
        return
    for name in names:
        if any(":" in part for part in _below(name, below)):
            reason = "Spark cannot read a file with a colon in its name or in that of its folder"
            raise SourceUnreadable(name, reason, next="rename the file or the folder")


def check_compression(name: str, file: filesystem.Stored) -> None:
    """SourceUnreadable when a file's name says another compression than its bytes.

    Spark goes by the ending alone: text named .gz stops it, and gzip under another name becomes letters.
    """
    is_gzip = file.size_bytes > 0 and filesystem.start_of(name, len(GZIP_MAGIC)) == GZIP_MAGIC
    if is_gzip == name.lower().endswith(".gz"):
        return
    reason = "compressed with gzip and not named .gz" if is_gzip else "named .gz and not compressed with gzip"
    raise SourceUnreadable(name, f"it is {reason}", next="rename the file")


def start_of_text(name: str, size_bytes: int) -> bytes:
    """The first bytes of a text file, decompressed; b"" where its compression is none of gzip and bzip2."""
    start = filesystem.start_of(name, size_bytes)
    ending = os.path.splitext(name)[1].lower()
    if ending == ".gz":
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | GZIP_WRAPPED).decompress(start, size_bytes)
    if ending == ".bz2":
        return bz2.BZ2Decompressor().decompress(start, size_bytes)
    return b"" if ending in COMPRESSIONS else start


def uncompressed(name: str) -> str:
    """A file's name without the ending that says its compression."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in COMPRESSIONS else name


def shown(names: Iterable[str], *, below: str) -> str:
    """Some of the files that a path means, for a message."""
    names = [name.removeprefix(f"{below}/") for name in names]
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _literal_files(path: str) -> dict[str, filesystem.Stored]:
    return filesystem.matching_files(glob.escape(path))


def _below(name: str, path: str) -> list[str]:
    """The folders below one that `path` means in which a file is, and its own name."""
    parts, depth = name.split("/"), path.rstrip("/").count("/") + 1
    return parts[depth:] or parts[-1:]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)  # _day=1 is a partition
