"""Layers: what a tar says is what the directory is; what a tar must not do, it cannot."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from orchestrator.engines.native.images import unpack
from orchestrator.engines.native.images.failures import InvalidImage, TransferCancelled, UnsafeLayer
from orchestrator.engines.native.images.recipe import render_recipe
from orchestrator.engines.native.images.tarwriter import render_directory
from orchestrator.engines.native.images.unpack import Unpacked, unpack_layer

from .tars import Entry, digest, file, folder, hardlink, make_rootfs, make_tar, symlink


def unpack_bytes(data: bytes, tmp_path: Path, *, piece: int = 100_000, **more: Any) -> tuple[Path, Unpacked]:
    directory = tmp_path / "layer"
    directory.mkdir(mode=0o755)
    chunks = [data[at : at + piece] for at in range(0, len(data), piece)]
    return directory, unpack_layer(chunks, directory, recipe=tmp_path / "recipe", **more)


def test_keeps_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/file").write_bytes(b"x" * 1000)
    os.link(source / "d/file", source / "d/hard")
    os.symlink("../elsewhere", source / "d/soft")
    os.mknod(source / "d/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(source / "d/fifo")
    with (source / "d/sparse").open("wb") as sparse:
        sparse.seek(5 << 20)
        sparse.write(b"end")
    (source / "d" / ("n" * 200)).write_bytes(b"long")
    (source / "d/é \n").write_bytes(b"odd")
    (source / "d/suid").write_bytes(b"s")
    os.chown(source / "d/suid", 1234, 70000)
    os.chmod(source / "d/suid", 0o6711)
    os.setxattr(source / "d/file", "user.note", b"a\0b\xff")
    os.setxattr(source / "d/suid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(source / "d/file", "trusted.overlay.redirect", b"/evil")
    os.utime(source / "d/file", ns=(0, 1_234_567_890_123_456_789))
    os.utime(source / "d", ns=(0, 1_111_111_111_000_000_000))
    made = tmp_path / "made.tar"
    command = ["tar", "--format=pax", "--sparse", "--xattrs", "--xattrs-include=*", "-C", str(source), "-cf", str(made)]
    subprocess.run([*command, "."], check=True)
    data = made.read_bytes()
    layer, unpacked = unpack_bytes(gzip.compress(data), tmp_path)
    assert unpacked.diff_id == digest(data)
    for name in ["d", *(f"d/{one}" for one in os.listdir(source / "d"))]:
        before, after = os.lstat(source / name), os.lstat(layer / name)
        for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_rdev", "st_nlink"):
            assert getattr(before, field) == getattr(after, field), (name, field)
    assert os.getxattr(layer / "d/file", "user.note") == b"a\0b\xff"
    assert os.getxattr(layer / "d/suid", "security.capability").hex().startswith("01000002")
    assert os.readlink(layer / "d/soft") == "../elsewhere"
    assert (layer / "d/hard").stat().st_ino == (layer / "d/file").stat().st_ino
    assert (layer / "d/sparse").stat().st_blocks * 512 < 1 << 20
    with pytest.raises(OSError):
        os.getxattr(layer / "d/file", "trusted.overlay.redirect")
    assert b"".join(render_recipe(tmp_path / "recipe", layer)) == data


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("piece", [511, 1 << 20])
def test_compressions_and_chunks(tmp_path: Path, compress: Any, piece: int) -> None:
    data = make_rootfs()
    layer, unpacked = unpack_bytes(compress(data), tmp_path, piece=piece)
    assert unpacked.diff_id == digest(data)
    assert (layer / "bin/sh").resolve() == layer / "bin/busybox"
    assert stat.S_IMODE((layer / "tmp").stat().st_mode) == 0o1777


def test_gzip_of_several_members(tmp_path: Path) -> None:
    data = make_rootfs()
    packed = b"".join(gzip.compress(data[at : at + 50_000]) for at in range(0, len(data), 50_000))
    assert unpack_bytes(packed, tmp_path)[1].diff_id == digest(data)


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def test_whiteouts_become_overlay_deletions(tmp_path: Path) -> None:
    data = make_tar(
        [
            folder("a", mtime=1000),
            file("a/.wh.gone"),
            file("a/.wh.both"),
            file("a/both", b"new"),
            folder("a/dir"),
            file("a/.wh.dir"),
            folder("b"),
            file("b/.wh..wh..opq"),
            file("b/kept", b"k"),
            file(".wh.top"),
            file("x/y/.wh.deep"),
            folder(".wh..wh.plnk"),
            file(".wh..wh.plnk/1.2", b"aufs"),
        ]
    )
    layer, unpacked = unpack_bytes(data, tmp_path)
    assert is_whiteout(layer / "a/gone")
    assert (layer / "a").stat().st_mtime == 1000
    assert (layer / "a/both").read_bytes() == b"new"
    assert os.getxattr(layer / "a/dir", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(layer / "b", "trusted.overlay.opaque") == b"y"
    assert (layer / "b/kept").read_bytes() == b"k"
    assert is_whiteout(layer / "top")
    assert is_whiteout(layer / "x/y/deep")
    assert not [name for name in os.listdir(layer) if name.startswith(".wh.")]
    assert b"".join(render_recipe(tmp_path / "recipe", layer)) == data
    assert unpacked.report.implicit == ["x", "x/y"]


def test_implied_directories_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        layer, _ = unpack_bytes(make_tar([file("x/y/z", b"1")]), tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((layer / "x").stat().st_mode) == 0o755
    assert stat.S_IMODE((layer / "x/y").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "entries",
    [
        [file("../evil", b"x")],
        [file("a/../../evil", b"x")],
        [symlink("out", "/etc"), file("out/evil", b"x")],
        [symlink("out", "../.."), file("out/evil", b"x")],
        [symlink("a", "/"), folder("a/b"), file("a/b/evil", b"x")],
        [symlink("b", "/etc"), symlink("a", "b"), file("a/evil", b"x")],
        [symlink("b", "."), symlink("a", "b/.."), file("a/evil", b"x")],
        [folder("d"), symlink("d/b", "../.."), symlink("a", "d/b"), file("a/evil", b"x")],
        [symlink("a", "b"), symlink("b", "a"), file("a/evil", b"x")],
        [folder("d"), hardlink("d/h", "../../../etc/passwd")],
        [file("d/.wh..", b"")],
        [file(".wh.x/evil", b"x")],
        [file("./", b"x")],
    ],
)
def test_refuses_evil_tars(tmp_path: Path, entries: list[Entry]) -> None:
    with pytest.raises((UnsafeLayer, InvalidImage)):
        unpack_bytes(make_tar(entries), tmp_path)
    assert not (tmp_path / "evil").exists()
    assert not Path("/etc/evil").exists()


def test_absolute_names_stay_inside(tmp_path: Path) -> None:
    layer, _ = unpack_bytes(make_tar([folder("/abs"), file("/abs/file", b"1")]), tmp_path)
    assert (layer / "abs/file").read_bytes() == b"1"


def test_symbolic_links_may_point_anywhere(tmp_path: Path) -> None:
    layer, _ = unpack_bytes(make_tar([symlink("lib", "usr/lib"), symlink("abs", "/etc/passwd")]), tmp_path)
    assert os.readlink(layer / "lib") == "usr/lib"
    assert os.readlink(layer / "abs") == "/etc/passwd"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats(tmp_path: Path, kind: int) -> None:
    long_name = "/".join(["p" * 60] * 3)
    data = make_tar([file(long_name, b"deep"), file("a", b"x"), hardlink("short", "a")], kind=kind)
    layer, _ = unpack_bytes(data, tmp_path)
    assert (layer / long_name).read_bytes() == b"deep"
    assert (layer / "short").read_bytes() == b"x"
    assert b"".join(render_recipe(tmp_path / "recipe", layer)) == data


@pytest.mark.parametrize("cut", [100, 5000, -700])
def test_truncated(tmp_path: Path, cut: int) -> None:
    data = make_tar([file("a", os.urandom(9000)), file("b", os.urandom(9000))]).rstrip(b"\0")
    with pytest.raises(InvalidImage):
        unpack_bytes(data[:cut], tmp_path)


def test_truncated_gzip(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="truncated"):
        unpack_bytes(gzip.compress(make_rootfs())[:-4], tmp_path)


def test_not_a_tar(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage):
        unpack_bytes(b"this is no tar " * 400, tmp_path)


def test_refuses_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_BOMB_FLOOR", 1 << 20)
    monkeypatch.setattr(unpack, "_SPACE_STEP", 1 << 20)
    bomb = gzip.compress(make_tar([file("zeros", bytes(200 << 20))]))
    with pytest.raises(UnsafeLayer, match="bomb"):
        unpack_bytes(bomb, tmp_path)


def test_cancel(tmp_path: Path) -> None:
    with pytest.raises(TransferCancelled):
        unpack_bytes(make_rootfs(), tmp_path, cancel=lambda: True)


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    data = make_tar([file("a", b"first"), file("a", b"second")])
    layer, unpacked = unpack_bytes(data, tmp_path)
    assert (layer / "a").read_bytes() == b"second"
    assert not unpacked.report.reproducible
    assert not (tmp_path / "recipe").exists()


@pytest.mark.parametrize("piece", [512, 1 << 20])
@pytest.mark.parametrize("target", ["{outside}", "../../../../../../../..{outside}", "{outside}/kept"])
def test_what_replaces_a_link_that_leads_out_stays(tmp_path: Path, target: str, piece: int) -> None:
    outside, into = tmp_path / "outside", tmp_path / "into"
    outside.mkdir(mode=0o700)
    into.mkdir()
    (outside / "kept").write_text("kept")
    link = symlink("a", target.format(outside=outside))
    entries = [link, file("a", b"new"), symlink("b", str(outside)), folder("b"), file("b/in", b"in")]
    tar = make_tar([folder("d"), file("d/f", b"f"), *entries])
    unpacked = unpack_layer(
        (tar[at : at + piece] for at in range(0, len(tar), piece)), into, recipe=tmp_path / "recipe"
    )
    assert unpacked.diff_id == digest(tar)
    assert not (into / "a").is_symlink() and (into / "a").read_bytes() == b"new"
    assert not (into / "b").is_symlink() and (into / "b/in").read_bytes() == b"in"
    assert os.listdir(outside) == ["kept"] and (outside / "kept").read_text() == "kept"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_written_tar_is_reproducible_and_complete(tmp_path: Path) -> None:
    data = make_tar(
        [
            folder("d", 0o1777, mtime=5),
            file("d/f", b"x" * 600, uid=3_000_000, mtime=7),
            hardlink("d/h", "d/f"),
            file("d/" + "n" * 150, b"long"),
            file("d/.wh.gone"),
            folder("o"),
            file("o/.wh..wh..opq"),
            symlink("s", "t" * 150),
        ]
    )
    layer, _ = unpack_bytes(data, tmp_path)
    os.setxattr(layer / "d/f", "user.bin", b"\0\xff\n=")
    os.utime(layer / "d/f", ns=(0, 7_000_000_001))
    written = b"".join(render_directory(layer))
    assert written == b"".join(render_directory(layer))
    again = tmp_path / "again"
    again.mkdir()
    (again / "layer").mkdir()
    second = unpack_layer([written], again / "layer")
    assert second.diff_id == f"sha256:{hashlib.sha256(written).hexdigest()}"
    assert b"".join(render_directory(again / "layer")) == written
    assert os.getxattr(again / "layer/d/f", "user.bin") == b"\0\xff\n="
    assert is_whiteout(again / "layer/d/gone")
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:
        names = archive.getnames()
    assert "d/.wh.gone" in names
    assert "o/.wh..wh..opq" in names
