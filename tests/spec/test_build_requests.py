"""``services.*.build`` as a request to the builder: every attribute, and what cannot be honoured, at its line."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engines.native.dockerfile import service_request as requests
from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildSecret, SshSource
from orchestrator.engines.native.dockerfile.service_request import check_builds, translate_build
from orchestrator.errors import Diagnostic
from orchestrator.goal import BuildOptions
from orchestrator.model import Ulimit
from orchestrator.spec.attributes import ROWS

Load = Callable[..., Any]

NO_OPTIONS = BuildOptions()


def translate(
    load: Load, build: str, *, rest: str = "", options: BuildOptions = NO_OPTIONS, environ: Any = None, **more: Any
) -> tuple[BuildRequest, list[Diagnostic]]:
    """The request of a service ``web`` with the given lines under ``build``."""
    lines = "\n".join(f"      {line}" for line in build.strip().splitlines())
    stack = load(f"name: shop\nservices:\n  web:\n    build:\n{lines}\n{rest}", environ=environ).stack
    return translate_build(stack, stack.services["web"], options=options, **more)


def request(load: Load, build: str, **more: Any) -> BuildRequest:
    """The request, where nothing is to be told."""
    found, told = translate(load, build, **more)
    assert not told, [one.render() for one in told]
    return found


EVERYTHING = """
context: ./src
dockerfile: Dockerfile.alt
target: final
args: {A: "1", B: true, C, D: 2.5}
additional_contexts: {res: ./res, img: "docker-image://busybox", lay: "oci-layout:///o:1", git: https://x.test/r.git}
cache_from: [busybox, "type=local,src=/c"]
cache_to: ["type=local,dest=/c"]
tags: ["shop/web:2", "shop-web"]
labels: {a.b: "1", c: null}
network: host
extra_hosts: ["one=10.0.0.1", "two:10.0.0.2", "six=::1"]
shm_size: 64m
ulimits: {nproc: 100, nofile: {soft: 10, hard: 20}}
platforms: [linux/arm64, linux/amd64]
no_cache: true
pull: true
privileged: true
entitlements: [network.host, security.insecure]
isolation: default
provenance: false
sbom: false
"""


def test_every_attribute_arrives(load: Load) -> None:
    text = EVERYTHING.replace('{A: "1", B: true, C, D: 2.5}', '["A=1", "B=true", C, E, "D=2.5"]')
    found = request(load, text, environ={"C": "from outside"}, host_platform="linux/amd64")
    assert found == BuildRequest(
        name="web",
        context="/app/src",
        dockerfile="Dockerfile.alt",
        target="final",
        args={"A": "1", "B": "true", "C": "from outside", "D": "2.5"},
        contexts={
            "res": "/app/res",
            "img": "docker-image://busybox",
            "lay": "oci-layout:///o:1",
            "git": "https://x.test/r.git",
        },
        cache_from=("busybox", "type=local,src=/c"),
        cache_to=("type=local,dest=/c",),
        tags=("shop-web", "shop/web:2"),
        labels={"a.b": "1", "c": ""},
        network="host",
        extra_hosts=(("one", "10.0.0.1"), ("six", "::1"), ("two", "10.0.0.2")),
        shm_size=64 << 20,
        ulimits={"nproc": Ulimit(soft=100, hard=100), "nofile": Ulimit(soft=10, hard=20)},
        platforms=("linux/amd64",),
        no_cache=True,
        pull=True,
        privileged=True,
        entitlements=("network.host", "security.insecure"),
    )


def test_no_attribute_is_forgotten() -> None:
    """Every attribute that the stack file knows under ``build`` is read by the translation."""
    known = {row.path.split(".")[3].removesuffix("[]") for row in ROWS if row.path.startswith("services.*.build.")}
    read = {node.value for node in ast.walk(ast.parse(Path(requests.__file__).read_text())) if _is_text(node)}
    assert known <= read, f"never read: {sorted(known - read)}"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_short_form_and_the_defaults(load: Load) -> None:
    stack = load("name: shop\nservices: {web: {build: ./dir}, api: {image: 'shop/api:1', build: .}}").stack
    found = translate_build(stack, stack.services["web"])[0]
    assert found == BuildRequest(name="web", context="/app/dir", dockerfile="Dockerfile", tags=("shop-web",))
    assert translate_build(stack, stack.services["api"])[0].tags == ("shop/api:1",)
    assert not check_builds(stack)


def test_an_inline_dockerfile_replaces_the_file(load: Load) -> None:
    found = request(load, "dockerfile_inline: |\n  FROM busybox\n  RUN true")
    assert (found.inline, found.dockerfile, found.context) == ("FROM busybox\nRUN true\n", None, "/app")


def test_secrets_come_from_files_and_from_the_environment(load: Load) -> None:
    rest = "secrets:\n  key: {file: ./key.txt}\n  token: {environment: TOKEN}\n  gone: {environment: GONE}\n"
    build = "secrets: [key, {source: token, target: api}]"
    found = request(load, build, rest=rest, environ={"TOKEN": "s3"})
    assert found.secrets == (BuildSecret(id="key", file="/app/key.txt"), BuildSecret(id="api", content=b"s3"))
    build = "secrets:\n  - {source: key, uid: '1', mode: 0400}\n  - gone"
    found, told = translate(load, build, rest=rest)
    assert found.secrets == (BuildSecret(id="key", file="/app/key.txt"),)
    assert [(one.severity, one.path) for one in told] == [
        ("warning", "services.web.build.secrets[0]"),
        ("warning", "services.web.build.secrets[1]"),
    ]


def test_ssh_takes_the_agent_of_the_one_who_asks(load: Load) -> None:
    agent = BuildOptions(environment={"SSH_AUTH_SOCK": "/agent"})
    found = request(load, "ssh: [default, 'git=./id']", options=agent)
    assert found.ssh == (SshSource(id="default", paths=("/agent",)), SshSource(id="git", paths=("/app/id",)))
    found = request(load, "ssh: [default]", options=agent.replace(ssh=("other=/k1,/k2",)))
    assert found.ssh == (SshSource(id="other", paths=("/k1", "/k2")),)
    found, told = translate(load, "context: .\nssh: [default]")
    assert [(one.severity, one.path, one.location.line if one.location else 0) for one in told] == [
        ("error", "services.web.build.ssh[0]", 6)
    ]


def test_options_of_the_command_line(load: Load) -> None:
    options = BuildOptions(
        args={"A": "cli"}, proxies={"HTTP_PROXY": "p", "B": "p"}, no_cache=True, pull=True, every_platform=True
    )
    found = request(load, 'args: {A: "file", B: "file"}\nplatforms: [linux/arm64, linux/amd64]', options=options)
    assert found.args == {"A": "cli", "B": "file", "HTTP_PROXY": "p"}
    assert (found.no_cache, found.pull, found.platforms) == (True, True, ("linux/arm64", "linux/amd64"))


def test_the_platform_that_is_chosen(load: Load) -> None:
    both = "platforms: [linux/arm64, linux/amd64]"
    assert request(load, both, host_platform="linux/riscv64").platforms == ("linux/arm64",)
    assert request(load, "context: .", host_platform="linux/amd64").platforms == ()
    found = request(load, both, rest="    platform: linux/arm64", host_platform="linux/amd64")
    assert found.platforms == ("linux/arm64",)
    default = BuildOptions(environment={"DOCKER_DEFAULT_PLATFORM": "linux/arm64"})
    assert request(load, "context: .", options=default).platforms == ("linux/arm64",)


def test_images_of_services_are_build_contexts(load: Load) -> None:
    rest = "  base: {build: ./base}\n"
    found = request(load, "additional_contexts: {base: 'service:base'}", rest=rest, images={"base": "sha256:1"})
    assert found.contexts == {"base": "docker-image://sha256:1"}
    _, told = translate(load, "additional_contexts: {base: 'service:base'}", rest=rest)
    assert [one.path for one in told] == ["services.web.build.additional_contexts.base"]


@pytest.mark.parametrize(
    ("options", "seconds"),
    [(BuildOptions(args={"SOURCE_DATE_EPOCH": "7"}), 7), (BuildOptions(environment={"SOURCE_DATE_EPOCH": "8"}), 8)],
)
def test_the_moment_of_reproducible_builds(load: Load, options: BuildOptions, seconds: int) -> None:
    assert request(load, "context: .", options=options).source_date_epoch == seconds


@pytest.mark.parametrize(
    ("build", "mode"),
    [("provenance: true", "min"), ("provenance: mode=max", "max"), ("provenance: false", ""), ("target: a", "")],
)
def test_what_is_attested(load: Load, build: str, mode: str) -> None:
    request, told = translate(load, f"context: .\n{build}")
    assert (request.provenance, told) == (mode, [])


@pytest.mark.parametrize(
    ("build", "severity", "path"),
    [
        ("network: backend", "error", "services.web.build.network"),
        ("isolation: hyperv", "error", "services.web.build.isolation"),
        ("tags: ['fine:1', 'Not Fine']", "error", "services.web.build.tags[1]"),
        ("entitlements: [device]", "error", "services.web.build.entitlements[0]"),
        ("ulimits: {files: 1}", "error", "services.web.build.ulimits.files"),
        ("platforms: [linux/amd64, linux/pdp11]", "error", "services.web.build.platforms[1]"),
        ("provenance: mode=most", "error", "services.web.build.provenance"),
        ("provenance: perhaps", "error", "services.web.build.provenance"),
        ("sbom: true", "warning", "services.web.build.sbom"),
        ('args: {SOURCE_DATE_EPOCH: "soon"}', "error", "services.web.build.args.SOURCE_DATE_EPOCH"),
    ],
)
def test_what_cannot_be_honoured_is_told_at_its_line(load: Load, build: str, severity: str, path: str) -> None:
    _, told = translate(load, f"context: .\n{build}")
    assert [(one.severity, one.path) for one in told] == [(severity, path)]
    assert told[0].location is not None
    assert told[0].location.line == 6
