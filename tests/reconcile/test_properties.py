"""Whatever the stack, the edits, the order of completion, what fails and when a crash comes: the next cycles converge.

Each run comes out of one number. ``tests/soak properties --only KIND --runs 1 --tell --seed N`` shows what happened in
it; STACK_TEST_SEED and STACK_TEST_RUNS choose others here.
"""

from __future__ import annotations

import os

import pytest

from reconcile.worlds import KINDS

SEED = int(os.environ.get("STACK_TEST_SEED", "1"))
RUNS = int(os.environ.get("STACK_TEST_RUNS", "120"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_converges_and_leaves_nothing(kind: str) -> None:
    print(f"{kind}: seeds {SEED} to {SEED + RUNS - 1}")
    for seed in range(SEED, SEED + RUNS):
        try:
            KINDS[kind](seed, lambda _text: None)
        except AssertionError as error:
            pytest.fail(f"tests/soak properties --only {kind} --runs 1 --tell --seed {seed}: {error}")
