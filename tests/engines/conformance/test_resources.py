"""Networks, volumes, ports and addresses: who may have them, and when they are free again."""

from __future__ import annotations

import socket

import pytest
from stacks import bind_network

from orchestrator.errors import Conflict, NotFound

from .conftest import FOREVER, IMAGE, Bench


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_network_is_made_once(bench: Bench) -> None:
    bench.use({"web": {}})
    network = bench.stack.networks["default"]
    bench.engine.create_network(bench.project, network)
    found = bench.observe().networks[network.name]
    assert (found.key, found.project, found.config) == ("default", bench.project, network.config)
    assert found.subnets
    with pytest.raises(Conflict):
        bench.engine.create_network(bench.project, bind_network(bench.project, "default", {"internal": True}))


def test_a_network_stays_while_something_runs_on_it(bench: Bench) -> None:
    bench.use({"web": {}})
    name = bench.stack.networks["default"].name
    key = bench.run()
    with pytest.raises(Conflict):
        bench.engine.remove_network(bench.project, name)
    bench.engine.stop_container(key)
    bench.engine.remove_network(bench.project, name)
    bench.engine.remove_network(bench.project, name)
    assert name not in bench.observe().networks


def test_a_container_finds_its_place_on_a_network_that_was_made_anew(bench: Bench) -> None:
    bench.use({"web": {}})
    network = bench.stack.networks["default"]
    key = bench.run()
    bench.engine.stop_container(key)
    bench.engine.remove_network(bench.project, network.name)
    bench.engine.create_network(bench.project, network)
    bench.engine.start_container(key)
    assert [one.network for one in bench.look(key).endpoints] == [network.name]
    assert bench.look(key).endpoints[0].ipv4


def test_a_network_that_is_not_there_says_so(bench: Bench) -> None:
    bench.use({"web": {}})
    bench.engine.remove_network(bench.project, bench.stack.networks["default"].name)
    with pytest.raises(NotFound):
        bench.run()


def test_a_project_sees_the_networks_and_volumes_that_it_names(bench: Bench) -> None:
    owner = Bench(bench.engine, f"{bench.project}x")
    try:
        owner.use({"web": {"networks": ["shared"], "volumes": ["disk:/d"]}})
        outside = {"external": True, "name": f"{owner.project}_shared"}
        bench.use({"web": {"networks": ["shared"]}}, networks={"shared": outside})
        assert bench.observe().networks[f"{owner.project}_shared"].project == owner.project
        assert f"{owner.project}_disk" not in bench.observe().volumes
        key = bench.run()
        assert bench.look(key).endpoints[0].network == f"{owner.project}_shared"
        bench.engine.remove_container(key)
    finally:
        owner.clear()


def test_replicas_have_names_and_addresses_of_their_own(bench: Bench) -> None:
    bench.use({"web": {"networks": {"default": {"aliases": ["site"]}}}})
    keys = [bench.run(number=number) for number in (1, 2, 3)]
    endpoints = [bench.look(key).endpoints[0] for key in keys]
    assert len({one.ipv4 for one in endpoints}) == 3
    assert all({"web", "site"} <= set(one.aliases) for one in endpoints)
    assert [one.id for one in bench.observe().of_service("web")] == keys


def test_a_static_address_moves_on_to_the_replacement(bench: Bench) -> None:
    pool = {"ipam": {"config": [{"subnet": "10.213.77.0/24"}]}}
    attachment = {"default": {"ipv4_address": "10.213.77.9"}}
    bench.use({"web": {"networks": attachment}}, networks={"default": pool})
    old = bench.run()
    new = bench.create(replaces=old)
    bench.engine.stop_container(old, hold=False)
    bench.engine.remove_container(old)
    bench.engine.start_container(new)
    assert bench.look(new).endpoints[0].ipv4 == "10.213.77.9"


def test_a_volume_is_made_once_and_keeps_its_data(bench: Bench) -> None:
    bench.use({"web": {"volumes": ["data:/data"]}})
    volume = bench.stack.volumes["data"]
    key = bench.run()
    bench.shell(key, "echo kept > /data/file")
    bench.engine.remove_container(key, volumes=True)
    bench.engine.create_volume(bench.project, volume)
    found = bench.observe().volumes[volume.name]
    assert (found.key, found.project) == ("data", bench.project)
    key = bench.run()
    assert bench.shell(key, "cat /data/file") == "kept\n"
    assert bench.look(key).volumes == {"/data": volume.name}


def test_a_volume_stays_while_a_container_has_it(bench: Bench) -> None:
    bench.use({"web": {"volumes": ["data:/data"]}})
    name = bench.stack.volumes["data"].name
    key = bench.create()
    with pytest.raises(Conflict):
        bench.engine.remove_volume(bench.project, name)
    bench.engine.remove_container(key)
    bench.engine.remove_volume(bench.project, name)
    bench.engine.remove_volume(bench.project, name)
    assert name not in bench.observe().volumes


def test_a_port_belongs_to_the_container_that_runs(bench: Bench) -> None:
    port = free_port()
    bench.use({"a": {"ports": [f"{port}:80"]}, "b": {"ports": [f"{port}:80"]}})
    first, second = bench.run("a"), bench.create("b")
    binding = bench.look(first).bindings[0]
    assert (binding.host_port, binding.container_port, binding.protocol) == (port, 80, "tcp")
    with pytest.raises(Conflict, match=str(port)):
        bench.engine.start_container(second)
    bench.engine.stop_container(first)
    assert not bench.look(first).bindings
    bench.engine.start_container(second)
    assert bench.look(second).bindings


def test_a_replacement_publishes_what_the_old_one_did(bench: Bench) -> None:
    port = free_port()
    bench.use({"web": {"ports": [f"{port}:80"]}})
    old = bench.run()
    new = bench.create(replaces=old)
    bench.engine.stop_container(old, hold=False)
    bench.engine.remove_container(old)
    bench.engine.start_container(new)
    assert bench.look(new).bindings[0].host_port == port


def test_a_port_that_is_left_open_is_chosen(bench: Bench) -> None:
    bench.use({"web": {"ports": ["80"]}})
    chosen = {bench.look(bench.run(number=number)).bindings[0].host_port for number in (1, 2)}
    assert len(chosen) == 2
    assert all(one > 1023 for one in chosen)


def test_projects_are_told_apart(bench: Bench) -> None:
    bench.use({"web": {}})
    bench.create()
    assert bench.project in bench.engine.projects()
    assert not bench.engine.observe(f"{bench.project}-other").containers


def test_the_images_of_a_stack_are_looked_up(bench: Bench) -> None:
    bench.use({"web": {"command": FOREVER}})
    facts = bench.observe().images[IMAGE]
    assert facts is not None
    assert facts.reference == IMAGE
    assert not facts.has_healthcheck
    assert facts.volumes == ()
