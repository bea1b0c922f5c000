"""Operations in Compose's words: `` Container quickstart-web-1 Started``."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.events import Event

_WORDS: dict[str, tuple[str, str, str]] = {
    "create container": ("Container", "Creating", "Created"),
    "start container": ("Container", "Starting", "Started"),
    "stop container": ("Container", "Stopping", "Stopped"),
    "restart container": ("Container", "Restarting", "Started"),
    "kill container": ("Container", "Killing", "Killed"),
    "remove container": ("Container", "Removing", "Removed"),
    "rename container": ("Container", "Renaming", "Renamed"),
    "create network": ("Network", "Creating", "Created"),
    "remove network": ("Network", "Removing", "Removed"),
    "create volume": ("Volume", "Creating", "Created"),
    "remove volume": ("Volume", "Removing", "Removed"),
    "pull image": ("Image", "Pulling", "Pulled"),
    "pull service": ("", "Pulling", "Pulled"),
    "pull layer": ("Layer", "Downloading", "Downloaded"),
    "push layer": ("Layer", "Uploading", "Uploaded"),
    "build image": ("Image", "Building", "Built"),
    "push image": ("Image", "Pushing", "Pushed"),
    "publish": ("", "publishing", "published"),
    "remove image": ("Image", "Removing", "Removed"),
    "run provider": ("Service", "Providing", "Provided"),
    "run init": ("Container", "Running", "Done"),
    "run hooks": ("Hook", "Running", "Done"),
    "settle": ("Service", "Settling", "Settled"),
    "wait for": ("Service", "Waiting", "Ready"),
    "await container": ("Container", "Waiting", "Healthy"),
    "keep container": ("Container", "Running", "Running"),
    "rest container": ("Container", "Stopped", "Stopped"),
    "spare container": ("Container", "Exited", "Exited"),
    "copy": ("Container", "Copying", "Copied"),
    "commit": ("Container", "Committing", "Committed"),
    "wait container": ("Container", "Waiting", "Exited"),
    "export": ("Container", "Exporting", "Exported"),
    "attach": ("Container", "Attaching", "Attached"),
    "exec": ("Container", "Executing", "Executed"),
    "run": ("Container", "Creating", "Created"),
}

_CONDITIONS = {
    "started": "Running",
    "healthy": "Healthy",
    "completed": "Exited",
}


class Wording(NamedTuple):
    """One operation as a line: `id` is ``Container x-web-1``, `text` its state in a word, `style` how it goes."""

    id: str
    text: str
    style: str
    """working, done, error or skipped."""
    note: str = ""


def describe_operations(event: Event) -> list[Wording]:
    """Say an operation's event in Compose's words, a line for each container that it waits for; [] for other events."""
    line = describe_operation(event)
    if line is None:
        return []
    names = event.details.get("containers")
    return [line._replace(id=f"Container {name}") for name in names] if names else [line]


def describe_operation(event: Event) -> Wording | None:
    """Say an operation's event in Compose's words, in one line; None for one that is no operation."""
    if event.kind != "operation":
        return None
    if event.verb == "mark container":
        return Wording(f"Container {event.subject}", event.action, "working")
    kind, doing, done = _WORDS.get(event.verb, (event.verb.split(" ")[-1].capitalize(), event.verb, "Done"))
    if event.verb == "wait for":
        # The operation's id says what is waited for: "wait db healthy".
        done = next((word for mark, word in _CONDITIONS.items() if mark in event.action.split()), done)
    if event.verb == "create container" and event.details.get("replaces"):
        doing, done = "Recreate", "Recreated"
    place = f"{kind} {event.action if event.verb == 'run hooks' else event.subject}".lstrip()
    if event.phase == "skipped" and event.verb == "pull service":
        return Wording(place, f"Skipped - {event.message}", "skipped")
    if event.phase == "failed":
        return Wording(place, "Error", "error", event.message)
    if event.phase == "cancelled":
        yet = " yet" if event.verb == "wait for" else ""
        return Wording(place, f"Not {done.lower()}{yet}", "skipped", event.message)
    if event.phase == "skipped":
        return Wording(place, "Skipped", "skipped", event.message)
    if event.phase == "done":
        return Wording(place, done, "done")
    if event.verb == "restart container" and event.message:
        return Wording(place, event.message, "working")
    return Wording(place, doing, "working", event.message if event.phase == "progress" else "")
