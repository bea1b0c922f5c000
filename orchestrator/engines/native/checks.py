"""What of a service this engine or this host cannot honour, each at its line, before anything starts.

Pure but for devices that go by a name: for them the host's CDI files are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.engines.native.runtime.bundle import normalize_capability, parse_security_options
from orchestrator.engines.native.runtime.cdi import find_device_problems
from orchestrator.engines.native.runtime.devices import parse_device_rule
from orchestrator.engines.native.runtime.facts import RLIMITS
from orchestrator.engines.native.runtime.resources import fit_oom_score, render_resources, render_rlimits
from orchestrator.errors import Diagnostic
from orchestrator.source import Path, SourceMap, render_path

if TYPE_CHECKING:
    from orchestrator.engines.native.runtime.facts import HostFacts
    from orchestrator.model import Service

LOG_DRIVERS: Final = ("json-file", "local", "k8s-file", "none")
_LOG_OPTIONS: Final = ("max-size", "max-file", "mode", "compress", "labels", "env", "tag", "max-buffer-size")
_SECURITY_HINT: Final = "use no-new-privileges, seccomp=..., apparmor=..., label=disable or systempaths=unconfined"
_SYSTEM_V: Final = "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced"
_IPC_SYSCTLS: Final = tuple(f"kernel.{name}" for name in _SYSTEM_V.split())


def check_service(service: Service, facts: HostFacts, sources: SourceMap | None = None) -> list[Diagnostic]:
    """Errors for what cannot be done, warnings for limits that have to be bent."""
    from orchestrator.engines.native.host import CAPABILITIES

    found: list[Diagnostic] = []

    def report(code: str, message: str, *path: str | int, hint: str = "", warning: bool = False) -> None:
        full: Path = ("services", service.name, *path)
        location = sources.locate(full) if sources is not None else None
        found.append(Diagnostic(code, message, location, render_path(full), hint, "warning" if warning else "error"))

    options = parse_security_options(service)
    for index, option in options.unknown:
        name = option.partition("=")[0].partition(":")[0]
        hint = "only label=disable is possible here" if name == "label" else _SECURITY_HINT
        report("unsupported", f"{option} cannot be honoured", "security_opt", index, hint=hint)
    _check_apparmor(service, options.apparmor, facts, report)
    for attribute, names in (("cap_add", service.cap_add), ("cap_drop", service.cap_drop)):
        for index, name in enumerate(names):
            capability = normalize_capability(name)
            if capability != "CAP_ALL" and capability not in CAPABILITIES:
                report("unknown-capability", f"{name} is not a capability", attribute, index, hint=_nearest(name))
            elif attribute == "cap_add" and capability != "CAP_ALL" and capability not in facts.capabilities:
                message = f"this process does not hold {capability} and cannot give it away"
                report("capability-missing", message, attribute, index, warning=True)
    for name in service.ulimits:
        if name not in RLIMITS:
            report("unknown-ulimit", f"{name} is not a limit", "ulimits", name, hint=f"one of {', '.join(RLIMITS)}")
    for index, rule in enumerate(service.device_cgroup_rules):
        try:
            parse_device_rule(rule)
        except ValueError as error:
            report("invalid-device-rule", str(error), "device_cgroup_rules", index)
    for place, problem in find_device_problems(service):
        message = problem.message.partition(": ")[2] or problem.message
        report("device-missing", message, *place, hint=problem.hint)
    _check_sysctls(service, report)
    if service.logging.driver not in (None, *LOG_DRIVERS):
        report(
            "unsupported",
            f"there is no logging driver {service.logging.driver!r} here",
            "logging",
            "driver",
            hint=f"one of {', '.join(LOG_DRIVERS)}",
        )
    for name in service.logging.options:
        if name not in _LOG_OPTIONS:
            report("unsupported", f"the logging option {name} cannot be honoured", "logging", "options", name)
    if service.logging.options:
        _check_log_sizes(service, report)
    _check_processors(service, facts, report)
    if service.init and (service.pid or "").startswith(("service:", "container:")):
        report("unsupported", "an init process needs a pid namespace of its own", "init", hint="remove pid or init")
    blocks = {
        entry["path"]: (0, 0)
        for key, entries in service.resources.blkio.items()
        if key != "weight"
        for entry in entries
    }
    for _rendered, warnings in (
        render_resources(service, facts, blocks, sources),
        render_rlimits(service, facts, sources),
        fit_oom_score(service, facts, sources),
    ):
        found += warnings
    return found


def _check_apparmor(service: Service, profile: str, facts: HostFacts, report: _Report) -> None:
    if not profile or profile in (facts.apparmor or ()):
        return
    index = next((at for at, one in enumerate(service.security_opt) if one.endswith(profile)), 0)
    if facts.apparmor is None:
        message, hint = "this kernel does not use AppArmor", "only apparmor=unconfined is possible here"
    else:
        message, hint = f"the AppArmor profile {profile} is not loaded", "load it with apparmor_parser -r FILE"
    report("unsupported", message, "security_opt", index, hint=hint)


def _check_log_sizes(service: Service, report: _Report) -> None:
    from orchestrator.engines.native.runtime.log_rotation import parse_log_policy
    from orchestrator.errors import EngineError

    try:
        parse_log_policy(service.logging)
    except EngineError as error:
        attribute, _, message = error.message.partition(": ")
        report("not-allowed", message, *attribute.split("."), hint=error.hint)


def _check_processors(service: Service, facts: HostFacts, report: _Report) -> None:
    wanted = service.resources.cpuset
    ends = [int(one) for part in (wanted or "").split(",") for one in part.split("-") if one.isdigit()]
    if ends and max(ends) >= facts.processors:
        hint = f"they are counted from 0 to {facts.processors - 1}"
        report("out-of-range", f"this host has no processor {max(ends)}", "cpuset", hint=hint)


def _check_sysctls(service: Service, report: _Report) -> None:
    for name in service.sysctls:
        if name.startswith("net."):
            if service.network_mode == "host":
                message = "the host's network settings are not the container's to change"
                report("sysctl-not-namespaced", message, "sysctls", name, hint="remove it, or network_mode: host")
        elif name.startswith("fs.mqueue.") or name in _IPC_SYSCTLS:
            if service.ipc == "host":
                report("sysctl-not-namespaced", "it belongs to the host's IPC namespace", "sysctls", name)
        else:
            report(
                "sysctl-not-namespaced",
                f"{name} is a setting of the whole host",
                "sysctls",
                name,
                hint="set it on the host with sysctl -w",
            )


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    from orchestrator.engines.native.host import CAPABILITIES

    close = get_close_matches(normalize_capability(name), CAPABILITIES, 1)
    return f"did you mean {close[0].removeprefix('CAP_')}?" if close else ""


if TYPE_CHECKING:
    from typing import Protocol

    class _Report(Protocol):
        def __call__(
            self, code: str, message: str, *path: str | int, hint: str = "", warning: bool = False
        ) -> None: ...
