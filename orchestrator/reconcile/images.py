"""Images: what has to be pulled or built before containers can be created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model import image_reference, list_buildable
from orchestrator.plan import BuildImage, PullImage
from orchestrator.spec.pre_start import list_init_services

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.graph import Graph
    from orchestrator.model import Service, Stack
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import ImageFacts

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def list_references(stack: Stack) -> set[str]:
    """Every image that a stack names: of services, of their hooks, and those that they mount."""
    return {one for service in stack.services.values() for one in list_service_references(stack, service)}


def list_service_references(stack: Stack, service: Service) -> set[str]:
    """Every image that a service names: its own, those of its hooks, and those that it mounts."""
    every = (service, *list_init_services(service))
    return {found for one in every for found in (image_reference(stack, one), *list_mounted(one))}


def list_mounted(service: Service) -> tuple[str, ...]:
    """The images that a service mounts (volumes of type image), each once."""
    return tuple(dict.fromkeys(one.source for one in service.volumes if one.type == "image" and one.source))


def find_builder(stack: Stack, service: Service) -> Service | None:
    """The service whose build makes the image of `service`: itself, or the first that builds an image of that name."""
    return list_builders(stack).get(image_reference(stack, service))


def list_builders(stack: Stack) -> dict[str, Service]:
    """The services that build, by the image that each makes; of several for one image the first by name."""
    builders: dict[str, Service] = {}
    every = list_buildable(stack)
    for name in (*sorted(stack.services), *sorted(stack.dormant)):
        service = every[name]
        if service.build is not None:
            builders.setdefault(image_reference(stack, service), service)
    return builders


def order_builds(stack: Stack, graph: Graph, needs: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Return `needs` (builds, each with those that it is built from) with those added that a build waits for besides.

    A Dockerfile may stand on the image of a service that its own depends on (``FROM base``) without saying that it is
    one. So a build waits for those of its dependencies whose images have names of their own. What is built from each
    other anyway goes first.
    """
    every = list_buildable(stack)
    named = {name for name in needs if every[name].image is not None}
    ordered = {name: set(others) for name, others in needs.items()}
    if named and len(ordered) > 1:
        makers = {reference: one.name for reference, one in list_builders(stack).items()}
        for name in sorted(ordered.keys() & stack.services.keys()):
            found = {makers.get(image_reference(stack, stack.services[one])) for one in graph.dependencies([name])}
            for maker in sorted(one for one in found if one is not None and one in named):
                if name not in _reach(maker, ordered):
                    ordered[name].add(maker)
    return {name: tuple(sorted(others)) for name, others in ordered.items()}


def _reach(start: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting.extend(edges.get(one, ()))
    return seen


def image_operation(draft: Draft, service: Service) -> str:
    """The id of the operation that provides the service's image, if the plan has one."""
    builder = _find_builder(draft, service)
    if builder is not None:
        return f"build {builder.name}"
    reference = image_reference(draft.stack, service)
    return f"pull {reference}" + (f" for {service.platform}" if service.platform else "")


def _find_builder(draft: Draft, service: Service) -> Service | None:
    return draft.builders.get(image_reference(draft.stack, service)) if draft.builders else None


def plan_images(draft: Draft) -> None:
    """Write down the pulls and builds, one for all services that share an image."""
    users: dict[str, list[Service]] = {}
    every = [one for service in draft.present_services() for one in (service, *list_init_services(service))]
    for one in every:
        users.setdefault(image_operation(draft, one), []).append(one)
    for operation_id, services in users.items():
        _plan_image(draft, operation_id, services)
    for one in every:
        if _is_created(draft, one):
            _plan_mounted(draft, one)
    _order_builds(draft)


def _order_builds(draft: Draft) -> None:
    builds = {one.service.name: one for one in draft.operations() if isinstance(one, BuildImage)}
    if len(builds) > 1:
        needs = {name: [need.removeprefix("build ") for need in one.needs] for name, one in builds.items()}
        for name, others in order_builds(draft.stack, draft.graph, needs).items():
            draft.await_others(builds[name], (f"build {other}" for other in others))


def mount_operations(draft: Draft, service: Service) -> list[str]:
    """The ids of the operations that provide what a service mounts, if the plan has them."""
    return [image_operation(draft, service.replace(image=one, build=None)) for one in list_mounted(service)]


def _plan_mounted(draft: Draft, service: Service) -> None:
    for reference in list_mounted(service):
        if draft.observed.images.get(reference) is not None:
            continue
        builder = draft.builders.get(reference)
        cause = f"image {reference}, which {service.name} mounts, is not here yet"
        if builder is not None:
            _plan_build(draft, builder, cause, pull_first=_may_pull(draft, builder, reference))
        elif draft.goal.pull == "never":
            draft.refuse(
                "image-missing",
                f"image {reference} that {service.name} mounts is not here, and --pull never forbids to fetch it",
                ("services", service.name, "volumes"),
                hint=f"fetch it with: stack image pull {reference}",
            )
        else:
            draft.add(
                PullImage(
                    id=image_operation(draft, service.replace(image=reference, build=None)),
                    subject=reference,
                    cause=cause,
                    reference=reference,
                    platform=service.platform,
                    service=service.name,
                )
            )


def _is_created(draft: Draft, service: Service) -> bool:
    replicas = draft.replicas[service.name]
    created = any(one.action in ("create", "recreate") for one in replicas)
    if service is not draft.stack.services[service.name]:
        # Its hooks' containers are made before the first start, which may have been left over by an earlier goal.
        created = created or any(one.fresh for one in replicas)
    return created or service.name in draft.goal.prepare


def _plan_image(draft: Draft, operation_id: str, services: list[Service]) -> None:
    reference = image_reference(draft.stack, services[0])
    facts = draft.observed.images.get(reference)
    builder = _find_builder(draft, services[0])
    creating = [one for one in services if _is_created(draft, one)]
    if facts is None and builder is None:
        for service in creating:
            _refuse_missing(draft, service, reference)
    causes: list[str] = []
    pull_first = True
    for service in services:
        cause = _why_fetch(draft, service, reference, facts, builder, creating=service in creating)
        if cause and builder is not None:
            causes.append(cause)
            pull_first = pull_first and _may_pull(draft, service, reference)
        elif cause:
            draft.add(
                PullImage(
                    id=operation_id,
                    subject=reference,
                    cause=cause,
                    reference=reference,
                    platform=service.platform,
                    service=service.name,
                )
            )
    if builder is not None and causes:
        _warn_of_others(draft, builder, reference)
        first = "; its registry is asked first" if pull_first else ""
        _plan_build(draft, builder, f"{causes[0]}{first}", pull_first=pull_first)


def _plan_build(draft: Draft, builder: Service, cause: str, *, pull_first: bool = False) -> str:
    """Write down a build, and before it what it is built from."""
    reference = image_reference(draft.stack, builder)
    operation_id = f"build {builder.name}"
    if operation_id in draft:
        return operation_id
    sources = _list_sources(draft, builder)
    needs = {f"build {one.name}" for one in sources}
    draft.add(
        BuildImage(
            id=operation_id,
            subject=reference,
            cause=cause,
            needs=tuple(sorted(needs - {operation_id})),
            service=builder,
            pull_first=pull_first,
        )
    )
    for one in sources:
        _plan_build(draft, one, f"the image of {builder.name} is built from it")
    return operation_id


def _list_sources(draft: Draft, builder: Service) -> list[Service]:
    """The services whose images the build takes files from, as the ones that build them. Refuses what cannot be."""
    found: list[Service] = []
    for name, source in build_contexts(builder).items():
        path = ("services", builder.name, "build", "additional_contexts", name)
        service = list_buildable(draft.stack).get(source)
        maker = _find_builder(draft, service) if service is not None else None
        if service is None:
            draft.refuse("no-such-service", f"there is no service {source} to build from", path)
        elif maker is None:
            draft.refuse(
                "not-built",
                f"{builder.name} is to be built from service {source}, which has no build",
                path,
                hint=f"write docker-image://{service.image}",
            )
        elif _reaches(draft, maker, builder):
            draft.refuse("build-cycle", f"{builder.name} and {source} are built from each other", path)
        else:
            found.append(maker)
    return found


def _reaches(draft: Draft, start: Service, end: Service) -> bool:
    """Whether the image of `start` is built from that of `end`, directly or not."""
    waiting, seen = [start], {start.name}
    while waiting:
        one = waiting.pop()
        if one.name == end.name:
            return True
        for name in build_contexts(one).values():
            service = list_buildable(draft.stack).get(name)
            maker = _find_builder(draft, service) if service is not None else None
            if maker is not None and maker.name not in seen:
                seen.add(maker.name)
                waiting.append(maker)
    return False


def build_contexts(service: Service) -> dict[str, str]:
    """Names of additional contexts that are images of services (``service:NAME``), each with its service; sorted."""
    contexts = service.build.config.get("additional_contexts") if service.build is not None else None
    found = {str(name): str(value) for name, value in (contexts or {}).items()}
    return {
        name: value.removeprefix("service:") for name, value in sorted(found.items()) if value.startswith("service:")
    }


def _policy(draft: Draft, service: Service) -> str:
    wished = draft.goal.pull if draft.goal.pull != "policy" else service.pull_policy or "missing"
    return "missing" if wished == "if_not_present" else wished


def _may_pull(draft: Draft, service: Service, reference: str) -> bool:
    """Whether a registry is asked before an image is built: it has a name of its own, and nobody asked for a build."""
    asked = service.name in draft.goal.build_before or _policy(draft, service) in ("never", "build")
    return service.image == reference and not asked


def _why_fetch(
    draft: Draft,
    service: Service,
    reference: str,
    facts: ImageFacts | None,
    builder: Service | None,
    *,
    creating: bool,
) -> str:
    """Say why the image has to be pulled or built now; empty if it does not."""
    if facts is None:
        return f"image {reference} is not here yet" if creating else ""
    if builder is None and service.image is None:
        return ""
    if builder is not None and facts.built_at < draft.goal.build_before.get(service.name, 0.0):
        return "a build was asked for"
    wish = draft.goal.refresh_before.get(service.name)
    period = _find_period(_policy(draft, service), service)
    if wish is None or period is None:
        return ""
    # "Always" means once per command: the moment of the last pull makes the wish idempotent.
    if _policy(draft, service) == "build":
        due = builder is not None and facts.built_at < wish
    else:
        fetched = max(facts.pulled_at, facts.built_at) if builder is not None else facts.pulled_at
        # What was loaded, or given its name here, is as fresh as if it had been fetched then; "always" means fetching.
        due = (max(fetched, facts.tagged_at) + period if period else fetched) < wish
    return f"pull policy of {service.name} is {_policy(draft, service)}" if due else ""


def _find_period(policy: str, service: Service) -> float | None:
    """Seconds for which an image that is here is good enough; None for as long as it is here."""
    if policy in ("always", "build"):
        return 0.0
    if policy == "refresh":
        return _parse_period(str(service.config.get("pull_refresh_after") or ""))
    if policy in ("daily", "weekly") or policy.startswith("every_"):
        return _parse_period(policy)
    return None


def _parse_period(text: str) -> float:
    """Seconds of ``daily``, ``weekly``, ``every_1w2d12h`` and ``36h``; what is no duration counts as always due."""
    text = {"daily": "1d", "weekly": "1w"}.get(text, text.removeprefix("every_"))
    total, number = 0, ""
    for letter in text:
        if letter.isdigit():
            number += letter
        else:
            total += int(number or 0) * _UNITS.get(letter, 0)
            number = ""
    return float(total)


def _warn_of_others(draft: Draft, builder: Service, reference: str) -> None:
    """One image cannot be two builds: tell of those that are not made."""
    for name in sorted(draft.stack.services):
        other = draft.stack.services[name]
        if name == builder.name or other.build is None or builder.build is None:
            continue
        if image_reference(draft.stack, other) == reference and other.build.config != builder.build.config:
            draft.warn(
                "image-built-twice",
                f"{builder.name} and {name} build different things into image {reference}: that of {builder.name} is "
                "taken for both",
                ("services", name, "build"),
                hint="give each an image name of its own",
            )


def _refuse_missing(draft: Draft, service: Service, reference: str) -> None:
    if service.image is None and draft.goal.build == "never":
        asked, way = "--no-build forbids to build it", f"build it with: stack build {service.name}"
    elif _policy(draft, service) == "never":
        asked = f"{'--pull never' if draft.goal.pull == 'never' else 'pull_policy: never'} forbids to fetch it"
        way = f"fetch it with: stack pull {service.name}"
    else:
        return
    draft.refuse(
        "image-missing",
        f"image {reference} of service {service.name} is not here, and {asked}",
        ("services", service.name, "image" if service.image else "build"),
        hint=way,
    )
