"""An image as the engine sees it. On the hot road of every `up`: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ImageConfig(NamedTuple):
    """The execution defaults of an image (OCI image-spec, "config" object).

    `entrypoint` and `cmd` are None when the image does not set them. `exposed_ports` are ``"80/tcp"``; `healthcheck` is
    the raw Docker form (``Test``, ``Interval`` ... with durations in nanoseconds).
    """

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = _NOTHING
    stop_signal: str | None = None
    healthcheck: Mapping[str, Any] | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()


class Image(NamedTuple):
    """One image of the local store.

    `id` is ``sha256:`` and the digest of its configuration; `layers` are the unpacked directories, topmost first, ready
    for overlay's lowerdir; `diff_ids` are in the order of the configuration, base first. A layer that was committed
    locally and never written as a tar has an identifier ``snapshot:...`` there. `size` is in bytes, unpacked.
    `created` is RFC 3339 text, empty when the image does not say; `platform` is ``os/architecture[/variant]``.
    `moments` tells by name when it was ``tagged``, and last ``pulled`` and ``built`` (seconds since the epoch).
    """

    id: str
    references: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    config: ImageConfig = ImageConfig()
    layers: tuple[Path, ...] = ()
    diff_ids: tuple[str, ...] = ()
    size: int = 0
    created: str = ""
    platform: str = ""
    moments: Mapping[str, Mapping[str, float]] = _NOTHING


class RemovedImage(NamedTuple):
    """What a removal did: references that went, images that were deleted, bytes of layers given back."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    reclaimed: int = 0


def parse_image_config(raw: Mapping[str, Any]) -> ImageConfig:
    """Read the ``config`` object of an OCI or Docker image configuration. Absent and null mean the same."""
    return ImageConfig(
        env=_texts(raw.get("Env")) or (),
        entrypoint=_texts(raw.get("Entrypoint")),
        cmd=_texts(raw.get("Cmd")),
        user=str(raw.get("User") or ""),
        working_dir=str(raw.get("WorkingDir") or ""),
        exposed_ports=_normal_ports(raw.get("ExposedPorts")),
        volumes=tuple(sorted(raw.get("Volumes") or ())),
        labels={str(k): str(v) for k, v in (raw.get("Labels") or {}).items()},
        stop_signal=str(raw["StopSignal"]) if raw.get("StopSignal") else None,
        healthcheck=raw.get("Healthcheck") or None,
        shell=_texts(raw.get("Shell")),
        on_build=_texts(raw.get("OnBuild")) or (),
    )


def _texts(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):  # very old images hold one string
        return (value,)
    return tuple(str(one) for one in value)


def _normal_ports(value: Any) -> tuple[str, ...]:
    ports = (str(one) for one in value or ())
    return tuple(sorted(one if "/" in one else f"{one}/tcp" for one in ports))
