"""``stack enable``"""

from __future__ import annotations

from orchestrator.cli.declare import DRY_RUN, Option, declare
from orchestrator.cli.invocation import Invocation

USER = Option("--user", flag=True, help="With this user's systemd, not the system's.")


@declare(
    "enable",
    Option("--now", flag=True, help="Bring it up at once, too."),
    USER,
    Option("-y", "--yes", flag=True, help="Ask nothing: yes."),
    Option("--print", "show", flag=True, help="Print the systemd unit, and write nothing."),
    DRY_RUN,
    rest="",
)
def command(invocation: Invocation, now: bool, user: bool, show: bool, yes: bool) -> int:
    """Bring the project up at every boot: write a systemd unit that does it."""
    from orchestrator.actions.enable import describe_unit, enable_unit, holds_login, list_fleeting, place_unit
    from orchestrator.actions.unit import render_unit
    from orchestrator.cli.owning import load_own
    from orchestrator.spec.faults import check_faults

    # What `up` would refuse after the boot is refused now, while somebody is there to read it.
    project = load_own(invocation, (), yes=yes or show)
    assert project.stack is not None
    check_faults(project.stack, ())
    request = describe_unit(invocation.project, project, user=user)
    fleeting = list_fleeting(invocation.project)
    if fleeting:
        names = ", ".join(fleeting)
        invocation.note(f"{names}: taken from this shell; after a boot the stack file sees what .env says")
    text = render_unit(request)
    if holds_login(text):
        invocation.note(
            "warning: the unit holds a login, and systemd shows units to everybody here: leave the login out of the "
            "address, and give it to git's credential helper"
        )
    if show:
        print(text, end="")
        return 0
    if invocation.dry_run:
        print(f"write {place_unit(project.name, user=user)}")
        return 0
    path = enable_unit(request, now=now)
    print(f"{project.name} is brought up at every boot by {path}")
    return 0
