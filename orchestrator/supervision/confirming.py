"""Asks a project's supervisor whether the goal that the last command gave it still holds, and hears what it tells.

The supervisor knows the goal, has everything imported and every container at hand; a command that would only give it
the same goal again need not read the stack file, nor import what a conversation takes (``client``).
Imports next to nothing: raw sockets, and the interpreter's own scanner for JSON.
"""

from __future__ import annotations

from orchestrator.plain_json import load_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

PATIENCE = 5.0
"""Seconds that the supervisor gets to look at its containers; one that takes longer is asked in the usual way."""

_LONGEST_PATH = 100


def confirm_goal(folder: str, version: str, token: str, moment: float) -> list[dict[str, Any]] | None:
    """Ask the supervisor in the run directory `folder` for the goal that was given as `token`, once more at `moment`.

    Returns the events that it tells, as plain data, when everything is as the goal wants it and nothing has to be done;
    otherwise None, and nothing was done. `version` is what the supervisor has to be of (``control.CODE_VERSION``).
    """
    try:
        return _converse(folder, version, f'{{"do":"confirm","token":"{token}","at":{moment!r}}}\n'.encode())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_supervised(folder: str) -> bool:
    """Whether a supervisor listens in the run directory `folder` of a project."""
    try:
        _connect(folder).close()
    except OSError:
        return False
    return True


def _converse(folder: str, version: str, question: bytes) -> list[dict[str, Any]] | None:
    connection = _connect(folder)
    try:
        connection.sendall(question)
        events: list[dict[str, Any]] = []
        rest = b""
        while True:
            data = connection.recv(1 << 17)
            if not data:
                return None
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = load_json(line.decode())
                if "event" in message:
                    events.append(message["event"])
                elif "hello" in message:
                    if message["hello"]["version"] != version:
                        return None
                elif "confirmed" in message:
                    return events if message["confirmed"] is True else None
                else:
                    return None
    finally:
        connection.close()


def _connect(folder: str) -> socket:
    import os
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    connection.settimeout(PATIENCE)
    path = f"{folder}/control.sock"
    if len(os.fsencode(path)) < _LONGEST_PATH:
        connection.connect(path)
        return connection
    # What does not fit into sun_path is reached through the folder.
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{opened}/control.sock")
    finally:
        os.close(opened)
    return connection
