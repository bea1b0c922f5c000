"""``pull``, ``push`` and ``build --push``: whose images, and what a failure means."""

from __future__ import annotations

import json
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


def test_a_dry_run_moves_nothing(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    mark = " DRY-RUN MODE - "
    told = [f"{mark} {line}" for line in ("Image db Pulling", "db Pulling", "Image db Pulled", "db Pulled")]
    assert stack("--dry-run", "pull", "db").err.splitlines() == told
    assert stack("push", "--dry-run", "web").err.splitlines()[1] == f"{mark} Image registry.test/web:1 Pushed"
    assert json.loads(stack("--progress", "json", "push", "--dry-run", "web").err.splitlines()[0])["dry-run"] is True
    assert stack("--progress", "quiet", "push", "--dry-run", "web").err == ""
    assert stack("ps", "--dry-run").code == 0
    assert stack("--dry-run", "config", "-q").code == 0
    for words in (("rm", "db"), ("prune", "-f"), ("tag", "db", "other")):
        ran = stack("--dry-run", "image", *words)
        assert (ran.code, f"`stack image {words[0]}` has no dry run" in ran.err) == (16, True)
    assert builder.calls == []


def test_progress_is_told_as_asked(stack: Callable[..., Ran], builder: BuildingEngine) -> None:
    builder.publish_image("db")
    assert stack("--progress", "quiet", "pull", "db").err == ""
    assert stack("--progress", "plain", "pull", "db").err.splitlines()[-2:] == [" Image db Pulled", " db Pulled"]
    last = json.loads(stack("--progress", "json", "pull", "db").err.splitlines()[-1])
    assert (last["id"], last["status"], last["text"]) == ("Image db", "Done", "Pulled")
    assert stack("--progress", "loud", "pull", "db").code == 16
