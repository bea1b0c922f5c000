"""``run``: a one-off container of a service, with what the command line says instead of what the file says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.actions.exec import parse_environment
from orchestrator.actions.goals import PullPolicy, UpOptions
from orchestrator.actions.names import select_services
from orchestrator.actions.prepare_up import prepare_up
from orchestrator.digest import config_hash
from orchestrator.engines.base import AttachRequest
from orchestrator.errors import EngineError, ModelError, NotFound, UsageError
from orchestrator.plan import CreateContainer
from orchestrator.reconcile.providers import inject_environment, is_provided
from orchestrator.record import Record
from orchestrator.spec.faults import check_faults

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.engines.base import Engine
    from orchestrator.goal import Goal
    from orchestrator.model import Service, Stack, Volume
    from orchestrator.state import Container

Converge = Callable[["Goal"], None]
"""Brings the project to a goal; raises StackError when that fails."""

Provided = Mapping[str, Mapping[str, str]]
"""Variables for dependents, by the provided service."""

_SLUG_BYTES = 6
_NOTHING: Mapping[str, str] = MappingProxyType({})


class RunOptions(Record):
    """What ``run`` can be asked for. None and empty leave the file's word as it is."""

    service: str
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    environment: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    user: str | None = None
    workdir: str | None = None
    name: str | None = None
    tty: bool = False
    stdin: bool = True
    detach: bool = False
    remove: bool = False
    service_ports: bool = False
    use_aliases: bool = False
    dependencies: bool = True
    remove_orphans: bool = False
    build: bool = False
    pull: PullPolicy = "policy"
    detach_keys: bytes = b"\x10\x11"


class OneOff(Record):
    """A one-off container to be: the stack with its service as it shall be, and the goal that makes everything ready.

    `outside` are volumes that the command line names and the file does not; they belong to no project.
    """

    options: RunOptions
    stack: Stack
    goal: Goal
    name: str
    outside: tuple[Volume, ...] = ()


def prepare_run(project: Project, options: RunOptions) -> OneOff:
    """Shape the service and make the goal. Raises NoSuchService, UsageError, ModelError for what cannot run."""
    stack = project.stack
    assert stack is not None
    select_services([options.service], stack.services, disabled=stack.disabled)
    check_faults(stack, [options.service])
    base = stack.services[options.service]
    name = options.name or stack.separator.join((stack.name, base.name, "run", os.urandom(_SLUG_BYTES).hex()))
    service = shape_service(base, options, stack, name, project.environment)
    outside = _find_outside(service, stack)
    changed = stack.replace(
        services={**stack.services, base.name: service},
        volumes={**stack.volumes, **{one.key: one for one in outside}},
    )
    return OneOff(options=options, stack=changed, goal=_make_goal(project, options), name=name, outside=outside)


def _make_goal(project: Project, options: RunOptions) -> Goal:
    """Want what the service depends on running, and its own image, networks and volumes there."""
    wish = UpOptions(
        services=(options.service,),
        dependencies=options.dependencies,
        remove_orphans=options.remove_orphans,
        pull=options.pull,
        build="always" if options.build else "policy",
    )
    goal = prepare_up(project, wish)
    wants = {name: want for name, want in goal.wants.items() if name != options.service}
    return goal.replace(wants=wants, prepare=(options.service,))


def shape_service(
    base: Service, options: RunOptions, stack: Stack, name: str, environment: Mapping[str, str] = _NOTHING
) -> Service:
    """The service as the one-off container shall have it. Pure but for files of variables. Raises UsageError.

    `environment` are the project's variables, for a name without a value.
    """
    from orchestrator.spec.bind import bind_service

    config = dict(base.config)
    for key in ("restart", "scale", "ports", "container_name"):
        config.pop(key, None)
    config["container_name"] = name
    deploy = config.get("deploy")
    if isinstance(deploy, Mapping):
        config["deploy"] = {key: value for key, value in deploy.items() if key not in ("restart_policy", "replicas")}
    if options.entrypoint is not None:
        config["entrypoint"] = [] if options.entrypoint in ("", '""') else _split_words(options.entrypoint)
        config["command"] = list(options.command)
    elif options.command:
        config["command"] = list(options.command)
    for key, value in (("user", options.user), ("working_dir", options.workdir)):
        if value is not None:
            config[key] = value
    config["tty"], config["stdin_open"] = options.tty, options.stdin
    config["environment"] = {**(config.get("environment") or {}), **_read_environment(options, environment)}
    config["labels"] = {**(config.get("labels") or {}), **_parse_labels(options.labels)}
    _change_capabilities(config, options)
    config["ports"] = [*((base.config.get("ports") or ()) if options.service_ports else ()), *_parse_ports(options)]
    config["volumes"] = _merge_volumes(config.get("volumes") or (), options.volumes, stack.directory)
    config["networks"] = _name_on_networks(config.get("networks") or {}, base.name, use_aliases=options.use_aliases)
    return bind_service(base.name, config, stack.services)


def _split_words(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--entrypoint: {error}: {text!r}") from None


def _read_environment(options: RunOptions, environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in options.env_files:
        found.update(read_env_file(path))
    return {**found, **parse_environment(options.environment, {**environment, **os.environ})}


def read_env_file(path: str) -> dict[str, str]:
    """Read a file of variables as ``env_file`` does. Raises UsageError, ModelError."""
    from orchestrator.spec.dotenv import parse_dotenv
    from orchestrator.spec.positions import Problems
    from orchestrator.spec.reader import DiskReader

    problems = Problems()
    try:
        text = DiskReader().read_text(path)
    except OSError as error:
        raise UsageError(f"--env-from-file: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--env-from-file: {path}: {error}") from None
    found = parse_dotenv(text, problems.register_file(path), problems, os.environ.get)
    if problems.found:
        raise ModelError(problems.found)
    return {name: value for name, (value, _mark) in found.items()}


def _parse_labels(words: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _change_capabilities(config: dict[str, Any], options: RunOptions) -> None:
    for mine, other, words in (
        ("cap_add", "cap_drop", options.cap_add),
        ("cap_drop", "cap_add", options.cap_drop),
    ):
        if words:
            config[mine] = list(dict.fromkeys((*(config.get(mine) or ()), *words)))
            config[other] = [one for one in config.get(other) or () if one not in words]


def _parse_ports(options: RunOptions) -> list[dict[str, Any]]:
    from orchestrator.spec.ports import PortError, parse_ports

    found = []
    for word in options.publish:
        try:
            found += parse_ports(word)
        except PortError as error:
            raise UsageError(f"--publish: {error}", hint=error.hint) from None
    return found


def _merge_volumes(present: Sequence[Any], words: Sequence[str], directory: str) -> list[Any]:
    """The mounts of the file, with those of the command line instead of the ones that have the same target."""
    from orchestrator.spec.mounts import MountError, parse_volume
    from orchestrator.spec.paths import absolute_path

    added = {}
    for word in words:
        try:
            mount, _unknown = parse_volume(word)
        except MountError as error:
            raise UsageError(f"--volume: {error}", hint=error.hint) from None
        if mount["type"] == "bind":
            mount["source"] = absolute_path(mount["source"], directory, os.path.expanduser("~"))
        added[mount["target"]] = mount
    return [*(one for one in present if one["target"] not in added), *added.values()]


def _name_on_networks(networks: Mapping[str, Any], service: str, *, use_aliases: bool) -> dict[str, Any]:
    """Without ``--use-aliases`` nobody finds the container by the service's names."""
    found = {}
    for key, value in networks.items():
        kept = dict(value or {})
        aliases = kept.pop("aliases", None) or []
        if use_aliases:
            kept["aliases"] = list(dict.fromkeys((service, *aliases)))
        found[key] = kept
    return found


def _find_outside(service: Service, stack: Stack) -> tuple[Volume, ...]:
    from orchestrator.model import Volume

    names = {one.source for one in service.volumes if one.type == "volume" and one.source is not None}
    return tuple(
        Volume(key=name, name=name, external=True, config=MappingProxyType({}))
        for name in sorted(names - stack.volumes.keys())
    )


def create_oneoff(engine: Engine, wanted: OneOff) -> Container:
    """Make the container, not started. Everything that it stands on is there. Raises EngineError."""
    options, stack = wanted.options, wanted.stack
    for volume in wanted.outside:
        engine.create_volume("", volume.replace(external=False))
    service = stack.services[options.service]
    made = engine.create_container(
        stack,
        CreateContainer(
            id=f"create {wanted.name}",
            subject=wanted.name,
            cause="it was asked for",
            service=service,
            number=1,
            container_name=wanted.name,
            config_hash=config_hash(service, stack, wanted.goal.file_digests),
            oneoff=True,
            called=not options.detach,
            # The command removes it itself, unless it is left or killed before its container has ended.
            auto_remove=options.remove,
        ),
    )
    found = next((one for one in engine.observe(stack.name).containers if one.id == made), None)
    if found is None:
        raise NotFound(f"{wanted.name} was removed before it could start", resource=wanted.name, operation="run")
    return found


def run_oneoff(
    engine: Engine, wanted: OneOff, make_ready: Converge, start: Converge, query_provided: Callable[[], Provided]
) -> tuple[int, Container]:
    """Make everything ready, create and start the container; attached, return its exit code (0 if it was left).

    `make_ready` may show what it does; `start` is called in a thread, with the terminal given away; `query_provided`
    says what providers have said. Raises StackError.
    """
    options = wanted.options
    make_ready(wanted.goal)
    if any(is_provided(one) for one in wanted.stack.services.values()):
        wanted = wanted.replace(stack=inject_environment(wanted.stack, query_provided()))
    container = create_oneoff(engine, wanted)
    goal = wanted.goal.replace(prepare=(), oneoffs=(container.id,))
    begun = False

    def begin() -> None:
        start(goal)

    try:
        if options.detach:
            begin()
            begun = True
            return 0, container
        request = AttachRequest(stdin=options.stdin, detach_keys=options.detach_keys)
        code = engine.attach_container(container, request, begin=begin)
        begun = True
    except BaseException:
        _end(engine, container, remove=options.remove or not begun)
        raise
    if code is not None and options.remove:
        # Who took the project down meanwhile has removed it.
        with contextlib.suppress(NotFound):
            engine.remove_container(container.id, volumes=True)
    return code or 0, container


def _end(engine: Engine, container: Container, *, remove: bool) -> None:
    """Deal with what is left of a container whose command was called off."""
    try:
        found = next((one for one in engine.observe(container.project).containers if one.id == container.id), None)
        if found is None:
            return
        if found.alive:
            engine.stop_container(found.id, timeout=0)
        if remove or found.status == "created":
            engine.remove_container(found.id, volumes=True)
    except EngineError:
        # The reason why it was called off is what counts.
        return
