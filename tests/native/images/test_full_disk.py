"""A disk that is full, at any moment: one clear error, nothing half-written to be seen, success once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.engines.native.images import unpack
from orchestrator.engines.native.images.failures import DiskFull
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .loopback import Registry
from .tars import file, folder, make_docker_archive, make_tar


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty folder to mount something on."""
    place = tmp_path / "disk"
    place.mkdir()
    yield place
    while os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three layers, 600 kB and 300 files together."""
    layers = [make_tar([folder("d"), *(file(f"d/{n}-{i}", os.urandom(2000)) for i in range(100))]) for n in range(3)]
    make_docker_archive(tmp_path / "image.tar", layers, tags=["localhost/image:1"])
    return tmp_path / "image.tar"


def try_sizes(disk: Path, options: Iterator[str], work: Callable[[ImageStore], object], tmp_path: Path) -> int:
    """Do `work` on ever larger disks until it succeeds; returns how many were too small."""
    for failures, option in enumerate(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(disk)], check=True)
        store = ImageStore(Layout(disk, tmp_path / "run"))
        try:
            work(store)
        except DiskFull as error:
            assert error.hint
            assert store.list_images() == ()
            assert not (store.root / "work").exists() or os.listdir(store.root / "work") == []
            assert store.fsck(deep=True) == []
        else:
            assert len(store.list_images()) == 1
            assert store.fsck(deep=True) == []
            return failures
        subprocess.run(["mount", "-o", "remount,size=20m,nr_inodes=5000", str(disk)], check=True)
        work(store)
        assert store.fsck(deep=True) == []
        subprocess.run(["umount", str(disk)], check=True)
    raise AssertionError("even the largest disk was too small")


@pytest.mark.parametrize("what", ["pull", "load", "import"])
def test_any_size(
    disk: Path,
    archive: Path,
    registry: Registry,
    tmp_path: Path,
    clean_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    monkeypatch.setattr(unpack, "_SPACE_RESERVE", 0)
    registry.fill(f"docker-archive:{archive}", "image:1")
    (tmp_path / "root.tar").write_bytes(make_tar([folder("d"), *(file(f"d/{i}", os.urandom(3000)) for i in range(99))]))
    works: dict[str, Callable[[ImageStore], object]] = {
        "pull": lambda store: store.pull(f"{registry.host}/image:1"),
        "load": lambda store: store.load_archive(archive),
        "import": lambda store: store.import_rootfs(tmp_path / "root.tar", reference="root:1"),
    }
    sizes = (f"size={kilobytes}k" for kilobytes in (40, 400, 1240, 1260, 1280, 1300, 1320, 4000))
    assert try_sizes(disk, sizes, works[what], tmp_path) >= 1
    subprocess.run(["umount", str(disk)], check=True)
    inodes = (f"size=20m,nr_inodes={count}" for count in (20, 120, 330, 334, 338, 342, 346, 500))
    assert try_sizes(disk, inodes, works[what], tmp_path) >= 1


def test_a_real_filesystem(
    disk: Path, archive: Path, registry: Registry, tmp_path: Path, clean_environment: None
) -> None:
    """ext4 keeps blocks back and gives errors at other moments than a filesystem in memory."""
    image = tmp_path / "ext4"
    with image.open("wb") as out:
        out.truncate(3 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(disk)], capture_output=True).returncode:
        pytest.skip("this machine has no loop devices")
    registry.fill(f"docker-archive:{archive}", "image:1")
    store = ImageStore(Layout(disk / "state", tmp_path / "run"))
    with pytest.raises(DiskFull, match="no space left"):  # the reserve that unpacking never takes
        store.pull(f"{registry.host}/image:1")
    unpack_reserve, unpack._SPACE_RESERVE = unpack._SPACE_RESERVE, 0
    try:
        with (disk / "filler").open("wb") as filler, pytest.raises(OSError, match="space"):
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        with pytest.raises(DiskFull):
            store.load_archive(archive)
        assert store.list_images() == ()
        assert store.fsck(deep=True) == []
        (disk / "filler").unlink()
        store.load_archive(archive)
        assert store.fsck(deep=True) == []
    finally:
        unpack._SPACE_RESERVE = unpack_reserve


def test_what_fills_the_disk_can_be_removed(disk: Path, archive: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(disk)], check=True)
    store = ImageStore(Layout(disk, tmp_path / "run"))
    store.load_archive(archive)
    with open(disk / "filling", "wb") as filling, pytest.raises(OSError):
        while True:
            filling.write(bytes(1 << 20))
            filling.flush()
    with pytest.raises(DiskFull):
        store.tag_image("localhost/image:1", "localhost/image:2")
    assert store.prune(unnamed_only=False).deleted
    assert store.list_images() == ()
    os.unlink(disk / "filling")
    store.load_archive(archive)
    assert store.fsck(deep=True) == []
