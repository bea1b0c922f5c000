"""The goal: what the user wants of a project now. Every command edits it; the loop converges to it and keeps it.

One-time wishes are written as points in time ("recreate what was created before T"), so that the same goal can be
reconciled any number of times, by any process, after any crash, and asks for each thing once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from orchestrator.model import Stack
from orchestrator.record import Record

Want = Literal["running", "created", "stopped", "absent", "untouched"]
"""running: exists and runs; created: exists, is not started; stopped: left as it is but not running (never created);
absent: no container; untouched: whatever it is now."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class BuildOptions(Record):
    """What a command says about every build that it asks for, and what of its environment builds may see.

    `args` are ``--build-arg`` (they win over the file's), `proxies` the predefined proxy arguments that the client is
    configured with (they lose against both). `no_cache` and `pull` add to what the file says; `ssh` replaces it, as
    ``default`` or ``ID[=PATH,...]``. `environment` holds SSH_AUTH_SOCK and SOURCE_DATE_EPOCH of the one who asked:
    whoever builds may have another one. `every_platform` builds all of ``platforms``, not just the one that runs here.
    `provenance` (``min``, ``max`` or nothing) replaces what the file says about it; None leaves it to the file.
    """

    args: Mapping[str, str] = _NOTHING
    proxies: Mapping[str, str] = _NOTHING
    no_cache: bool = False
    pull: bool = False
    ssh: tuple[str, ...] = ()
    environment: Mapping[str, str] = _NOTHING
    every_platform: bool = False
    provenance: str | None = None


class Goal(Record):
    """What is wanted of one project.

    `wants` maps service names to what is wanted of them; a service of the stack that is not named is untouched.
    `issued_at` is when the user last asked (epoch seconds): a container that ended before it is started again (unless
    it is a one-shot that completed), one that ended after it is left to its restart policy.
    `recreate_before` / `restart_before` / `renew_volumes_before`: containers of the service created (started) before
    that time are recreated (restarted), whatever they are. `rerun_before`: one-shots that completed and were started
    before that time are run again.
    `build_before` / `refresh_before`: images of the service that were built (fetched) before that time are built again
    (fetched again, where the pull policy says so); without an entry an image that is there is left alone.
    `ignore_orphans`: say nothing of containers that the stack file no longer names.
    `down`: remove everything of the project: containers, networks and, with `remove_volumes`, named volumes; `images`
    then says which images go too.
    """

    stack: Stack
    wants: Mapping[str, Want] = _NOTHING
    issued_at: float = 0.0
    scale: Mapping[str, int] = _NOTHING
    recreate_before: Mapping[str, float] = _NOTHING
    restart_before: Mapping[str, float] = _NOTHING
    rerun_before: Mapping[str, float] = _NOTHING
    renew_volumes_before: Mapping[str, float] = _NOTHING
    build_before: Mapping[str, float] = _NOTHING
    refresh_before: Mapping[str, float] = _NOTHING
    build: Literal["policy", "never"] = "policy"
    build_options: BuildOptions = BuildOptions()
    recreate: Literal["diverged", "never"] = "diverged"
    remove_orphans: bool = False
    ignore_orphans: bool = False
    stop_timeout: float | None = None
    down: bool = False
    remove_volumes: bool = False
    remove_images: Literal["none", "local", "all"] = "none"
    pull: Literal["policy", "always", "never", "missing"] = "policy"
    wait_for: tuple[str, ...] = ()
    """Services that the command waits for (``--wait``): running, and healthy where they have a health check."""
    file_digests: Mapping[str, str] = _NOTHING
    """A digest of what each secret's or config's file holds, by absolute path, where the command read it."""
    abort_on_exit: Literal["", "any", "failure"] = ""
    parallel: int = 0
    """How many operations may run at a time; 0 is as many as can."""
    prepare: tuple[str, ...] = ()
    """Services whose image, networks and volumes shall be there, although no container is asked for (``run``)."""
    oneoffs: tuple[str, ...] = ()
    """Ids of one-off containers that exist and shall be started, once, after what their services depend on."""
    rollback: bool = False
    """Whether a failure leads back to the last goal that was reached (``up --rollback``)."""
    renew_volumes: tuple[str, ...] = ()
    """Keys of volumes that may be made anew, with their data lost, if the file declares them differently now."""
    rolling_back: bool = False
    """This is the way back: ``rollback_config`` counts."""

    def replicas(self, service: str) -> int:
        """How many replicas of `service` are wanted when it runs."""
        return self.scale.get(service, self.stack.services[service].scale)
