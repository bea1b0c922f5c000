"""What the store remembers of a container: enough to start it again without the stack file."""

from __future__ import annotations

import _sqlite3 as sqlite3
import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from orchestrator.codec import dump_record, load_record
from orchestrator.engines.native.liveness import is_alive as is_alive
from orchestrator.engines.native.liveness import read_boot_id as read_boot_id
from orchestrator.engines.native.liveness import read_process_start as read_process_start
from orchestrator.engines.native.store import dump_json
from orchestrator.model import FileSource, NetworkAttachment, Service
from orchestrator.record import Record

_NOTHING: Mapping[str, Any] = MappingProxyType({})


DEFAULT_BRIDGE = "bridge"
"""The engine's own network, which belongs to no project: ``network_mode: bridge``."""


class ContainerSpec(Record):
    """The service as it was when the container was made, and the engine names that its keys stood for.

    `networks` and `volumes` map keys of the file to engine names; `command` is what runs, for ``ps``; `addresses` holds
    the static addresses and aliases by engine network name. `called` and `auto_remove` are those of
    :class:`orchestrator.plan.CreateContainer`; `caller` is the pid and start time of the process that made a one-off
    container.
    """

    service: Service
    project: str
    number: int
    directory: str = ""
    oneoff: bool = False
    called: bool = False
    caller: tuple[int, ...] = ()
    auto_remove: bool = False
    networks: Mapping[str, str] = _NOTHING
    volumes: Mapping[str, str] = _NOTHING
    secrets: Mapping[str, FileSource] = _NOTHING
    configs: Mapping[str, FileSource] = _NOTHING
    command: tuple[str, ...] = ()
    labels: Mapping[str, str] = _NOTHING
    mounted_images: Mapping[str, str] = _NOTHING

    @property
    def attachments(self) -> Mapping[str, NetworkAttachment]:
        """The networks that the container is on, by their key in the file."""
        if uses_default_bridge(self.service):
            return {DEFAULT_BRIDGE: NetworkAttachment(network=DEFAULT_BRIDGE)}
        return self.service.networks

    def dump(self) -> str:
        """As JSON for the store's ``spec`` column."""
        return dump_json(dump_record(self))


def uses_default_bridge(service: Service) -> bool:
    """True for a service that asks for the engine's own network."""
    return service.network_mode in ("bridge", "default")


def load_spec(row: sqlite3.Row) -> ContainerSpec:
    """The spec of one row of the ``containers`` table."""
    return _parse_spec(row["spec"])


@lru_cache(maxsize=64)  # each step of a container's life asks for it
def _parse_spec(text: str) -> ContainerSpec:
    spec: ContainerSpec = load_record(json.loads(text))
    return spec
