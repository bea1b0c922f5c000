"""What we build runs elsewhere, what others build runs here: through a registry, and through archives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .conftest import Project, run_here, write_context
from .peers import Peer

pytestmark = pytest.mark.usefixtures("machine")


def inspect(source: str, *words: str) -> dict[str, object]:
    """What skopeo reads of an image."""
    command = ["skopeo", "--insecure-policy", "inspect", "--tls-verify=false", *words, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def copy(source: str, target: str) -> None:
    """skopeo copy, which reads and verifies every blob."""
    options = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    done = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", *options, source, target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_we_push_is_a_sound_image(project: Project, context: Path, registry: str, tmp_path: Path) -> None:
    reference = f"{registry}/sound:1"
    project.succeed("image", "build", "-q", "-t", reference, "context")
    project.succeed("image", "push", "-q", reference)
    config = inspect(f"docker://{reference}", "--config")
    assert config["config"]["WorkingDir"] == "/app"  # type: ignore[index]
    assert len(config["rootfs"]["diff_ids"]) == 7  # type: ignore[index]
    copy(f"docker://{reference}", f"oci:{tmp_path}/layout:1")
    # What skopeo made of it comes back the same.
    expected = run_here(project, reference)
    project.succeed("down", "-t", "0")
    project.succeed("image", "rm", reference)
    copy(f"oci:{tmp_path}/layout:1", f"docker://{registry}/again:1")
    assert "hello there" in expected
    assert run_here(project, f"{registry}/again:1") == expected


def test_archives_through_skopeo(project: Project, context: Path, tmp_path: Path) -> None:
    project.succeed("image", "build", "-q", "-t", "localhost/archived:1", "context")
    expected = run_here(project, "localhost/archived:1")
    project.succeed("down", "-t", "0")
    project.succeed("image", "save", "-o", f"{tmp_path}/ours.tar", "localhost/archived:1")
    for kind, target in (
        ("docker-archive", f"docker-archive:{tmp_path}/docker.tar:localhost/from-docker-archive:1"),
        ("oci-archive", f"oci-archive:{tmp_path}/oci.tar:localhost/from-oci-archive:1"),
    ):
        copy(f"{kind}:{tmp_path}/ours.tar", target)
    for name in ("docker", "oci"):
        project.succeed("image", "load", "-i", f"{tmp_path}/{name}.tar")
        assert run_here(project, f"localhost/from-{name}-archive:1", "never") == expected


def test_the_same_inputs_give_the_same_digest(project: Project, context: Path, registry: str, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        environment = {
            **project.machine.environment,
            "STACK_STATE_DIR": f"{tmp_path}/{name}/state",
            "STACK_RUN_DIR": f"{tmp_path}/{name}/run",
            "SOURCE_DATE_EPOCH": "1200000000",
        }
        copied = write_context(tmp_path / f"context-{name}", "busybox")
        reference = f"{registry}/same-{name}:1"
        project.succeed("image", "save", "-o", f"{tmp_path}/base-{name}.tar", "busybox")
        for words in (
            ["load", "-i", f"{tmp_path}/base-{name}.tar"],
            ["build", "-q", "-t", reference, str(copied)],
            ["push", "-q", reference],
        ):
            done = subprocess.run(
                [*_stack(), "image", *words], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        digests.add(inspect(f"docker://{reference}")["Digest"])
    assert len(digests) == 1


def test_ours_runs_elsewhere(project: Project, context: Path, registry: str, peer: Peer) -> None:
    reference = f"{registry}/ours-for-{peer.name}:1"
    project.succeed("image", "build", "-q", "-t", reference, "context")
    project.succeed("image", "push", "-q", reference)
    peer.pull(reference)
    assert peer.run(reference) == run_here(project, reference)


def test_theirs_runs_here(project: Project, registry: str, peer: Peer, tmp_path: Path) -> None:
    base = f"{registry}/base:1"
    project.succeed("image", "tag", "busybox", base)
    project.succeed("image", "push", "-q", base)
    peer.pull(base)
    reference = f"{registry}/theirs-of-{peer.name}:1"
    peer.build(write_context(tmp_path / "theirs", base), reference)
    peer.push(reference)
    assert run_here(project, reference) == peer.run(reference)


def test_we_build_on_theirs(project: Project, registry: str, peer: Peer, tmp_path: Path) -> None:
    base, parent, child = (f"{registry}/{name}-{peer.name}:1" for name in ("base", "parent", "child"))
    project.succeed("image", "tag", "busybox", base)
    project.succeed("image", "push", "-q", base)
    peer.pull(base)
    peer.build(write_context(tmp_path / "parent", base), parent)
    peer.push(parent)
    folder = project.folder / "child"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {parent}\nUSER 0\nRUN rm two && cp one two && echo child > opaque/g\n")
    project.succeed("image", "build", "-q", "-t", child, "child")
    project.succeed("image", "push", "-q", child)
    peer.pull(child)
    assert peer.run(child) == run_here(project, child)


def test_saved_here_loaded_there(project: Project, context: Path, peer: Peer, tmp_path: Path) -> None:
    reference = f"localhost/saved-for-{peer.name}:1"
    project.succeed("image", "build", "-q", "-t", reference, "context")
    project.succeed("image", "save", "-o", f"{tmp_path}/ours.tar", reference)
    peer.call("load", "-i", f"{tmp_path}/ours.tar")
    assert peer.run(reference) == run_here(project, reference)


def test_saved_there_loaded_here(project: Project, registry: str, peer: Peer, tmp_path: Path) -> None:
    base, reference = f"{registry}/for-saving:1", f"localhost/saved-by-{peer.name}:1"
    project.succeed("image", "tag", "busybox", base)
    project.succeed("image", "push", "-q", base)
    peer.pull(base)
    peer.build(write_context(tmp_path / "theirs", base), reference)
    expected = peer.run(reference)
    formats = {"docker": [[]], "podman": [["--format=docker-archive"], ["--format=oci-archive"]]}
    for number, options in enumerate(formats[peer.name]):
        peer.call("save", *options, "-o", f"{tmp_path}/{number}.tar", reference)
        project.succeed("image", "load", "-i", f"{tmp_path}/{number}.tar")
        assert run_here(project, reference, "never") == expected
        project.succeed("down", "-t", "0")
        project.succeed("image", "rm", reference)


def _stack() -> tuple[str, ...]:
    from e2e.conftest import STACK

    return STACK
