"""Consent to what loses data: asked for on a terminal, given by ``--yes``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.model import Stack


def ask_to_renew(invocation: Invocation, stack: Stack | None, *, yes: bool) -> tuple[str, ...]:
    """Return the keys of the volumes that may be made anew if the file declares them differently now.

    Where nobody can be asked there is no consent, and the plan warns of each.
    """
    if stack is None or not stack.volumes:
        return ()
    if yes:
        return tuple(sorted(stack.volumes))
    if invocation.dry_run or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ()
    import click

    from orchestrator.reconcile.volumes import explain_volume_changes

    found = invocation.engine().observe(stack.name).volumes
    agreed = []
    for key, volume in sorted(stack.volumes.items()):
        present = found.get(volume.name)
        if present is None or not explain_volume_changes(volume, present, stack.name):
            continue
        question = f'Volume "{volume.name}" exists but doesn\'t match configuration in compose file.'
        if click.confirm(f"{question} Recreate (data will be lost)?", default=False, err=True):
            agreed.append(key)
    return tuple(agreed)
