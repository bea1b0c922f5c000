"""Consent to what loses data, and to running what others have written: asked for, or given by ``--yes``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.cli.invocation import Invocation
    from orchestrator.model import Stack


class RemoteDeclined(StackError):
    """The user does not want to run what came from elsewhere, or nobody was there to say so."""

    code = "declined"


def ask_about_remote(invocation: Invocation, project: Project, *, yes: bool) -> None:
    """Have the user agree to run a stack that was fetched: to what it fetches in its turn, and to what it will know.

    Asked on a terminal or through a pipe, where only a yes is one. Raises RemoteDeclined.
    """
    remote, stack = project.remote, project.stack
    if remote is None or stack is None:
        return
    from orchestrator.actions.enable import CONSENT

    agreed = yes or os.environ.get(CONSENT, "").lower() in ("1", "true")
    if remote.parts and not agreed:
        from orchestrator.addresses import hide_password

        invocation.note("\nWarning: This Compose project includes files from remote sources:")
        for one in remote.parts:
            invocation.note(f"  - {_spell_controls(hide_password(one))}")
        invocation.note("\nRemote includes could potentially be malicious. Make sure you trust the source.")
        _agree("Do you want to continue?", default=False)
    if invocation.progress not in ("quiet", "json", "rawjson"):
        shown, place = _show_first(remote.files), _spell_controls(stack.directory)
        invocation.note(f'Your compose stack "{shown}" is stored in "{place}"')
    if remote.variables and not agreed:
        invocation.note("\nFound the following variables in configuration:")
        invocation.note(_render_variables(project))
        _agree("Do you want to proceed with these variables?", default=True)


def _show_first(files: tuple[str, ...]) -> str:
    from orchestrator.addresses import hide_password

    return _spell_controls(hide_password(files[0]))


def _render_variables(project: Project) -> str:
    from orchestrator.actions.publish import is_secret_name
    from orchestrator.cli.table import render_table

    rows = []
    for one in project.remote.variables if project.remote is not None else ():
        value, source = one.default or "<unset>", "compose file" if one.default else "none"
        if one.name in project.environment:
            value = project.environment[one.name]
            source = "environment" if one.name in os.environ else "env file"
            if value and is_secret_name(one.name):
                # That it is passed on is what matters, and build servers keep what is printed.
                value = "********"
        rows.append([one.name, value, source, "yes" if one.required else "no", one.default or ""])
    return render_table(
        ("VARIABLE", "VALUE", "SOURCE", "REQUIRED", "DEFAULT"),
        [[_spell_controls(cell) for cell in row] for row in rows],
    )


def _spell_controls(text: str) -> str:
    """What strangers have written must not move the cursor: it could hide what is asked about."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _agree(question: str, *, default: bool) -> None:
    terminal = sys.stdin.isatty()
    while True:
        print(f"{question} [{'Y/n' if default else 'y/N'}]: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not terminal:
            print(file=sys.stderr)
        answer = line.strip().lower()
        if answer in ("y", "yes") or (answer in ("1", "t", "true") and not terminal):
            return
        if terminal and line and answer not in ("", "n", "no"):
            continue
        if terminal and line and answer == "" and default:
            return
        raise RemoteDeclined(
            "operation cancelled by user",
            hint="" if terminal else "where nobody can answer, say so beforehand: --yes, or STACK_REMOTE_CONSENT=1",
        )


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
