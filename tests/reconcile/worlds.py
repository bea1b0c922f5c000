"""Many random runs, each out of a seed of its own: plans alone, and the whole loop."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable

from reconcile.loop_world import World
from reconcile.plan_world import live_plans

SECOND = "goals that needed a second attempt in good weather"


def live_loop(seed: int, tell: Callable[[str], None]) -> Counter[str]:
    """One run of the real loop. AssertionError says what must never happen; returns what happened how often."""
    world = World(seed, tell)
    world.run()
    starts = Counter(
        "restart policy" if "; restart policy " in cause else "operation" for _, cause in world.engine.starts
    )
    return Counter(
        {
            "crashes of the supervisor": world.host.crashes,
            "starts by restart policies": starts["restart policy"],
            "starts by operations": starts["operation"],
            "engine calls": len(world.engine.calls),
            SECOND: world.attempts > 1,
        }
    )


KINDS: dict[str, Callable[[int, Callable[[str], None]], Counter[str]]] = {"plans": live_plans, "loop": live_loop}


def run_worlds(seed: int, runs: int, *, only: str | None = None, tell: bool = False) -> int:
    """Live `runs` runs of each kind with the seeds from `seed` on; print every seed that fails. 1 if any did."""
    say: Callable[[str], None] = print if tell else lambda _text: None
    failed = 0
    for kind in [only] if only else KINDS:
        totals: Counter[str] = Counter()
        begun = time.monotonic()
        for number in range(seed, seed + runs):
            if number > seed and (number - seed) % 1000 == 0:
                print(f"  {kind}: {number - seed} of {runs}", flush=True)
            try:
                counts = KINDS[kind](number, say)
                totals += counts
                if counts[SECOND]:
                    print(f"second  {kind} --seed {number}: a goal needed a second attempt in good weather", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED  {kind} --seed {number}: {_first_line(error)}", flush=True)
                if tell:
                    traceback.print_exc(file=sys.stdout)
        seconds = time.monotonic() - begun
        print(f"{kind}: {runs} runs, seeds {seed} to {seed + runs - 1}, {seconds:.0f} s: {dict(totals)}", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
