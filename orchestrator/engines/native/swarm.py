"""Attributes that are for a cluster (Swarm) and do nothing on one host: each is a warning at its line.

Only those that really do nothing here: ``update_config``, ``rollback_config``, ``restart_policy``, ``replicas`` and
``resources`` are honoured, and ``mode: replicated`` or ``endpoint_mode: dnsrr`` ask for what is done anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Diagnostic
from orchestrator.source import render_path

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack
    from orchestrator.source import Path

_PLACEMENT: Mapping[str, str] = {
    "constraints": "constraints choose a node of a cluster, and there is one host: they have no effect",
    "preferences": "preferences spread a service over the nodes of a cluster, and there is one host: no effect",
    "max_replicas_per_node": "max_replicas_per_node has no effect: all replicas run on this host",
}
_FILES: Mapping[str, str] = {
    "driver": "the driver of a secret is a plugin of Swarm: it has no effect",
    "driver_opts": "they are for the driver of a secret, a plugin of Swarm: they have no effect",
    "labels": "labels of secrets and configs are kept by Swarm alone: they have no effect",
    "template_driver": "templates are filled in by Swarm alone: containers see the text as it is",
}


def find_ignored(stack: Stack) -> list[Diagnostic]:
    """A warning for each attribute of `stack` that nothing comes of, in the order of their lines. Pure."""
    return sorted(_list_ignored(stack), key=lambda one: one.location or ("", 0, 0))


def _list_ignored(stack: Stack) -> Iterator[Diagnostic]:
    for name in sorted(stack.services):
        service = stack.services[name]
        deploy = service.config.get("deploy")
        if isinstance(deploy, Mapping):
            for path, message, hint in _find_in_deploy(service, deploy):
                yield _warn(stack, ("services", name, "deploy", *path), message, hint)
    for kind, sources in (("secrets", stack.secrets), ("configs", stack.configs)):
        for key in sorted(sources):
            for attribute, message in _FILES.items():
                if sources[key].config.get(attribute):
                    yield _warn(stack, (kind, key, attribute), message)


def _find_in_deploy(service: Service, deploy: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    mode = deploy.get("mode")
    if mode == "global" and "replicas" in deploy and deploy["replicas"] != 1:
        yield ("mode",), f"mode global has no effect: there are {deploy['replicas']} replicas on this host", "drop one"
    elif mode not in (None, "", "global", "replicated"):
        hint = "restart: on-failure, and depends_on with condition: service_completed_successfully"
        yield ("mode",), f"mode {mode} has no effect: it is a service like others", hint
    if deploy.get("endpoint_mode") not in (None, "", "dnsrr"):
        message = f"endpoint_mode {deploy['endpoint_mode']} has no effect: the name leads to every replica's address"
        yield ("endpoint_mode",), message, ""
    if deploy.get("labels"):
        message = "labels below deploy are those of a service of Swarm: containers do not have them"
        yield ("labels",), message, f"write them at services.{service.name}.labels"
    placement = deploy.get("placement") or {}
    for attribute, message in _PLACEMENT.items():
        if placement.get(attribute):
            yield ("placement", attribute), message, ""
    reservations = (deploy.get("resources") or {}).get("reservations") or {}
    if reservations.get("generic_resources"):
        message = "generic_resources are counted by the nodes of a cluster: they have no effect"
        yield ("resources", "reservations", "generic_resources"), message, "devices give a container the devices"


def _warn(stack: Stack, path: Path, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic("no-effect", message, stack.sources.locate(path), render_path(path), hint, "warning")
