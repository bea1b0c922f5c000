"""Stacks for tests, bound from a small part of Compose's syntax without the loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.goal import Goal
from orchestrator.model import (
    Build,
    Dependency,
    FileMount,
    FileSource,
    IpamPool,
    Network,
    NetworkAttachment,
    Port,
    Probe,
    RestartPolicy,
    Service,
    Stack,
    Volume,
    VolumeMount,
)

PLAIN = frozenset(
    {"network_mode", "pid", "ipc", "container_name", "pull_policy", "platform", "environment", "scale", "hostname"}
    | {"init", "stop_signal", "user", "stop_grace_period", "labels", "tty", "stdin_open"}
)


def bind_stack(
    services: Mapping[str, Any],
    networks: Mapping[str, Any] | None = None,
    volumes: Mapping[str, Any] | None = None,
    configs: Mapping[str, str] | None = None,
    project: str = "app",
    disabled: tuple[str, ...] = (),
) -> Stack:
    """Bind a stack; networks and volumes that services name are there without being declared."""
    bound = {name: bind_service(name, dict(config or {})) for name, config in services.items()}
    nets = {key: {} for one in bound.values() for key in one.networks} | dict(networks or {})
    vols = {m.source: {} for one in bound.values() for m in one.volumes if m.type == "volume" and m.source}
    vols |= dict(volumes or {})
    return Stack(
        name=project,
        services=bound,
        networks={key: bind_network(project, key, one or {}) for key, one in nets.items()},
        volumes={key: bind_volume(project, key, one or {}) for key, one in vols.items()},
        configs={
            key: FileSource(key=key, name=f"{project}_{key}", content=text) for key, text in (configs or {}).items()
        },
        disabled=disabled,
    )


def bind_service(name: str, config: dict[str, Any]) -> Service:
    """Bind one service. `config` becomes its canonical subtree as it is."""
    config.setdefault("image", f"{name}:1") if "build" not in config else None
    attached = config.get("networks", [] if "network_mode" in config else ["default"])
    if not isinstance(attached, Mapping):
        attached = dict.fromkeys(attached)
    depends = config.get("depends_on", {})
    if not isinstance(depends, Mapping):
        depends = config["depends_on"] = dict.fromkeys(depends)
    plain = {key: config[key] for key in PLAIN if key in config}
    if isinstance(config.get("command"), str):
        config["command"] = ["sh", "-c", config["command"]]
    return Service(
        name=name,
        config=config,
        image=config.get("image"),
        build=_bind_build(config["build"]) if "build" in config else None,
        command=tuple(config["command"]) if config.get("command") is not None else None,
        depends_on={key: Dependency(service=key, **(one or {})) for key, one in depends.items()},
        networks={key: NetworkAttachment(network=key, **(one or {})) for key, one in attached.items()},
        ports=tuple(_bind_port(one) for one in config.get("ports", ())),
        volumes=tuple(_bind_mount(one) for one in config.get("volumes", ())),
        volumes_from=tuple(config.get("volumes_from", ())),
        configs=tuple(FileMount(source=one) for one in config.get("configs", ())),
        links=tuple(config.get("links", ())),
        healthcheck=Probe(test=("CMD-SHELL", config["healthcheck"])) if "healthcheck" in config else None,
        restart=_bind_restart(config.get("restart", "no")),
        **plain,
    )


def _bind_build(config: Any) -> Build:
    config = {"context": config} if isinstance(config, str) else dict(config)
    return Build(context=config.get("context"), config=config)


def bind_network(project: str, key: str, config: Mapping[str, Any]) -> Network:
    """Bind one network."""
    return Network(
        key=key,
        name=config.get("name", f"{project}_{key}"),
        external=config.get("external", False),
        internal=config.get("internal", False),
        driver_opts=config.get("driver_opts", {}),
        ipam=tuple(IpamPool(**one) for one in config.get("ipam", {}).get("config", ())),
        config={"name": f"{project}_{key}", "ipam": {}, **config},
    )


def bind_volume(project: str, key: str, config: Mapping[str, Any]) -> Volume:
    """Bind one volume."""
    name = config.get("name", f"{project}_{key}")
    return Volume(key=key, name=name, external=config.get("external", False), config={"name": name, **config})


def want_all(stack: Stack, issued_at: float, want: str = "running", **fields: Any) -> Goal:
    """The goal of ``up`` for every service."""
    fields.setdefault("refresh_before", dict.fromkeys(stack.services, issued_at))
    return Goal(stack=stack, wants=dict.fromkeys(stack.services, want), issued_at=issued_at, **fields)


def _bind_port(text: str) -> Port:
    published, _, target = str(text).rpartition(":")
    return Port(target=int(target), published=published or None)


def _bind_mount(text: str) -> VolumeMount:
    if text.startswith("image="):
        return VolumeMount(type="image", source=text.removeprefix("image=").partition(" ")[0], target="/image")
    source, _, target = text.rpartition(":")
    return VolumeMount(type="volume", source=source or None, target=target)


def _bind_restart(text: str) -> RestartPolicy:
    condition, _, attempts = text.partition(":")
    return RestartPolicy(condition=condition, max_attempts=int(attempts) if attempts else None)  # type: ignore[arg-type]
