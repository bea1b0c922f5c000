"""Restart policies, pure: when a container that ended is started again, or why it is not.

Timing is Docker's: the first wait is 100 ms, every further one doubles up to a minute, and a container that ran for ten
seconds or more begins anew. ``deploy.restart_policy.delay`` replaces that by a fixed wait; with ``window`` only runs
shorter than it count towards ``max_attempts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.model import RestartPolicy
    from orchestrator.state import Container

FIRST_WAIT = 0.1
LONGEST_WAIT = 60.0
SETTLED_AFTER = 10.0
"""Seconds; a run of at least this length resets the back-off."""


class History(Record):
    """What is known of a container's runs: the last one, and what the earlier ones left behind.

    `restarts` counts the starts by policy since the user last started it (``Container.restart_count``); `failures`
    those of them that count towards ``max_attempts``; `wait` is the last back-off. `hold`: a user stopped it. Times are
    epoch seconds.
    """

    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    restarts: int = 0
    failures: int = 0
    wait: float = 0.0
    hold: bool = False
    unhealthy: bool = False
    """It was ended because it was unhealthy (``x-stack.restart_unhealthy``): a failure, whatever its exit code."""


class RestartAt(Record):
    """Start it again at `time` (epoch seconds, not before `now`); `wait` is the back-off, for the history."""

    time: float
    reason: str
    wait: float


class GiveUp(Record):
    """Leave it as it is. `final` is False where it simply was not to be restarted, True after too many attempts."""

    reason: str
    final: bool = False


def recall_history(container: Container) -> History:
    """Return the history of a container found ended, as far as the store knows it (after the supervisor died)."""
    ran = container.finished_at - container.started_at
    settled = ran >= SETTLED_AFTER
    doublings = min(container.restart_count - 1, 10)
    return History(
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code or 0,
        restarts=container.restart_count,
        failures=container.restart_count,
        wait=0.0 if settled or doublings < 0 else min(FIRST_WAIT * 2**doublings, LONGEST_WAIT),
        hold=container.hold,
    )


def record_exit(history: History, policy: RestartPolicy, container: Container, *, unhealthy: bool = False) -> History:
    """Return `history` with the end of one more run, read from the container as it was observed after it."""
    ran = container.finished_at - container.started_at
    settled = policy.window is not None and ran >= policy.window
    return history.replace(
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code or 0,
        failures=0 if settled else history.failures,
        hold=container.hold,
        unhealthy=unhealthy,
    )


def record_restart(history: History, decision: RestartAt) -> History:
    """Return `history` after the start that `decision` asked for."""
    return history.replace(restarts=history.restarts + 1, failures=history.failures + 1, wait=decision.wait)


def decide_restart(policy: RestartPolicy, history: History, now: float) -> RestartAt | GiveUp:
    """Say when a container that ended is started again, or why it is not."""
    ended = "became unhealthy" if history.unhealthy else f"exited with code {history.exit_code}"
    if history.hold:
        return GiveUp(reason="stopped by the user")
    if policy.condition == "no":
        return GiveUp(reason=f"{ended}; its restart policy is no")
    if policy.condition == "on-failure" and history.exit_code == 0 and not history.unhealthy:
        return GiveUp(reason="completed; its restart policy is on-failure")
    if policy.max_attempts is not None and 0 < policy.max_attempts <= history.failures:
        return GiveUp(reason=f"{ended}; gave up after {_times(history.failures)}", final=True)
    wait = _next_wait(policy, history)
    attempt = f"attempt {history.failures + 1}"
    if policy.max_attempts:
        attempt += f" of {policy.max_attempts}"
    reason = f"{ended}; restart policy {policy.condition}, {attempt}, after {wait:g} s"
    return RestartAt(time=max(now, history.finished_at + wait), reason=reason, wait=wait)


def _next_wait(policy: RestartPolicy, history: History) -> float:
    if policy.delay is not None:
        return policy.delay
    if history.wait <= 0 or history.finished_at - history.started_at >= SETTLED_AFTER:
        return FIRST_WAIT
    return min(history.wait * 2, LONGEST_WAIT)


def _times(count: int) -> str:
    return "1 restart" if count == 1 else f"{count} restarts"
