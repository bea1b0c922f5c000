"""Caches that travel: through an image, a registry, a directory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench import Bench

from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

TEXT = (
    "FROM base AS tool\nCOPY src /src\nRUN cp -r /src /made && rm /bin/zcat\nFROM base\nWORKDIR /w\n"
    "COPY --from=tool /made /made\nRUN --mount=type=bind,from=tool,source=/src,target=/m ls /m > /list\nENV A=1\n"
)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f'storage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\nhttp: {{addr: "127.0.0.1:{port}"}}\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(tmp_path / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def move(bench: Bench) -> None:
    """Another machine: the same context and base image, an empty store."""
    archive = bench.folder / "base.tar"
    bench.store.save_archive(["base"], archive)
    shutil.rmtree(bench.layout.state)
    bench.layout = Layout(bench.folder / "state", bench.folder / "run")
    bench.store = ImageStore(bench.layout)
    bench.store.load_archive(archive)


def test_inline_through_a_registry(bench: Bench, registry: str) -> None:
    bench.write("src/a", "1")
    name = f"{registry}/app:1"
    bench.build(TEXT, tags=(name,), cache_to=("type=inline",))
    made = bench.image(name).id
    assert bench.build(TEXT, tags=(name,), cache_to=("type=inline",)).image_id == made
    bench.store.push(name)
    move(bench)
    result = bench.build(TEXT, cache_from=(name,))
    assert result.built_steps == 0, [one.text for one in bench.events if one.kind == "warning"]
    assert bench.files()["list"].read_text() == "a\n"
    assert [one.references for one in bench.store.list_images()].count(()) == 0, "no trace of the cache's image"
    bench.write("src/a", "2")
    result = bench.build(TEXT, cache_from=(name,))
    assert (result.built_steps, result.cached_steps) == (4, 1)
    bench.build("FROM built\nRUN cat /made/a\n", tags=("child",))
    assert bench.output == "2"


@pytest.mark.parametrize("kind", ["local", "registry"])
def test_a_cache_of_all_stages(bench: Bench, registry: str, kind: str) -> None:
    bench.write("src/a", "1")
    place = f"{bench.folder}/cache" if kind == "local" else f"{registry}/cache:1"
    out, back = ("dest", "src") if kind == "local" else ("ref", "ref")
    bench.build(TEXT, cache_to=(f"type={kind},{out}={place},mode=max",))
    assert len(bench.store.list_images()) == 2
    move(bench)
    spec = f"type={kind},{back}={place}"
    assert bench.build(TEXT, target="tool", tags=("tool",), cache_from=(spec,)).built_steps == 0
    assert "bin/zcat" not in bench.files("tool")
    assert bench.build(TEXT).built_steps == 0
    assert bench.store.fsck() == []


def test_what_cannot_be_had(bench: Bench) -> None:
    bench.build("FROM base\nRUN true\n", cache_from=("type=gha", "localhost:1/no:1"), cache_to=("type=s3,bucket=x",))
    warnings = [one.text for one in bench.events if one.kind == "warning"]
    assert [one.split(":")[0] for one in warnings] == ["cache_from", "cache_to", "the cache localhost"]
    with pytest.raises(BuildError, match="needs dest"):
        bench.build("FROM base\n", cache_to=("type=local,src=x",))
