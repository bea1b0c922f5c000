"""Details of the reference's model that a comparison of many files brought up: empty values, dates, nulls, zeros."""

from __future__ import annotations

import json

import pytest

from orchestrator.spec.render import render_json
from orchestrator.spec.yaml import parse_documents

WEB = "services: {web: {image: i, %s}}"


def read(loaded):
    return json.loads(render_json(loaded.stack.tree))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("build: '$NONE'", {"build": {"dockerfile": "Dockerfile"}}),
        ("build: {dockerfile: ''}", {"build": {"context": "/app"}}),
        ("network_mode: ''", {"networks": None}),
        ("dns: ['', 1.1.1.1], dns_search: '', tmpfs: ['']", {"dns": ["1.1.1.1"], "dns_search": [""], "tmpfs": [""]}),
        ("profiles: ['$NONE']", {"profiles": [""]}),
        (
            "volumes: [{type: bind, source: '', target: /x}]",
            {"volumes": [{"type": "bind", "source": "/app", "target": "/x"}]},
        ),
        ("devices: ['']", {"devices": [{"permissions": "rwm"}]}),
        ("storage_opt: {a: }", {"storage_opt": {"a": ""}}),
        ("mem_limit: -5", {"mem_limit": "-5"}),
        (
            "build: {dockerfile: x, additional_contexts: {a: ''}}",
            {"build": {"context": "/app", "dockerfile": "x", "additional_contexts": {"a": ""}}},
        ),
        ("env_file: [{path: '', required: false}]", {"environment": None}),
        ("gpus: [{count: 0}]", {"gpus": [{}]}),
        (
            "blkio_config: {device_read_bps: [{path: /dev/a}], weight_device: [{weight: 3}]}",
            {
                "blkio_config": {
                    "device_read_bps": [{"Path": "/dev/a", "Rate": "0"}],
                    "weight_device": [{"Path": "", "Weight": 3}],
                }
            },
        ),
        (
            "develop: {watch: [{path: ., action: rebuild}]}",
            {"develop": {"watch": [{"path": "/app", "action": "rebuild", "exec": {"command": None}}]}},
        ),
    ],
)  # fmt: skip
def test_a_service(load, attributes, expected):
    service = read(load(WEB % attributes))["services"]["web"]
    assert {key: service.get(key) for key in expected} == expected


def test_names_that_are_empty_stay_empty(load):
    tree = read(
        load(
            "services: {web: {image: i, networks: [n, e], secrets: [{source: s, target: ''}]}}\n"
            "networks: {n: {name: '$NONE'}, e: {external: {name: ''}}}\nsecrets: {s: {file: ''}}"
        )
    )
    assert tree["networks"] == {"n": {"ipam": {}}, "e": {"ipam": {}, "external": True}}
    assert tree["secrets"] == {"s": {"name": "app_s", "file": "/app"}}
    assert tree["services"]["web"]["secrets"] == [{"source": "s"}]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2024-01-01", "2024-01-01 00:00:00 +0000 UTC"),
        ("2001-1-1T1:2:3Z", "2001-01-01 01:02:03 +0000 UTC"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.1 -0500 -0500"),
        ("2001-01-01T10:00:00+00:00", "2001-01-01 10:00:00 +0000 UTC"),
        ("2001-01-01 10:00:00.5", "2001-01-01 10:00:00.5 +0000 UTC"),
        ("2001-02-29", "2001-02-29"),
        ("2001-01-01T10:00:00", "2001-01-01T10:00:00"),
        ("2001-01-01 10:00:00 +02:00", "2001-01-01 10:00:00 +02:00"),
        ('"2024-01-01"', "2024-01-01"),
    ],
)
def test_plain_dates_are_moments(load, text, shown):
    loaded = load(WEB % f"environment: {{A: {text}}}")
    assert read(loaded)["services"]["web"]["environment"] == {"A": shown}
    assert [one.code for one in loaded.warnings] == ([] if shown in text else ["date-value"])


def test_dates_of_extensions_and_elsewhere(load, refuse):
    assert read(load("x-a: [2024-01-01]\nservices: {web: {image: i}}"))["x-a"] == ["2024-01-01T00:00:00Z"]
    assert refuse(WEB % "hostname: 2024-01-01") == ["1:38 wrong-type services.web.hostname"]
    assert refuse(WEB % "labels: {2024-01-01: x}") == ["1:37 non-string-key services.web.labels"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (WEB % "env_file: ['']", "1:39 file-not-found services.web.env_file[0]"),
        (WEB % "extends: ''", "1:37 unknown-service services.web.extends"),
        (WEB % "extends: {file: '', service: a}", "1:44 file-not-found services.web.extends.file"),
        (WEB % "pull_policy: ''", "1:41 not-allowed services.web.pull_policy"),
        (WEB % "build: {additional_contexts: [a]}", "1:58 bad-context services.web.build.additional_contexts[0]"),
        (WEB % "build: {additional_contexts: {a: }}", "1:61 null-value services.web.build.additional_contexts.a"),
        (
            WEB % "build: {additional_contexts: {a: 'service:b'}}",
            "1:61 undefined-service services.web.build.additional_contexts.a",
        ),
        (WEB % "devices: [{source: /dev/a}]", "1:38 missing-attribute services.web.devices[0].target"),
        (WEB % "ports: ['[fe80::1%eth0]:80:80']", "1:36 bad-address services.web.ports[0]"),
        (WEB % "ports: ['01.2.3.4:80:80']", "1:36 bad-address services.web.ports[0]"),
        ("version: '3'", "1:1 empty-stack "),
        (WEB % "secrets: [s]" + "\nsecrets: {s: {environment: ''}}", "2:11 missing-attribute secrets.s"),
    ],
)  # fmt: skip
def test_refused_as_the_reference_refuses(refuse, text, error):
    assert refuse(text) == [error]


def test_a_file_without_services_is_a_stack_of_none(load):
    loaded = load("networks: {a: }\nx-a: 1")
    assert read(loaded) == {"name": "app", "services": {}, "x-a": 1}
    assert [one.code for one in loaded.warnings] == ["no-services"]


def test_what_is_merged_before_defaults_count(load):
    text = """
        services:
          web: {extends: base, depends_on: {db: {condition: service_healthy}}, secrets: [s], environment: {A: }}
          base:
            image: i
            depends_on: {db: {condition: service_started, required: false}}
            secrets: [{source: t, target: /run/secrets/s}]
            environment: {A: 1}
          db: {image: i}
        secrets: {s: {file: s}, t: {file: t}}
        """
    web = read(load(text))["services"]["web"]
    assert web["depends_on"] == {"db": {"condition": "service_healthy", "required": False}}
    assert web["secrets"] == [{"source": "s", "target": "/run/secrets/s"}]
    assert web["environment"] == {"A": None}


def test_an_include_of_nothing_is_a_warning(load):
    for text in ("include:\n", "include: [null]\n", "include: [{}]\n", "include: [{path: }]\n"):
        found = load(text + WEB % "tty: true").warnings
        assert [one.code for one in found] == ([] if text == "include:\n" else ["missing-attribute"])


def test_an_included_project_directory_that_does_not_exist(load):
    text = "include: [{path: sub/a.yaml, project_directory: other}]\nservices: {web: {image: i}}"
    loaded = load(text, more={"/app/sub/a.yaml": "services: {db: {build: ./x}}"})
    assert loaded.stack.services["db"].build.context == "/app/x"
    assert [one.path for one in loaded.warnings] == ["include[0].project_directory"]


def test_what_is_printed_can_be_read(load):
    text = read(load(WEB % "develop: {watch: [{path: ., action: rebuild}]}, labels: {a: 2024-01-01}"))
    assert read(load(json.dumps(text))) == text
    assert parse_documents("2024-01-01", 0, None)[0][0] == "2024-01-01T00:00:00Z"


def test_a_null_in_an_overriding_file_changes_nothing(load):
    over = "services: {web: {ports: null, cpus: null, command: null, environment: {A: null}}}"
    base = WEB % "ports: ['80:80'], cpus: 1, command: run, environment: {A: '1'}"
    service = read(load(base, {"/app/over.yaml": over}, files=("compose.yaml", "over.yaml")))["services"]["web"]
    assert (len(service["ports"]), service["cpus"], service["command"]) == (1, 1, None)
    assert service["environment"] == {"A": None}


def test_a_null_beside_extends_changes_nothing(load, refuse):
    base = "base: {image: i, cpus: 1, command: run}"
    service = read(load(f"services: {{{base}, web: {{extends: base, cpus: null, command: null}}}}"))["services"]["web"]
    assert (service["cpus"], service["command"]) == (1, None)
    assert refuse(f"services: {{{base}, web: {{extends: base, ports: null}}}}") == [
        "1:81 null-value services.web.ports"
    ]
