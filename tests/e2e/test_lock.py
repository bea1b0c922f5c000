"""``lock`` and ``--locked``: the images of a stack are those that were locked, or it does not start."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .conftest import Project
from .test_build import registry

__all__ = ["registry"]


def send(project: Project, image: str, content: str) -> None:
    """Put an image that holds `content` into a registry, and leave nothing of it here."""
    project.write(f"FROM busybox\nRUN echo {content} >/content\n", "made/Dockerfile")
    project.succeed("image", "build", "-q", "-t", image, "made")
    project.succeed("image", "push", image)
    project.succeed("image", "rm", image)


def read_lock(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.folder / "stack.lock").read_text())
    return found


def ask_digest(image: str) -> str:
    words = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{image}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_locked_is_what_runs(project: Project, registry: str) -> None:
    image = f"{registry}/shop/web:1"
    send(project, image, "first")
    digest = ask_digest(image)
    project.write(
        f"services:\n  web:\n    image: {image}\n    init: true\n    command: [sleep, '1000']\n"
        "  db: {image: busybox, init: true, command: [sleep, '1000']}\n"
        "  own: {build: made, scale: 0}\n"
        f"  tool: {{image: '{image}', profiles: [tools]}}\n"
    )
    ran = project.run("up", "-d", "--locked")
    assert ran.code != 0
    assert "there is no" in ran.err
    assert digest in project.succeed("lock", "--dry-run")
    assert not (project.folder / "stack.lock").exists()
    out = project.succeed("lock")
    assert f"{image} {digest}" in out
    assert "own is built here: not locked" in out
    lock = read_lock(project)
    assert {"image": image, "digest": digest} in lock["images"]
    assert [sorted(one) for one in lock["images"]] == [["digest", "image"], ["id", "image"]]
    assert lock["built"] == [f"{project.name}-own"]
    assert "is as it was" in project.succeed("lock")
    assert "up to date" in project.succeed("lock", "--check")
    # The name moves on; what is locked stays what runs.
    send(project, image, "second")
    moved = ask_digest(image)
    ran = project.run("lock", "--check")
    assert ran.code == 1
    assert f"{image} has moved: locked is {digest}, now it is {moved}" in ran.out
    project.succeed("pull", "--locked", "web")
    project.succeed("up", "-d", "--locked", "--pull", "always", "web", "db")
    assert project.succeed("exec", "-T", "web", "cat", "/content") == "first\n"
    before = {name: row["ID"] for name, row in project.containers().items()}
    project.succeed("up", "-d", "--locked", "web", "db")
    assert {name: row["ID"] for name, row in project.containers().items()} == before
    assert project.succeed("run", "--rm", "-T", "--locked", "tool", "cat", "/content") == "first\n"
    # Locked again, without a look at the registry and with one.
    assert digest in project.succeed("lock")
    assert moved in project.succeed("lock", "--update")
    project.succeed("up", "-d", "--locked", "web")
    assert project.succeed("exec", "-T", "web", "cat", "/content") == "second\n"
    project.succeed("down", "-t", "0")


def test_a_lock_that_does_not_fit_is_refused(project: Project) -> None:
    project.write("services:\n  web:\n    image: busybox\n")
    project.succeed("lock", "-q")
    path = project.folder / "stack.lock"
    text = path.read_text()
    # Edited.
    path.write_text(text.replace('"id": "sha256:', '"id": "sha256:0'))
    ran = project.run("up", "-d", "--locked")
    assert (ran.code != 0, "has been edited" in ran.err) == (True, True), ran.err
    # The stack file names another image: its line is told.
    path.write_text(text)
    project.write("services:\n  web:\n    image: busybox\n  new:\n    image: busybox:other\n")
    ran = project.run("up", "-d", "--locked")
    assert ran.code != 0
    assert "compose.yaml:5:12: error[not-locked]: image busybox:other is not in stack.lock" in ran.err
    ran = project.run("lock", "--check")
    assert (ran.code, "busybox:other is not locked" in ran.out) == (1, True)
    # The image that is here is another one than was locked.
    project.write("FROM busybox\nRUN echo x >/x\n", "made/Dockerfile")
    project.succeed("image", "tag", "busybox", "local/tool:1")
    project.write("services:\n  web:\n    image: local/tool:1\n")
    project.succeed("lock", "-q")
    project.succeed("image", "build", "-q", "-t", "local/tool:1", "made")
    ran = project.run("up", "-d", "--locked")
    assert ran.code != 0
    assert "compose.yaml:3:12: error[lock-mismatch]" in ran.err
    project.succeed("image", "rm", "local/tool:1")
    assert project.containers() == {}


def test_a_lock_is_no_matter_of_where_one_stands(project: Project) -> None:
    inner = project.folder / "deep"
    inner.mkdir()
    project.write("services: {web: {image: busybox}}", "deep/stack.yaml")
    project.succeed("-f", "deep/stack.yaml", "lock", "-q")
    assert sorted(one.name for one in Path(inner).iterdir()) == ["stack.lock", "stack.yaml"]
