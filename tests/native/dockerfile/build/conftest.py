"""Real builds on a busybox base, in a store of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench import BUSYBOX, Bench, make_base_tar

from orchestrator.engines.native.files.mountinfo import list_mounts
from orchestrator.engines.native.runtime import cgroups


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0 or not BUSYBOX.exists():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root and busybox-static"))


@pytest.fixture(scope="session")
def base_tar() -> bytes:
    return make_base_tar()


@pytest.fixture
def bench(base_tar: bytes) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="stack-build-"))
    made = Bench(folder, base_tar)
    yield made
    assert made.leaks() == []
    assert made.store.fsck() == []
    assert list_mounts(str(folder)) == []
    shutil.rmtree(folder)
    assert cgroups.list_cgroup_folders(f"/stack-{made.layout.tag}") == []
