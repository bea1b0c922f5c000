"""Network namespaces: made, entered, dropped.

A namespace is entered by the calling thread alone and left again before a function returns.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from orchestrator.engines.native.network import netlink
from orchestrator.engines.native.network.netlink import Conversation
from orchestrator.engines.native.network.network_syscalls import (
    bind_mount,
    detach_mount,
    set_namespace,
    unshare_network,
)
from orchestrator.errors import EngineError, NotFound

if TYPE_CHECKING:
    from pathlib import Path

_OWN_NAMESPACE = "/proc/thread-self/ns/net"


class entered:
    """Context manager, read as a statement (``with entered(path)``).

    The calling thread is inside the network namespace `path` (any nsfs file) until the end of the block.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._home = -1

    def __enter__(self) -> None:
        try:
            there = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            message = f"the network namespace {self._path} does not exist"
            raise NotFound(message, resource=str(self._path), operation="enter") from None
        self._home = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            set_namespace(there)
        except OSError as error:
            os.close(self._home)
            message = f"{self._path} is not a network namespace: {error.strerror}"
            raise NotFound(message, resource=str(self._path), operation="enter") from None
        finally:
            os.close(there)

    def __exit__(self, *_exc: object) -> None:
        set_namespace(self._home)
        os.close(self._home)


def write_sysctl(name: str, value: str) -> bool:
    """Write a network sysctl of the calling thread's namespace; False if there is none. One that is as wanted and
    cannot be written is fine."""
    path = f"/proc/sys/net/{name}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        # Written first and read only then: looking a sysctl up takes the kernel longer with each namespace.
        if _read_sysctl(path) == value:
            return True
        message = f"cannot set net.{name.replace('/', '.')} = {value}: {error.strerror}"
        raise EngineError(message, resource=path, operation="set a sysctl", hint="run as root") from error
    return True


def _read_sysctl(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def is_namespace(path: str | Path) -> bool:
    """True if `path` is a bound namespace, False for anything else and for nothing."""
    try:
        return os.stat(path).st_dev == os.stat(_OWN_NAMESPACE).st_dev
    except FileNotFoundError:
        return False


def create_namespace(path: Path, *, loopback: bool = True) -> None:
    """Create a network namespace that lives until :func:`delete_namespace`, held by a bind mount at `path`.

    One that exists is kept as it is. `loopback` False leaves lo down, for a caller that connects the namespace next.
    """
    if is_namespace(path):
        return
    os.makedirs(path.parent, mode=0o755, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    home = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            unshare_network()
        except OSError as error:
            message = f"cannot create a network namespace: {error.strerror}"
            raise EngineError(message, operation="create a network namespace", hint="run as root") from error
        try:
            if loopback:
                with Conversation() as inside:
                    inside.perform(netlink.encode_set_link("lo", up=True))
            bind_mount(_OWN_NAMESPACE, str(path))
        finally:
            set_namespace(home)
    finally:
        os.close(home)


def delete_namespace(path: Path) -> None:
    """Let go of a namespace; the kernel removes it and its links soon after the last process has left. Idempotent."""
    while True:
        while is_namespace(path):
            try:
                detach_mount(str(path))
            except OSError as error:
                # Another process has done the same just now.
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                break
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            # Another process has just bound it there again, for a start that comes too late.
            if error.errno == errno.EBUSY:
                continue
            raise
        return
