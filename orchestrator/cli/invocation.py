"""What one command line asks for besides the command itself: which project, and how to speak."""

from __future__ import annotations

import os
import sys

from orchestrator.cli.diagnostics import FORMS, report_diagnostics, set_form, uses_colour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from orchestrator.actions.project import Project, ProjectOptions
    from orchestrator.cli.progress import Screen
    from orchestrator.engines.base import Engine
    from orchestrator.errors import Diagnostic
    from orchestrator.goal import Goal


ANSI = ("never", "always", "auto")
PROGRESS = ("auto", "tty", "plain", "json", "rawjson", "quiet")


class Invocation:
    """The global options of this run, and what hangs on them."""

    def __init__(
        self,
        *,
        project: ProjectOptions,
        ansi: str,
        progress: str,
        dry_run: bool,
        prepared: Any,
        parallel: int = 0,
    ) -> None:
        self.project = project
        self.ansi = ansi
        self.progress = progress
        self.dry_run = dry_run
        self.prepared = prepared
        self.parallel = parallel

    def load(self, services: Sequence[str] = (), *, naming: Sequence[str] = ()) -> Project:
        """Load the stack files, to look at them; warnings go to stderr. Naming a service switches its profile on.

        `naming` are words ``NAME=VALUE`` or ``NAME``: if there is one of the latter, the project's variables come, too.
        """
        from orchestrator.actions.project import load_again, load_project

        load = load_project if any("=" not in word for word in naming) else load_again
        project = load(self.project, services)
        report_diagnostics(project.warnings)
        return project

    def load_to_act(self, services: Sequence[str] = (), *, naming: Sequence[str] = (), yes: bool = False) -> Project:
        """Like load, for a command that does what the files say. Raises RemoteDeclined."""
        project = self.load(services, naming=naming)
        self.agree(project, yes=yes)
        return project

    def agree(self, project: Project, *, yes: bool = False) -> None:
        """Have the user agree to act on files that were fetched; `yes` says that they have. Raises RemoteDeclined."""
        if project.remote is not None and not self.dry_run:
            from orchestrator.cli.consenting import ask_about_remote

            ask_about_remote(self, project, yes=yes)

    def identify(self, services: Sequence[str] = ()) -> Project:
        """Find out which project is meant; reads no file if a name alone was given."""
        from orchestrator.actions.project import identify_project

        project = identify_project(self.project, services)
        report_diagnostics(project.warnings)
        return project

    def recognize(self) -> Project:
        """Find out which project is meant, for a command that only looks."""
        from orchestrator.actions.project import recognize_project

        project = recognize_project(self.project)
        report_diagnostics(project.warnings)
        return project

    def engine(self) -> Engine:
        """Open the engine; what it warns of goes to stderr."""
        from orchestrator.actions.engine import open_engine

        engine = open_engine()
        engine.on_warning = self.warn
        return engine

    def warn(self, diagnostic: Diagnostic) -> None:
        """Show a warning."""
        report_diagnostics([diagnostic])

    def note(self, text: str) -> None:
        """Show a remark that is neither a result nor a warning."""
        print(text, file=sys.stderr)

    def screen(self, title: str) -> Screen:
        """The progress display for this run, on stderr."""
        from orchestrator.cli.progress import open_screen

        return open_screen(self.progress, title, ansi=self.ansi, colour=self.colour(sys.stderr))

    def limit(self, goal: Goal) -> Goal:
        """The goal with ``--parallel``, if that was given."""
        return goal.replace(parallel=self.parallel) if self.parallel else goal

    def colour(self, stream: object) -> bool:
        """Whether to write colours to `stream`."""
        return uses_colour(stream, self.ansi)


def make_invocation(
    *,
    files: Sequence[str] = (),
    project_name: str | None = None,
    profiles: Sequence[str] = (),
    env_files: Sequence[str] = (),
    project_directory: str | None = None,
    all_resources: bool = False,
    compatibility: bool = False,
    parallel: int | None = None,
    ansi: str | None = None,
    progress: str | None = None,
    dry_run: bool = False,
    prepared: Any = None,
) -> Invocation:
    """Put the global options together with the environment's. UsageError for a variable that makes no sense."""
    from orchestrator.actions.project import ProjectOptions

    set_form(_from_environment(None, "STACK_DIAGNOSTICS", FORMS))
    return Invocation(
        project=ProjectOptions(
            files=tuple(files),
            name=project_name,
            profiles=tuple(word for value in profiles for word in value.split(",") if word),
            env_files=tuple(env_files),
            directory=project_directory,
            all_resources=all_resources,
            compatibility=compatibility or os.environ.get("COMPOSE_COMPATIBILITY", "").lower() in ("1", "true"),
        ),
        ansi=_from_environment(ansi, "COMPOSE_ANSI", ANSI) or "auto",
        progress=_from_environment(progress, "COMPOSE_PROGRESS", PROGRESS) or "auto",
        dry_run=dry_run,
        prepared=prepared,
        parallel=_read_parallel(parallel),
    )


def _read_parallel(given: int | None) -> int:
    """How many operations may run at a time, 0 for as many as can; -1 says that, too."""
    if given is not None:
        return max(0, given)
    text = os.environ.get("COMPOSE_PARALLEL_LIMIT", "")
    if text and not text.removeprefix("-").isdecimal():
        from orchestrator.errors import UsageError

        raise UsageError(f"COMPOSE_PARALLEL_LIMIT={text} is not a number")
    return max(0, int(text or 0))


def _from_environment(given: str | None, variable: str, allowed: Sequence[str]) -> str | None:
    if given is not None:
        return given
    value = os.environ.get(variable)
    if value and value not in allowed:
        from orchestrator.errors import UsageError

        raise UsageError(f"{variable}={value} is not one of {', '.join(allowed)}")
    return value or None
