"""A few rounds of what ``tests/kill_loop`` does a hundred times: kill -9 of the commands themselves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .killing import DEEDS, Scene, kill_often


@pytest.mark.parametrize("name", DEEDS)
def test_a_killed_command_leaves_a_sound_store(tmp_path: Path, name: str) -> None:
    scene = Scene(tmp_path)
    try:
        *_, tally = kill_often(scene, name, 2, random.Random(7))
    finally:
        scene.close()
    assert tally.faults == []
