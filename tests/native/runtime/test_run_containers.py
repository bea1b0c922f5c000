"""What a container is inside, on both runtimes."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from boxes import BoxMaker

from orchestrator.engines.native.runtime import cgroups, process
from orchestrator.engines.native.runtime.runtime_errors import StartFailed
from orchestrator.engines.native.runtime.users import resolve_identity
from orchestrator.errors import Conflict, NotFound
from orchestrator.model import Resources, Ulimit

DEFAULT_MASK = "00000000a80425fb"
"""Docker's fourteen capabilities as /proc shows them."""


def status(text: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def test_output_and_exit_code(box: BoxMaker) -> None:
    assert box("sh", "-c", "echo out; echo err >&2; exit 7").run() == (7, "out\nerr")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("no-such-program",), 127, "no-such-program"),
        (("/no/such/program",), 127, "not found"),
        (("/etc/passwd",), 126, "not executable"),
    ],
)
def test_a_command_that_cannot_be_executed(box: BoxMaker, command: tuple[str, ...], code: int, words: str) -> None:
    with pytest.raises(StartFailed) as caught:
        box(*command, name="web").launch()
    assert caught.value.exit_code == code
    assert caught.value.message.startswith("web: ")
    assert words in caught.value.message
    assert caught.value.hint


def test_a_failed_start_leaves_nothing_and_can_be_repeated(box: BoxMaker) -> None:
    made = box("no-such-program")
    for _ in range(2):
        with pytest.raises(StartFailed):
            made.launch()
        assert not made.runtime.knows(made.id)
        assert cgroups.list_cgroup_folders(made.cgroup) == []


def test_a_second_launch_is_refused_while_it_runs(box: BoxMaker) -> None:
    made = box("sleep", "100")
    made.launch()
    with pytest.raises(Conflict):
        made.launch()


def test_it_can_be_launched_again(box: BoxMaker) -> None:
    made = box("sh", "-c", "echo again; exit 3")
    assert made.run() == (3, "again")
    assert made.run() == (3, "again\nagain")


def test_a_signal_ends_it(box: BoxMaker) -> None:
    made = box("sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    launched = made.launch()
    while "ready" not in made.output():
        assert not process.wait_process(launched.pid, launched.start_time, 0.01)
    assert process.send_signal(launched.pid, launched.start_time, signal.SIGTERM)
    assert made.wait().exit_code == 5
    assert made.output() == "ready\ncaught"
    assert not process.send_signal(launched.pid, launched.start_time, signal.SIGTERM)


def test_killed_is_137(box: BoxMaker) -> None:
    made = box("sleep", "100")
    launched = made.launch()
    process.send_signal(launched.pid, launched.start_time, signal.SIGKILL)
    info = made.wait()
    assert (info.exit_code, info.oom_killed, info.lost) == (137, False, False)


def test_default_security(box: BoxMaker) -> None:
    _code, text = box("cat", "/proc/self/status").run()
    found = status(text)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert found[name] == DEFAULT_MASK
    assert found["CapInh"] == found["CapAmb"] == "0" * 16
    assert found["Seccomp"] == "2"
    assert found["NoNewPrivs"] == "0"


def test_a_user_has_no_active_capabilities(box: BoxMaker) -> None:
    found = status(box("cat", "/proc/self/status", user="web").run()[1])
    assert found["CapEff"] == found["CapPrm"] == "0" * 16
    assert found["CapBnd"] == DEFAULT_MASK
    assert found["Uid"].split()[0] == "101"
    assert found["Gid"].split()[0] == "102"
    assert found["Groups"].split() == ["102", "103"]


def test_capabilities_added_and_dropped(box: BoxMaker) -> None:
    only = status(box("cat", "/proc/self/status", cap_drop=("ALL",), cap_add=("net_bind_service",)).run()[1])
    assert int(only["CapEff"], 16) == 1 << 10
    none = status(box("cat", "/proc/self/status", cap_drop=("ALL",)).run()[1])
    assert int(none["CapBnd"], 16) == 0


def test_no_new_privileges(box: BoxMaker) -> None:
    found = status(box("cat", "/proc/self/status", security_opt=("no-new-privileges:true",)).run()[1])
    assert found["NoNewPrivs"] == "1"


def test_forbidden_system_calls(box: BoxMaker) -> None:
    made = box("sh", "-c", "exec 2>&1; unshare -U true; mount -t tmpfs x /tmp; echo done")
    text = made.run()[1]
    assert "ermission denied" in text or "not permitted" in text
    assert text.endswith("done")
    # Allowed without a filter, as long as the kernel lets root make user namespaces.
    free = box("sh", "-c", "unshare -U true && echo made", security_opt=("seccomp=unconfined",)).run()[1]
    assert free == "made"


def test_masked_and_read_only_paths(box: BoxMaker) -> None:
    look = "cat /proc/keys | wc -c; ls /proc/acpi /sys/firmware | grep -v :"
    script = f"exec 2>&1; {look}; echo 1 > /proc/sys/kernel/domainname"
    text = box("sh", "-c", script).run()[1]
    assert text.splitlines()[0] == "0"
    assert "Read-only file system" in text


def test_privileged(box: BoxMaker) -> None:
    script = (
        "cat /proc/self/status; mount -t tmpfs x /tmp && echo mounted; test -b /dev/vda -o -c /dev/kmsg && echo device"
    )
    text = box("sh", "-c", script, privileged=True).run()[1]
    assert status(text)["Seccomp"] == "0"
    assert text.endswith("mounted\ndevice")


def test_environment_home_and_directory(box: BoxMaker) -> None:
    made = box(
        "sh",
        "-c",
        "echo $HOME $HOSTNAME $A $PATH; pwd; hostname",
        user="web",
        hostname="name",
        environment={"A": "1"},
        working_dir="/made/here",
    )
    home, where, name = made.run()[1].splitlines()
    assert home == "/srv name 1 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert (where, name) == ("/made/here", "name")


def test_read_only_root(box: BoxMaker) -> None:
    text = box("sh", "-c", "exec 2>&1; touch /x; touch /dev/shm/y && echo shm", read_only=True).run()[1]
    assert "Read-only file system" in text
    assert text.endswith("shm")


def test_shm_size(box: BoxMaker) -> None:
    text = box("sh", "-c", "df -k /dev/shm | tail -1", shm_size=8 << 20).run()[1]
    assert text.split()[1] == "8192"


def test_sysctls_and_domain(box: BoxMaker) -> None:
    script = (
        "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_unprivileged_port_start"
    )
    made = box("sh", "-c", script, sysctls={"net.core.somaxconn": "777"}, domainname="example.org")
    assert made.run()[1].split() == ["777", "example.org", "0"]


def test_limits_are_in_force(box: BoxMaker) -> None:
    made = box(
        "sleep",
        "100",
        resources=Resources(memory=64 << 20, pids=20, cpus=0.5, cpu_shares=512),
        ulimits={"nofile": Ulimit(soft=100, hard=200), "core": Ulimit(soft=0, hard=0)},
    )
    launched = made.launch()
    usage = cgroups.read_usage(made.cgroup)
    assert (usage.memory_limit, usage.pids_limit) == (64 << 20, 20)
    assert usage.memory is not None
    assert usage.pids
    # A runc built with Go 1.19 may raise the soft limit of a process that it adds later to the hard one.
    limits = Path(f"/proc/{launched.pid}/limits").read_text()
    assert re.search(r"Max open files +\d+ +200 ", limits)
    if made.runtime.name == "crun":
        assert made.exec("sh", "-c", "ulimit -Sn; ulimit -Hn").output.split() == ["100", "200"]
    if made.facts.cgroups.mode != "v2":
        quota = Path(f"/sys/fs/cgroup/cpu{made.cgroup}/cpu.cfs_quota_us").read_text()
        assert int(quota) == 50_000


def test_too_many_processes(box: BoxMaker) -> None:
    made = box("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait", resources=Resources(pids=4))
    assert made.run()[0] != 0
    assert "can't fork" in made.output()


def test_too_much_memory(box: BoxMaker) -> None:
    made = box("sh", "-c", "tail /dev/zero", resources=Resources(memory=16 << 20, memswap_limit=16 << 20))
    made.launch()
    info = made.wait()
    # A shell that outlives its killed child reports 137 itself.
    assert info.exit_code == 137


def test_pause(box: BoxMaker) -> None:
    made = box("sleep", "100")
    made.launch()
    assert cgroups.freeze_cgroup(made.cgroup, frozen=True)
    assert cgroups.is_frozen(made.cgroup)
    assert cgroups.freeze_cgroup(made.cgroup, frozen=False)
    assert not cgroups.is_frozen(made.cgroup)


def test_update(box: BoxMaker) -> None:
    made = box("sleep", "100", resources=Resources(memory=64 << 20))
    made.launch()
    made.runtime.update(made.id, {"memory": {"limit": 32 << 20, "swap": 64 << 20}})
    assert cgroups.read_usage(made.cgroup).memory_limit == 32 << 20


def test_created_then_started(box: BoxMaker) -> None:
    made = box("sh", "-c", "echo now")
    launched = made.launch(start=False)
    assert not process.wait_process(launched.pid, launched.start_time, 0.05)
    assert made.output() == ""
    made.runtime.start(made.id)
    assert made.wait().exit_code == 0
    assert made.output() == "now"


def test_it_holds_none_of_our_descriptors(box: BoxMaker) -> None:
    import os

    read, write = os.pipe()
    os.set_inheritable(write, True)
    made = box("sleep", "100")
    made.launch()
    os.close(write)
    # If monitor or container had it too, this would block for ever.
    assert os.read(read, 1) == b""
    os.close(read)


def test_users_of_the_image(one_box: BoxMaker) -> None:
    root = str(one_box("true").rootfs)
    assert resolve_identity(root, "").uid == 0
    assert resolve_identity(root, "").home == "/root"
    web = resolve_identity(root, "web", ("log", "999"))
    assert (web.uid, web.gid, web.groups, web.home) == (101, 102, (102, 103, 104, 999), "/srv")
    assert resolve_identity(root, "101").groups == (102, 103)
    assert resolve_identity(root, "web:log").gid == 104
    unknown = resolve_identity(root, "4000:5000")
    assert (unknown.uid, unknown.gid, unknown.home) == (4000, 5000, "/")
    for bad in ("nobody-here", "web:nobodies", "99999999999"):
        with pytest.raises(NotFound) as caught:
            resolve_identity(root, bad, path="services.web.user")
        assert "services.web.user" in caught.value.hint


def test_users_are_never_the_hosts(one_box: BoxMaker) -> None:
    made = one_box("true")
    (made.rootfs / "etc/passwd").unlink()
    (made.rootfs / "etc/passwd").symlink_to("/../../../../../../etc/other")
    (made.rootfs / "etc/other").write_text("inside:x:7:8::/in:/bin/sh\n")
    assert resolve_identity(str(made.rootfs), "inside").uid == 7
    with pytest.raises(NotFound):
        resolve_identity(str(made.rootfs), "daemon")


def test_host_namespaces(box: BoxMaker) -> None:
    import os

    made = box("sleep", "100", pid="host", ipc="host", uts="host", network_mode="host")
    launched = made.launch()
    for kind in ("pid", "ipc", "uts", "net"):
        assert os.readlink(f"/proc/{launched.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    assert os.readlink(f"/proc/{launched.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")


def test_without_a_process_namespace_the_group_is_what_ends(box: BoxMaker) -> None:
    made = box("sh", "-c", "sleep 300 & sleep 300 & echo ready; wait", pid="host")
    launched = made.launch()
    while "ready" not in made.output():
        assert not process.wait_process(launched.pid, launched.start_time, 0.01)
    process.send_signal(launched.pid, launched.start_time, signal.SIGKILL)
    made.wait()
    assert cgroups.list_processes(made.cgroup) != []
    process.end_processes(made.cgroup)
    assert cgroups.list_processes(made.cgroup) == []


def test_joining_another_containers_namespaces(box: BoxMaker) -> None:
    first = box("sleep", "100", hostname="first")
    launched = first.launch()
    from orchestrator.engines.native.runtime.bundle import plan_namespaces

    second = box("sh", "-c", "hostname; ps | grep -c 'sleep 100'", pid="service:a", uts="service:a", ipc="service:a")
    second.options["namespaces"] = plan_namespaces(second.service, "", {"service:a": launched.pid}, unified=False)
    name, count = second.run()[1].split()
    assert name == "first"
    assert int(count) >= 1
