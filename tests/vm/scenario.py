"""What is proved on a machine of its own; `run` puts it there. Standard library only.

    scenario.py RUNTIME [STEP...]

Three boots: the first ends with a clean reboot, the second with a crash, the third takes parts away. Each step prints a
line; each boot ends with ``RESULT failed=N``. With steps named, those alone, in one boot.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path

RESULT = Path("/result")
QUICKSTART = "/opt/stack/examples/quickstart"
CGROUPS = Path("/sys/fs/cgroup")
WORK = Path("/root/projects")
AWAY = ".away"
STATE, RUN = Path("/var/lib/stack"), Path("/run/stack")

LIMITS = """
services:
  hog:
    image: busybox
    init: true
    command: [sleep, "100000"]
    mem_limit: 64m
    memswap_limit: 64m
    pids_limit: 20
    cpus: 0.25
    cpuset: "0"
    blkio_config: {weight: 300}
"""

KEEP = """
services:
  db:
    image: busybox
    restart: always
    init: true
    command: [sh, -c, "date >> /data/starts; exec httpd -f -p 80 -h /data"]
    volumes: ["data:/data"]
    ports: ["8090:80"]
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/starts"]
      interval: 2s
      start_interval: 200ms
      start_period: 30s
  side:
    image: busybox
    restart: unless-stopped
    # Process 1 without a handler: the kernel keeps SIGTERM from it, at shutdown too.
    command: [sleep, "100000"]
volumes: {data: {}}
networks: {default: {enable_ipv6: true}}
"""


class Failed(Exception):
    """A step did not hold."""


def run(*words: str, cwd: Path | str = "/root", code: int | None = 0, user: str = "", timeout: float = 300) -> str:
    """Run a command; its output. Failed when it ends with another code than `code` (None: any)."""
    command = ["runuser", "-u", user, "--", *words] if user else list(words)
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=timeout,
    )  # fmt: skip
    if code is not None and done.returncode != code:
        raise Failed(f"{' '.join(words)} ended with {done.returncode}, not {code}:\n{done.stdout}")
    return done.stdout


def stack(*words: str, at: str = "", code: int | None = 0, user: str = "") -> str:
    """Run ``stack`` in the project folder `at`."""
    return run("/usr/local/bin/stack", *words, cwd=WORK / at if at else "/root", code=code, user=user)


def check(held: object, message: str) -> None:
    """Fail the step with `message`."""
    if not held:
        raise Failed(message)


def wait_until(message: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < end, f"in vain: {message}")
        time.sleep(0.1)


def write_project(name: str, text: str) -> None:
    """Write a project folder."""
    (WORK / name).mkdir(parents=True, exist_ok=True)
    (WORK / name / "compose.yaml").write_text(text)


def fetch(address: str) -> str:
    """Fetch a page."""
    with urllib.request.urlopen(address, timeout=20) as page:
        return str(page.read().decode())


def containers(project: str) -> dict[str, dict[str, object]]:
    """What ``ps -a`` tells, by service."""
    rows = stack("ps", "-a", "--no-trunc", "--format", "json", at=project).splitlines()
    return {one["Service"]: one for one in map(json.loads, rows)}


def pid_of(project: str, service: str) -> int:
    """The main process of a service, on the host."""
    row = containers(project)[service]
    with sqlite3.connect(f"file:{STATE}/stack.db?mode=ro", uri=True) as database:
        found = database.execute("SELECT pid FROM containers WHERE id = ?", (row["ID"],)).fetchone()
    return int(found[0])


def supervisor_of(project: str, service: str) -> int:
    """The process that hosts a project; 0 while there is none."""
    status = json.loads(stack("why", "--format", "json", service, at=project))
    return int(status["pid"]) if status else 0


def cgroup_of(pid: int) -> Path:
    """The control group of a process."""
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return CGROUPS / next(line[4:] for line in text.splitlines() if line.startswith("0::/"))


def alive(pid: int) -> bool:
    """Whether a process runs."""
    return Path(f"/proc/{pid}").exists()


def list_processes(*names: str) -> set[int]:
    """Processes by what they call themselves."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "comm").read_text().strip() in names:
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def take_picture() -> dict[str, set[str]]:
    """Everything that an engine could leave on the machine."""
    processes = set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if command and int(entry.name) != os.getpid():
            processes.add(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')}")
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    folders = [STATE / "containers", STATE / "projects", STATE / "volumes", RUN / "containers", RUN / "projects"]
    folders += [RUN / "netns", RUN / "exits", RUN / "crun", RUN / "runc", Path("/")]
    return {
        "process": {one for one in processes if "systemd" not in one and "agetty" not in one},
        "mount": {place for place in mounts if place.startswith((f"{STATE}/", f"{RUN}/", "/sys", "/proc", "/var"))},
        "link": set(os.listdir("/sys/class/net")),
        "nftables": set(run("nft", "list", "ruleset").splitlines()),
        "cgroup": {str(one) for one in CGROUPS.rglob("stack*") if one.is_dir() and one.name != "stack-test.service"},
        "entry": {str(one) for folder in folders if folder.is_dir() for one in folder.iterdir()},
    }


def expect_nothing_left(before: dict[str, set[str]]) -> None:
    """Compare with a picture taken earlier; what was told to end gets a moment."""
    left: list[str] = []
    for _attempt in range(50):
        after = take_picture()
        left = [f"{kind}: {one}" for kind in after for one in sorted(after[kind] - before[kind])]
        if not left:
            return
        time.sleep(0.2)
    raise Failed("left behind:\n" + "\n".join(left))


# First boot


def shows_what_it_is() -> None:
    print(run("uname", "-r").strip(), run("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME").strip())
    for command in (["systemctl", "--version"], [RUNTIME, "--version"], ["conmon", "--version"], ["nft", "--version"]):
        print(run(*command).splitlines()[0])
    check((CGROUPS / "cgroup.controllers").exists(), "this machine has no cgroup v2")
    if RUNTIME == "runc":
        # Where both are, crun is taken.
        take_away("crun")


def doctor_finds_everything() -> None:
    print(stack("doctor"))
    check(RUNTIME in stack("doctor"), f"doctor does not name {RUNTIME}")


def busybox_is_imported() -> None:
    run("/opt/stack/scripts/build-base-images", "busybox", cwd="/opt/stack")
    check("busybox" in stack("image", "ls"), "no busybox image")


def quickstart_runs() -> None:
    before = take_picture()
    for attempt in ("first", "second", "third"):
        began = time.monotonic()
        out = stack("-f", QUICKSTART, "up", "-d", "--wait")
        print(f"{attempt} up -d --wait: {time.monotonic() - began:.2f} s")
        if attempt == "first":
            print(out)
        check("quickstart" in fetch("http://127.0.0.1:8080/").lower(), "the page is not the quickstart's")
        shown = stack("-f", QUICKSTART, "ps")
        check(shown.count("healthy") == 2, shown)
        words = ("exec", "-T", "web", "wget", "-q", "-O", "-", "http://greeter:8000/")
        check("Hello from" in stack("-f", QUICKSTART, *words), "the greeter does not answer by name")
        began = time.monotonic()
        stack("-f", QUICKSTART, "down")
        print(f"{attempt} down: {time.monotonic() - began:.2f} s")
    expect_nothing_left(before)


def limits_are_set() -> None:
    write_project("limits", LIMITS)
    out = stack("up", "-d", at="limits")
    check("warning" not in out.lower(), out)
    folder = cgroup_of(pid_of("limits", "hog"))
    print(folder)
    expected = {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "pids.max": "20",
        "cpu.max": "25000 100000",
        "cpuset.cpus": "0",
    }
    found = {name: (folder / name).read_text().strip() for name in expected}
    check(found == expected, str(found))


def limits_are_enforced() -> None:
    folder = cgroup_of(pid_of("limits", "hog"))
    out = stack("exec", "-T", "hog", "sh", "-c", "for i in $(seq 40); do sleep 3 & done; wait", at="limits", code=None)
    check("fork" in out, f"forty processes where twenty are allowed: {out}")
    used = lambda: int((folder / "cpu.stat").read_text().split()[1])  # noqa: E731
    before, began = used(), time.monotonic()
    stack("exec", "-T", "hog", "timeout", "6", "sh", "-c", "while :; do :; done", at="limits", code=None)
    share = (used() - before) / 1e6 / (time.monotonic() - began)
    print(f"cpu share {share:.2f}")
    check(share < 0.35, "more than a quarter of a processor")
    # A process that goes beyond the memory limit is killed, in exec and as the main process.
    stack("exec", "-T", "hog", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1", at="limits", code=137)
    text = LIMITS.replace('[sleep, "100000"]', "[dd, if=/dev/zero, of=/dev/null, bs=200M, count=1]")
    write_project("limits", text.replace("init: true", "init: false"))
    stack("up", "-d", at="limits")
    wait_until("the hog is killed", lambda: containers("limits")["hog"]["State"] == "exited")
    check(containers("limits")["hog"]["ExitCode"] == 137, str(containers("limits")))
    with sqlite3.connect(f"file:{STATE}/stack.db?mode=ro", uri=True) as database:
        wait_until("marked as killed for memory", lambda: database.execute("SELECT oom FROM containers").fetchone()[0])
    check(not os.path.exists("/oom"), "a file /oom on the host")
    stack("down", at="limits")


def privileged_and_devices() -> None:
    write_project(
        "priv",
        """
services:
  p: {image: busybox, init: true, privileged: true, command: [sleep, "1000"]}
  d: {image: busybox, init: true, command: [sleep, "1000"], devices: ["/dev/vda:/dev/disk:r"], tmpfs: [/scratch]}
  n: {image: busybox, init: true, command: [sleep, "1000"]}
""",
    )
    stack("up", "-d", at="priv")
    check("vda" in stack("exec", "-T", "p", "ls", "/dev", at="priv"), "privileged does not see the disk")
    stack("exec", "-T", "d", "dd", "if=/dev/disk", "of=/dev/null", "bs=512", "count=1", at="priv")
    make = "mknod /tmp/disk b 254 0; dd if=/tmp/disk of=/dev/null bs=512 count=1"
    refused = stack("exec", "-T", "n", "sh", "-c", make, at="priv", code=None)
    check("not permitted" in refused, f"the disk can be read: {refused}")
    stack("exec", "-T", "n", "sh", "-c", "echo x > /dev/null; head -c1 /dev/urandom > /dev/zero", at="priv")
    look = "cat /proc/self/cgroup; ls /sys/fs/cgroup | head -3; mount | grep cgroup"
    shown = stack("exec", "-T", "n", "sh", "-c", look, at="priv")
    print(shown)
    check("ro," in shown and "0::/" in shown, "the container's view of its control group")
    stack("down", at="priv")


def pause_freezes() -> None:
    command = '[sh, -c, "while :; do date +%s; sleep 1; done"]'
    write_project("pause", f"services: {{w: {{image: busybox, init: true, command: {command}}}}}")
    stack("up", "-d", at="pause")
    comm = Path(f"/proc/{pid_of('pause', 'w')}/comm").read_text().strip()
    check(comm in ("tini", "catatonit", "docker-init"), f"init: true, and process 1 is {comm}")
    folder = cgroup_of(pid_of("pause", "w"))
    stack("pause", at="pause")
    check("frozen 1" in (folder / "cgroup.events").read_text(), "not frozen")
    check(containers("pause")["w"]["State"] == "paused", "ps does not say paused")
    seen = len(stack("logs", at="pause").splitlines())
    time.sleep(3)
    check(len(stack("logs", at="pause").splitlines()) <= seen + 1, "a paused container writes")
    stack("unpause", at="pause")
    wait_until("it goes on", lambda: len(stack("logs", at="pause").splitlines()) > seen + 1)
    stack("pause", at="pause")
    stack("down", "-t", "1", at="pause")


def survives_its_session() -> None:
    """A unit (a login session, a job of a build server) that ran ``stack up`` ends, and its processes are killed."""
    write_project("unit", KEEP.replace("8090", "8091").replace("restart: always", "restart: on-failure"))
    words = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", "-p", f"WorkingDirectory={WORK}/unit")
    run(*words, "/usr/local/bin/stack", "up", "-d", "--wait")
    time.sleep(2)
    check(len(list_processes("conmon")) == 2, f"{len(list_processes('conmon'))} of 2 monitors are left")
    check(list_processes("stack-supervise"), "the supervisor is gone")
    check(list_processes("stack-keeper"), "the keeper is gone")
    for name in ("conmon", "stack-supervise", "stack-keeper"):
        for one in list_processes(name):
            print(name, cgroup_of(one))
    shown = containers("unit")
    check({row["State"] for row in shown.values()} == {"running"}, str(shown))
    stack("exec", "-T", "db", "true", at="unit")
    os.kill(pid_of("unit", "db"), 9)
    wait_until("db is started again", lambda: containers("unit")["db"]["State"] == "running")
    # An up from somewhere else reaches the same supervisor and changes nothing.
    before = {name: row["ID"] for name, row in containers("unit").items()}
    stack("up", "-d", at="unit")
    check({name: row["ID"] for name, row in containers("unit").items()} == before, "recreated")
    stack("down", "-v", "-t", "1", at="unit")


def supervisor_may_be_killed() -> None:
    write_project("killed", KEEP.replace("8090", "8092"))
    stack("up", "-d", "--wait", at="killed")
    pids = [pid_of("killed", name) for name in ("db", "side")]
    first = supervisor_of("killed", "db")
    os.kill(first, 9)
    wait_until("another supervisor", lambda: supervisor_of("killed", "db") not in (0, first))
    check(all(alive(pid) for pid in pids), "containers ended with their supervisor")
    stack("exec", "-T", "side", "ping", "-c1", "-W5", "db", at="killed")
    out = stack("up", "-d", at="killed")
    check([pid_of("killed", name) for name in ("db", "side")] == pids, f"restarted: {out}")
    for address in ("http://127.0.0.1:8092/starts", "http://[::1]:8092/starts"):
        fetch(address)
    stack("down", "-v", "-t", "1", at="killed")


def stack_is_left_running() -> None:
    write_project("keep", KEEP)
    stack("up", "-d", "--wait", at="keep")
    stack("exec", "-T", "db", "sh", "-c", "echo precious > /data/note; sync", at="keep")


def everything_is_told_to_end() -> None:
    """What a machine that goes down does to a container and its monitor: SIGTERM to both at once."""
    write_project("told", KEEP.replace("8090", "8093").replace("restart: always", "restart: 'no'"))
    stack("up", "-d", "--wait", at="told")
    for one in sorted(list_processes("conmon") | {pid_of("told", "db")}):
        os.kill(one, 15)
    wait_until("db ends", lambda: containers("told")["db"]["State"] == "exited")
    code = containers("told")["db"]["ExitCode"]
    check(code == 143, f"its exit code was lost: {code}")
    stack("down", "-v", "-t", "0", at="told")


def stacks_are_enabled() -> None:
    """Two projects that a boot brings up; the second of them is disabled later."""
    for name, port in (("back", "8094"), ("gone", "8095")):
        write_project(name, KEEP.replace("8090", port).replace("restart: always", "restart: 'no'"))
        print(stack("enable", "--now", at=name))
        check(run("systemctl", "is-enabled", f"stack-{name}.service").strip() == "enabled", "not enabled")
        check(fetch(f"http://127.0.0.1:{port}/starts"), "no page")
        stack("exec", "-T", "db", "sh", "-c", "echo precious > /data/note; sync", at=name)
    # `now` has gone by systemd, which ends what it finds in the group of a unit: the containers are not in it.
    run("systemctl", "restart", "stack-back.service")
    expect_up("back")
    for one in list_processes("conmon", "stack-supervise", "stack-keeper"):
        check("stack-back" not in str(cgroup_of(one)), f"{one} belongs to the unit: {cgroup_of(one)}")
    os.sync()


# Second and third boot


def expect_up(project: str) -> None:
    """All services of a project that is made of KEEP run, and the first of them has its data."""
    wait_until(
        f"{project} is up",
        lambda: (
            [(row["State"], row["Health"]) for _name, row in sorted(containers(project).items())]
            == [("running", "healthy"), ("running", "")]
        ),
    )
    port = {"back": "8094", "gone": "8095"}[project]
    for address in (f"http://127.0.0.1:{port}/note", f"http://[::1]:{port}/note"):
        check(fetch(address) == "precious\n", address)
    check(supervisor_of(project, "db"), "nobody supervises it")


def enabled_stacks_are_back() -> None:
    """Nobody has said `up` since the boot but systemd; the target that wants the unit has waited for it."""
    for name in ("back", "gone"):
        print(run("systemctl", "status", "--no-pager", "-l", f"stack-{name}.service", code=None))
        check(containers(name)["db"]["State"] == "running", str(containers(name)))
        expect_up(name)
    # Systemd stops it as `stack stop` does, and starts it again.
    run("systemctl", "stop", "stack-back.service")
    check({row["State"] for row in containers("back").values()} == {"exited"}, str(containers("back")))
    run("systemctl", "start", "stack-back.service")
    expect_up("back")


def one_is_disabled() -> None:
    print(stack("disable", at="gone"))
    check(not os.path.exists("/etc/systemd/system/stack-gone.service"), "the unit is still there")
    check(run("systemctl", "is-enabled", "stack-gone.service", code=None).strip() != "enabled", "still enabled")
    expect_up("gone")
    out = stack("disable", at="gone", code=1)
    check("not enabled" in out, out)
    os.sync()
    # From here on the two belong to the machine; what is left of the third is still for its `down` to clear.
    others = ["keep", *(str(row["ID"]) for row in containers("keep").values())]
    EARLIER.update(take_picture())
    EARLIER["entry"] = {one for one in EARLIER["entry"] if not any(word in one for word in others)}


def only_the_enabled_one_is_back() -> None:
    """After a crash: the machine could stop nothing, and what the engine knows of running containers is wrong."""
    expect_up("back")
    check({row["State"] for row in containers("gone").values()} == {"exited"}, str(containers("gone")))
    print(stack("disable", "--now", at="back"))
    check({row["State"] for row in containers("back").values()} == {"exited"}, str(containers("back")))
    for name in ("back", "gone"):
        stack("down", "-v", at=name)


def ps_tells_the_truth() -> None:
    shown = containers("keep")
    check({row["State"] for row in shown.values()} == {"exited"}, f"after a reboot: {shown}")
    print(stack("ps", "-a", at="keep"))
    print(stack("ls", "-a"))
    print(stack("plan", at="keep"))
    check(stack("ps", "-q", at="keep") == "", "something seems to run")
    out = stack("exec", "-T", "db", "true", at="keep", code=None)
    print(out)
    check("Traceback" not in out and "not running" in out, out)
    stack("logs", at="keep")


def up_starts_clean() -> None:
    ids = {name: row["ID"] for name, row in containers("keep").items()}
    print(stack("up", "-d", "--wait", at="keep"))
    check({name: row["ID"] for name, row in containers("keep").items()} == ids, "the containers were made anew")
    check(stack("exec", "-T", "db", "cat", "/data/note", at="keep") == "precious\n", "the data is gone")
    for address in ("http://127.0.0.1:8090/note", "http://[::1]:8090/note"):
        check(fetch(address) == "precious\n", address)
    stack("exec", "-T", "side", "ping", "-c1", "-W5", "db", at="keep")


def down_leaves_nothing() -> None:
    stack("down", "-v", "-t", "1", at="keep")
    check("keep" not in stack("ls", "-a", "-q").split(), "ls still shows the project")
    expect_nothing_left(EARLIER)


def down_after_reboot_leaves_nothing() -> None:
    """Without an `up` before it."""
    stack("down", "-v", at="keep")
    expect_nothing_left(EARLIER)


def other_runtime() -> None:
    other = "runc" if RUNTIME == "crun" else "crun"
    bring_back(other)
    take_away(RUNTIME)
    print(out := stack("doctor"))
    check(f"{other} at" in out, "doctor does not find the other runtime")
    globals()["RUNTIME"] = other
    for step in (quickstart_runs, limits_are_set, limits_are_enforced, privileged_and_devices, pause_freezes):
        print("with", other, step.__name__)
        step()


def normal_user_is_told() -> None:
    write_project("user", 'services: {w: {image: busybox, command: [sleep, "1000"]}}')
    shutil.copytree(WORK / "user", "/home/tester/user")
    run("chown", "-R", "tester", "/home/tester/user")
    at = ["-f", "/home/tester/user"]
    for words, code in ((["config"], 0), (["ps"], 0), (["ls"], 0), (["version"], 0), (["doctor"], 1), (["plan"], None),
                        (["up", "-d"], 1), (["down"], None), (["logs"], 0), (["image", "ls"], 0)):  # fmt: skip
        out = stack(*at, *words, user="tester", code=code)
        print(f"$ stack {' '.join(words)}\n{out}")
        check("Traceback" not in out, "a traceback")
    check("sudo" in stack(*at, "up", "-d", user="tester", code=1), "up does not say what to do")


def missing_parts_are_named() -> None:
    write_project("bare", 'services: {w: {image: busybox, command: [sleep, "1000"]}}')
    for package, word in (
        ("conmon", "conmon"),
        ("libnftables1", "libnftables1"),
        ("libseccomp2", "libseccomp"),
        ("runc crun", "crun"),
    ):
        here = [one for one in package.split() if list_files(one)]
        for one in here:
            take_away(one)
        try:
            for words in (["doctor"], ["up", "-d"], ["ps", "-a"], ["down"]):
                out = stack(*words, at="bare", code=None)
                print(f"$ stack {' '.join(words)}   # without {package}\n{out}")
                check("Traceback" not in out, "a traceback")
                if words[0] in ("doctor", "up"):
                    check("apt-get install" in out and word in out, f"{words[0]} does not say how to get {package}")
        finally:
            for one in here:
                bring_back(one)
    stack("up", "-d", at="bare")
    stack("down", "-t", "0", at="bare")


def take_away(package: str) -> None:
    """Have a package's programs and libraries out of everybody's sight."""
    for path in list_files(package):
        os.rename(path, path + AWAY)


def bring_back(package: str) -> None:
    """Undo `take_away`."""
    for path in run("dpkg", "-L", package, code=None).splitlines():
        if os.path.lexists(path + AWAY):
            os.rename(path + AWAY, path)


def list_files(package: str) -> list[str]:
    """The programs and libraries of a package."""
    listed = run("dpkg", "-L", package, code=None).splitlines()
    return [one for one in listed if ("/bin/" in one or "/sbin/" in one or ".so" in one) and os.path.exists(one)]


BOOTS: dict[int, tuple[Callable[[], None], ...]] = {
    1: (
        shows_what_it_is, doctor_finds_everything, busybox_is_imported, quickstart_runs, limits_are_set,
        limits_are_enforced, privileged_and_devices, pause_freezes, survives_its_session, supervisor_may_be_killed,
        everything_is_told_to_end, stack_is_left_running, stacks_are_enabled,
    ),
    2: (
        enabled_stacks_are_back, one_is_disabled, ps_tells_the_truth, up_starts_clean, down_leaves_nothing,
        stack_is_left_running,
    ),
    3: (
        only_the_enabled_one_is_back, ps_tells_the_truth, up_starts_clean, down_leaves_nothing, other_runtime,
        normal_user_is_told, missing_parts_are_named,
    ),
}  # fmt: skip


def main() -> None:
    global EARLIER
    RESULT.mkdir(exist_ok=True)
    WORK.mkdir(exist_ok=True)
    counter = RESULT / "boot"
    number = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(number))
    EARLIER = take_picture()
    # What the boot before has left in the engine's folders is for this one to clear.
    EARLIER["entry"] = {one for one in EARLIER["entry"] if not one.startswith((f"{STATE}/", f"{RUN}/"))}
    failed = 0
    named = [globals()[name] for name in sys.argv[2:]]
    for step in named or BOOTS[number]:
        began = time.monotonic()
        try:
            step()
            print(f"ok    {step.__name__}  {time.monotonic() - began:.1f} s", flush=True)
        except Exception as error:
            failed += 1
            said = str(error) if isinstance(error, Failed) else traceback.format_exc()
            print(f"FAIL  {step.__name__}\n{said}", flush=True)
            for log in RUN.glob("projects/*/supervisor.log"):
                print(log, log.read_text()[-3000:], sep="\n", flush=True)
    print(f"RESULT failed={failed}", flush=True)
    time.sleep(1)
    if named:
        subprocess.run(["systemctl", "--no-block", "poweroff"], check=False)
    elif number == 1:
        print("rebooting", flush=True)
        (RESULT / "left").write_text(str(time.time()))
        subprocess.run(["systemctl", "--no-block", "reboot"], check=False)
    elif number == 2:
        # What has not reached the disk is lost, and nobody is told.
        Path("/proc/sysrq-trigger").write_text("b")
    else:
        subprocess.run(["systemctl", "--no-block", "poweroff"], check=False)


EARLIER: dict[str, set[str]] = {}
RUNTIME = sys.argv[1] if len(sys.argv) > 1 else "crun"

if __name__ == "__main__":
    main()
