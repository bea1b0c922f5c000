"""``stack version``"""

from __future__ import annotations

import json
import sys

import orchestrator
from orchestrator.cli.declare import Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import UsageError


@declare(
    "version",
    Option("--short", flag=True, help="Only the number."),
    Option("-f", "--format", "form", metavar="FORMAT", help="pretty or json."),
    rest="",
)
def command(_invocation: Invocation, short: bool, form: str | None) -> None:
    """Show the version."""
    print_version(short=short, form=form or "pretty")


def print_version(*, short: bool = False, form: str = "pretty") -> None:
    """Write the version to stdout. Raises UsageError for an unknown format."""
    if form not in ("pretty", "json"):
        raise UsageError(f"--format: there is no format {form}", hint="there are pretty and json")
    if form == "json":
        sys.stdout.write(json.dumps({"version": orchestrator.__version__}) + "\n")
    elif short:
        sys.stdout.write(orchestrator.__version__ + "\n")
    else:
        sys.stdout.write(f"stack version {orchestrator.__version__}\n")
