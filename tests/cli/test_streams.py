"""Closed streams, full disks behind them, a folder that is gone: a command works all the same, or says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = "services: {web: {image: 'x:1${NOTHING}'}}\n"


def run(tmp_path: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in which ``stack`` is ours."""
    (tmp_path / "compose.yaml").write_text(TEXT)
    names = {
        "STACK_STATE_DIR": str(tmp_path / "state"),
        "STACK_RUN_DIR": str(tmp_path / "run"),
        "PATH": "/usr/bin:/bin",
    }
    script = f'stack() {{ "{sys.executable}" -m orchestrator "$@"; }}\n{line}'
    return subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env={**names, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    for words in ("config", "ls -a"):
        done = run(tmp_path, f"stack {words} {closed}")
        assert done.returncode == 0, done.stderr
        assert "rror" not in done.stderr


def test_nothing_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what is meant for the screen would go into the store."""
    probe = (
        "import os; from orchestrator.cli.streams import open_closed_streams as o; o(); os.mkdir(str(os.open('/', 0)))"
    )
    done = run(tmp_path, f'"{sys.executable}" -c "{probe}" <&- >&- 2>&-')
    assert done.returncode == 0
    assert [one.name for one in tmp_path.iterdir() if one.name.isdecimal()] == ["3"]


def test_a_full_disk_behind_the_output(tmp_path: Path) -> None:
    for words in ("config", "version", "ls"):
        done = run(tmp_path, f"stack {words} >/dev/full")
        assert (done.returncode, done.stderr.count("error[")) == (1, 1)
        assert "cannot write to standard output: No space left on device" in done.stderr


def test_a_full_disk_behind_the_messages(tmp_path: Path) -> None:
    """A limit of nothing on the size of files stands for it."""
    done = run(tmp_path, "ulimit -f 0; stack config 2>messages")
    assert (done.returncode, "image: x:1" in done.stdout) == (0, True)
    assert (tmp_path / "messages").read_text() == ""


def test_the_folder_is_gone(tmp_path: Path) -> None:
    for words in ("ps", "config", "up -d"):
        done = run(tmp_path, f"mkdir gone && cd gone && rmdir ../gone && stack {words}")
        assert done.returncode == 14
        assert "error[file-not-found]: the current folder does not exist any more" in done.stderr


@pytest.mark.parametrize("place", ["state", "run"])
def test_a_file_where_a_directory_of_ours_should_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    commands = ("up -d", "ps", "down", "logs", "image ls", "volumes", "doctor", "events --until 1s")
    for value, command in [("file", one) for one in commands] + [("file/inner", "up -d"), ("file/inner", "ps")]:
        done = run(tmp_path, f"export STACK_{place.upper()}_DIR={tmp_path}/{value}; stack {command}")
        assert done.returncode == 1, command
        *_unset_variable, first, hint = done.stderr.splitlines()
        assert done.stderr.count("rror") == 1, done.stderr
        assert first.startswith(f"error[unavailable]: cannot use {tmp_path}/{value}: "), command
        assert first.endswith("is not a folder")
        assert hint.startswith("  hint: STACK_STATE_DIR and STACK_RUN_DIR must name folders"), command
    assert run(tmp_path, f"export STACK_{place.upper()}_DIR={tmp_path}/file; stack config").returncode == 0
    assert {one.name for one in tmp_path.iterdir()} <= {"file", "compose.yaml", "state", "run"}


def test_a_state_directory_that_nobody_may_write_in(tmp_path: Path) -> None:
    for command in ("up -d", "create", "image prune -f", "events --until 1s"):
        done = run(tmp_path, f"export STACK_STATE_DIR=/sys/stack; stack {command}")
        assert done.returncode == 1, command
        *_unset_variable, first, hint = done.stderr.splitlines()
        assert done.stderr.count("rror") == 1, done.stderr
        assert first.startswith("error[unavailable]: cannot use /sys/stack"), (command, first)
        assert hint.startswith("  hint: STACK_STATE_DIR"), command
    assert run(tmp_path, "export STACK_STATE_DIR=/sys/stack; stack ps").returncode == 0
