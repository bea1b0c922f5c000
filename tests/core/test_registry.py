"""Engines by name."""

from __future__ import annotations

import pytest

from orchestrator.engines.registry import load_engine
from orchestrator.errors import UsageError


def test_an_engine_is_found_by_its_name() -> None:
    assert load_engine("fake").name == "fake"


def test_an_unknown_engine_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_engine("wharf")
    assert "fake, native" in caught.value.hint
