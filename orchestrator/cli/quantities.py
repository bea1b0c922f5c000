"""Times and sizes in the words that Compose users know. Pure."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def render_duration(seconds: float) -> str:
    """``5 minutes``, ``About an hour``, ``3 weeks``: one unit, as `docker ps` says it."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, size, unit in (
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{int(seconds / 3600 / 24 / 365)} years"


def render_size(count: float) -> str:
    """``12.3MB``: decimal units, four figures at most."""
    return _render_units(count, _DECIMAL, 1000, 4)


def render_moment(moment: float) -> str:
    """``2026-11-23 11:00:00 +0000 UTC``, in local time, as Compose's JSON has it."""
    there = time.localtime(moment)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", there)


def shorten(text: str, width: int) -> str:
    """Cut `text` to `width` characters, the last of them an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def parse_size(text: str, option: str) -> int:
    """Bytes of ``512``, ``64m``, ``1.5GB``: powers of 1024, as docker reads them. Raises UsageError."""
    import re

    from orchestrator.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])i?)?b?", text.strip().lower())
    if found is None:
        raise UsageError(f"{option}: cannot read the size {text!r}", hint="write 512, 64m or 1.5g")
    return int(float(found[1]) * 1024 ** (" kmgtp".index(found[2]) if found[2] else 0))


def render_rate_size(count: float) -> str:
    """``1.1kB``: decimal units, three figures at most, as `docker stats` has traffic."""
    return _render_units(count, _DECIMAL, 1000, 3)


def render_binary_size(count: float) -> str:
    """``23.54GiB``: units of 1024, four figures at most, as `docker stats` has memory."""
    return _render_units(count, _BINARY, 1024, 4)


def _render_units(count: float, units: tuple[str, ...], step: int, figures: int) -> str:
    place = 0
    while count >= step and place < len(units) - 1:
        count /= step
        place += 1
    return f"{count:.{figures}g}{units[place]}"
