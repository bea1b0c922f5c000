"""Which files, which name, which profiles; the way to another process."""

from __future__ import annotations

import io
import json
import os

import pytest

from orchestrator.errors import FileMissing, UsageError
from orchestrator.model import list_buildable
from orchestrator.spec.loader import DiskReader, LoadOptions, load_stack
from orchestrator.spec.pre_start import list_init_services
from orchestrator.spec.render import render_json, render_yaml
from orchestrator.spec.transport import dump_stack, load_dumped_stack

ONE = "services: {web: {image: i}}"


@pytest.mark.parametrize(
    ("text", "options", "environ", "name"),
    [
        (ONE, {}, {}, "app"),
        (f"name: own\n{ONE}", {}, {}, "own"),
        (f"name: $WHICH\n{ONE}", {}, {"WHICH": "variable"}, "variable"),
        (f"name: own\n{ONE}", {}, {"COMPOSE_PROJECT_NAME": "env"}, "env"),
        (f"name: own\n{ONE}", {}, {"STACK_PROJECT_NAME": "ours", "COMPOSE_PROJECT_NAME": "env"}, "ours"),
        (f"name: own\n{ONE}", {"project_name": "asked"}, {"COMPOSE_PROJECT_NAME": "env"}, "asked"),
        (ONE, {"project_directory": "/x/My.App"}, {"COMPOSE_FILE": "/app/compose.yaml"}, "myapp"),
    ],
)
def test_the_projects_name(load, text, options, environ, name):
    stack = load(text, environ=environ, **options).stack
    assert stack.name == name
    assert stack.tree["name"] == name


def test_the_name_is_a_variable_of_the_file(load):
    assert load("services: {web: {image: 'i:$COMPOSE_PROJECT_NAME'}}").stack.services["web"].image == "i:app"


def test_a_name_that_is_none(load, refuse):
    with pytest.raises(UsageError, match="My App"):
        load(ONE, project_name="My App")
    assert refuse(f"name: My App\n{ONE}") == ["1:7 bad-project-name name"]


def test_files_are_found(load):
    other = {"/app/other.yaml": "services: {other: {image: o}}", "/app/sub/x": "", "/app/dir/stack.yaml": ONE}
    assert set(load(ONE, more=other, cwd="/app/sub").stack.services) == {"web"}
    assert set(load(ONE, more=other, files=("other.yaml", "compose.yaml")).stack.services) == {"other", "web"}
    assert load(ONE, more=other, files=("dir",)).stack.directory == "/app/dir"
    listed = {"COMPOSE_FILE": "compose.yaml;other.yaml", "COMPOSE_PATH_SEPARATOR": ";"}
    assert set(load(ONE, more=other, environ=listed).stack.services) == {"other", "web"}
    override = {"/app/compose.override.yaml": "services: {web: {init: true}}"}
    assert load(ONE, more=override).stack.services["web"].init is True
    assert load(ONE, more=override, files=("compose.yaml",)).stack.services["web"].init is None
    with pytest.raises(FileMissing):
        load(ONE, files=("gone.yaml",))
    with pytest.raises(FileMissing):
        load(ONE, cwd="/elsewhere")


PROFILES = """
services:
  web: {image: i, depends_on: {debug: {condition: service_started, required: false}}}
  debug: {image: i, profiles: [debug]}
  tool: {image: i, profiles: [debug, tools]}
"""


@pytest.mark.parametrize(
    ("options", "environ", "active"),
    [
        ({}, {}, {"web"}),
        ({"profiles": ("debug",)}, {}, {"web", "debug", "tool"}),
        ({}, {"COMPOSE_PROFILES": "tools,none"}, {"web", "tool"}),
        ({"profiles": ("*",)}, {}, {"web", "debug", "tool"}),
        ({"services": ("debug",)}, {}, {"web", "debug", "tool"}),
    ],
)
def test_profiles(load, options, environ, active):
    stack = load(PROFILES, environ=environ, **options).stack
    assert set(stack.services) == active
    assert set(stack.disabled) == {"web", "debug", "tool"} - active
    assert set(stack.services["web"].depends_on) == {"debug"} & active


def test_a_stack_travels_as_json(load):
    stack = load(
        """
        services: {web: {image: i, ports: ["80:80"], secrets: [s], build: {context: .}}}
        secrets: {s: {environment: S}}
        x-stack: {note: 1}
        """,
        environ={"S": "hidden"},
    ).stack
    again = load_dumped_stack(json.loads(json.dumps(dump_stack(stack))))
    assert again.services == stack.services
    assert again.secrets["s"].value == "hidden"
    assert again.tree == stack.tree
    assert dict(again.sources.items()) == dict(stack.sources.items())
    assert (again.name, again.directory, again.files) == (stack.name, stack.directory, stack.files)


def test_what_is_printed_is_a_stack_file_again(load):
    text = """
        services:
          web:
            image: i
            command: [sh, -c, "echo $$HOME # no comment\\nyes"]
            environment: {A: "yes", B: "010", C: "1e3", D: null, E: "", F: " x ", G: "a: b", H: "multi\\nline\\n"}
            ports: ["80:80"]
            blkio_config: {device_read_bps: [{path: /dev/sda, rate: 1m}]}
    """
    stack = load(text).stack
    printed = render_yaml(stack.tree)
    assert "$$HOME" in printed
    assert load(printed).stack.tree == stack.tree
    shown = json.loads(render_json(stack.tree))
    assert shown["services"]["web"]["entrypoint"] is None
    assert shown["services"]["web"]["blkio_config"]["device_read_bps"][0] == {"Path": "/dev/sda", "Rate": "1048576"}


def test_passes_can_be_switched_off(load):
    text = "services: {web: {image: 'i:$TAG', build: ./x, scale: '${N}', env_file: e.env, networks: [gone]}}"
    tree = load(
        text,
        more={"/app/e.env": "A=1"},
        interpolate=False,
        normalize=False,
        resolve_paths=False,
        resolve_env=False,
        consistency=False,
    ).stack.tree
    web = tree["services"]["web"]
    assert "name" not in tree
    assert (web["image"], web["scale"], web["build"]["context"]) == ("i:$TAG", "${N}", "./x")
    assert web["env_file"] == [{"path": "e.env", "required": True}]


def test_the_disk_is_read(tmp_path, monkeypatch):
    (tmp_path / "stack.yml").write_text("\ufeffservices: {web: {image: disk}}")
    (tmp_path / "bad.yaml").write_bytes(b"services: \xff")
    reader = DiskReader()
    options = LoadOptions(cwd=str(tmp_path))
    assert load_stack(options, {}, reader).stack.services["web"].image == "disk"
    with pytest.raises(Exception, match="UTF-8"):
        load_stack(options.replace(files=("bad.yaml",)), {}, reader)
    with pytest.raises(FileMissing):
        load_stack(options.replace(files=("gone",)), {}, reader)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"services: {web: {image: stdin}}")))
    stack = load_stack(options.replace(files=("-",)), dict(os.environ), reader).stack
    assert stack.services["web"].image == "stdin"
    assert stack.directory == str(tmp_path)


PREPARED = """
services:
  web:
    image: i
    networks: [front]
    environment: {A: a}
    deploy: {resources: {limits: {memory: 1g, pids: 5}}}
    pre_start:
      - command: [first]
      - command: [second]
        image: other
        env_file: some.env
        environment: [B, C]
        volumes: [data:/data, ./here:/here]
        networks: {back: {aliases: [x]}}
        volumes_from: [db]
        mem_limit: 2g
        secrets: [key]
  db: {image: i, networks: [front]}
networks: {front: {}, back: {}, unused: {}}
volumes: {data: {}}
secrets: {key: {file: key}}
"""


def test_pre_start_containers_are_described_like_services(load):
    loaded = load(PREPARED, {"/app/some.env": "C=c\nD=d\n"}, {"B": "b"})
    stack = load_dumped_stack(json.loads(json.dumps(dump_stack(loaded.stack))))
    hook = stack.tree["services"]["web"]["pre_start"][1]
    assert hook["environment"] == {"B": "b", "C": "c", "D": "d"}
    assert "env_file" not in hook
    assert [one["source"] for one in hook["volumes"]] == ["data", "/app/here"]
    assert hook["secrets"] == [{"source": "key", "target": "/run/secrets/key"}]
    assert stack.services["web"].depends_on["db"].condition == "service_started"
    assert (set(stack.networks), set(stack.volumes), set(stack.secrets)) == ({"front", "back"}, {"data"}, {"key"})
    first, second = list_init_services(stack.services["web"])
    assert (first.image, first.command, first.environment) == ("i", ("first",), {"A": "a"})
    assert (second.image, dict(second.environment)["A"], set(second.networks)) == ("other", "a", {"front", "back"})
    assert (second.resources.memory, second.resources.pids) == (2 << 30, 5)
    assert first.resources.memory == 1 << 30
    alone = PREPARED.replace("networks: {back: {aliases: [x]}}", "network_mode: none")
    second = list_init_services(load(alone, {"/app/some.env": ""}).stack.services["web"])[1]
    assert (second.network_mode, dict(second.networks)) == ("none", {})


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ("volumes: ['none:/x']", "undefined-volume", "volumes[0]"),
        ("networks: [none]", "undefined-network", "networks.none"),
        ("secrets: [none]", "undefined-secret", "secrets[0]"),
        ("ports: ['80:80']", "unknown-attribute", "ports"),
        ("depends_on: [web]", "unknown-attribute", "depends_on"),
        ("user: 5", "wrong-type", "user"),
    ],
)
def test_what_pre_start_containers_cannot_be(refuse, wrong, code, path):
    (found,) = refuse(f"services: {{web: {{image: i, pre_start: [{{command: [x], {wrong}}}]}}}}")
    assert found.split()[1:] == [code, f"services.web.pre_start[0].{path}"]


def test_services_that_are_built_from_although_a_profile_keeps_them_off(load):
    text = """
services:
  web: {build: {additional_contexts: {base: "service:base"}}}
  base:
    profiles: [x]
    image: base
    build: {secrets: [key], additional_contexts: {deep: "service:deep"}}
    networks: [no]
  deep: {profiles: [x], build: {context: deep}}
  other: {profiles: [x], image: i}
secrets: {key: {file: key}, none: {file: none}}
"""
    loaded = load(text).stack
    for stack in (loaded, load_dumped_stack(json.loads(json.dumps(dump_stack(loaded))))):
        assert list(stack.services) == ["web"]
        assert sorted(stack.dormant) == ["base", "deep"]
        assert stack.dormant["deep"].build.context == "/app/deep"
        assert dict(stack.dormant["base"].networks) == {}
        assert list(stack.secrets) == ["key"]
        assert sorted(list_buildable(stack)) == ["base", "deep", "web"]
