"""What a file may say although nothing can run it: the model is printed, `up` is refused, with the line."""

from __future__ import annotations

import pytest

from orchestrator.errors import ModelError
from orchestrator.spec.faults import check_faults, find_faults

HEAD = "services: {web: {image: i, %s}}"


def list_faults(stack):
    return [
        f"{':'.join(map(str, one.location[1:])) if one.location else ''} {one.code} {one.path}"
        for _, one in find_faults(stack.tree, stack.sources.locate)
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (HEAD % "restart: allways", ["1:37 not-allowed services.web.restart"]),
        (HEAD % "restart: on-failure:3", []),
        (
            HEAD % "deploy: {restart_policy: {condition: never}}",
            ["1:65 not-allowed services.web.deploy.restart_policy.condition"],
        ),
        (HEAD % "container_name: '?x'", ["1:44 bad-name services.web.container_name"]),
        (HEAD % "ports: [{target: 80, published: x}]", ["1:36 bad-port services.web.ports[0]"]),
        (HEAD % "ports: [{target: 80, published: 9-1}]", ["1:36 port-range-reversed services.web.ports[0]"]),
        (HEAD % "ports: ['0:80', '80:80/udp/x', '1:0']", ["1:59 bad-port services.web.ports[2]"]),
        (HEAD % "ports: [{target: 70000}]", ["1:36 bad-port services.web.ports[0]"]),
        (HEAD % "ports: [{target: 80, host_ip: localhost}]", ["1:36 bad-address services.web.ports[0]"]),
        (
            HEAD % "volumes: [{type: bnd, source: /a, target: /b}]",
            ["1:45 not-allowed services.web.volumes[0].type"],
        ),
        (HEAD % "volumes: [{type: '', source: /a, target: /b}]", ["1:38 not-allowed services.web.volumes[0].type"]),
        (HEAD % "devices: ['']", ["1:38 bad-device services.web.devices[0]"]),
        (HEAD % "build: ''", ["1:28 missing-attribute services.web.build"]),
        (HEAD % "mem_limit: -5", ["1:39 bad-size services.web.mem_limit"]),
        (
            "services: {web: {image: i, networks: {n: {ipv6_address: 10.0.0.1}}}}\n"
            "networks: {n: {name: '', ipam: {config: [{subnet: 10.0.0.0, gateway: x}]}}, unused: {name: ''}}",
            [
                "1:57 bad-address services.web.networks.n.ipv6_address",
                "2:12 missing-attribute networks.n.name",
                "2:51 bad-address networks.n.ipam.config[0].subnet",
                "2:70 bad-address networks.n.ipam.config[0].gateway",
            ],
        ),
    ],
)
def test_what_cannot_run_is_printed_and_refused(load, text, faults):
    stack = load(text).stack
    assert list_faults(stack) == faults
    if faults:
        with pytest.raises(ModelError):
            check_faults(stack, ["web"])


def test_only_what_is_asked_for_counts(load):
    stack = load("services: {web: {image: i}, bad: {image: i, restart: allways}}").stack
    check_faults(stack, ["web"])


def test_beside_errors_they_are_errors_too(refuse):
    found = refuse("services:\n  web: {image: i, restart: allways}\n  bad: {imgae: i}")
    assert found == ["2:28 not-allowed services.web.restart", "3:9 unknown-attribute services.bad.imgae"]
