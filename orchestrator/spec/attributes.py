"""One row per attribute of a stack file: its type, short syntax, merge rule, unique key, path kind and zero rule.

Paths name mapping keys; ``*`` is any name, ``[]`` any item. Every pass that has to know an attribute reads its row:
shaping (structure, casts, short syntaxes), merging, path resolution and the final model. A test holds the rows and the
properties of ``schemas/stack.schema.json`` together.
"""

from __future__ import annotations

from typing import Any

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


class Row:
    """What is known of one attribute.

    `kind` names its shape (see ``schema.SHAPES``). `short` names the short syntax of an object. `allowed` are the only
    texts accepted. `unique` says when two items of a list are the same: by ``key`` (text before ``=``), ``target``,
    ``port``, ``path``, or ``refuse`` for a list that must not repeat itself. `merge` is a rule other than the default
    (mappings by key, lists one after the other, scalars replaced). `resolve` is the kind of path that a value is.
    `keep` keeps a zero value in the final model. `null` tells what a null becomes: ``refuse``, ``drop``, ``keep`` or
    ``empty``.
    """

    __slots__ = (
        "allowed", "fields", "item", "keep", "kind", "maximum", "merge", "minimum", "null", "path", "required",
        "resolve", "short", "unique",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        kind: str,
        *,
        short: str = "",
        allowed: tuple[str, ...] = (),
        unique: str = "",
        merge: str = "",
        resolve: str = "",
        keep: bool = False,
        null: str = "refuse",
        required: tuple[str, ...] = (),
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.short = short
        self.allowed = allowed
        self.unique = unique
        self.merge = merge
        self.resolve = resolve
        self.keep = keep
        self.null = null
        self.required = required
        self.minimum = minimum
        self.maximum = maximum
        self.fields: dict[str, Row] = {}
        self.item: Row | None = None


def _hook(path: str) -> tuple[Row, ...]:
    return (
        Row(f"{path}.command", "command"),
        Row(f"{path}.user", "string"),
        Row(f"{path}.privileged", "boolean"),
        Row(f"{path}.working_dir", "string"),
        Row(f"{path}.environment", "pairs", null="keep"),
    )


def _file_mount(path: str) -> tuple[Row, ...]:
    return (
        Row(f"{path}.source", "string"),
        Row(f"{path}.target", "string"),
        Row(f"{path}.uid", "string"),
        Row(f"{path}.gid", "string"),
        Row(f"{path}.mode", "integer", keep=True),
    )


def _ulimits(path: str) -> tuple[Row, ...]:
    return (
        Row(f"{path}", "names"),
        Row(f"{path}.*", "ulimit", merge="ulimit", keep=True),
        Row(f"{path}.*.soft", "integer", minimum=-1),
        Row(f"{path}.*.hard", "integer", minimum=-1),
    )


def _device_request(path: str, required: tuple[str, ...]) -> tuple[Row, ...]:
    return (
        Row(f"{path}[]", "object", required=required),
        Row(f"{path}[].capabilities", "strings", unique="refuse"),
        Row(f"{path}[].count", "count", keep=True),
        Row(f"{path}[].device_ids", "strings", unique="refuse"),
        Row(f"{path}[].driver", "string"),
        Row(f"{path}[].options", "pairs", null="empty"),
    )


def _throttle(path: str) -> tuple[Row, ...]:
    return (
        Row(path, "list"),
        Row(f"{path}[]", "object"),
        Row(f"{path}[].path", "string"),
        Row(f"{path}[].rate", "size"),
    )


def _rollout(path: str) -> tuple[Row, ...]:
    return (
        Row(path, "object"),
        Row(f"{path}.parallelism", "integer", keep=True, minimum=0),
        Row(f"{path}.delay", "duration"),
        Row(f"{path}.failure_action", "string"),
        Row(f"{path}.monitor", "duration"),
        Row(f"{path}.max_failure_ratio", "number"),
        Row(f"{path}.order", "string", allowed=("start-first", "stop-first")),
    )


def _external(path: str) -> tuple[Row, ...]:
    return Row(f"{path}.external", "external"), Row(f"{path}.external.name", "string")


_S = "services.*"
_V = f"{_S}.volumes[]"
_D = f"{_S}.deploy"
_B = f"{_S}.build"
_N = f"{_S}.networks"

_TOP = (
    Row("version", "string"),
    Row("name", "string"),
    Row("include", "list", merge="replace"),
    Row("include[]", "object", short="include"),
    Row("include[].path", "string_or_strings"),
    Row("include[].env_file", "string_or_strings"),
    Row("include[].project_directory", "string"),
    Row("services", "names"),
    Row("networks", "names"),
    Row("volumes", "names"),
    Row("secrets", "names"),
    Row("configs", "names"),
    Row("models", "names"),
)

_SERVICE = (
    Row(_S, "object"),
    Row(f"{_S}.annotations", "pairs", null="empty"),
    Row(f"{_S}.attach", "boolean", keep=True),
    Row(f"{_S}.blkio_config", "object"),
    Row(f"{_S}.blkio_config.weight", "integer", minimum=0, maximum=1000),
    Row(f"{_S}.blkio_config.weight_device", "list"),
    Row(f"{_S}.blkio_config.weight_device[]", "object"),
    Row(f"{_S}.blkio_config.weight_device[].path", "string"),
    Row(f"{_S}.blkio_config.weight_device[].weight", "integer", minimum=0, maximum=1000),
    *_throttle(f"{_S}.blkio_config.device_read_bps"),
    *_throttle(f"{_S}.blkio_config.device_read_iops"),
    *_throttle(f"{_S}.blkio_config.device_write_bps"),
    *_throttle(f"{_S}.blkio_config.device_write_iops"),
    Row(f"{_S}.cap_add", "strings", unique="key"),
    Row(f"{_S}.cap_drop", "strings", unique="key"),
    Row(f"{_S}.cgroup", "string", allowed=("host", "private")),
    Row(f"{_S}.cgroup_parent", "string"),
    Row(f"{_S}.command", "command", merge="replace", null="keep"),
    Row(f"{_S}.configs", "list", unique="target"),
    Row(f"{_S}.configs[]", "object", short="config"),
    *_file_mount(f"{_S}.configs[]"),
    Row(f"{_S}.container_name", "string"),
    Row(f"{_S}.cpu_count", "integer", minimum=0),
    Row(f"{_S}.cpu_percent", "number", minimum=0, maximum=100),
    Row(f"{_S}.cpu_period", "integer"),
    Row(f"{_S}.cpu_quota", "integer"),
    Row(f"{_S}.cpu_rt_period", "integer"),
    Row(f"{_S}.cpu_rt_runtime", "integer"),
    Row(f"{_S}.cpu_shares", "integer"),
    Row(f"{_S}.cpus", "number", minimum=0),
    Row(f"{_S}.cpuset", "string"),
    Row(f"{_S}.credential_spec", "object"),
    Row(f"{_S}.credential_spec.config", "string"),
    Row(f"{_S}.credential_spec.file", "string"),
    Row(f"{_S}.credential_spec.registry", "string"),
    Row(f"{_S}.depends_on", "depends_on"),
    Row(f"{_S}.depends_on.*", "object", required=("condition",)),
    Row(f"{_S}.depends_on.*.condition", "string", allowed=CONDITIONS),
    Row(f"{_S}.depends_on.*.required", "boolean", keep=True),
    Row(f"{_S}.depends_on.*.restart", "boolean"),
    Row(f"{_S}.device_cgroup_rules", "strings", unique="refuse"),
    Row(f"{_S}.devices", "list", unique="target"),
    Row(f"{_S}.devices[]", "object", short="device", required=("source",)),
    Row(f"{_S}.devices[].source", "string"),
    Row(f"{_S}.devices[].target", "string"),
    Row(f"{_S}.devices[].permissions", "string"),
    Row(f"{_S}.dns", "string_or_strings", unique="key"),
    Row(f"{_S}.dns_opt", "strings", unique="key"),
    Row(f"{_S}.dns_search", "string_or_strings", unique="key"),
    Row(f"{_S}.domainname", "string"),
    Row(f"{_S}.entrypoint", "command", merge="replace", null="keep"),
    Row(f"{_S}.env_file", "env_file", unique="path"),
    Row(f"{_S}.env_file[]", "object", short="env_file", required=("path",)),
    Row(f"{_S}.env_file[].path", "string", resolve="file"),
    Row(f"{_S}.env_file[].required", "boolean", keep=True),
    Row(f"{_S}.env_file[].format", "string", allowed=("raw",)),
    Row(f"{_S}.environment", "pairs", null="keep"),
    Row(f"{_S}.expose", "texts", unique="value"),
    Row(f"{_S}.extends", "object", short="extends", required=("service",), merge="replace"),
    Row(f"{_S}.extends.file", "string"),
    Row(f"{_S}.extends.service", "string"),
    Row(f"{_S}.external_links", "strings", unique="refuse"),
    Row(f"{_S}.extra_hosts", "hosts", unique="value"),
    Row(f"{_S}.gpus", "gpus"),
    *_device_request(f"{_S}.gpus", ()),
    Row(f"{_S}.group_add", "texts", unique="refuse"),
    Row(f"{_S}.healthcheck", "object"),
    Row(f"{_S}.healthcheck.disable", "boolean"),
    Row(f"{_S}.healthcheck.interval", "duration", keep=True),
    Row(f"{_S}.healthcheck.retries", "integer", keep=True, minimum=0),
    Row(f"{_S}.healthcheck.start_interval", "duration", keep=True),
    Row(f"{_S}.healthcheck.start_period", "duration", keep=True),
    Row(f"{_S}.healthcheck.test", "probe", merge="replace"),
    Row(f"{_S}.healthcheck.timeout", "duration", keep=True),
    Row(f"{_S}.hostname", "string"),
    Row(f"{_S}.image", "string"),
    Row(f"{_S}.init", "boolean", keep=True),
    Row(f"{_S}.ipc", "string"),
    Row(f"{_S}.isolation", "string"),
    Row(f"{_S}.label_file", "string_or_strings", resolve="file"),
    Row(f"{_S}.labels", "pairs", null="empty"),
    Row(f"{_S}.links", "strings", unique="key"),
    Row(f"{_S}.logging", "object", merge="logging"),
    Row(f"{_S}.logging.driver", "string"),
    Row(f"{_S}.logging.options", "texts_by_name", null="empty"),
    Row(f"{_S}.mac_address", "string"),
    Row(f"{_S}.mem_limit", "size"),
    Row(f"{_S}.mem_reservation", "size"),
    Row(f"{_S}.mem_swappiness", "size"),
    Row(f"{_S}.memswap_limit", "size"),
    Row(f"{_S}.models", "references"),
    Row(f"{_S}.models.*", "object", null="keep"),
    Row(f"{_S}.models.*.endpoint_var", "string"),
    Row(f"{_S}.models.*.model_var", "string"),
    Row(f"{_S}.network_mode", "string"),
    Row(_N, "references"),
    Row(f"{_N}.*", "object", null="keep"),
    Row(f"{_N}.*.aliases", "strings", unique="key"),
    Row(f"{_N}.*.driver_opts", "texts_by_name"),
    Row(f"{_N}.*.gw_priority", "integer"),
    Row(f"{_N}.*.interface_name", "string"),
    Row(f"{_N}.*.ipv4_address", "string"),
    Row(f"{_N}.*.ipv6_address", "string"),
    Row(f"{_N}.*.link_local_ips", "strings", unique="key"),
    Row(f"{_N}.*.mac_address", "string"),
    Row(f"{_N}.*.priority", "integer"),
    Row(f"{_S}.oom_kill_disable", "boolean"),
    Row(f"{_S}.oom_score_adj", "integer", minimum=-1000, maximum=1000),
    Row(f"{_S}.pid", "string", null="drop"),
    Row(f"{_S}.pids_limit", "integer"),
    Row(f"{_S}.platform", "string"),
    Row(f"{_S}.ports", "ports", unique="port"),
    Row(f"{_S}.ports[]", "object"),
    Row(f"{_S}.ports[].app_protocol", "string"),
    Row(f"{_S}.ports[].host_ip", "string"),
    Row(f"{_S}.ports[].mode", "string"),
    Row(f"{_S}.ports[].name", "string"),
    Row(f"{_S}.ports[].protocol", "string"),
    Row(f"{_S}.ports[].published", "text"),
    Row(f"{_S}.ports[].target", "integer", minimum=0, maximum=65535),
    Row(f"{_S}.post_start", "list"),
    Row(f"{_S}.post_start[]", "object", required=("command",)),
    *_hook(f"{_S}.post_start[]"),
    Row(f"{_S}.pre_start", "list"),
    Row(f"{_S}.pre_start[]", "object", required=("command",)),
    *_hook(f"{_S}.pre_start[]"),
    Row(f"{_S}.pre_start[].image", "string"),
    Row(f"{_S}.pre_stop", "list"),
    Row(f"{_S}.pre_stop[]", "object", required=("command",)),
    *_hook(f"{_S}.pre_stop[]"),
    Row(f"{_S}.privileged", "boolean"),
    Row(f"{_S}.profiles", "strings", unique="key"),
    Row(f"{_S}.provider", "object", required=("type",)),
    Row(f"{_S}.provider.options", "options"),
    Row(f"{_S}.provider.type", "string"),
    Row(f"{_S}.pull_policy", "string"),
    Row(f"{_S}.pull_refresh_after", "string"),
    Row(f"{_S}.read_only", "boolean"),
    Row(f"{_S}.restart", "string"),
    Row(f"{_S}.runtime", "string"),
    Row(f"{_S}.scale", "integer", keep=True, minimum=0),
    Row(f"{_S}.secrets", "list", unique="target"),
    Row(f"{_S}.secrets[]", "object", short="secret"),
    *_file_mount(f"{_S}.secrets[]"),
    Row(f"{_S}.security_opt", "strings", unique="refuse"),
    Row(f"{_S}.shm_size", "size"),
    Row(f"{_S}.stdin_open", "boolean"),
    Row(f"{_S}.stop_grace_period", "duration", keep=True),
    Row(f"{_S}.stop_signal", "string"),
    Row(f"{_S}.storage_opt", "texts_by_name"),
    Row(f"{_S}.sysctls", "pairs", null="empty"),
    Row(f"{_S}.tmpfs", "string_or_strings", unique="key"),
    Row(f"{_S}.tty", "boolean"),
    *_ulimits(f"{_S}.ulimits"),
    Row(f"{_S}.use_api_socket", "true_boolean"),
    Row(f"{_S}.user", "string"),
    Row(f"{_S}.userns_mode", "string"),
    Row(f"{_S}.uts", "string"),
    Row(f"{_S}.volumes", "list", unique="target"),
    Row(f"{_S}.volumes_from", "strings", unique="refuse"),
    Row(f"{_S}.working_dir", "string"),
    Row(f"{_S}.x-stack", "object"),
    Row(f"{_S}.x-stack.restart_unhealthy", "true_boolean", keep=True),
)

_BUILD = (
    Row(_B, "object", short="build"),
    Row(f"{_B}.additional_contexts", "pairs", null="empty", resolve="context"),
    Row(f"{_B}.args", "pairs", null="keep"),
    Row(f"{_B}.cache_from", "strings"),
    Row(f"{_B}.cache_to", "strings"),
    Row(f"{_B}.context", "string", resolve="context"),
    Row(f"{_B}.dockerfile", "string"),
    Row(f"{_B}.dockerfile_inline", "string"),
    Row(f"{_B}.entitlements", "strings"),
    Row(f"{_B}.extra_hosts", "hosts", unique="value"),
    Row(f"{_B}.isolation", "string"),
    Row(f"{_B}.labels", "pairs", null="empty"),
    Row(f"{_B}.network", "string"),
    Row(f"{_B}.no_cache", "boolean"),
    Row(f"{_B}.platforms", "strings"),
    Row(f"{_B}.privileged", "boolean"),
    Row(f"{_B}.provenance", "scalar"),
    Row(f"{_B}.pull", "boolean"),
    Row(f"{_B}.sbom", "scalar"),
    Row(f"{_B}.secrets", "list"),
    Row(f"{_B}.secrets[]", "object", short="config"),
    *_file_mount(f"{_B}.secrets[]"),
    Row(f"{_B}.shm_size", "size"),
    Row(f"{_B}.ssh", "ssh", unique="key", resolve="key"),
    Row(f"{_B}.tags", "strings", unique="key"),
    Row(f"{_B}.target", "string"),
    *_ulimits(f"{_B}.ulimits"),
)

_DEPLOY = (
    Row(_D, "object", null="drop"),
    Row(f"{_D}.endpoint_mode", "string"),
    Row(f"{_D}.labels", "pairs", null="empty"),
    Row(f"{_D}.mode", "string"),
    Row(f"{_D}.placement", "object"),
    Row(f"{_D}.placement.constraints", "strings"),
    Row(f"{_D}.placement.max_replicas_per_node", "integer"),
    Row(f"{_D}.placement.preferences", "list"),
    Row(f"{_D}.placement.preferences[]", "object"),
    Row(f"{_D}.placement.preferences[].spread", "string"),
    Row(f"{_D}.replicas", "integer", keep=True, minimum=0),
    Row(f"{_D}.resources", "object"),
    Row(f"{_D}.resources.limits", "object"),
    Row(f"{_D}.resources.limits.cpus", "number", minimum=0),
    Row(f"{_D}.resources.limits.memory", "size_text"),
    Row(f"{_D}.resources.limits.pids", "integer"),
    Row(f"{_D}.resources.reservations", "object"),
    Row(f"{_D}.resources.reservations.cpus", "number", minimum=0),
    Row(f"{_D}.resources.reservations.memory", "size_text"),
    Row(f"{_D}.resources.reservations.devices", "list"),
    *_device_request(f"{_D}.resources.reservations.devices", ("capabilities",)),
    Row(f"{_D}.resources.reservations.generic_resources", "list"),
    Row(f"{_D}.resources.reservations.generic_resources[]", "object"),
    Row(f"{_D}.resources.reservations.generic_resources[].discrete_resource_spec", "object"),
    Row(f"{_D}.resources.reservations.generic_resources[].discrete_resource_spec.kind", "string"),
    Row(f"{_D}.resources.reservations.generic_resources[].discrete_resource_spec.value", "integer"),
    Row(f"{_D}.restart_policy", "object"),
    Row(f"{_D}.restart_policy.condition", "string"),
    Row(f"{_D}.restart_policy.delay", "duration", keep=True),
    Row(f"{_D}.restart_policy.max_attempts", "integer", keep=True, minimum=0),
    Row(f"{_D}.restart_policy.window", "duration", keep=True),
    *_rollout(f"{_D}.rollback_config"),
    *_rollout(f"{_D}.update_config"),
)

_DEVELOP = (
    Row(f"{_S}.develop", "object", null="drop"),
    Row(f"{_S}.develop.watch", "list"),
    Row(f"{_S}.develop.watch[]", "object", required=("path", "action")),
    Row(
        f"{_S}.develop.watch[].action",
        "string",
        allowed=("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
    ),
    Row(f"{_S}.develop.watch[].exec", "object", required=("command",)),
    *_hook(f"{_S}.develop.watch[].exec"),
    Row(f"{_S}.develop.watch[].ignore", "string_or_strings", unique="refuse"),
    Row(f"{_S}.develop.watch[].include", "string_or_strings", unique="refuse"),
    Row(f"{_S}.develop.watch[].initial_sync", "true_boolean"),
    Row(f"{_S}.develop.watch[].path", "string", resolve="file"),
    Row(f"{_S}.develop.watch[].target", "string"),
)

_VOLUME = (
    Row(_V, "object", short="volume", required=("type",)),
    Row(f"{_V}.type", "string", allowed=("bind", "volume", "tmpfs", "cluster", "npipe", "image")),
    Row(f"{_V}.source", "string", resolve="volume"),
    Row(f"{_V}.target", "string"),
    Row(f"{_V}.read_only", "boolean"),
    Row(f"{_V}.consistency", "string"),
    Row(f"{_V}.bind", "object"),
    Row(f"{_V}.bind.create_host_path", "boolean"),
    Row(f"{_V}.bind.propagation", "string"),
    Row(f"{_V}.bind.recursive", "string", allowed=("enabled", "disabled", "writable", "readonly")),
    Row(f"{_V}.bind.selinux", "string", allowed=("z", "Z")),
    Row(f"{_V}.image", "object"),
    Row(f"{_V}.image.subpath", "string"),
    Row(f"{_V}.tmpfs", "object"),
    Row(f"{_V}.tmpfs.mode", "integer"),
    Row(f"{_V}.tmpfs.size", "size"),
    Row(f"{_V}.volume", "object"),
    Row(f"{_V}.volume.labels", "pairs", null="empty"),
    Row(f"{_V}.volume.nocopy", "boolean"),
    Row(f"{_V}.volume.subpath", "string"),
)

_RESOURCES = (
    Row("networks.*", "object", null="keep"),
    Row("networks.*.attachable", "boolean"),
    Row("networks.*.driver", "string"),
    Row("networks.*.driver_opts", "texts_by_name"),
    Row("networks.*.enable_ipv4", "boolean", keep=True),
    Row("networks.*.enable_ipv6", "boolean", keep=True),
    *_external("networks.*"),
    Row("networks.*.internal", "boolean"),
    Row("networks.*.ipam", "object"),
    Row("networks.*.ipam.config", "list", merge="pools"),
    Row("networks.*.ipam.config[]", "object"),
    Row("networks.*.ipam.config[].aux_addresses", "strings_by_name"),
    Row("networks.*.ipam.config[].gateway", "string"),
    Row("networks.*.ipam.config[].ip_range", "string"),
    Row("networks.*.ipam.config[].subnet", "string"),
    Row("networks.*.ipam.driver", "string"),
    Row("networks.*.ipam.options", "strings_by_name"),
    Row("networks.*.labels", "pairs", null="empty"),
    Row("networks.*.name", "string"),
    Row("volumes.*", "object", null="keep"),
    Row("volumes.*.driver", "string"),
    Row("volumes.*.driver_opts", "texts_by_name"),
    *_external("volumes.*"),
    Row("volumes.*.labels", "pairs", null="empty"),
    Row("volumes.*.name", "string"),
    Row("secrets.*", "object"),
    Row("secrets.*.driver", "string"),
    Row("secrets.*.driver_opts", "texts_by_name"),
    Row("secrets.*.environment", "string"),
    *_external("secrets.*"),
    Row("secrets.*.file", "string", resolve="file"),
    Row("secrets.*.labels", "pairs", null="empty"),
    Row("secrets.*.name", "string"),
    Row("secrets.*.template_driver", "string"),
    Row("configs.*", "object"),
    Row("configs.*.content", "string"),
    Row("configs.*.environment", "string"),
    *_external("configs.*"),
    Row("configs.*.file", "string", resolve="file"),
    Row("configs.*.labels", "pairs", null="empty"),
    Row("configs.*.name", "string"),
    Row("configs.*.template_driver", "string"),
    Row("models.*", "object", required=("model",)),
    Row("models.*.context_size", "integer"),
    Row("models.*.model", "string"),
    Row("models.*.name", "string"),
    Row("models.*.runtime_flags", "strings"),
)

ROWS: tuple[Row, ...] = (*_TOP, *_SERVICE, *_BUILD, *_DEPLOY, *_DEVELOP, *_VOLUME, *_RESOURCES)


def _grow(rows: tuple[Row, ...]) -> Row:
    root = Row("", "object")
    at: dict[str, Row] = {"": root}
    for row in rows:
        path = row.path
        at[path] = row
        if path.endswith("[]"):
            at[path[:-2]].item = row
            continue
        parent, _, name = path.rpartition(".")
        if name == "*":
            at[parent].item = row
        else:
            at[parent].fields[name] = row
    return root


ROOT = _grow(ROWS)
SERVICE: Any = ROOT.fields["services"].item
