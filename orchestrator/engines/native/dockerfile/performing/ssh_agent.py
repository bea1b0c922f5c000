"""``RUN --mount=type=ssh``: a socket for one step that leads to an ssh agent of the user.

The user's own socket is never shown to the step: its owner and mode could not be what the step asks for.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import BuildError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.request import SshSource
    from orchestrator.source import Location

_PIECE = 65536
_WATCH = 'read -r goodbye; kill "$SSH_AGENT_PID"'


def open_agent(
    source: SshSource, folder: Path, owner: tuple[int, int], mode: int, keep: ExitStack, location: Location
) -> Path:
    """A socket at which the agent that `source` means answers until `keep` is closed.

    A path of a socket is that of an agent; paths of keys get an agent of their own. Raises BuildError.
    """
    agent = _find_agent(source, folder, keep, location)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = folder / "agent"
    # Bound by a short name: an address has 107 characters.
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{directory}/agent")
    finally:
        os.close(directory)
    os.chown(path, *owner)
    os.chmod(path, mode)
    listener.listen(16)
    Thread(target=_serve, args=(listener, agent), name="ssh-agent", daemon=True).start()
    keep.callback(_close, listener)
    return path


def _close(listener: socket.socket) -> None:
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _find_agent(source: SshSource, folder: Path, keep: ExitStack, location: Location) -> str:
    paths = source.paths or tuple(filter(None, (os.environ.get("SSH_AUTH_SOCK"),)))
    if not paths:
        raise BuildError(
            f"ssh {source.id} needs an agent, and SSH_AUTH_SOCK is not set",
            location=location,
            hint=f"start an agent, or name a key: --ssh {source.id}=/path/to/key",
        )
    try:
        sockets = [stat.S_ISSOCK(os.stat(path).st_mode) for path in paths]
    except OSError as error:
        raise BuildError(f"ssh {source.id}: {error.filename}: {error.strerror}", location=location) from error
    if sockets[0]:
        if len(paths) > 1:
            raise BuildError(f"ssh {source.id}: one agent, or keys", location=location)
        return paths[0]
    return _start_agent(source.id, paths, folder, keep, location)


def _start_agent(identity: str, keys: tuple[str, ...], folder: Path, keep: ExitStack, location: Location) -> str:
    from orchestrator.engines.native.spawn import find_program, run, spawn, wait

    agent, add = find_program("ssh-agent"), find_program("ssh-add")
    if agent is None or add is None:
        raise BuildError(
            f"ssh {identity}: keys need ssh-agent and ssh-add, which are not installed",
            location=location,
            hint="apt-get install openssh-client, or give the build the socket of an agent",
        )
    path = f"/tmp/stack-agent-{os.urandom(8).hex()}"
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        # The shell sees the pipe's end, also when this process is killed.
        pid = spawn([agent, "-a", path, "/bin/sh", "-c", _WATCH], {0: read}, new_session=True)
    finally:
        os.close(read)

    def end() -> None:
        os.close(write)
        wait(pid)
        with suppress(FileNotFoundError):
            os.unlink(path)

    keep.callback(end)
    _await_socket(path)
    for key in keys:
        # Without a terminal it fails at a passphrase instead of asking for one.
        env = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"}
        added = run([add, "-q", key], env=env)
        if added.exit_code:
            said = " ".join(line for line in added.output.splitlines() if not line.startswith("@"))
            raise BuildError(f"ssh {identity}: {key}: {said}", location=location)
    return path


def _await_socket(path: str) -> None:
    import time

    end = time.monotonic() + 5
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.005)


def _serve(listener: socket.socket, agent: str) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            upstream.connect(agent)
        except OSError:
            connection.close()
            continue
        for one, other in ((connection, upstream), (upstream, connection)):
            Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
