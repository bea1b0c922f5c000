"""The log of causes: reads what `events` kept of a project, and asks of every start whether it is explained."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import Any

from soaking.machine import Project

GRACE = 30.0
"""Seconds for which a command that was killed, or a supervisor that was, may go on to cause operations."""

OVERLAP = 5.0
"""Seconds of the log that are read again."""


class Causes:
    """Follows the events of one project and keeps what it could not explain."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._seen: set[tuple[str, str, str]] = set()
        self._since = 0.0
        self._last: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, int] = {}
        self.kinds: Counter[str] = Counter()
        self.starts: dict[str, list[float]] = {}

    def read(self) -> list[str]:
        """Take what has happened since the last time; return what is wrong with it."""
        # Several processes write: what is later in time may stand earlier in the log.
        since = f"{self._since - OVERLAP:.3f}" if self._since else "24h"
        ran = self._project.run("events", "--json", "--since", since, "--until", "0s")
        if ran.code != 0:
            return [f"events ended with {ran.code}: {ran.err[-300:]}"]
        import json

        found = []
        for line in ran.out.splitlines():
            event = json.loads(line)
            mark = (event["time"], event["id"], event["action"])
            if mark in self._seen:
                continue
            self._seen.add(mark)
            moment = _parse_time(event["time"])
            self._since = max(self._since, moment)
            found += self._take(event, moment)
        return found

    def _take(self, event: dict[str, Any], moment: float) -> list[str]:
        key, action = event["id"], event["action"]
        if action == "start":
            self.starts.setdefault(key, []).append(moment)
            complaint = self._judge_start(event, moment)
            self._runs[key] = self._runs.get(key, 0) + 1
            self._last.pop(key, None)
            return [complaint] if complaint else []
        if action == "die":
            self._last[key] = event
        elif action == "destroy":
            self._runs.pop(key, None)
            self._last.pop(key, None)
        return []

    def _judge_start(self, event: dict[str, Any], moment: float) -> str:
        name, cause = event["attributes"]["name"], event["attributes"].get("cause", "")
        told = f"{name} at {event['time']}: {cause!r}"
        if not cause:
            return f"no cause for the start of {told}"
        died = self._last.get(event["id"])
        if self._runs.get(event["id"]) and died is None:
            return f"started twice without an end in between: {told}"
        policy = re.search(r"^(exited with code (\d+)|became unhealthy); restart policy", cause)
        if policy is not None:
            self.kinds["restart policy"] += 1
            if died is None:
                return f"a restart policy without an end before: {told}"
            if policy[2] is not None and died["attributes"]["exitCode"] != policy[2]:
                return f"the cause names another exit code than {died['attributes']['exitCode']}: {told}"
            return ""
        self.kinds["first start" if died is None else "operation"] += 1
        if not any(begun - 0.5 <= moment <= ended + 0.5 for begun, ended, _what in self._project.windows):
            return f"no command was under way: {told}"
        return ""


def _parse_time(text: str) -> float:
    whole, _, part = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{part or 0}")
