"""``publish``, and stacks that are run from a registry."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from typing import Any

import pytest

from orchestrator.actions.publish import find_scalar_end, find_secret
from orchestrator.actions.remote_files import NoStackArtifact, split_artifact
from orchestrator.engines.native.images.artifacts import Artifact, Part

from .conftest import Project, Ran
from .test_build import registry

__all__ = ["registry"]

BASE = """
services:
  web:
    extends: {file: "common/base.yaml", service: base}  # as others
    image: busybox
    command: [sh, -c, "echo $$COLOUR; exec sleep 1000"]
    init: true
    env_file:
      - path: vars.env
"""


def fetch(host: str, path: str, kind: str = "application/vnd.oci.image.manifest.v1+json") -> Any:
    request = urllib.request.Request(f"http://{host}/v2/{path}", headers={"Accept": kind})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def write_stack(project: Project) -> None:
    project.write(BASE)
    project.write("services: {web: {labels: {from: override}}}", "compose.override.yaml")
    project.write("services: {base: {labels: {based: 'yes'}}}", "common/base.yaml")
    project.write("COLOUR=red\n", "vars.env")


def test_a_stack_goes_to_a_registry_and_runs_from_there(project: Project, registry: str) -> None:
    write_stack(project)
    target = f"{registry}/shop/front:1"
    # Nobody is there to be asked: that is a no, as is everything but a yes.
    for stdin in (None, "n\n"):
        ran = project.run("publish", target, stdin=stdin)
        assert (ran.code, 'service "web": env_file declared' in ran.err) == (130, True), ran.err
        assert "--with-env" in ran.err
        assert f"{target} published" not in ran.err
    ran = project.run("publish", "--dry-run", target, stdin="y\n")
    assert (ran.code, f" DRY-RUN MODE -  {target} published\n" in ran.err) == (0, True), ran.err
    assert project.run("-f", f"oci://{target}", "config").code != 0
    out = project.succeed("publish", "--with-env", target)
    assert "sha256:" in out
    manifest = json.loads(fetch(registry, "shop/front/manifests/1"))
    assert manifest["artifactType"] == "application/vnd.docker.compose.project"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert [one["mediaType"].rpartition(".")[2] for one in manifest["layers"]] == ["file+yaml"] * 3 + ["envfile"]
    names = [one["annotations"].get("com.docker.compose.file") for one in manifest["layers"]]
    assert names[:2] == ["compose.yaml", "compose.override.yaml"]
    assert manifest["layers"][2]["annotations"]["com.docker.compose.extends"] == "true"
    # From elsewhere, by its name alone; the project is called as the repository is.
    away = project.folder / "away"
    away.mkdir()
    config = json.loads(project.machine.run("-f", f"oci://{target}", "config", "--format", "json", cwd=away).out)
    assert config["name"] == "front"
    web = config["services"]["web"]
    assert (web["labels"], web["environment"]) == ({"based": "yes", "from": "override"}, {"COLOUR": "red"})
    project.write(f"include: ['oci://{target}']\nservices: {{own: {{image: busybox, command: [sleep, '9']}}}}")
    (project.folder / "compose.override.yaml").unlink()
    project.succeed("up", "-d", "web")
    project.wait_until("web speaks", lambda: "red" in project.succeed("logs", "web"))
    # What is published anew is what runs next: nothing is answered from memory.
    write_stack(project)
    project.write("COLOUR=green\n", "vars.env")
    project.succeed("publish", "--with-env", "-y", "--oci-version", "1.0", target)
    manifest = json.loads(fetch(registry, "shop/front/manifests/1"))
    assert "artifactType" not in manifest
    assert manifest["config"]["mediaType"] == "application/vnd.docker.compose.config.empty.v1+json"
    shown = project.machine.run("-f", f"oci://{target}", "config", cwd=away)
    assert "COLOUR: green" in shown.out, shown.err


def test_a_stack_from_a_registry_runs_once_that_is_agreed_to(project: Project, registry: str) -> None:
    target, away = f"{registry}/shop/asked:1", project.folder / "away"
    away.mkdir()

    def publish(seconds: int) -> None:
        project.write(
            f"services: {{web: {{image: busybox, init: true, command: [sleep, '{seconds}'], "
            "environment: ['A=${COLOUR:-red}']}}"
        )
        project.succeed("publish", "-y", target)

    def run(*words: str, stdin: str | None = None) -> Ran:
        return project.machine.run("-f", f"oci://{target}", *words, cwd=away, stdin=stdin)

    publish(1000)
    for answer in (None, "n\n", "\n"):
        ran = run("up", "-d", stdin=answer)
        assert (ran.code, "error[declined]: operation cancelled by user" in ran.err) == (1, True), ran.err
        assert "\nCOLOUR red compose file no red\n" in re.sub(" +", " ", ran.err), ran.err
        assert run("ps", "-aq").out == ""
    try:
        assert run("up", "-d", stdin="y\n").code == 0
        first = run("ps", "-q", "--no-trunc").out
        assert first.count("\n") == 1
        # Another folder, and the same project: what it is stored in is named by its digest.
        publish(2000)
        ran = run("up", "-d", "-y")
        assert (ran.code, "Recreated" in ran.err) == (0, True), ran.err
        assert "VARIABLE" not in ran.err
        assert (run("run", "--rm", "web", "true").code, run("run", "-y", "--rm", "web", "true").code) == (1, 0)
        assert first != run("ps", "-q", "--no-trunc").out
    finally:
        assert run("down", "-t", "0").code == 0


def test_what_cannot_be_published(project: Project, registry: str) -> None:
    target = f"{registry}/shop/bad:1"
    project.write("services:\n  web:\n    build: .\n")
    ran = project.run("publish", "-y", target)
    assert (ran.code, "compose.yaml:3:5: error[only-built]" in ran.err) == (1, True), ran.err
    assert "only contains a build section for service(s): web" in ran.err
    project.write("services: {web: {image: busybox}}", "other.yaml")
    project.write("include:\n  - other.yaml\n")
    ran = project.run("publish", "-y", target)
    assert "compose.yaml:1" in ran.err
    assert "cannot publish compose file with local includes" in ran.err
    project.write(
        "services: {a: {image: busybox, environment: {DB_PASSWORD: hunter2, KIND: x}},"
        " b: {image: busybox, environment: ['API_KEY=abcd', 'DB_PASSWORD=${DB_PASSWORD-}']}}"
    )
    ran = project.run("publish", target)
    assert 'service "a": literal value for "DB_PASSWORD"\n  service "b": literal value for "API_KEY"\n' in ran.err
    key = "AKIA" + "A" * 16
    project.write(f"services:\n  web:\n    image: busybox\n    volumes: [./data:/data]\n    labels: {{key: {key}}}\n")
    ran = project.run("publish", target)
    assert ran.code != 0
    assert "/data" in ran.err
    assert "bind mounts" in ran.err
    project.write(f"services:\n  web:\n    image: busybox\n    labels: {{key: {key}}}\n")
    ran = project.run("publish", target)
    assert "compose.yaml:4: AWS access key" in ran.err
    assert key not in ran.err
    # An image is no stack, and neither is what is not there.
    ran = project.run("-f", f"oci://{registry}/nothing:1", "config")
    assert ran.code != 0
    assert "has no" in ran.err
    project.write("include: [https://example.test/x.yaml]\n")
    assert "not a local file" in project.run("config").err
    project.write("services: {web: {image: busybox}}")


def test_an_app_brings_its_images(project: Project, registry: str) -> None:
    image = f"{registry}/other/tool:1"
    project.write("FROM busybox\nRUN echo app >/app\n", "made/Dockerfile")
    project.succeed("image", "build", "-q", "-t", image, "made")
    project.succeed("image", "push", image)
    project.write(f"services: {{web: {{image: '{image}'}}}}")
    project.succeed("publish", "--resolve-image-digests", "--insecure-registry", f"{registry}/shop/app:1")
    first = json.loads(fetch(registry, "shop/app/manifests/1"))["layers"]
    project.succeed("publish", "--app", f"{registry}/shop/app:1")
    words = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{image}"]
    digest = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert json.loads(fetch(registry, f"shop/app/manifests/{digest}"))["layers"]
    manifest = json.loads(fetch(registry, "shop/app/manifests/1"))
    last = manifest["layers"][-1]
    assert last["annotations"]["com.docker.compose.file"] == "image-digests.yaml"
    assert first[-1]["digest"] == last["digest"]
    assert digest in fetch(registry, f"shop/app/blobs/{last['digest']}").decode()
    ran = project.run("-f", f"oci://{registry}/other/tool:1", "config")
    assert ran.code != 0
    assert "is no stack" in ran.err
    project.succeed("image", "rm", "-f", image)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("DB_PASSWORD: hunter22", "password"),
        ("  - API_TOKEN=abcd1234", "password"),
        ("url: https://me:pw1234@host/", "password in a URL"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
        ("POSTGRES_PASSWORD: ${PASSWORD}", ""),
        ("POSTGRES_PASSWORD_FILE: /run/secrets/x", ""),
        ("secrets: [db_password]", ""),
        ("# password: hunter22", ""),
        ("secrets:", ""),
        ("ghp: ghp_" + "a" * 36, "GitHub token"),
        ("- AWS_ACCESS_KEY_ID=A3TX1234567890ABCDEF", "AWS access key"),
        ('- AWS_SECRET_ACCESS_KEY=aws"12345+67890/abcdefghijklm+NOPQRSTUVWXYZ+"', "AWS secret key"),
    ],
)
def test_what_looks_like_a_secret(line: str, kind: str) -> None:
    assert find_secret(line) == kind


def test_the_end_of_a_scalar() -> None:
    lines = {"file: a.yaml # x": "a.yaml", "{file: a b.yaml, y: 1}": "a b.yaml", "file: 'it''s'  ": "'it''s'"}
    for line, scalar in {**lines, 'file: "a\\"b" #': '"a\\"b"', "[a#b]": "a#b"}.items():
        start = line.index(scalar)
        assert line[start : find_scalar_end(line, start)] == scalar


def test_files_of_an_artifact_stay_in_their_folder() -> None:
    main = Part("application/vnd.docker.compose.file+yaml", b"services: {}", {"com.docker.compose.file": "../x"})
    assert split_artifact(Artifact("d", "k", (main, main)), "it") == {
        "compose.yaml": b"services: {}\n---\nservices: {}"
    }
    for name in ("../x", "/x", "", "..", "compose.yaml"):
        bad = Part("application/vnd.docker.compose.envfile", b"", {"com.docker.compose.envfile": name})
        with pytest.raises(NoStackArtifact):
            split_artifact(Artifact("d", "k", (main, bad)), "it")
    with pytest.raises(NoStackArtifact):
        split_artifact(Artifact("d", "k", ()), "it")
