"""Platforms: ``os/architecture[/variant]``, this machine's own, and which of an index's entries fits best. Pure but
for `detect_platform` and `detect_level`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from orchestrator.engines.native.images.failures import UnsupportedImage

_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
}
_ARCHITECTURES = frozenset(
    (
        *("amd64", "386", "arm", "arm64", "ppc64le", "ppc64", "s390x", "riscv64"),
        *("mips", "mipsle", "mips64", "mips64le", "loong64", "wasm"),
    )
)
# What the kernel calls the instructions of x86-64-v2, -v3 and -v4 (psABI).
_LEVELS = (
    "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3",
    "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "avx512f avx512bw avx512cd avx512dq avx512vl",
)
# What a machine of a variant can run, the best first.
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")


class Platform(NamedTuple):
    """One platform. `variant` is empty where there is only one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def parse_platform(text: str) -> Platform:
    """Parse ``linux/arm64/v8``, ``linux/amd64`` or just ``arm64``. Raises UnsupportedImage."""
    parts = text.strip().lower().split("/")
    if len(parts) == 1:
        parts = [parts[0], ""] if parts[0] in ("linux", "windows", "darwin") else ["linux", parts[0]]
    if len(parts) > 3 or not parts[0]:
        raise UnsupportedImage(
            f"invalid platform {text!r}", operation="parse platform", hint="for example linux/amd64 or linux/arm64/v8"
        )
    architecture = parts[1] or detect_platform().architecture
    variant = parts[2] if len(parts) == 3 else ""
    platform = normalize_platform(parts[0], architecture, variant)
    if platform.architecture not in _ARCHITECTURES:
        raise UnsupportedImage(
            f"unknown architecture {platform.architecture!r} in the platform {text!r}", operation="parse platform"
        )
    return platform


def normalize_platform(system: str, architecture: str, variant: str = "") -> Platform:
    """Give a platform its customary names: x86_64 is amd64, arm is arm/v7, arm64/v8 is arm64."""
    architecture, implied = _ALIASES.get(architecture, (architecture, ""))
    variant = variant or implied
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return Platform(system, architecture, variant)


def detect_platform() -> Platform:
    """The platform of this machine."""
    return normalize_platform("linux", os.uname().machine)


def detect_level() -> int:
    """Which of the x86-64 microarchitecture levels 1 to 4 this machine's processor has."""
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return 1
    level = 1
    for needed in _LEVELS:
        if not flags.issuperset(needed.split()):
            break
        level += 1
    return level


def rank_platform(offered: Platform, wanted: Platform) -> int | None:
    """How well `offered` serves `wanted`: 0 is exact, larger is worse, None does not fit."""
    if offered.os != wanted.os:
        return None
    if offered.architecture == wanted.architecture:
        if offered.variant == wanted.variant:
            return 0
        return _rank_variant(offered, wanted)
    if wanted.architecture == "arm64" and offered.architecture == "arm":
        # 64-bit ARM machines run 32-bit programs; nothing promises it, so it comes last.
        return 100 + (_ARM_VARIANTS.index(offered.variant) if offered.variant in _ARM_VARIANTS else 9)
    if wanted.architecture == "amd64" and offered.architecture == "386":
        return 100
    return None


def _rank_variant(offered: Platform, wanted: Platform) -> int | None:
    if offered.architecture == "arm":
        if offered.variant not in _ARM_VARIANTS or wanted.variant not in _ARM_VARIANTS:
            return None
        distance = _ARM_VARIANTS.index(offered.variant) - _ARM_VARIANTS.index(wanted.variant)
        return distance if distance >= 0 else None
    levels = [int(one.variant[1:]) if one.variant[1:].isdigit() else None for one in (offered, wanted)]
    have, want = (1 if not one.variant else level for one, level in zip((offered, wanted), levels, strict=True))
    if have is None or want is None:
        return None
    return want - have if have <= want else None


def choose_platform(offered: Iterable[Platform], wanted: Platform) -> int | None:
    """The position of the best entry, the first among equals, or None."""
    ranked = [(rank, at) for at, one in enumerate(offered) if (rank := rank_platform(one, wanted)) is not None]
    return min(ranked)[1] if ranked else None
