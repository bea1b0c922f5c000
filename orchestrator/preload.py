"""What the future supervisor imports while the command is still parsing: all that a first goal needs.

Commands that only look at things import these modules late or never; on the road of ``up`` they would cost time
between the goal and its first operation.
"""

from __future__ import annotations

import sys
from importlib import import_module

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


def import_asyncio() -> None:
    """Import asyncio without TLS: the control socket is local, and ``ssl`` would cost 5 ms and 1.3 MB."""
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
