"""Volumes: created when a service needs one, made anew only with consent, removed by `down --volumes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.digest import diff_resource
from orchestrator.plan import CreateVolume, RemoveVolume
from orchestrator.reconcile.draft import NO_USER
from orchestrator.spec.pre_start import list_init_services

if TYPE_CHECKING:
    from orchestrator.model import Service, Volume
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import ObservedVolume


def create_volume_operation(name: str) -> str:
    """The id of the operation that creates the volume with engine name `name`."""
    return f"create volume {name}"


def service_volumes(draft: Draft, service: Service) -> tuple[Volume, ...]:
    """The named volumes that a service and its ``pre_start`` containers mount, by their keys."""
    return tuple(draft.stack.volumes[key] for key in sorted(_mounted(service)) if key in draft.stack.volumes)


def _mounted(service: Service) -> set[str]:
    every = (*service.volumes, *(mount for one in list_init_services(service) for mount in one.volumes))
    return {one.source for one in every if one.type == "volume" and one.source is not None}


def _needed_volumes(draft: Draft) -> dict[str, tuple[Volume, list[str]]]:
    needed: dict[str, tuple[Volume, list[str]]] = {}
    for service in draft.present_services():
        for volume in service_volumes(draft, service):
            needed.setdefault(volume.name, (volume, []))[1].append(service.name)
    for volume in draft.unused(draft.stack.volumes, _mounted):
        needed.setdefault(volume.name, (volume, []))
    return dict(sorted(needed.items()))


def decide_volumes(draft: Draft) -> None:
    """Decide which volumes are made anew: those that differ, where the goal has the user's consent."""
    if not draft.goal.renew_volumes or draft.goal.recreate == "never":
        return
    for name, (volume, _users) in _needed_volumes(draft).items():
        found = draft.observed.volumes.get(name)
        if found is None or volume.key not in draft.goal.renew_volumes or _holders(draft, name):
            continue
        changes = explain_volume_changes(volume, found, draft.observed.project)
        if changes:
            draft.renewed_volumes[name] = f"volume {volume.key} changed: {changes}"


def explain_volume_changes(volume: Volume, found: ObservedVolume, project: str) -> str:
    """Say how a project's own volume was made differently from what the file says; empty if it was not."""
    if volume.external or (found.project and found.project != project) or not found.config:
        return ""
    return "; ".join(one.render() for one in diff_resource(found.config, volume.config))


def _holders(draft: Draft, name: str) -> list[str]:
    """The containers that keep a volume as it is: this command does not replace or remove them."""
    present = {one.name for one in draft.present_services()}
    removed = {
        one.container.id
        for group in draft.replicas.values()
        for one in group
        if one.container is not None and one.action == "remove"
    }
    return sorted(
        one.name
        for one in draft.observed.containers
        if name in one.volumes.values() and (one.oneoff or one.service not in present) and one.id not in removed
    )


def plan_volumes(draft: Draft) -> None:
    """Write down the volumes that have to be created or made anew; warn of those that differ, refuse external ones that
    are not there."""
    for name, (volume, users) in _needed_volumes(draft).items():
        found = draft.observed.volumes.get(name)
        renewed = draft.renewed_volumes.get(name, "")
        if renewed:
            holders = [one for one in draft.all_replicas() if one.container and name in one.container.volumes.values()]
            removed = draft.add(
                RemoveVolume(
                    id=f"remove volume {name}",
                    subject=name,
                    cause=renewed,
                    needs=tuple(sorted(f"remove {one.label}" for one in holders)),
                    name=name,
                )
            )
            draft.add(
                CreateVolume(
                    id=create_volume_operation(name), subject=name, cause=renewed, needs=(removed,), volume=volume
                )
            )
        elif found is not None and found.lost and not volume.external:
            _plan_replacement(draft, volume, found)
        elif found is not None and not found.lost:
            _compare(draft, volume, found)
        elif volume.external:
            draft.refuse(
                "external-volume-missing",
                f"external volume {name} not found; {', '.join(users) or '--all-resources'} would mount it"
                + (f" (somebody has deleted {found.mountpoint})" if found is not None else ""),
                ("volumes", volume.key),
                hint="create it first, or take `external: true` away so that it belongs to this project",
            )
        else:
            draft.add(
                CreateVolume(
                    id=create_volume_operation(name),
                    subject=name,
                    cause=f"{', '.join(users)} {'keeps' if len(users) == 1 else 'keep'} data there"
                    if users
                    else NO_USER,
                    volume=volume,
                )
            )


def _plan_replacement(draft: Draft, volume: Volume, found: ObservedVolume) -> None:
    """Write down the creation of a volume that was deleted by hand; what has it mounted is started again."""
    cause = f"somebody has deleted {found.mountpoint}"
    draft.warn(
        "volume-lost",
        f"volume {volume.key} is gone with its data: {cause}; it is made again, empty",
        ("volumes", volume.key),
        hint="if there is a copy, stop the services that use it and put it back",
    )
    draft.add(CreateVolume(id=create_volume_operation(volume.name), subject=volume.name, cause=cause, volume=volume))


def _compare(draft: Draft, volume: Volume, found: ObservedVolume) -> None:
    if volume.external:
        return
    if found.project and found.project != draft.observed.project:
        draft.warn(
            "volume-not-ours",
            f"volume {volume.name} exists and belongs to project {found.project}; it is used as it is",
            ("volumes", volume.key),
            hint="say `external: true` if that is meant, or give it another name",
        )
        return
    changes = explain_volume_changes(volume, found, draft.observed.project)
    if not changes:
        return
    holders = _holders(draft, volume.name) if volume.key in draft.goal.renew_volumes else []
    reason = f"{', '.join(holders)} would have to go, too" if holders else "its data would be lost"
    draft.warn(
        "volume-differs",
        f"volume {volume.key} was made differently ({changes}); it stays as it is, because {reason}",
        ("volumes", volume.key),
        hint="`stack up -y` makes it anew, with its data lost"
        if not holders
        else "`stack rm` removes containers that have ended; `stack up -y` without service names takes in all services",
    )


def plan_volume_removals(draft: Draft) -> None:
    """Write down the removal of the project's volumes, if the goal says so.

    Anonymous volumes that a container holds go with that container; those left over from former ones are removed here.
    """
    if not draft.goal.remove_volumes:
        return
    from orchestrator.reconcile.endings import list_kept

    used = {name for one in list_kept(draft) for name in one.volumes.values()}
    holders: dict[str, set[str]] = {}
    for one in draft.all_replicas():
        if one.container is not None:
            for name in one.container.volumes.values():
                holders.setdefault(name, set()).add(f"remove {one.label}")
    for name, volume in sorted(draft.observed.volumes.items()):
        if volume.project != draft.observed.project or name in used or (not volume.key and name in holders):
            continue
        draft.add(
            RemoveVolume(
                id=f"remove volume {name}",
                subject=name,
                cause="the project is taken down with its volumes",
                needs=draft.present(holders.get(name, ())),
                name=name,
            )
        )
