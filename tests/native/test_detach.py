"""Leaving a session's control group, and who may change containers at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.detach import leave_control_group
from orchestrator.engines.native.privilege import require_root
from orchestrator.errors import Unavailable
from orchestrator.supervision.launch import prepare

ROOT = Path("/sys/fs/cgroup")
HYBRID = (ROOT / "unified", ROOT / "systemd")
TRACKED = [ROOT] if (ROOT / "cgroup.controllers").exists() else [one for one in HYBRID if one.is_dir()]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def session() -> Iterator[list[Path]]:
    """A control group like a login session's, in every hierarchy that systemd tracks by."""
    if read_groups(os.getpid()) - {"/"}:
        pytest.skip("this process is in a group of its own already")
    groups = [one / f"stack-test-{os.getpid()}" for one in TRACKED]
    for one in groups:
        one.mkdir()
    yield groups
    for one in groups:
        one.rmdir()


def read_groups(pid: int) -> set[str]:
    """The groups of a process in those hierarchies."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return {path for number, controllers, path in lines if number == "0" or controllers == "name=systemd"}


@needs_root
def test_a_process_leaves_its_session(session: list[Path]) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        for one in session:
            (one / "cgroup.procs").write_text(str(child))
        assert read_groups(child) == {f"/{session[0].name}"}
        assert leave_control_group(child)
        assert read_groups(child) == {"/"}
        # Who is out already stays there.
        assert leave_control_group(child)
    finally:
        os.close(write)
        os.waitpid(child, 0)
        os.close(read)


def test_a_process_that_is_gone_is_no_error() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert leave_control_group(child)


@needs_root
def test_a_keeper_leaves_the_session_of_its_command(session: list[Path]) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for one in session:
                (one / "cgroup.procs").write_text("0")
            prepared = prepare("fake")
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if read_groups(prepared.keeper) == {"/"}:
                    code = 0
                    break
                time.sleep(0.005)
            prepared.discard()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_root
@pytest.mark.parametrize("lose", ["uid", "capabilities"])
def test_without_privilege_one_message_says_what_to_do(lose: str) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if lose == "uid":
                os.setuid(65534)
            else:
                drop_bounding_capability(21)  # CAP_SYS_ADMIN
            require_root("change containers")
        except Unavailable as error:
            os.write(write, f"{error.message}|{error.hint}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 4096).decode()
    os.close(read)
    assert ("sudo" if lose == "uid" else "CAP_SYS_ADMIN") in said


def drop_bounding_capability(number: int) -> None:
    """prctl(PR_CAPBSET_DROP)."""
    import ctypes

    assert ctypes.CDLL(None).prctl(24, number, 0, 0, 0) == 0
