"""The compiled code of all modules that ``up`` imports, in one file beside the ``.pyc`` files of this package.

Finding, opening and checking two hundred and fifty files is a fifth of what a cold ``up`` does before its first
operation. A module is taken from here as long as its source has the time and size that it had; otherwise, and where
this file is not there or was made by another Python, the import system goes its own way. Whoever may write the ``.pyc``
files may write this one, and nobody else.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib_external import (
    MAGIC_NUMBER,
    ExtensionFileLoader,
    SourceFileLoader,
    spec_from_file_location,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any, Final, Literal

    Kind = Literal["module", "package", "extension"]
    Entry = tuple[str, int, int, int, int, Kind]
    """Path, time in nanoseconds and size of the source or extension; where the code begins and ends; the kind."""

_MISSES: Final = 8
"""Modules that were not found here until the file is written anew."""

_NUMBER: Final = 8  # bytes of the length that the file begins with


class _Loader(SourceFileLoader):
    """Loads one module as the import system does, but for where its code comes from."""

    def __init__(self, name: str, entry: Entry, code: memoryview) -> None:
        super().__init__(name, entry[0])
        self.entry = entry
        self._code = code

    def get_code(self, fullname: str) -> CodeType | None:
        try:
            code: CodeType = marshal.loads(self._code)
        except (EOFError, ValueError, TypeError):
            return super().get_code(fullname)
        return code


class CodeCache:
    """The file at `path`, as a finder for ``sys.meta_path``. Without a usable file it finds nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._codes = memoryview(b"")
        self._misses = 0
        self._foreign = False
        self._load()

    @property
    def usable(self) -> bool:
        """Whether anything can be found in it."""
        return bool(self._entries)

    @property
    def stale(self) -> bool:
        """Whether it is to be written anew: much that was imported was not found in it."""
        if sys.dont_write_bytecode or sys.pycache_prefix or (self.usable and self._misses < _MISSES):
            return False
        # Two ways to call the command would otherwise write it in turns.
        return not self._foreign

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> Any:
        """The import system's question (:class:`importlib.abc.MetaPathFinder`)."""
        entry = self._entries.get(name)
        if entry is None or not _is_current(entry):
            self._misses += 1
            return None
        path, _time, _size, start, end, kind = entry
        if kind == "extension":
            return spec_from_file_location(name, path, loader=ExtensionFileLoader(name, path))
        folder = [os.path.dirname(path)] if kind == "package" else None
        loader = _Loader(name, entry, self._codes[start:end])
        return spec_from_file_location(name, path, loader=loader, submodule_search_locations=folder)

    def refresh(self) -> None:
        """Write the file anew, with all that is imported now, if much of that was not found in it."""
        if not self.stale:
            return
        self._misses = 0
        if not os.access(os.path.dirname(self._path), os.W_OK):
            return
        self._load()
        codes = {name: found for name, module in [*sys.modules.items()] if (found := _read_code(name, module))}
        for name, entry in self._entries.items():
            if name not in codes and _is_current(entry):
                codes[name] = ((*entry[:3], 0, 0, entry[5]), bytes(self._codes[entry[3] : entry[4]]))
        try:
            _write(self._path, codes)
        except OSError:
            return

    def _load(self) -> None:
        import mmap

        self._entries = {}
        try:
            with open(self._path, "rb", buffering=0) as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
            begin = _NUMBER + int.from_bytes(view[:_NUMBER], "little")
            made_by, size, entries = marshal.loads(view[_NUMBER:begin])
        except (OSError, EOFError, ValueError, TypeError):
            return
        own = _describe_python()
        if made_by != own:
            self._foreign = made_by[:2] == own[:2] and os.path.isdir(made_by[-1][0])
        elif begin + size == len(view):
            self._entries, self._codes = entries, view[begin:]


_used: CodeCache | None = None


def use_code_cache() -> None:
    """Have modules imported from this package's file from now on."""
    global _used
    if not sys.path or sys.path[0] != os.path.dirname(os.path.realpath(sys.argv[0])):
        # Called as a module: modules of the current folder come first, and each folder would have its own file.
        return
    _used = cache = CodeCache(f"{os.path.dirname(__file__)}/__pycache__/up.{sys.implementation.cache_tag}.codes")
    if cache.usable:
        # Before whatever looks for files; what is built in comes first, as always.
        sys.meta_path.insert(2, cache)


def is_code_cache_stale() -> bool:
    """:attr:`CodeCache.stale`, where this process, or the one that it was forked from, uses it."""
    return _used is not None and _used.stale


def refresh_code_cache() -> None:
    """:meth:`CodeCache.refresh`, where this process, or the one that it was forked from, uses it."""
    if _used is not None:
        _used.refresh()


def _describe_python() -> tuple[Any, ...]:
    # What stands before a module's folder in the path may hide it.
    return (MAGIC_NUMBER, sys.hexversion, sys.flags.optimize, tuple(sys.path))


def _is_current(entry: Entry) -> bool:
    try:
        info = os.stat(entry[0])
    except OSError:
        return False
    return info.st_mtime_ns == entry[1] and info.st_size == entry[2]


def _read_code(name: str, module: ModuleType) -> tuple[Entry, bytes] | None:
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    if spec is None or spec.name != name or not spec.origin:
        return None
    kind: Kind = "module" if spec.submodule_search_locations is None else "package"
    if isinstance(spec.loader, _Loader) and not _is_current(spec.loader.entry):
        # Changed since it was imported: what was imported must not stand for what is there now.
        return None
    try:
        info = os.stat(spec.origin)
        if isinstance(spec.loader, ExtensionFileLoader):
            kind, code = "extension", b""
        elif isinstance(spec.loader, SourceFileLoader):
            code = marshal.dumps(spec.loader.get_code(name))
        else:
            return None
    except (OSError, ImportError, SyntaxError):
        return None
    return (spec.origin, info.st_mtime_ns, info.st_size, 0, 0, kind), code


def _write(path: str, codes: dict[str, tuple[Entry, bytes]]) -> None:
    entries: dict[str, Entry] = {}
    size = 0
    for name, (entry, code) in codes.items():
        entries[name] = (*entry[:3], size, size + len(code), entry[5])
        size += len(code)
    head = marshal.dumps((_describe_python(), size, entries))
    beside = f"{path}.{os.getpid()}"
    try:
        with open(beside, "wb") as file:
            file.write(len(head).to_bytes(_NUMBER, "little"))
            file.write(head)
            for _entry, code in codes.values():
                file.write(code)
        os.rename(beside, path)
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
