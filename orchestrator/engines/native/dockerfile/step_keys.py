"""What a step's layer is known again by: the content that it takes in, and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.cache import compute_key
from orchestrator.engines.native.dockerfile.front.steps import CopyStep, Origin, RunMount, RunStep, Step, WorkdirStep
from orchestrator.engines.native.dockerfile.sources.site import BuildSite, SourceRoot

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.chain import Chain
    from orchestrator.engines.native.dockerfile.inputs import BuildInputs
    from orchestrator.engines.native.dockerfile.performing.copying import CopyPlan
    from orchestrator.engines.native.dockerfile.performing.runner import Runner
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.dockerfile.stage_work import StageResult
    from orchestrator.engines.native.images.workspace import Workspace
    from orchestrator.source import Location

_VERSION = 1
"""Changes when the same step comes to another layer than it did with an older version of this program."""


class _Unseen(Exception):
    """A path was asked for that is not mounted here."""


def _refuse() -> Path:
    raise _Unseen


class StepKeys:
    """Looks into the sources of steps. Thread-safe; content is looked at once in a build."""

    def __init__(
        self, workspace: Workspace, site: BuildSite, request: BuildRequest, inputs: BuildInputs, runner: Runner
    ) -> None:
        self._workspace = workspace
        self._site = site
        self._request = request
        self._inputs = inputs
        self._runner = runner
        self._digests: dict[tuple[int, str], str] = {}
        self._copies: dict[int, CopyStep] = {}
        self._plans: dict[int, CopyPlan] = {}
        self._lock = Lock()

    def digest_sources(self, step: Step, finals: Mapping[int, Chain | None]) -> str | None:
        """See `stage_work.Performer`."""
        try:
            return self._digest(step, finals, look=False)
        except _Unseen:
            return None

    def digest_results(self, step: Step, results: Mapping[int, StageResult]) -> str:
        """See `stage_work.Performer`."""
        return self._digest(step, {index: one.chain for index, one in results.items()}, look=True)

    def _digest(self, step: Step, chains: Mapping[int, Chain | None], *, look: bool) -> str:
        if isinstance(step, CopyStep):
            return self._digest_copy(step, chains, look)
        if isinstance(step, RunStep):
            return compute_key([self._digest_mount(one, chains, look) for one in step.mounts])
        return ""

    def _digest_mount(self, mount: RunMount, chains: Mapping[int, Chain | None], look: bool) -> str:
        if mount.origin is None:
            return ""
        if mount.type == "bind":
            with self._lock:
                copy = self._copies.get(id(mount))
                if copy is None:
                    copy = self._copies[id(mount)] = copy_of_mount(mount.origin, mount.source, mount.location)
            return self._digest_copy(copy, chains, look)
        if mount.origin.kind in ("context", "named"):
            return mount.origin.name
        return self._find_chain(mount.origin, chains, mount.location).identity

    def _digest_copy(self, step: CopyStep, chains: Mapping[int, Chain | None], look: bool) -> str:
        chain: Chain | None = None
        local = needs_origin(step)
        if local and not self._inputs.is_tree(step.origin.kind, step.origin.name):
            chain = self._find_chain(step.origin, chains, step.location)
        key = (id(step), chain.identity if chain is not None else "")
        with self._lock:
            known = self._digests.get(key)
        if known is not None:
            return known
        if chain is None:
            source = self._inputs.open_tree(step.origin) if local else None
            plan = self._plan(step, source)
            digest = plan.digest
            with self._lock:
                self._plans[id(step)] = plan
        else:
            digest = self._digest_layers(step, chain, look)
        with self._lock:
            self._digests[key] = digest
        return digest

    def _digest_layers(self, step: CopyStep, chain: Chain, look: bool) -> str:
        if not look:
            name = self._inputs.describe(step.origin)
            return self._plan(step, SourceRoot(_refuse, name=name, identity=chain.identity)).digest
        from orchestrator.engines.native.dockerfile.performing.layering import call_with_mounts

        source = self._view(step.origin, chain)
        return call_with_mounts(lambda: self._plan(step, source).digest)

    def _view(self, origin: Origin, chain: Chain) -> SourceRoot:
        """The files of a chain, mounted once somebody looks at them. Only within `call_with_mounts`."""
        mounted: list[Path] = []

        def mount() -> Path:
            from orchestrator.engines.native.dockerfile.performing.layering import mount_view

            if not mounted:
                folder = self._workspace.make_directory("view")
                mount_view(chain.lower, folder)
                mounted.append(folder)
            return mounted[0]

        return SourceRoot(mount, name=self._inputs.describe(origin), identity=chain.identity)

    def list_contents(self, step: Step, chains: Mapping[int, Chain | None]) -> dict[str, str]:
        """What is remembered of the contents that a step takes from layers, in hexadecimal digits by identity."""
        from orchestrator.engines.native.dockerfile.performing.copying import identify_content

        found = {}
        for copy in self._list_copies(step):
            if not needs_origin(copy) or self._inputs.is_tree(copy.origin.kind, copy.origin.name):
                continue
            try:
                identity = identify_content(self._find_chain(copy.origin, chains, copy.location).identity, copy)
            except _Unseen:
                continue
            digest = self._site.hashes.recall(identity)
            if digest is not None:
                found[identity.hex()] = digest.hex()
        return found

    def _list_copies(self, step: Step) -> list[CopyStep]:
        if isinstance(step, CopyStep):
            return [step]
        mounts = step.mounts if isinstance(step, RunStep) else ()
        return [
            copy_of_mount(one.origin, one.source, one.location)
            for one in mounts
            if one.type == "bind" and one.origin is not None
        ]

    def _find_chain(self, origin: Origin, chains: Mapping[int, Chain | None], location: Location) -> Chain:
        if origin.kind == "stage":
            chain = chains.get(int(origin.name))
            if chain is None:
                raise _Unseen
            return chain
        return self._inputs.open_chain(origin, location)

    def _plan(self, step: CopyStep, source: SourceRoot | None) -> CopyPlan:
        from orchestrator.engines.native.dockerfile.performing.copying import plan_copy

        return plan_copy(step, source, self._site)

    def render_meaning(self, step: Step) -> Any:
        """See `stage_work.Performer`."""
        always = (_VERSION, type(step).__name__, self._request.source_date_epoch)
        if isinstance(step, WorkdirStep):
            return (*always, step.path, step.user)
        if isinstance(step, CopyStep):
            return (*always, step.link)
        assert isinstance(step, RunStep)
        return (*always, *self._runner.render_meaning(step))

    def stands_alone(self, step: Step) -> bool:
        """See `stage_work.Performer`."""
        if not isinstance(step, CopyStep) or not step.link:
            return False
        from orchestrator.engines.native.dockerfile.performing.ownership import is_numeric

        return step.chown is None or is_numeric(step.chown)


def copy_of_mount(origin: Origin, path: str, location: Location) -> CopyStep:
    """The COPY that would bring what a bind mount shows: its content key is the mount's."""
    text = f"RUN --mount=type=bind,source={path or '/'}"
    return CopyStep(
        location=location,
        text=text,
        instruction="COPY",
        sources=(path or "/",),
        destination=path or "/",
        origin=origin,
        unpack=False,
    )


def needs_origin(step: CopyStep) -> bool:
    """Whether anything is taken from the step's origin: heredocs and URLs are not."""
    if step.instruction == "COPY":
        return bool(step.sources)
    from orchestrator.engines.native.dockerfile.front.values import is_remote

    return not all(is_remote(one) for one in step.sources)
