"""examples/guestbook from end to end: nginx, a Python API, PostgreSQL, Redis; started in order of health."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from .conftest import ROOT, Machine, Project, open_folders

IMAGES = ("nginx", "postgres", "redis", "python")


@pytest.fixture(scope="module")
def images(machine: Machine) -> None:
    """The example's images, made from the system's packages; skipped where these cannot be had."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    folder = machine.folder / "images"
    subprocess.run([ROOT / "scripts/build-base-images", "--tar-only", folder, *IMAGES], check=True, timeout=1800)
    for name in IMAGES:
        changes = [
            word for line in (folder / f"{name}.changes").read_text().splitlines() for word in ("--change", line)
        ]
        tag = "python" if name == "python" else name
        ran = machine.run(
            "image", "import", str(folder / f"{name}.tar"), "--tag", tag, *changes, cwd=machine.folder, timeout=300
        )
        assert ran.code == 0, ran.err


@pytest.fixture
def guestbook(machine: Machine, images: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A copy of the example, on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setitem(machine.environment, "GUESTBOOK_PORT", str(probe.getsockname()[1]))
    for (project,) in open_folders(machine, ["guestbook"]):
        shutil.copytree(ROOT / "examples/guestbook", project.folder, dirs_exist_ok=True)
        yield project


def ask(project: Project, path: str, entry: dict[str, str] | None = None) -> str:
    """Ask the guestbook through its proxy."""
    port = project.machine.environment["GUESTBOOK_PORT"]
    data = json.dumps(entry).encode() if entry else None
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Accept": "application/json"} | _type(data)
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _type(data: bytes | None) -> dict[str, str]:
    return {"Content-Type": "application/json"} if data else {}


def test_an_entry_outlives_down_and_up_but_not_down_v(guestbook: Project) -> None:
    # It comes up in order of health.
    guestbook.succeed("up", "-d", "--wait", "--wait-timeout", "120", timeout=180)
    shown = guestbook.containers()
    assert {row["Health"] for row in shown.values()} == {"healthy"}
    assert sorted(shown) == ["api-1", "cache-1", "db-1", "proxy-1"]
    # What is written is read back through nginx.
    ask(guestbook, "/entries", {"author": "Ada", "message": "first"})
    assert "first" in ask(guestbook, "/entries")
    # The database cannot be reached from outside its network.
    assert guestbook.run("exec", "-T", "proxy", "bash", "-c", "exec 3<>/dev/tcp/db/5432").code != 0
    # A second up changes nothing.
    assert "nothing to do" in guestbook.succeed("plan")
    # Down and up: still there.
    guestbook.succeed("down", timeout=90)
    guestbook.succeed("up", "-d", "--wait", timeout=180)
    assert "first" in ask(guestbook, "/entries")
    # The API is killed: it comes back, and the proxy finds it.
    os.kill(guestbook.pid("api-1"), 9)
    guestbook.wait_until("the API answers again", lambda: _answers(guestbook), 60)
    # Down -v and up: gone.
    guestbook.succeed("down", "-v", timeout=90)
    guestbook.succeed("up", "-d", "--wait", timeout=180)
    assert "first" not in ask(guestbook, "/entries")


def _answers(project: Project) -> bool:
    try:
        return "first" in ask(project, "/entries")
    except OSError:
        return False
