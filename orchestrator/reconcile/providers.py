"""Services that somebody else provides (``provider``): when the provider is asked, and who waits for its answer.

A provider tells how what it provides is reached, as environment variables for the services that depend on it. These are
part of the configuration of those services, so they are planned when the provider has answered, in the next cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.graph import resolve_dependencies
from orchestrator.plan import RunProvider

if TYPE_CHECKING:
    from orchestrator.goal import Goal
    from orchestrator.model import Service, Stack
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import Container


def is_provided(service: Service) -> bool:
    """True for a service that a provider stands for: it has no containers."""
    return bool(service.config.get("provider"))


def hold_services(draft: Draft) -> None:
    """Leave alone, for now, what needs an answer that no provider has given yet."""
    provided = [name for name, one in sorted(draft.stack.services.items()) if is_provided(one)]
    if not provided:
        return
    draft.questions = _list_questions(draft, provided)
    asked, held = draft.questions.keys(), set[str]()
    for name in draft.graph.order():
        needs = set(resolve_dependencies(draft.stack.services[name])) & draft.goal.wants.keys()
        if needs & (asked | held) and draft.want(name) in ("running", "created"):
            held.add(name)
    _hold_claimants(draft, held, frozenset(provided))
    draft.waiting_for_answers = frozenset(held)
    draft.held = frozenset((*held, *provided))


def _hold_claimants(draft: Draft, held: set[str], provided: frozenset[str]) -> None:
    """Hold also what wants a name or a port that a container of a held service keeps until then, and who depends on
    that; but nothing that a provider waits for itself."""
    asked_first = {need for name in provided for need in _all_needs(draft, name)}
    while held:
        kept = {claim for one in draft.observed.containers if one.service in held for claim in _claims_of(one)}
        more = set()
        for name in draft.graph.order():
            if name in held or name in provided or name in asked_first:
                continue
            service = draft.stack.services[name]
            own = {claim for one in draft.observed.of_service(name) for claim in _claims_of(one)}
            waits = bool(set(resolve_dependencies(service)) & draft.goal.wants.keys() & held)
            if draft.want(name) in ("running", "created") and (waits or _wishes(draft, service) & (kept - own)):
                more.add(name)
        if not more:
            return
        held |= more


def _all_needs(draft: Draft, name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = set(draft.graph.needs.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def _wishes(draft: Draft, service: Service) -> set[tuple[str, str]]:
    """What only one container can have, as far as the file says it."""
    if not draft.goal.replicas(service.name):
        return set()
    named = {("name", service.container_name)} if service.container_name else set()
    return named | {(one.protocol, one.published) for one in service.ports if one.published}


def _claims_of(container: Container) -> set[tuple[str, str]]:
    return {("name", container.name)} | {(one.protocol, str(one.host_port)) for one in container.bindings}


def plan_providers(draft: Draft) -> None:
    """Write down what providers are asked for; stops and removals of dependents come before theirs."""
    for name, action in draft.questions.items():
        if name in draft.waiting_for_answers:
            continue
        service = draft.stack.services[name]
        waiting = sorted(
            one for one in draft.waiting_for_answers if name in resolve_dependencies(draft.stack.services[one])
        )
        cause = f"it is provided by {service.config['provider']['type']}"
        if waiting:
            cause += f"; {', '.join(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for what it says"
        needs: tuple[str, ...] = ()
        if action != "up":
            dependents = [one for other in draft.graph.needed_by[name] for one in draft.replicas.get(other, ())]
            needs = draft.present(f"{verb} {one.label}" for one in dependents for verb in ("stop", "remove"))
        draft.add(
            RunProvider(id=f"{action} {name}", subject=name, cause=cause, needs=needs, service=service, action=action)
        )


def _list_questions(draft: Draft, provided: list[str]) -> dict[str, str]:
    """The provided services whose providers have something to do for this goal, each with the action."""
    found = {}
    for name in provided:
        action, moments = _choose_action(draft, name)
        if action and moments.get(name, 0.0) < draft.goal.issued_at:
            found[name] = action
    return found


def choose_action(goal: Goal, name: str) -> str:
    """What the provider of a service has to do for a goal: up, stop or down; empty for nothing."""
    want = "absent" if goal.down else goal.wants.get(name, "untouched")
    return {"running": "up", "created": "up", "stopped": "stop", "absent": "down"}.get(want, "")


def _choose_action(draft: Draft, name: str) -> tuple[str, Mapping[str, float]]:
    """What the provider of a service has to do, and when which service's provider last did that (epoch seconds)."""
    action = choose_action(draft.goal, name)
    return action, draft.observed.provided.get(action, MappingProxyType({}))


def inject_environment(stack: Stack, answers: Mapping[str, Mapping[str, str]]) -> Stack:
    """Return `stack` with what providers said, by service and variable name, in the environment of the dependents."""
    if not answers:
        return stack
    services = dict(stack.services)
    for name, service in stack.services.items():
        extra: dict[str, str] = {}
        for dependency in resolve_dependencies(service):
            extra |= answers.get(dependency, {})
        if extra:
            environment = {**service.environment, **extra}
            config = {**service.config, "environment": environment}
            services[name] = service.replace(environment=environment, config=config)
    return stack.replace(services=services)
