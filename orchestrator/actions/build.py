"""Building images of services in this process: which, in which order, several at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.actions.building_threads import start_thread, wait_for_builds
from orchestrator.actions.names import resolve_dependencies, select_services
from orchestrator.errors import Diagnostic, Interrupted, ModelError, StackError
from orchestrator.events import Event
from orchestrator.graph import Graph
from orchestrator.model import image_reference, list_buildable
from orchestrator.reconcile.images import build_contexts, list_builders, order_builds

if TYPE_CHECKING:
    from orchestrator.engines.base import BuildEvent, Engine
    from orchestrator.engines.native.dockerfile.recall import RecalledBuild
    from orchestrator.events import Phase, Sink
    from orchestrator.goal import BuildOptions
    from orchestrator.model import Stack
    from orchestrator.state import ImageFacts

PARALLEL = 3
"""Builds at a time: each runs its own stages side by side."""


class BuildsOutcome:
    """How builds ended: `built` and `failures` by service; `skipped` could not begin, for want of another."""

    def __init__(self) -> None:
        self.built: dict[str, ImageFacts] = {}
        self.failures: dict[str, StackError] = {}
        self.skipped: dict[str, str] = {}


def choose_builds(stack: Stack, services: Sequence[str], *, dependencies: bool) -> dict[str, tuple[str, ...]]:
    """Return the services to build, each with those among them that it is built from or waits for.

    Those are the named ones (all without names; with `dependencies` also what they depend on) that have a build, and
    the services whose images their builds take. Of several that build the same image it is the first. Raises
    NoSuchService, and ModelError for sources that cannot be.
    """
    named = select_services(services, stack.services, disabled=stack.disabled)
    if dependencies:
        named = resolve_dependencies(stack, named)
    makers, every = list_builders(stack), list_buildable(stack)
    waiting = [name for name in named if stack.services[name].build is not None]
    found: dict[str, tuple[str, ...]] = {}
    problems: list[Diagnostic] = []
    while waiting:
        name = makers[image_reference(stack, every[waiting.pop(0)])].name
        if name in found:
            continue
        needs = []
        for context, source in build_contexts(every[name]).items():
            service = every.get(source)
            maker = makers.get(image_reference(stack, service)) if service is not None else None
            if maker is None:
                what = f"there is no service {source} to build from" if service is None else f"{source} has no build"
                problems.append(_diagnose(stack, name, context, "no-such-service", what))
            else:
                needs.append(maker.name)
        found[name] = tuple(sorted(set(needs)))
        waiting.extend(needs)
    _check_circle(stack, found, problems)
    return dict(sorted(order_builds(stack, Graph.of_services(stack.services), found).items()))


def _check_circle(stack: Stack, needs: Mapping[str, Sequence[str]], problems: list[Diagnostic]) -> None:
    circle = Graph(needs).find_cycle()
    if not circle:
        circle = next(((name, name) for name, sources in needs.items() if name in sources), ())
    if circle:
        text = f"images are built from each other in a circle: {' -> '.join(circle)}"
        problems.append(_diagnose(stack, circle[0], "", "build-cycle", text))
    if problems:
        raise ModelError(problems)


def _diagnose(stack: Stack, service: str, context: str, code: str, message: str) -> Diagnostic:
    from orchestrator.source import Path, render_path

    path: Path = ("services", service, "build", "additional_contexts", *((context,) if context else ()))
    return Diagnostic(code, message, stack.sources.locate(path), render_path(path))


def build_services(
    engine: Engine, stack: Stack, needs: Mapping[str, Sequence[str]], options: BuildOptions, sink: Sink
) -> BuildsOutcome:
    """Build what :func:`choose_builds` chose. A failure holds back what needs it, and nothing else.

    `sink` is called by one thread at a time. On Ctrl-C the builds under way are ended, and Interrupted is raised.
    """
    from queue import SimpleQueue

    outcome = BuildsOutcome()
    cancelled = threading.Event()
    tell = _Teller(stack, sink)
    waiting = dict(needs)
    running: set[str] = set()
    ended: SimpleQueue[tuple[str, Any, BaseException | None]] = SimpleQueue()

    def begin() -> None:
        for name in [one for one in waiting if outcome.built.keys() >= set(waiting[one])]:
            if len(running) < PARALLEL:
                del waiting[name]
                running.add(name)
                work = partial(_build, engine, stack, name, options, tell, cancelled.is_set)
                start_thread(name, work, lambda *end: ended.put(end))
        while lost := _find_lost(waiting, outcome):
            name, culprit = lost
            del waiting[name]
            outcome.skipped[name] = culprit
            tell(name, "cancelled", f"{culprit} could not be built")

    try:
        begin()
        while running:
            name, facts, error = ended.get()
            running.discard(name)
            if error is None:
                outcome.built[name] = facts
            elif isinstance(error, StackError):
                outcome.failures[name] = error
            else:
                raise error
            begin()
    except BaseException as error:
        cancelled.set()
        wait_for_builds()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("interrupted", hint="what was built so far is in the cache") from None
        raise
    return outcome


def find_known_builds(
    stack: Stack, needs: Mapping[str, Sequence[str]], options: BuildOptions
) -> dict[str, RecalledBuild] | None:
    """What the native engine remembers of builds, by service; None unless it is sure of all of them."""
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.building import find_known_build

    store, found = open_image_store(), {}
    for name in needs:
        known = find_known_build(store, stack, list_buildable(stack)[name], options=options)
        if known is None:
            return None
        found[name] = known
    return found


def _find_lost(waiting: Mapping[str, Sequence[str]], outcome: BuildsOutcome) -> tuple[str, str] | None:
    """A build that cannot begin any more, and the one that it needs in vain."""
    lost = outcome.failures.keys() | outcome.skipped.keys()
    return next(((name, culprit) for name, needs in waiting.items() for culprit in needs if culprit in lost), None)


class _Teller:
    """Tells about builds as operations, from several threads, one event at a time."""

    def __init__(self, stack: Stack, sink: Sink) -> None:
        self._stack = stack
        self._sink = sink
        self._lock = threading.Lock()

    def __call__(self, name: str, phase: Phase, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        event = Event(
            time=time.time(),
            kind="operation",
            subject=image_reference(self._stack, list_buildable(self._stack)[name]),
            action=f"build {name}",
            phase=phase,
            verb="build image",
            service=name,
            message=message,
            details=details or {},
        )
        with self._lock:
            self._sink(event)


def _build(
    engine: Engine, stack: Stack, name: str, options: BuildOptions, tell: _Teller, cancel: Callable[[], bool]
) -> ImageFacts:
    from orchestrator.engines.base import dump_build_event

    def show(event: BuildEvent) -> None:
        text = event.name if event.kind == "started" else ""
        tell(name, "progress", text, {"build": [dump_build_event(event)]})

    tell(name, "started")
    try:
        facts = engine.build_image(stack, list_buildable(stack)[name], options=options, progress=show, cancel=cancel)
    except StackError as error:
        tell(name, "cancelled" if cancel() else "failed", error.message)
        raise
    tell(name, "done")
    return facts


def render_bake(stack: Stack, needs: Mapping[str, Sequence[str]], options: BuildOptions) -> dict[str, Any]:
    """Return the builds as a file for ``docker buildx bake``: one target for each."""
    targets = {}
    for name in needs:
        service = list_buildable(stack)[name]
        assert service.build is not None
        config = service.build.config
        contexts = {
            key: f"target:{value.removeprefix('service:')}" if str(value).startswith("service:") else value
            for key, value in (config.get("additional_contexts") or {}).items()
        }
        target: dict[str, Any] = {
            "context": config.get("context"),
            "contexts": contexts,
            "dockerfile": config.get("dockerfile"),
            "dockerfile-inline": config.get("dockerfile_inline"),
            "args": {**(config.get("args") or {}), **options.args},
            "labels": dict(config.get("labels") or {}),
            "tags": list(dict.fromkeys((image_reference(stack, service), *(config.get("tags") or ())))),
            "cache-from": list(config.get("cache_from") or ()),
            "cache-to": list(config.get("cache_to") or ()),
            "target": config.get("target"),
            "secret": [_render_secret(stack, one) for one in config.get("secrets") or ()],
            "ssh": list(options.ssh or config.get("ssh") or ()),
            "platforms": list(config.get("platforms") or ((service.platform,) if service.platform else ())),
            "network": config.get("network"),
            "extra-hosts": dict(str(one).split("=", 1) for one in config.get("extra_hosts") or ()),
            "shm-size": config.get("shm_size"),
            "entitlements": list(config.get("entitlements") or ()),
            "no-cache": options.no_cache or config.get("no_cache"),
            "pull": options.pull or config.get("pull"),
            "output": ["type=docker"],
        }
        targets[name] = {key: value for key, value in target.items() if value not in (None, "", False, [], {})}
    return {"group": {"default": {"targets": list(needs)}}, "target": targets}


def _render_secret(stack: Stack, mount: Any) -> str:
    entry = mount if isinstance(mount, Mapping) else {"source": mount}
    source = stack.secrets.get(str(entry.get("source")))
    text = f"id={entry.get('target') or entry.get('source')}"
    if source is not None and source.file:
        return f"{text},type=file,src={source.file}"
    return f"{text},type=env,env={source.environment}" if source is not None and source.environment else text
