"""The ``config`` object of an OCI image, and how instructions change it. Pure."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")

FIELDS = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"),
    *("ArgsEscaped", "Healthcheck", "OnBuild", "StopTimeout", "Shell"),
)
"""What an image's configuration has, in the order that it is written in."""

Config = Mapping[str, Any]


def start_config(base: Config | None) -> dict[str, Any]:
    """The configuration that a stage begins with; None stands for an empty image.

    Triggers are taken out, PATH is put in, and what belongs to containers only (``Hostname``) goes.
    """
    if base is None:
        return {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"}
    config = order_config({name: base[name] for name in FIELDS if name in base and name != "OnBuild"})
    env = list(config.get("Env") or ())
    if not any(one.partition("=")[0] == "PATH" for one in env):
        env.append(f"PATH={DEFAULT_PATH}")
    config["Env"] = env
    return order_config(config)


def order_config(config: Config) -> dict[str, Any]:
    """`config` in the order of `FIELDS`, without what is empty."""
    known = {name: config[name] for name in FIELDS if config.get(name)}
    return {**known, **{name: value for name, value in config.items() if name not in FIELDS and value}}


def set_fields(config: Config, **fields: Any) -> dict[str, Any]:
    """A copy with `fields` set; empty values remove a field."""
    return order_config({**config, **fields})


def read_env(config: Config) -> dict[str, str]:
    """``Env`` as a mapping."""
    pairs = (one.partition("=") for one in config.get("Env") or ())
    return {name: value for name, _, value in pairs}


def set_env(config: Config, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A copy with variables set; those that are there already keep their place."""
    return set_fields(config, Env=[f"{name}={value}" for name, value in {**read_env(config), **dict(pairs)}.items()])


def join_working_dir(current: str, path: str) -> str:
    """The directory that WORKDIR leads to: absolute and without dots."""
    joined = posixpath.join("/", current, path)
    return "/" + posixpath.normpath(joined).lstrip("/")


def wrap_shell(config: Config, text: str) -> tuple[str, ...]:
    """The shell form as what is executed."""
    return (*(config.get("Shell") or DEFAULT_SHELL), text)


def quote_text(text: str) -> str:
    """As Go's ``%q``: for histories that look like Docker's."""
    return "".join(['"', *(_ESCAPES.get(char) or _quote_char(char) for char in text), '"'])


def quote_character(code: int) -> str:
    """As Go's ``%q`` of a number: the character of this code in single quotes."""
    char = chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
    inner = {"'": "\\'", '"': '"', "\0": "\\x00"}.get(char) or _ESCAPES.get(char) or _quote_char(char)
    return f"'{inner}'"


def quote_list(words: Sequence[str]) -> str:
    """As Go's ``%q`` of a list: ``["a" "b"]``."""
    return f"[{' '.join(quote_text(word) for word in words)}]"


def render_duration(nanoseconds: int) -> str:
    """As Go writes durations: ``1m30s``, ``500ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 10**9:
        unit, size = next((unit, size) for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if rest >= size)
        return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, seconds = divmod(rest, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{text}{_decimal(seconds, 10**9)}s"


_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    **dict(zip("\a\b\f\n\r\t\v", ("\\a", "\\b", "\\f", "\\n", "\\r", "\\t", "\\v"), strict=True)),
}


def _quote_char(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return json.dumps(char)[1:-1] if code < 0x10000 else f"\\U{code:08x}"


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)
