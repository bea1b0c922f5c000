"""``stack completion``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.options import stack_command

_GOING_ON = """\
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:] ]]; then
        compopt -o nospace
    fi

"""
"""Lines for bash: `web=` and `web:` are the beginning of a word."""


@stack_command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script: `source <(stack completion bash)`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    source = kind(root, {}, "stack", "_STACK_COMPLETE").source()
    if shell == "bash":
        source = source.replace("    return 0\n", f"{_GOING_ON}    return 0\n")
    sys.stdout.write(source + "\n")
