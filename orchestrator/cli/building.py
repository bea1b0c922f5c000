"""Building with a display, and telling what failed: for ``build`` and ``image build``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.cli.converging import write_lines
from orchestrator.cli.diagnostics import report_diagnostics, report_error
from orchestrator.errors import Diagnostic

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.cli.progress import Screen
    from orchestrator.errors import StackError


def open_display(invocation: Invocation, progress: str | None, *, quiet: bool, labelled: bool) -> Screen:
    """The display of builds: ``--progress`` behind the command, the one before it, BUILDKIT_PROGRESS."""
    from orchestrator.cli.build_progress import BUILD_PROGRESS, open_build_screen

    chosen = "quiet" if quiet else progress or invocation.progress
    if chosen == "auto" and os.environ.get("BUILDKIT_PROGRESS") in BUILD_PROGRESS:
        chosen = os.environ["BUILDKIT_PROGRESS"]
    return open_build_screen(chosen, ansi=invocation.ansi, colour=invocation.colour(sys.stderr), labelled=labelled)


def report_build_error(error: StackError) -> None:
    """Write why a build failed: the place in the Dockerfile, the lines around it, the end of the command's output."""
    from orchestrator.failures import BUILD_LINES

    report_error(error)
    write_lines(getattr(error, "excerpt", ()), "")
    output = str(getattr(error, "output", "")).splitlines()[-BUILD_LINES:]
    if output:
        write_lines(output, "last output:")


def report_unhonoured(asked: Iterable[tuple[str, bool, str]]) -> None:
    """Warn of options that were given and cannot be honoured: (option, whether it was given, why)."""
    report_diagnostics(
        Diagnostic("option-without-effect", f"{option} has no effect: {why}", severity="warning")
        for option, given, why in asked
        if given
    )
