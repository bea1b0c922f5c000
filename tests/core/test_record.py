"""Records are frozen values, and survive a trip through JSON."""

from __future__ import annotations

import json

import pytest

from orchestrator.codec import dump_record, load_record
from orchestrator.model import Dependency, NetworkAttachment, Port, Service, VolumeMount


def test_a_record_refuses_unknown_and_missing_fields() -> None:
    with pytest.raises(TypeError, match=r"unknown fields \['nope'\], missing fields \['target'\]"):
        Port(nope=1)  # type: ignore[call-arg]


def test_a_record_is_frozen_equal_by_value_and_hashable() -> None:
    port = Port(target=80)
    with pytest.raises(AttributeError):
        port.target = 81  # type: ignore[misc]
    assert port == Port(target=80) != Port(target=81)
    assert len({port, Port(target=80)}) == 1
    assert port.replace(published="8080") == Port(target=80, published="8080")


def test_records_survive_json() -> None:
    service = Service(
        name="web",
        config={"ports": [{"target": 80}], "environment": {"A": None}},
        environment={"A": None, "$": "an awkward name"},
        ports=(Port(target=80, published="8080"),),
        depends_on={"db": Dependency(service="db", condition="service_healthy")},
        networks={"default": NetworkAttachment(network="default", aliases=("www", "site"))},
        volumes=(VolumeMount(type="bind", source="/a", target="/b", options={"create_host_path": True}),),
        extra_hosts=(("a", "10.0.0.1"),),
    )
    assert load_record(json.loads(json.dumps(dump_record(service)))) == service


def test_a_field_of_a_later_version_is_dropped() -> None:
    data = {**dump_record(Port(target=80)), "invented": 1}
    assert load_record(data) == Port(target=80)
