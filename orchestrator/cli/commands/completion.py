"""``stack completion``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.options import stack_command


@stack_command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script: `source <(stack completion bash)`, `stack completion fish | source`."""
    from orchestrator.cli.shells import SHELLS

    sys.stdout.write(SHELLS[shell].source_template)
