"""Which files of the project this process runs, as they were when it read them: a later edit changes nothing here.

`python -m steps` calls watch() before it imports an entry point. From then on, bytecode of a module is used only where
it has a hash of its source (PEP 552): Python's own has the size and the second of the last edit.

Any other process, such as a notebook's, reads files unwatched and may replace functions. Its code is UNKNOWN.
"""

import contextlib
import hashlib
import marshal
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source, source_from_cache, source_hash
from types import CodeType, ModuleType
from typing import Any

ABSENT = "absent"  # in place of a digest: there is no such file
UNKNOWN = "unknown"  # in place of a digest: the file was edited while the process used it, or nobody watched
CHECKED_BY_HASH = b"\3\0\0\0"  # the flags of a file of bytecode that is valid for the source with its hash alone
PROJECT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))

_folders = {f"{folder}/" for folder in (PROJECT, os.path.realpath(PROJECT))}
_sources: dict[str, bytes] = {}  # of each module, by its path in the project
_opened: dict[str, str] = {}  # digest of each other file, by its path in the project
_code_folders = {"steps"}  # the folders right below the project that hold modules
_is_watching = False


def watch() -> None:
    """Remember what is read from now on, for the rest of the process, and the few modules that are loaded already."""
    global _is_watching
    _is_watching = True
    for file, path in _loaded_modules():
        with open(path, "rb") as opened:
            _sources[file] = opened.read()
    sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder())
    sys.addaudithook(_on_event)


def digests() -> dict[str, str]:
    """SHA-256 of each file that this process has loaded or opened, by its path in the project; ABSENT or UNKNOWN.

    Without watch(), the modules that are loaded, each as UNKNOWN: no later run is taken for one with the same code.
    """
    if not _is_watching:
        return {file: UNKNOWN for file, _ in sorted(_loaded_modules())}
    modules = {file: hashlib.sha256(source).hexdigest() for file, source in list(_sources.items())}
    others = {file: opened if opened == digest(file) else UNKNOWN for file, opened in list(_opened.items())}
    return dict(sorted({**others, **modules}.items()))


def digest(file: str) -> str:
    """SHA-256 of what a process that imports or opens `file` of the project would read now, else ABSENT."""
    package = f"{file.removesuffix('.py')}/__init__.py"  # is imported before a module of the same name
    paths = [os.path.join(PROJECT, name) for name in ([package, file] if file.endswith(".py") else [file])]
    path = next((path for path in paths if os.path.isfile(path)), "")
    if not path:
        return ABSENT
    with open(path, "rb") as opened:
        return hashlib.sha256(opened.read()).hexdigest()


def source_of(module: ModuleType) -> bytes:
    """The source that a loaded module of the project was compiled from; without watch(), what its file holds now."""
    if _is_watching:
        return _sources[_in_project(str(module.__file__))]
    with open(str(module.__file__), "rb") as opened:
        return opened.read()


def compiled(path: str) -> CodeType:
    """The code of a file of the project, from its bytecode where this is valid, which takes a tenth of the time.

    SyntaxError or ValueError where it is not Python.
    """
    with open(path, "rb") as opened:
        return _Loader("", path).code_of(opened.read())


def _loaded_modules() -> Iterator[tuple[str, str]]:
    """The loaded modules of the project: path in the project, and path."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and (file := _in_project(path)):
            yield file, path


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> Any:
        source = self.get_data(self.path)
        file = _in_project(self.path)
        _sources[file] = source
        if "/" in file:
            _code_folders.add(file.partition("/")[0])
        return self.code_of(source)

    def code_of(self, source: bytes) -> CodeType:
        """From bytecode that is valid for this source, else compiled and kept as such."""
        header = MAGIC_NUMBER + CHECKED_BY_HASH + source_hash(source)
        bytecode = cache_from_source(self.path)
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError):  # none, or part of one
            kept = self.get_data(bytecode)
            if kept.startswith(header):
                code: CodeType = marshal.loads(kept[len(header) :])
                if code.co_filename == self.path:  # else the project was moved
                    return code
        code = self.source_to_code(source, self.path)
        if not sys.dont_write_bytecode:
            self.set_data(bytecode, header + marshal.dumps(code))
        return code


class _Finder:
    """PathFinder, with a _Loader for the project's modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:  # the importer may do without the module, but will take it once it exists
            for folder in path or ():
                _note_opened(os.path.join(folder, f"{fullname.rpartition('.')[2]}.py"))
        elif spec.origin and (file := _in_project(spec.origin)):
            if type(spec.loader) is SourceFileLoader:
                spec.loader = _Loader(fullname, spec.origin)
            else:  # an extension module
                _opened.setdefault(file, digest(file))
        return spec


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = args
        if isinstance(path, str) and not flags & (os.O_WRONLY | os.O_RDWR):
            with contextlib.suppress(OSError):  # the caller gets the same error
                _note_opened(path)


def _note_opened(path: str) -> None:
    """Remember a file beside the project's modules that is about to be read."""
    file = _in_project(path)
    if file.partition("/")[0] not in _code_folders:
        return
    if "__pycache__" in file:  # read by another loader than _Loader
        try:
            file = _in_project(source_from_cache(path))
        except ValueError:  # pytest's
            return
    if file not in _sources and file not in _opened:
        _opened[file] = UNKNOWN  # reading the file for its digest calls this function again
        _opened[file] = digest(file)
        if _opened[file] == ABSENT and "." not in os.path.basename(file):
            del _opened[file]  # a file of Git's, for which MLflow looks


def _in_project(path: str) -> str:
    """`path` relative to the project; "" for what is not in it, or is hidden, or installed there."""
    path = os.path.abspath(path)
    file = next((path.removeprefix(folder) for folder in _folders if path.startswith(folder)), "")
    parts = file.split("/")
    return "" if "site-packages" in parts or any(part.startswith(".") for part in parts) else file
