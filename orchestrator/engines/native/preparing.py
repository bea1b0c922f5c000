"""Which containers can be made ready before their time: while they wait for others, all but the last step is done."""

from __future__ import annotations

import _sqlite3 as sqlite3
from typing import TYPE_CHECKING

from orchestrator.engines.native.files.volume_store import read_volume_options

if TYPE_CHECKING:
    from orchestrator.engines.native.container import ContainerSpec
    from orchestrator.engines.native.store import Store


def stands_alone(store: Store, row: sqlite3.Row, spec: ContainerSpec) -> bool:
    """Whether all that the container is made of is its own: nothing that may change until it is to start.

    What it waits for may write files of the host, fill a shared volume, or be the container whose namespace it joins.
    """
    service = spec.service
    if spec.called or spec.oneoff or service.privileged or service.devices:
        return False
    if service.secrets or service.configs or service.volumes_from:
        return False
    modes = (service.network_mode, service.pid, service.ipc, service.uts)
    if any(mode and mode.startswith(("service:", "container:")) for mode in modes):
        return False
    if any(one.type not in ("volume", "tmpfs") or one.options.get("subpath") for one in service.volumes):
        return False
    names = {one["volume"] for one in store.rows("SELECT volume FROM mounts WHERE container_id = ?", row["id"])}
    # Who starts first fills a volume that several share.
    shared = "SELECT 1 FROM mounts WHERE container_id != ? AND volume = ? LIMIT 1"
    if any(store.row(shared, row["id"], name) is not None for name in names):
        return False
    return not read_volume_options(store, names)
