"""Why a service is as it is: what its containers did, what they wait for, what failed last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.engines.base import Engine
from orchestrator.reconcile.draft import describe_age
from orchestrator.record import Record
from orchestrator.state import Container

START_SECONDS = 5.0
"""How much earlier than its container's start the record of it may have been written."""


class Explanation(Record):
    """What is known about one service: sentences, the most telling first, each with what lies behind it."""

    service: str
    sentences: tuple[str, ...] = ()


def explain_service(
    engine: Engine, project: str, service: str, status: Mapping[str, Any] | None, now: float
) -> Explanation:
    """Put together what the supervisor (`status`, None where none runs) and the engine know about `service`."""
    observed = engine.observe(project)
    containers = observed.of_service(service)
    oneoffs = tuple(one for one in observed.containers if one.oneoff and one.service == service)
    sentences = []
    if status is not None:
        sentences += _explain_failures(service, status)
        sentences += _explain_operations(service, status)
        sentences += _explain_restarts(containers, status, now)
        sentences += _explain_health((*containers, *oneoffs), status)
    for one in containers:
        sentences.append(_explain_container(one))
        sentences += _explain_start(engine, one, now)
    sentences += [f"{_explain_container(one)}; it is a one-off container" for one in oneoffs]
    if not containers:
        want = (status or {}).get("wants", {}).get(service)
        sentences.append(f"{service} has no container" + (f", and is wanted {want}" if want else ""))
    if status is None and (containers or oneoffs):
        sentences.append("no supervisor runs for the project: nothing is restarted and no health check is made")
    return Explanation(service=service, sentences=tuple(sentences))


def _explain_failures(service: str, status: Mapping[str, Any]) -> list[str]:
    found = []
    for one in status["failures"]:
        text = str(one["message"]) + (f" (exit code {one['exit_code']})" if one.get("exit_code") else "")
        found.append(text if one.get("service") == service else f"{one.get('service') or 'the project'}: {text}")
    return found


def _explain_operations(service: str, status: Mapping[str, Any]) -> list[str]:
    found = [f"now: {one['verb']} {one['subject']}, because {one['cause']}" for one in status["running"]]
    pending: Mapping[str, list[str]] = status["pending"]
    for key, needs in pending.items():
        if not _is_about(key, service):
            continue
        chain = [f"{key} waits for {' and '.join(needs)}"]
        seen = set(needs)
        waiting = list(needs)
        while waiting:
            need = waiting.pop(0)
            for other in pending.get(need, ()):
                chain.append(f"  {need} waits for {other}")
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        found += chain
    return found


def _is_about(operation: str, service: str) -> bool:
    words = operation.split()
    return any(word == service or word.rpartition("-")[0] == service for word in words[1:])


def _explain_restarts(containers: tuple[Container, ...], status: Mapping[str, Any], now: float) -> list[str]:
    names = {one.name for one in containers}
    return [
        f"{one['container']} is started again in {max(0.0, one['at'] - now):.1f} s: {one['reason']}"
        f" ({one['restarts']} restarts so far)"
        for one in status["restarts"]
        if one["container"] in names
    ] + [
        f"{one['container']} is not started again: {one['reason']}"
        for one in status.get("left_alone", ())
        if one["container"] in names
    ]


def _explain_health(containers: tuple[Container, ...], status: Mapping[str, Any]) -> list[str]:
    found = []
    for one in containers:
        history = status["health"].get(one.name)
        if not history or not history["log"]:
            continue
        last = history["log"][-1]
        output = str(last["output"]).strip().replace("\n", " / ")
        verdict = "succeeded" if last["success"] else f"failed, {history['failing_streak']} in a row"
        found.append(f"the last health check of {one.name} {verdict}" + (f": {output}" if output else ""))
    return found


def _explain_start(engine: Engine, one: Container, now: float) -> list[str]:
    """Why a container that runs was started, the last time that it was."""
    if one.status != "running" or not one.started_at:
        return []
    since = one.started_at - START_SECONDS
    starts = [
        event.attributes.get("cause", "")
        for event in engine.read_events(one.project, since=since, until=now)
        if event.action == "start" and event.container == one.id
    ]
    if not starts or not starts[-1]:
        return []
    return [f"  it was started {describe_age(now - one.started_at)}: {starts[-1]}"]


def _explain_container(one: Container) -> str:
    if one.status == "exited":
        text = f"{one.name} exited with code {one.exit_code}" + (", out of memory" if one.oom_killed else "")
        return text + (", stopped by the user" if one.hold else "") + (f": {one.error}" if one.error else "")
    health = f", {one.health}" if one.health else ""
    return f"{one.name} is {one.status}{health}"
