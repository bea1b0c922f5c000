"""``pre_start``: containers that run to completion, one after another, before the first container of a service starts.

They run once for the service, not for each replica; again when its containers are made anew, and not when one of them
merely starts again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.plan import PullImage, RunInit
from orchestrator.reconcile.draft import group_oneoffs
from orchestrator.reconcile.images import image_operation
from orchestrator.spec.bind import bind_service

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.reconcile.draft import Draft, Replica
    from orchestrator.state import Container

_NOT_INHERITED = (
    *("pre_start", "post_start", "pre_stop", "healthcheck", "ports", "expose", "restart", "container_name", "scale"),
    *("develop", "depends_on", "build"),
)
_OWN = ("command", "entrypoint", "user", "privileged", "working_dir", "image")


def plan_init(draft: Draft, service: Service, needs: Sequence[str]) -> tuple[str, ...]:
    """Write down the service's ``pre_start`` containers, after `needs`; return what its first start comes after."""
    hooks: Sequence[Mapping[str, Any]] = service.config.get("pre_start") or ()
    fresh = [one for one in draft.replicas[service.name] if _is_fresh(one)]
    kept = [one for one in draft.replicas[service.name] if one.action in ("keep", "restart") and one.alive]
    if not hooks or not fresh or kept or draft.want(service.name) != "running":
        return ()
    # Not those of the others as well: in a rolling update they come after the start that this comes before.
    made = [f"create {fresh[0].label}"] if fresh[0].action != "start" else []
    images = [_plan_image(draft, service, str(hook["image"])) for hook in hooks if hook.get("image")]
    left = draft.replicas.get(group_oneoffs(service.name), ())
    going = draft.present(f"remove {one.label}" for one in left)
    last: tuple[str, ...] = tuple(sorted({*needs, *made, *filter(None, images), *going}))
    for index, hook in enumerate(hooks):
        name = f"{_name_prefix(draft, service.name)}{index}"
        shaped = shape_init(service, hook, name)
        last = (
            draft.add(
                RunInit(
                    id=f"pre_start {service.name} {index}",
                    subject=name,
                    cause=f"it comes before the start of {service.name}",
                    needs=last,
                    service=shaped,
                    index=index,
                    container_name=name,
                    beside=fresh[0].name,
                )
            ),
        )
    return last


def is_init_container(draft: Draft, container: Container) -> bool:
    """True for a container that ran, or was to run, a ``pre_start`` hook of its service."""
    return container.oneoff and container.name.startswith(_name_prefix(draft, container.service))


def _name_prefix(draft: Draft, service: str) -> str:
    return draft.stack.separator.join((draft.stack.name, service, "pre_start", ""))


def _plan_image(draft: Draft, service: Service, reference: str) -> str:
    """Write down the pull of a hook's own image, if it is not here; return the operation that provides it, if any."""
    operation_id = image_operation(draft, service.replace(image=reference, build=None))
    if operation_id in draft or draft.observed.images.get(reference) is not None:
        return operation_id if operation_id in draft else ""
    return draft.add(
        PullImage(
            id=operation_id,
            subject=reference,
            cause=f"image {reference} is not here yet",
            reference=reference,
            platform=service.platform,
            service=service.name,
        )
    )


def _is_fresh(one: Replica) -> bool:
    """True for a container that starts for the first time."""
    if one.action in ("create", "recreate"):
        return True
    return one.action == "start" and one.container is not None and not one.container.started_at


def shape_init(service: Service, hook: Mapping[str, Any], name: str) -> Service:
    """The service as its ``pre_start`` container has it: its image, networks, mounts, variables, and the hook's own."""
    config = {key: value for key, value in service.config.items() if key not in _NOT_INHERITED}
    config.update({key: hook[key] for key in _OWN if hook.get(key) is not None})
    config["image"] = hook.get("image") or service.image
    config["environment"] = {**(config.get("environment") or {}), **(hook.get("environment") or {})}
    config["container_name"] = name
    if isinstance(deploy := config.get("deploy"), Mapping):
        config["deploy"] = {key: value for key, value in deploy.items() if key == "resources"}
    return bind_service(service.name, config, {})
