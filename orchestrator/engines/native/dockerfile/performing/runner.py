"""Everything that RUN steps of one build share, made when the first of them has to run, and taken away at its end."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.cache import FOLDER
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.engines.native.dockerfile.front.steps import RunMount, RunStep
    from orchestrator.engines.native.dockerfile.narrator import Vertex
    from orchestrator.engines.native.dockerfile.performing.layering import Bench
    from orchestrator.engines.native.dockerfile.performing.run_mounts import OpenOrigin
    from orchestrator.engines.native.dockerfile.performing.run_step import RunSurroundings
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.layout import Layout


class Runner:
    """Runs the RUN steps of one build. Thread-safe; `close` ends what it holds. Making one does no I/O."""

    def __init__(self, layout: Layout, request: BuildRequest) -> None:
        self._layout = layout
        self._request = request
        self._surroundings: RunSurroundings | None = None
        self._held = ExitStack()
        self._lock = Lock()
        self._closing: Thread | None = None
        self._warming: Thread | None = None

    def render_meaning(self, step: RunStep) -> tuple[Any, ...]:
        """What decides the result of a RUN besides its mounts' content."""
        request = self._request
        ignored = set(step.ignored_args)
        return (
            step.argv,
            {name: value for name, value in step.environment.items() if name not in ignored},
            step.working_dir,
            step.user,
            [_describe_mount(one) for one in step.mounts],
            step.network if step.network != "default" else request.network,
            "insecure" if request.privileged else step.security,
            [(one.name, one.content) for one in step.files],
            request.extra_hosts,
            request.shm_size,
            {name: (one.soft, one.hard) for name, one in request.ulimits.items()},
        )

    def check(self, step: RunStep) -> None:
        """Refuse a step that this build may not or cannot run. Raises BuildError."""
        request = self._request
        wanted = []
        if step.security == "insecure" and not request.privileged:
            wanted.append(("security.insecure", "--security=insecure"))
        if step.network == "host" and request.network != "host":
            wanted.append(("network.host", "--network=host"))
        for entitlement, flag in wanted:
            if entitlement not in request.entitlements:
                raise BuildError(
                    f"RUN {flag} is not allowed in this build",
                    location=step.location,
                    code="not-entitled",
                    hint=f"allow it with --allow {entitlement}, or under build.entitlements",
                )

    def warm_up(self, steps: Sequence[RunStep]) -> None:
        """Begin to make what the first of `steps` needs, while other steps are performed."""
        if not steps or self._warming is not None:
            return
        connected = self._request.network not in ("none", "host") and any(one.network == "default" for one in steps)
        self._warming = Thread(target=self._warm_up, args=(connected,), name="warm-up", daemon=True)
        self._warming.start()

    def _warm_up(self, connected: bool) -> None:
        # What fails is told when a step needs it.
        with suppress(StackError, OSError, ImportError):
            network = self._require_surroundings().network
            if connected:
                network.prepare()

    def _require_surroundings(self) -> RunSurroundings:
        with self._lock:
            if self._surroundings is None:
                self._surroundings = self._prepare()
            return self._surroundings

    def run(
        self,
        step: RunStep,
        bench: Bench,
        lower: Sequence[Path],
        vertex: Vertex,
        open_origin: OpenOrigin,
        cancel: Cancel,
    ) -> None:
        """Run one step over `lower`; what it wrote is in ``bench.upper``."""
        from orchestrator.engines.native.dockerfile.performing.run_step import perform_run

        perform_run(
            step,
            bench,
            lower,
            self._require_surroundings(),
            output=lambda stream, text: vertex.log(text, stream),
            on_wait=lambda text: vertex.log(f"{text}\n"),
            open_origin=open_origin,
            cancel=cancel,
        )

    def _prepare(self) -> RunSurroundings:
        from orchestrator.engines.native.dockerfile.performing.build_network import BuildNetwork
        from orchestrator.engines.native.dockerfile.performing.leftovers import (
            Guard,
            render_build_group,
            runs_folder,
            runs_lock,
            sweep_builds,
        )
        from orchestrator.engines.native.dockerfile.performing.run_step import RunSurroundings, check_limits
        from orchestrator.engines.native.images.workspace import open_workspace
        from orchestrator.engines.native.runtime.cgroups import remove_cgroup
        from orchestrator.engines.native.runtime.facts import observe_host
        from orchestrator.engines.native.runtime.oci_runtime import load_runtime

        check_limits(self._request)
        layout, facts = self._layout, observe_host()
        runtime = load_runtime(layout, facts.cgroups)
        runs_folder(layout).mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep_builds(layout)
        folder = self._held.enter_context(open_workspace(runs_folder(layout), runs_lock(layout))).path
        self._held.callback(Guard(layout).dismiss)
        self._held.callback(remove_cgroup, render_build_group(layout, folder.name))
        network = BuildNetwork(layout, folder.name)
        self._held.callback(network.close)
        return RunSurroundings(
            layout=layout,
            request=self._request,
            runtime=runtime,
            facts=facts,
            network=network,
            runs=folder,
            caches=layout.images / FOLDER / "mounts",
            secrets={one.id: one for one in self._request.secrets},
            ssh={one.id: one for one in self._request.ssh},
        )

    def begin_close(self) -> None:
        """No step will run any more: begin to take the network away, which the kernel takes its time for."""
        if self._warming is not None:
            self._warming.join()
        if self._surroundings is not None:
            self._closing = Thread(target=self._close_network, name="build-network", daemon=True)
            self._closing.start()

    def close(self) -> None:
        """Take the network away and dismiss the guard. Idempotent."""
        for thread in (self._warming, self._closing):
            if thread is not None:
                thread.join()
        self._held.close()
        self._surroundings = None

    def _close_network(self) -> None:
        assert self._surroundings is not None
        # What fails here is tried again, and told, when everything is closed.
        with suppress(StackError, OSError):
            self._surroundings.network.close()


def _describe_mount(mount: RunMount) -> dict[str, Any]:
    fields = (
        "type",
        "target",
        "source",
        "read_write",
        "id",
        "sharing",
        "mode",
        "uid",
        "gid",
        "size",
        "required",
        "env",
    )
    return {name: getattr(mount, name) for name in fields}
