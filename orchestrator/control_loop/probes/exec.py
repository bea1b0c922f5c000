"""The probe that Compose's ``healthcheck`` describes: a command in the container, whose exit code 0 is success."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.engines.base import ExecRequest
from orchestrator.errors import EngineError
from orchestrator.health import ProbeResult

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.health import Check
    from orchestrator.state import Container


def translate_test(test: tuple[str, ...]) -> tuple[str, ...]:
    """The command of a ``test``: ``CMD`` gives it word by word, ``CMD-SHELL`` hands one text to the image's shell."""
    return ("/bin/sh", "-c", *test[1:]) if test[0] == "CMD-SHELL" else test[1:]


def run_exec_probe(engine: Engine, container: Container, check: Check, clock: Callable[[], float]) -> ProbeResult:
    """Probe once; blocks for at most `check.timeout` seconds. What keeps the command from running is a failure too."""
    begun = clock()
    try:
        request = ExecRequest(command=translate_test(check.test))
        result = engine.exec_captured(container, request, timeout=check.timeout)
        success, output = result.exit_code == 0, result.output
        if result.timed_out:
            output += f"health check exceeded its timeout of {check.timeout:g} s"
    except EngineError as error:
        success, output = False, error.message
    return ProbeResult(started_at=begun, finished_at=clock(), success=success, output=output)
