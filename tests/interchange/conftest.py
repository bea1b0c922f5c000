"""A registry, the other tools, and this project's own engine."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.conftest import Machine, Project, machine, project

from .peers import PEERS, Peer, find_missing

__all__ = ["Machine", "Project", "machine", "project"]

# Everything of an image that another tool could get wrong: layers that remove, links, modes, owners, times, settings.
DOCKERFILE = """\
FROM {base}
ENV GREETING="hello there" EMPTY=
RUN mkdir -p /app/dir /app/gone /app/opaque && echo old > /app/gone/f && echo old > /app/opaque/f && echo 1 > /app/one
RUN rm -r /app/gone /app/opaque && mkdir /app/opaque && echo new > /app/opaque/g && ln /app/one /app/two
RUN ln -s one /app/link && chmod 4755 /app/one && chmod 1777 /app/dir && touch -d @1000000000 /app/dir/old
COPY check /app/check
RUN chown 12:34 /app/check && mkfifo /app/pipe
WORKDIR /app
USER 65534:65534
CMD ["sh", "./check"]
"""
CHECK = """\
pwd
id -u
id -g
echo "$GREETING"
find . | sort | while read -r name; do stat -c '%n %a %u %g %F' "$name"; done
stat -c '%n %h' one two link
stat -c %Y dir/old
readlink link
cat one two opaque/g
"""


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A short path: sockets stand below it."""
    folder = Path(tempfile.mkdtemp(prefix="sti-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def registry(work: Path) -> Iterator[str]:
    """A docker-registry on loopback; ``host:port``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    folder = work / "registry"
    folder.mkdir()
    configuration = folder / "config.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}"
    configuration.write_text(f'version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: "{address}"}}\n')
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=log, stderr=log)
    host, _, port = address.partition(":")
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            break
        except OSError:
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.02)
    yield address
    process.send_signal(signal.SIGTERM)
    process.wait(60)


@pytest.fixture(scope="session", params=sorted(PEERS))
def peer(request: pytest.FixtureRequest, work: Path) -> Iterator[Peer]:
    """Docker, Podman: those that are installed here."""
    kind = PEERS[request.param]
    missing = find_missing(kind)
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    made = kind(work / kind.name)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def context(project: Project) -> Path:
    """A build context; its Dockerfile starts from ``busybox``."""
    return write_context(project.folder / "context", "busybox")


def write_context(folder: Path, base: str) -> Path:
    """Write DOCKERFILE and what it needs."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    (folder / "check").write_text(CHECK)
    return folder


def run_here(project: Project, image: str, pull: str = "missing") -> str:
    """What an image's own command prints, run by ``stack up``."""
    project.write(f"services:\n  one:\n    image: {image}\n    pull_policy: {pull}\n    network_mode: none\n")
    project.succeed("up", "-d")
    project.wait_until("the service has ended", lambda: project.containers()["one-1"]["State"] == "exited")
    return project.succeed("logs", "--no-log-prefix", "one")
