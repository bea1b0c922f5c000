"""A store of one's own, and a real registry on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .loopback import Registry, start_registry
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


@pytest.fixture
def run_registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Start registries; each has its own port and storage, and is stopped at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(http: str = "", auth: str = "") -> Registry:
        process, registry = start_registry(tmp_path, http=http, auth=auth)
        processes.append(process)
        return registry

    yield run
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(60)


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
