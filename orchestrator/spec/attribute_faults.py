"""Attributes of one service whose words mean nothing to any engine: a signal, an address or a platform that is none.

What is looked at is only what an engine would find out when it is too late: while the container starts, or when it
has to stop. Part of :mod:`orchestrator.spec.faults`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from orchestrator.spec.ports import is_address

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class _Report(Protocol):
        def __call__(self, code: str, message: str, *path: str | int, hint: str = "") -> None: ...


_SIGNAL_NAMES: Final = (
    "TERM KILL INT QUIT HUP USR1 USR2 WINCH STOP CONT ABRT ALRM BUS CHLD CLD FPE ILL IO IOT PIPE POLL PROF PWR "
    "SEGV STKFLT SYS TRAP TSTP TTIN TTOU URG VTALRM XCPU XFSZ RTMIN RTMAX"
)
_SIGNALS: Final = tuple(f"SIG{name}" for name in _SIGNAL_NAMES.split())
_NUMBERED: Final = re.compile(r"RTM(IN\+|AX-)([0-9]|[12][0-9]|30)")
_EXPOSED: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(?:tcp|udp|sctp))?", re.IGNORECASE)
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}")
_PLATFORM: Final = re.compile(r"[a-zA-Z0-9_.-]+(?:/[a-zA-Z0-9_.-]+){0,2}")
_CPUS: Final = re.compile(r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*")
_SHARING: Final = ("service:", "container:")
_MODES: Final = {
    "pid": ("host", "service:NAME", "container:NAME"),
    "ipc": ("private", "shareable", "none", "host", "service:NAME", "container:NAME"),
    "uts": ("host", "service:NAME", "container:NAME"),
    "cgroup": ("host", "private"),
}


def is_signal(text: str) -> bool:
    """Whether `text` names a signal of Linux: ``SIGTERM``, ``term``, ``15``, ``SIGRTMIN+3``."""
    name = text.strip().upper()
    if name.isascii() and name.isdigit():
        return 0 < int(name) <= 64
    bare = name.removeprefix("SIG")
    return f"SIG{bare}" in _SIGNALS or _NUMBERED.fullmatch(bare) is not None


def report_attributes(config: Mapping[str, Any], report: _Report) -> None:
    """Report what is wrong with the attributes of the canonical service `config`, each at its path below it."""
    signal = config.get("stop_signal")
    if signal and not is_signal(str(signal)):
        hint = _suggest(_with_sig(str(signal)), _SIGNALS) or "write SIGTERM, SIGINT, SIGQUIT or another, or its number"
        report("not-allowed", f"{signal!r} is no signal", "stop_signal", hint=hint)
    for index, server in enumerate(config.get("dns") or ()):
        if not is_address(str(server)):
            report("bad-address", f"{server!r} is no IP address", "dns", index, hint="name servers go by their address")
    for index, port in enumerate(config.get("expose") or ()):
        if not _is_exposed(str(port)):
            report("bad-port", f"{port!r} is no port", "expose", index, hint="write 80, 53/udp or 8000-8010")
    for path, address in _list_link_addresses(config):
        if not _MAC.fullmatch(str(address)):
            report("bad-address", f"{address!r} is no MAC address", *path, hint="write 02:42:ac:11:00:02")
    _report_modes(config, report)
    _report_process(config, report)
    _report_limits(config, report)
    test = (config.get("healthcheck") or {}).get("test")
    if isinstance(test, (list, tuple)) and len(test) == 1 and test[0] in ("CMD", "CMD-SHELL"):
        hint = 'write what to run behind it: ["CMD", "curl", "-f", "http://localhost"]'
        report("bad-probe", f"{test[0]} has nothing to run", "healthcheck", "test", hint=hint)
    _report_same_ports(config, report)


def _suggest(word: str, known: tuple[str, ...]) -> str:
    from orchestrator.spec.casts import suggest_name

    return suggest_name(word, known)


def _with_sig(text: str) -> str:
    return f"SIG{text.strip().upper().removeprefix('SIG')}"


def _is_exposed(text: str) -> bool:
    found = _EXPOSED.fullmatch(text)
    return found is not None and 0 < int(found[1]) <= int(found[2] or found[1]) < 65_536


def _list_link_addresses(config: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = [(("mac_address",), config.get("mac_address"))]
    for key, attachment in (config.get("networks") or {}).items():
        found.append((("networks", key, "mac_address"), (attachment or {}).get("mac_address")))
    return [one for one in found if one[1]]


def _report_modes(config: Mapping[str, Any], report: _Report) -> None:
    for attribute, words in _MODES.items():
        mode = str(config.get(attribute) or "")
        if not mode or mode in words or (mode.startswith(_SHARING) and "service:NAME" in words):
            continue
        hint = _suggest(mode, words) or f"use {', '.join(words[:-1])} or {words[-1]}"
        report("not-allowed", f"{mode!r} is not something that {attribute} can be", attribute, hint=hint)


def _report_process(config: Mapping[str, Any], report: _Report) -> None:
    folder = config.get("working_dir")
    if folder and not str(folder).startswith("/"):
        hint = f"it is a path in the container: did you mean /{str(folder).removeprefix('./')}?"
        report("bad-path", f"{folder!r} is not an absolute path", "working_dir", hint=hint)
    platform = config.get("platform")
    if platform and not _PLATFORM.fullmatch(str(platform)):
        hint = "write the system, the processor and its variant: linux/amd64, linux/arm/v7"
        report("not-allowed", f"{platform!r} is no platform", "platform", hint=hint)
    parent = str(config.get("cgroup_parent") or "")
    if ".." in parent.split("/"):
        hint = "name a group below the root of the control groups: /my-group"
        report("bad-path", f"{parent!r} leads out of the tree of control groups", "cgroup_parent", hint=hint)


def _report_limits(config: Mapping[str, Any], report: _Report) -> None:
    for name, limit in (config.get("ulimits") or {}).items():
        soft, hard = (limit.get("soft"), limit.get("hard")) if hasattr(limit, "get") else (None, None)
        # -1 is no limit at all.
        if isinstance(soft, int) and isinstance(hard, int) and hard >= 0 and (soft > hard or soft < 0):
            message = f"the soft limit {'unlimited' if soft < 0 else soft} is above the hard limit {hard}"
            report("out-of-range", message, "ulimits", name, hint="the soft limit is at most the hard one")
    cpus = config.get("cpuset")
    if cpus and not _CPUS.fullmatch(str(cpus)):
        report("not-allowed", f"{cpus!r} is no list of processors", "cpuset", hint="write 0-3, or 0,2")
    swappiness = config.get("mem_swappiness")
    if isinstance(swappiness, int) and not -1 <= swappiness <= 100:
        report("out-of-range", f"{swappiness} is not between 0 and 100", "mem_swappiness")


def _report_same_ports(config: Mapping[str, Any], report: _Report) -> None:
    """One port of the host cannot lead to two ports of a container."""
    taken: dict[tuple[str, str, str], Any] = {}
    for index, port in enumerate(config.get("ports") or ()):
        published = str(port.get("published") or "")
        if not published.isdigit() or published == "0":
            continue
        key = (published, str(port.get("host_ip") or ""), str(port.get("protocol") or "tcp"))
        first = taken.setdefault(key, port.get("target"))
        if first != port.get("target"):
            message = f"host port {published}/{key[2]} is published twice, for {first} and {port.get('target')}"
            report("conflicting-attributes", message, "ports", index, hint="give each a host port of its own")
