"""A store of one's own, and a real registry on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .tars import file, folder, make_docker_archive, make_rootfs, make_tar


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def store(layout: Layout, clean_environment: None) -> ImageStore:
    return ImageStore(layout)


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential, certificate or registry configuration of the machine is seen."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "STACK_CERTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "registries.conf"
    empty.write_text("")
    monkeypatch.setenv("STACK_REGISTRIES_CONF", str(empty))


@dataclass
class Registry:
    """A running docker-registry."""

    host: str
    root: Path
    arguments: tuple[str, ...] = ("--dest-tls-verify=false",)

    def fill(self, source: str, name: str, *more: str) -> None:
        """Copy an image into it."""
        target = f"docker://{self.host}/{name}"
        done = subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "-q", *self.arguments, *more, source, target],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def run_registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Start registries; each has its own port and storage, and is stopped at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(http: str = "", auth: str = "") -> Registry:
        port = find_port()
        root = tmp_path / f"registry-{port}"
        root.mkdir()
        configuration = root / "config.yml"
        configuration.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n"
            f'http:\n  addr: "127.0.0.1:{port}"\n{http}{auth}'
        )
        with (root / "log").open("wb") as log:
            command = ["docker-registry", "serve", str(configuration)]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        wait_for_port(port)
        return Registry(f"127.0.0.1:{port}", root)

    yield run
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(10)


@pytest.fixture
def registry(run_registry: Callable[..., Registry]) -> Registry:
    return run_registry()


@pytest.fixture
def locked(run_registry: Callable[..., Registry], tmp_path: Path) -> Registry:
    """A registry that wants user ``u``, password ``p w``."""
    hashed = "$2b$05$abcdefghijklmnopqrstuuhQpOLNfbQkSGKgbtXf/AEtH8gugRYb2"  # bcrypt
    (tmp_path / "htpasswd").write_text(f"u:{hashed}\n")
    registry = run_registry(auth=f"auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n")
    registry.arguments += ("--dest-creds=u:p w",)
    return registry


@pytest.fixture
def sample(tmp_path: Path) -> tuple[str, str]:
    """A docker-archive with three layers: skopeo's name for it, and its identifier."""
    layers = [
        make_rootfs(),
        make_tar([folder("app"), file("app/data", os.urandom(3 << 20)), file("app/old", b"1")]),
        make_tar([folder("app"), file("app/.wh.old"), file("app/new", b"2")]),
    ]
    path = tmp_path / "sample.tar"
    identifier = make_docker_archive(path, layers, tags=["localhost/sample:1"])
    return f"docker-archive:{path}", identifier


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("the registry did not start")
