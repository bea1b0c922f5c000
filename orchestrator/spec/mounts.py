"""The short syntaxes of ``volumes`` and ``devices``, and how their paths are read."""

from __future__ import annotations

from typing import Any

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_KNOWN_OPTIONS = frozenset(
    (*_PROPAGATIONS, "ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "default")
)


class MountError(Exception):
    """A volume or device specification that cannot be meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_volume(spec: str) -> tuple[dict[str, Any], list[str]]:
    """Parse ``[SOURCE:]TARGET[:OPTIONS]`` into a mount and the options that mean nothing. Raises MountError."""
    if not spec:
        raise MountError("a volume must not be empty", "write SOURCE:TARGET, as in ./data:/data")
    if len(spec) < 3:
        return {"type": "volume", "target": spec}, []
    fields = _split_fields(spec)
    if any(not field for field in fields):
        raise MountError(f"{spec!r} has an empty part between colons", "write SOURCE:TARGET, as in ./data:/data")
    if len(fields) > 3:
        raise MountError(f"{spec!r} has too many colons", "write SOURCE:TARGET:OPTIONS; options are joined by commas")
    source = fields[0] if len(fields) > 1 else ""
    mount: dict[str, Any] = {"type": "volume", "target": fields[1] if source else fields[0]}
    if source:
        mount["source"] = source
    unknown = _apply_options(mount, fields[2].split(",")) if len(fields) == 3 else []
    if is_host_path(source):
        mount["type"] = "bind"
        mount.setdefault("bind", {})["create_host_path"] = True
    else:
        mount.setdefault("volume", {})
    return mount, unknown


def _split_fields(spec: str) -> list[str]:
    fields = []
    start = 0
    for index, char in enumerate(spec):
        if char == ":" and not (index - start == 1 and spec[start].isalpha()):
            fields.append(spec[start:index])
            start = index + 1
    fields.append(spec[start:])
    return fields


def _apply_options(mount: dict[str, Any], options: list[str]) -> list[str]:
    for option in options:
        if option == "ro":
            mount["read_only"] = True
        elif option == "rw":
            mount["read_only"] = False
        elif option == "nocopy":
            mount["volume"] = {"nocopy": True}
        elif option in _PROPAGATIONS:
            mount.setdefault("bind", {})["propagation"] = option
        elif option in ("z", "Z"):
            mount.setdefault("bind", {})["selinux"] = option
    return [option for option in options if option not in _KNOWN_OPTIONS]


def is_host_path(source: str) -> bool:
    """Tell a host path (``./x``, ``/x``, ``~/x``, ``C:\\x``) from a volume's name."""
    if not source:
        return False
    return source[0] in "./~" or source.startswith("\\\\") or (source[0].isalpha() and source[1:2] == ":")


def parse_device(spec: str) -> dict[str, Any]:
    """Parse ``SOURCE[:TARGET[:PERMISSIONS]]`` into a canonical device. Raises MountError."""
    fields = spec.split(":")
    if len(fields) > 3:
        raise MountError(f"{spec!r} is no device", "write SOURCE:TARGET:PERMISSIONS, as in /dev/fuse:/dev/fuse:rwm")
    device = {"source": fields[0], "target": fields[0], "permissions": "rwm"}
    if len(fields) == 2 and fields[1].strip("rwm") == "" and fields[1]:
        device["permissions"] = fields[1]
    elif len(fields) > 1:
        device["target"] = fields[1] or fields[0]
    if len(fields) == 3:
        device["permissions"] = fields[2]
    return device


def clean_path(path: str) -> str:
    """Clean a slash-separated path lexically: no ``.``, no ``..`` that can be resolved, no repeated or final slash."""
    if "/." not in path and "//" not in path and not path.startswith(".") and not path.endswith("/") and path:
        return path
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".." or not rooted:
            parts.append(part)
    cleaned = "/".join(parts)
    return "/" + cleaned if rooted else cleaned or "."
