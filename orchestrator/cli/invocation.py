"""What one command line asks for besides the command itself: which project, and how to speak."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from orchestrator.cli.diagnostics import report_diagnostics, uses_colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.actions.project import Project, ProjectOptions
    from orchestrator.cli.progress import Screen
    from orchestrator.engines.base import Engine
    from orchestrator.errors import Diagnostic


class Invocation:
    """The global options of this run, and what hangs on them."""

    def __init__(self, *, project: ProjectOptions, ansi: str, progress: str, dry_run: bool, prepared: Any) -> None:
        self.project = project
        self.ansi = ansi
        self.progress = progress
        self.dry_run = dry_run
        self.prepared = prepared

    def load(self, services: Sequence[str] = ()) -> Project:
        """Load the stack files; warnings go to stderr. Naming a service switches its profile on."""
        from orchestrator.actions.project import load_project

        project = load_project(self.project, services)
        report_diagnostics(project.warnings)
        return project

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

    def screen(self, title: str) -> Screen:
        """The progress display for this run, on stderr."""
        from orchestrator.cli.progress import open_screen

        return open_screen(self.progress, title, ansi=self.ansi, colour=self.colour(sys.stderr))

    def colour(self, stream: object) -> bool:
        """Whether to write colours to `stream`."""
        return uses_colour(stream, self.ansi)
