"""Short and long syntaxes, casts, and what is refused."""

from __future__ import annotations

import pytest


def numbers(ports):
    return [(port.get("host_ip"), port.get("published"), port["target"], port["protocol"]) for port in ports]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("80", [(None, None, 80, "tcp")]),
        ('"8080:80"', [(None, "8080", 80, "tcp")]),
        ('"8080:80/udp"', [(None, "8080", 80, "udp")]),
        ('"127.0.0.1:8080:80"', [("127.0.0.1", "8080", 80, "tcp")]),
        ('"[::1]:8080:80"', [("::1", "8080", 80, "tcp")]),
        ('"127.0.0.1::80"', [("127.0.0.1", None, 80, "tcp")]),
        ('"3000-3001"', [(None, None, 3000, "tcp"), (None, None, 3001, "tcp")]),
        ('"9090-9091:8080-8081"', [(None, "9090", 8080, "tcp"), (None, "9091", 8081, "tcp")]),
        ('"6000-6002:7000"', [(None, "6000-6002", 7000, "tcp")]),
        ("22:22", [(None, "22", 22, "tcp")]),
        ("{target: 80, published: 8080}", [(None, "8080", 80, "tcp")]),
        ('{target: "80", published: 8000-8010, protocol: udp, mode: host}', [(None, "8000-8010", 80, "udp")]),
    ],
)
def test_ports(service, spec, expected):
    assert numbers(service(f"ports: [{spec}]")["ports"]) == expected


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ('"9000-8000"', "port-range-reversed"),
        ('"1-3:1-2"', "port-range-mismatch"),
        ('"80:"', "bad-port"),
        ('"80:http"', "bad-port"),
        ('"70000"', "bad-port"),
        ('"80/quic"', "bad-port"),
        ('"localhost:80:80"', "bad-address"),
        ('"300.0.0.1:80:80"', "bad-address"),
        ("{published: 80}", "missing-attribute"),
        ("true", "wrong-type"),
        ("1.5", "wrong-type"),
    ],
)
def test_bad_ports(refuse, spec, code):
    (found,) = refuse(f"services: {{web: {{image: i, ports: [{spec}]}}}}")
    assert found.split()[1:] == [code, "services.web.ports[0]"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("./a:/b", {"type": "bind", "source": "/app/a", "target": "/b", "bind": {"create_host_path": True}}),
        (
            "/a/:/b/:ro",
            {"type": "bind", "source": "/a/", "target": "/b", "read_only": True, "bind": {"create_host_path": True}},
        ),
        ("~/a:/b", {"type": "bind", "source": "/home/me/a", "target": "/b", "bind": {"create_host_path": True}}),
        ("data:/b:nocopy", {"type": "volume", "source": "data", "target": "/b", "volume": {"nocopy": True}}),
        ("/b", {"type": "volume", "target": "/b"}),
        ("/data", {"type": "volume", "target": "/data", "volume": {}}),
        (
            "./a:/b:rw,z,rslave",
            {
                "type": "bind",
                "source": "/app/a",
                "target": "/b",
                "bind": {"create_host_path": True, "selinux": "z", "propagation": "rslave"},
            },
        ),
        ("{type: bind, source: ./a, target: /b}", {"type": "bind", "source": "/app/a", "target": "/b"}),
        (
            "{type: tmpfs, target: /t, tmpfs: {size: 64m, mode: 0700}}",
            {"type": "tmpfs", "target": "/t", "tmpfs": {"size": "67108864", "mode": 448}},
        ),
    ],
)
def test_volumes(load, spec, expected):
    written = spec if spec.startswith("{") else repr_yaml(spec)
    tree = load(f"services: {{web: {{image: i, volumes: [{written}]}}}}\nvolumes: {{data: {{}}}}").stack.tree
    assert tree["services"]["web"]["volumes"] == [expected]


def test_the_last_mount_of_a_target_wins_in_the_first_ones_place(service):
    mounts = service("volumes: ['/a1:/a', '/b1:/b', '/a2:/a/']")["volumes"]
    assert [mount["source"] for mount in mounts] == ["/a2", "/b1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo hello", ["echo", "hello"]),
        ("""sh -c "echo 'a b'" """, ["sh", "-c", "echo 'a b'"]),
        ("""a\\ b 'c d' "e\\"f" """, ["a b", "c d", 'e"f']),
        ("a '' b", ["a", "", "b"]),
        ("one && two", ["one"]),
    ],
)
def test_commands_are_split_into_words(load, text, expected):
    loaded = load("services: {web: {image: i, command: " + repr_yaml(text) + "}}")
    assert loaded.stack.services["web"].command == tuple(expected)
    assert [one.code for one in loaded.warnings] == (["shell-syntax"] if "&&" in text else [])


def repr_yaml(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_plain_scalars_mean_what_yaml_1_2_says(service):
    web = service("environment: {A: 010, B: 1e3, C: 1.50, D: yes, E: 22:22, F: 0o17, G: 0x1F, H: ~, I: 1_000}")
    assert web["environment"] == {
        "A": "8", "B": "1000", "C": "1.5", "D": "yes", "E": "22:22", "F": "15", "G": "31", "H": None, "I": "1000",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("healthcheck: {interval: 90s, timeout: 1.5s, retries: 0, test: curl -f x}",
         {"interval": "1m30s", "timeout": "1.5s", "retries": 0, "test": ["CMD-SHELL", "curl -f x"]}),
        ("deploy: {resources: {limits: {cpus: '0.50', memory: 1g, pids: '5'}}}",
         {"resources": {"limits": {"cpus": 0.5, "memory": "1073741824", "pids": 5}}, "placement": {}}),
        ("gpus: all", [{"count": -1}]),
        ("devices: ['/dev/a:/dev/b:r', /dev/c]", [
            {"source": "/dev/a", "target": "/dev/b", "permissions": "r"},
            {"source": "/dev/c", "target": "/dev/c", "permissions": "rwm"}]),
        ("extra_hosts: {b: [1.2.3.4, '::1'], a: host-gateway}", ["a=host-gateway", "b=1.2.3.4", "b=::1"]),
        ("extra_hosts: ['b:1.2.3.4', 'a=[::1]']", ["a=::1", "b=1.2.3.4"]),
        ("ulimits: {core: 0, nofile: {soft: 1, hard: 2}}", {"core": {}, "nofile": {"soft": 1, "hard": 2}}),
        ("labels: [a=b=c, d]", {"a": "b=c", "d": ""}),
        ("sysctls: {x: 1, y: true}", {"x": "1", "y": "true"}),
        ("build: {context: https://example.com/x.git, args: [A=1, B], ssh: [default, k=/x]}",
         {"context": "https://example.com/x.git", "dockerfile": "Dockerfile", "args": {"A": "1"},
          "ssh": ["default", "k=/x"]}),
        ("logging: {options: {a: 1, b: null}}", {"options": {"a": "1", "b": ""}}),
        ("stop_grace_period: 0s", "0s"),
        ("memswap_limit: -1", "-1"),
        ("pull_policy: if_not_present", "missing"),
        ("group_add: [1000, mail]", ["1000", "mail"]),
        ("dns: ['', 1.1.1.1]", ["1.1.1.1"]),
        ("init: false", False),
    ],
)  # fmt: skip
def test_canonical_forms(service, attributes, expected):
    web = service(attributes)
    assert web[attributes.partition(":")[0]] == expected


@pytest.mark.parametrize("attribute", ["privileged: false", "mem_limit: 0", "hostname: ''", "cap_add: []", "tty: 'no'"])
def test_zero_values_are_left_out(service, attribute):
    assert attribute.partition(":")[0] not in service(attribute)


def test_secrets_and_configs(load):
    stack = load(
        """
        services:
          web:
            image: i
            secrets: [a, {source: b, target: x, mode: 0440, uid: "1"}]
            configs: [c]
        secrets:
          a: {environment: A}
          b: {file: ./b.txt}
        configs:
          c: {content: "text $$x"}
          unused: {file: ./u}
        """,
        environ={"A": "hidden"},
    ).stack
    web = stack.services["web"]
    assert [(mount.source, mount.target, mount.mode) for mount in web.secrets] == [
        ("a", "/run/secrets/a", None),
        ("b", "x", 0o440),
    ]
    assert (web.configs[0].source, web.configs[0].target) == ("c", None)
    assert stack.secrets["a"].value == "hidden"
    assert "hidden" not in str(stack.tree)
    assert stack.secrets["b"].file == "/app/b.txt"
    assert stack.configs["c"].content == "text $x"
    assert set(stack.configs) == {"c"}


def test_a_secret_whose_variable_is_unset_is_a_warning(load):
    loaded = load("services: {web: {image: i, secrets: [a]}}\nsecrets: {a: {environment: GONE}}")
    assert [(one.code, one.path) for one in loaded.warnings] == [("unset-variable", "secrets.a.environment")]
    assert loaded.stack.secrets["a"].value is None


def test_a_service_that_is_nothing_is_one_error(refuse):
    assert refuse("services: {web: null, db: {image: d, depends_on: [web]}}") == ["1:17 null-value services.web"]


def test_implicit_networks_and_dependencies(load):
    tree = load(
        """
        services:
          web: {image: i, links: ["db:database"], volumes_from: [files, "container:other"], pid: "service:side"}
          db: {image: i, networks: [back]}
          files: {image: i, network_mode: host}
          side: {image: i, provider: {type: x}}
        networks: {back: {}, unused: {}}
        """
    ).stack.tree
    assert tree["services"]["web"]["depends_on"] == {
        "db": {"condition": "service_started", "required": True, "restart": True},
        "files": {"condition": "service_started", "required": True},
        "side": {"condition": "service_started", "required": True, "restart": True},
    }
    assert tree["services"]["web"]["networks"] == {"default": None}
    assert "networks" not in tree["services"]["files"]
    assert sorted(tree["networks"]) == ["back", "default"]
    assert tree["networks"]["default"] == {"name": "app_default", "ipam": {}}


def test_names_of_external_resources(load):
    tree = load(
        """
        services: {web: {image: i, networks: [a, b, c], volumes: ["disk:/d"]}}
        networks: {a: {external: true}, b: {external: {name: bb}}, c: {external: "true", name: cc}}
        volumes: {disk: {external: true}}
        """
    ).stack.tree
    assert [tree["networks"][key]["name"] for key in "abc"] == ["a", "bb", "cc"]
    assert tree["volumes"]["disk"] == {"name": "disk", "external": True}


def test_restart_policies_and_scale(load):
    services = load(
        """
        services:
          a: {image: i, restart: "on-failure:3", scale: 2}
          b: {image: i, restart: always, deploy: {replicas: 3, restart_policy: {condition: none, delay: 5s}}}
          c: {image: i, restart: "no", x-stack: {restart_unhealthy: true}}
        """
    ).stack.services
    assert (services["a"].restart.condition, services["a"].restart.max_attempts, services["a"].scale) == (
        "on-failure",
        3,
        2,
    )
    assert (services["b"].restart.condition, services["b"].restart.delay, services["b"].scale) == ("no", 5.0, 3)
    assert services["c"].restart.condition == "no"
    assert services["c"].restart_unhealthy


def test_nulls_are_allowed_where_they_mean_something(service, refuse):
    web = service("command: null\nentrypoint: null\ndeploy: null\npid: null\nnetworks: {default: null}")
    assert web["command"] is None
    assert "deploy" not in web
    for attribute in ("environment", "ports", "image", "healthcheck", "user", "labels"):
        assert refuse(f"services: {{web: {{build: ., {attribute}: null}}}}") == [
            f"1:{len(attribute) + 30} null-value services.web.{attribute}"
        ]
