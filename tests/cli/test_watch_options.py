"""``watch``: what its options ask of the one who watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Ran
from .test_build_commands import BuildingEngine, builder

__all__ = ["builder"]


def test_options_reach_the_watcher(
    stack: Callable[..., Ran], builder: BuildingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("compose.yaml", "w") as file:
        rules = "[{path: ., action: rebuild}, {path: src, action: sync, target: /src, x-initialSync: true}]"
        file.write(f"services: {{a: {{build: ., develop: {{watch: {rules}}}}}}}")
    asked: list[Any] = []

    class Watcher:
        def __init__(self, _engine: Any, _project: Any, rules: Any, *, options: Any, **_more: Any) -> None:
            asked.append(options.prune)
            assert [one.initial_sync for one in rules] == [False, True]

        def run(self) -> None:
            return

        close = run

    monkeypatch.setattr("orchestrator.actions.watch.Watcher", Watcher)
    monkeypatch.setattr("orchestrator.cli.watching.Converger", lambda _invocation, *, quiet: asked.append(quiet))
    for words in ((), ("--quiet",), ("--no-prune",), ("--prune=false",)):
        assert stack("watch", "--no-up", *words).code == 0
    assert asked == [False, True, True, True, False, False, False, False]
