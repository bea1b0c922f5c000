"""``stack image pull`` as a person calls it: what it shows, how it ends, and how it is interrupted."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .faulty import FaultyProxy, require_bearer, run_proxy
from .handmade import put_image
from .loopback import Registry
from .tars import file, make_tar

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(store: ImageStore, layout: Layout) -> Run:
    """Start ``stack`` with a store of its own and no configuration of this machine."""

    def run(*arguments: str, **more: object) -> subprocess.Popen[str]:
        environment = dict(os.environ, STACK_STATE_DIR=str(layout.state), STACK_RUN_DIR=str(layout.run))
        command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    return run


def hold_blobs(proxy: FaultyProxy) -> tuple[threading.Event, threading.Event]:
    """Let the proxy keep every blob back. Returns what tells that one was asked for, and what lets them go."""
    asked, free = threading.Event(), threading.Event()

    def hold(handler: BaseHTTPRequestHandler) -> bool:
        if "/blobs/" in handler.path:
            asked.set()
            free.wait(60)
        return False

    proxy.before = hold
    return asked, free


def test_lines(start: Run, registry: Registry) -> None:
    put_image(registry, "web", "1", make_tar([file("f", b"1")]))
    process = start("image", "pull", f"{registry.host}/web:1")
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    lines = [" ".join(re.sub(r"[0-9a-f]{12}", "ID", line).split()) for line in said.splitlines()]
    name = f"Image {registry.host}/web:1"
    assert lines == [f"{name} Pulling", "Layer ID Downloading", "Layer ID Downloaded", f"{name} Pulled"]
    quiet = start("image", "pull", "-q", f"{registry.host}/web:1")
    assert quiet.communicate(timeout=60) == ("", "")


def test_a_terminal_shows_bytes(start: Run, registry: Registry) -> None:
    put_image(registry, "web", "1", make_tar([file("f", os.urandom(3_000_000))]))
    main, terminal = pty.openpty()
    process = start("image", "pull", f"{registry.host}/web:1", stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(main, 1 << 16):
            shown += data
    except OSError:  # how a terminal tells that nobody writes to it any more
        pass
    os.close(main)
    assert process.wait(60) == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert "Pulled" in text
    assert re.search(r"Layer [0-9a-f]{12} +Downloaded", text)


def test_interrupted(start: Run, store: ImageStore, registry: Registry) -> None:
    put_image(registry, "web", "1", make_tar([file("f", b"1")]))
    with run_proxy(registry.host) as proxy:
        asked, free = hold_blobs(proxy)
        process = start("image", "pull", f"{proxy.host}/web:1")
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        # The registry is still silent: the command does not wait for it.
        _, said = process.communicate(timeout=60)
        free.set()
        assert process.returncode == 130
        assert "Traceback" not in said
        assert store.list_images() == ()
        assert os.listdir(store.root / "work") == []
        proxy.before = lambda _: False
        assert start("image", "pull", "-q", f"{proxy.host}/web:1").wait(60) == 0
    assert store.fsck(deep=True) == []


def test_up_is_interrupted(start: Run, store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    """Ctrl-C ends the fetch that `up` began; nothing of it goes on behind the person's back."""
    put_image(registry, "web", "1", make_tar([file("f", b"1")]))
    with run_proxy(registry.host) as proxy:
        asked, free = hold_blobs(proxy)
        project = {"name": "interrupted", "services": {"web": {"image": f"{proxy.host}/web:1", "network_mode": "none"}}}
        (tmp_path / "compose.yaml").write_text(json.dumps(project))
        process = start("up", "-d", cwd=tmp_path)
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        free.set()
    assert process.returncode == 130, said
    assert store.list_images() == ()
    down = start("down", cwd=tmp_path)
    down.communicate(timeout=60)
    assert down.returncode == 0


def test_a_failure_is_one_message(start: Run, registry: Registry) -> None:
    process = start("image", "pull", f"{registry.host}/absent:1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("error[") == 1
    assert f"error[image-not-found]: pull access denied for {registry.host}/absent" in said
    assert f"the registry {registry.host} has no {registry.host}/absent:1" in said
    assert "hint: check the name and the tag" in said
    assert "Traceback" not in said


def test_login(
    start: Run,
    store: ImageStore,
    locked: Registry,
    sample: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong password is refused and not stored; the right one opens the way, until the logout."""
    locked.fill(sample[0], "web:1")
    config = Path(os.environ["HOME"]) / ".docker/config.json"

    def run(*arguments: str, said: str = "") -> tuple[int, str]:
        process = start("image", *arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(said, timeout=60)
        return process.returncode, out + err

    code, text = run("pull", f"{locked.host}/web:1")
    assert (code, f"'stack image login {locked.host}'" in text) == (1, True)
    code, text = run("login", locked.host, "-u", "u", "--password-stdin", said="wrong\n")
    assert (code, "refuses this login" in text) == (1, True)
    assert not config.exists()
    code, text = run("login", locked.host)
    assert (code, "--password-stdin" in text) == (16, True)
    assert run("login", f"http://{locked.host}/", "-u", "u", "--password-stdin", said="p w\n")[0] == 0
    assert config.stat().st_mode & 0o777 == 0o600
    assert run("pull", "-q", f"{locked.host}/web:1") == (0, "")
    assert run("logout", locked.host) == (0, f"Removed the login for {locked.host}\n")
    assert json.loads(config.read_bytes()) == {"auths": {}}
    store.remove_image(f"{locked.host}/web:1")
    assert run("pull", f"{locked.host}/web:1")[0] == 1
    # With a helper nothing gets into the file.
    helper = tmp_path / "docker-credential-box"
    box = tmp_path / "box"
    helper.write_text(f"#!/bin/sh\ncase $1 in store) cat > {box};; get) cat {box};; erase) rm {box};; esac\n")
    helper.chmod(0o755)
    config.write_text('{"credsStore": "box", "psFormat": "kept"}')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run("login", locked.host, "-u", "u", "--password-stdin", said="p w\n")[0] == 0
    assert json.loads(box.read_bytes())["Secret"] == "p w"
    assert run("pull", "-q", f"{locked.host}/web:1") == (0, "")
    run("logout", locked.host)
    assert not box.exists()
    assert json.loads(config.read_bytes()) == {"credsStore": "box", "psFormat": "kept"}


def test_login_with_tokens(start: Run, registry: Registry) -> None:
    with run_proxy(registry.host) as proxy:
        queries = require_bearer(proxy, "u", "secret")
        for password, code in (("wrong", 1), ("secret", 0)):
            process = start("image", "login", proxy.host, "-u", "u", "-p", password)
            process.communicate(timeout=60)
            assert process.returncode == code
    assert all("scope" not in one for one in queries)
