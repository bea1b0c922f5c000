"""Raw system calls and system call filters."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.engines.native import host
from orchestrator.engines.native.files.mountinfo import list_mounts
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.runtime import cgroups, process, seccomp
from orchestrator.engines.native.runtime.bundle import DEFAULT_CAPABILITIES
from orchestrator.engines.native.runtime.facts import HostFacts
from orchestrator.engines.native.runtime.oci_runtime import Runtime, load_owner, load_runtime
from orchestrator.engines.native.runtime.seccomp_profile import flatten_profile, render_default_profile
from orchestrator.engines.native.spawn import find_program, run, spawn, wait
from orchestrator.errors import EngineError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for mount in reversed(list_mounts(str(tmp_path))):
        host.unmount(mount.target)


def make_layers(tree: Path, count: int) -> list[str]:
    """Layers, topmost first, with long names and a comma and a colon in them."""
    layers = []
    for number in range(count):
        layer = tree / "layers" / f"sha256:{'a' * 60},{number}"
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        (layer / "which").write_text(str(number))
        layers.append(str(layer))
    for name in ("upper", "work", "merged"):
        (tree / name).mkdir()
    return layers


@as_root
@pytest.mark.parametrize("way", ["new", "links"])
def test_an_overlay_of_many_layers(tree: Path, way: str) -> None:
    layers = make_layers(tree, 130)
    merged, upper, work = str(tree / "merged"), str(tree / "upper"), str(tree / "work")
    before = os.getcwd()
    if way == "new":
        host.mount_overlay(layers, merged, upper=upper, work=work)
    else:
        host.call_in_thread(lambda: host._mount_overlay_by_links(layers, merged, upper, work, ()))
    assert os.getcwd() == before
    assert len(os.listdir(merged)) == 131
    assert Path(merged, "which").read_text() == "0"
    Path(merged, "made").touch()
    assert Path(upper, "made").exists()
    assert [one.kind for one in list_mounts(merged)] == ["overlay"]
    assert host.unmount(merged)
    assert not host.unmount(merged)
    assert os.listdir(merged) == []


@as_root
def test_read_only_overlays(tree: Path) -> None:
    layers = make_layers(tree, 2)
    merged = str(tree / "merged")
    for some in (layers, layers[:1]):
        host.mount_overlay(some, merged)
        assert Path(merged, "which").read_text() == "0"
        with pytest.raises(OSError, match="Read-only"):
            Path(merged, "x").touch()
        host.unmount(merged)


@as_root
def test_a_busy_mount_goes_lazily(tree: Path) -> None:
    host.mount("tmpfs", str(tree), "tmpfs")
    with (tree / "open").open("w"):
        assert host.unmount(str(tree))
    assert list_mounts(str(tree)) == []


@as_root
def test_a_missing_layer_is_an_error_with_its_path(tree: Path) -> None:
    (tree / "merged").mkdir()
    with pytest.raises(OSError, match="missing"):
        host.mount_overlay([str(tree / "missing"), str(tree)], str(tree / "merged"))


@as_root
def test_names_in_mountinfo(tree: Path) -> None:
    odd = tree / "with blank\\and\ttab"
    odd.mkdir()
    host.mount("tmpfs", str(odd), "tmpfs")
    assert [one.target for one in list_mounts(str(tree))] == [str(odd)]
    assert list_mounts(str(tree / "with")) == []


def test_paths_in_a_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/inside").write_text("inside")
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "up").symlink_to("../../../../../../etc/inside")
    (tmp_path / "out").symlink_to("/etc/passwd")
    root = os.open(tmp_path, os.O_PATH)
    try:
        for path in ("etc/inside", "/link/inside", "up", "../../etc/inside"):
            fd = host.open_in_root(root, path)
            assert os.read(fd, 100) == b"inside"
            assert not os.get_inheritable(fd)
            os.close(fd)
        with pytest.raises(FileNotFoundError):
            host.open_in_root(root, "out")
    finally:
        os.close(root)


def test_start_times() -> None:
    assert host.read_start_time(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert host.read_start_time(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert host.read_start_time(child.pid) is None, "a process that nobody has waited for yet counts as ended"
    child.communicate()
    assert host.read_start_time(child.pid) is None


def test_file_events(tmp_path: Path) -> None:
    watch = host.Inotify()
    number = watch.add(str(tmp_path), host.IN_CREATE | host.IN_MOVED_TO)
    assert list(watch.read()) == []
    (tmp_path / "ä").touch()
    os.rename(tmp_path / "ä", tmp_path / "b")
    select.select([watch.fileno()], [], [], 10)
    assert [(one.watch, one.mask, one.name) for one in watch.read()] == [
        (number, host.IN_CREATE, "ä"),
        (number, host.IN_MOVED_TO, "b"),
    ]
    watch.close()


def test_what_a_thread_changes_stays_in_it() -> None:
    before = os.readlink("/proc/thread-self/ns/mnt")
    if os.geteuid() == 0:
        assert host.call_in_thread(lambda: (host.unshare(host.CLONE_NEWNS), os.readlink("/proc/thread-self/ns/mnt"))[1])
    assert os.readlink("/proc/thread-self/ns/mnt") == before
    with pytest.raises(ZeroDivisionError):
        host.call_in_thread(lambda: 1 // 0)


def test_programs_get_the_descriptors_they_are_given() -> None:
    shell = find_program("sh")
    assert shell is not None
    read, write = os.pipe()
    # Crosswise: each is put where the other one was.
    first, second = os.memfd_create("first"), os.memfd_create("second")
    os.write(first, b"first")
    os.write(second, b"second")
    os.set_inheritable(read, True)
    script = f"cat /proc/self/fd/{second} /proc/self/fd/{first}; test -e /proc/self/fd/{read} && echo leak; exit 3"
    child = spawn([shell, "-c", script], {1: write, first: second, second: first})
    os.close(write)
    assert wait(child) == 3
    assert os.read(read, 100) == b"firstsecond"
    for fd in (read, first, second):
        os.close(fd)
    assert run([shell, "-c", "echo out; echo err >&2; exit 4"]) == (4, "out\nerr\n")
    assert find_program("no-such-program") is None


def test_the_default_profile() -> None:
    profile = render_default_profile(DEFAULT_CAPABILITIES, "x86_64")
    plain = next(one["names"] for one in profile["syscalls"] if "args" not in one and one["action"] == "SCMP_ACT_ALLOW")
    assert {"read", "chroot", "arch_prctl", "clock_gettime64", "futex_waitv"} <= set(plain)
    forbidden = {"mount", "umount2", "unshare", "setns", "clone", "clone3", "bpf", "keyctl", "add_key", "reboot"}
    assert forbidden.isdisjoint(plain)
    assert {"io_uring_setup", "userfaultfd", "kexec_load", "init_module", "ptrace_none"}.isdisjoint(plain)
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in profile["syscalls"]
    admin = render_default_profile({"CAP_SYS_ADMIN"}, "x86_64")
    assert {"mount", "clone", "clone3", "unshare"} <= set(admin["syscalls"][0]["names"])
    assert "chroot" not in admin["syscalls"][0]["names"]
    assert render_default_profile((), "aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]


def test_a_profile_in_dockers_form() -> None:
    given = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "c", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "9.9"}},
        ],
    }
    found = flatten_profile(given, {"CAP_CHOWN"}, "x86_64", (6, 1))
    assert [one["names"] for one in found["syscalls"]] == [["b"]]
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    found = flatten_profile(given, {"CAP_SYS_ADMIN"}, "aarch64", (10, 0))
    assert [one["names"] for one in found["syscalls"]] == [["a"], ["c"], ["d"]]


def test_filters_are_compiled_once(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    first = seccomp.load_filter(cache, DEFAULT_CAPABILITIES)
    assert first.bpf
    (made,) = Path(cache).iterdir()
    assert stat.S_ISREG(made.stat().st_mode)
    made.write_text("remembered")
    assert seccomp.load_filter(cache, DEFAULT_CAPABILITIES).bpf == "remembered"
    assert seccomp.load_filter(cache, DEFAULT_CAPABILITIES - {"CAP_SYS_CHROOT"}).bpf != "remembered"
    custom = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    assert seccomp.load_filter(cache, DEFAULT_CAPABILITIES, custom=custom).bpf not in ("remembered", first.bpf)
    assert seccomp.load_filter(cache, DEFAULT_CAPABILITIES, compiled=False).profile["syscalls"]


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"defaultAction": "WHAT"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "x"}]},
        {"syscalls": 1},
    ],
)
def test_a_profile_that_is_none(tmp_path: Path, profile: dict[str, object]) -> None:
    with pytest.raises(EngineError):
        seccomp.load_filter(str(tmp_path), (), custom=profile)


@pytest.mark.parametrize("path", ["", "/", "//", "stack/x"])
def test_the_root_control_group_is_out_of_reach(path: str) -> None:
    # Everything that runs on the machine is in the root group.
    with pytest.raises(ValueError, match="not a group of ours"):
        process.end_processes(path)
    with pytest.raises(ValueError, match="not a group of ours"):
        cgroups.remove_cgroup(path)


def test_the_runtime_that_is_found_by_several_at_once_is_one(layout: Layout, facts: HostFacts) -> None:
    """A build and a container ask at the same moment when nothing is remembered yet."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _one: load_runtime(layout, facts.cgroups), range(4)))
    assert found == [load_runtime(layout, facts.cgroups)] * 4


def test_a_container_is_held_by_the_runtime_that_made_it(layout: Layout, runtime: Runtime, facts: HostFacts) -> None:
    """Another one may be the one for new containers by now."""
    (Path(runtime.root) / "some").mkdir(parents=True)
    assert load_owner(layout, facts.cgroups, "some").name == runtime.name
