"""May this process run containers here? Asked before anything is begun, so that the answer is one message."""

from __future__ import annotations

import os
from typing import Final

from orchestrator.errors import Unavailable

_NEEDED: Final = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN", "CAP_MKNOD")


def require_root(operation: str) -> None:
    """Raise Unavailable unless this process is root with the capabilities that mounts and networks take.

    `operation` is what was to be done, for the message.
    """
    if os.geteuid() != 0:
        raise Unavailable(
            "this needs root: running without root is not supported yet",
            resource="root",
            operation=operation,
            hint="put sudo before the command; config, plan, ps, logs and doctor work without it",
        )
    from orchestrator.engines.native.host import read_capabilities

    lacking = [name for name in _NEEDED if name not in read_capabilities()]
    if lacking:
        raise Unavailable(
            f"this process is root, but without {', '.join(lacking)}",
            resource="root",
            operation=operation,
            hint="a container or a restricted service has taken them away: run stack on the host itself",
        )
