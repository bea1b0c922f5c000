"""The configuration digest: what it sees, what it overlooks on purpose, and how differences read."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from stacks import bind_stack

from orchestrator.digest import config_hash, diff_config, diff_resource, diff_service
from orchestrator.model import FileMount, FileSource


def digest(config: dict, networks: dict | None = None, **resources: object) -> str:
    stack = bind_stack({"web": config}, networks).replace(**resources)
    return config_hash(stack.services["web"], stack)


@pytest.mark.parametrize(
    "change",
    [
        {"depends_on": {}},
        {"profiles": ["debug"]},
        {"scale": 3},
        {"pull_policy": "always"},
        {"develop": {"watch": []}},
        {"attach": False},
        {"deploy": {"replicas": 3, "update_config": {"parallelism": 2}}},
    ],
)
def test_what_does_not_shape_a_container_is_overlooked(change: dict) -> None:
    assert digest({"image": "a", **change}) == digest({"image": "a"})


@pytest.mark.parametrize(
    "change",
    [
        {"image": "b"},
        {"environment": {"A": None}},
        {"command": None},
        {"command": []},
        {"restart": "always"},
        {"deploy": {"resources": {"limits": {"memory": "1"}}}},
        {"networks": {"default": {"aliases": ["x"]}}},
    ],
)
def test_what_shapes_a_container_counts(change: dict) -> None:
    assert digest({"image": "a", **change}) != digest({"image": "a"})


def test_names_on_the_engine_count() -> None:
    assert digest({}, {"default": {"name": "other"}}) != digest({})


def test_order_of_keys_and_kind_of_mapping_do_not_count() -> None:
    one = {"image": "a", "labels": MappingProxyType({"x": "1", "y": "2"}), "dns": ("1.1.1.1",)}
    two = {"dns": ["1.1.1.1"], "labels": {"y": "2", "x": "1"}, "image": "a"}
    assert digest(one) == digest(two)


def test_the_shape_of_strings_cannot_be_confused() -> None:
    assert digest({"command": ["a", "b"]}) != digest({"command": ["a,b"]})
    assert digest({"environment": {"A": "1"}}) != digest({"environment": {"A": 1}})
    assert digest({"x": True}) != digest({"x": 1})


def test_secrets_count_with_what_they_hold() -> None:
    stack = bind_stack({"web": {}})
    service = stack.services["web"].replace(secrets=(FileMount(source="key"),))

    def of(source: FileSource, digests: dict[str, str] | None = None) -> str:
        return config_hash(service, stack.replace(secrets={"key": source}), digests or {})

    value = FileSource(key="key", name="key", environment="KEY", value="one")
    assert of(value) != of(value.replace(value="two"))
    file = FileSource(key="key", name="key", file="/f")
    assert of(file, {"/f": "1"}) != of(file, {"/f": "2"})


def test_differences_are_told_field_by_field() -> None:
    old = {"environment": {"DEBUG": "0", "GONE": "1"}, "ports": [{"target": 80, "published": "8080"}], "command": ["a"]}
    new = {"environment": {"DEBUG": "1"}, "ports": [{"target": 80, "published": "8081"}], "command": ["a", "b"]}
    assert [one.render() for one in diff_config(old, new)] == [
        "command: [a] -> [a, b]",
        "environment.DEBUG: 0 -> 1",
        "environment.GONE: 1 -> not set",
        "ports[0].published: 8080 -> 8081",
    ]


def test_secrets_are_not_shown_in_differences() -> None:
    old = {"environment": {"DB_PASSWORD": "hunter2", "URL": "postgres://me:hunter2@db/x"}}
    new = {"environment": {"DB_PASSWORD": "hunter3", "URL": "postgres://me:hunter3@db/y"}}
    shown = [one.render() for one in diff_config(old, new)]
    assert shown == [
        "environment.DB_PASSWORD: changed",
        "environment.URL: postgres://me:xxxxx@db/x -> postgres://me:xxxxx@db/y",
    ]


def test_only_the_password_in_a_url_changed() -> None:
    shown = diff_config({"environment": {"URL": "a://u:1@h"}}, {"environment": {"URL": "a://u:2@h"}})
    assert [one.render() for one in shown] == ["environment.URL: changed"]


def test_resources_compare_without_names_and_empty_values() -> None:
    assert not diff_resource({"name": "a", "ipam": {}, "internal": False}, {"name": "b", "labels": None})
    assert diff_resource({"internal": False}, {"internal": True})


def test_ignored_fields_are_no_differences() -> None:
    assert not diff_service({"image": "a", "deploy": {"replicas": 1}}, {"image": "a", "deploy": {"replicas": 2}})
