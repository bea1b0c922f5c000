"""Where the native engine keeps its things. Only this module and ``places`` name fixed paths."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from orchestrator.engines.native.places import find_places


@lru_cache(maxsize=512)  # each step of a container's life asks for its folders
def _below(root: Path, *names: str) -> Path:
    return root.joinpath(*names)


_ROOTS_STATE = Path("/var/lib/stack")

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32. A link's name has room for four digits only: as hexadecimal, one pair of engines in 65,536 would
take each other's things for their own; so it is one in a million. Without i and l no tag begins the word build."""


@lru_cache(maxsize=16)
def _render_tag(state: str) -> str:
    from zlib import crc32

    sum_ = crc32(state.encode())
    return "".join(_DIGITS[sum_ >> shift & 31] for shift in (15, 10, 5, 0))


class Layout(NamedTuple):
    """The state directory (persistent) and the run directory (lost at reboot) of one user's engine.

    ``STACK_STATE_DIR`` and ``STACK_RUN_DIR`` move them; tests use their own. `tag` is a short token, derived from the
    state directory: it keeps the kernel-wide names (links, nftables tables, cgroups) of two engines apart.
    """

    state: Path
    run: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """The directories that :func:`find_places` finds."""
        state, run = find_places()
        return cls(Path(state), Path(run))

    @property
    def tag(self) -> str:
        """Empty for root's standard place, otherwise four digits of base 32 derived from the state directory."""
        if self.state == _ROOTS_STATE:
            return ""
        return _render_tag(str(self.state))

    @property
    def database(self) -> Path:
        """The SQLite store."""
        return _below(self.state, "stack.db")

    @property
    def images(self) -> Path:
        """Blobs, unpacked layers and the image index."""
        return _below(self.state, "images")

    @property
    def volumes(self) -> Path:
        """Named and anonymous volumes, one folder each with a ``_data`` inside."""
        return _below(self.state, "volumes")

    @property
    def netns(self) -> Path:
        """Bind mounts of named network namespaces."""
        return _below(self.run, "netns")

    @property
    def cache(self) -> Path:
        """What can be made again: compiled seccomp filters, probed host facts."""
        return _below(self.state, "cache")

    def container_state(self, container_id: str) -> Path:
        """A container's persistent folder: writable layer, bundle, log."""
        return _below(self.state, "containers", container_id)

    def container_run(self, container_id: str) -> Path:
        """A container's run folder: mounted root filesystem, pid and exit files, sockets."""
        return _below(self.run, "containers", container_id)

    def container_log(self, container_id: str) -> Path:
        """A container's log: in its state folder, so that it outlives a reboot."""
        return _below(self.state, "containers", container_id, "container.log")

    def project_run(self, project: str) -> Path:
        """A project's run folder: lock, control socket, supervisor log."""
        return _below(self.run, "projects", project)

    def project_state(self, project: str) -> Path:
        """A project's persistent folder: the last desired state."""
        return _below(self.state, "projects", project)
