"""``stack volumes``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.actions.list_volumes import list_volumes
from orchestrator.cli.declare import DRY_RUN, FORMAT, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.table import render_listing

if TYPE_CHECKING:
    from orchestrator.state import ObservedVolume

_HEADER = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@declare("volumes", FORMAT, Option("-q", "--quiet", flag=True, help="Only names."), DRY_RUN)
def command(invocation: Invocation, services: tuple[str, ...], form: str | None, quiet: bool) -> None:
    """List the project's volumes, or those that the services' containers use."""
    found = list_volumes(invocation.engine(), invocation.recognize(), services)
    write = sys.stdout.write
    if quiet:
        write("".join(f"{one.name}\n" for one in found))
        return
    rows = [describe_volume(one) for one in found]
    write(render_listing(form, _HEADER, rows))


def describe_volume(one: ObservedVolume) -> dict[str, Any]:
    """The fields that ``volumes --format`` knows, with Docker's names."""
    labels = {
        **(one.config.get("labels") or {}),
        "com.docker.compose.project": one.project,
        "com.docker.compose.version": __version__,
        "com.docker.compose.volume": one.key,
    }
    return {
        "Availability": "N/A",
        "Driver": one.driver,
        "Group": "N/A",
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        "Links": "N/A",
        "Mountpoint": one.mountpoint,
        "Name": one.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }
