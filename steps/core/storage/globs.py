"""Which files a glob means, in a folder and in an object store alike."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

ANY_FOLDERS = "**"  # a part of a glob that stands for any number of folders, or none


def means(pattern: Sequence[str], name: Sequence[str]) -> bool:
    """Whether a glob fits a file, or a folder that it is in; both are given by their parts between slashes."""
    if not pattern:
        return True
    if pattern[0] == ANY_FOLDERS:
        return any(means(pattern[1:], name[start:]) for start in range(len(name)))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and means(pattern[1:], name[1:])


def fixed_depth(pattern: Sequence[str]) -> int:
    """How many parts of a name a glob gives one by one: those before its first `**`, or all."""
    return pattern.index(ANY_FOLDERS) if ANY_FOLDERS in pattern else len(pattern)
