"""Restart policies: whether, when, and why not."""

from __future__ import annotations

import pytest

from orchestrator.model import RestartPolicy
from orchestrator.restart import (
    GiveUp,
    History,
    RestartAt,
    decide_restart,
    recall_history,
    record_exit,
    record_restart,
)
from orchestrator.state import Container


def ended(code: int, start: float = 100.0, end: float = 101.0, **fields: object) -> Container:
    return Container(
        id="1", name="n", project="p", service="s", number=1, image="i", image_id="d", status="exited",
        exit_code=code, started_at=start, finished_at=end, **fields,
    )  # fmt: skip


def decide(policy: RestartPolicy, container: Container, history: History | None = None) -> RestartAt | GiveUp:
    return decide_restart(policy, record_exit(history or History(), policy, container), container.finished_at)


@pytest.mark.parametrize(
    ("condition", "code", "again"),
    [
        ("no", 1, False),
        ("no", 0, False),
        ("always", 0, True),
        ("always", 1, True),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
    ],
)
def test_the_condition_decides(condition: str, code: int, again: bool) -> None:
    assert isinstance(decide(RestartPolicy(condition=condition), ended(code)), RestartAt) is again  # type: ignore[arg-type]


@pytest.mark.parametrize("condition", ["always", "unless-stopped", "on-failure"])
def test_what_the_user_stopped_stays_stopped(condition: str) -> None:
    found = decide(RestartPolicy(condition=condition), ended(137, hold=True))  # type: ignore[arg-type]
    assert found == GiveUp(reason="stopped by the user")


def crash(policy: RestartPolicy, runs: list[float]) -> list[float]:
    """The waits after runs of these lengths, until it gives up."""
    history, now, waits = History(), 100.0, []
    for length in runs:
        history = record_exit(history, policy, ended(1, now, now + length))
        decision = decide_restart(policy, history, now + length)
        if isinstance(decision, GiveUp):
            return waits
        assert decision.time == pytest.approx(now + length + decision.wait)
        waits.append(decision.wait)
        history = record_restart(history, decision)
        now = decision.time
    return waits


def test_waits_double_up_to_a_minute() -> None:
    waits = crash(RestartPolicy(condition="always"), [1.0] * 13)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60, 60])


def test_ten_seconds_of_running_reset_the_wait() -> None:
    assert crash(RestartPolicy(condition="always"), [1, 1, 1, 10, 1]) == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2])


def test_attempts_run_out() -> None:
    policy = RestartPolicy(condition="on-failure", max_attempts=2)
    assert len(crash(policy, [1.0] * 5)) == 2
    last = decide_restart(policy, History(exit_code=7, failures=2, restarts=2), 0.0)
    assert last == GiveUp(reason="exited with code 7; gave up after 2 restarts", final=True)


def test_a_run_longer_than_the_window_was_a_success() -> None:
    policy = RestartPolicy(condition="on-failure", max_attempts=2, window=5)
    assert len(crash(policy, [1, 1, 6, 1, 1, 1])) == 4


def test_a_given_delay_takes_the_place_of_the_back_off() -> None:
    assert crash(RestartPolicy(condition="always", delay=5), [1, 1, 1]) == [5, 5, 5]


def test_a_new_supervisor_goes_on_where_the_last_one_was() -> None:
    policy = RestartPolicy(condition="always")
    container = ended(1, restart_count=4)
    history = record_exit(recall_history(container), policy, container)
    decision = decide_restart(policy, history, 200.0)
    assert isinstance(decision, RestartAt)
    assert decision.wait == pytest.approx(1.6)
    assert decision.time == 200.0
    assert "attempt 5" in decision.reason
