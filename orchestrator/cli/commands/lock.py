"""``stack lock``"""

from __future__ import annotations

from orchestrator.cli.declare import DRY_RUN, Option, declare
from orchestrator.cli.diagnostics import report_diagnostics
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import UsageError


@declare(
    "lock",
    Option("--check", flag=True, help="Write nothing; end with 1 if a registry or the stack file has moved."),
    Option("--update", flag=True, help="Ask the registries anew for every image."),
    Option("-q", "--quiet", flag=True, help="Print nothing but what is wrong."),
    DRY_RUN,
    rest="",
)
def command(invocation: Invocation, check: bool, update: bool, quiet: bool) -> int:
    """Write the digest of every image that the stack file names into stack.lock; what it has already stays."""
    from orchestrator.actions.lock import (
        find_differences,
        load_whole,
        make_lock,
        place_lock,
        require_lock,
        write_lock,
    )
    from orchestrator.actions.lock_file import render_lock
    from orchestrator.addresses import hide_password

    project = load_whole(invocation.project)
    report_diagnostics(project.warnings)
    stack = project.stack
    assert stack is not None
    path = place_lock(stack)
    if check:
        invocation.agree(project)
        told = find_differences(stack, require_lock(stack))
        for line in told:
            print(line)
        if not told and not quiet:
            print(f"{path} is up to date")
        return 1 if told else 0
    if project.remote is not None and not invocation.dry_run:
        # What is kept of a commit is not its repository: nobody would find the lock there.
        shown = hide_password(project.remote.files[0])
        raise UsageError(
            f"{shown} is not of this machine: a lock would be lost with what is kept of it",
            hint="lock it where it is written and commit stack.lock there; publish with --resolve-image-digests",
        )
    lock = make_lock(stack, update=update)
    if invocation.dry_run:
        print(render_lock(lock), end="")
        return 0
    changed = write_lock(path, lock)
    if quiet:
        return 0
    for one in lock.images:
        place = f" ({one.platform})" if one.platform else ""
        print(f"{one.reference}{place} {one.digest or f'{one.image_id} (from no registry)'}")
    for name in lock.built:
        print(f"{name} is built here: not locked")
    print(f"{path} {'written' if changed else 'is as it was'}")
    return 0
