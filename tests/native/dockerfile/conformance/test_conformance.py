"""Every case, built by this project and compared with what a real tool made of it; and through the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cases import Case, load_cases, load_golden
from .compare import compare_result
from .ours import OwnBuilder
from .server import FileServer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="RUN needs root")

CASES = load_cases()
GOLDEN = {topic: load_golden(topic) for topic in {case.topic for case in CASES}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    started = FileServer(tmp_path_factory.mktemp("server"))
    yield started.address
    started.close()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory, server: str) -> OwnBuilder:
    return OwnBuilder(tmp_path_factory.mktemp("own"), server)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_as_reference(case: Case, builder: OwnBuilder) -> None:
    golden = GOLDEN[case.topic].get(case.name, {})
    assert golden or case.reference == "none", "no golden result: tests/compare_builds --record"
    assert compare_result(case, golden, builder.describe(case)) == []


def test_every_golden_belongs_to_a_case() -> None:
    names = {(case.topic, case.name) for case in CASES}
    assert {(topic, name) for topic, results in GOLDEN.items() for name in results} <= names


def test_command_line_builds_the_same(builder: OwnBuilder, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG WORD\nCOPY f /f\nRUN echo $WORD > /word\n")
    (tmp_path / "f").write_text("x")
    environment = {
        **os.environ,
        "STACK_STATE_DIR": str(builder.layout.state),
        "STACK_RUN_DIR": str(builder.layout.run),
    }
    command = [sys.executable, "-m", "orchestrator", "image", "build", "-t", "localhost/cli", "--build-arg", "WORD=hi"]
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    image = builder.store.require_image("localhost/cli")
    assert len(image.layers) == 3
