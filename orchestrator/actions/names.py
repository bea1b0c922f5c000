"""Choosing services by name; a name that is not there is answered with the nearest that are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.errors import StackError
from orchestrator.model import Stack


class NoSuchService(StackError):
    """The command line names a service that the project does not have."""

    code = "no-such-service"


def suggest_names(word: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Render a hint with the nearest of `known`, or all of them if few and none is near; empty without any."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(word, names, n=limit, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if 0 < len(names) <= 12:
        return f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
    return ""


def select_services(asked: Sequence[str], known: Iterable[str], *, disabled: Iterable[str] = ()) -> tuple[str, ...]:
    """Return `asked` without repeats, or every known name (sorted) if nothing was asked for. Raises NoSuchService."""
    names = set(known)
    if not asked:
        return tuple(sorted(names))
    off = set(disabled)
    for name in asked:
        if name in names:
            continue
        if name in off:
            raise NoSuchService(
                f"service {name} is kept off by its profile", hint="name its profile with --profile, or --profile '*'"
            )
        raise NoSuchService(f"no such service: {name}", hint=suggest_names(name, names | off))
    return tuple(dict.fromkeys(asked))


def resolve_dependencies(stack: Stack, services: Sequence[str]) -> tuple[str, ...]:
    """Return `services` and everything that they depend on, directly or not, sorted."""
    found: set[str] = set()
    waiting = list(services)
    while waiting:
        name = waiting.pop()
        if name in found or name not in stack.services:
            continue
        found.add(name)
        waiting.extend(stack.services[name].depends_on)
    return tuple(sorted(found))


def resolve_restarted_dependents(stack: Stack, services: Sequence[str]) -> tuple[str, ...]:
    """Return `services` and those that ask to be restarted with one of them (``depends_on.*.restart``), sorted."""
    found = set(services)
    grown = True
    while grown:
        grown = False
        for name, service in stack.services.items():
            if name not in found and any(one.restart and key in found for key, one in service.depends_on.items()):
                found.add(name)
                grown = True
    return tuple(sorted(found))
