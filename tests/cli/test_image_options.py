"""``pull``, ``push`` and ``build --push``: whose images, and what a failure means."""

from __future__ import annotations

from collections.abc import Callable

from .conftest import Ran
from .test_build_commands import BuildingEngine, builder

__all__ = ["builder"]


def test_dependencies_are_taken_along(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    builder.publish_image("registry.test/web:1")
    builder.publish_image("registry.test/web:latest", local=True)
    quiet = ("--progress", "quiet")
    assert stack(*quiet, "build", "--push", "web").code == 0
    assert ("push", "registry.test/web:1") in builder.calls
    builder.calls.clear()
    assert stack(*quiet, "push", "--include-deps", "web").code == 0
    assert ("push", "registry.test/web:1") in builder.calls
    # web depends on api, whose image has no name to be pushed under.
    assert "service api has no image name" in stack("push", "--include-deps", "web").err
    assert "api" not in stack("push", "web").err
    builder.calls.clear()
    assert stack(*quiet, "pull", "--include-deps", "worker").code == 0
    assert builder.calls == [("pull", "registry.test/web:1")]


def test_a_failed_pull_can_be_ignored(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    assert stack("--progress", "quiet", "pull", "db").code == 1
    assert stack("--progress", "quiet", "pull", "--ignore-pull-failures", "db").code == 0
