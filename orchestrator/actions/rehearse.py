"""What a plan would fail at, as far as that can be seen without doing anything: for ``--dry-run``.

Registries are asked whether they have the images, as Docker Compose's dry run does; build contexts and Dockerfiles are
looked for, and whether the host ports are free.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.errors import StackError
from orchestrator.plan import BuildImage, PullImage, StartContainer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.engines.base import Engine
    from orchestrator.model import Service, Stack
    from orchestrator.plan import Operation

_AT_A_TIME = 4


def foresee_failures(engine: Engine, stack: Stack, operations: Iterable[Operation]) -> dict[str, StackError]:
    """The errors that `operations` of the native engine would end with, by their ids; changes nothing."""
    if engine.name != "native":
        return {}
    found: dict[str, StackError] = {}
    pulls = []
    held: frozenset[tuple[int, str]] | None = None
    for one in operations:
        try:
            if isinstance(one, PullImage):
                pulls.append(one)
            elif isinstance(one, BuildImage):
                check_context(stack, one.service)
            elif isinstance(one, StartContainer) and one.service in stack.services:
                service = stack.services[one.service]
                if service.ports and held is None:
                    held = _list_held(engine, stack)
                _check_ports(service, held or frozenset())
        except StackError as error:
            found[one.id] = error
    return {**found, **_ask_registries(pulls)}


def ask_registry(reference: str, platform: str | None = None) -> None:
    """Find out whether the image could be fetched. Raises as fetching it does."""
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.images.digests import find_registry_digest

    find_registry_digest(open_image_store(), reference, platform)


def check_context(stack: Stack, service: Service) -> None:
    """See that the service's local build context and its Dockerfile are there. Raises ContextError.

    What is elsewhere is not asked for.
    """
    from pathlib import Path

    from orchestrator.engines.native.dockerfile.service_request import translate_build
    from orchestrator.engines.native.dockerfile.sources.contexts import open_context, read_dockerfile
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite

    request = translate_build(stack, service, check=True)[0]
    if request.context and os.path.isabs(request.context):
        nowhere = Path(os.devnull)
        read_dockerfile(request, open_context(request.context, BuildSite(nowhere, nowhere)))


def _ask_registries(pulls: list[PullImage]) -> dict[str, StackError]:
    if not pulls:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    def ask(one: PullImage) -> StackError | None:
        try:
            ask_registry(one.reference, one.platform)
        except StackError as error:
            return error
        return None

    with ThreadPoolExecutor(max_workers=_AT_A_TIME) as pool:
        answers = list(pool.map(ask, pulls))
    return {one.id: error for one, error in zip(pulls, answers, strict=True) if error is not None}


def _list_held(engine: Engine, stack: Stack) -> frozenset[tuple[int, str]]:
    """The ports that the project's own containers hold: they give them up, or are the ones that are meant."""
    containers = engine.observe(stack.name, stack).containers
    return frozenset((port.host_port, port.protocol) for one in containers for port in one.bindings)


def _check_ports(service: Service, held: frozenset[tuple[int, str]]) -> None:
    from orchestrator.engines.native.network.host_ports import require_port_free

    for port in service.ports:
        number = int(port.published) if port.published and port.published.isdigit() else 0
        if not number or (number, port.protocol) in held or port.protocol not in ("tcp", "udp"):
            continue
        require_port_free(port.host_ip or "", number, port.protocol)
