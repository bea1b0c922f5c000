"""What a registry may hold: manifests and indexes of both families, every compression, odd places."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import zstandard

from orchestrator.engines.native.engine import NativeEngine
from orchestrator.engines.native.images import platform as platforms
from orchestrator.engines.native.images.failures import (
    ImageMissing,
    InvalidImage,
    RegistryFault,
    RegistryUnreachable,
    UnsupportedImage,
)
from orchestrator.engines.native.images.manifest import ImageIndex, parse_manifest, select_manifest
from orchestrator.engines.native.images.platform import parse_platform
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .faulty import answer, run_proxy
from .handmade import DOCKER, OCI, fetch_manifest, put_blob, put_image, put_index, put_manifest
from .loopback import Registry
from .tars import digest, file, folder, make_tar

LAYER = make_tar([folder("d"), file("d/text", b"hello\n" * 2000)])


def compress_chunked(tar: bytes) -> bytes:
    """As zstd:chunked: several frames, and skippable ones with the table of contents."""
    frames = [zstandard.compress(tar[at : at + 5000]) for at in range(0, len(tar), 5000)]
    table = b"\x50\x2a\x4d\x18" + (12).to_bytes(4, "little") + b"a table here"
    return table + b"".join(frames) + table


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("", LAYER),
        ("+gzip", gzip.compress(LAYER[:7000]) + gzip.compress(LAYER[7000:])),
        ("+zstd", zstandard.compress(LAYER)),
        ("+zstd", compress_chunked(LAYER)),
        ("+gzip", LAYER),  # the media type says one thing, the data another: the data counts
    ],
)
def test_compressions(store: ImageStore, registry: Registry, kind: str, data: bytes) -> None:
    layer = {"mediaType": f"{OCI}.layer.v1.tar{kind}", **put_blob(registry, "web", data)}
    put_manifest(registry, "web", "1", [layer], [digest(LAYER)])
    image = store.pull(f"{registry.host}/web:1")
    assert (image.layers[0] / "d/text").read_bytes() == b"hello\n" * 2000
    assert store.fsck(deep=True) == []


@pytest.mark.parametrize("kind", [f"{OCI}.index.v1+json", f"{DOCKER}.distribution.manifest.list.v2+json"])
def test_index_of_either_family(store: ImageStore, registry: Registry, kind: str) -> None:
    entries = []
    for architecture, variant in (("arm", "v6"), ("arm", "v7"), ("amd64", ""), ("arm64", "")):
        layer = make_tar([file("which", f"{architecture}{variant}".encode())])
        entry = put_image(registry, "multi", f"{architecture}{variant}", layer, architecture=architecture)
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture, "variant": variant}})
    attestation = put_image(registry, "multi", "attestation", LAYER, architecture="unknown", os="unknown")
    entries.append({**attestation, "platform": {"os": "unknown", "architecture": "unknown"}})
    name = f"{registry.host}/multi:all"
    index = put_index(registry, "multi", "all", entries, kind)
    for wanted, expected in (
        (None, b"amd64"),
        ("linux/arm/v7", b"armv7"),
        ("linux/arm/v8", b"armv7"),
        ("linux/arm/v6", b"armv6"),
        ("arm64", b"arm64"),
        ("linux/arm64/v8", b"arm64"),
    ):
        image = store.pull(name, platform=wanted)
        assert (image.layers[0] / "which").read_bytes() == expected
        assert f"{registry.host}/multi@{index}" in image.repo_digests
    for wanted in ("linux/arm/v5", "linux/s390x", "windows/amd64"):
        with pytest.raises(UnsupportedImage, match="has no image for") as caught:
            store.pull(name, platform=wanted)
        assert "linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64" in caught.value.hint
        assert "unknown" not in caught.value.hint


def test_levels_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    def index(*variants: str) -> ImageIndex:
        entries = [
            {
                "mediaType": f"{OCI}.manifest.v1+json",
                "digest": digest(one.encode()),
                "size": 1,
                "platform": {"os": "linux", "architecture": "amd64", "variant": one},
            }
            for one in variants
        ]
        parsed = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        assert isinstance(parsed, ImageIndex)
        return parsed

    def choose(wanted: str, *variants: str) -> str:
        entry = select_manifest(index(*variants), parse_platform(wanted), "web")
        return entry.platform.variant if entry.platform else ""

    monkeypatch.setattr("orchestrator.engines.native.images.manifest.detect_level", lambda: 3)
    assert choose("linux/amd64", "v3", "v2", "") == ""
    assert choose("linux/amd64", "v2", "v3", "v4") == "v3"
    assert choose("linux/amd64/v2", "", "v2", "v3") == "v2"
    with pytest.raises(UnsupportedImage, match="linux/amd64"):
        choose("linux/amd64", "v4")
    assert 1 <= platforms.detect_level() <= 4


def test_retired_manifests_are_refused(store: ImageStore, registry: Registry) -> None:
    body = json.dumps({"schemaVersion": 1, "name": "web", "tag": "1", "fsLayers": []}).encode()
    with run_proxy(registry.host) as proxy:
        kind = f"{DOCKER}.distribution.manifest.v1+prettyjws"
        proxy.before = lambda handler: (
            "/manifests/" in handler.path and answer(handler, 200, {"Content-Type": kind}, body)
        )
        with pytest.raises(UnsupportedImage, match="schema 1") as caught:
            store.pull(f"{proxy.host}/web:1")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mediaType": f"{OCI}.layer.v1.tar+gzip+encrypted"}, "encrypted"),
        ({"mediaType": "application/vnd.example.model"}, "application/vnd.example.model"),
    ],
)
def test_layers_of_another_kind_are_refused(
    store: ImageStore, registry: Registry, change: dict[str, Any], message: str
) -> None:
    layer = {"mediaType": f"{OCI}.layer.v1.tar", **put_blob(registry, "web", LAYER), **change}
    put_manifest(registry, "web", "1", [layer], [digest(LAYER)])
    with pytest.raises(UnsupportedImage, match=message):
        store.pull(f"{registry.host}/web:1")


def test_lying_sizes(store: ImageStore, registry: Registry) -> None:
    """A body that is longer or shorter than the manifest promises is refused, whatever its digest."""
    blob = put_blob(registry, "web", LAYER)
    for tag, size in (("long", len(LAYER) - 700), ("short", len(LAYER) + 700)):
        with run_proxy(registry.host) as proxy:
            put_manifest(
                registry, "web", tag, [{"mediaType": f"{OCI}.layer.v1.tar", **blob, "size": size}], [digest(LAYER)]
            )
            with pytest.raises((InvalidImage, RegistryFault, RegistryUnreachable)):
                store.pull(f"{proxy.host}/web:{tag}")
        assert store.list_images() == ()
    assert store.fsck(deep=True) == []


def test_a_configuration_that_does_not_fit(store: ImageStore, registry: Registry) -> None:
    layer = {"mediaType": f"{OCI}.layer.v1.tar", **put_blob(registry, "web", LAYER)}
    put_manifest(registry, "web", "count", [layer, layer], [digest(LAYER)])
    with pytest.raises(InvalidImage, match="2 layers but its configuration lists 1"):
        store.pull(f"{registry.host}/web:count")
    put_manifest(registry, "web", "other", [layer], [digest(b"something else")])
    with pytest.raises(InvalidImage, match="digest mismatch"):
        store.pull(f"{registry.host}/web:other")
    assert store.list_images() == ()


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer(self, 200 if self.path == "/layer" else 404, {}, LAYER if self.path == "/layer" else b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_foreign_layers(store: ImageStore, registry: Registry, elsewhere: str) -> None:
    """A layer that the registry must not hold stands at the address that its descriptor gives."""
    put_image(registry, "web", "1", LAYER)
    raw = json.loads(fetch_manifest(registry, "web", "1"))
    raw["layers"][0]["mediaType"] = f"{OCI}.layer.nondistributable.v1.tar"
    with run_proxy(registry.host) as proxy:

        def serve(handler: BaseHTTPRequestHandler) -> bool:
            if "/manifests/" in handler.path:
                raw["layers"][0]["urls"] = [f"{elsewhere}/gone", f"{elsewhere}/{handler.path.rpartition('/')[2]}"]
                return answer(handler, 200, {"Content-Type": raw["mediaType"]}, json.dumps(raw).encode())
            return digest(LAYER) in handler.path and answer(handler, 404, {})

        proxy.before = serve
        with pytest.raises(ImageMissing, match="/lost"):
            store.pull(f"{proxy.host}/web:lost")
        image = store.pull(f"{proxy.host}/web:layer")
    assert (image.layers[0] / "d/text").exists()


def test_the_default_platform(
    store: ImageStore, registry: Registry, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        layer = make_tar([file("which", architecture.encode())])
        entry = put_image(registry, "multi", architecture, layer, architecture=architecture)
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
    put_index(registry, "multi", "all", entries)
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    engine = NativeEngine(layout)
    name = f"{registry.host}/multi:all"
    engine.pull_image(name)
    assert store.require_image(name).platform == "linux/arm64"
    engine.pull_image(name, platform="linux/amd64")
    assert store.require_image(name).platform == "linux/amd64"
