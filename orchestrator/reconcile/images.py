"""Images: what has to be pulled or built before containers can be created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan import BuildImage, PullImage

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import ImageFacts

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def image_reference(stack: Stack, service: Service) -> str:
    """The image a service runs: its own, or the name that its build is stored under."""
    return service.image or f"{stack.name}-{service.name}"


def image_operation(draft: Draft, service: Service) -> str:
    """The id of the operation that provides the service's image, if the plan has one."""
    if service.build is not None:
        return f"build {service.name}"
    reference = image_reference(draft.stack, service)
    return f"pull {reference}" + (f" for {service.platform}" if service.platform else "")


def plan_images(draft: Draft) -> None:
    """Write down the pulls and builds, one for all services that share an image."""
    users: dict[str, list[Service]] = {}
    for service in draft.present_services():
        users.setdefault(image_operation(draft, service), []).append(service)
    for operation_id, services in users.items():
        _plan_image(draft, operation_id, services)


def _plan_image(draft: Draft, operation_id: str, services: list[Service]) -> None:
    reference = image_reference(draft.stack, services[0])
    facts = draft.observed.images.get(reference)
    creating = [one for one in services if any(r.action in ("create", "recreate") for r in draft.replicas[one.name])]
    if not services[0].build and facts is None and creating:
        for service in creating:
            if _policy(draft, service) == "never":
                _refuse_missing(draft, service, reference)
    for service in services:
        cause = _why_fetch(draft, service, reference, facts, creating=service in creating)
        if not cause:
            continue
        if service.build is not None:
            draft.add(BuildImage(id=operation_id, subject=reference, cause=cause, service=service))
        else:
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


def _policy(draft: Draft, service: Service) -> str:
    wished = draft.goal.pull if draft.goal.pull != "policy" else service.pull_policy or "missing"
    return "missing" if wished == "if_not_present" else wished


def _why_fetch(draft: Draft, service: Service, reference: str, facts: ImageFacts | None, *, creating: bool) -> str:
    """Say why the image has to be pulled or built now; empty if it does not."""
    policy = _policy(draft, service)
    if facts is None:
        return f"image {reference} is not here yet" if creating else ""
    if service.build is not None and policy != "build":
        return ""
    if policy in ("always", "build"):
        period = 0.0
    elif policy in ("daily", "weekly") or policy.startswith("every_"):
        period = _parse_period(policy)
    else:
        return ""
    # "Always" means once per command: the moment of the last pull makes the wish idempotent. Where an engine does not
    # know that moment, containers about to be created are the only sign that the wish is still open.
    due = facts.pulled_at + period < draft.goal.issued_at if facts.pulled_at else creating
    return f"pull policy of {service.name} is {policy}" if due else ""


def _parse_period(policy: str) -> float:
    """Seconds of ``daily``, ``weekly`` and ``every_1w2d12h``; text that is no duration counts as always due."""
    text = {"daily": "1d", "weekly": "1w"}.get(policy, policy.removeprefix("every_"))
    total, number = 0, ""
    for letter in text:
        if letter.isdigit():
            number += letter
        else:
            total += int(number or 0) * _UNITS.get(letter, 0)
            number = ""
    return float(total)


def _refuse_missing(draft: Draft, service: Service, reference: str) -> None:
    asked = "--pull never" if draft.goal.pull == "never" else "pull_policy: never"
    draft.refuse(
        "image-missing",
        f"image {reference} of service {service.name} is not here, and {asked} forbids to fetch it",
        ("services", service.name, "image"),
        hint=f"fetch it with: stack pull {service.name}",
    )
