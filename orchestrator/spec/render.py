"""Canonical text of a model: keys sorted, dollar signs doubled so that the text is a stack file again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.spec.scalars import resolve_scalar

# The reference's JSON shows these with a capital letter, its YAML does not.
_JSON_NAMES = {"path": "Path", "rate": "Rate", "weight": "Weight"}

_ORDER = ("name", "services", "networks", "volumes", "secrets", "configs", "models")
_UNSET = ("command", "entrypoint")
# The reference's YAML has the parts of a port in this order, and those of everything else in that of their names.
_PORT = ("name", "mode", "host_ip", "target", "published", "protocol", "app_protocol")
_LONGEST_KEY = 1000
_CHOMPING = ("-", "", "+")
_UNPRINTABLE = "\x00-\x1f\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff"
# A first character that means nothing by itself, then neither ": " nor " #", and no space or colon at the end.
_PLAIN = re.compile(
    rf"(?!\.\.\.)[^\s{_UNPRINTABLE}\-?:,\[\]{{}}#&*!|>'\"%@`](?:[^{_UNPRINTABLE}:#]|:(?!\s|$)|(?<! )#)*(?<![\s:])"
)
# Compiled where it is needed: so large a set takes its time, and few stacks hold texts of several lines.
_BLOCK = rf"[^\s{_UNPRINTABLE}](?:[^{_UNPRINTABLE}]|[\n\t])*"
# Words, numbers, times and dates of YAML 1.1, and its two single characters with a meaning.
_OTHER = re.compile(
    r"(?i:y|yes|n|no|on|off|true|false|null)|[<]{2}|=|~|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?0[xob][0-9a-fA-F_]+"
)
_SPECIAL = re.compile(rf'["\\{_UNPRINTABLE}]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def render_json(tree: Mapping[str, Any], *, escape: bool = True, indent: int | None = 2) -> str:
    """Render a canonical tree as JSON, as ``stack config --format json`` prints it; ends without a line break.

    With `escape`, every ``$`` is written ``$$`` (off when interpolation is off).
    """
    import json

    text = json.dumps(_render_as_reference(tree), indent=indent, sort_keys=True, ensure_ascii=False, default=str)
    return text.replace("$", "$$") if escape else text


def _render_as_reference(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `tree` with what the reference writes in JSON alone."""
    services = tree.get("services") or {}
    if not any("blkio_config" in service or "develop" in service for service in services.values()):
        return tree
    shown = {}
    for name, service in services.items():
        config = service.get("blkio_config")
        if config is not None:
            service = {**service, "blkio_config": {key: _rename_devices(value) for key, value in config.items()}}
        develop = service.get("develop")
        if develop and develop.get("watch"):
            watch = [{**entry, "exec": {"command": None, **entry.get("exec", {})}} for entry in develop["watch"]]
            service = {**service, "develop": {**develop, "watch": watch}}
        shown[name] = service
    return {**tree, "services": shown}


def _rename_devices(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{_JSON_NAMES.get(key, key): item for key, item in device.items()} for device in value]


def render_yaml(tree: Mapping[str, Any], *, escape: bool = True) -> str:
    """Render a canonical tree as YAML, as ``stack config`` prints it: ``command`` and ``entrypoint`` only where set."""
    lines: list[str] = []
    shown, known = _without_unset(tree), dict[str, str]()
    # With variables left as they are the reference has no model to follow, only names.
    for key in sorted(shown, key=_rank if escape else None):
        _write_mapping({key: shown[key]}, "", lines, known)
    text = "\n".join(lines) + "\n" if lines else "{}\n"
    return text.replace("$", "$$") if escape else text


def _rank(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)


def _without_unset(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    services = tree.get("services")
    if not isinstance(services, Mapping):
        return tree
    shown = {
        name: {key: value for key, value in service.items() if value is not None or key not in _UNSET}
        for name, service in services.items()
    }
    networks = tree.get("networks")
    if not isinstance(networks, Mapping):
        return {**tree, "services": shown}
    return {**tree, "services": shown, "networks": {name: _without_empty_ipam(one) for name, one in networks.items()}}


def _without_empty_ipam(network: Any) -> Any:
    if not isinstance(network, Mapping) or network.get("ipam") != {}:
        return network
    return {key: value for key, value in network.items() if key != "ipam"}


# A library's emitter takes seconds for the largest files that are accepted; canonical trees need only a part of YAML.
def _write_mapping(tree: Mapping[str, Any], indent: str, lines: list[str], known: dict[str, str]) -> None:
    keys = sorted(tree)
    if "target" in tree and "mode" in tree and tree.keys() <= set(_PORT):
        keys.sort(key=_PORT.index)
    for key in keys:
        name = known.get(key) or known.setdefault(key, _quote(key))
        if len(name) > _LONGEST_KEY:
            lines.append(f"{indent}? {name}")
            name = ""
        _write_value(tree[key], f"{indent}{name}:", indent, lines, known)


def _write_sequence(items: Sequence[Any], indent: str, lines: list[str], known: dict[str, str]) -> None:
    for item in items:
        if item and isinstance(item, Mapping):
            start = len(lines)
            _write_mapping(item, indent + "  ", lines, known)
            lines[start] = f"{indent}- {lines[start][len(indent) + 2 :]}"
        else:
            _write_value(item, f"{indent}-", indent, lines, known)


def _write_value(value: Any, head: str, indent: str, lines: list[str], known: dict[str, str]) -> None:
    if isinstance(value, str):
        if "\n" in value and re.fullmatch(_BLOCK, value):
            kept = value.endswith("\n") + value.endswith("\n\n")
            lines.append(f"{head} |{_CHOMPING[kept]}")
            lines.extend(f"{indent}  {line}" if line else "" for line in value.removesuffix("\n").split("\n"))
        else:
            lines.append(f"{head} {known.get(value) or known.setdefault(value, _quote(value))}")
    elif isinstance(value, Mapping | list | tuple):
        if not value:
            lines.append(f"{head} {'{}' if isinstance(value, Mapping) else '[]'}")
            return
        lines.append(head)
        write = _write_mapping if isinstance(value, Mapping) else _write_sequence
        write(value, indent + "  ", lines, known)  # type: ignore[arg-type]
    else:
        lines.append(f"{head} {_write_plain(value)}")


def _write_plain(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return ".nan"
        if value in (math.inf, -math.inf):
            return ".inf" if value > 0 else "-.inf"
        return repr(value)
    return str(value)


def _quote(text: str) -> str:
    """Return `text` as a scalar of one line: plain where no reader of YAML 1.1 or 1.2 takes it for something else."""
    if _PLAIN.fullmatch(text) and not _OTHER.fullmatch(text) and isinstance(resolve_scalar(text), str):
        return text
    return '"' + _SPECIAL.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
