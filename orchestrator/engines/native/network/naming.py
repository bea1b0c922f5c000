"""Service discovery: which names the containers of a project see, and the resolver's sockets in their namespaces."""

from __future__ import annotations

import _sqlite3 as sqlite3
import json
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.container import ContainerSpec, load_spec
from orchestrator.engines.native.network.dns_zone import DnsEndpoint, View, build_view, parse_nameservers
from orchestrator.engines.native.store import Store
from orchestrator.errors import NotFound, StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.network.dns import DnsSockets
    from orchestrator.engines.native.network.hosting import Hosting

    _Wanted = tuple[str, DnsSockets, ContainerSpec, Iterable[sqlite3.Row]]

HOST_RESOLV = "/etc/resolv.conf"

_ENDPOINTS = """
SELECT e.*, c.project FROM endpoints e JOIN containers c ON c.id = e.container_id
WHERE c.state = 'running' AND e.network IN ({marks})
"""


class NameService:
    """Keeps every hosted container's view as the running containers are. Thread-safe; concurrent changes share one
    turn of the loop, since each takes the views of all."""

    def __init__(self, store: Store, hosting: Hosting) -> None:
        self._store = store
        self._hosting = hosting
        self._telling = threading.Lock()
        self._lock = threading.Lock()
        self._asked = self._told = 0
        self._opened: list[tuple[str, DnsSockets]] = []
        self._removed: list[str] = []
        self._members: dict[str, _Member] = {}
        self._services: dict[str, set[str]] = {}

    def attach(self, container_id: str, netns: Path, spec: ContainerSpec, rows: Iterable[sqlite3.Row]) -> None:
        """Answer the queries of a container (about to be) running in `netns`, and let the others find it.

        One that is served already is left alone. NotFound when the namespace is gone, Conflict as open_sockets.
        """
        if self._is_missing(container_id):
            from orchestrator.engines.native.network.dns import open_sockets

            self._add([(container_id, open_sockets(netns), spec, rows)])

    def adopt(self, containers: Iterable[tuple[str, Path, ContainerSpec, Iterable[sqlite3.Row]]]) -> list[StackError]:
        """Attach several that run at once, and leave out those that have ended meanwhile.

        What keeps one from being served keeps no other; it is returned.
        """
        from orchestrator.engines.native.network.dns import open_sockets

        wanted: list[_Wanted] = []
        refused: list[StackError] = []
        for container_id, netns, spec, rows in containers:
            if self._is_missing(container_id):
                try:
                    wanted.append((container_id, open_sockets(netns), spec, rows))
                except NotFound:
                    continue
                except StackError as error:
                    refused.append(error)
        if wanted:
            self._add(wanted)
        return refused

    def _is_missing(self, container_id: str) -> bool:
        return self._hosting.active and not self._hosting.serves(container_id)

    def _add(self, wanted: Iterable[_Wanted]) -> None:
        with self._lock:
            for container_id, sockets, spec, rows in wanted:
                self._members[container_id] = _Member(spec, tuple(_endpoint(row) for row in rows))
                self._services.setdefault(spec.project, set()).add(spec.service.name)
                self._opened.append((container_id, sockets))
            self._asked += 1
            asked = self._asked
        self._tell(asked)

    def detach(self, container_id: str) -> None:
        """Forget a container: nobody finds it any longer, and its sockets are closed."""
        with self._lock:
            if self._members.pop(container_id, None) is None:
                return
            self._removed.append(container_id)
            self._asked += 1
            asked = self._asked
        self._tell(asked)

    def _tell(self, asked: int) -> None:
        """Bring the resolver up to change `asked`. Callers that come while that is done share the next turn."""
        with self._telling:
            if self._told >= asked:
                return
            with self._lock:
                covered = self._asked
                opened, removed = self._opened, self._removed
                self._opened, self._removed = [], []
                views = self._views()
                added = self._list_added(opened, dict(views))
                wait = self._hosting.serve_names(views, added=added, removed=removed)
            # The loop's thread never takes the outer lock, and the inner one is free again.
            wait()
            self._told = covered

    def _list_added(
        self, opened: Iterable[tuple[str, DnsSockets]], views: Mapping[str, View]
    ) -> list[tuple[str, DnsSockets, View, tuple[str, ...]]]:
        default = parse_nameservers(read_host_resolv())
        found = []
        for container_id, sockets in opened:
            member = self._members.get(container_id)
            if member is None:  # it has gone again meanwhile
                sockets.close()
            else:
                found.append((container_id, sockets, views[container_id], tuple(member.spec.service.dns) or default))
        return found

    def refresh(self) -> None:
        """Build every view anew: containers of other projects on shared networks have come or gone."""
        with self._lock:
            wait = self._hosting.serve_names(self._views())
        wait()

    def _views(self) -> list[tuple[str, View]]:
        """The view of each member; those on the same networks, without links of their own, share one."""
        endpoints = [one for member in self._members.values() for one in member.endpoints]
        endpoints += self._foreign({network for one in self._members.values() for network in one.networks})
        shared: dict[tuple[str, frozenset[str]], View] = {}
        found = []
        for container_id, member in self._members.items():
            known = self._services[member.spec.project]
            if member.spec.service.links or member.spec.service.external_links:
                view = build_view(
                    member.networks, endpoints, links=self._links(member, endpoints), known=known, subnets=()
                )
            else:
                key = (member.spec.project, member.networks)
                if key not in shared:
                    shared[key] = build_view(
                        member.networks, endpoints, known=known, subnets=self._subnets(member.networks)
                    )
                view = shared[key]
            found.append((container_id, view))
        return found

    def _foreign(self, networks: Collection[str]) -> list[DnsEndpoint]:
        """Running containers of other processes on the same networks (an external network has several projects)."""
        if not networks:
            return []
        rows = self._store.rows(_ENDPOINTS.format(marks=",".join("?" * len(networks))), *sorted(networks))
        return [_endpoint(row) for row in rows if row["container_id"] not in self._members]

    def _subnets(self, networks: Collection[str]) -> list[str]:
        rows = self._store.rows(
            f"SELECT pools FROM networks WHERE name IN ({','.join('?' * len(networks))})", *sorted(networks)
        )
        return [pool["subnet"] for row in rows for pool in json.loads(row["pools"])]

    def _links(self, member: _Member, endpoints: Iterable[DnsEndpoint]) -> Mapping[str, list[str]]:
        """``links`` (service[:alias]) and ``external_links`` (container[:alias]) of one container, as addresses."""
        found: dict[str, list[str]] = {}
        visible = [one for one in endpoints if one.network in member.networks]
        for link in (*member.spec.service.links, *member.spec.service.external_links):
            target, _, alias = link.partition(":")
            addresses = [
                address for one in visible if target in one.names for address in (one.ipv4, one.ipv6) if address
            ]
            found.setdefault(alias or target, []).extend(addresses)
        return found


class _Member:
    """A hosted container."""

    __slots__ = ("endpoints", "networks", "spec")

    def __init__(self, spec: ContainerSpec, endpoints: tuple[DnsEndpoint, ...]) -> None:
        self.spec = spec
        self.endpoints = endpoints
        self.networks = frozenset(one.network for one in endpoints)


def adopt_names(
    names: NameService, netns_of: Mapping[str, Path], rows: Iterable[sqlite3.Row], store: Store
) -> list[StackError]:
    """Serve containers that were running before this process: a supervisor takes over from one that died.

    Returns what keeps some of them from being served.
    """
    found = []
    for row in rows:
        endpoints = store.rows("SELECT * FROM endpoints WHERE container_id = ? ORDER BY position", row["id"])
        if endpoints and netns_of[row["id"]].exists():
            found.append((row["id"], netns_of[row["id"]], load_spec(row), endpoints))
    return names.adopt(found)


def read_host_resolv() -> str:
    """The host's resolv.conf, empty when there is none."""
    try:
        with open(HOST_RESOLV, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _endpoint(row: sqlite3.Row) -> DnsEndpoint:
    return DnsEndpoint(
        network=row["network"], names=tuple(json.loads(row["aliases"])), ipv4=row["ipv4"], ipv6=row["ipv6"]
    )
