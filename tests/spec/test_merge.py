"""Several files: mappings by key, lists one after the other, scalars replaced, ``!reset`` and ``!override``."""

from __future__ import annotations

import pytest

BASE = """
services:
  web:
    image: one
    command: serve
    privileged: true
    environment: {A: "1", B: "2"}
    labels: [a=1]
    ports: ["8080:80", "9000:9000/udp"]
    volumes: ["./src:/src", "data:/data"]
    dns: 1.1.1.1
    expose: [80]
    ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}
    logging: {driver: json-file, options: {max-size: 1m}}
    healthcheck: {test: [CMD, a], interval: 5s}
    networks: [front]
    depends_on: [db]
    tmpfs: /tmp
  db:
    image: db
networks:
  front:
    ipam: {config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1}]}
  back: {}
volumes: {data: {}}
"""


@pytest.fixture
def merged(load):
    def run(over: str):
        files = ("/app/compose.yaml", "/app/over.yaml")
        return load(BASE, more={"/app/over.yaml": over}, files=files).stack.tree

    return run


def test_mappings_merge_and_scalars_are_replaced(merged):
    web = merged(
        """
        services:
          web:
            image: two
            privileged: false
            environment: [B=3, C=4]
            labels: {b: 2}
            healthcheck: {test: [CMD, b]}
        """
    )["services"]["web"]
    assert web["image"] == "two"
    assert "privileged" not in web
    assert web["environment"] == {"A": "1", "B": "3", "C": "4"}
    assert web["labels"] == {"a": "1", "b": "2"}
    assert web["healthcheck"] == {"test": ["CMD", "b"], "interval": "5s"}


def test_lists_are_appended_and_keep_the_last_of_equal_items(merged):
    web = merged(
        """
        services:
          web:
            ports: ["8080:80", "8081:80"]
            volumes: ["other:/data", "./src:/code"]
            dns: [8.8.8.8]
            expose: ["80", 81]
            tmpfs: [/run]
        volumes: {other: {}}
        """
    )["services"]["web"]
    assert [(port["published"], port["target"]) for port in web["ports"]] == [
        ("8080", 80),
        ("9000", 9000),
        ("8081", 80),
    ]
    assert [(mount["source"], mount["target"]) for mount in web["volumes"]] == [
        ("/app/src", "/src"),
        ("other", "/data"),
        ("/app/src", "/code"),
    ]
    assert web["dns"] == ["1.1.1.1", "8.8.8.8"]
    assert web["expose"] == ["80", "81"]
    assert web["tmpfs"] == ["/tmp", "/run"]


def test_commands_are_replaced_whole(merged):
    assert merged("services: {web: {command: [a, b]}}")["services"]["web"]["command"] == ["a", "b"]
    assert merged("services: {web: {command: null}}")["services"]["web"]["command"] is None


def test_ulimits_and_depends_on_merge_by_name(merged):
    web = merged(
        """
        services:
          web:
            ulimits: {nproc: {soft: 1, hard: 2}, nofile: 7}
            depends_on: {cache: {condition: service_healthy}}
          cache: {image: c}
        """
    )["services"]["web"]
    assert web["ulimits"] == {"nproc": {"soft": 1, "hard": 2}, "nofile": 7}
    assert web["depends_on"]["db"]["condition"] == "service_started"
    assert web["depends_on"]["cache"] == {"condition": "service_healthy", "required": True}


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("{driver: syslog}", {"driver": "syslog"}),
        (
            "{driver: json-file, options: {max-file: 2}}",
            {"driver": "json-file", "options": {"max-size": "1m", "max-file": "2"}},
        ),
        ("{options: {max-file: '2'}}", {"driver": "json-file", "options": {"max-size": "1m", "max-file": "2"}}),
    ],
)
def test_logging_options_belong_to_their_driver(merged, over, expected):
    assert merged(f"services: {{web: {{logging: {over}}}}}")["services"]["web"]["logging"] == expected


def test_address_pools_of_one_subnet_are_one(merged):
    tree = merged(
        "networks: {front: {ipam: {config: [{subnet: 10.0.0.0/24, ip_range: 10.0.0.0/25}, {subnet: 10.1.0.0/24}]}}}"
    )
    assert tree["networks"]["front"]["ipam"]["config"] == [
        {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.0/25"},
        {"subnet": "10.1.0.0/24"},
    ]


def test_reset_removes_and_override_replaces(merged):
    web = merged(
        """
        services:
          web:
            ports: !override ["1:1"]
            volumes: !reset []
            environment:
              A: !reset null
            healthcheck: !reset {}
            dns: !reset null
        """
    )["services"]["web"]
    assert [port["target"] for port in web["ports"]] == [1]
    assert web["environment"] == {"B": "2"}
    assert "volumes" not in web
    assert "healthcheck" not in web
    assert "dns" not in web


def test_a_winning_value_stands_where_it_was_written(load):
    stack = load(
        BASE,
        more={"/app/over.yaml": "services:\n  web:\n    image: two\n    ports:\n      - 1:1\n"},
        files=("/app/compose.yaml", "/app/over.yaml"),
    ).stack
    assert str(stack.sources.locate(("services", "web", "image"))) == "over.yaml:3:12"
    assert str(stack.sources.locate(("services", "web", "ports", 2))) == "over.yaml:5:9"
    assert str(stack.sources.locate(("services", "web", "ports", 0))) == "compose.yaml:9:13"


def test_documents_of_one_file_are_merged(load):
    stack = load("services: {web: {image: a, init: true}}\n---\nservices: {web: {image: b}}\n").stack
    assert stack.services["web"].image == "b"
    assert stack.services["web"].init is True
