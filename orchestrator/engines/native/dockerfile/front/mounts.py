"""``RUN --mount=...``: from the flag's text to a `RunMount`. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from orchestrator.engines.native.dockerfile.front.problems import Problem, suggest_name
from orchestrator.engines.native.dockerfile.front.steps import Origin, RunMount
from orchestrator.engines.native.dockerfile.front.values import parse_boolean, parse_id, parse_octal, parse_size
from orchestrator.source import Location

MountType = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_BOOLEAN = ("readonly", "readwrite", "required")
_OWNED = ("cache", "secret", "ssh")
_KEYS = {
    "type": TYPES,
    "from": ("bind", "cache", "tmpfs"),
    "source": ("bind", "cache", "tmpfs", "secret"),
    "target": TYPES,
    "readonly": TYPES,
    "readwrite": TYPES,
    "id": TYPES,
    "sharing": ("cache",),
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "mode": _OWNED,
    "uid": _OWNED,
    "gid": _OWNED,
    "env": ("secret",),
}
"""Every key with the types of mounts that it means something for."""


def split_mount(text: str) -> dict[str, str]:
    """The keys and values of a ``--mount`` flag; a key without value counts as ``true``. Raises Problem.

    Values are as written: :func:`read_mount` takes them when their variables are expanded.
    """
    import csv

    try:
        rows = list(csv.reader([text], strict=True)) if text else [[]]
    except csv.Error as error:
        raise Problem(f"--mount={text} is not a list of key=value: {error}", code="invalid-mount") from None
    pairs: dict[str, str] = {}
    for field in rows[0] if rows else ():
        key, equals, value = field.partition("=")
        key = key.lower()
        key = _ALIASES.get(key, key)
        if key not in _KEYS:
            hint = suggest_name(key, [*_KEYS, *_ALIASES], otherwise="known are " + ", ".join(sorted(_KEYS)))
            raise Problem(f"--mount has no key {key!r}", code="invalid-mount", hint=hint)
        if not equals and key not in _BOOLEAN:
            raise Problem(f"{key} of --mount needs a value", code="invalid-mount", hint=f"write {key}=...")
        if key == "from" and "$" in value.rstrip("$"):
            raise Problem(
                "from= of --mount cannot have variables",
                code="variable-not-supported",
                hint="name a stage with FROM ${...} AS name, where global ARGs count, and use that name",
            )
        pairs[key] = value if equals else "true"
    return pairs


def read_mount(
    pairs: Mapping[str, str], location: Location, working_dir: str, resolve: Callable[[str], Origin]
) -> RunMount:
    """The mount that `pairs` describe, with variables expanded. `resolve` finds what ``from`` names.

    Raises Problem.
    """
    kind = _read_choice(pairs, "type", TYPES) or "bind"
    for key in pairs:
        if kind not in _KEYS[key]:
            raise Problem(f"{key} means nothing for a mount of type {kind}", code="invalid-mount")
    fields = _read_common(pairs)
    target = pairs.get("target", "")
    read: Any = {"secret": _read_secret, "ssh": _read_ssh}.get(kind)
    if read is not None:
        fields |= read(pairs, target)
    else:
        fields |= _read_directory(pairs, kind, target, working_dir, resolve)
    return RunMount(type=cast(MountType, kind), location=location, **fields)


def find_origin(text: str) -> str | None:
    """What the ``from`` of a ``--mount`` flag names: empty for the build context, None if it takes no files."""
    try:
        pairs = split_mount(text)
    except Problem:
        return None
    if pairs.get("from"):
        return pairs["from"]
    kind = pairs.get("type", "bind").lower()
    return "" if kind == "bind" or "$" in kind else None


def _read_common(pairs: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, parse in (("uid", parse_id), ("gid", parse_id), ("mode", parse_octal), ("size", parse_size)):
        if key in pairs:
            fields[key] = _read_value(pairs, key, parse)
    if "required" in pairs:
        fields["required"] = _read_value(pairs, "required", parse_boolean)
    if sharing := _read_choice(pairs, "sharing", SHARING):
        fields["sharing"] = cast(Sharing, sharing)
    for key in ("readonly", "readwrite"):
        if key in pairs:
            fields["read_write"] = _read_value(pairs, key, parse_boolean) == (key == "readwrite")
    return fields


def _read_value(pairs: Mapping[str, str], key: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(pairs[key])
    except Problem as problem:
        raise Problem(f"{key} of --mount: {problem.message}", code="invalid-mount", hint=problem.hint) from None


def _read_choice(pairs: Mapping[str, str], key: str, known: tuple[str, ...]) -> str:
    value = pairs.get(key, "").lower()
    if key in pairs and value not in known:
        hint = suggest_name(value, known, otherwise="known are " + ", ".join(known))
        raise Problem(f"unsupported {key} {pairs[key]!r} of --mount", code="invalid-mount", hint=hint)
    return value


def _read_secret(pairs: Mapping[str, str], target: str) -> dict[str, Any]:
    if pairs.get("source") and pairs.get("id"):
        raise Problem("a secret has a source or an id, not both", code="invalid-mount")
    name = pairs.get("id") or pairs.get("source") or posixpath.basename(target)
    if not name:
        raise Problem("a secret needs an id or a target", code="invalid-mount", hint="write id=NAME")
    variable = pairs.get("env")
    place = posixpath.join("/", target) if target else None
    if place is None and variable is None:
        place = "/run/secrets/" + posixpath.basename(name)
    return {"id": name, "env": variable, "target": place}


def _read_ssh(pairs: Mapping[str, str], target: str) -> dict[str, Any]:
    return {"id": pairs.get("id") or "default", "target": posixpath.join("/", target) if target else None}


def _read_directory(
    pairs: Mapping[str, str], kind: str, target: str, working_dir: str, resolve: Callable[[str], Origin]
) -> dict[str, Any]:
    place = posixpath.normpath("/" + posixpath.join(working_dir, target).lstrip("/"))
    if place == "/":
        raise Problem(
            "--mount cannot be put over the root directory" if target else "--mount needs a target",
            code="invalid-mount",
            hint="write target=/some/directory",
        )
    name = pairs.get("from", "")
    fields: dict[str, Any] = {
        "target": place,
        "source": posixpath.normpath("/" + pairs.get("source", "").lstrip("/")),
        "id": pairs.get("id") or (posixpath.normpath(target or ".") if kind == "cache" else ""),
    }
    if name or kind == "bind":
        fields["origin"] = resolve(name) if name else Origin()
    if "readonly" not in pairs and "readwrite" not in pairs:
        fields["read_write"] = kind != "bind"
    return fields
