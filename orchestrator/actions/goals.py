"""Each command's edit of the goal. Pure: the clock comes in as `now` (seconds since the epoch).

A command that is about some services leaves the others "untouched", and takes over from the previous goal what should
outlive one command: the stack as it was brought up, and scale overrides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from orchestrator.actions.names import resolve_dependencies, resolve_restarted_dependents
from orchestrator.errors import UsageError
from orchestrator.goal import BuildOptions, Goal, Want
from orchestrator.model import Stack
from orchestrator.record import Record
from orchestrator.state import ObservedState

_NOTHING: Mapping[str, Any] = MappingProxyType({})

PullPolicy = Literal["policy", "always", "never", "missing"]

_PULLS: Mapping[str | None, PullPolicy | None] = MappingProxyType(
    {
        **dict.fromkeys((None, "policy", "build")),
        "always": "always",
        "missing": "missing",
        "if_not_present": "missing",
        "never": "never",
    }
)


class UpOptions(Record):
    """What ``up``, ``create`` and ``scale`` can be asked for. `services` empty means all; times are seconds.

    `rerun` are services whose end is waited for: one-shots among them that have completed are run again.
    """

    services: tuple[str, ...] = ()
    dependencies: bool = True
    start: bool = True
    scale: Mapping[str, int] = _NOTHING
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    renew_anon_volumes: bool = False
    remove_orphans: bool = False
    ignore_orphans: bool = False
    pull: PullPolicy = "policy"
    timeout: float | None = None
    wait: bool = False
    file_digests: Mapping[str, str] = _NOTHING
    abort_on_exit: Literal["", "any", "failure"] = ""
    rerun: tuple[str, ...] = ()
    rollback: bool = False
    renew_volumes: tuple[str, ...] = ()
    build: Literal["policy", "always", "never"] = "policy"
    build_options: BuildOptions = BuildOptions()


def edit_up(stack: Stack, previous: Goal | None, options: UpOptions, now: float) -> Goal:
    """Want the services, and what they depend on, running (or only created)."""
    if options.force_recreate and options.no_recreate:
        raise UsageError("--force-recreate and --no-recreate contradict each other")
    if options.no_recreate and (options.renew_anon_volumes or options.always_recreate_deps):
        other = "--renew-anon-volumes" if options.renew_anon_volumes else "--always-recreate-deps"
        raise UsageError(f"{other} and --no-recreate contradict each other")
    named = options.services or tuple(sorted(stack.services))
    wanted = resolve_dependencies(stack, named) if options.dependencies else named
    want: Want = "running" if options.start else "created"
    recreated: Sequence[str] = ()
    if options.force_recreate:
        recreated = named
    if options.always_recreate_deps:
        recreated = (*recreated, *(name for name in wanted if name not in named))
    kept = {name: count for name, count in _scale_of(previous, stack).items() if name not in wanted}
    return Goal(
        stack=stack,
        wants=dict.fromkeys(wanted, want),
        issued_at=now,
        scale={**kept, **options.scale},
        recreate_before=dict.fromkeys(recreated, now),
        # Data goes: of what is named, and of dependencies only where they are to be made anew in any case.
        renew_volumes_before=dict.fromkeys((*named, *recreated), now) if options.renew_anon_volumes else {},
        rerun_before={name: now for name in options.rerun if name in wanted},
        build_before={name: now for name in wanted if options.build == "always" and stack.services[name].build},
        refresh_before=dict.fromkeys(wanted, now),
        build="never" if options.build == "never" else "policy",
        build_options=options.build_options.replace(pull=options.build_options.pull or options.pull == "always"),
        recreate="never" if options.no_recreate else "diverged",
        remove_orphans=options.remove_orphans,
        ignore_orphans=options.ignore_orphans,
        stop_timeout=options.timeout,
        pull=options.pull,
        wait_for=wanted if options.wait else (),
        file_digests=options.file_digests,
        abort_on_exit=options.abort_on_exit,
        rollback=options.rollback,
        renew_volumes=options.renew_volumes,
    )


def edit_down(
    stack: Stack,
    now: float,
    *,
    timeout: float | None = None,
    remove_orphans: bool = False,
    remove_volumes: bool = False,
    remove_images: Literal["none", "local", "all"] = "none",
) -> Goal:
    """Want everything of the project gone."""
    return Goal(
        stack=stack,
        wants=dict.fromkeys(stack.services, "absent"),
        issued_at=now,
        stop_timeout=timeout,
        remove_orphans=remove_orphans,
        down=True,
        remove_volumes=remove_volumes,
        remove_images=remove_images,
    )


def edit_want(
    stack: Stack,
    previous: Goal | None,
    services: Sequence[str],
    want: Want,
    now: float,
    *,
    timeout: float | None = None,
) -> Goal:
    """Want one thing of `services` (stopped, absent) and leave the rest alone."""
    base = previous.stack if previous else stack
    return Goal(
        stack=base,
        wants={name: want for name in services if name in base.services},
        issued_at=now,
        scale=_scale_of(previous, base),
        recreate="never",
        stop_timeout=timeout,
        file_digests=_digests_of(previous),
    )


def edit_start(
    stack: Stack,
    previous: Goal | None,
    existing: Mapping[str, int],
    now: float,
    *,
    wait: bool = False,
    rerun: Sequence[str] = (),
) -> Goal:
    """Want the containers that exist running. `existing` is the number of replicas by service; none are created.

    `rerun` are services that are started even if they have completed.
    """
    base = previous.stack if previous else stack
    return Goal(
        stack=base,
        wants=dict.fromkeys(existing, "running"),
        issued_at=now,
        scale={**_scale_of(previous, base), **existing},
        recreate="never",
        rerun_before={name: now for name in rerun if name in existing},
        wait_for=tuple(sorted(existing)) if wait else (),
        file_digests=_digests_of(previous),
    )


def edit_restart(
    stack: Stack,
    previous: Goal | None,
    services: Sequence[str],
    existing: Mapping[str, int],
    now: float,
    *,
    timeout: float | None = None,
    dependents: bool = True,
) -> Goal:
    """Want the containers of `services` restarted, and of those that ask to be restarted with them."""
    base = previous.stack if previous else stack
    chosen = resolve_restarted_dependents(base, services) if dependents else tuple(services)
    counts = {name: existing[name] for name in chosen if existing.get(name)}
    return Goal(
        stack=base,
        wants=dict.fromkeys(counts, "running"),
        issued_at=now,
        scale={**_scale_of(previous, base), **counts},
        restart_before=dict.fromkeys(counts, now),
        recreate="never",
        stop_timeout=timeout,
        file_digests=_digests_of(previous),
    )


def edit_interrupted(goal: Goal, observed: ObservedState, now: float) -> Goal:
    """Want nothing further: what runs goes on, what has not been started stays so, what is not there is not made."""
    wants: dict[str, Want] = {}
    scale = dict(goal.scale)
    for name in goal.wants:
        replicas = observed.of_service(name)
        alive = sum(1 for one in replicas if one.alive)
        wants[name] = "running" if alive else "stopped" if replicas else "absent"
        if alive:
            scale[name] = alive
    return Goal(
        stack=goal.stack,
        wants=wants,
        issued_at=now,
        scale=scale,
        recreate="never",
        build="never",
        file_digests=goal.file_digests,
    )


def choose_build(*, build: bool, no_build: bool) -> Literal["policy", "always", "never"]:
    """What ``--build`` and ``--no-build`` ask for. Raises UsageError for both."""
    if build and no_build:
        raise UsageError("--build and --no-build contradict each other")
    return "always" if build else "never" if no_build else "policy"


def read_pull(pull: str | None, *, build: bool) -> tuple[PullPolicy | None, bool]:
    """What ``--pull`` asks for, and whether to build: ``build`` does, ``if_not_present`` is another word."""
    return _PULLS[pull], build or pull == "build"


def parse_scale(texts: Sequence[str]) -> dict[str, int]:
    """Read ``SERVICE=REPLICAS`` words. Raises UsageError."""
    scale: dict[str, int] = {}
    for text in texts:
        name, equals, count = text.partition("=")
        if not name or not equals or not count.isdecimal():
            raise UsageError(f"cannot read the scale {text!r}", hint="write SERVICE=REPLICAS, for example web=3")
        scale[name] = int(count)
    return scale


def _scale_of(previous: Goal | None, stack: Stack) -> dict[str, int]:
    if previous is None:
        return {}
    return {name: count for name, count in previous.scale.items() if name in stack.services}


def _digests_of(previous: Goal | None) -> Mapping[str, str]:
    return previous.file_digests if previous else _NOTHING
