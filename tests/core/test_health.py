"""Health checks: defaults, start period, retries, and when the next probe is due."""

from __future__ import annotations

import pytest

from orchestrator.health import Check, Health, ProbeResult, begin_health, record_probe, resolve_check, resume_health
from orchestrator.model import Probe

TEST = ("CMD", "true")


def probe(check: Check, health: Health, at: float, success: bool) -> Health:
    return record_probe(check, health, ProbeResult(started_at=at, finished_at=at + 1, success=success), 100.0)


def test_defaults_are_dockers() -> None:
    assert resolve_check(Probe(test=TEST)) == Check(
        test=TEST, interval=30, timeout=30, retries=3, start_period=0, start_interval=5
    )


def test_the_service_goes_over_the_image_setting_by_setting() -> None:
    image = Probe(test=TEST, interval=7.0, retries=9)
    assert resolve_check(Probe(interval=2.0), image) == Check(test=TEST, interval=2.0, retries=9)
    assert resolve_check(None, image) == Check(test=TEST, interval=7.0, retries=9)
    assert resolve_check(Probe(test=("CMD-SHELL", "x")), image).test == ("CMD-SHELL", "x")  # type: ignore[union-attr]


@pytest.mark.parametrize("service", [Probe(disable=True), Probe(test=("NONE",))])
def test_a_check_can_be_switched_off(service: Probe) -> None:
    assert resolve_check(service, Probe(test=TEST)) is None


def test_no_test_is_no_check() -> None:
    assert resolve_check(Probe(interval=1.0), None) is None
    assert resolve_check(None, Probe(test=("NONE",))) is None


def test_one_success_is_health_and_the_streak_begins_anew() -> None:
    check = Check(test=TEST, interval=10, retries=2)
    health = begin_health(check, 100.0)
    assert (health.status, health.next_at) == ("starting", 110.0)
    health = probe(check, health, 110, False)
    assert (health.status, health.failing_streak, health.next_at) == ("starting", 1, 121.0)
    health = probe(check, health, 121, True)
    assert (health.status, health.failing_streak) == ("healthy", 0)
    health = probe(check, probe(check, health, 132, False), 143, False)
    assert (health.status, health.failing_streak) == ("unhealthy", 2)
    assert probe(check, health, 154, True).status == "healthy"


def test_failures_in_the_start_period_do_not_count() -> None:
    check = Check(test=TEST, interval=10, retries=1, start_period=20, start_interval=2)
    health = begin_health(check, 100.0)
    assert health.next_at == 102.0
    health = probe(check, health, 102, False)
    assert (health.status, health.failing_streak, health.next_at) == ("starting", 0, 105.0)
    health = probe(check, health, 119, False)
    assert (health.status, health.next_at) == ("starting", 130.0)
    assert probe(check, health, 130, False).status == "unhealthy"


def test_after_the_first_success_the_start_period_is_over() -> None:
    check = Check(test=TEST, interval=10, retries=1, start_period=60, start_interval=2)
    health = probe(check, begin_health(check, 100.0), 102, True)
    assert (health.status, health.next_at) == ("healthy", 113.0)
    assert probe(check, health, 113, False).status == "unhealthy"


def test_an_adopted_container_keeps_its_health_and_is_probed_at_once() -> None:
    check = Check(test=TEST, interval=10, retries=2)
    assert resume_health(check, "healthy", 100.0, 500.0) == Health(status="healthy", failing_streak=0, next_at=500.0)
    unhealthy = resume_health(check, "unhealthy", 100.0, 500.0)
    assert probe(check, unhealthy, 500, False).status == "unhealthy"
    assert resume_health(check, None, 100.0, 103.0).next_at == 110.0
