"""What all tests share: golden files, and an eye on what tests leave behind."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ground import Guard, enter_network, make_root

_HELPERS = (b"resource_tracker", b"forkserver")
"""Children that the multiprocessing module keeps for the whole session."""

_MACHINE_WIDE = ("process ", "mount ", "namespace ", "link ", "nftables table ", "cgroup ")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is rendered now into the golden files")
    parser.addoption("--machine-network", action="store_true", help="test in the machine's own network, one at a time")


_LONGEST: Final = 300
"""Seconds after which a test that waits for ever fails, and says where. A busy machine needs many times what a quiet
one does."""

_guard = pytest.StashKey[Guard]()
_left = pytest.StashKey[list[str]]()

_FIRST = ("tests/interchange/", "tests/e2e/", "tests/native/", "tests/engines/", "tests/loop/")
"""What takes longest begins first, so that no process is busy alone in the end."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs with SIGINT ignored; children inherit that, and no test could press Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # First of all, because it depends on the next: tmp_path stays where pytest keeps it for a look afterwards.
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    root = make_root()
    tempfile.tempdir = str(root)
    if not hasattr(config, "workerinput"):
        config.stash[_guard] = Guard(root, base)
    if os.geteuid() == 0 and not config.getoption("--machine-network"):
        enter_network()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    guard = session.config.stash.get(_guard, None)
    if guard is None:
        return
    session.config.stash[_left] = left = guard.finish()
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(_left, []):
        terminalreporter.section("left behind by the tests, and removed", red=True)
        terminalreporter.write_line("\n".join(left))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, top in enumerate(_FIRST) if item.nodeid.startswith(top)), len(_FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one part go to one process, which runs them one after the other."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return find_part(nodeid)

    # In the order of collection.
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def find_part(nodeid: str) -> str:
    """A file is a part; but the daemons of other tools are started once, and a scenario stands alone."""
    if nodeid.startswith("tests/interchange/"):
        return "tests/interchange"
    return nodeid if nodeid.startswith("tests/e2e/") else nodeid.partition("::")[0]


@pytest.fixture
def compare_golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a golden file; with ``--update-golden``, write it."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing; run with --update-golden, and read what it writes"
        assert text == path.read_text()

    return compare


@pytest.fixture(autouse=True)
def ends_in_time() -> Iterator[None]:
    """Fail a test that does not come to its end; what it began is cleared up as after any other failure."""

    def fail(*_signal: object) -> None:
        pytest.fail(f"not done after {_LONGEST} seconds")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves child processes, mounts, or anything that an engine of its own made on the machine."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    before = _children()
    yield
    left = _wait_for_none(lambda: [f"process {pid}: {_command(pid)}" for pid in sorted(_children() - before)])
    if folder is not None:
        left += _wait_for_none(lambda: [f"mount {place}" for place in _mounts_below(folder)])
        for database in (*folder.glob("stack.db"), *folder.glob("*/stack.db"), *folder.glob("*/*/stack.db")):
            left += _wait_for_none(lambda state=database.parent: _engine_leaks(state))  # type: ignore[misc]
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left))


def _wait_for_none(find: Callable[[], list[str]]) -> list[str]:
    """What `find` still finds after a moment: a process that was just killed is not gone at once."""
    end = time.monotonic() + 15
    while (found := find()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def _children() -> set[int]:
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            text = Path(f"/proc/self/task/{thread}/children").read_text()
        except OSError:
            continue
        found.update(int(pid) for pid in text.split())
    return {pid for pid in found if not any(word in _command(pid).encode() for word in _HELPERS)}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or "(a zombie)"
    except OSError:
        return "(gone)"


def _mounts_below(folder: Path) -> list[str]:
    with open("/proc/self/mountinfo") as lines:
        places = [line.split()[4] for line in lines]
    return [place for place in places if place.startswith(f"{folder}/")]


def _engine_leaks(state: Path) -> list[str]:
    if not (state / "containers").is_dir() and not (state.parent / "run").is_dir():
        return []
    from e2e.leaks import find_leaks

    return [one for one in find_leaks(state, state.parent / "run") if one.startswith(_MACHINE_WIDE)]
