"""What somebody wants built, and how a build tells what it does."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.engines.base import BuildEvent as BuildEvent
from orchestrator.engines.base import BuildProgress as BuildProgress
from orchestrator.model import Ulimit
from orchestrator.record import Record

ENTITLEMENTS = ("network.host", "security.insecure")
"""What `BuildRequest.entitlements` may hold."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class BuildSecret(Record):
    """A value for ``RUN --mount=type=secret,id=...``: from a file, or the bytes themselves."""

    id: str
    file: str | None = None
    content: bytes | None = None


class SshSource(Record):
    """``--ssh id[=socket|key...]``; without paths the agent of ``SSH_AUTH_SOCK``."""

    id: str = "default"
    paths: tuple[str, ...] = ()


class BuildRequest(Record):
    """One image to build.

    `context` is an absolute directory, a URL of a tar or a Dockerfile, a git reference, or ``-`` with `stdin` (a tar,
    or a Dockerfile without context). `dockerfile` is a path below the context (or absolute); `inline` its whole text
    instead. `contexts` are additional contexts by name: directories, URLs, git references, ``docker-image://REF``,
    ``oci-layout://DIR[:TAG|@DIGEST]``, ``service:NAME`` resolved beforehand to ``docker-image://sha256:...``.
    `no_cache` is True, or the names of the stages to build without it. `platforms` as ``os/arch[/variant]``; several
    give an image index. Sizes are bytes. `source_date_epoch` is seconds: later times in layers, history and
    configuration are set to it.
    """

    context: str | None = None
    stdin: bytes | None = None
    dockerfile: str | None = None
    inline: str | None = None
    target: str | None = None
    args: Mapping[str, str] = _NOTHING
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = _NOTHING
    annotations: Mapping[str, str] = _NOTHING
    platforms: tuple[str, ...] = ()
    contexts: Mapping[str, str] = _NOTHING
    no_cache: bool | tuple[str, ...] = False
    pull: bool = False
    network: str = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int | None = None
    ulimits: Mapping[str, Ulimit] = _NOTHING
    privileged: bool = False
    entitlements: tuple[str, ...] = ()
    secrets: tuple[BuildSecret, ...] = ()
    ssh: tuple[SshSource, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    source_date_epoch: int | None = None
    provenance: str = ""
    """What is attested of the image when it is pushed: ``min``, ``max``, or nothing."""
    name: str = ""
    """Who it is for (a service), in messages."""


class BuildResult(Record):
    """What was built: the image's identifier and, with several platforms, the digest of their index."""

    image_id: str
    index_digest: str = ""
    cached_steps: int = 0
    built_steps: int = 0
    references: Mapping[str, str] | None = None
    """The images that the build stood on or took files from: as they were called, and their identifiers. None when it
    used anything else that is outside of its context."""
