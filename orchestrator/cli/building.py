"""Building with a display, and telling what failed: for ``build`` and ``image build``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.cli.converging import write_lines
from orchestrator.cli.diagnostics import report_diagnostics, report_error
from orchestrator.errors import Diagnostic

if TYPE_CHECKING:
    from typing import IO

    from orchestrator.cli.invocation import Invocation
    from orchestrator.cli.progress import Screen
    from orchestrator.engines.base import BuildEvent
    from orchestrator.engines.native.dockerfile.recall import RecalledBuild
    from orchestrator.errors import StackError


def open_display(
    invocation: Invocation, progress: str | None, *, quiet: bool, labelled: bool, stream: IO[str] | None = None
) -> Screen:
    """The display of builds: ``--progress`` behind the command, the one before it, BUILDKIT_PROGRESS.

    Lines go to `stream` if that is given, otherwise to stderr.
    """
    from orchestrator.cli.build_progress import open_build_screen

    kind = _choose_display(invocation, progress, quiet=quiet)
    return open_build_screen(kind, colour=invocation.colour(sys.stderr), labelled=labelled, stream=stream)


def _choose_display(invocation: Invocation, progress: str | None, *, quiet: bool) -> str:
    from orchestrator.cli.build_progress import BUILD_PROGRESS, choose_build_screen

    chosen = "quiet" if quiet else progress or invocation.progress
    if chosen == "auto" and os.environ.get("BUILDKIT_PROGRESS") in BUILD_PROGRESS:
        chosen = os.environ["BUILDKIT_PROGRESS"]
    return choose_build_screen(chosen, ansi=invocation.ansi)


def keep_printed(
    invocation: Invocation,
    progress: str | None,
    known: Mapping[str, RecalledBuild] | None,
    *,
    quiet: bool,
    notes: Sequence[str],
    out: str = "",
    rests_on: Sequence[str] = (),
    seen: Sequence[str] = (),
    on_stdout: bool = False,
) -> None:
    """Remember what this command has written, for the next time that it is asked for the same and nothing is new.

    `known` are the builds that would do nothing now, by service; `notes` are the lines that were written below them,
    `out` what went to stdout, where lines about builds stand as well if `on_stdout`. `rests_on` and `seen` as for
    `recalled.keep_build`.
    """
    from orchestrator.cli.diagnostics import has_reported
    from orchestrator.cli.recalled import keep_build

    marks = [mark for one in (known or {}).values() for mark in one.marks]
    kind = _choose_display(invocation, progress, quiet=quiet)
    if not known or not all(marks) or kind == "rawjson" or has_reported():
        return
    told, below = _render_again(known, kind, colour=invocation.colour(sys.stderr)), "".join(f"{one}\n" for one in notes)
    if on_stdout and kind == "plain":
        out, told = told + out, ""
    keep_build(out, told + below, [*rests_on, *(one.path for one in known.values())], marks, seen)


def _render_again(known: Mapping[str, RecalledBuild], kind: str, *, colour: bool) -> str:
    """What a display leaves behind of builds that take no time."""

    def show(take: Callable[[str, BuildEvent], None]) -> None:
        for name, one in known.items():
            one.tell(partial(take, name if len(known) > 1 else ""), 1.0)

    if kind == "tty":
        from orchestrator.cli.build_live import render_finished

        return render_finished(show, colour=colour)
    lines: list[str] = []
    if kind == "plain":
        from orchestrator.cli.build_progress import PlainBuilds

        show(PlainBuilds(lines.append).show)
    return "".join(f"{line}\n" for line in lines)


def report_build_error(error: StackError) -> None:
    """Write why a build failed: the place in the Dockerfile, the lines around it, the end of the command's output."""
    from orchestrator.control_loop.failures import BUILD_LINES

    report_error(error)
    write_lines(getattr(error, "excerpt", ()), "")
    output = str(getattr(error, "output", "")).splitlines()[-BUILD_LINES:]
    if output:
        write_lines(output, "last output:")


def require_builder(name: str | None) -> None:
    """Raise NotFound for what ``--builder`` names, unless it is the one that there is."""
    if name not in (None, "", "default"):
        from orchestrator.errors import NotFound

        raise NotFound(
            f'no builder "{name}" found',
            resource=str(name),
            operation="build",
            hint="there is one builder, which is built in and called default: leave --builder out",
        )


def report_unhonoured(asked: Iterable[tuple[str, bool, str]]) -> None:
    """Warn of options that were given and cannot be honoured: (option, whether it was given, why)."""
    report_diagnostics(
        Diagnostic("option-without-effect", f"{option} has no effect: {why}", severity="warning")
        for option, given, why in asked
        if given
    )
