"""What a command may not import: a terminal user feels each of these."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import evidence
from orchestrator.engines.native.store import Store

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
    names = ("supervision.client", "actions.converge", "cli.commands.up", "cli.converging")
    modules = ", ".join(f"orchestrator.{name}" for name in names)
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=__file__.rpartition("/tests/")[0], check=True
    )
    assert not set(done.stdout.split()) & {"asyncio", "rich", "networkx", "jsonschema", "concurrent"}


QUICKEST = {"typing", "re", "enum", "json", "sqlite3", "datetime", "pathlib", "socket", "selectors", "threading"}
"""What takes a millisecond or more each, and is not needed to list containers or to ask a supervisor one question."""


def run_probe(code: str, folder: Path, *words: str) -> set[str]:
    """The modules that are imported when `code` has run with `words` in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": __file__.rpartition("/tests/")[0],
            "STACK_STATE_DIR": f"{folder}/state",
            "STACK_RUN_DIR": f"{folder}/run",
        },
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_ps_reads_the_store_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("services: {web: {image: x}}\n")
    while time.time_ns() - file.stat().st_ctime_ns <= evidence._TICK:
        time.sleep(0.005)
    (tmp_path / "state").mkdir()
    store = Store(tmp_path / "state" / "stack.db")
    with store.writing():
        pass
    store.close()
    run_probe(PROBE, tmp_path, "ps")
    found = run_probe(PROBE, tmp_path, "ps")
    assert not found & QUICKEST
    assert len([one for one in found if one.startswith("orchestrator")]) <= 32


def test_asking_a_supervisor_takes_next_to_nothing(tmp_path: Path) -> None:
    code = """
import sys
import orchestrator.cli.main, orchestrator.cli.again
from orchestrator.supervision.confirming import confirm_goal, is_supervised
from orchestrator.cli.quick import names_supervised
assert confirm_goal("nowhere", "1", "x", 0.0) is None
assert not is_supervised("nowhere") and not names_supervised(["up", "-d"])
print(*sys.modules, file=sys.stderr)
"""
    found = run_probe(code, tmp_path)
    assert not found & {*QUICKEST, "collections", "functools", "contextlib"}
    assert len([one for one in found if one.startswith("orchestrator")]) <= 22


def test_reading_a_stack_file_imports_only_the_parser_of_yaml(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: x}}\n")
    found = run_probe(PROBE, tmp_path, "config")
    assert {one for one in found if one.startswith("yaml")} == {
        *("yaml._yaml", "yaml.error", "yaml.events", "yaml.nodes", "yaml.tokens")
    }
    assert not found & {"json", "datetime", "pathlib", "sqlite3", "socket", "threading", "importlib.metadata"}
