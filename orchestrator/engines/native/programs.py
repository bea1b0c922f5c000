"""The programs that starting a container takes, asked for before the first of many containers fails for want of one."""

from __future__ import annotations

from orchestrator.engines.native.spawn import find_program
from orchestrator.errors import Unavailable


def require_programs() -> None:
    """Raise Unavailable, with what to install, when a program is missing that every container needs."""
    lacking = [] if find_program("conmon") else ["conmon"]
    if not find_program("crun") and not find_program("runc"):
        lacking.append("crun")
    if lacking:
        names = " and ".join("crun (or runc)" if one == "crun" else one for one in lacking)
        raise Unavailable(
            f"{names} {'is' if len(lacking) == 1 else 'are'} not installed, and no container starts without",
            resource=lacking[0],
            operation="start containers",
            hint=f"apt-get install {' '.join(lacking)}; `stack doctor` shows what else is missing",
        )
