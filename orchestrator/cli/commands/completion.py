"""``stack completion``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.options import stack_command


@stack_command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script: `source <(stack completion bash)`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    sys.stdout.write(kind(root, {}, "stack", "_STACK_COMPLETE").source() + "\n")
