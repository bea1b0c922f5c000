"""`push`, and what others make of what we pushed."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from orchestrator.engines.native.images.failures import ImageMissing, InvalidReference, Unauthorized
from orchestrator.engines.native.images.pull import PullProgress
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .conftest import Registry
from .faulty import require_bearer, run_proxy
from .tars import make_rootfs
from .test_pull import write_login


def inspect(host: str, name: str) -> dict[str, object]:
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{host}/{name}"]
    result: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


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
