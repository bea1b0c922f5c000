"""A real registry on loopback: Debian's docker-registry, with storage of its own."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


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


def start_registry(folder: Path, *, http: str = "", auth: str = "") -> tuple[subprocess.Popen[bytes], Registry]:
    """Start a registry below `folder`, and wait until it answers. `http` and `auth` are parts of its configuration."""
    port = find_port()
    root = folder / f"registry-{port}"
    root.mkdir()
    configuration = root / "config.yml"
    configuration.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n"
        f'http:\n  addr: "127.0.0.1:{port}"\n{http}{auth}'
    )
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=log, stderr=log)
    wait_for_port(port)
    return process, Registry(f"127.0.0.1:{port}", root)


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("the registry did not start")
