"""The rows of attributes.py and the properties of the published schema are the same set, and accept the same files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.spec.attributes import PRE_START, ROWS
from orchestrator.spec.positions import Problems
from orchestrator.spec.schema import SHAPES, shape_layer
from orchestrator.spec.yaml import parse_documents

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "stack.schema.json").read_text())


def follow(reference: str) -> dict[str, Any]:
    """What a reference such as ``#/$defs/pairs`` leads to."""
    node: dict[str, Any] = SCHEMA
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def list_properties(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of the schema with its path in the terms of attributes.py."""
    if "$ref" in node:
        node = follow(node["$ref"])
    for choice in node.get("oneOf", ()):
        yield from list_properties(choice, path)
    for name, below in node.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here, below
        yield from list_properties(below, here)
    for pattern, below in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            yield from list_properties(below, f"{path}.*".lstrip("."))
    if isinstance(node.get("items"), dict):
        yield from list_properties(node["items"], f"{path}[]")


PROPERTIES = dict(list_properties(SCHEMA, ""))


def test_every_property_has_a_row_and_every_row_a_property():
    named = {row.path for row in ROWS if not row.path.endswith(("*", "[]"))}
    of_service = {path.removeprefix("services.*.") for path in named if path.startswith("services.*.")}
    shared = {path for path in of_service if path.partition(".")[0].removesuffix("[]") in PRE_START.fields}
    assert named | {f"services.*.pre_start[].{path}" for path in shared} == set(PROPERTIES)


def test_every_property_is_described_and_typed():
    for path, below in PROPERTIES.items():
        assert len(below.get("description", "")) > 10, path
        assert {"type", "$ref", "oneOf"} & set(below), path


def test_every_kind_has_a_shape():
    assert {row.kind for row in ROWS} == set(SHAPES)


def test_examples_are_accepted_by_the_schema_and_by_the_loader():
    validator = pytest.importorskip("jsonschema").Draft202012Validator(SCHEMA)
    for path, below in PROPERTIES.items():
        for example in below.get("examples", ()):
            part = validator.evolve(schema={**below, "$defs": SCHEMA["$defs"]})
            assert not list(part.iter_errors(example)), path
            problems = Problems()
            text = json.dumps(nest(path, example))
            for tree, mark in parse_documents(text, problems.register_file("example"), problems):
                shape_layer(tree, mark, problems)
            wrong = [one for one in problems.found if one.code not in ("missing-attribute",)]
            assert not wrong, (path, wrong)


def nest(path: str, value: Any) -> Any:
    for part in reversed(path.replace("[]", ".[]").split(".")):
        value = (
            [value]
            if part == "[]"
            else {("nofile" if part == "*" and "ulimits" in path else "x" if part == "*" else part): value}
        )
        if (
            part == "*"
            and path.startswith("services")
            and isinstance(value.get("nofile"), dict)
            and "ulimits" not in path
        ):
            value = {"x": value["nofile"]}
    return fix_service_name(value)


def fix_service_name(value: Any) -> Any:
    """The same placeholder serves as a service's and as a limit's name; only the latter is a limit."""
    services = value.get("services")
    if isinstance(services, dict) and "nofile" in services:
        value = {"services": {"web": services["nofile"]}}
    return value
