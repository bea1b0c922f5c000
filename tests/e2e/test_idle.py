"""While nothing happens, nobody wakes up: neither the supervisor nor its keeper nor the containers' monitors."""

from __future__ import annotations

import time

from soaking.idle import count_wakeups, difference

from .conftest import Project

RESTING = """
services:
  a: {image: busybox, init: true, command: [sleep, "100000"], restart: always, ports: ["127.0.0.1::80"]}
  b:
    image: busybox
    init: true
    command: [sleep, "100000"]
    networks: [front, back]
    logging: {driver: json-file, options: {max-size: 1m}}
  done: {image: busybox, command: ["true"], restart: on-failure}
  gave-up: {image: busybox, command: ["false"], restart: "on-failure:1"}
networks: {front: {enable_ipv6: true}, back: {internal: true}}
"""


def test_an_idle_project_wakes_nobody_up(project: Project) -> None:
    project.write(RESTING)
    project.succeed("up", "-d")
    project.wait_until("the attempts are used up", lambda: "gave up" in project.succeed("why", "gave-up"))
    follower = project.popen("logs", "-f")
    try:
        places = (project.machine.state, project.machine.run_dir)
        # What the start leaves behind (threads that go, memory that is given back) comes to its end first, and that
        # takes a busy machine long. Whoever looks every now and then spoils every one of these whiles.
        end = time.monotonic() + 60
        while True:
            before = count_wakeups(*places, follower.pid)
            assert {name.split()[0] for name in before} >= {"stack-supervise", "stack-keeper", "conmon"}
            time.sleep(3)
            woken = difference(before, count_wakeups(*places, follower.pid))
            if not woken or time.monotonic() > end:
                break
        assert woken == {}
    finally:
        follower.terminate()
        follower.communicate(timeout=60)
