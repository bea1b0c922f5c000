"""An engine of the soak's own: its directories, a copy of the working tree, and the processes that belong to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from e2e.leaks import await_no_leaks, find_leaks, list_processes, scrub

REPOSITORY = Path(__file__).resolve().parents[2]


class Ran(NamedTuple):
    """How a command ended; `code` is None for one that did not end in time, or was killed on purpose."""

    words: tuple[str, ...]
    code: int | None
    out: str
    err: str
    begun: float
    ended: float


class Machine:
    """Directories, environment and image of one engine. The tree is copied, so that edits of it change nothing here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.run = folder / "state", folder / "run"
        self.tree = folder / "tree"
        for name in ("orchestrator", "schemas"):
            shutil.copytree(REPOSITORY / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "STACK_"))}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment = {
            **kept,
            "STACK_STATE_DIR": str(self.state),
            "STACK_RUN_DIR": str(self.run),
            "PYTHONPATH": str(self.tree),
        }

    def load_image(self) -> None:
        """Import busybox, which everything here runs."""
        build = [str(REPOSITORY / "scripts/build-base-images"), "--tar-only", str(self.folder), "busybox"]
        subprocess.run(build, check=True, capture_output=True)
        words = ("image", "import", str(self.folder / "busybox.tar"), "--tag", "busybox")
        subprocess.run(self.command(words), env=self.environment, check=True, capture_output=True)

    def command(self, words: tuple[str, ...]) -> list[str]:
        """``stack WORDS`` out of the copied tree."""
        return [sys.executable, "-m", "orchestrator", *words]

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Rows of the engine's store."""
        path = self.state / "stack.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(query, values).fetchall()

    def processes(self) -> list[int]:
        """Every process of the engine, containers included; not this one."""
        return list_processes(self.state, self.run)

    def left(self, seconds: float = 10.0) -> list[str]:
        """What is still there of the engine, once a moment has passed."""
        return await_no_leaks(self.state, self.run, seconds)

    def scrub(self) -> None:
        """End and remove everything that is left, and the folder."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if find_leaks(self.state, self.run):
                scrub(self.state, self.run)
        shutil.rmtree(self.folder, ignore_errors=True)


class Project:
    """One project folder of the machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.folder = machine.folder / "projects" / name
        self.folder.mkdir(parents=True)
        self.windows: list[tuple[float, float, str]] = []
        """When which commands and kills were under way (epoch seconds): what may have caused operations."""

    def write(self, document: dict[str, Any]) -> None:
        """Write the stack file; JSON is YAML."""
        (self.folder / "compose.yaml").write_text(json.dumps(document, indent=1))

    def popen(self, *words: str, **settings: Any) -> subprocess.Popen[str]:
        """Start ``stack WORDS`` in the project's folder."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            self.machine.command(words),
            cwd=self.folder,
            env=self.machine.environment,
            start_new_session=True,
            **{**streams, **settings},
        )

    def read_trouble(self) -> str:
        """The end of what internal errors have left, here and in the supervisor; their folders go with the soak."""
        said = self.log()[-3000:]
        with contextlib.suppress(OSError):
            said += (self.machine.run / "internal-error.log").read_text()[-3000:]
        return f"\n{said}" if said else ""

    def run(self, *words: str, timeout: float = 90.0) -> Ran:
        """Run ``stack WORDS`` to its end."""
        return self.finish(self.popen(*words), words, time.time(), timeout)

    def finish(self, child: subprocess.Popen[str], words: tuple[str, ...], begun: float, timeout: float = 90.0) -> Ran:
        """Wait for a command; one that does not end in `timeout` seconds is killed."""
        code: int | None
        try:
            out, err = child.communicate(timeout=timeout)
            code = child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            code = None
        ended = time.time()
        self.windows.append((begun, ended, " ".join(words)))
        return Ran(words, code, out, err, begun, ended)

    def status(self) -> dict[str, Any]:
        """What the project's supervisor says of itself; empty while there is none that answers."""
        ran = subprocess.run(
            self.machine.command(("why", "--format", "json", self._any_service())),
            cwd=self.folder,
            env=self.machine.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        found = json.loads(ran.stdout or "null") if ran.returncode == 0 else None
        return found if isinstance(found, dict) else {}

    def _any_service(self) -> str:
        return str(next(iter(json.loads((self.folder / "compose.yaml").read_text())["services"])))

    def hosts(self) -> tuple[int, int]:
        """The process ids of supervisor and keeper; 0 for one that is not there."""
        status = self.status()
        return int(status.get("pid", 0)), int(status.get("keeper", 0))

    def rows(self) -> list[sqlite3.Row]:
        """The project's containers as the store has them."""
        return self.machine.read("SELECT * FROM containers WHERE project = ? ORDER BY name", self.name)

    def log(self) -> str:
        """What the supervisor has to say of its own troubles."""
        path = self.machine.run / "projects" / self.name / "supervisor.log"
        try:
            return path.read_text(errors="replace")
        except OSError:
            return ""


def kill(pid: int) -> bool:
    """kill -9 one process by its id; False if there is none."""
    if pid <= 1:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
