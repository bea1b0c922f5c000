"""What the native engine cannot honour is reported at its path."""

from __future__ import annotations

from orchestrator.engines.native.capabilities import check_stack
from orchestrator.model import FileSource, Network, NetworkAttachment, Port, Service, Stack, VolumeMount


def _check(service: Service, **parts: object) -> list[tuple[str, str]]:
    stack = Stack(name="p", services={service.name: service}, **parts)  # type: ignore[arg-type]
    return [(one.severity, one.path) for one in check_stack(stack)]


def test_an_ordinary_service_is_fine() -> None:
    service = Service(
        name="web",
        image="busybox",
        ports=(Port(target=80, published="8080"),),
        volumes=(VolumeMount(type="volume", source="data", target="/data"),),
        networks={"default": NetworkAttachment(network="default")},
        extra_hosts=(("gate", "host-gateway"), ("six", "[::1]"), ("four", "10.0.0.1")),
    )
    assert _check(service, networks={"default": Network(key="default", name="p_default")}) == []


def test_attributes_are_refused_or_named_without_effect() -> None:
    service = Service(
        name="web",
        config={"models": ["x"], "deploy": {"placement": {"constraints": ["a"]}}},
        userns_mode="keep-id",
        ports=(Port(target=80, protocol="sctp"),),
    )
    assert sorted(_check(service)) == [
        ("error", "services.web.models"),
        ("error", "services.web.ports[0]"),
        ("error", "services.web.userns_mode"),
        ("warning", "services.web.deploy.placement.constraints"),
    ]


def test_what_is_for_a_cluster_is_named_where_nothing_comes_of_it() -> None:
    idle = {
        "mode": "replicated-job",
        "endpoint_mode": "vip",
        "labels": {"a": "b"},
        "placement": {"constraints": ["node.role == x"], "preferences": [{"spread": "x"}], "max_replicas_per_node": 1},
        "resources": {"reservations": {"cpus": 1.0, "memory": "1", "generic_resources": [{"kind": "gpu"}]}},
    }
    base = "services.web.deploy"
    assert _check(Service(name="web", config={"deploy": idle})) == [
        ("warning", f"{base}.{one}")
        for one in (
            *("mode", "endpoint_mode", "labels", "placement.constraints", "placement.preferences"),
            *("placement.max_replicas_per_node", "resources.reservations.generic_resources"),
        )
    ]
    honoured = {
        "mode": "global",
        "replicas": 1,
        "endpoint_mode": "dnsrr",
        "placement": {},
        "update_config": {"parallelism": 2},
        "rollback_config": {"order": "stop-first"},
        "restart_policy": {"condition": "any", "window": "1s"},
        "resources": {"limits": {"cpus": 0.5, "pids": 3}, "reservations": {"cpus": 0.1}},
    }
    assert _check(Service(name="web", config={"deploy": honoured})) == []
    assert _check(Service(name="web", config={"deploy": {**honoured, "mode": "replicated", "replicas": 3}})) == []
    assert _check(Service(name="web", config={"deploy": {"mode": "global", "replicas": 3}})) == [
        ("warning", f"{base}.mode")
    ]
    secret = FileSource(
        key="s",
        name="p_s",
        file="/x",
        config={"driver": "vault", "template_driver": "golang", "labels": {"a": "b"}, "driver_opts": {"c": "d"}},
    )
    assert _check(Service(name="web"), secrets={"s": secret}) == [
        ("warning", "secrets.s.driver"),
        ("warning", "secrets.s.driver_opts"),
        ("warning", "secrets.s.labels"),
        ("warning", "secrets.s.template_driver"),
    ]


def test_a_relative_target_and_a_bad_address_are_errors() -> None:
    service = Service(
        name="web",
        volumes=(VolumeMount(type="volume", target="v:/v"),),
        extra_hosts=(("x", "999.1.1.1"),),
    )
    assert _check(service) == [("error", "services.web.volumes[0]"), ("error", "services.web.extra_hosts")]


def test_drivers_of_networks_and_their_options() -> None:
    networks = {
        "a": Network(key="a", name="p_a", driver="overlay"),
        "b": Network(key="b", name="p_b", driver_opts={"com.docker.network.nope": "1"}),
        "c": Network(key="c", name="elsewhere", driver="overlay", external=True),
    }
    assert _check(Service(name="web"), networks=networks) == [
        ("error", "networks.a.driver"),
        ("error", "networks.b.driver_opts"),
    ]
