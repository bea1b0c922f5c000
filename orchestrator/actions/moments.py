"""Times on the command line: ``--since 10m``, ``--until 2026-11-23T08:00:00Z``, ``--tail``. Pure."""

from __future__ import annotations

from orchestrator.errors import UsageError

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_moment(text: str | None, now: float, option: str) -> float | None:
    """Read an RFC 3339 time, a date, seconds since the epoch, or a duration before `now`. Raises UsageError."""
    if text is None:
        return None
    found = _parse_number(text)
    if found is None:
        span = _parse_go_duration(text)
        found = _parse_iso(text) if span is None else now - span
    if found is None:
        raise UsageError(
            f"{option}: cannot read the time {text!r}",
            hint="write 10m, 1h30m, 2026-11-23T08:00:00Z, 2026-11-23 or seconds since the epoch",
        )
    return found


def parse_tail(text: str) -> int | None:
    """Read ``--tail``: a number of lines, or None for ``all``. Raises UsageError."""
    if text in ("all", "-1"):
        return None
    if not text.isdecimal():
        raise UsageError(f"--tail: {text!r} is neither a number of lines nor `all`")
    return int(text)


def _parse_number(text: str) -> float | None:
    whole, _, part = text.partition(".")
    if whole.isdecimal() and len(whole) > 4 and (part.isdecimal() or not part):
        return float(text)
    return None


def _parse_go_duration(text: str) -> float | None:
    import re

    if not re.fullmatch(r"-?([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+", text):
        return None
    spans = re.findall(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)", text)
    return sum(float(count) * _UNITS[unit] for count, unit in spans)


def _parse_iso(text: str) -> float | None:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
