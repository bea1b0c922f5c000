from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.engines.native.files.snapshots import overlay_mount, read_only_mount, render_legacy_options
from orchestrator.engines.native.images.store import ImageStore

_A, _B = Path("/l/a"), Path("/l/b")


def test_writable() -> None:
    mount = overlay_mount([_A, _B], Path("/c/upper"), Path("/c/work"))
    assert mount.type == mount.source == "overlay"
    assert mount.options == ("lowerdir+=/l/a", "lowerdir+=/l/b", "upperdir=/c/upper", "workdir=/c/work")
    assert render_legacy_options(mount) == "lowerdir=/l/a:/l/b,upperdir=/c/upper,workdir=/c/work"


def test_in_a_user_namespace() -> None:
    assert overlay_mount([_A], Path("/u"), Path("/w"), userxattr=True).options[-1] == "userxattr"


def test_read_only() -> None:
    assert read_only_mount([_A, _B]).options == ("ro", "lowerdir+=/l/a", "lowerdir+=/l/b")
    single = read_only_mount([_A])
    assert (single.type, single.source, single.options) == ("bind", "/l/a", ("ro",))


def test_escapes_for_the_old_call() -> None:
    mount = overlay_mount([Path("/l/a:b,c")], Path("/u,1"), Path("/w"))
    assert render_legacy_options(mount) == "lowerdir=/l/a\\:b\\,c,upperdir=/u\\,1,workdir=/w"


def test_the_kernel_shows_what_the_layers_mean(store: ImageStore, sample: tuple[str, str], tmp_path: Path) -> None:
    (image,) = store.load_archive(Path(sample[0].partition(":")[2]))
    upper, work, target = (tmp_path / name for name in ("upper", "work", "merged"))
    for one in (upper, work, target):
        one.mkdir()
    mount = overlay_mount(image.layers, upper, work)
    options = render_legacy_options(mount)
    # Newer versions of mount(8) take the new calls, which allow 255 characters for one option.
    command = ["mount", "-t", mount.type, "-o", options, mount.source, str(target)]
    subprocess.run(command, check=True, env={**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"})
    try:
        assert sorted(os.listdir(target / "app")) == ["data", "new"]
        assert (target / "bin/busybox").exists()
        (target / "app/new").write_bytes(b"changed")
    finally:
        subprocess.run(["umount", str(target)], check=True)
    assert (image.layers[0] / "app/new").read_bytes() == b"2"
    assert store.fsck(deep=True) == []


def test_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least one"):
        overlay_mount([], Path("/u"), Path("/w"))
