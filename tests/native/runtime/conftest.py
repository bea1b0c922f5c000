"""Fixtures of the runtime's tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boxes import BUSYBOX, Box, BoxMaker, make_rootfs

from orchestrator.engines.native import host
from orchestrator.engines.native.files.mountinfo import list_mounts
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.runtime import cgroups
from orchestrator.engines.native.runtime.facts import HostFacts, observe_host
from orchestrator.engines.native.runtime.oci_runtime import Runtime, load_runtime
from orchestrator.model import Service

REAL = ("box", "one_box", "layout", "runtime", "crun")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0 or not BUSYBOX.exists():
        for item in items:
            if Path(__file__).parent in item.path.parents and set(REAL) & set(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.skip(reason="needs root and busybox-static"))


@pytest.fixture(scope="session")
def image_layer() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stack-image-"))
    yield make_rootfs(folder / "layer")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def facts() -> HostFacts:
    return observe_host()


@pytest.fixture
def layout() -> Iterator[Layout]:
    # Short, below /tmp: conmon's sockets have to fit into 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    made = Layout(folder / "state", folder / "run")
    yield made
    for mount in reversed(list_mounts(str(folder))):
        host.unmount(mount.target)
    shutil.rmtree(folder)
    cgroups.remove_empty_parent(made.tag)
    left = cgroups.list_cgroup_folders(f"/stack-{made.tag}")
    assert left == [], f"control groups left: {left}"


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest, layout: Layout, facts: HostFacts) -> Runtime:
    if shutil.which(request.param, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"{request.param} is not installed")
    return load_runtime(layout, facts.cgroups, request.param)


@pytest.fixture
def crun(layout: Layout, facts: HostFacts) -> Runtime:
    """The runtime that this host would choose."""
    return load_runtime(layout, facts.cgroups)


@pytest.fixture
def box(layout: Layout, runtime: Runtime, facts: HostFacts, image_layer: Path) -> Iterator[BoxMaker]:
    yield from _make_boxes(layout, runtime, facts, image_layer)


@pytest.fixture
def one_box(layout: Layout, crun: Runtime, facts: HostFacts, image_layer: Path) -> Iterator[BoxMaker]:
    """Boxes of the chosen runtime only, for what does not depend on the runtime."""
    yield from _make_boxes(layout, crun, facts, image_layer)


def _make_boxes(layout: Layout, runtime: Runtime, facts: HostFacts, layer: Path) -> Iterator[BoxMaker]:
    made: list[Box] = []

    def make(*command: str, options: dict[str, Any] | None = None, **attributes: Any) -> Box:
        service = Service(name=attributes.pop("name", "box"), command=command or None, **attributes)
        made.append(Box(layout, runtime, facts, layer, service, **(options or {})))
        return made[-1]

    yield make
    for one in reversed(made):
        one.end()
