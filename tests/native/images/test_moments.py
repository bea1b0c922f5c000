"""When a name was fetched and built; and the files of an image as one tar."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines.native.images.failures import ImageMissing
from orchestrator.engines.native.images.flatten import export_rootfs
from orchestrator.engines.native.images.image import Image
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.observing import image_facts

from .tars import file, folder, hardlink, make_docker_archive, make_tar


def import_image(store: ImageStore, name: str, content: bytes = b"1") -> Image:
    return store.import_rootfs(io.BytesIO(make_tar([file("f", content)])), reference=name)


def moments(store: ImageStore, name: str) -> tuple[float, float]:
    facts = image_facts(name, store.require_image(name))
    return facts.pulled_at, facts.built_at


def test_a_name_remembers_when_it_was_fetched_and_built(store: ImageStore) -> None:
    one = import_image(store, "web:1")
    assert moments(store, "web:1") == (0.0, 0.0)
    store.note_moment("web:1", "pulled", 5.0)
    store.note_moment("docker.io/library/web:1", "built", 7.5)
    assert moments(store, "web:1") == (5.0, 7.5)
    # It is about the name, not about the image, and only as long as the name means that image.
    store.tag_image(one.id, "web:2")
    assert moments(store, "web:2") == (0.0, 0.0)
    import_image(store, "web:1", b"2")
    assert moments(store, "web:1") == (0.0, 0.0)
    store.note_moment("gone:1", "pulled", 5.0)
    store.remove_image("web:2")
    store.tag_image("web:1", "web:2")
    assert moments(store, "web:2") == (0.0, 0.0)


def test_the_files_of_all_layers_become_one_tar(store: ImageStore, tmp_path: Path) -> None:
    layers = [
        make_tar(
            [folder("d"), file("d/old", b"1"), file("d/gone", b"2"), file("same", b"3"), hardlink("link", "same")]
        ),
        make_tar([file("d/.wh.gone", b""), file("d/old", b"new"), folder("e"), file("e/.wh..wh..opq", b"")]),
    ]
    make_docker_archive(tmp_path / "web.tar", layers, tags=["web:1"])
    store.load_archive(tmp_path / "web.tar")
    out = io.BytesIO()
    export_rootfs(store, "web:1", out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        found = {one.name: one for one in archive}
        read = archive.extractfile("d/old")
        assert read is not None
        assert read.read() == b"new"
    assert found.keys() == {"d", "d/old", "e", "link", "same"}
    assert {found["link"].islnk(), found["same"].islnk()} == {True, False}
    with pytest.raises(ImageMissing):
        export_rootfs(store, "web:2", out)


def test_annotations_leave_with_the_manifest(store: ImageStore, tmp_path: Path) -> None:
    layer = make_tar([file("f", b"1")])
    make_docker_archive(tmp_path / "web.tar", [layer], tags=["web:1"])
    (image,) = store.load_archive(tmp_path / "web.tar")
    configuration = store.read_configuration(image.id)
    assert configuration is not None

    def read_manifest() -> dict[str, Any]:
        store.save_archive(["web:1"], tmp_path / "out.tar")
        with tarfile.open(tmp_path / "out.tar") as archive:

            def read(name: str) -> Any:
                found = archive.extractfile(name)
                assert found is not None
                return json.load(found)

            digest = read("index.json")["manifests"][0]["digest"]
            manifest: dict[str, Any] = read(f"blobs/{digest.replace(':', '/')}")
            return manifest

    assert "annotations" not in read_manifest()
    with store.open_workspace() as workspace:
        store.commit_image(configuration, image.diff_ids, workspace, annotations={"b": "2", "a": "1"})
    assert read_manifest()["annotations"] == {"a": "1", "b": "2"}
    with store.open_workspace() as workspace:
        store.commit_image(configuration, image.diff_ids, workspace)
    assert "annotations" not in read_manifest()
