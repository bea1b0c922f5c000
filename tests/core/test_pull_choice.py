"""What ``pull`` fetches for services, and what it leaves out."""

from __future__ import annotations

from stacks import bind_stack

from orchestrator.actions.pull import NOTHING, PRESENT, Pull, choose_pulls, needs_presence


def test_images_of_pre_start_containers_are_pulled_too() -> None:
    hooks = [{"command": ["x"]}, {"command": ["x"], "image": "tool:1"}, {"command": ["x"], "image": "web:1"}]
    stack = bind_stack({"a": {"image": "web:1", "pre_start": hooks}})
    assert [(one.service, one.reference, one.skipped) for one in choose_pulls(stack, ("a",), ())] == [
        ("a", "web:1", ""),
        ("a pre_start[1]", "tool:1", ""),
        ("a pre_start[2]", "web:1", "Image is already being pulled by a"),
    ]


def test_which_images_are_pulled_and_why_others_are_not() -> None:
    stack = bind_stack(
        {
            "a": {"image": "web:1"},
            "b": {"image": "web:1"},
            "built": {"image": None, "build": {"context": "."}},
            "here": {"image": "db:1", "pull_policy": "missing"},
            "latest": {"image": "db:latest", "pull_policy": "missing"},
            "no": {"image": "no:1", "pull_policy": "never"},
        }
    )
    names = tuple(stack.services)
    present = {one.image or "" for one in stack.services.values()}
    found = {one.service: one for one in choose_pulls(stack, names, present)}
    assert {name for name, one in found.items() if not one.skipped} == {"a", "latest"}
    assert found["b"].skipped == "Image is already being pulled by a"
    assert (found["built"].skipped, found["here"].skipped) == (NOTHING, PRESENT)
    assert found["no"].skipped == "pull_policy is never"
    assert needs_presence(stack, names, None)
    assert not needs_presence(stack, ("a",), None)
    # The command line's word stands for the services' own.
    missing = choose_pulls(stack, ("a", "here"), {"web:1"}, policy="missing")
    assert [one.skipped for one in missing] == [PRESENT, ""]
    assert isinstance(missing[0], Pull)
    assert [one.skipped for one in choose_pulls(stack, ("here",), present, policy="always")] == [""]
