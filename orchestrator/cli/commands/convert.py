"""``stack convert``: the older name of ``config``, with the options that it had then."""

from __future__ import annotations

from typing import Any

from orchestrator.cli.commands import config
from orchestrator.cli.declare import declare
from orchestrator.cli.invocation import Invocation

_KEPT = frozenset(
    {
        "--format", "--hash", "--images", "--no-consistency", "--no-interpolate", "--no-normalize", "--output",
        "--profiles", "--quiet", "--resolve-image-digests", "--services", "--volumes",
    }
)  # fmt: skip

_OPTIONS = tuple(one for one in config.command.options if _KEPT.intersection(one.names))


@declare("convert", *_OPTIONS)
def command(invocation: Invocation, services: tuple[str, ...], output: str | None, **asked: Any) -> Any:
    """Show the stack file as it is understood; the same as config."""
    rest = {one.parameter: one.initial for one in config.command.options if one.parameter != "output"}
    return config.command.function(invocation, services=services, output=output, **{**rest, **asked})
