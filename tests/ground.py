"""The ground that a test process stands on: a network and a folder of its own, and a guard that clears up after it.

Tests run in several processes at once, beside whatever else the machine does. In a network namespace of its own no
process finds a port, a subnet or the name of a link taken by somebody else. By the folder that all of them work in the
guard finds what a process left behind that was killed, or crashed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_ROOT: Final = "TEST_GROUND"
"""The environment variable by which a worker learns the folder of the session."""

# Prefixes for documentation (RFC 5737, RFC 3849): the machine's only uplink, and the neighbour that its routes lead to.
_UPLINK: Final = """\
link add uplink type veth peer name machine netns {neighbour}
address add 198.51.100.2/24 dev uplink
address add 2001:db8:1::2/64 dev uplink nodad
link set uplink up
link set lo up
"""
_NEIGHBOUR: Final = """\
address add 198.51.100.1/24 dev machine
address add 2001:db8:1::1/64 dev machine nodad
link set machine up
link set lo up
route add unreachable 0.0.0.0/0
route add unreachable ::/0
"""
_ROUTES: Final = """\
route add 0.0.0.0/0 via 198.51.100.1
route add ::/0 via 2001:db8:1::1
"""


def enter_network() -> None:
    """Move the calling thread, and all that it starts from now on, into a new machine's network.

    It has an uplink and default routes, as a machine has; of what lies beyond, a neighbour says at once that it
    cannot be reached. The kernel removes it all with the last process in it. Without the right to do that, which
    containers need as well, nothing happens.
    """
    try:
        _unshare_network()
    except PermissionError:
        return
    neighbour = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        # So that it answers for what it does not reach, instead of keeping silent.
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net", name).write_text("1")
    _unshare_network()
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _configure(_UPLINK.format(neighbour=f"/proc/{os.getpid()}/fd/{neighbour}"))
    _enter(neighbour)
    _configure(_NEIGHBOUR)
    _enter(own)
    _configure(_ROUTES)
    os.close(own)
    # The neighbour lives as long as its descriptor is open: until this process ends.


def _unshare_network() -> None:
    _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET), "unshare")


def _enter(namespace: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET), "setns")


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _configure(commands: str) -> None:
    lines = commands.splitlines(keepends=True)
    if not Path("/proc/sys/net/ipv6").exists():
        lines = [line for line in lines if "::" not in line]
    subprocess.run(["ip", "-batch", "-"], input="".join(lines), text=True, check=True)


def make_root() -> Path:
    """Make the folder of this run of the tests; in a worker, its part of that folder."""
    known = os.environ.get(_ROOT)
    if known is not None:
        part = Path(known, os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw") or "x")
        part.mkdir(exist_ok=True)
        return part
    # Short: sockets stand below it, and their paths have to fit into 107 characters.
    root = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    os.environ[_ROOT] = str(root)
    return root


class Guard:
    """A process that waits for the end of this one, however that comes, and then clears up below `folders`."""

    def __init__(self, root: Path, *folders: Path) -> None:
        # In a session of its own: Ctrl-C reaches the tests, and this only when they are done.
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid()), str(root), *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def finish(self) -> list[str]:
        """Let it clear up; return what was there to clear up."""
        said, _ = self._process.communicate()
        return said.splitlines()


def _guard(tests: int, root: Path, folders: list[Path]) -> None:
    from e2e.leaks import scrub_below

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    waiter = select.poll()
    waiter.register(0, select.POLLIN)
    # Not the pipe alone: what tests fork holds its other end as well.
    with contextlib.suppress(ProcessLookupError):
        waiter.register(os.pidfd_open(tests), select.POLLIN)
        waiter.poll()
    left = scrub_below(root, *folders, mark=f"{_ROOT}={root}")
    shutil.rmtree(root, ignore_errors=True)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.writelines(f"{one}\n" for one in left)
        sys.stdout.flush()


if __name__ == "__main__":
    _guard(int(sys.argv[1]), Path(sys.argv[2]), [Path(one) for one in sys.argv[3:]])
