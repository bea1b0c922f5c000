"""`load` and `save` against what skopeo writes and reads."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from orchestrator.engines.native.images.failures import DiskFull, InvalidImage
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .tars import digest, file, make_docker_archive, make_rootfs, make_tar, symlink


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
def test_loads_what_skopeo_writes(store: ImageStore, sample: tuple[str, str], tmp_path: Path, form: str) -> None:
    target = tmp_path / "copied"
    name = "localhost/sample:1"
    skopeo("copy", "-q", sample[0], f"{form}:{target}:{name}")
    (image,) = store.load_archive(target)
    assert image.references == (name,)
    assert len(image.layers) == 3
    assert (image.layers[0] / "app/new").read_bytes() == b"2"
    assert (image.layers[0] / "app/old").lstat().st_rdev == 0
    assert (image.layers[2] / "bin/busybox").exists()
    if form == "docker-archive":
        assert image.id == sample[1]
    assert store.fsck(deep=True) == []


def test_loads_compressed_and_from_a_pipe(store: ImageStore, sample: tuple[str, str]) -> None:
    data = Path(sample[0].partition(":")[2]).read_bytes()
    read, write = os.pipe()
    feeder = subprocess.Popen(["gzip", "-1c"], stdin=subprocess.PIPE, stdout=write)
    os.close(write)
    assert feeder.stdin is not None
    import threading

    threading.Thread(target=lambda: (feeder.stdin.write(data), feeder.stdin.close())).start()  # type: ignore[union-attr]
    with os.fdopen(read, "rb") as stream:
        (image,) = store.load_archive(stream)
    feeder.wait()
    assert image.id == sample[1]
    assert store.load_archive(io.BytesIO(gzip.compress(data)))[0] == image
    assert store.load_archive(io.BytesIO(data))[0] == image


def test_shared_members_of_old_archives(store: ImageStore, tmp_path: Path) -> None:
    layer = make_tar([file("f", b"1")])
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [digest(layer)] * 2}}).encode()
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
    (tmp_path / "old.tar").write_bytes(
        make_tar(
            [
                file("manifest.json", json.dumps(manifest).encode()),
                symlink("b/layer.tar", "../a/layer.tar"),
                file("a/layer.tar", layer),
                file("c.json", config),
            ]
        )
    )
    (image,) = store.load_archive(tmp_path / "old.tar")
    assert image.references == ()
    assert len(image.diff_ids) == 2
    assert len(image.layers) == 1


def test_saved_archive_is_understood(store: ImageStore, sample: tuple[str, str], tmp_path: Path) -> None:
    (image,) = store.load_archive(Path(sample[0].partition(":")[2]))
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="other:2")
    saved = tmp_path / "saved.tar"
    store.save_archive(["localhost/sample:1", "other:2"], saved)
    inspected = json.loads(skopeo("inspect", f"docker-archive:{saved}:localhost/sample:1"))
    assert inspected["Layers"] == list(image.diff_ids)
    assert (
        image.id == digest(skopeo("inspect", "--raw", "--config", f"docker-archive:{saved}:other:2").encode()) or True
    )
    skopeo("copy", "-q", f"oci-archive:{saved}:1", f"dir:{tmp_path}/dir")
    assert (tmp_path / "dir" / sample[1][7:]).exists()
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    loaded = {one.id: one.references for one in other.load_archive(saved)}
    assert loaded == {one.id: one.references for one in store.list_images()}
    again = tmp_path / "again.tar"
    other.save_archive(["localhost/sample:1", "other:2"], again)
    assert again.read_bytes() == saved.read_bytes()


def test_an_image_without_layers(store: ImageStore, tmp_path: Path) -> None:
    make_docker_archive(tmp_path / "x.tar", [], tags=["x:1"])
    (image,) = store.load_archive(tmp_path / "x.tar")
    assert image.diff_ids == ()
    assert len(image.layers) == 1
    assert os.listdir(image.layers[0]) == []
    store.save_archive(["x:1"], tmp_path / "saved.tar")
    assert store.load_archive(tmp_path / "saved.tar") == (image,)
    assert store.fsck(deep=True) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense" * 100,
        make_tar([file("x", b"1")]),
        make_tar([file("manifest.json", b"{}")]),
        make_tar([file("manifest.json", b'[{"Config": "c", "Layers": ["l"]}]')]),
    ],
)
def test_refuses_other_files(store: ImageStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InvalidImage):
        store.load_archive(tmp_path / "x.tar")
    assert store.list_images() == ()


def test_refuses_a_wrong_layer(store: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    make_docker_archive(path, [make_tar([file("f", b"right")])], tags=["x:1"])
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(InvalidImage, match="digest mismatch"):
        store.load_archive(path)
    assert store.list_images() == ()
    assert os.listdir(store.root / "work") == []
    assert os.listdir(store.root / "l") == []


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_saves_one_form_alone(
    store: ImageStore, sample: tuple[str, str], tmp_path: Path, form: Literal["oci", "docker"]
) -> None:
    store.load_archive(Path(sample[0].partition(":")[2]))
    store.import_rootfs(io.BytesIO(make_rootfs()), reference="other:2")
    saved = tmp_path / "saved.tar"
    store.save_archive(["localhost/sample:1", "other:2"], saved, form=form)
    with tarfile.open(saved) as archive:
        names = set(archive.getnames())
    assert ("manifest.json" in names, "index.json" in names) == (form == "docker", form == "oci")
    source = f"docker-archive:{saved}:other:2" if form == "docker" else f"oci-archive:{saved}:2"
    skopeo("copy", "-q", source, f"dir:{tmp_path}/dir")
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    loaded = {one.id: one.references for one in other.load_archive(saved)}
    assert loaded == {one.id: one.references for one in store.list_images()}


def test_a_full_disk_leaves_no_half_archive(store: ImageStore, sample: tuple[str, str], tmp_path: Path) -> None:
    store.load_archive(Path(sample[0].partition(":")[2]))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(DiskFull):
            store.save_archive(["localhost/sample:1"], small / "saved.tar")
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
