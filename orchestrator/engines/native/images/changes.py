"""``--change`` of import and commit: Dockerfile instructions that edit an image's configuration. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

from orchestrator.engines.native.images.failures import InvalidChange

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SHELL = ["/bin/sh", "-c"]


def apply_changes(config: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The configuration (Docker's field names) after `changes`. Raises InvalidChange."""
    result = dict(config)
    for change in changes:
        keyword, rest = _split_instruction(change)
        if keyword not in _INSTRUCTIONS:
            from difflib import get_close_matches

            near = get_close_matches(keyword, _INSTRUCTIONS, n=1)
            raise InvalidChange(
                f"{keyword or change!r} is not an instruction that --change knows",
                hint=f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(_INSTRUCTIONS)),
            )
        if not rest and keyword not in ("USER", "CMD", "ENTRYPOINT"):
            raise InvalidChange(f"{keyword} needs an argument")
        try:
            _INSTRUCTIONS[keyword](result, rest)
        except ValueError as error:
            raise InvalidChange(f"{keyword} {rest}: {error}") from error
    return result


def _split_instruction(change: str) -> tuple[str, str]:
    text = change.strip()
    end = next((at for at, char in enumerate(text) if char in " \t=["), len(text))
    keyword, rest = text[:end].upper(), text[end:].strip()
    return keyword, rest[1:].strip() if rest.startswith("=") else rest


def _parse_json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


def _set_command(field: str) -> Any:
    def change(config: dict[str, Any], rest: str) -> None:
        words = _parse_json_list(rest)
        if words is None:
            words = [*(config.get("Shell") or _SHELL), rest] if rest else []
        config[field] = words or None

    return change


def _parse_pairs(rest: str) -> dict[str, str]:
    """``a=1 b="two words"``, or the old form ``a the rest of the line``."""
    name, _, value = rest.partition(" ")
    if "=" not in name:
        if not value.strip():
            raise ValueError("expected NAME=VALUE")
        return {name: value.strip()}
    pairs = {}
    for word in shlex.split(rest):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"expected NAME=VALUE, found {word!r}")
        pairs[key] = value
    return pairs


def _change_env(config: dict[str, Any], rest: str) -> None:
    env = dict(one.partition("=")[::2] for one in config.get("Env") or ())
    config["Env"] = [f"{key}={value}" for key, value in (env | _parse_pairs(rest)).items()]


def _change_label(config: dict[str, Any], rest: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_parse_pairs(rest)}


def _change_expose(config: dict[str, Any], rest: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in rest.split():
        numbers, _, protocol = word.partition("/")
        first, dash, last = numbers.partition("-")
        start, end = _parse_port(first), _parse_port(last if dash else first)
        if end < start:
            raise ValueError(f"{numbers} ends before it begins")
        if protocol.lower() not in ("", "tcp", "udp", "sctp"):
            raise ValueError(f"unknown protocol {protocol!r}")
        ports |= {f"{number}/{protocol.lower() or 'tcp'}": {} for number in range(start, end + 1)}
    config["ExposedPorts"] = ports


def _parse_port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"invalid port {text!r}")
    return int(text)


def _change_volume(config: dict[str, Any], rest: str) -> None:
    paths = _parse_json_list(rest)
    if paths is None:
        paths = shlex.split(rest)
    if not all(path.strip() for path in paths):
        raise ValueError("a volume needs a path")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _change_user(config: dict[str, Any], rest: str) -> None:
    config["User"] = rest


def _change_workdir(config: dict[str, Any], rest: str) -> None:
    import posixpath

    path = shlex.split(rest)[0] if rest[0] in "'\"" else rest
    config["WorkingDir"] = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", path))


def _change_stop_signal(config: dict[str, Any], rest: str) -> None:
    import signal

    name = rest.upper()
    known = {one.name for one in signal.Signals}
    valid = 0 < int(name) < 65 if name.isdigit() else {name, f"SIG{name}"} & known or name.startswith("SIGRT")
    if not valid:
        raise ValueError("unknown signal")
    config["StopSignal"] = rest


def _change_on_build(config: dict[str, Any], rest: str) -> None:
    keyword = rest.split()[0].upper()
    if keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise ValueError(f"{keyword} is not allowed here")
    config["OnBuild"] = [*(config.get("OnBuild") or ()), rest]


def _change_healthcheck(config: dict[str, Any], rest: str) -> None:
    check: dict[str, Any] = {}
    names = {
        "--interval": "Interval",
        "--timeout": "Timeout",
        "--start-period": "StartPeriod",
        "--start-interval": "StartInterval",
    }
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, _, value = option.partition("=")
        if name in names:
            check[names[name]] = _parse_duration(value)
        elif name == "--retries":
            if not value.isdigit():
                raise ValueError(f"invalid number of retries {value!r}")
            check["Retries"] = int(value)
        else:
            raise ValueError(f"unknown option {name}")
        rest = rest.lstrip()
    keyword, _, command = rest.partition(" ")
    if keyword.upper() == "NONE":
        if check or command.strip():
            raise ValueError("NONE takes nothing else")
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    command = command.strip()
    if keyword.upper() != "CMD" or not command:
        raise ValueError("expected CMD and a command, or NONE")
    words = _parse_json_list(command)
    config["Healthcheck"] = {"Test": ["CMD-SHELL", command] if words is None else ["CMD", *words], **check}


def _parse_duration(text: str) -> int:
    """A Go duration (``1m30s``) in nanoseconds."""
    import re

    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"invalid duration {text!r}, expected for example 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _change_shell(config: dict[str, Any], rest: str) -> None:
    words = _parse_json_list(rest)
    if not words:
        raise ValueError('expected a JSON list, for example ["/bin/bash", "-c"]')
    config["Shell"] = words


_INSTRUCTIONS = {
    "CMD": _set_command("Cmd"),
    "ENTRYPOINT": _set_command("Entrypoint"),
    "ENV": _change_env,
    "EXPOSE": _change_expose,
    "HEALTHCHECK": _change_healthcheck,
    "LABEL": _change_label,
    "ONBUILD": _change_on_build,
    "SHELL": _change_shell,
    "STOPSIGNAL": _change_stop_signal,
    "USER": _change_user,
    "VOLUME": _change_volume,
    "WORKDIR": _change_workdir,
}
