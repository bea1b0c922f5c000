"""What is mounted in a container: volumes with copy-up, binds, tmpfs, images, secrets, configs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxes import Box, BoxMaker

from orchestrator.engines.native import host
from orchestrator.engines.native.files import volume_data, volumes
from orchestrator.engines.native.files.volumes import MountRequest
from orchestrator.errors import EngineError, NotFound, Unsupported
from orchestrator.model import FileMount, FileSource, Service, VolumeMount


class Mounts:
    """Runs a command in a box with the mounts that its service asks for."""

    def __init__(self, maker: BoxMaker) -> None:
        self._maker = maker
        self.boxes: list[Box] = []

    def box(self, *command: str, names: dict[str, str] | None = None, **attributes: Any) -> Box:
        request = {key: attributes.pop(key) for key in list(attributes) if key in MountRequest._names}
        made = self._maker(*command, **{key: attributes.pop(key) for key in list(attributes)})
        self.boxes.append(made)
        rendered, _warnings = volumes.prepare_mounts(
            made.layout,
            MountRequest(
                service=made.service, container_id=made.id, rootfs=str(made.rootfs), volume_names=names or {}, **request
            ),
        )
        made.options["mounts"] = rendered
        return made

    def run(self, script: str, **attributes: Any) -> list[str]:
        return self.box("sh", "-c", f"exec 2>&1; {script}", **attributes).run()[1].splitlines()


@pytest.fixture
def mounts(box: BoxMaker) -> Iterator[Mounts]:
    made = Mounts(box)
    yield made
    for one in made.boxes:
        one.end()
        volumes.release_mounts(one.layout, one.id)


@pytest.fixture
def one_mounts(one_box: BoxMaker) -> Iterator[Mounts]:
    made = Mounts(one_box)
    yield made
    for one in made.boxes:
        one.end()
        volumes.release_mounts(one.layout, one.id)


def volume(source: str, target: str, **fields: Any) -> VolumeMount:
    return VolumeMount(type="volume", source=source, target=target, **fields)


def bind(source: Path, target: str, **fields: Any) -> VolumeMount:
    return VolumeMount(type="bind", source=str(source), target=target, **fields)


def test_a_named_volume_keeps_its_content(mounts: Mounts) -> None:
    data = (volume("data", "/data"),)
    assert mounts.run("echo kept > /data/file; cat /data/file", volumes=data, names={"/data": "p_data"}) == ["kept"]
    assert mounts.run("cat /data/file", volumes=data, names={"/data": "p_data"}) == ["kept"]


def test_copy_up_on_first_use_only(mounts: Mounts) -> None:
    first = mounts.box("true", name="first")
    folder = first.rootfs / "seed"
    folder.mkdir(mode=0o750)
    os.chown(folder, 101, 102)
    (folder / "file").write_text("from the image")
    (folder / "file").chmod(0o640)
    os.chown(folder / "file", 5, 6)
    (folder / "link").symlink_to("file")
    (folder / "below").mkdir()
    (folder / "below" / "deep").write_text("x")
    assert volume_data.create_volume(first.layout, "v")
    assert volume_data.fill_volume(first.layout, "v", str(first.rootfs), "/seed")
    data = Path(volume_data.volume_path(first.layout, "v"))
    assert (data.stat().st_uid, data.stat().st_gid, stat.S_IMODE(data.stat().st_mode)) == (101, 102, 0o750)
    info = (data / "file").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (5, 6, 0o640)
    assert os.readlink(data / "link") == "file"
    assert (data / "below/deep").read_text() == "x"
    (data / "file").write_text("changed")
    assert not volume_data.fill_volume(first.layout, "v", str(first.rootfs), "/seed")
    assert (data / "file").read_text() == "changed"
    # A copy that was cut short is made again from the beginning.
    (data.parent / ".filling").touch()
    (data / "half").touch()
    assert volume_data.fill_volume(first.layout, "v", str(first.rootfs), "/seed")
    assert (data / "file").read_text() == "from the image"
    assert not (data / "half").exists()


def test_an_empty_folder_of_the_image_gives_its_owner(mounts: Mounts) -> None:
    lines = mounts.run("stat -c %u:%g:%a /srv", volumes=(volume("v", "/srv"),), names={"/srv": "v"})
    assert lines == ["101:102:755"]


def test_nocopy(mounts: Mounts) -> None:
    mount = volume("v", "/etc", options={"nocopy": True})
    made = mounts.box("/bin/busybox", "ls", "/etc", volumes=(mount,), names={"/etc": "v"})
    assert made.run()[1] in ("", "hostname\nhosts\nresolv.conf")


def test_read_only_volume(mounts: Mounts) -> None:
    lines = mounts.run("touch /data/x", volumes=(volume("v", "/data", read_only=True),), names={"/data": "v"})
    assert "Read-only file system" in lines[0]


def test_a_volume_that_the_image_declares(mounts: Mounts) -> None:
    made = mounts.box("sh", "-c", "touch /srv/x; ls /srv", image_volumes=("/srv",), names={"/srv": "f" * 64})
    assert made.run() == (0, "x")
    assert (Path(volume_data.volume_path(made.layout, "f" * 64)) / "x").exists()
    volume_data.remove_volume(made.layout, "f" * 64)
    volume_data.remove_volume(made.layout, "f" * 64)
    assert list(made.layout.volumes.iterdir()) == []


def test_subpath(mounts: Mounts) -> None:
    mount = volume("v", "/data", options={"subpath": "a/b"})
    with pytest.raises(NotFound) as caught:
        mounts.box("true", volumes=(mount,), names={"/data": "v"})
    assert "services.box.volumes[0]" in caught.value.message
    data = Path(volume_data.volume_path(mounts.boxes[0].layout, "v"))
    (data / "a/b").mkdir(parents=True)
    (data / "a/b/file").touch()
    assert mounts.run("ls /data", volumes=(mount,), names={"/data": "v"}) == ["file"]
    # A link that a container has put there leads nowhere outside.
    (data / "a/b/file").unlink()
    (data / "a/b").rmdir()
    (data / "a/b").symlink_to("/etc")
    with pytest.raises(NotFound):
        mounts.box("true", volumes=(mount,), names={"/data": "v"})


def test_binds(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one file\n")
    (tmp_path / "sub").mkdir()
    given = (bind(tmp_path, "/host"), bind(tmp_path / "file", "/etc/one.conf", read_only=True))
    lines = mounts.run("echo new > /host/sub/made; cat /etc/one.conf; echo x > /etc/one.conf", volumes=given)
    assert lines[0] == "one file"
    assert "Read-only file system" in lines[1]
    assert (tmp_path / "sub/made").read_text() == "new\n"


def test_a_bind_source_is_made_or_missed(mounts: Mounts, tmp_path: Path) -> None:
    assert mounts.run(
        "ls -d /x", volumes=(bind(tmp_path / "made/here", "/x", options={"create_host_path": True}),)
    ) == ["/x"]
    assert (tmp_path / "made/here").is_dir()
    missing = bind(tmp_path / "missing", "/x")
    with pytest.raises(NotFound) as caught:
        mounts.run("true", volumes=(missing,))
    assert "services.box.volumes[0]" in caught.value.message
    assert str(tmp_path / "missing") in caught.value.message
    assert not (tmp_path / "missing").exists()


def test_read_only_reaches_mounts_below(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    host.mount("tmpfs", str(tmp_path / "below"), "tmpfs")
    try:
        given = (bind(tmp_path, "/host", read_only=True),)
        assert "Read-only file system" in mounts.run("touch /host/below/x", volumes=given)[0]
        flat = (bind(tmp_path, "/host", options={"recursive": "disabled"}),)
        assert mounts.run("touch /host/below/x; ls /host/below", volumes=flat) == ["x"]
        assert os.listdir(tmp_path / "below") == []
    finally:
        host.unmount(str(tmp_path / "below"))


def test_an_unknown_propagation(one_mounts: Mounts, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        one_mounts.box("true", volumes=(bind(tmp_path, "/x", options={"propagation": "wild"}),))
    assert "rprivate" in caught.value.hint


def test_tmpfs(mounts: Mounts) -> None:
    lines = mounts.run(
        "df -k /a /b | tail -2; stat -c %a /a; stat -c %a:%u /b; grep ' /a ' /proc/mounts",
        tmpfs=("/a:size=4m",),
        volumes=(VolumeMount(type="tmpfs", target="/b", options={"size": 1 << 20, "mode": 0o700}),),
    )
    assert lines[0].split()[1] == "4096"
    assert lines[1].split()[1] == "1024"
    assert lines[2:4] == ["1777", "700:0"]
    assert all(flag in lines[4] for flag in ("noexec", "nosuid", "nodev"))


def test_tmpfs_that_may_execute(mounts: Mounts) -> None:
    lines = mounts.run("cp /bin/busybox /a/echo; /a/echo works", tmpfs=("/a:exec,uid=101,mode=755",))
    assert lines == ["works"]


def test_a_tmpfs_has_the_mode_of_the_directory_it_covers(mounts: Mounts) -> None:
    assert mounts.run("stat -c %a /root /tmp", tmpfs=("/root", "/tmp")) == ["700", "1777"]


def test_an_image_as_volume(mounts: Mounts, image_layer: Path, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/added").write_text("top layer\n")
    mount = VolumeMount(type="image", source="other", target="/image")
    lines = mounts.run(
        "cat /image/added; ls /image/bin/busybox; touch /image/x",
        volumes=(mount,),
        image_layers={"other": [str(tmp_path / "top"), str(image_layer)]},
    )
    assert lines[:2] == ["top layer", "/image/bin/busybox"]
    assert "Read-only file system" in lines[2]
    with pytest.raises(NotFound):
        mounts.box("true", volumes=(mount,))


def test_secrets_and_configs(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file")
    secrets = {
        "password": FileSource(key="password", name="p", value="hidden"),
        "token": FileSource(key="token", name="t", file=str(tmp_path / "token")),
    }
    configs = {"conf": FileSource(key="conf", name="c", content="a = 1\n")}
    service = {
        "secrets": (
            FileMount(source="password", uid="101", gid="102", mode=0o440),
            FileMount(source="token", target="/tok"),
        ),
        "configs": (FileMount(source="conf"),),
    }
    run_box = make_with_files(mounts, service, secrets, configs)
    text = run_box.run()[1].splitlines()
    assert text[:3] == ["hidden", "from a file", "a = 1"]
    assert text[3].startswith("440:101:102")
    assert text[5].startswith("444:0:0")
    assert "Read-only file system" in text[6]
    stored = Path(f"{run_box.layout.container_run(run_box.id)}/mounts/secrets")
    assert host.is_memory_backed(str(stored))
    assert stat.S_IMODE(stored.stat().st_mode) == 0o700
    run_box.end()
    volumes.release_mounts(run_box.layout, run_box.id)
    assert not stored.exists()


def make_with_files(mounts: Mounts, service: dict[str, Any], secrets: Any, configs: Any) -> Box:
    script = (
        "exec 2>&1; cat /run/secrets/password; echo; cat /tok; echo; cat /conf; "
        "stat -c %a:%u:%g /run/secrets/password /tok /conf; echo x > /run/secrets/password"
    )
    made = mounts._maker("sh", "-c", script, **service)
    mounts.boxes.append(made)
    made.options["mounts"], _ = volumes.prepare_mounts(
        made.layout,
        MountRequest(
            service=made.service, container_id=made.id, rootfs=str(made.rootfs), secrets=secrets, configs=configs
        ),
    )
    return made


def test_a_secret_that_is_not_there(one_mounts: Mounts, tmp_path: Path) -> None:
    made = one_mounts.box("true")
    request = MountRequest(
        service=Service(name="web", secrets=(FileMount(source="gone"),)),
        container_id=made.id,
        rootfs=str(made.rootfs),
        secrets={"gone": FileSource(key="gone", name="g", file=str(tmp_path / "gone"))},
    )
    with pytest.raises(NotFound) as caught:
        volumes.prepare_mounts(made.layout, request)
    assert "services.web.secrets[0]" in caught.value.message
    assert "secrets.gone.file" in caught.value.hint


def test_a_secret_that_is_a_copy_of_its_file(one_mounts: Mounts, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("as it was")
    made = one_mounts.box("true")
    request = MountRequest(
        service=Service(name="web", secrets=(FileMount(source="token"),)),
        container_id=made.id,
        rootfs=str(made.rootfs),
        secrets={"token": FileSource(key="token", name="t", file=str(file), config={"driver": "copy"})},
    )
    (mount,), _ = volumes.prepare_mounts(made.layout, request)
    file.write_text("as it is")
    assert Path(mount["source"]).read_text() == "as it was"
    volumes.release_mounts(made.layout, made.id)


def test_a_volume_with_a_device(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    given = {"volumes": (volume("v", "/data"),), "names": {"/data": "v"}}
    options = {"v": {"type": "none", "o": "bind", "device": str(tmp_path)}}
    assert mounts.run("ls /data", volume_options=options, **given) == ["x"]
    memory = {"v": {"type": "tmpfs", "o": "size=1m", "device": "tmpfs"}}
    assert mounts.run("df -k /data | tail -1", volume_options=memory, **given)[0].split()[1] == "1024"
    with pytest.raises(NotFound):
        mounts.run("true", volume_options={"v": {"o": "bind", "device": "/no/such"}}, **given)


def test_kinds_that_do_not_exist(one_mounts: Mounts) -> None:
    with pytest.raises(Unsupported):
        one_mounts.box("true", volumes=(VolumeMount(type="npipe", source="x", target="/x"),))


def test_links_of_the_image_lead_nowhere(mounts: Mounts, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    made = mounts.box(
        "sh",
        "-c",
        "echo x > /escape/data/file; ls /escape",
        volumes=(volume("v", "/escape/data"),),
        names={"/escape/data": "v"},
    )
    (made.rootfs / "escape").symlink_to(outside)
    made.launch()
    made.wait()
    assert list(outside.iterdir()) == []
    assert made.output() == "data"


def test_a_file_is_mounted_over_a_dangling_link(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "resolv").write_text("nameserver 127.0.0.11\n")
    made = mounts.box("cat", "/etc/resolv.conf", volumes=(bind(tmp_path / "resolv", "/etc/resolv.conf"),))
    (made.rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert made.run() == (0, "nameserver 127.0.0.11")


def test_a_working_directory_of_a_read_only_root(mounts: Mounts) -> None:
    assert mounts.run("pwd", working_dir="/made/here", read_only=True) == ["/made/here"]


def test_a_file_that_is_mounted_can_be_rewritten(mounts: Mounts) -> None:
    made = mounts.box("sleep", "100")
    mount = volumes.render_file_mount(made.layout, made.id, "/etc/hosts", "127.0.0.1 one\n")
    made.options["mounts"] = [mount]
    made.launch()
    assert made.exec("cat", "/etc/hosts").output == "127.0.0.1 one\n"
    volumes.render_file_mount(made.layout, made.id, "/etc/hosts", "2\n")
    assert made.exec("cat", "/etc/hosts").output == "2\n"


def test_shared_memory(mounts: Mounts) -> None:
    first = mounts.box("sh", "-c", "echo seen > /dev/shm/x; sleep 100", ipc="shareable", shm_size=1 << 20)
    launched = first.launch()
    shared = volumes.find_shared_memory(first.layout, first.id)
    assert shared is not None
    while not Path(shared, "x").exists():
        assert host.read_start_time(launched.pid) == launched.start_time
    assert first.exec("sh", "-c", "df -k /dev/shm | tail -1").output.split()[1] == "1024"
    second = mounts.box("cat", "/dev/shm/x", name="second", ipc="service:first")
    second.options["shm_path"] = shared
    second.options["namespaces"] = {"network": "", "pid": "", "uts": "", "ipc": f"/proc/{launched.pid}/ns/ipc"}
    assert second.run() == (0, "seen")
    assert volumes.find_shared_memory(second.layout, second.id) is None
