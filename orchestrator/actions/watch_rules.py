"""The rules of ``develop.watch`` of a stack, with the ignore files that belong to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Diagnostic, ModelError, UsageError
from orchestrator.source import render_path
from orchestrator.spec.bind import bind_hooks
from orchestrator.watching.rules import (
    NOTHING,
    WatchRule,
    compile_patterns,
    is_bind_mounted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.engines.native.dockerfile.sources.dockerignore import IgnoreRules
    from orchestrator.model import Service, Stack
    from orchestrator.source import Path


class NothingToWatch(UsageError):
    """No service that is meant has rules."""

    code = "nothing-to-watch"


def list_watch_rules(
    stack: Stack, services: Sequence[str], warn: Callable[[Diagnostic], None], *, build: bool = True
) -> tuple[WatchRule, ...]:
    """The rules of `services` (empty: all), in their order. Warns of paths that a bind mount covers already.

    Raises NothingToWatch, and ModelError with the lines of rules that cannot be followed; with `build` False that is
    every rebuild.
    """
    problems: list[Diagnostic] = []
    rules: list[WatchRule] = []
    asked = False
    for name in services or sorted(stack.services):
        service = stack.services[name]
        entries = (service.config.get("develop") or {}).get("watch") or ()
        asked = asked or bool(entries)
        shared, context = _load_shared(service, problems) if entries else (NOTHING, "")
        binds = [one.source for one in service.volumes if one.type == "bind" and one.source]
        for index, entry in enumerate(entries):
            path: Path = ("services", name, "develop", "watch", index)
            problem = _find_problem(service, entry, build=build)
            if problem:
                problems.append(_locate(stack, path, "watch-impossible", problem))
            elif entry["action"].startswith("sync") and is_bind_mounted(_clean(stack, entry["path"]), binds):
                text = f"path '{entry['path']}' is also a bind mount's; it is not watched"
                warn(_locate(stack, path, "watch-bind-mount", text)._replace(severity="warning"))
            else:
                rule = _bind_rule(stack, service, index, entry, problems)
                rules.append(rule.replace(shared=shared, context=context))
    if problems:
        raise ModelError(problems)
    if not asked:
        raise NothingToWatch(
            "none of the selected services is configured for watch, consider setting a 'develop' section",
            hint="services.NAME.develop.watch lists paths and what is done when they change",
        )
    return tuple(rules)


def _find_problem(service: Service, entry: dict[str, Any], *, build: bool) -> str:
    if entry["action"] == "rebuild":
        if service.build is None:
            return f"can't watch service {service.name} with action rebuild without a build context"
        if not build:
            return f"--no-build is incompatible with watch action rebuild in service {service.name}"
    if entry["action"] == "sync+exec" and not (entry.get("exec") or {}).get("command"):
        return f"can't watch with action sync+exec on service {service.name} without a command"
    return ""


def _bind_rule(
    stack: Stack, service: Service, index: int, entry: dict[str, Any], problems: list[Diagnostic]
) -> WatchRule:
    path = _clean(stack, entry["path"])
    patterns: dict[str, IgnoreRules] = {}
    for name in ("include", "ignore"):
        try:
            patterns[name] = compile_patterns(entry.get(name) or (), path)
        except ValueError as error:
            where: Path = ("services", service.name, "develop", "watch", index, name)
            problems.append(_locate(stack, where, "invalid-ignore-pattern", f"{str(error)!r} is not a pattern"))
    hooks = bind_hooks([entry["exec"]]) if entry["action"] == "sync+exec" else ()
    return WatchRule(
        service=service.name,
        index=index,
        action=entry["action"],
        path=path,
        target=os.path.normpath(os.path.join(service.working_dir or "/", entry.get("target") or "")),
        include=patterns.get("include", NOTHING),
        ignore=patterns.get("ignore", NOTHING),
        initial_sync=bool(entry.get("initial_sync", entry.get("x-initialSync"))),
        is_folder=os.path.isdir(path),
        hook=hooks[0] if hooks else None,
        dockerfile=os.path.basename((service.build.dockerfile if service.build else None) or "Dockerfile"),
    )


def _clean(stack: Stack, path: str) -> str:
    return os.path.normpath(os.path.join(stack.directory, path))


def _load_shared(service: Service, problems: list[Diagnostic]) -> tuple[IgnoreRules, str]:
    """The ignore file of the service's build, and the context that its rules are relative to; nothing for none."""
    from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
    from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore

    build = service.build
    if build is None or not build.context or not os.path.isdir(build.context):
        return NOTHING, ""
    context = os.path.normpath(build.context)
    names = [f"{build.dockerfile or 'Dockerfile'}.dockerignore", ".dockerignore"]
    for name in names[1:] if build.dockerfile_inline else names:
        try:
            with open(os.path.join(context, name), "rb") as file:
                return load_ignore(file.read(), os.path.join(context, name)), context
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(Diagnostic("unreadable", f"{os.path.join(context, name)}: {error.strerror}"))
        except DockerfileInvalid as error:
            problems += error.diagnostics
        break
    return NOTHING, context


def _locate(stack: Stack, path: Path, code: str, message: str) -> Diagnostic:
    return Diagnostic(code, message, stack.sources.locate(path), render_path(path))
