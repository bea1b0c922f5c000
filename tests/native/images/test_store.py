"""Names, lookups, removal and the collector."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.engines.native.images.failures import (
    AmbiguousImage,
    ImageInUse,
    ImageMissing,
    InvalidChange,
    InvalidReference,
)
from orchestrator.engines.native.images.image import Image
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .tars import digest, file, folder, hardlink, make_docker_archive, make_rootfs, make_tar


def import_image(store: ImageStore, name: str | None, content: bytes = b"1") -> Image:
    data = make_tar([folder("d"), file("d/file", content)])
    return store.import_rootfs(io.BytesIO(data), reference=name)


def test_construction_and_lookups_touch_nothing(layout: Layout) -> None:
    store = ImageStore(layout)
    assert store.resolve_image("web") is None
    assert store.list_images() == ()
    assert store.collect_garbage() == 0
    assert not layout.state.exists()


def test_import(store: ImageStore, tmp_path: Path) -> None:
    tar = tmp_path / "root.tar"
    tar.write_bytes(make_rootfs())
    image = store.import_rootfs(
        tar, reference="web:1", changes=['CMD ["sh"]', "ENV A=b", "EXPOSE 80"], message="made", platform="arm64/"[:-1]
    )
    assert store.resolve_image("web:1") == image
    assert image.references == ("docker.io/library/web:1",)
    assert image.config.cmd == ("sh",)
    assert image.config.env == ("A=b",)
    assert image.config.exposed_ports == ("80/tcp",)
    assert image.platform == "linux/arm64"
    assert image.diff_ids == (digest(tar.read_bytes()),)
    assert (image.layers[0] / "bin/busybox").exists()
    assert stat.S_IMODE(image.layers[0].stat().st_mode) == 0o755
    assert len(str(image.layers[0].name)) == 16
    configuration = store.read_configuration(image.id)
    assert configuration is not None
    assert digest(configuration) == image.id
    assert json.loads(configuration)["history"][0]["comment"] == "made"
    assert store.fsck(deep=True) == []


def test_import_is_reproducible(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    first = import_image(store, "a")
    assert first.created == "2001-09-09T01:46:40Z"
    second = import_image(store, "b")
    assert second.id == first.id
    assert second.references == ("docker.io/library/a:latest", "docker.io/library/b:latest")


def test_import_tells_a_wrong_change_before_it_reads(store: ImageStore) -> None:
    with pytest.raises(InvalidChange):
        store.import_rootfs(io.BytesIO(b""), reference="a", changes=["NOPE x"])
    with pytest.raises(ImageMissing):
        store.import_rootfs(Path("/does/not/exist"), reference="a")


def test_names(store: ImageStore) -> None:
    image = import_image(store, "web:1")
    for name in ("web:1", "docker.io/library/web:1", image.id, image.id[7:], image.id[7:19], image.id[:20]):
        found = store.resolve_image(name)
        assert found is not None
        assert found.id == image.id
    assert store.resolve_image("web") is None
    store.tag_image("web:1", "localhost:5000/team/web:2")
    assert [one.id for one in store.list_images()] == [image.id]
    other = import_image(store, "web:1", b"2")
    assert store.require_image("web:1").id == other.id
    assert store.require_image(image.id).references == ("localhost:5000/team/web:2",)
    assert store.untag_image("web:1").untagged == ("docker.io/library/web:1",)
    assert store.require_image(other.id).references == ()
    with pytest.raises(ImageMissing) as caught:
        store.tag_image("wep:1", "x")
    assert caught.value.hint
    with pytest.raises(InvalidReference):
        store.tag_image(image.id, "Web")


def test_short_identifiers_can_be_ambiguous(store: ImageStore) -> None:
    first = {import_image(store, None, str(n).encode()).id[7] for n in range(17)}
    assert first
    identifiers = [one.id[7:] for one in store.list_images()]
    doubled = next(c for c in "0123456789abcdef" if sum(one.startswith(c) for one in identifiers) > 1)
    with pytest.raises(AmbiguousImage):
        store.resolve_image(doubled)


def test_near_names_are_hinted(store: ImageStore) -> None:
    import_image(store, "postgres:16")
    with pytest.raises(ImageMissing) as caught:
        store.require_image("postgers:16")
    assert "postgres:16" in caught.value.hint


def test_remove(store: ImageStore, layout: Layout) -> None:
    image = import_image(store, "a")
    store.tag_image("a", "b")
    with pytest.raises(ImageInUse):
        store.remove_image(image.id)
    assert store.remove_image("b").deleted == ()
    with pytest.raises(ImageInUse):
        store.remove_image("a", in_use=[image.id])
    assert store.resolve_image("a") is not None
    forced = store.remove_image("a", in_use=[image.id], force=True)
    assert forced.untagged == ("docker.io/library/a:latest",)
    assert image.layers[0].is_dir()
    removed = store.remove_image(image.id)
    assert removed.deleted == (image.id,)
    assert removed.reclaimed == 1
    assert not image.layers[0].exists()
    for folder_name in ("l", "layers", "images", "blobs/sha256", "work", "locks"):
        assert os.listdir(layout.images / folder_name) == [], folder_name
    with pytest.raises(ImageMissing):
        store.remove_image("a")


def test_a_name_wins_over_the_beginning_of_an_identifier(store: ImageStore) -> None:
    image = import_image(store, "first")
    name = image.id[7:11]  # a valid name, too
    store.tag_image("first", name)
    assert store.remove_image(name).untagged == (f"docker.io/library/{name}:latest",)
    assert store.require_image("first").id == image.id
    assert store.remove_image(name).deleted == (image.id,)


def test_shared_layers_stay(store: ImageStore, tmp_path: Path) -> None:
    base, top = make_rootfs(), make_tar([folder("x"), file("x/y", b"1")])
    make_docker_archive(tmp_path / "one.tar", [base], tags=["one:1"])
    make_docker_archive(tmp_path / "two.tar", [base, top], tags=["two:1"])
    (one,) = store.load_archive(tmp_path / "one.tar")
    (two,) = store.load_archive(tmp_path / "two.tar")
    assert two.layers[1] == one.layers[0]
    store.remove_image("two:1")
    assert one.layers[0].is_dir()
    assert not two.layers[0].exists()
    assert store.fsck(deep=True) == []


def test_prune(store: ImageStore) -> None:
    unnamed, used, named = import_image(store, None), import_image(store, None, b"2"), import_image(store, "n", b"3")
    assert store.prune(in_use=[used.id]).deleted == (unnamed.id,)
    assert {one.id for one in store.list_images()} == {used.id, named.id}
    assert store.prune(in_use=[used.id], unnamed_only=False).deleted == (named.id,)
    assert store.fsck() == []


def test_collector_respects_work_under_way(store: ImageStore, layout: Layout) -> None:
    with store.open_workspace() as workspace:
        data = make_tar([file("f", b"1")])
        layer, _ = store.layers.add_layer(workspace.make_directory("l"), [data], workspace.keep)
        assert store.collect_garbage() == 0
        assert layer.path.is_dir()
    assert store.collect_garbage() == 1
    assert not layer.path.exists()


def test_an_unsynced_layer_is_not_trusted_after_a_reboot(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.engines.native.images import layers

    data = make_tar([file("f", b"1")])
    with store.open_workspace() as workspace:
        layer, _ = store.layers.add_layer(workspace.make_directory("l"), [data], workspace.keep)
        (layer.path / "f").write_bytes(b"")
        monkeypatch.setattr(layers, "read_boot_id", lambda: "another")
        assert store.layers.find_layer(layer.id) is None
    image = store.import_rootfs(io.BytesIO(data), reference="a")
    assert (image.layers[0] / "f").read_bytes() == b"1"
    monkeypatch.setattr(layers, "read_boot_id", lambda: "a third")
    assert store.fsck(deep=True) == []


def test_attributes_of_implied_directories_come_from_below(store: ImageStore, tmp_path: Path) -> None:
    base = make_tar([folder("tmp", 0o1777), folder("srv", 0o750, uid=7), file("srv/data", b"abc", uid=7)])
    top = make_tar([file("tmp/x", b"1"), file("srv/y", b"2"), hardlink("srv/again", "srv/data")])
    make_docker_archive(tmp_path / "one.tar", [base, top], tags=["one:1"])
    make_docker_archive(tmp_path / "two.tar", [make_tar([folder("z"), file("srv/data", b"q")]), top], tags=["two:1"])
    (image,) = store.load_archive(tmp_path / "one.tar")
    made = image.layers[0]
    assert stat.S_IMODE((made / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((made / "srv").stat().st_mode) == 0o750
    assert (made / "srv").stat().st_uid == 7
    assert (made / "srv/again").read_bytes() == b"abc"
    assert (made / "srv/again").stat().st_uid == 7
    (plain,) = store.load_archive(tmp_path / "two.tar")
    assert stat.S_IMODE((plain.layers[0] / "tmp").stat().st_mode) == 0o755
    assert (plain.layers[0] / "srv/again").read_bytes() == b"q"
    assert store.fsck(deep=True) == []
    store.remove_image("one:1")
    assert (plain.layers[0] / "srv/again").read_bytes() == b"q"
    store.remove_image("two:1")
    assert os.listdir(store.root / "l") == []


def test_committed_snapshot(store: ImageStore, tmp_path: Path) -> None:
    base = import_image(store, "base")
    with store.open_workspace() as workspace:
        upper = workspace.make_directory("upper")
        (upper / "new").write_bytes(b"hello")
        os.mknod(upper / "gone", stat.S_IFCHR, 0)
        workspace.keep(["snapshot:abc"])
        layer = store.layers.adopt_directory(upper, "snapshot:abc")
        configuration = json.loads(store.read_configuration(base.id) or b"")
        configuration["rootfs"]["diff_ids"].append(layer.id)
        text = json.dumps(configuration).encode()
        image = store.commit_image(text, [*base.diff_ids, layer.id], workspace, references=["made:1"])
    assert image.layers[0] == layer.path
    assert image.layers[1] == base.layers[0]
    store.save_archive(["made:1"], tmp_path / "made.tar")
    other = ImageStore(Layout(tmp_path / "other", tmp_path / "run"))
    (loaded,) = other.load_archive(tmp_path / "made.tar")
    assert loaded.references == ("docker.io/library/made:1",)
    assert (loaded.layers[0] / "new").read_bytes() == b"hello"
    assert (loaded.layers[0] / "gone").lstat().st_rdev == 0
    assert store.fsck(deep=True) == other.fsck(deep=True) == []


def test_a_lookup_imports_little() -> None:
    program = (
        "import sys; import orchestrator.engines.native.images.store; from pathlib import Path;"
        "from orchestrator.engines.native.layout import Layout;"
        "orchestrator.engines.native.images.store.ImageStore(Layout(Path('/x'), Path('/y'))).resolve_image('web');"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"http.client", "ssl", "subprocess", "tarfile", "asyncio", "ctypes", "sqlite3", "isal", "zstandard"}
    heavy |= {"hashlib", "secrets", "tempfile", "logging", "shutil"}
    assert not loaded & heavy


def damage_file(store: ImageStore, image: Image) -> None:
    (image.layers[0] / "d/file").write_bytes(b"other")


def damage_layer(store: ImageStore, image: Image) -> None:
    import shutil

    shutil.rmtree(image.layers[0])


def damage_blob(store: ImageStore, image: Image) -> None:
    store.blobs.path(image.id).write_bytes(b"{}")


def damage_record(store: ImageStore, image: Image) -> None:
    (store.root / "images" / f"{image.id[7:]}.json").write_text("{")


@pytest.mark.parametrize("damage", [damage_file, damage_layer, damage_blob, damage_record])
def test_damage_is_found_and_repaired(store: ImageStore, damage: Callable[[ImageStore, Image], None]) -> None:
    image, other = import_image(store, "web:1"), import_image(store, "other:1", b"2")
    assert store.fsck(deep=True) == []
    damage(store, image)
    assert store.fsck(deep=True)
    assert store.repair(deep=True) == ["docker.io/library/web:1"]
    assert store.fsck(deep=True) == []
    assert [one.id for one in store.list_images()] == [other.id]
    assert import_image(store, "web:1").references == ("docker.io/library/web:1",)
    assert store.fsck(deep=True) == []


def test_fsck_command(store: ImageStore, layout: Layout) -> None:
    image = import_image(store, "web:1")
    environment = dict(os.environ, STACK_STATE_DIR=str(layout.state), STACK_RUN_DIR=str(layout.run))

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestrator.cli.main", "image", "fsck", *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert (run().returncode, run("-q").stdout) == (0, "")
    damage_file(store, image)
    assert run("--quick").returncode == 0
    found = run()
    assert found.returncode == 1
    assert "--repair" in found.stderr
    repaired = run("--repair")
    assert repaired.returncode == 0
    assert "removed: docker.io/library/web:1" in repaired.stderr
    assert run().stdout == "the image store is whole\n"


def test_nothing_goes_while_somebody_begins_to_use_it(store: ImageStore) -> None:
    """Who looks an image up and writes down that it is used is never overtaken by a removal."""
    image = import_image(store, "web:1")
    used: set[str] = set()
    asked, caught = threading.Event(), []

    def list_used() -> set[str]:
        asked.set()
        return used

    def remove() -> None:
        try:
            store.remove_image("web:1", in_use=list_used)
        except ImageInUse as error:
            caught.append(error)

    with store.hold(), store.hold():
        remover = threading.Thread(target=remove)
        remover.start()
        assert not asked.wait(0.1)
        assert store.require_image("web:1").id == image.id
        used.add(image.id)
    remover.join(30)
    assert asked.is_set()
    assert len(caught) == 1
    assert store.require_image("web:1").id == image.id
    assert store.prune(list_used, unnamed_only=False).deleted == ()
