"""``build --check`` on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.cli.diagnostics import report_diagnostics, report_error
from orchestrator.errors import OperationFailed, StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.errors import Diagnostic
    from orchestrator.goal import BuildOptions
    from orchestrator.model import Stack


def check_dockerfiles(stack: Stack, services: Iterable[str], options: BuildOptions) -> None:
    """Check what `services` are built from. Raises OperationFailed where anything is found."""
    from orchestrator.engines.native.dockerfile.service_request import translate_build

    check_requests(translate_build(stack, stack.services[name], options=options, check=True)[0] for name in services)


def check_requests(requests: Iterable[BuildRequest]) -> None:
    """Check Dockerfiles and write what is found. Raises OperationFailed where there is anything."""
    from orchestrator.engines.native.dockerfile.checking import check_request
    from orchestrator.engines.native.images.platform import detect_platform

    platform = str(detect_platform())
    found: dict[Diagnostic, None] = {}
    failed = 0
    for request in requests:
        try:
            found.update(dict.fromkeys(check_request(request, platform)))
        except StackError as error:
            report_error(error)
            failed += 1
    report_diagnostics(found)
    if found or failed:
        count = len(found) + failed
        raise OperationFailed(f"the check found {count} problem{'' if count == 1 else 's'}")
    print("Check complete, no warnings found.")
