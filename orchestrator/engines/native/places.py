"""The two directories below which everything of the native engine stands, as text: importing pathlib takes its time."""

import os

SCHEMA_VERSION = 3
"""Of the SQLite store, ``user_version``: two modules read it, and only one of them can afford to import the other."""


def find_places() -> tuple[str, str]:
    """Return the state directory (persistent) and the run directory (lost at reboot).

    Root: ``/var/lib/stack`` and ``/run/stack``; others: the XDG data and runtime directories. ``STACK_STATE_DIR`` and
    ``STACK_RUN_DIR`` move them.
    """
    state, run = os.environ.get("STACK_STATE_DIR"), os.environ.get("STACK_RUN_DIR")
    if os.geteuid() == 0:
        return state or "/var/lib/stack", run or "/run/stack"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/stack-{os.geteuid()}"
    return state or f"{data}/stack", run or f"{runtime}/stack"


def require_places() -> None:
    """Raise Unavailable where one of the two is no folder and cannot become one."""
    if not all(map(os.path.isdir, find_places())):
        from orchestrator.engines.native.unusable import require_folders

        require_folders()


def find_database() -> str:
    """Return the path of the SQLite store."""
    return f"{find_places()[0]}/stack.db"


def find_units(*, user: bool) -> str:
    """Where an administrator's systemd units stand, or with `user` this user's; ``STACK_UNIT_DIR`` moves both."""
    given = os.environ.get("STACK_UNIT_DIR")
    if given:
        return given
    if not user:
        return "/etc/systemd/system"
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{home}/systemd/user"


def find_device_folders() -> list[str]:
    """Where CDI files stand, the later ones first to count; ``STACK_CDI_DIRS`` (colons between) moves them."""
    return (os.environ.get("STACK_CDI_DIRS") or "/etc/cdi:/var/run/cdi").split(":")


def is_systemd_running() -> bool:
    """Whether systemd is this system's init (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")
