"""What the attributes of a service come to in a running container."""

from __future__ import annotations

import time

from .conftest import Project

SLEEPER = "image: busybox, init: true, command: [sleep, '1000']"


def shell(project: Project, service: str, script: str) -> str:
    return project.succeed("exec", "-T", service, "sh", "-c", script).strip()


def test_restart_policies(project: Project) -> None:
    project.write("""
services:
  always: {image: busybox, command: [sh, -c, "echo run; exit 0"], restart: always}
  twice: {image: busybox, command: [sh, -c, "echo run; exit 3"], restart: "on-failure:2"}
  fine: {image: busybox, command: [sh, -c, "echo run; exit 0"], restart: on-failure}
  never: {image: busybox, command: [sh, -c, "echo run; exit 3"]}
""")
    project.succeed("up", "-d")
    runs = lambda name: project.succeed("logs", "--no-log-prefix", name).count("run")  # noqa: E731
    project.wait_until("always runs again and again", lambda: runs("always") >= 4)
    project.wait_until("twice has been given up", lambda: runs("twice") == 3)
    assert (runs("fine"), runs("never")) == (1, 1)
    # What a user stops stays so, whatever its policy.
    project.succeed("stop", "-t", "0", "always")
    before = runs("always")
    time.sleep(1.0)
    assert runs("always") == before
    assert project.containers()["always-1"]["State"] == "exited"
    # A failed one that is given up is started again by `up`, with its attempts renewed.
    project.succeed("up", "-d", "twice")
    project.wait_until("twice has been given up again", lambda: runs("twice") == 6)


def test_stop_signals_and_grace_periods(project: Project) -> None:
    project.write("""
services:
  polite: {image: busybox, command: [sh, -c, "trap 'echo bye; exit 5' USR1; echo up; while :; do sleep 0.1; done"],
    stop_signal: SIGUSR1}
  deaf: {image: busybox, command: [sleep, "1000"], stop_grace_period: 300ms}
  stubborn: {image: busybox, command: [sleep, "1000"], stop_grace_period: 1h}
""")
    project.succeed("up", "-d")
    project.wait_until("polite listens", lambda: "up" in project.succeed("logs", "polite"))
    begun = time.monotonic()
    project.succeed("stop", "polite", "deaf")
    project.succeed("stop", "-t", "0", "stubborn")
    assert time.monotonic() - begun < 30
    shown = project.containers()
    assert {name: row["ExitCode"] for name, row in shown.items()} == {"polite-1": 5, "deaf-1": 137, "stubborn-1": 137}
    assert "bye" in project.succeed("logs", "polite")


def test_who_runs_with_what_rights(project: Project) -> None:
    project.write(f"""
services:
  nobody: {{{SLEEPER}, user: "1234:4321", group_add: ["77"], working_dir: /tmp}}
  weak: {{{SLEEPER}, cap_drop: [ALL]}}
  strong: {{{SLEEPER}, cap_add: [NET_ADMIN]}}
  fixed: {{{SLEEPER}, read_only: true, tmpfs: ["/run:size=1m", /scratch]}}
  plain: {{{SLEEPER}}}
  tall: {{image: busybox, command: [sh, -c, "sleep 1000 & wait"]}}
""")
    project.succeed("up", "-d")
    assert shell(project, "nobody", "id -u; id -g; id -G; pwd") == "1234\n4321\n4321 77\n/tmp"
    assert project.run("exec", "-T", "nobody", "touch", "/etc/x").code == 1
    assert shell(project, "weak", "grep CapEff /proc/1/status").split()[1] == "0" * 16
    assert project.run("exec", "-T", "weak", "chown", "1:1", "/tmp").code == 1
    assert project.run("exec", "-T", "plain", "ip", "link", "set", "lo", "mtu", "1000").code != 0
    assert project.run("exec", "-T", "strong", "ip", "link", "set", "lo", "mtu", "1000").code == 0
    assert project.run("exec", "-T", "fixed", "touch", "/x").code == 1
    shell(project, "fixed", "touch /run/x /scratch/x")
    assert project.run("exec", "-T", "fixed", "sh", "-c", "dd if=/dev/zero of=/run/y bs=1k count=2000").code == 1
    # With init the first process is the init, which reaps; without, the command itself.
    assert shell(project, "plain", "cat /proc/1/comm") in ("docker-init", "tini", "catatonit", "tini-static")
    assert shell(project, "tall", "cat /proc/1/comm") == "sh"


def test_limits(project: Project) -> None:
    project.write(f"""
services:
  forks: {{{SLEEPER}, pids_limit: 12}}
  eats:
    image: busybox
    command: [sh, -c, "echo eating; exec tail /dev/zero"]
    mem_limit: 16m
    memswap_limit: 16m
  open: {{{SLEEPER}, ulimits: {{nofile: {{soft: 100, hard: 200}}}}, sysctls: {{net.core.somaxconn: "77"}}}}
""")
    project.succeed("up", "-d")
    ran = project.run("exec", "-T", "forks", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.5 & done")
    assert "can't fork" in ran.err
    project.wait_until("it is killed", lambda: project.containers()["eats-1"]["State"] == "exited")
    assert project.containers()["eats-1"]["ExitCode"] == 137
    assert shell(project, "open", "ulimit -Sn; ulimit -Hn; cat /proc/sys/net/core/somaxconn") == "100\n200\n77"


def test_files_that_are_handed_in(project: Project) -> None:
    project.write("from a file\n", "setting.txt")
    project.write(f"""
services:
  web:
    {{{SLEEPER}, user: "1234",
      secrets: [password, {{source: password, target: other, uid: "1234", gid: "99", mode: 0400}}],
      configs: [{{source: setting, target: /etc/setting}}, {{source: inline, target: /etc/inline, mode: 0444}}]}}
secrets: {{password: {{environment: E2E_PASSWORD}}}}
configs: {{setting: {{file: ./setting.txt}}, inline: {{content: "for ${{E2E_NAME:-nobody}}\\n"}}}}
""")
    project.machine.environment["E2E_PASSWORD"] = "sesame-4711"
    try:
        project.succeed("up", "-d")
        assert "sesame-4711" not in project.succeed("config")
    finally:
        del project.machine.environment["E2E_PASSWORD"]
    assert shell(project, "web", "cat /run/secrets/password /run/secrets/other") == "sesame-4711sesame-4711"
    assert shell(project, "web", "stat -c '%u %g %a' /run/secrets/other") == "1234 99 400"
    assert shell(project, "web", "cat /etc/setting /etc/inline") == "from a file\nfor nobody"
    assert project.run("exec", "-T", "-u", "0", "web", "sh", "-c", "echo x > /run/secrets/password").code == 1
    # They are there again after a restart, without the variable.
    project.succeed("restart", "-t", "0", "web")
    assert shell(project, "web", "cat /run/secrets/password") == "sesame-4711"
    # Nothing of the secret is on the disk but what the store must remember.
    found = [
        path
        for path in project.machine.state.rglob("*")
        if path.is_file() and not path.is_symlink() and b"sesame-4711" in path.read_bytes()
    ]
    assert {path.name for path in found} <= {"stack.db", "stack.db-wal", "goal.json"}
    assert [str(path) for path in found if path.stat().st_mode & 0o077] == []


def test_volumes_of_another_service(project: Project) -> None:
    project.write(f"""
services:
  keeper: {{{SLEEPER}, volumes: ["shared:/data", /own]}}
  reader: {{{SLEEPER}, volumes_from: ["keeper:ro"]}}
  writer: {{{SLEEPER}, volumes_from: [keeper]}}
  part:
    {{{SLEEPER}, profiles: [late],
      volumes: [{{type: volume, source: shared, target: /part, volume: {{subpath: below}}}}]}}
  memory: {{{SLEEPER}, volumes: [{{type: tmpfs, target: /fast, tmpfs: {{size: 1m, mode: 0700}}}}]}}
volumes: {{shared: {{}}}}
""")
    project.succeed("up", "-d")
    shell(project, "writer", "mkdir /data/below; echo one > /data/below/note; echo two > /own/note")
    assert shell(project, "reader", "cat /data/below/note /own/note") == "one\ntwo"
    assert project.run("exec", "-T", "reader", "touch", "/data/x").code == 1
    assert "700" in shell(project, "memory", "stat -c %a /fast")
    project.succeed("--profile", "late", "up", "-d", "part")
    assert shell(project, "part", "cat /part/note") == "one"
    # Anonymous volumes go over to the container that replaces theirs, and named ones stay anyway.
    project.succeed("up", "-d", "--force-recreate", "-t", "0", "keeper")
    assert shell(project, "keeper", "cat /data/below/note /own/note") == "one\ntwo"
    project.succeed("--profile", "late", "down", "-t", "0")


def test_an_unhealthy_dependency_ends_the_wait(project: Project) -> None:
    project.write(f"""
services:
  db:
    {{{SLEEPER}, healthcheck: {{test: "echo no route; exit 1", interval: 100ms, retries: 2}}}}
  web: {{{SLEEPER}, depends_on: {{db: {{condition: service_healthy}}}}}}
  free: {{{SLEEPER}, depends_on: {{db: {{condition: service_healthy, required: false}}}}}}
""")
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "db" in ran.err
    assert "unhealthy" in ran.err
    assert "no route" in ran.err
    shown = project.containers()
    assert (shown["db-1"]["State"], shown["db-1"]["Health"]) == ("running", "unhealthy")
    assert shown["web-1"]["State"] == "created"
    assert shown["free-1"]["State"] == "running"


def test_an_unknown_user_and_other_things_that_cannot_be(project: Project) -> None:
    lines = {
        "user": ("nosuchuser", "nosuchuser"),
        "working_dir": ("/etc/passwd", "working"),
        "network_mode": ("'container:nothing'", "nothing"),
        "volumes": ("['./compose.yaml:/etc']", "/etc"),
    }
    for attribute, (value, told) in lines.items():
        project.write(f"services:\n  web:\n    image: busybox\n    command: [sleep, '1']\n    {attribute}: {value}\n")
        ran = project.run("up", "-d")
        assert ran.code in (1, 15), (attribute, ran)
        assert told in ran.err, (attribute, ran.err)
        assert "web" in ran.err
        assert "internal error" not in ran.err, ran.err
        assert "Traceback" not in ran.err
        project.succeed("down", "-v", "-t", "0")


def test_devices_by_name(project: Project) -> None:
    """CDI: what a file of the host says of a device comes into the container; nothing here needs a real GPU."""
    project.write(
        """
kind: nvidia.com/gpu
containerEdits:
  env: [DRIVER=loaded]
  mounts: [{hostPath: DRIVER, containerPath: /lib/driver, options: [ro, bind]}]
  hooks: [{hookName: createContainer, path: /bin/sh, args: [sh, -c, "cat > HOOKED"]}]
devices:
  - {name: "0", containerEdits: {deviceNodes: [{path: /dev/gpu0, hostPath: /dev/zero}], additionalGids: [4242]}}
  - {name: "1", containerEdits: {deviceNodes: [{path: /dev/gpu1, hostPath: /dev/full, permissions: r}]}}
""".replace("DRIVER,", f"{project.folder}/driver,").replace("HOOKED", f"{project.folder}/hooked"),
        "cdi/gpus.yaml",
    )
    project.write("a driver\n", "driver")
    project.machine.environment["STACK_CDI_DIRS"] = f"{project.folder}/cdi"
    reserved = "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 1}]}}}"
    text = f"""
services:
  every: {{{SLEEPER}, gpus: all}}
  named: {{{SLEEPER}, devices: ["nvidia.com/gpu=1"]}}
  counted: {{{SLEEPER}, {reserved}}}
"""
    try:
        project.write(text)
        project.succeed("up", "-d")
        found = {name: shell(project, name, "cd /dev; echo gpu*; id -G; echo $DRIVER") for name in project.services()}
        assert found == {
            "every": "gpu0 gpu1\n0 4242\nloaded",
            "named": "gpu1\n0\nloaded",
            "counted": "gpu0\n0 4242\nloaded",
        }
        assert shell(project, "every", "cat /lib/driver; head -c1 /dev/gpu0 | wc -c") == "a driver\n1"
        assert '"ociVersion"' in (project.folder / "hooked").read_text()
        project.write(text.replace("gpu=1", "gpu=2").replace("count: 1", "count: 9"))
        ran = project.run("up", "-d")
        assert ran.code == 15
        assert "compose.yaml:4:" in ran.err
        assert "no CDI file describes nvidia.com/gpu=2" in ran.err
        assert "9 GPUs are asked for, and this host has 2" in ran.err
    finally:
        del project.machine.environment["STACK_CDI_DIRS"]
        project.succeed("down", "-t", "0")
