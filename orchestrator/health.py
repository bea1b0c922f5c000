"""Health checks, pure: when to probe next, and what the results mean. Semantics are Docker's.

A container with a check begins as starting. One success makes it healthy; `retries` failures in a row make it
unhealthy; failures during the start period do not count as long as no probe has succeeded. A probe is due one interval
after the start and after the end of each probe; while starting, and inside a start period, the interval is
`start_interval`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.model import Probe
    from orchestrator.state import HealthStatus


class Check(Record):
    """A health check with every default applied. `test` begins with CMD or CMD-SHELL; times are seconds."""

    test: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0
    start_interval: float = 5.0


class Health(Record):
    """What is known after the probes so far; `next_at` is when the next one is due (epoch seconds)."""

    status: HealthStatus
    failing_streak: int
    next_at: float


class ProbeResult(Record):
    """One probe: when it began and ended (epoch seconds), whether it succeeded, and the end of its output."""

    started_at: float
    finished_at: float
    success: bool
    output: str = ""


def resolve_check(service: Probe | None, image: Probe | None = None) -> Check | None:
    """Merge a service's health check over its image's; None where there is none, or it is switched off.

    A zero or missing timing falls to the image's, then to the default.
    """
    if service is not None and (service.disable or service.test == ("NONE",)):
        return None
    test = service.test if service is not None and service.test else image.test if image is not None else None
    if not test or test == ("NONE",):
        return None
    given = [probe for probe in (service, image) if probe is not None]
    default = Check(test=test)
    return Check(
        test=test,
        interval=next((one.interval for one in given if one.interval), default.interval),
        timeout=next((one.timeout for one in given if one.timeout), default.timeout),
        retries=next((one.retries for one in given if one.retries), default.retries),
        start_period=next((one.start_period for one in given if one.start_period), default.start_period),
        start_interval=next((one.start_interval for one in given if one.start_interval), default.start_interval),
    )


def begin_health(check: Check, started_at: float) -> Health:
    """The health of a container that has just started."""
    return Health(status="starting", failing_streak=0, next_at=started_at + _interval(check, "starting", 0.0))


def resume_health(check: Check, status: HealthStatus | None, started_at: float, now: float) -> Health:
    """The health of a container that ran while nobody probed it: its last known status, probed at once."""
    if status is None:
        status = "starting"
    return Health(
        status=status,
        failing_streak=check.retries if status == "unhealthy" else 0,
        next_at=max(now, started_at + _interval(check, "starting", 0.0)) if status == "starting" else now,
    )


def record_probe(check: Check, health: Health, result: ProbeResult, started_at: float) -> Health:
    """Return the health after one more probe of the container that started at `started_at`."""
    status, streak = health.status, health.failing_streak
    if result.success:
        status, streak = "healthy", 0
    elif status != "starting" or result.started_at - started_at >= check.start_period:
        streak += 1
        if streak >= check.retries:
            status = "unhealthy"
    pause = _interval(check, status, result.finished_at - started_at)
    return Health(status=status, failing_streak=streak, next_at=result.finished_at + pause)


def _interval(check: Check, status: HealthStatus, age: float) -> float:
    in_start_period = status == "starting" and age < check.start_period
    return check.start_interval if in_start_period else check.interval
