"""Random stack files with everything that the control loop has rules for, and random edits of them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from typing import Any

from orchestrator.model import Stack
from orchestrator.spec.loader import LoadOptions, load_stack

Document = dict[str, Any]

SERVERS = ("a", "b", "c", "d", "e")
JOBS = ("j", "k")
NAMES = (*SERVERS, *JOBS)
IMAGES = ("x:1", "x:2", "y:1")
INIT_IMAGE = "init:1"


class OneText:
    """A reader that knows one stack file."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self, path: str) -> str:
        """The text, whatever the path."""
        return self._text

    def find_kind(self, path: str) -> str | None:
        """There is one file."""
        return "file" if path == "/app/compose.yaml" else "directory"

    def find_stack_file(self, directory: str) -> str | None:
        """It is in every folder."""
        return "/app/compose.yaml"


def load_document(document: Document, profiles: tuple[str, ...] = ()) -> Stack:
    """Load a document as the command line would."""
    options = LoadOptions(cwd="/app", profiles=profiles, project_name="app")
    return load_stack(options, {"HOME": "/home/me"}, OneText(json.dumps(document))).stack


def make_document(chance: random.Random) -> Document:
    """Up to seven services in a random order; each may depend on those before it."""
    names = chance.sample(NAMES, chance.randint(1, len(NAMES)))
    services: Document = {}
    for place, name in enumerate(names):
        services[name] = _make_service(chance, name, services, names[:place])
    internal = chance.random() < 0.3
    return {"services": services, "networks": {"n1": {"internal": internal}, "n2": {}}, "volumes": {"data": {}}}


def render_document(document: Document) -> str:
    """One line for each service."""
    lines = [f"          {name}: {json.dumps(one)}" for name, one in document["services"].items()]
    return "\n".join([*lines, f"          {document['networks']}"])


def edit_document(chance: random.Random, document: Document) -> Document:
    """Change one to three things; sometimes everything."""
    if chance.random() < 0.25:
        return make_document(chance)
    made = copy.deepcopy(document)
    services = made["services"]
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(sorted(services))
        match chance.choice(("environment", "image", "remove", "add", "network", "scale", "restart", "update")):
            case "environment":
                services[name].setdefault("environment", {})["V"] = str(chance.randint(0, 9))
            case "image" if "image" in services[name]:
                services[name]["image"] = chance.choice(IMAGES)
            case "remove":
                _remove(services, name)
            case "add":
                free = [one for one in NAMES if one not in services]
                if free:
                    fresh = chance.choice(free)
                    services[fresh] = _make_service(chance, fresh, services, sorted(services))
            case "network":
                made["networks"]["n1"] = {"internal": chance.random() < 0.5}
            case "scale" if "scale" in services[name] and "container_name" not in services[name]:
                shared = any(one.get("network_mode") == f"service:{name}" for one in services.values())
                services[name]["scale"] = 1 if services[name].get("ports") else chance.randint(int(shared), 3)
            case "restart" if services[name].get("x-kind") == "server":
                services[name]["restart"] = chance.choice(("no", "always", "on-failure"))
            case "update" if services[name].get("x-kind") == "server":
                services[name]["deploy"] = _make_deploy(chance)
    return made


def _remove(services: Document, name: str) -> None:
    going = {name}
    while True:
        more = {
            other
            for other, one in services.items()
            if other not in going and (going & set(one.get("depends_on", ())) or one.get("network_mode", "") in
                                       {f"service:{gone}" for gone in going})
        }  # fmt: skip
        if not more:
            break
        going |= more
    if len(going) < len(services):
        for one in going:
            del services[one]


def _make_service(chance: random.Random, name: str, others: Mapping[str, Document], before: list[str]) -> Document:
    # A service that ends by itself always does: whoever waits for the end of a server waits for ever, and rightly so.
    kind = "job" if name in JOBS else chance.choices(("server", "provided"), (14, 1))[0]
    one: Document = {"x-kind": kind}
    if chance.random() < 0.1:
        one["profiles"] = ["debug"]
    if kind == "provided":
        return {**one, "provider": {"type": "cloud"}}
    one |= {"image": chance.choice(IMAGES), "environment": {"V": str(chance.randint(0, 2)), "KIND": kind}}
    one["command"] = ["sleep", "infinity"]
    one["depends_on"] = _make_dependencies(chance, others, before)
    base = [name for name in before if others[name]["x-kind"] == "server" and others[name].get("scale") != 0]
    base = [name for name in base if "profiles" not in others[name]]
    if kind == "server" and base and chance.random() < 0.15:
        one["network_mode"] = f"service:{chance.choice(base)}"
    else:
        one["networks"] = chance.sample(("n1", "n2"), chance.randint(0, 2))
        one["scale"] = 1 if kind == "job" else chance.choice((1, 1, 1, 2, 3, 0))
        _add_port(chance, one, others)
    taken = {other.get("container_name") for other in others.values()}
    if one.get("scale", 1) == 1 and chance.random() < 0.15:
        named = chance.choice(("own", "other"))
        if named not in taken:
            one["container_name"] = named
    one["volumes"] = chance.choice(([], [], ["data:/data"], ["/anonymous"]))
    if kind == "job":
        one["restart"] = chance.choice(("no", "no", "on-failure:3"))
    else:
        one["restart"] = chance.choice(("no", "always", "always", "unless-stopped", "on-failure", "on-failure:2"))
        if chance.random() < 0.6:
            one["healthcheck"] = {"test": ["CMD", "probe"], "interval": "6s", "timeout": "1s", "retries": 2}
            if chance.random() < 0.3:
                one["x-stack"] = {"restart_unhealthy": True}
        if chance.random() < 0.3:
            one["deploy"] = _make_deploy(chance)
        if chance.random() < 0.2:
            one["post_start"] = [{"command": ["post", "start"]}]
        if chance.random() < 0.2:
            one["pre_stop"] = [{"command": ["pre", "stop"]}]
    if chance.random() < 0.15:
        hooks = [{"command": ["sleep", "infinity"]}, {"command": ["sleep", "infinity"], "image": INIT_IMAGE}]
        one["pre_start"] = hooks[: chance.randint(1, 2)]
    return one


def _make_dependencies(chance: random.Random, others: Mapping[str, Document], before: list[str]) -> Document:
    found: Document = {}
    for name in chance.sample(before, chance.randint(0, min(2, len(before)))):
        other = others[name]
        conditions = ["service_started"]
        if other["x-kind"] == "job":
            conditions.append("service_completed_successfully")
        elif "healthcheck" in other:
            conditions.append("service_healthy")
        found[name] = {
            "condition": chance.choice(conditions),
            # What a profile keeps off cannot be required.
            "required": "profiles" not in other and chance.random() < 0.8,
            "restart": chance.random() < 0.3,
        }
    return found


def _add_port(chance: random.Random, one: Document, others: Mapping[str, Document]) -> None:
    port = chance.choice((None, None, None, "8001:80", "8002:80", "80"))
    if port == "80" or (
        port and one["scale"] == 1 and not any(port in other.get("ports", ()) for other in others.values())
    ):
        one["ports"] = [port]


def _make_deploy(chance: random.Random) -> Document:
    def config() -> Document:
        return {
            "parallelism": chance.randint(0, 2),
            "delay": chance.choice(("0s", "1s")),
            "monitor": chance.choice(("0s", "3s")),
            "order": chance.choice(("stop-first", "start-first")),
            "failure_action": chance.choice(("pause", "continue", "rollback")),
            "max_failure_ratio": chance.choice((0, 0.4)),
        }

    made = {"update_config": config()}
    if chance.random() < 0.3:
        made["rollback_config"] = {**config(), "failure_action": chance.choice(("pause", "continue"))}
    return made
