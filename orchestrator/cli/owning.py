"""Loading a project that is about to be brought up: its name must mean this folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.cli.invocation import Invocation


def load_own(invocation: Invocation, services: Sequence[str], *, isolate: bool = False, yes: bool = False) -> Project:
    """Load the stack files and see that the project's name is not another folder's, or raise Conflict.

    `isolate` gives the folder a name of its own; `yes` is consent to what was fetched, else the user is asked.
    """
    from orchestrator.actions.folders import check_owner, is_derived, isolate_folder, read_isolated

    project = invocation.load(services)
    stack = project.stack
    if stack is None:
        return project
    if isolate and stack.directory not in read_isolated():
        if not is_derived(stack, invocation.project):
            raise UsageError(
                f"--isolate is for a name that comes from the folder; {stack.name} was chosen",
                hint="choose another one with -p",
            )
        if invocation.dry_run:
            return project
        try:
            isolate_folder(stack.directory, stack.name)
        except OSError as error:
            raise UsageError(f"the folder's name cannot be remembered: {error.strerror}") from error
        project = invocation.load(services)
        assert project.stack is not None
        invocation.note(f"this folder is project {project.name} now")
        stack = project.stack
    if not invocation.dry_run:
        check_owner(stack, invocation.project)
    invocation.agree(project, yes=yes)
    return project
