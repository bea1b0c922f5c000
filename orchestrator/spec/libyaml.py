"""libyaml's event parser out of PyYAML, without PyYAML's own in Python: importing that takes longer than most files.

The extension module asks the package for the exceptions that it may raise. They stand in modules with regular
expressions over all of Unicode, base64 and datetime; here stand-ins are given to it, which are taken away afterwards.
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARKED = ("Scanner", "Parser", "Composer", "Constructor", "Emitter", "Serializer", "Representer")
"""The modules whose exception carries marks, by the first half of its name."""

_loaded: list[tuple[Any, Any, type[Exception]]] = []


def load_parser() -> tuple[Any, Any, type[Exception]]:
    """Return the class ``CParser``, what holds the classes of events, and the exception that every syntax error is."""
    if not _loaded:
        _loaded.append((_import_alone() if _is_untouched() else None) or _import_whole())
    return _loaded[0]


def _is_untouched() -> bool:
    return not any(name.partition(".")[0] == "yaml" for name in sys.modules)


def _import_whole() -> tuple[Any, Any, type[Exception]]:
    import yaml
    from yaml._yaml import CParser

    return CParser, yaml, yaml.YAMLError


def _import_alone() -> tuple[Any, Any, type[Exception]] | None:
    """None for a PyYAML that is made otherwise than those that are known; nothing of it is left then."""
    found = next((one for finder in sys.meta_path if (one := finder.find_spec("yaml", None))), None)
    if found is None or found.submodule_search_locations is None:
        return None
    package = ModuleType("yaml")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["yaml"] = package
    lent = ["yaml"]
    try:
        from yaml import error, events, nodes, tokens  # noqa: F401

        for word in _MARKED:
            lent.append(_lend(package, word, type(f"{word}Error", (error.MarkedYAMLError,), {})))
        lent.append(_lend(package, "Reader", _make_reader_error(error.YAMLError)))
        from yaml import _yaml

        loaded = _yaml.CParser, events, error.YAMLError
    except (ImportError, AttributeError, TypeError):
        lent = [name for name in sys.modules if name.partition(".")[0] == "yaml"]
        loaded = None
    for name in lent:
        del sys.modules[name]
    return loaded


def _lend(package: ModuleType, word: str, error: type[Exception]) -> str:
    name = f"yaml.{word.lower()}"
    module = ModuleType(name)
    setattr(module, f"{word}Error", error)
    setattr(package, word.lower(), module)
    sys.modules[name] = module
    return name


def _make_reader_error(base: type[Exception]) -> type[Exception]:
    class ReaderError(base):  # type: ignore[misc, valid-type]
        """A byte or a character that cannot stand in a YAML text."""

        def __init__(self, name: Any, position: Any, character: Any, encoding: Any, reason: Any) -> None:
            self.name, self.position, self.character = name, position, character
            self.encoding, self.reason = encoding, reason

        def __str__(self) -> str:
            return f"unacceptable character at position {self.position}: {self.reason}"

    return ReaderError
