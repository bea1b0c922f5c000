from __future__ import annotations

import os
from pathlib import Path

from orchestrator.engines.native import host
from orchestrator.engines.native.files.mountinfo import list_mounts
from orchestrator.engines.native.files.parting import Parting
from orchestrator.engines.native.files.rootfs import spread_folders, stack_layers
from orchestrator.engines.native.layout import Layout


def mount_root(layout: Layout, *layers: Path) -> str:
    folders = {name: str(layout.state / name) for name in ("upper", "work", "root")}
    for folder in folders.values():
        os.makedirs(folder, exist_ok=True)
    host.mount_overlay(stack_layers(layout, layers), folders["root"], upper=folders["upper"], work=folders["work"])
    return folders["root"]


def test_what_the_image_lacks_to_mount_at_is_there_and_the_image_wins(layout: Layout) -> None:
    image = layout.state / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc").chmod(0o750)
    (image / "etc/hosts").write_text("of the image\n")
    root = Path(mount_root(layout, image))
    assert (root / "etc/hosts").read_text() == "of the image\n"
    assert (root / "etc").stat().st_mode & 0o777 == 0o750
    assert (root / "etc/resolv.conf").read_text() == ""
    assert all((root / name).is_dir() for name in ("dev", "proc", "sys"))
    assert list((layout.state / "upper").iterdir()) == []
    assert stack_layers(layout, [image]) == stack_layers(layout, [image])


def test_a_root_leaves_the_tree_at_once_and_its_layer_can_be_mounted_again(layout: Layout) -> None:
    image = layout.state / "image"
    image.mkdir(parents=True)
    parting = Parting()
    root = mount_root(layout, image)
    Path(root, "kept").write_text("x")
    parting.unmount(root)
    parting.unmount(root)  # nothing is mounted there any more
    parting.unmount(f"{root}/nothing")
    assert list(list_mounts(str(layout.state))) == []
    parting.finish(root)
    parting.finish(root)
    mount_root(layout, image)
    assert Path(root, "kept").read_text() == "x"
    parting.unmount(root)
    parting.finish_all()
    parting.finish_all()
    assert not [one for one in os.scandir("/proc/self/fd") if os.path.realpath(one.path) == root]


def test_folders_are_spread_where_the_file_system_knows_how(tmp_path: Path) -> None:
    spread_folders(str(tmp_path))
    spread_folders(str(tmp_path))
    spread_folders(str(tmp_path / "nothing"))
    (tmp_path / "one").mkdir()
