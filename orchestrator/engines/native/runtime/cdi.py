"""Devices by name: what the host's CDI files say that a container needs for one (Container Device Interface 0.8).

A file describes the devices of one kind (``vendor.com/class``); a qualified name is ``vendor.com/class=device``. A
request for a GPU (``gpus``, ``deploy.resources.reservations.devices``) means the devices of its maker's kind.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native.places import find_device_folders
from orchestrator.engines.native.runtime.devices import DeviceNode, describe_device
from orchestrator.errors import EngineError, NotFound, Unsupported
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.source import Path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z][\w.-]*=[\w.:-]+")
_MAKERS: Final[Mapping[str, str]] = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}
_RESERVATIONS: Final[Path] = ("deploy", "resources", "reservations", "devices")
_HOOKS: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_HINT: Final = (
    "a CDI file below /etc/cdi describes it; for NVIDIA: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
)


class Edits(Record):
    """What devices add to a container. `mounts` and `hooks` (by their name) are as ``config.json`` has them."""

    environment: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    groups: tuple[int, ...] = ()
    intel_rdt: Mapping[str, Any] | None = None


Kinds = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""By kind, by device: the ``containerEdits`` to be applied one after another."""


def is_device_name(text: str) -> bool:
    """Whether `text` is a qualified name, not a path."""
    return _NAME.fullmatch(text) is not None


def asks_for_devices(service: Service) -> bool:
    """Whether a service names any device that a CDI file has to describe."""
    return bool(any(is_device_name(one.source) for one in service.devices) or list(_list_requests(service)))


def resolve_edits(service: Service) -> Edits:
    """What the devices that `service` names add to its container. NotFound, Unsupported: the first that is not here."""
    if not asks_for_devices(service):
        return Edits()
    kinds = load_kinds(find_device_folders())
    chosen: dict[str, None] = {}
    for path, names in list_requested(service, kinds):
        for name in names:
            _find(kinds, name, path)
            chosen[name] = None
    edits: list[Mapping[str, Any]] = []
    for name in chosen:
        # What is said for all devices of a file comes in once.
        edits += [one for one in _find(kinds, name, ()) if not any(one is other for other in edits)]
    return merge_edits(edits)


def find_device_problems(service: Service) -> Iterator[tuple[Path, EngineError]]:
    """Each attribute of `service` that names a device which this host does not have, with what is wrong."""
    if not asks_for_devices(service):
        return
    try:
        kinds = load_kinds(find_device_folders())
    except EngineError as error:
        yield ("devices",) if service.devices else ("gpus",), error
        return
    for path, request in _list_all(service):
        try:
            for name in _name_devices(request, path, kinds):
                _find(kinds, name, path)
        except EngineError as error:
            yield path, error


def list_requested(service: Service, kinds: Kinds) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Qualified names by the attribute that asks for them. NotFound, Unsupported."""
    for path, request in _list_all(service):
        yield path, tuple(_name_devices(request, path, kinds))


def load_kinds(folders: Iterable[str]) -> Kinds:
    """Read every CDI file; what a later folder says of a device replaces an earlier one's. EngineError: a bad file."""
    found: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for folder in folders:
        try:
            names = sorted(one for one in os.listdir(folder) if one.endswith((".json", ".yaml", ".yml")))
        except OSError:
            continue
        seen: dict[str, str] = {}
        for name in names:
            path = f"{folder}/{name}"
            spec = _read(path)
            kind, shared = str(spec.get("kind") or ""), spec.get("containerEdits") or {}
            for device in spec.get("devices") or ():
                qualified = f"{kind}={device.get('name')}"
                if seen.setdefault(qualified, path) != path:
                    raise EngineError(
                        f"{path} and {seen[qualified]} both describe {qualified}",
                        resource=path,
                        operation="read devices",
                    )
                edits = [one for one in (shared, device.get("containerEdits")) if one]
                found.setdefault(kind, {})[str(device.get("name"))] = edits
    return found


def merge_edits(edits: Iterable[Mapping[str, Any]]) -> Edits:
    """Put ``containerEdits`` together, in order. NotFound for a device node that this host does not have."""
    environment: list[str] = []
    nodes: dict[str, DeviceNode] = {}
    mounts: dict[str, Mapping[str, Any]] = {}
    hooks: list[tuple[str, Mapping[str, Any]]] = []
    groups: dict[int, None] = {}
    rdt: Mapping[str, Any] | None = None
    for one in edits:
        if one.get("netDevices"):
            raise Unsupported(
                "CDI devices that move a network interface are not supported", operation="resolve devices"
            )
        environment += one.get("env") or ()
        for node in one.get("deviceNodes") or ():
            nodes[node["path"]] = _make_node(node)
        for mount in one.get("mounts") or ():
            mounts[mount["containerPath"]] = _make_mount(mount)
        for hook in one.get("hooks") or ():
            if hook.get("hookName") not in _HOOKS:
                raise Unsupported(f"CDI: {hook.get('hookName')} is not a hook", operation="resolve devices")
            hooks.append(
                (hook["hookName"], {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook})
            )
        groups.update(dict.fromkeys(int(group) for group in one.get("additionalGids") or () if group))
        rdt = one.get("intelRdt") or rdt
    return Edits(
        environment=tuple(environment),
        nodes=tuple(nodes.values()),
        mounts=tuple(mounts.values()),
        hooks=tuple(hooks),
        groups=tuple(groups),
        intel_rdt=rdt,
    )


def _read(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            if path.endswith(".json"):
                spec = json.load(file)
            else:
                import yaml

                spec = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}", resource=path, operation="read devices") from error
    except Exception as error:  # PyYAML's own errors, without importing it for their name
        raise EngineError(f"{path} is not YAML: {error}", resource=path, operation="read devices") from error
    if not isinstance(spec, Mapping) or not all(isinstance(one, Mapping) for one in spec.get("devices") or ()):
        raise EngineError(f"{path} is not a CDI file", resource=path, operation="read devices")
    return spec


def _list_all(service: Service) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for index, device in enumerate(service.devices):
        if is_device_name(device.source):
            yield ("devices", index), {"driver": "cdi", "device_ids": [device.source]}
    yield from _list_requests(service)


def _list_requests(service: Service) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for index, request in enumerate(service.config.get("gpus") or ()):
        yield ("gpus", index), {"capabilities": ["gpu"], **request}
    found: Any = service.config
    for part in _RESERVATIONS:
        found = found.get(part) if isinstance(found, Mapping) else None
    for index, request in enumerate(found or ()):
        yield (*_RESERVATIONS, index), request


def _name_devices(request: Mapping[str, Any], path: Path, kinds: Kinds) -> Iterable[str]:
    driver, ids = str(request.get("driver") or ""), [str(one) for one in request.get("device_ids") or ()]
    if request.get("options"):
        raise _unsupported(path, "options of a device request cannot be honoured")
    if driver == "cdi":
        if not ids or not all(is_device_name(one) for one in ids):
            raise _unsupported(path, "the driver cdi takes device_ids such as vendor.com/class=name")
        return ids
    if driver not in ("", *_MAKERS):
        raise _unsupported(path, f"there is no device driver {driver} here", "cdi, nvidia, amd or intel")
    if "gpu" not in (request.get("capabilities") or ()):
        raise _unsupported(path, "only devices with the capability gpu, or of the driver cdi, can be asked for")
    kind = _MAKERS[driver] if driver else next((one for one in _MAKERS.values() if one in kinds), "")
    if kind not in kinds:
        raise NotFound(
            f"{_render(path)}: this host has no GPU that a container could get", operation="resolve devices", hint=_HINT
        )
    if ids:
        return [f"{kind}={one}" for one in ids]
    count = request.get("count", -1)
    # A GPU stands in its file under its number, under its identifier and in "all".
    single = sorted((one for one in kinds[kind] if one.isdigit()), key=int) or sorted(kinds[kind].keys() - {"all"})
    if count in (-1, "all"):
        return [f"{kind}=all"] if "all" in kinds[kind] else [f"{kind}={one}" for one in single]
    if int(count) > len(single):
        raise NotFound(
            f"{_render(path)}: {count} GPUs are asked for, and this host has {len(single)}", operation="resolve devices"
        )
    return [f"{kind}={one}" for one in single[: int(count)]]


def _find(kinds: Kinds, name: str, path: Path) -> Sequence[Mapping[str, Any]]:
    kind, _, device = name.partition("=")
    found = kinds.get(kind, {}).get(device)
    if found is None:
        known = ", ".join(f"{kind}={one}" for one in sorted(kinds.get(kind, ())))
        raise NotFound(
            f"{_render(path)}: no CDI file describes {name}",
            resource=name,
            operation="resolve devices",
            hint=f"there are {known}" if known else _HINT,
        )
    return found


def _make_node(node: Mapping[str, Any]) -> DeviceNode:
    source = str(node.get("hostPath") or node["path"])
    try:
        found = describe_device(os.stat(source), str(node["path"]), str(node.get("permissions") or "rwm"))
    except OSError as error:
        raise NotFound(f"{source}: {error.strerror}", resource=source, operation="resolve devices") from error
    if found is None:
        raise NotFound(f"{source} is not a device", resource=source, operation="resolve devices")
    given = {"mode": node.get("fileMode"), "uid": node.get("uid"), "gid": node.get("gid")}
    return found.replace(**{key: int(value) for key, value in given.items() if value is not None})


def _make_mount(mount: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [str(one) for one in mount.get("options") or ()]
    kind = str(mount.get("type") or "bind")
    if kind == "bind" and not {"bind", "rbind"} & set(options):
        options.insert(0, "rbind")
    return {
        "destination": mount["containerPath"],
        "source": mount["hostPath"],
        "type": kind,
        "options": options,
    }


def _unsupported(path: Path, message: str, hint: str = "") -> Unsupported:
    return Unsupported(f"{_render(path)}: {message}", operation="resolve devices", hint=hint)


def _render(path: Path) -> str:
    from orchestrator.source import render_path

    return render_path(path) or "devices"
