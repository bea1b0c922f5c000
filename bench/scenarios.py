"""What is measured: stack files of so many services, and what is done with each of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

IMAGE = "localhost/bench-busybox:1"

# One number per run makes this run's container processes recognisable among all others of the machine.
SLEEP_SECONDS = str(random.SystemRandom().randrange(1_900_000_000, 2_100_000_000))

# Process 1 ignores a SIGTERM that it does not handle, and every tool would then wait ten seconds to kill it. The trap
# makes the service stop at once, as a well-behaved one does, for every tool alike.
COMMAND = ["sh", "-c", f"trap 'exit 0' TERM; sleep {SLEEP_SECONDS} & wait"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`services` containers of one project; with `chain` each depends on the one before."""

    name: str
    services: int
    chain: bool = False

    def render(self) -> str:
        """The Compose file; JSON strings are YAML."""
        lines = ["services:"]
        for number in range(self.services):
            lines.append(f"  s{number:03d}:")
            lines.append(f"    image: {IMAGE}")
            lines.append("    command: [" + ", ".join(f'"{word}"' for word in COMMAND) + "]")
            if self.chain and number:
                lines.append(f"    depends_on: [s{number - 1:03d}]")
        return "\n".join(lines) + "\n"


ONE = Scenario("one", 1)
TEN = Scenario("ten", 10)
CHAIN = Scenario("chain", 10, chain=True)
FIFTY = Scenario("fifty", 50)
COMPARED = (ONE, TEN, CHAIN, FIFTY)


def plan_scale(sizes: list[int]) -> tuple[Scenario, ...]:
    """The scenarios of the scale run."""
    return tuple(Scenario(f"scale{size}", size) for size in sizes)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: which measure of which scenario, and the ratio to Docker Compose that is aimed at."""

    title: str
    scenario: str
    measure: str
    budget: float | None


ROWS = (
    Row("`up -d`, 1 service, image present", "one", "up", 1 / 3),
    Row("`up -d`, 10 services", "ten", "up", 1 / 8),
    Row("`up -d`, 50 services", "fifty", "up", 1 / 10),
    Row("`up -d`, chain of 10", "chain", "up", 1 / 8),
    Row("`down`, 1 service", "one", "down", None),
    Row("`down`, 10 services", "ten", "down", None),
    Row("`down`, 50 services", "fifty", "down", 1 / 8),
    Row("`up -d` again, nothing to do, 1 service", "one", "again", 1.0),
    Row("`up -d` again, nothing to do, 10 services", "ten", "again", 1.0),
    Row("`up -d` again, nothing to do, 50 services", "fifty", "again", 1.0),
    Row("`ps`, 1 service", "one", "ps", 1.0),
    Row("`ps`, 10 services", "ten", "ps", 1.0),
    Row("`ps`, 50 services", "fifty", "ps", 1.0),
    Row("memory while 10 services idle (PSS)", "ten", "memory", 1 / 4),
)
