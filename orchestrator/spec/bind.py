"""The canonical tree bound to the frozen model. Needs no YAML: a supervisor rebuilds its Stack from JSON with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from orchestrator.model import (
    Build,
    Dependency,
    Device,
    FileMount,
    FileSource,
    Hook,
    IpamPool,
    Logging,
    Network,
    NetworkAttachment,
    Port,
    Probe,
    Resources,
    RestartPolicy,
    Service,
    Stack,
    Ulimit,
    Volume,
    VolumeMount,
)
from orchestrator.source import SourceMap
from orchestrator.spec.durations import parse_seconds

_NOTHING: Mapping[Any, Any] = {}
_NO_VALUES: Mapping[tuple[str, str], str] = {}
_T = TypeVar("_T")

Values = Mapping[tuple[str, str], str]
"""What canonical output hides: the content of ``secrets`` and ``configs`` that comes from the environment, by section
and key.
"""

# Attributes whose canonical value is the field's value as it stands, or as a tuple.
_AS_IT_IS = (
    "image", "pull_policy", "platform", "working_dir", "user", "hostname", "domainname", "container_name",
    "network_mode", "mac_address", "stop_signal", "init", "pid", "ipc", "uts", "userns_mode", "cgroup", "cgroup_parent",
    "runtime", "tty", "stdin_open", "attach", "privileged", "read_only", "environment", "labels", "annotations",
    "sysctls",
)  # fmt: skip
_TUPLES = (
    "group_add", "profiles", "expose", "volumes_from", "tmpfs", "links", "external_links", "dns", "dns_search",
    "dns_opt", "cap_add", "cap_drop", "security_opt", "device_cgroup_rules",
)  # fmt: skip


def bind_stack(
    tree: Mapping[str, Any],
    sources: SourceMap,
    *,
    directory: str,
    files: tuple[str, ...],
    disabled: tuple[str, ...] = (),
    dormant: Mapping[str, Any] = _NOTHING,
    values: Values = _NO_VALUES,
) -> Stack:
    """Bind a canonical tree (what ``stack config --format json`` prints, dollar signs single) to a Stack.

    `directory` and `files` are absolute; `disabled` names the services that a profile keeps off, and `dormant` are
    the builds of some of them; `values` holds the contents of secrets and configs that the environment gives.
    """
    services = tree.get("services") or {}
    return Stack(
        name=tree.get("name", ""),
        services={name: bind_service(name, config, services) for name, config in services.items()},
        networks=_bind_all(tree, "networks", _bind_network),
        volumes=_bind_all(tree, "volumes", _bind_volume),
        secrets=_bind_files(tree, "secrets", values),
        configs=_bind_files(tree, "configs", values),
        disabled=disabled,
        dormant={name: bind_service(name, config, services) for name, config in dormant.items()},
        directory=directory,
        files=files,
        tree=tree,
        sources=sources,
    )


def _bind_all(tree: Mapping[str, Any], section: str, bind: Callable[[str, Mapping[str, Any]], _T]) -> dict[str, _T]:
    return {key: bind(key, config or {}) for key, config in (tree.get(section) or {}).items()}


def _bind_files(tree: Mapping[str, Any], section: str, values: Values) -> dict[str, FileSource]:
    bound = {}
    for key, config in (tree.get(section) or {}).items():
        bound[key] = FileSource(
            key=key,
            name=config.get("name", key),
            file=config.get("file"),
            environment=config.get("environment"),
            content=config.get("content"),
            external=bool(config.get("external")),
            value=values.get((section, key)),
            config=config,
        )
    return bound


def collect_values(
    tree: Mapping[str, Any], environment: Mapping[str, str], included: Mapping[tuple[str, str, str], str] = _NOTHING
) -> dict[tuple[str, str], str]:
    """Read the contents of the secrets and configs that name an environment variable.

    `included` holds what the variables of included stacks are, by section, key and variable.
    """
    found = {}
    for section in ("secrets", "configs"):
        for key, config in (tree.get(section) or {}).items():
            variable = config.get("environment")
            value = environment.get(variable, included.get((section, key, variable))) if variable else None
            if value is not None:
                found[section, key] = value
    return found


def bind_service(name: str, config: Mapping[str, Any], services: Mapping[str, Any]) -> Service:
    """Bind one service; `services` are the active ones, the others are no dependencies."""
    fields: dict[str, Any] = {key: config[key] for key in _AS_IT_IS if config.get(key) is not None}
    fields.update({key: tuple(config[key]) for key in _TUPLES if key in config})
    deploy = config.get("deploy") or _NOTHING
    if config.get("stop_grace_period") is not None:
        fields["stop_grace_period"] = parse_seconds(config["stop_grace_period"])
    if config.get("shm_size"):
        fields["shm_size"] = int(config["shm_size"])
    return Service(
        name=name,
        config=config,
        build=_bind_build(config["build"]) if config.get("build") is not None else None,
        command=_optional_tuple(config.get("command")),
        entrypoint=_optional_tuple(config.get("entrypoint")),
        depends_on=_bind_dependencies(config.get("depends_on"), services),
        scale=_choose_scale(config, deploy),
        ports=tuple(_bind_port(port) for port in config.get("ports") or ()),
        volumes=tuple(_bind_mount(mount) for mount in config.get("volumes") or ()),
        secrets=tuple(_bind_file_mount(mount) for mount in config.get("secrets") or ()),
        configs=tuple(_bind_file_mount(mount) for mount in config.get("configs") or ()),
        networks={key: _bind_attachment(key, value or {}) for key, value in (config.get("networks") or {}).items()},
        extra_hosts=tuple(_split_host(host) for host in config.get("extra_hosts") or ()),
        healthcheck=_bind_probe(config["healthcheck"]) if config.get("healthcheck") is not None else None,
        restart=_bind_restart(config.get("restart"), deploy.get("restart_policy")),
        ulimits={key: _bind_ulimit(value) for key, value in (config.get("ulimits") or {}).items()},
        devices=tuple(
            Device(
                source=one.get("source", ""),
                target=one.get("target", one.get("source", "")),
                permissions=one.get("permissions", "rwm"),
            )
            for one in config.get("devices") or ()
        ),
        resources=_bind_resources(config, deploy.get("resources") or _NOTHING),
        logging=_bind_logging(config.get("logging")),
        post_start=bind_hooks(config.get("post_start")),
        pre_stop=bind_hooks(config.get("pre_stop")),
        restart_unhealthy=bool((config.get("x-stack") or _NOTHING).get("restart_unhealthy", False)),
        **fields,
    )


def _optional_tuple(value: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _split_host(host: str) -> tuple[str, str]:
    name, _, address = host.partition("=")
    return name, address


def _choose_scale(config: Mapping[str, Any], deploy: Mapping[str, Any]) -> int:
    scale = config.get("scale")
    if scale is None:
        scale = deploy.get("replicas")
    return 1 if scale is None else int(scale)


def _bind_dependencies(value: Any, services: Mapping[str, Any]) -> dict[str, Dependency]:
    return {
        name: Dependency(
            service=name,
            condition=entry.get("condition", "service_started"),
            required=entry.get("required", True),
            restart=entry.get("restart", False),
        )
        for name, entry in (value or {}).items()
        if name in services
    }


def _bind_port(port: Mapping[str, Any]) -> Port:
    return Port(
        target=port.get("target", 0),
        published=port.get("published"),
        host_ip=port.get("host_ip"),
        protocol=port.get("protocol", "tcp"),
        mode=port.get("mode", "ingress"),
        name=port.get("name"),
        app_protocol=port.get("app_protocol"),
    )


def _bind_mount(mount: Mapping[str, Any]) -> VolumeMount:
    kind = mount.get("type", "")
    return VolumeMount(
        type=kind,
        target=mount.get("target", ""),
        source=mount.get("source"),
        read_only=mount.get("read_only", False),
        consistency=mount.get("consistency"),
        options=mount.get(kind) or _NOTHING,
    )


def _bind_file_mount(mount: Mapping[str, Any]) -> FileMount:
    return FileMount(
        source=mount.get("source", ""),
        target=mount.get("target"),
        uid=mount.get("uid"),
        gid=mount.get("gid"),
        mode=mount.get("mode"),
    )


def _bind_attachment(network: str, value: Mapping[str, Any]) -> NetworkAttachment:
    return NetworkAttachment(
        network=network,
        aliases=tuple(value.get("aliases") or ()),
        ipv4_address=value.get("ipv4_address"),
        ipv6_address=value.get("ipv6_address"),
        link_local_ips=tuple(value.get("link_local_ips") or ()),
        mac_address=value.get("mac_address"),
        interface_name=value.get("interface_name"),
        priority=value.get("priority", 0),
        gw_priority=value.get("gw_priority", 0),
        driver_opts=value.get("driver_opts") or _NOTHING,
    )


def _bind_probe(value: Mapping[str, Any]) -> Probe:
    test = _optional_tuple(value.get("test"))
    return Probe(
        test=test or None,
        interval=parse_seconds(value.get("interval")),
        timeout=parse_seconds(value.get("timeout")),
        retries=value.get("retries"),
        start_period=parse_seconds(value.get("start_period")),
        start_interval=parse_seconds(value.get("start_interval")),
        disable=bool(value.get("disable")) or bool(test and test[0] == "NONE"),
    )


def _bind_restart(restart: str | None, policy: Mapping[str, Any] | None) -> RestartPolicy:
    """``deploy.restart_policy`` wins over ``restart``."""
    if policy is not None:
        condition = {"none": "no", "any": "always"}.get(policy.get("condition", "any"), policy.get("condition", "any"))
        return RestartPolicy(
            condition=condition,
            max_attempts=policy.get("max_attempts"),
            delay=parse_seconds(policy.get("delay")),
            window=parse_seconds(policy.get("window")),
        )
    name, _, attempts = (restart or "no").partition(":")
    condition = name if name in ("always", "on-failure", "unless-stopped") else "no"
    return RestartPolicy(
        condition=condition,  # type: ignore[arg-type]
        max_attempts=int(attempts) if attempts.isdigit() else None,
    )


def _bind_ulimit(value: Any) -> Ulimit:
    if isinstance(value, int):
        return Ulimit(soft=value, hard=value)
    return Ulimit(soft=value.get("soft", 0), hard=value.get("hard", 0))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _bind_resources(config: Mapping[str, Any], resources: Mapping[str, Any]) -> Resources:
    limits = resources.get("limits") or _NOTHING
    reservations = resources.get("reservations") or _NOTHING
    cpus = limits.get("cpus", config.get("cpus"))
    return Resources(
        cpus=None if cpus is None else float(cpus),
        memory=_whole(limits.get("memory", config.get("mem_limit"))),
        pids=_whole(limits.get("pids", config.get("pids_limit"))),
        memory_reservation=_whole(reservations.get("memory", config.get("mem_reservation"))),
        cpus_reservation=float(reservations["cpus"]) if "cpus" in reservations else None,
        memswap_limit=_whole(config.get("memswap_limit")),
        mem_swappiness=_whole(config.get("mem_swappiness")),
        cpu_shares=config.get("cpu_shares"),
        cpu_period=config.get("cpu_period"),
        cpu_quota=config.get("cpu_quota"),
        cpu_rt_period=config.get("cpu_rt_period"),
        cpu_rt_runtime=config.get("cpu_rt_runtime"),
        cpuset=config.get("cpuset"),
        oom_kill_disable=config.get("oom_kill_disable", False),
        oom_score_adj=config.get("oom_score_adj"),
        blkio=config.get("blkio_config") or _NOTHING,
    )


def _bind_logging(value: Mapping[str, Any] | None) -> Logging:
    return Logging() if value is None else Logging(driver=value.get("driver"), options=value.get("options") or _NOTHING)


def bind_hooks(value: Any) -> tuple[Hook, ...]:
    """Bind ``post_start`` or ``pre_stop`` in their canonical form; None gives none."""
    return tuple(
        Hook(
            command=tuple(hook.get("command") or ()),
            user=hook.get("user"),
            privileged=hook.get("privileged", False),
            working_dir=hook.get("working_dir"),
            environment=hook.get("environment") or _NOTHING,
        )
        for hook in value or ()
    )


def _bind_build(value: Mapping[str, Any]) -> Build:
    return Build(
        context=value.get("context"),
        dockerfile=value.get("dockerfile"),
        dockerfile_inline=value.get("dockerfile_inline"),
        target=value.get("target"),
        args=value.get("args") or _NOTHING,
        tags=tuple(value.get("tags") or ()),
        config=value,
    )


def _bind_network(key: str, config: Mapping[str, Any]) -> Network:
    ipam = config.get("ipam") or _NOTHING
    return Network(
        key=key,
        name=config.get("name", key),
        driver=config.get("driver"),
        driver_opts=config.get("driver_opts") or _NOTHING,
        external=bool(config.get("external")),
        internal=config.get("internal", False),
        attachable=config.get("attachable", False),
        enable_ipv4=config.get("enable_ipv4", True),
        enable_ipv6=config.get("enable_ipv6", False),
        ipam_driver=ipam.get("driver"),
        ipam=tuple(
            IpamPool(
                subnet=pool.get("subnet"),
                gateway=pool.get("gateway"),
                ip_range=pool.get("ip_range"),
                aux_addresses=pool.get("aux_addresses") or _NOTHING,
            )
            for pool in ipam.get("config") or ()
        ),
        labels=config.get("labels") or _NOTHING,
        config=config,
    )


def _bind_volume(key: str, config: Mapping[str, Any]) -> Volume:
    return Volume(
        key=key,
        name=config.get("name", key),
        driver=config.get("driver"),
        driver_opts=config.get("driver_opts") or _NOTHING,
        external=bool(config.get("external")),
        labels=config.get("labels") or _NOTHING,
        config=config,
    )
