"""``ARG SOURCE_DATE_EPOCH=...`` before the first FROM: the moment that a Dockerfile itself asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.engines.native.dockerfile.front.instructions import Dockerfile
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
from orchestrator.errors import Diagnostic

NAME = "SOURCE_DATE_EPOCH"


def read_epoch(dockerfile: Dockerfile, shared: Mapping[str, str]) -> int | None:
    """Seconds since 1970 as the global ARGs have them, None if they have none. Raises DockerfileInvalid."""
    value = shared.get(NAME, "")
    if not value or (value.isascii() and value.isdecimal()):
        return int(value) if value else None
    one = next(one for one in dockerfile.args if any(pair.name == NAME for pair in one.pairs))
    hint = "write the seconds since 1970"
    raise DockerfileInvalid([Diagnostic("invalid-epoch", f"invalid {NAME}: {value}", one.location, hint=hint)])
