"""``services.*.build`` of a stack file as a :class:`BuildRequest`. Pure: what is not in the stack comes in with the
options.

The attributes are those of the Compose Build Specification. What a build here cannot honour yields a diagnostic at its
line: an error where the image would be another one, a warning where only something beside it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.request import ENTITLEMENTS, BuildRequest, BuildSecret, SshSource
from orchestrator.engines.native.images.reference import parse_reference
from orchestrator.errors import Diagnostic, StackError
from orchestrator.goal import BuildOptions
from orchestrator.model import Ulimit, image_reference, list_buildable
from orchestrator.source import Path, render_path

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack

_NO_OPTIONS = BuildOptions()
_SSH_AGENT = "SSH_AUTH_SOCK"

Report = Callable[..., None]
"""Takes a message and the attribute's path below ``build``; ``hint=``, ``warning=``."""


def check_builds(stack: Stack) -> list[Diagnostic]:
    """Everything under ``build`` of any service that the native engine cannot honour, at its line. Pure."""
    found: list[Diagnostic] = []
    every = list_buildable(stack)
    for name in sorted(every):
        if every[name].build is not None:
            found += translate_build(stack, every[name], check=True)[1]
    return found


def translate_build(
    stack: Stack,
    service: Service,
    *,
    options: BuildOptions = _NO_OPTIONS,
    images: Mapping[str, str] | None = None,
    host_platform: str = "",
    check: bool = False,
) -> tuple[BuildRequest, list[Diagnostic]]:
    """Return what has to be built for `service`, and what of it cannot be honoured.

    `images` maps names of services to the identifiers of their images, for ``additional_contexts: service:NAME``.
    `host_platform` (``os/arch[/variant]``) is chosen out of several platforms unless the options ask for all. With
    `check` nothing is said about what only the moment of the build can tell (an agent, an image).
    """
    assert service.build is not None
    config = service.build.config
    found: list[Diagnostic] = []

    def report(message: str, *path: str | int, hint: str = "", warning: bool = False) -> None:
        full: Path = ("services", service.name, "build", *path)
        location = stack.sources.locate(full)
        kind = "warning" if warning else "error"
        found.append(Diagnostic("unsupported-by-engine", message, location, render_path(full), hint, kind))  # type: ignore[arg-type]

    _report_without_effect(config, report)
    args = _merge_args(config, options)
    request = BuildRequest(
        name=service.name,
        context=config.get("context"),
        dockerfile=config.get("dockerfile") if not config.get("dockerfile_inline") else None,
        inline=config.get("dockerfile_inline"),
        target=config.get("target"),
        args=args,
        tags=_list_tags(stack, service, config, report),
        labels={str(key): _text(value) for key, value in _pairs(config.get("labels")).items()},
        platforms=_choose_platforms(service, config, options, host_platform, report),
        contexts=_resolve_contexts(config, images, report, check=check),
        no_cache=bool(config.get("no_cache")) or options.no_cache,
        pull=bool(config.get("pull")) or options.pull,
        network=_read_network(config, report),
        extra_hosts=tuple(_split_host(str(one)) for one in config.get("extra_hosts") or ()),
        shm_size=int(config["shm_size"]) if config.get("shm_size") else None,
        ulimits=_read_ulimits(config, report),
        privileged=bool(config.get("privileged")),
        entitlements=_read_entitlements(config, report),
        secrets=_read_secrets(stack, config, report),
        ssh=_read_ssh(config, options, report, check=check),
        cache_from=tuple(config.get("cache_from") or ()),
        cache_to=tuple(config.get("cache_to") or ()),
        source_date_epoch=_read_epoch(args, options, report),
        provenance=_read_provenance(config, options, report),
    )
    return request, found


def _report_without_effect(config: Mapping[str, Any], report: Report) -> None:
    isolation = config.get("isolation")
    if isolation not in (None, "", "default"):
        report(f"isolation {isolation} is for Windows containers", "isolation", hint="take it away")
    if is_asked_for(config.get("sbom")):
        report("software bills of materials are not made: the image comes without", "sbom", warning=True)


def _read_provenance(config: Mapping[str, Any], options: BuildOptions, report: Report) -> str:
    from orchestrator.engines.native.dockerfile.provenance import parse_provenance

    if options.provenance is not None:
        return options.provenance
    value = config.get("provenance")
    try:
        return parse_provenance("" if value is None else str(value))
    except StackError as error:
        report(error.message, "provenance", hint=error.hint)
        return ""


def is_asked_for(value: Any) -> bool:
    """Whether ``sbom`` asks for an attestation: anything but false and ``disabled=true``."""
    text = str("" if value is None else value).strip().lower()
    return text not in ("", "false", "0", "f", "disabled=true")


def _merge_args(config: Mapping[str, Any], options: BuildOptions) -> dict[str, str]:
    """Build arguments: the predefined proxies, the file's, then the command line's."""
    args = dict(options.proxies)
    # One without a value has none in the environment either: as if it were not there.
    args.update({str(key): _text(value) for key, value in _pairs(config.get("args")).items() if value is not None})
    args.update(options.args)
    return args


def _list_tags(stack: Stack, service: Service, config: Mapping[str, Any], report: Report) -> tuple[str, ...]:
    tags = [image_reference(stack, service)]
    for index, tag in enumerate(config.get("tags") or ()):
        try:
            parsed = parse_reference(str(tag))
        except StackError as error:
            report(error.message, "tags", index, hint=error.hint)
            continue
        if parsed.digest:
            report(f"{tag} has a digest: a tag is a name without one", "tags", index)
        else:
            tags.append(str(tag))
    return tuple(dict.fromkeys(tags))


def _choose_platforms(
    service: Service, config: Mapping[str, Any], options: BuildOptions, host_platform: str, report: Report
) -> tuple[str, ...]:
    listed = tuple(str(one) for one in config.get("platforms") or ())
    _check_platforms(listed, report)
    default = options.environment.get("DOCKER_DEFAULT_PLATFORM")
    if listed and default and default not in listed:
        what = "build.platforms does not support value set by DOCKER_DEFAULT_PLATFORM"
        report(f'service "{service.name}" {what}: {default}', "platforms", hint=f"there are {', '.join(listed)}")
    if options.every_platform and len(listed) > 1:
        return listed
    wanted = service.platform or default
    if wanted:
        return (wanted,)
    if host_platform in listed or not listed:
        return (host_platform,) if listed else ()
    return listed[:1]


def _check_platforms(listed: Sequence[str], report: Report) -> None:
    if not listed:
        return
    from orchestrator.engines.native.images.failures import UnsupportedImage
    from orchestrator.engines.native.images.platform import parse_platform

    for index, one in enumerate(listed):
        try:
            parse_platform(one)
        except UnsupportedImage as error:
            report(f"no match for platform {one}: {error.message}", "platforms", index, hint=error.hint)


def _resolve_contexts(
    config: Mapping[str, Any], images: Mapping[str, str] | None, report: Report, *, check: bool
) -> dict[str, str]:
    contexts: dict[str, str] = {}
    for name, value in _pairs(config.get("additional_contexts")).items():
        text = _text(value)
        if text.startswith("service:"):
            source = text.removeprefix("service:")
            image = (images or {}).get(source)
            if image is None and not check:
                report(f"the image of service {source} is not here", "additional_contexts", name)
            text = f"docker-image://{image}" if image else text
        contexts[str(name)] = text
    return contexts


def _read_network(config: Mapping[str, Any], report: Report) -> str:
    network = str(config.get("network") or "default")
    if network not in ("default", "bridge", "none", "host"):
        report(f"a build cannot join the network {network}", "network", hint="one of default, none, host")
        return "default"
    return "default" if network == "bridge" else network


def _read_entitlements(config: Mapping[str, Any], report: Report) -> tuple[str, ...]:
    entitlements = tuple(str(one) for one in config.get("entitlements") or ())
    for index, one in enumerate(entitlements):
        if one not in ENTITLEMENTS:
            report(f"there is no entitlement {one}", "entitlements", index, hint=f"one of {', '.join(ENTITLEMENTS)}")
    return tuple(one for one in entitlements if one in ENTITLEMENTS)


def _read_secrets(stack: Stack, config: Mapping[str, Any], report: Report) -> tuple[BuildSecret, ...]:
    secrets = []
    for index, entry in enumerate(config.get("secrets") or ()):
        mount = entry if isinstance(entry, Mapping) else {"source": entry}
        source = stack.secrets.get(str(mount.get("source")))
        if source is None:
            report(f"there is no secret {mount.get('source')}", "secrets", index)
            continue
        beside = [name for name in ("uid", "gid", "mode") if mount.get(name) is not None]
        if beside:
            hint = "write them in the Dockerfile: RUN --mount=type=secret,..."
            report(f"{', '.join(beside)} of a build secret have no effect", "secrets", index, hint=hint, warning=True)
        # RUN --mount names a secret by what the service calls it.
        identity = str(mount.get("target") or source.key).removeprefix("/run/secrets/")
        held = source.value if source.value is not None else source.content
        if held is not None:
            secrets.append(BuildSecret(id=identity, content=held.encode("utf-8", "surrogateescape")))
        elif source.file is not None:
            secrets.append(BuildSecret(id=identity, file=source.file))
        elif source.environment is not None:
            message = f"the variable {source.environment} of secret {source.key} is not set"
            report(message, "secrets", index, hint=f"set {source.environment} before the build", warning=True)
        else:
            report(f"the external secret {source.key} cannot be read", "secrets", index, hint="use file or environment")
    return tuple(secrets)


def _read_ssh(
    config: Mapping[str, Any], options: BuildOptions, report: Report, *, check: bool
) -> tuple[SshSource, ...]:
    sources = {}
    for index, entry in enumerate(options.ssh or _ssh_entries(config.get("ssh"))):
        source = parse_ssh(entry)
        if not source.paths and options.environment.get(_SSH_AGENT):
            source = source.replace(paths=(options.environment[_SSH_AGENT],))
        if not source.paths and not check:
            place = () if options.ssh else ("ssh", index)
            hint = f"start an agent, or name a key: {source.id}=/path/to/key"
            report(f"invalid empty ssh agent socket: make sure {_SSH_AGENT} is set ({source.id})", *place, hint=hint)
        sources[source.id] = source
    return tuple(sources.values())


def parse_ssh(text: str) -> SshSource:
    """Read ``default``, ``ID`` or ``ID=PATH[,PATH...]``. Pure."""
    identity, _, paths = text.partition("=")
    return SshSource(id=identity or "default", paths=tuple(one for one in paths.split(",") if one))


def _ssh_entries(value: Any) -> Sequence[str]:
    if isinstance(value, Mapping):
        return [f"{key}={path}" if path else str(key) for key, path in value.items()]
    return [str(one) for one in value or ()]


def _read_epoch(args: Mapping[str, str], options: BuildOptions, report: Report) -> int | None:
    text = args.get("SOURCE_DATE_EPOCH", options.environment.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not text.isdecimal():
        report(f"SOURCE_DATE_EPOCH={text} is no number of seconds", "args", "SOURCE_DATE_EPOCH")
        return None
    return int(text)


def _read_ulimits(config: Mapping[str, Any], report: Report) -> dict[str, Ulimit]:
    found = {str(name): _bind_ulimit(value) for name, value in (config.get("ulimits") or {}).items()}
    if found:
        from orchestrator.engines.native.runtime.facts import RLIMITS

        for name in found.keys() - RLIMITS.keys():
            report(f"{name} is not a limit", "ulimits", name, hint=f"one of {', '.join(RLIMITS)}")
    return found


def _bind_ulimit(value: Any) -> Ulimit:
    if isinstance(value, Mapping):
        soft = int(value.get("soft", value.get("hard", 0)))
        return Ulimit(soft=soft, hard=int(value.get("hard", soft)))
    return Ulimit(soft=int(value), hard=int(value))


def _split_host(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not equals:
        name, _, address = text.partition(":")
    return name, address


def _pairs(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for one in value or ():
        name, equals, text = str(one).partition("=")
        found[name] = text if equals else None
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
