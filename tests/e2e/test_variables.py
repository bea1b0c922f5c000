"""Compose's own variables, and the labels that its tools look containers up by, on real containers."""

from __future__ import annotations

import json

import orchestrator

from .conftest import Project

SERVICE = '{image: busybox, init: true, command: [sleep, "1000"]}'


def test_orphans(project: Project) -> None:
    project.write(f"services: {{web: {SERVICE}, old: {SERVICE}}}\n")
    project.succeed("up", "-d")
    project.write(f"services: {{web: {SERVICE}}}\n")
    assert "orphan-containers" in project.run("up", "-d").err
    project.machine.environment["COMPOSE_IGNORE_ORPHANS"] = "true"
    try:
        assert "orphan-containers" not in project.run("up", "-d").err
        ran = project.run("up", "-d", "--remove-orphans")
        assert (ran.code, "COMPOSE_IGNORE_ORPHANS" in ran.err) == (16, True)
        assert "old-1" in project.containers()
    finally:
        del project.machine.environment["COMPOSE_IGNORE_ORPHANS"]


def test_orphans_are_removed_because_the_env_file_says_so(project: Project) -> None:
    project.write(f"services: {{web: {SERVICE}, old: {SERVICE}}}\n")
    project.succeed("up", "-d")
    project.write(f"services: {{web: {SERVICE}}}\n")
    project.write("COMPOSE_REMOVE_ORPHANS=1\n", ".env")
    project.succeed("up", "-d")
    assert set(project.containers()) == {"web-1"}


def test_one_at_a_time_and_on_standard_output(project: Project) -> None:
    names = ("a", "b", "c", "d")
    project.write("services:\n" + "".join(f"  {name}: {SERVICE}\n" for name in names))
    wishes = {"COMPOSE_PARALLEL_LIMIT": "1", "COMPOSE_STATUS_STDOUT": "1", "COMPOSE_PROGRESS": "plain"}
    project.machine.environment.update(wishes)
    try:
        ran = project.run("up", "-d")
    finally:
        for name in wishes:
            del project.machine.environment[name]
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split() for line in ran.out.splitlines()]
    begun = {"Creating": "Created", "Starting": "Started"}
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    assert len(pairs) == 1 + 2 * len(names)
    for first, second in pairs:
        assert [*first[:2], begun[first[2]]] == second


def test_labels(project: Project) -> None:
    project.write(f"""
services:
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    labels: {{com.example.team: blue}}
    depends_on: {{db: {{condition: service_started, restart: true}}, one: {{condition: service_started}}}}
  db: {SERVICE}
  one: {SERVICE}
volumes: {{data: {{labels: {{a: b}}}}}}
""")
    project.succeed("up", "-d", "--scale", "db=2")
    rows = project.containers()
    labels = {name: dict(one.split("=", 1) for one in split_labels(row["Labels"])) for name, row in rows.items()}
    digest = json.loads(project.succeed("image", "inspect", "busybox"))[0]["Id"]
    prefix = "com.docker.compose."
    for name, found in labels.items():
        service, _, number = name.rpartition("-")
        assert (
            found.items()
            >= {
                f"{prefix}project": project.name,
                f"{prefix}service": service,
                f"{prefix}container-number": number,
                f"{prefix}oneoff": "False",
                f"{prefix}version": orchestrator.__version__,
                f"{prefix}image": digest,
                f"{prefix}project.working_dir": str(project.folder),
                f"{prefix}project.config_files": str(project.folder / "compose.yaml"),
            }.items()
        ), name
    assert labels["web-1"]["com.example.team"] == "blue"
    wanted = "db:service_started:true,one:service_started:false"
    assert labels["web-1"][f"{prefix}depends_on"] == wanted
    # What `config --hash` says is what a container carries.
    hashes = dict(line.split() for line in project.succeed("config", "--hash", "*").splitlines())
    assert {name: labels[f"{name}-1"][f"{prefix}config-hash"] for name in hashes} == hashes
    assert labels["db-1"][f"{prefix}config-hash"] == labels["db-2"][f"{prefix}config-hash"]


def split_labels(text: str) -> list[str]:
    """Labels as ``ps`` joins them: a comma may stand in a value, too."""
    found: list[str] = []
    for part in text.split(","):
        if found and not part.startswith(("com.", "a=")):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found
