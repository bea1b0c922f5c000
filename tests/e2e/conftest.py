"""Scenarios on real containers: a project folder, an engine of the session's own, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .leaks import await_no_leaks, find_leaks, scrub

ROOT = Path(__file__).resolve().parents[2]
STACK = (sys.executable, "-m", "orchestrator")


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Machine:
    """The session's engine: its directories, its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.run_dir = folder / "state", folder / "run"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "STACK_"))},
            "STACK_STATE_DIR": str(self.state),
            "STACK_RUN_DIR": str(self.run_dir),
            "PYTHONPATH": str(ROOT),
        }

    def popen(self, *words: str, cwd: Path, **settings: Any) -> subprocess.Popen[str]:
        """Start ``stack WORDS`` in a session of its own, as a shell would start it in a process group."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [*STACK, *words], cwd=cwd, env=self.environment, start_new_session=True, **{**streams, **settings}
        )

    def run(self, *words: str, cwd: Path, timeout: float = 180, stdin: str | None = None) -> Ran:
        """Run ``stack WORDS`` to its end."""
        done = subprocess.run(
            [*STACK, *words],
            cwd=cwd,
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


class Project:
    """One project folder, and the words to say what happens in it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.name = folder.name

    def write(self, text: str, name: str = "compose.yaml") -> None:
        """Write the stack file (or another file of the project)."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *words: str, timeout: float = 180, stdin: str | None = None) -> Ran:
        """Run ``stack WORDS`` in the project folder."""
        return self.machine.run(*words, cwd=self.folder, timeout=timeout, stdin=stdin)

    def succeed(self, *words: str, timeout: float = 180, stdin: str | None = None) -> str:
        """Run a command that has to succeed; return its standard output."""
        ran = self.run(*words, timeout=timeout, stdin=stdin)
        assert ran.code == 0, f"stack {' '.join(words)} ended with {ran.code}\n{ran.out}\n{ran.err}"
        return ran.out

    def popen(self, *words: str, **settings: Any) -> subprocess.Popen[str]:
        """Start a command and do not wait for it."""
        return self.machine.popen(*words, cwd=self.folder, **settings)

    def containers(self, *words: str) -> dict[str, dict[str, Any]]:
        """What ``ps -a`` tells, by the name without the project."""
        rows = [json.loads(line) for line in self.succeed("ps", "-a", "--format", "json", *words).splitlines()]
        return {row["Name"].removeprefix(f"{self.name}-"): row for row in rows}

    def pid(self, container: str) -> int:
        """The process id, on the host, of a container's main process."""
        full = self.containers("--no-trunc")[container]["ID"]
        return int(_observe(self.machine, full)["pid"])

    def supervisor(self) -> int:
        """The process id of the project's supervisor."""
        status = json.loads(self.succeed("why", "--format", "json", next(iter(self.services()))))
        return int(status["pid"])

    def services(self) -> list[str]:
        """The services of the file."""
        return self.succeed("config", "--services").split()

    def wait_until(self, sentence: str, true: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is true; a test that waits in vain fails with the sentence."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"in vain: {sentence}\n{self.run('ps', '-a').out}"
            time.sleep(0.05)


def _observe(machine: Machine, container_id: str) -> dict[str, Any]:
    import sqlite3

    with sqlite3.connect(f"file:{machine.state / 'stack.db'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        row = database.execute("SELECT * FROM containers WHERE id = ?", (container_id,)).fetchone()
    return dict(row)


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """An engine with a busybox image; skipped where this user cannot run containers."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = Path(tempfile.mkdtemp(prefix="stk-"))
    made = Machine(folder)
    try:
        subprocess.run(
            [ROOT / "scripts/build-base-images", "--tar-only", folder, "busybox"],
            check=True,
            capture_output=True,
        )
        ran = made.run("image", "import", str(folder / "busybox.tar"), "--tag", "busybox", cwd=folder)
        assert ran.code == 0, ran.err
        yield made
    finally:
        if find_leaks(made.state, made.run_dir):
            scrub(made.state, made.run_dir)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project folder. In the end everything is taken down and nothing may be left."""
    yield from _open_projects(machine, [request.node.name])


@pytest.fixture
def two_projects(machine: Machine, request: pytest.FixtureRequest) -> Iterator[tuple[Project, Project]]:
    """Two project folders."""
    for made in open_folders(machine, ["one", "two"]):
        yield made[0], made[1]


def _open_projects(machine: Machine, names: list[str]) -> Iterator[Project]:
    for made in open_folders(machine, names):
        yield made[0]


def open_folders(machine: Machine, names: list[str]) -> Iterator[list[Project]]:
    """Make project folders, and take everything down in the end."""
    projects = []
    for name in names:
        short = "".join(letter for letter in name.lower() if letter.isalnum() or letter == "-")[:24]
        folder = machine.folder / "projects" / short
        folder.mkdir(parents=True)
        projects.append(Project(machine, folder))
    try:
        yield projects
        for one in projects:
            if (one.folder / "compose.yaml").exists():
                one.succeed("-p", one.name, "down", "-v", "-t", "0", "--remove-orphans")
        left = await_no_leaks(machine.state, machine.run_dir, 30)
        assert not left, "left behind:\n" + "\n".join(left)
    finally:
        if find_leaks(machine.state, machine.run_dir):
            # The test has failed; the next one begins clean all the same.
            scrub(machine.state, machine.run_dir)
        for one in projects:
            shutil.rmtree(one.folder, ignore_errors=True)
