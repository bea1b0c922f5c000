"""The stack files of the soak: a fixed one to come back to, and what random edits make of it."""

from __future__ import annotations

import copy
import random
from typing import Any

Document = dict[str, Any]

_WEB = "mkdir -p /www; echo here > /www/index.html; exec httpd -f -p 8080 -h /www"
_PROBE = {"test": ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"], "interval": "2s", "retries": 5}


def make_storm(count: int) -> Document:
    """A stack of `count` services of six kinds, which depend on one another."""
    services: Document = {}
    for index in range(count):
        group, kind = divmod(index, 6)
        name = f"{('web', 'api', 'plain', 'job', 'worker', 'flaky')[kind]}{group}"
        services[name] = _make_service(kind, group)
    return {
        "services": services,
        "networks": {"front": {}, "back": {"internal": True}},
        "volumes": {f"data{group}": {} for group in range((count + 5) // 6)},
    }


def _make_service(kind: int, group: int) -> Document:
    one: Document = {"image": "busybox", "environment": {"REVISION": "0"}, "stop_grace_period": "1s"}
    if kind == 0:
        one |= {"command": ["sh", "-c", _WEB], "restart": "always", "healthcheck": dict(_PROBE)}
        one |= {"networks": ["front", "back"], "ports": ["127.0.0.1::8080"]}
    elif kind == 1:
        needs = {f"web{group}": {"condition": "service_healthy", "restart": group % 2 == 0}}
        one |= {"command": ["sleep", "100000"], "init": True, "restart": "always", "depends_on": needs}
        one |= {"networks": ["back"]}
    elif kind == 2:
        one |= {"command": ["sleep", "100000"], "init": True, "depends_on": [f"web{group}"], "networks": ["front"]}
        one |= {"restart": "unless-stopped"}
    elif kind == 3:
        one |= {"command": ["sh", "-c", "echo done; exit 0"], "volumes": [f"data{group}:/data"]}
    elif kind == 4:
        needs = {f"job{group}": {"condition": "service_completed_successfully"}}
        script = 'trap "exit 143" TERM; while true; do echo tick; sleep 5 & wait $!; done'
        one |= {"command": ["sh", "-c", script], "depends_on": needs, "volumes": [f"data{group}:/data"]}
        one |= {"restart": "on-failure", "post_start": [{"command": ["true"]}], "pre_stop": [{"command": ["true"]}]}
    else:
        one |= {"command": ["sh", "-c", f"sleep {40 + 17 * group}; exit 3"], "init": True, "restart": "always"}
    return one


def make_steady(count: int) -> Document:
    """A stack whose supervisor is left alone: what it needs after half an hour is what it needed at first."""
    services: Document = {}
    for index in range(count):
        one: Document = {"image": "busybox", "command": ["sh", "-c", _WEB], "restart": "always"}
        one |= {"environment": {"REVISION": "0"}, "stop_grace_period": "1s", "healthcheck": dict(_PROBE)}
        if index:
            one["depends_on"] = {"s0": {"condition": "service_healthy"}}
        if index == 1:
            one["ports"] = ["127.0.0.1::8080"]
        if index == 2:
            one["volumes"] = ["kept:/kept"]
        services[f"s{index}"] = one
    return {"services": services, "volumes": {"kept": {}}}


def edit(document: Document, chance: random.Random) -> tuple[Document, str]:
    """One random edit; returns the new document and what was done, in words."""
    made = copy.deepcopy(document)
    services = made["services"]
    name = chance.choice(sorted(services))
    one = services[name]
    match chance.choice(("revision", "revision", "revision", "remove", "network", "restart", "port", "grow", "label")):
        case "remove":
            for other in [name, *_dependents(services, name)]:
                services.pop(other, None)
            if services:
                return made, f"remove {name}"
            return copy.deepcopy(document), "nothing"
        case "network":
            made.setdefault("networks", {}).setdefault("back", {})["internal"] = chance.random() < 0.5
            return made, "network back is made anew"
        case "restart":
            if not name.startswith("job"):
                one["restart"] = chance.choice(("always", "on-failure", "unless-stopped", "no"))
            return made, f"restart policy of {name}"
        case "port":
            one["ports"] = [] if one.get("ports") else ["127.0.0.1::8080"]
            return made, f"ports of {name}"
        case "grow":
            fresh = f"extra{chance.randrange(4)}"
            services[fresh] = {
                "image": "busybox",
                "command": ["sleep", "100000"],
                "init": True,
                "restart": "always",
                "deploy": {"update_config": {"parallelism": 1, "order": "start-first"}},
                "environment": {"REVISION": str(chance.randrange(100))},
                "scale": chance.randint(1, 3),
            }
            return made, f"add {fresh}"
        case "label":
            one["labels"] = {"soak": str(chance.randrange(100))}
            return made, f"label of {name}"
    one["environment"] = {"REVISION": str(chance.randrange(1000))}
    return made, f"revision of {name}"


def _dependents(services: Document, name: str) -> list[str]:
    found = [other for other, one in services.items() if name in (one.get("depends_on") or ())]
    for other in tuple(found):
        found += _dependents(services, other)
    return found
