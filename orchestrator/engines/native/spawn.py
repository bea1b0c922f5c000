"""Starting programs without ``subprocess``: posix_spawn, whose vfork does not copy a large process's page tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.engines.native import host

_SEARCH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find_program(name: str) -> str | None:
    """The absolute path of `name` in PATH or in the standard places (a user's PATH often lacks sbin)."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    folders = [*os.environ.get("PATH", "").split(":"), *_SEARCH]
    for folder in folders:
        path = f"{folder}/{name}"
        if folder and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def spawn(
    arguments: Sequence[str],
    files: Mapping[int, int] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    new_session: bool = False,
    terminal: str | None = None,
) -> int:
    """Start a program and return its pid.

    `files` maps descriptors of the child to ours; 0, 1 and 2 are ``/dev/null`` unless given. The child inherits nothing
    else, not even what this process was started with and never knew of. Signals are set back to their defaults.
    With `terminal`, the path of one, that becomes its stdio and the controlling terminal of a session of its own.
    """
    given = dict(files or {})
    actions: list[tuple[int, int, int] | tuple[int, int] | tuple[int, int, str, int, int]] = []
    # Two steps, so that no descriptor is overwritten before its own turn to be copied.
    free = max([10, *given.values(), *given]) + 1
    for offset, source in enumerate(given.values()):
        actions.append((os.POSIX_SPAWN_DUP2, source, free + offset))
    for offset, target in enumerate(given):
        actions.append((os.POSIX_SPAWN_DUP2, free + offset, target))
        actions.append((os.POSIX_SPAWN_CLOSE, free + offset))
    if terminal is not None:
        # Opened by the leader of a session that has none, a terminal becomes the controlling one.
        actions.append((os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0))
        actions += [(os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
    for number in (0, 1, 2):
        if number not in given and terminal is None:
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY
            actions.append((os.POSIX_SPAWN_OPEN, number, "/dev/null", flags, 0))
    host.keep_descriptors()
    return os.posix_spawn(
        arguments[0],
        list(arguments),
        dict(os.environ if env is None else env),
        file_actions=actions,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
        setsid=new_session or terminal is not None,
    )


# SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ: what shells, nohup and Python ignore.
_DEFAULT_SIGNALS = (1, 2, 3, 13, 15, 20, 21, 22, 25)


class Finished(NamedTuple):
    """How a program ended, and all that it wrote to stdout and stderr."""

    exit_code: int
    output: str


def run(
    arguments: Sequence[str], files: Mapping[int, int] | None = None, *, env: Mapping[str, str] | None = None
) -> Finished:
    """Run a short program to its end, in a session of its own so that a Ctrl-C meant for us does not hit it."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            pid = spawn(arguments, {1: write, 2: write, **(files or {})}, env=env, new_session=True)
        finally:
            os.close(write)
        parts = []
        while part := os.read(read, 65536):
            parts.append(part)
    finally:
        os.close(read)
    return Finished(wait(pid), b"".join(parts).decode("utf-8", "replace"))


def wait(pid: int) -> int:
    """Wait for our child `pid`; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
