"""Engines by name. A module is imported when its engine is asked for, never before."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine

ENGINES: dict[str, str] = {
    "native": "orchestrator.engines.native.engine:NativeEngine",
    "fake": "orchestrator.engines.fake:FakeEngine",
}


def load_engine(name: str) -> Engine:
    """Return a new engine of that name, made from the environment. UsageError for a name that is not registered."""
    place = ENGINES.get(name)
    if place is None:
        raise UsageError(f"no engine is called {name}", hint=f"there are: {', '.join(sorted(ENGINES))}")
    from importlib import import_module

    module, _, attribute = place.partition(":")
    return cast("Engine", getattr(import_module(module), attribute)())
