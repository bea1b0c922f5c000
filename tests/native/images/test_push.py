"""`push`, and what others make of what we pushed."""

from __future__ import annotations

import io
import json
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from orchestrator.engines.native.images.failures import ImageMissing, InvalidReference, RegistryFault, Unauthorized
from orchestrator.engines.native.images.pull import PullProgress
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .faulty import answer, require_bearer, run_proxy
from .loopback import Registry
from .tars import file, make_rootfs, make_tar
from .test_pull import write_login


def inspect(host: str, name: str) -> dict[str, object]:
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{host}/{name}"]
    result: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def run_skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], capture_output=True, check=True, text=True).stdout


def test_push_and_pull_back(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    image = store.import_rootfs(io.BytesIO(make_rootfs()), reference=f"{registry.host}/a/web:1", changes=["USER app"])
    digest = store.push(f"{registry.host}/a/web:1")
    assert inspect(registry.host, "a/web:1")["Digest"] == digest
    target = tmp_path / "copied"
    source = f"docker://{registry.host}/a/web:1"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", source, f"dir:{target}"], check=True
    )
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    pulled = other.pull(f"{registry.host}/a/web:1")
    assert pulled.id == image.id
    assert pulled.config == image.config
    assert other.fsck(deep=True) == []


def test_sends_nothing_twice(store: ImageStore, registry: Registry) -> None:
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="web:1")
    with run_proxy(registry.host) as proxy:
        first = store.push("web:1", reference=f"{proxy.host}/a:1")
        proxy.seen.clear()
        assert store.push("web:1", reference=f"{proxy.host}/a:2") == first
        assert not [path for method, path, _ in proxy.seen if method in ("POST", "PATCH")]
        proxy.seen.clear()
        store.push("web:1", reference=f"{proxy.host}/b:1")
        assert [path for method, path, _ in proxy.seen if method == "POST" and "mount=" in path]
        assert not [path for method, path, _ in proxy.seen if method == "PATCH"]


def test_a_pulled_image_keeps_its_digest(store: ImageStore, registry: Registry, sample: tuple[str, str]) -> None:
    registry.fill(sample[0], "web:1", "--format=v2s2")
    image = store.pull(f"{registry.host}/web:1")
    digest = image.repo_digests[0].partition("@")[2]
    assert store.push(image.id, reference=f"{registry.host}/copy:1") == digest


def test_progress_and_upload_elsewhere(
    store: ImageStore, registry: Registry, sample: tuple[str, str], tmp_path: Path
) -> None:
    store.load_archive(Path(sample[0].partition(":")[2]))
    seen: list[PullProgress] = []
    store.push("localhost/sample:1", reference=f"{registry.host}/web:1", progress=seen.append)
    assert {one.status for one in seen} == {"uploading", "done"}
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    assert other.pull(f"{registry.host}/web:1").id == sample[1]


def test_with_tokens(store: ImageStore, registry: Registry) -> None:
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="web:1")
    with run_proxy(registry.host) as proxy:
        require_bearer(proxy, "u", "p")
        with pytest.raises(Unauthorized):
            store.push("web:1", reference=f"{proxy.host}/a:1")
        write_login(proxy.host, "u", "p")
        store.push("web:1", reference=f"{proxy.host}/a:1")
        store.push("web:1", reference=f"{proxy.host}/b:1")
    assert inspect(registry.host, "b:1")


def test_refuses(store: ImageStore, registry: Registry) -> None:
    with pytest.raises(ImageMissing):
        store.push(f"{registry.host}/absent:1")
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="web:1")
    with pytest.raises(InvalidReference):
        store.push("web:1", reference=f"{registry.host}/web@sha256:{'a' * 64}")


def test_what_was_built_and_pushed_here_is_not_fetched(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    """A built image has layers that were never tars: the registry's has another identifier, and is the same."""
    name = f"{registry.host}/built:1"
    with store.open_workspace() as workspace:
        upper = workspace.make_directory("upper")
        (upper / "new").write_bytes(b"hello")
        workspace.keep(["snapshot:abc"])
        layer = store.layers.adopt_directory(upper, "snapshot:abc")
        configuration = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer.id]}}
        image = store.commit_image(json.dumps(configuration).encode(), [layer.id], workspace, references=[name])
    with run_proxy(registry.host) as proxy:
        copy = f"{proxy.host}/built:2"
        store.tag_image(name, copy)
        digest = store.push(copy)
        proxy.seen.clear()
        assert store.pull(copy).id == image.id
        assert not [path for _, path, _ in proxy.seen if "/blobs/" in path]
        proxy.seen.clear()
        assert store.pull(copy).id == image.id
        assert {method for method, _, _ in proxy.seen} == {"HEAD"}
        assert store.push(copy) == digest
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    assert other.pull(f"{registry.host}/built@{digest}").id != image.id
    assert store.fsck(deep=True) == other.fsck(deep=True) == []


def make_platforms(store: ImageStore, *names: str) -> list[str]:
    """One image for each architecture."""
    identifiers = []
    for name in names:
        data = make_tar([file("which", name.encode())])
        identifiers.append(store.import_rootfs(io.BytesIO(data), reference=None, platform=f"linux/{name}").id)
    return identifiers


def test_several_platforms(store: ImageStore, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/multi:1"
    identifiers = make_platforms(store, "amd64", "arm64", "arm/v7")
    store.tag_group(identifiers, [name])
    assert store.require_image(name).id == identifiers[0]
    assert store.prune().deleted == ()
    with run_proxy(registry.host) as proxy:
        copy = f"{proxy.host}/other:1"
        store.tag_group(identifiers, [copy])
        digest = store.push(copy)
        proxy.seen.clear()
        assert store.push(copy) == digest
        assert {method for method, _, _ in proxy.seen} == {"HEAD", "PUT"}
    assert store.push(name) == digest
    assert f"{registry.host}/multi@{digest}" in store.require_image(name).repo_digests
    raw = json.loads(run_skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert [one["platform"] for one in raw["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
    ]
    for architecture in ("amd64", "arm64", "arm"):
        shown = run_skopeo("--override-arch", architecture, "inspect", "--tls-verify=false", f"docker://{name}")
        assert json.loads(shown)["Architecture"] == architecture
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    assert (other.pull(name, platform="linux/arm/v7").layers[0] / "which").read_bytes() == b"arm/v7"
    store.remove_image(copy)
    assert set(store.remove_image(name).deleted) == set(identifiers)
    assert store.list_images() == ()
    assert store.fsck(deep=True) == []


def test_a_name_that_moves_leaves_its_platforms(store: ImageStore) -> None:
    identifiers = make_platforms(store, "amd64", "arm64")
    store.tag_group(identifiers, ["multi:1"])
    assert [one.id for one in store.list_group("multi:1")] == identifiers
    assert [one.id for one in store.list_group(identifiers[1])] == identifiers[1:]
    store.tag_image("multi:1", "copy:1")
    assert [one.id for one in store.list_group("copy:1")] == identifiers
    store.remove_image("copy:1")
    (other,) = make_platforms(store, "riscv64")
    store.tag_image(other, "multi:1")
    assert [one.id for one in store.list_group("multi:1")] == [other]
    assert set(store.prune().deleted) == set(identifiers)
    with pytest.raises(ImageMissing):
        store.tag_group([identifiers[0]], ["multi:2"])


def test_a_broken_upload_begins_anew(store: ImageStore, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="web:1")
    with run_proxy(registry.host) as proxy:
        failures = iter([503, 429, 0])

        def fail(handler: BaseHTTPRequestHandler) -> bool:
            if handler.command != "PATCH" or (not (status := next(failures, None)) and status is None):
                return False
            if status:
                return answer(handler, status, {"Retry-After": "0"})
            handler.close_connection = True
            handler.connection.shutdown(2)
            return True

        proxy.before = fail
        store.push("web:1", reference=f"{proxy.host}/a:1")
        assert sum(method == "PATCH" for method, _, _ in proxy.seen) == 4
    assert inspect(registry.host, "a:1")


def test_a_full_registry(store: ImageStore, registry: Registry) -> None:
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="web:1")
    with run_proxy(registry.host) as proxy:
        said = json.dumps({"errors": [{"code": "DENIED", "message": "quota exceeded"}]}).encode()
        proxy.before = lambda handler: handler.command == "PUT" and answer(handler, 413, {}, said)
        with pytest.raises(RegistryFault, match="413: DENIED quota exceeded"):
            store.push("web:1", reference=f"{proxy.host}/a:1")
    assert store.fsck(deep=True) == []
