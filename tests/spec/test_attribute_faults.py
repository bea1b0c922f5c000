"""What is wrong with the attributes of a service before anything starts, and what only looks wrong."""

from __future__ import annotations

import pytest

from orchestrator.spec.attribute_faults import is_signal, report_attributes


def list_faults(config):
    found = []

    def report(code, message, *path, hint=""):
        found.append((code, ".".join(map(str, path)), message, hint))

    report_attributes(config, report)
    return found


@pytest.mark.parametrize("text", ["SIGTERM", "term", "15", "64", " sigquit ", "SIGRTMIN+3", "RTMAX-30", "SIGRTMIN"])
def test_signals(text):
    assert is_signal(text)


@pytest.mark.parametrize("text", ["", "SIG", "0", "65", "-9", "SIGTRM", "RTMIN+31", "RTMAX+1", "SIGSIGTERM", "١٥"])
def test_what_is_no_signal(text):
    assert not is_signal(text)


@pytest.mark.parametrize(
    ("config", "code", "path", "hint"),
    [
        ({"stop_signal": "SIGTRM"}, "not-allowed", "stop_signal", "SIGTERM"),
        ({"dns": ["1.1.1.1", "dns.example.com"]}, "bad-address", "dns.1", "address"),
        ({"expose": ["80", "0"]}, "bad-port", "expose.1", "8000-8010"),
        ({"expose": ["90-80"]}, "bad-port", "expose.0", ""),
        ({"expose": ["80/icmp"]}, "bad-port", "expose.0", ""),
        ({"expose": ["65536"]}, "bad-port", "expose.0", ""),
        ({"mac_address": "02:42:ac:11:00"}, "bad-address", "mac_address", "02:42:"),
        ({"networks": {"a": None, "b": {"mac_address": "2-42:ac:11"}}}, "bad-address", "networks.b.mac_address", ""),
        ({"pid": "hots"}, "not-allowed", "pid", "host"),
        ({"ipc": "everybody"}, "not-allowed", "ipc", "shareable"),
        ({"uts": "private"}, "not-allowed", "uts", "host"),
        ({"cgroup": "service:web"}, "not-allowed", "cgroup", "private"),
        ({"working_dir": "./src"}, "bad-path", "working_dir", "did you mean /src?"),
        ({"platform": "linux/arm/v7/x"}, "not-allowed", "platform", "linux/amd64"),
        ({"cgroup_parent": "/a/../../b"}, "bad-path", "cgroup_parent", "below the root"),
        ({"ulimits": {"nofile": {"soft": 10, "hard": 5}}}, "out-of-range", "ulimits.nofile", "at most"),
        ({"ulimits": {"nofile": {"soft": -1, "hard": 5}}}, "out-of-range", "ulimits.nofile", ""),
        ({"cpuset": "0-1,x"}, "not-allowed", "cpuset", "0-3"),
        ({"mem_swappiness": 101}, "out-of-range", "mem_swappiness", ""),
        ({"healthcheck": {"test": ["CMD"]}}, "bad-probe", "healthcheck.test", "behind it"),
        (
            {"ports": [{"target": 80, "published": "8080"}, {"target": 81, "published": "8080"}]},
            "conflicting-attributes",
            "ports.1",
            "of its own",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(config, code, path, hint):
    ((told_code, told_path, _message, told_hint),) = list_faults(config)
    assert (told_code, told_path) == (code, path)
    assert hint in told_hint


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"stop_signal": "SIGUSR1", "working_dir": "/src", "platform": "linux/arm/v7", "cgroup_parent": "a..b/c"},
        {"dns": ["1.1.1.1", "2606:4700::1111"], "expose": ["80", "53/UDP", "8000-8010/tcp"]},
        {"mac_address": "02-42-ac-11-00-02", "networks": {"a": {"mac_address": "02:42:AC:11:00:02"}, "b": {}}},
        {"pid": "service:web", "ipc": "container:x", "uts": "host", "cgroup": "private"},
        {"ulimits": {"nproc": 5, "nofile": {"soft": 5, "hard": 5}, "core": {"soft": -1, "hard": -1}}},
        {"cpuset": "0,2-3", "mem_swappiness": -1},
        {"healthcheck": {"test": ["NONE"]}},
        {"healthcheck": {"test": ["CMD", "true"]}},
        # The same port at two addresses, for two protocols, chosen by the kernel, or written twice.
        {
            "ports": [
                {"target": 80, "published": "8080", "host_ip": "127.0.0.1"},
                {"target": 81, "published": "8080", "host_ip": "127.0.0.2"},
                {"target": 82, "published": "8080", "protocol": "udp"},
                {"target": 83, "published": "0"},
                {"target": 84, "published": "0"},
                {"target": 85, "published": "9000"},
                {"target": 85, "published": "9000"},
                {"target": 86, "published": "9001-9002"},
                {"target": 87, "published": "9001-9002"},
            ]
        },
    ],
)
def test_what_is_right_is_left_alone(config):
    assert list_faults(config) == []
