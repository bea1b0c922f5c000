"""A bell wakes its readers up, and goes on ringing once it is over."""

from __future__ import annotations

import select

from orchestrator.engines.bell import Bell, find_bell


def rings(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_a_bell_is_heard_once_unless_it_is_over() -> None:
    over = [False]
    bell = Bell(lambda: over[0])
    assert not rings(bell)
    bell.ring()
    assert rings(bell)
    assert not bell()
    assert not rings(bell), "whoever asked need not ask again"
    over[0] = True
    bell.ring()
    assert bell()
    assert rings(bell), "every reader hears it"
    bell.close()
    bell.ring()


def test_only_a_bell_can_be_waited_for() -> None:
    bell = Bell(lambda: False)
    assert find_bell(bell) == bell.fileno()
    assert find_bell(lambda: True) is None
    assert find_bell(None) is None
    bell.close()
