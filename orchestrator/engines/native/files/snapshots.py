"""Layer chains as mounts: data only, the system calls stand in host.py. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount as the kernel wants it. `target` is for the caller to choose when it is None.

    `options` are single ``key`` or ``key=value`` texts, in order. For overlay each layer is a ``lowerdir+=`` of its
    own, topmost first: that is how fsconfig(2) takes them, without the one-page limit of mount(2).
    """

    type: str
    source: str
    options: tuple[str, ...] = ()
    target: Path | None = None


def overlay_mount(
    layers: Sequence[Path],
    upper: Path,
    work: Path,
    *,
    userxattr: bool = False,
    target: Path | None = None,
) -> Mount:
    """A writable view of a layer chain. `layers` are topmost first and not empty.

    `upper` and `work` stand on one filesystem; `userxattr` is for mounts inside a user namespace.
    """
    options = (*_render_lower(layers), f"upperdir={upper}", f"workdir={work}", *_render_flags(userxattr))
    return Mount("overlay", "overlay", options, target)


def read_only_mount(layers: Sequence[Path], *, userxattr: bool = False, target: Path | None = None) -> Mount:
    """A read-only view of a layer chain: an overlay without an upper directory, or a bind of a single layer."""
    if len(layers) == 1:
        return Mount("bind", str(layers[0]), ("ro",), target)
    return Mount("overlay", "overlay", ("ro", *_render_lower(layers), *_render_flags(userxattr)), target)


def render_legacy_options(mount: Mount) -> str:
    """The one text that mount(2) takes: ``lowerdir=a:b,upperdir=...``, with overlay's escapes. At most one page."""
    lower = [_escape(one.partition("=")[2]) for one in mount.options if one.startswith("lowerdir+=")]
    rest = [one for one in mount.options if not one.startswith("lowerdir+=") and one != "ro"]
    joined = [f"lowerdir={':'.join(lower)}"] if lower else []
    return ",".join((*joined, *(_escape_value(one) for one in rest)))


def _render_lower(layers: Sequence[Path]) -> tuple[str, ...]:
    if not layers:
        raise ValueError("an overlay needs at least one layer")
    return tuple(f"lowerdir+={layer}" for layer in layers)


def _render_flags(userxattr: bool) -> tuple[str, ...]:
    return ("userxattr",) if userxattr else ()


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _escape_value(option: str) -> str:
    key, equals, value = option.partition("=")
    return key + equals + value.replace("\\", "\\\\").replace(",", "\\,")
