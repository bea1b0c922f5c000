"""What a row of the attribute table is, and the groups of rows that stand in several places of it."""

from __future__ import annotations


class Row:
    """What is known of one attribute.

    `kind` names its shape (see ``schema.SHAPES``). `short` names the short syntax of an object. `allowed` are the only
    texts accepted. `unique` says when two items of a list are the same: by ``key`` (text before ``=``), ``target``,
    ``port``, ``path``, or ``refuse`` for a list that must not repeat itself. `merge` is a rule other than the default
    (mappings by key, lists one after the other, scalars replaced). `resolve` is the kind of path that a value is.
    `keep` keeps a zero value in the final model; `default` is what stands there if nothing was written. `null` tells
    what a null becomes: ``refuse``, ``drop``, ``keep`` or ``empty``.
    """

    __slots__ = (
        "allowed", "default", "fields", "item", "keep", "kind", "maximum", "merge", "minimum", "null", "path",
        "required", "resolve", "short", "unique",
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
        default: object = None,
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
        self.default = default
        self.fields: dict[str, Row] = {}
        self.item: Row | None = None


def rows_of_hook(path: str) -> tuple[Row, ...]:
    """The attributes of a lifecycle hook."""
    return (
        Row(f"{path}.command", "command"),
        Row(f"{path}.user", "string"),
        Row(f"{path}.privileged", "boolean"),
        Row(f"{path}.working_dir", "string"),
        Row(f"{path}.environment", "pairs", null="keep"),
    )


def rows_of_file_mount(path: str) -> tuple[Row, ...]:
    """The attributes of a secret or config in a container."""
    return (
        Row(f"{path}.source", "string"),
        Row(f"{path}.target", "string"),
        Row(f"{path}.uid", "string"),
        Row(f"{path}.gid", "string"),
        Row(f"{path}.mode", "integer", keep=True),
    )


def rows_of_ulimits(path: str) -> tuple[Row, ...]:
    """A mapping of limits."""
    return (
        Row(f"{path}", "names"),
        Row(f"{path}.*", "ulimit", merge="ulimit", keep=True),
        Row(f"{path}.*.soft", "integer", minimum=-1),
        Row(f"{path}.*.hard", "integer", minimum=-1),
    )


def rows_of_device_request(path: str, required: tuple[str, ...]) -> tuple[Row, ...]:
    """The items of a list of device requests."""
    return (
        Row(f"{path}[]", "object", required=required),
        Row(f"{path}[].capabilities", "strings", unique="refuse"),
        Row(f"{path}[].count", "count"),
        Row(f"{path}[].device_ids", "strings", unique="refuse"),
        Row(f"{path}[].driver", "string"),
        Row(f"{path}[].options", "pairs", null="empty"),
    )


def rows_of_throttle(path: str) -> tuple[Row, ...]:
    """A list of limits for block devices."""
    return (
        Row(path, "list"),
        Row(f"{path}[]", "object"),
        Row(f"{path}[].path", "string", keep=True, default=""),
        Row(f"{path}[].rate", "size", keep=True, default="0"),
    )


def rows_of_rollout(path: str) -> tuple[Row, ...]:
    """The attributes of update_config and rollback_config."""
    return (
        Row(path, "object"),
        Row(f"{path}.parallelism", "integer", keep=True, minimum=0),
        Row(f"{path}.delay", "duration"),
        Row(f"{path}.failure_action", "string"),
        Row(f"{path}.monitor", "duration"),
        Row(f"{path}.max_failure_ratio", "number"),
        Row(f"{path}.order", "string", allowed=("start-first", "stop-first")),
    )


def rows_of_external(path: str) -> tuple[Row, ...]:
    """``external`` in its forms."""
    return Row(f"{path}.external", "external"), Row(f"{path}.external.name", "string")
