"""What the future supervisor imports while the command is still parsing: all that a first goal needs.

Commands that only look at things import these modules late or never; on the road of ``up`` they would cost time
between the goal and its first operation.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EVERY_GOAL = (
    "orchestrator.codec",
    "orchestrator.digest",
    "orchestrator.reconcile.divergence",
    "orchestrator.reconcile.endings",
    "orchestrator.reconcile.images",
    "orchestrator.reconcile.networks",
    "orchestrator.reconcile.orphans",
    "orchestrator.reconcile.services",
    "orchestrator.reconcile.volumes",
    "orchestrator.spec.transport",
)

ENGINE = {
    "native": (
        "orchestrator.engines.native.creation",
        "orchestrator.engines.native.network.dns",
        "orchestrator.engines.native.network.docker_coexistence",
        "orchestrator.engines.native.runtime.exits",
        "orchestrator.engines.native.lifecycle",
        "orchestrator.engines.native.network.networks",
        "orchestrator.engines.native.network.publishing",
        "orchestrator.engines.native.starting",
        "orchestrator.engines.native.files.rootfs",
        "orchestrator.engines.native.files.volume_data",
        "orchestrator.engines.native.files.volumes",
    ),
}


def preload(engine: str) -> None:
    """Import what a goal on this engine (by its registry name) needs."""
    for name in (*EVERY_GOAL, *ENGINE.get(engine, ())):
        import_module(name)


_LATER = ("inspect", "linecache", "locale", "textwrap")


class _Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def import_asyncio() -> None:
    """Import asyncio without TLS: the control socket is local, and ``ssl`` would cost 5 ms and 1.3 MB.

    What it imports only to look at coroutine functions that are given as callbacks, at tracebacks and at encodings of
    programs' output comes when it is used: another 7 ms.
    """
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]
    later = [_Later(name) for name in _LATER if name not in sys.modules]
    sys.modules.update({one.__name__: one for one in later})
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
        for one in later:
            if sys.modules.get(one.__name__) is one:
                # Whoever else imports it gets it whole.
                del sys.modules[one.__name__]
