"""The records of builds, and what they keep from the collector."""

from __future__ import annotations

import io
import os

from orchestrator.engines.native.images.layers import Layer
from orchestrator.engines.native.images.store import ImageStore

from .tars import file, make_tar


def add_layer(store: ImageStore, key: str, size: int, used: float) -> Layer:
    """A layer that only the cache holds."""
    with store.open_workspace() as workspace:
        upper = workspace.make_directory("upper")
        (upper / "data").write_bytes(bytes(size))
        workspace.keep([f"snapshot:{key}"])
        layer = store.layers.adopt_directory(upper, f"snapshot:{key}")
        store.cache.write(key, [layer.id], {"step": key})
    (path,) = (one for one in store.cache.folder.iterdir() if key.encode() in one.read_bytes())
    os.utime(path, (used, used))
    return layer


def test_records_keep_layers(store: ImageStore) -> None:
    assert store.cache.list_records() == ()
    assert store.cache.read("a") is None
    layer = add_layer(store, "a", 100, 1000)
    assert store.collect_garbage() == 0
    assert layer.path.is_dir()
    record = store.cache.read("a")
    assert record is not None
    assert (record.key, record.layers, record.last_used, record.data) == ("a", ("snapshot:a",), 1000, {"step": "a"})
    store.cache.touch("a")
    assert store.cache.list_records()[0].last_used > 1000
    store.cache.remove("a")
    store.cache.touch("a")
    store.cache.remove("a")
    assert store.collect_garbage() == 100
    assert not layer.path.exists()
    assert store.fsck(deep=True) == []


def test_prune_by_age_and_size(store: ImageStore) -> None:
    for number in range(6):
        add_layer(store, f"step{number}", 100, 1000 + number)
    assert store.prune_cache(used_before=1002) == (("step0", "step1"), 200)
    assert store.prune_cache(keep_bytes=400) == ((), 0)
    assert store.prune_cache(keep_bytes=250) == (("step2", "step3"), 200)
    # What an image has costs nothing, and stays when its record goes.
    image = store.import_rootfs(io.BytesIO(make_tar([file("f", b"1234")])), reference="a")
    store.cache.write("image", image.diff_ids)
    assert store.prune_cache(keep_bytes=200) == ((), 0)
    assert store.prune_cache() == (("step4", "step5", "image"), 200)
    assert image.layers[0].is_dir()


def test_a_build_under_way_keeps_what_it_announced(store: ImageStore) -> None:
    layer = add_layer(store, "a", 100, 1000)
    with store.open_workspace() as workspace:
        workspace.keep([layer.id])
        assert store.prune_cache() == (("a",), 0)
        assert layer.path.is_dir()
    assert store.collect_garbage() == 100


def test_damaged_records_are_nothing(store: ImageStore) -> None:
    add_layer(store, "a", 100, 1000)
    (path,) = store.cache.folder.iterdir()
    path.write_bytes(b"{")
    assert store.cache.read("a") is None
    assert store.collect_garbage() == 100
