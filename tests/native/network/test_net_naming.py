"""Who is served with names, when a supervisor takes over containers that another one had."""

from __future__ import annotations

from orchestrator.engines.native.container import ContainerSpec
from orchestrator.engines.native.network import dns
from orchestrator.engines.native.network.naming import NameService
from orchestrator.errors import Conflict
from orchestrator.model import Service


class Hosted:
    """Notes who is served, and closes what it is given."""

    active = True

    def __init__(self) -> None:
        self.names: list[str] = []

    def serves(self, container_id: str) -> bool:
        return container_id in self.names

    def serve_names(self, views, added=(), removed=()):
        for container_id, sockets, _view, _upstreams in added:
            self.names.append(container_id)
            sockets.close()
        return lambda: None


class NoRows:
    def rows(self, *_words):
        return []


def test_a_container_that_ends_while_it_is_adopted_keeps_no_other_from_it(world, monkeypatch):
    box, busy, missing = world.namespace("box"), world.namespace("busy"), world.namespace("box").parent / "gone"
    real = dns.open_sockets

    def open_sockets(netns):
        if netns == busy:
            raise Conflict("no port is left for the resolver")
        return real(netns)

    monkeypatch.setattr(dns, "open_sockets", open_sockets)
    spec = ContainerSpec(project="shop", service=Service(name="web"), number=1)
    hosted = Hosted()
    names = NameService(NoRows(), hosted)
    refused = names.adopt([(path.name, path, spec, []) for path in (missing, busy, box)])
    assert hosted.names == [box.name]
    assert [one.message for one in refused] == ["no port is left for the resolver"]
    # Again: nobody is opened twice.
    assert names.adopt([(box.name, box, spec, [])]) == []
    assert hosted.names == [box.name]
