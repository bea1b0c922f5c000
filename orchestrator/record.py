"""Frozen keyword-only records: what ``@dataclass(frozen=True)`` gives, without its import cost.

``dataclasses`` compiles source text for every class; the project's sixty-odd value types would cost a cold ``stack up``
30 ms of its 150. Type checkers see dataclasses (:pep:`681`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Any:
        return lambda target: target


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Base of immutable value types; subclasses only annotate fields and give defaults.

    A default is shared by all instances, so it must be immutable (use ``MappingProxyType`` or ``()``).
    """

    _fields: tuple[str, ...] = ()
    _names: frozenset[str] = frozenset()
    _defaults: dict[str, Any] = {}  # noqa: RUF012
    _raw: frozenset[str] = frozenset({"config", "tree", "options", "details"})
    kinds: ClassVar[dict[str, type[Record]]] = {}
    """Every record class by its name, for :mod:`orchestrator.codec`."""

    def __init_subclass__(cls) -> None:
        Record.kinds[cls.__name__] = cls
        own = [name for name in getattr(cls, "__annotations__", ()) if name[0] != "_" and name != "kinds"]
        cls._fields = cls._fields + tuple(name for name in own if name not in cls._fields)
        cls._names = frozenset(cls._fields)
        cls._defaults = {**cls._defaults, **{name: cls.__dict__[name] for name in own if name in cls.__dict__}}

    def __init__(self, **values: Any) -> None:
        state = self.__dict__
        state.update(self._defaults)
        state.update(values)
        if state.keys() != self._names:
            self._refuse(values)

    def _refuse(self, values: dict[str, Any]) -> None:
        unknown = sorted(set(values) - set(self._fields))
        missing = [name for name in self._fields if name not in self.__dict__]
        raise TypeError(f"{type(self).__name__}: unknown fields {unknown}, missing fields {missing}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(self.__dict__[name] for name in self._fields)))

    def __repr__(self) -> str:
        shown = (
            f"{name}={self.__dict__[name]!r}"
            for name in self._fields
            if name not in self._defaults or self.__dict__[name] != self._defaults[name]
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes` applied; TypeError names fields that do not exist."""
        return type(self)(**{**self.__dict__, **changes})
