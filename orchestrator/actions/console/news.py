"""What happens in a project, in a sentence each: from its journal, and from its supervisor. Pure."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Literal

from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.base import ContainerEvent
    from orchestrator.events import Event

Tone = Literal["", "good", "bad", "warn"]

_WORDS: dict[str, tuple[str, Tone]] = {
    "create": ("created", ""),
    "start": ("started", "good"),
    "pause": ("paused", "warn"),
    "unpause": ("goes on", "good"),
    "destroy": ("removed", ""),
    "oom": ("is out of memory", "bad"),
}

_DONE = {"create": "created", "remove": "removed", "pull": "fetched", "build": "built", "push": "sent"}

_JOURNALLED = ("create", "start", "stop", "restart", "kill", "remove", "rename", "keep", "rest")
"""First words of operations on containers whose effect the journal tells of by itself."""


_REPLACED = re.compile(r"^[0-9a-f]{12}_")
"""What stands before the name of a container while another takes its place."""


class News(Record):
    """One thing that happened. `time` is seconds since the epoch; `subject` a container, an image, a network ..."""

    time: float
    subject: str
    text: str
    tone: Tone = ""


def tell_container_event(event: ContainerEvent, project: str) -> News | None:
    """Say an event of the journal; None for one that another one tells as well."""
    name = event.attributes.get("name", event.container[:12])
    subject = _REPLACED.sub("", name).removeprefix(f"{project}-").removeprefix(f"{project}_")
    time = event.time / 1e9
    if event.action in _WORDS:
        text, tone = _WORDS[event.action]
        return News(time=time, subject=subject, text=text, tone=tone)
    if event.action == "die":
        code = event.attributes.get("exitCode", "0")
        return News(time=time, subject=subject, text=f"exited with code {code}", tone="" if code == "0" else "bad")
    if event.action == "kill":
        return News(time=time, subject=subject, text=f"was sent {_name_signal(event.attributes.get('signal', ''))}")
    if event.action.startswith("exec_start: "):
        return News(time=time, subject=subject, text=f"runs {event.action.partition(': ')[2]}")
    if event.action.startswith("health_status"):
        status = event.action.partition(": ")[2]
        tones: dict[str, Tone] = {"healthy": "good", "unhealthy": "bad"}
        return News(time=time, subject=subject, text=f"is {status}", tone=tones.get(status, ""))
    if event.action.startswith(("stop", "rename", "exec_")):
        return None
    return News(time=time, subject=subject, text=event.action)


def tell_supervisor_event(event: Event) -> News | None:
    """Say an event of the supervisor; None for what the journal tells, and for progress."""
    project = ""
    if event.kind == "operation":
        return _tell_operation(event)
    if event.kind == "container":
        if event.action in ("die", "start"):
            return None
        return News(time=event.time, subject=event.service or event.subject, text=event.message, tone="warn")
    if event.kind == "health":
        if not event.message:
            return None
        last = event.message.strip().splitlines()[-1]
        return News(time=event.time, subject=event.service, text=f"health check: {last}", tone="bad")
    if event.kind in ("error", "warning", "message") and event.message:
        tone: Tone = "bad" if event.kind == "error" else "warn"
        text = event.message.splitlines()[0]
        return News(time=event.time, subject=event.service or event.subject or project, text=text, tone=tone)
    return None


def _tell_operation(event: Event) -> News | None:
    first, _, what = event.verb.partition(" ")
    if event.phase == "failed":
        text = event.message.splitlines()[0] if event.message else f"{event.verb} failed"
        return News(time=event.time, subject=event.service or event.subject, text=text, tone="bad")
    if event.phase == "progress" or event.phase == "cancelled" or event.phase == "skipped":
        return None
    if (what == "container" and first in _JOURNALLED) or event.verb in ("pull layer", "push layer"):
        return None
    if event.verb == "wait for":
        condition = " ".join(event.action.split()[2:]) or "ready"
        if event.phase == "started":
            return News(time=event.time, subject=event.service or event.subject, text=f"others wait: {condition}")
        return None
    if event.phase == "started":
        # What takes a moment is told when it is done.
        slow = event.verb.startswith(("pull", "build", "push", "run", "settle"))
        return News(time=event.time, subject=event.subject, text=f"{event.verb} ...") if slow else None
    return News(time=event.time, subject=event.subject, text=f"{what} {_DONE.get(first, f'{first}: done')}".strip())


def _name_signal(number: str) -> str:
    try:
        return signal.Signals(int(number)).name
    except ValueError:
        return f"signal {number}" if number else "a signal"
