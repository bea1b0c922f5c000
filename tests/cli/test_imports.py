"""What a command may not import: a terminal user feels each of these."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "asyncio", "anyio", "rich", "networkx", "jsonschema", "pyroute2", "logging", "concurrent", "subprocess",
    "importlib.metadata", "email", "http", "urllib.request",
)  # fmt: skip

PROBE = """
import sys
from orchestrator.cli.main import main
code = main(sys.argv[1:])
assert code in (0, 14), code
print(*sorted(name for name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [("version",), ("-p", "nothing", "ps"), ("-p", "nothing", "logs"), ("ls",)])
def test_quick_commands_import_nothing_heavy(words: tuple[str, ...], tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "STACK_STATE_DIR": f"{tmp_path}/state", "STACK_RUN_DIR": f"{tmp_path}/run"},
        cwd=__file__.rpartition("/tests/")[0],
    )
    assert done.returncode == 0, done.stderr
    found = set(done.stderr.split())
    assert not found & set(HEAVY)


def test_the_road_of_up_has_no_event_loop() -> None:
    modules = (
        "orchestrator.client, orchestrator.actions.converge, orchestrator.cli.commands.up, orchestrator.cli.converging"
    )
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=__file__.rpartition("/tests/")[0], check=True
    )
    assert not set(done.stdout.split()) & {"asyncio", "rich", "networkx", "jsonschema", "concurrent"}
