"""From what was written to what is meant: names, implicit networks and dependencies, variables, profiles, pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.source import Path
from orchestrator.spec.mounts import clean_path
from orchestrator.spec.paths import absolute_path
from orchestrator.spec.positions import Map, Mark, Problems, Seq
from orchestrator.spec.schema import plant, unify_items

if TYPE_CHECKING:
    from orchestrator.spec.layers import LayerLoader

_NAMED = ("networks", "volumes", "configs", "secrets", "models")
_HOOKS = ("pre_start", "post_start", "pre_stop")
_NONE: Mapping[str, Map] = {}
_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def apply_defaults(tree: Map, directory: str) -> None:
    """Give what is not said its default, in place: what files say is merged before."""
    for section in _NAMED:
        for key, resource in (tree.get(section) or {}).items():
            if resource is None:
                tree[section][key] = Map()
    for service in (tree.get("services") or {}).values():
        build = service.get("build")
        if type(build) is Map and "context" not in build:
            build.put("context", directory, (0, 0))
        for holder in list_containers(service):
            for secret in holder.get("secrets") or ():
                if type(secret) is Map and "target" not in secret and secret.get("source"):
                    secret.put("target", f"/run/secrets/{secret['source']}", (0, 0))
            _default_counts(holder)
        for dependency in (service.get("depends_on") or {}).values():
            if "required" not in dependency:
                dependency.put("required", True, (0, 0))


def list_containers(service: Map) -> list[Map]:
    """The service and its ``pre_start`` containers: whatever says what a container is like."""
    hooks = service.get("pre_start")
    return [service, *(hook for hook in hooks if type(hook) is Map)] if hooks else [service]


def _default_counts(service: Map) -> None:
    requests = list(service.get("gpus") or ())
    deploy = service.get("deploy") or {}
    reservations = (deploy.get("resources") or {}).get("reservations") or {}
    for request in (*requests, *(reservations.get("devices") or ())):
        if type(request) is Map and "count" not in request and "device_ids" not in request:
            request.put("count", -1, (0, 0))


def resolve_names(tree: Map, environment: Mapping[str, str]) -> None:
    """Give names without a value the value that the environment has; build arguments that stay without one vanish."""
    for service in (tree.get("services") or {}).values():
        _resolve_variables(service, environment)
        for attribute in _HOOKS:
            for hook in service.get(attribute) or ():
                _resolve_variables(hook, environment)
        build = service.get("build")
        arguments = build.get("args") if type(build) is Map else None
        if type(arguments) is Map:
            for name in [name for name, value in arguments.items() if value is None]:
                if name in environment:
                    arguments[name] = environment[name]
                else:
                    del arguments[name]


def _resolve_variables(holder: Any, environment: Mapping[str, str]) -> None:
    variables = holder.get("environment") if type(holder) is Map else None
    if type(variables) is Map:
        for name, value in variables.items():
            if value is None and name in environment:
                variables[name] = environment[name]


def normalize_stack(tree: Map, name: str, directory: str, home: str, problems: Problems, *, resolve: bool) -> None:
    """Add implicit networks and dependencies, names of resources and canonical spellings, in place."""
    services: Map = tree.setdefault("services", Map())
    uses_default = False
    for service in services.values():
        for holder in list_containers(service):
            _clean_targets(holder)
        uses_default = _attach_default(service) or uses_default
        _infer_dependencies(service)
        build = service.get("build")
        if type(build) is Map and "dockerfile" not in build and "dockerfile_inline" not in build:
            build.put("dockerfile", "Dockerfile", (0, 0))
        deploy = service.get("deploy")
        if type(deploy) is Map and service.get("scale") is not None and "replicas" not in deploy:
            deploy.put("replicas", service["scale"], service.marks["scale"])
        if service.get("pull_policy") == "if_not_present":
            service["pull_policy"] = "missing"
    if uses_default:
        networks: Map = tree.setdefault("networks", Map())
        if "default" not in networks:
            networks.put("default", Map(), (0, 0))
    for section in _NAMED:
        for key, resource in (tree.get(section) or {}).items():
            if section == "volumes" and resolve:
                _resolve_device(resource, directory, home)
            if section != "models":
                _name_resource(resource, (section, key), name, problems)


def _attach_default(service: Map) -> bool:
    if "network_mode" in service or "provider" in service:
        return False
    networks = service.get("networks")
    if not networks:
        attached = Map()
        attached.put("default", None, (0, 0))
        service.put("networks", attached, (0, 0))
        return True
    return "default" in networks


def _clean_targets(service: Map) -> None:
    volumes = service.get("volumes")
    if type(volumes) is not Seq:
        return
    for mount in volumes:
        if type(mount) is Map and isinstance(mount.get("target"), str):
            mount["target"] = clean_path(mount["target"])
    service["volumes"] = unify_items(_volumes_row(), volumes)


def _volumes_row() -> Any:
    from orchestrator.spec.attributes import SERVICE

    return SERVICE.fields["volumes"]


def _infer_dependencies(service: Map) -> None:
    """What shares a namespace, is linked to or mounts another service's volumes has to start after it."""
    for holder in list_containers(service):
        # What only its pre_start containers need does not have to be there later.
        stays = holder is service
        for index, link in enumerate(holder.get("links") or ()):
            _depend(service, str(link).partition(":")[0], holder["links"].marks[index], restart=stays)
        for attribute in _NAMESPACES:
            mode = holder.get(attribute)
            if isinstance(mode, str) and mode.startswith("service:"):
                _depend(service, mode[8:], holder.marks[attribute][1], restart=stays)
        for index, source in enumerate(holder.get("volumes_from") or ()):
            if not str(source).startswith("container:"):
                _depend(service, str(source).partition(":")[0], holder["volumes_from"].marks[index], restart=False)


def _depend(service: Map, name: str, mark: Mark, *, restart: bool) -> None:
    dependencies = service.get("depends_on")
    if type(dependencies) is not Map:
        dependencies = Map()
        service.put("depends_on", dependencies, (mark, mark))
    if name not in dependencies:
        dependency = {"condition": "service_started", "required": True}
        dependencies.put(name, plant({**dependency, "restart": True} if restart else dependency, mark), (mark, mark))


def _name_resource(resource: Map, path: Path, project: str, problems: Problems) -> None:
    key = str(path[-1])
    external = resource.get("external")
    if type(external) is Map:
        if external.get("name") and resource.get("name"):
            problems.report(
                "conflicting-attributes",
                "name and external.name exclude each other",
                external.marks["name"][0],
                (*path, "external", "name"),
                "keep name, and write external: true",
            )
        elif "name" in external:
            resource.put("name", external["name"], external.marks["name"])
        resource["external"] = True
    if "name" not in resource:
        resource.put("name", key if resource.get("external") else f"{project}_{key}", (0, 0))


def _resolve_device(volume: Map, directory: str, home: str) -> None:
    """A local volume of the bind type names a directory of the host."""
    options = volume.get("driver_opts")
    if type(options) is Map and volume.get("driver", "local") == "local" and options.get("device"):
        flags = str(options.get("o", "")).split(",")
        if "bind" in flags or "rbind" in flags:
            options["device"] = absolute_path(options["device"], directory, home)


def split_profiles(tree: Map, profiles: Iterable[str], targets: Iterable[str]) -> tuple[Map, Map]:
    """Return the active services and those that no profile switches on.

    Services named as `targets` are active, and so is every service of their profiles.
    """
    services: Map = tree.get("services") or Map()
    # Where none is asked for, a profile whose name is empty (an unset variable) is on.
    active = set(profiles) or {""}
    for target in targets:
        service = services.get(target)
        if service is not None and not _is_active(service, active):
            active.update(service.get("profiles") or ())
    on, off = Map(), Map()
    for name, service in services.items():
        (on if _is_active(service, active) else off).put(name, service, services.marks[name])
    return on, off


def find_dormant(active: Map, disabled: Map) -> Map:
    """The builds of those services that a profile keeps off, and that what is active is built from, directly or not."""
    found = Map()
    waiting = list(active.values())
    while waiting:
        build = waiting.pop().get("build")
        contexts = build.get("additional_contexts") if type(build) is Map else None
        for context in (contexts or {}).values():
            name = context.removeprefix("service:") if isinstance(context, str) else ""
            if name == context or name not in disabled or name in found:
                continue
            service, alone = disabled[name], Map()
            for key in service:
                if key in ("image", "build", "platform"):
                    alone.put(key, service[key], service.marks[key])
            found.put(name, alone, disabled.marks[name])
            waiting.append(alone)
    return found


def _is_active(service: Map, active: set[str]) -> bool:
    own = service.get("profiles")
    return not own or "*" in active or not active.isdisjoint(own)


def resolve_env_files(loader: LayerLoader, services: Map, environment: Mapping[str, str]) -> None:
    """Merge the env files and label files of `services` below what the services say themselves, in place."""
    for name, service in services.items():
        known = loader.included_variables.get(name, environment)
        for number, holder in enumerate(list_containers(service)):
            path: Path = ("services", name, "pre_start", number - 1) if number else ("services", name)
            if holder.get("env_file"):
                _merge_env_files(loader, holder, (*path, "env_file"), known)
            if holder.get("label_file"):
                _merge_label_files(loader, holder, (*path, "label_file"), known)


def _lookup_in(environment: Mapping[str, str], values: Map) -> Callable[[str], str | None]:
    def lookup(name: str) -> str | None:
        found = environment.get(name)
        return found if found is not None else values.get(name)

    return lookup


def _merge_env_files(loader: LayerLoader, service: Map, path: Path, environment: Mapping[str, str]) -> None:
    values = Map()
    own = service.get("environment") or Map()
    known = Map()
    known.update({name: value for name, value in own.items() if value is not None})
    files = service["env_file"]
    for index, (entry, mark) in enumerate(zip(files, files.marks, strict=True)):
        if type(entry) is not Map or "path" not in entry or (loader.problems.keep_templates and "$" in entry["path"]):
            continue
        if not entry["path"]:
            if entry.get("required", True):
                loader.report_empty_path("the env file", mark, (*path, index))
            continue
        found = loader.read_env_file(
            entry["path"],
            _lookup_in(environment, known),
            mark,
            (*path, index),
            raw=entry.get("format") == "raw",
            required=entry.get("required", True),
        )
        for name, (value, place) in found.items():
            values.put(name, value, (place, place))
            if name not in own:
                known[name] = value
    for name, value in own.items():
        if value is not None or name not in values:
            values.put(name, value, own.marks[name])
    service.put("environment", values, service.marks["env_file"])


def _merge_label_files(loader: LayerLoader, service: Map, path: Path, environment: Mapping[str, str]) -> None:
    labels = Map()
    files = service["label_file"]
    for index, (file, mark) in enumerate(zip(files, files.marks, strict=True)):
        if not file:
            loader.report_empty_path("the label file", mark, (*path, index))
            continue
        found = loader.read_env_file(file, _lookup_in(environment, labels), mark, (*path, index))
        for name, (value, place) in found.items():
            labels.put(name, value, (place, place))
    own = service.get("labels") or Map()
    for name, value in own.items():
        labels.put(name, value, own.marks[name])
    service.put("labels", labels, service.marks["label_file"])


def prune_resources(tree: Map, services: Map, dormant: Mapping[str, Map] = _NONE) -> None:
    """Drop the networks, volumes, secrets, configs and models that neither `services` nor `dormant` uses, in place."""
    used: dict[str, set[str]] = {section: set() for section in _NAMED}
    for service in (*services.values(), *dormant.values()):
        used["models"].update(service.get("models") or ())
        build = service.get("build")
        build_secrets = build.get("secrets") if type(build) is Map else None
        used["secrets"].update(item.get("source", "") for item in build_secrets or () if type(item) is Map)
        for holder in list_containers(service):
            used["networks"].update(holder.get("networks") or ())
            for mount in holder.get("volumes") or ():
                if type(mount) is Map and mount.get("type") == "volume" and mount.get("source"):
                    used["volumes"].add(mount["source"])
            for section in ("secrets", "configs"):
                items = holder.get(section) or ()
                used[section].update(item.get("source", "") for item in items if type(item) is Map)
    for section in _NAMED:
        if section not in tree:
            continue
        kept = Map()
        for key, resource in tree[section].items():
            if key in used[section]:
                kept.put(key, resource, tree[section].marks[key])
        tree[section] = kept
