"""An unchanged build is known again; whatever may make a difference ends that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import evidence
from orchestrator.engines.native.building import run_build
from orchestrator.engines.native.dockerfile import builder
from orchestrator.engines.native.dockerfile.request import BuildEvent, BuildRequest, BuildResult, BuildSecret
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout

from .base import write_base

DOCKERFILE = "FROM busybox\nCOPY . /files\nENV A=b\n"


class Site:
    """A store, a context, and a count of the builds that were really made."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_base(folder / "base.tar")
        self.layout = Layout(folder / "state", folder / "run")
        self.store = ImageStore(self.layout)
        self.store.load_archive(folder / "base.tar")
        self.context = folder / "context"
        (self.context / "sub").mkdir(parents=True)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        (self.context / "sub" / "f").write_text("x")
        self.built = 0
        real = builder.build_image

        def count(*arguments: object) -> BuildResult:
            self.built += 1
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(builder, "build_image", count)
        # Everything here is younger than what is remembered otherwise.
        monkeypatch.setattr(evidence, "_TICK", -3600 * 10**9)

    def build(self, **changes: object) -> tuple[BuildResult, list[BuildEvent]]:
        """Build, and return what was told."""
        told: list[BuildEvent] = []
        request = BuildRequest(context=str(self.context), tags=("localhost/x",)).replace(**changes)
        return run_build(self.layout, self.store, request, progress=told.append), told


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path, monkeypatch)
    made.build()
    made.build()
    assert made.built == 2
    return made


def test_an_unchanged_build_is_recalled_and_told_alike(site: Site) -> None:
    first, told = site.build(args={"X": "1"})
    site.build(args={"X": "1"})
    before = site.built
    again, retold = site.build(args={"X": "1"})
    assert (site.built, again.image_id) == (before, first.image_id)
    assert [(one.kind, one.vertex, one.name) for one in retold if one.kind != "log"] == [
        (one.kind, one.vertex, one.name) for one in told if one.kind != "log"
    ]


CHANGES: dict[str, Callable[[Site], object]] = {
    "content": lambda site: (site.context / "sub" / "f").write_text("y"),
    "mode": lambda site: (site.context / "sub" / "f").chmod(0o600),
    "new file": lambda site: (site.context / "sub" / "g").write_text(""),
    "new empty folder": lambda site: (site.context / "sub" / "h").mkdir(),
    "removed file": lambda site: (site.context / "sub" / "f").unlink(),
    "ignore file": lambda site: (site.context / ".dockerignore").write_text("sub"),
    "dockerfile": lambda site: (site.context / "Dockerfile").write_text("FROM busybox\n"),
    "name taken": lambda site: site.store.tag_image("busybox", "localhost/x"),
    "image gone": lambda site: site.store.remove_image("localhost/x"),
    "cache pruned": lambda site: site.store.prune_cache(),
    "base changed": lambda site: site.store.tag_image(site.store.require_image("localhost/x").id, "busybox"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(site: Site, change: str) -> None:
    assert (site.build(), site.built)[1] == 2
    CHANGES[change](site)
    site.build()
    assert site.built == 3


def test_a_file_with_its_old_times_and_size_is_seen(site: Site) -> None:
    path = site.context / "sub" / "f"
    status = path.stat()
    path.write_text("y")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    result, _ = site.build()
    assert site.built == 3
    assert result.image_id != site.build(no_cache=True, tags=("localhost/y",), inline="FROM busybox\n")[0].image_id


@pytest.mark.parametrize(
    "asked",
    [
        {"no_cache": True},
        {"pull": False, "contexts": {"more": "/"}},
        {"secrets": (BuildSecret(id="s", content=b"x"),)},
        {"platforms": ("linux/amd64",)},
        {"target": None, "args": {"NEW": "1"}},
    ],
)
def test_other_requests_are_not_recalled(site: Site, asked: dict[str, object]) -> None:
    site.build(**asked)
    assert site.built == 3


def test_what_links_lead_to_is_looked_at(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "Dockerfile").write_text(DOCKERFILE)
    (elsewhere / "ignore").write_text("nothing\n")
    (site.context / "link").symlink_to(elsewhere)
    (site.context / ".dockerignore").symlink_to(elsewhere / "ignore")
    for _ in range(3):
        site.build(dockerfile="link/Dockerfile")
    assert site.built == 4
    (elsewhere / "ignore").write_text("sub\n")
    for _ in range(3):
        site.build(dockerfile="link/Dockerfile")
    assert site.built == 6
    (elsewhere / "Dockerfile").write_text("FROM busybox\n")
    site.build(dockerfile="link/Dockerfile")
    assert site.built == 7


def test_a_stage_is_not_from_outside(site: Site) -> None:
    stage = "FROM busybox AS one\nFROM busybox\nCOPY --from=one /etc/passwd /p\n"
    for _ in range(3):
        site.build(inline=stage)
    assert site.built == 4


def test_a_memory_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_DAY", 0)
    site.build()
    assert site.built == 3


def test_young_files_are_not_trusted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_TICK", 3600 * 10**9)
    for _ in range(3):
        site.build(args={"X": "2"})
    assert site.built == 5
