"""The engine that this process works with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine


def open_engine() -> Engine:
    """Return the engine that ``STACK_ENGINE`` names, the native one by default. Raises UsageError, Unavailable."""
    from orchestrator.engines.native.places import require_places
    from orchestrator.engines.registry import load_engine

    require_places()
    return load_engine(os.environ.get("STACK_ENGINE") or "native")
