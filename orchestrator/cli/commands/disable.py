"""``stack disable``"""

from __future__ import annotations

from orchestrator.cli.commands.enable import USER
from orchestrator.cli.declare import DRY_RUN, Option, declare
from orchestrator.cli.invocation import Invocation


@declare(
    "disable",
    Option("--now", flag=True, help="Stop the services at once, too."),
    USER,
    DRY_RUN,
    rest="",
)
def command(invocation: Invocation, now: bool, user: bool) -> int:
    """Do not bring the project up at boot any more."""
    from orchestrator.actions.enable import disable_unit, place_unit

    project = invocation.identify()
    if invocation.dry_run:
        print(f"remove {place_unit(project.name, user=user)}")
        return 0
    path = disable_unit(project.name, user=user, now=now)
    print(f"{path} removed; {project.name} stays down after a boot")
    return 0
