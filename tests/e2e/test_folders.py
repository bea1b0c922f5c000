"""Two folders of one name: they do not mix, and the second one can be brought up beside the first."""

from __future__ import annotations

import shutil

from .conftest import Machine, Project

STACK = """
services:
  web: {image: busybox, init: true, command: [sleep, "1000"], ports: ["PORT:80"]}
"""


def test_a_second_folder_of_the_same_name(project: Project, machine: Machine) -> None:
    project.write(STACK.replace("PORT", "18231"))
    project.succeed("up", "-d")
    second = project.folder / "elsewhere" / project.name
    shutil.copytree(project.folder, second, ignore=shutil.ignore_patterns("elsewhere"))
    refused = machine.run("up", "-d", cwd=second)
    assert refused.code == 1
    assert f"belongs to the folder {project.folder}" in refused.err
    assert "--isolate" in refused.err
    assert machine.run("up", "-d", "--isolate", cwd=second).code == 0
    names = machine.run("ps", "--format", "{{.Name}}", cwd=second).out.split()
    assert len(names) == 1
    assert names[0].startswith(f"{project.name}-")
    assert list(project.containers()) == ["web-1"]
    port = machine.run("port", "web", "80", cwd=second).out.strip().rpartition(":")[2]
    assert port not in ("", "18231")
    # The folder keeps its name until it is taken down; then it is as any other.
    assert machine.run("up", "-d", cwd=second).code == 0
    assert machine.run("down", "-t", "0", cwd=second).code == 0
    assert machine.run("up", "-d", cwd=second).code == 1
    # Of a folder that is gone nothing is left but its containers, which are anybody's.
    project.succeed("down", "-t", "0")
    assert machine.run("up", "-d", cwd=second).code == 0
    assert machine.run("down", "-t", "0", cwd=second).code == 0
