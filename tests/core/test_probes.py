"""The exec probe: success, failure, time-out, and a container that is not there."""

from __future__ import annotations

import pytest
from plan_runner import Runner
from stacks import bind_stack, want_all

from orchestrator.control_loop.probes.exec import run_exec_probe, translate_test
from orchestrator.health import Check, ProbeResult
from orchestrator.state import Container


@pytest.fixture
def runner() -> Runner:
    found = Runner()
    found.engine.publish_image("web:1")
    found.converge(want_all(bind_stack({"web": {}}), found.clock()))
    return found


def probe(runner: Runner, container: Container, *test: str, timeout: float = 5.0) -> ProbeResult:
    return run_exec_probe(runner.engine, container, Check(test=test, timeout=timeout), runner.clock)


@pytest.mark.parametrize(
    ("test", "success", "output"),
    [
        (("CMD", "true"), True, ""),
        (("CMD-SHELL", "echo fine"), True, "fine\n"),
        (("CMD-SHELL", "echo bad; exit 1"), False, "bad\n"),
        (("CMD", "sleep", "30"), False, "health check exceeded its timeout of 5 s"),
    ],
)
def test_the_exit_code_decides(runner: Runner, test: tuple[str, ...], success: bool, output: str) -> None:
    result = probe(runner, runner.engine.observe("app").containers[0], *test)
    assert (result.success, result.output) == (success, output)
    assert result.finished_at > result.started_at


def test_a_container_that_is_gone_fails_its_probe(runner: Runner) -> None:
    container = runner.engine.observe("app").containers[0]
    runner.engine.stop_container(container.id)
    result = probe(runner, container, "CMD", "true")
    assert not result.success
    assert "is not running" in result.output


def test_commands_go_to_the_shell_or_not() -> None:
    assert translate_test(("CMD", "a", "b")) == ("a", "b")
    assert translate_test(("CMD-SHELL", "a b")) == ("/bin/sh", "-c", "a b")
