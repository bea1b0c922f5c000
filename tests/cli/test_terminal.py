"""The terminal while something is redrawn in place: real ones, and processes that are ended and stopped on them."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOW = b"\x1b[?25h"

HOLDING = """
import sys, time
from orchestrator.cli.terminal import hold_terminal
held = hold_terminal()
held.hold()
print("held", flush=True)
sys.stdin.readline()
print("moved" if held.moved else "unmoved", flush=True)
held.hold()
print("again", flush=True)
sys.stdin.readline()
held.release()
held.unguard()
print("released", flush=True)
time.sleep(600)
"""

DRAWING = """
import sys, time
from orchestrator.cli.live import LiveScreen
from orchestrator.events import Event
with LiveScreen("up", colour=False) as screen:
    for number in range(6):
        screen(Event(time=time.time(), kind="operation", verb="start container", subject=f"shop-web-{number}",
                     phase="started"))
    print("a line above", flush=True)
    for line in sys.stdin:
        screen(Event(time=time.time(), kind="operation", verb="start container", subject="shop-web-0", phase="done"))
        break
print("after it")
"""


class Job:
    """A program as a shell runs it: on a terminal of its own, a process group of its own in the foreground."""

    def __init__(self, program: str, *, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        # A shell between us and it, else the group would be an orphan, which Ctrl-Z does not stop.
        self.shell = os.fork()
        if self.shell == 0:
            try:
                self._be_shell(program)
            finally:
                os._exit(99)
        self.job = self._await_job()

    def _await_job(self) -> int:
        """Wait until it has the terminal."""
        self._wait_until(lambda: os.tcgetpgrp(self.master) not in (0, self.shell))
        return os.tcgetpgrp(self.master)

    @staticmethod
    def _wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end
            time.sleep(0.01)

    def resume(self) -> None:
        """``fg``; until it runs: what is typed earlier is typed for the shell."""
        os.kill(self.shell, signal.SIGUSR1)
        stat = Path(f"/proc/{self.job}/stat")
        self._wait_until(lambda: stat.read_text().rpartition(") ")[2][0] != "T")

    def _be_shell(self, program: str) -> None:
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTTOU, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            os.tcsetpgrp(self.slave, os.getpid())
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTTOU, signal.SIGTSTP):
                signal.signal(number, signal.SIG_DFL)
            for one in range(3):
                os.dup2(self.slave, one)
            os.execve(
                sys.executable,
                [sys.executable, "-c", program],
                {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
            )
        while True:
            _, status = os.waitpid(job, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            os.tcsetpgrp(self.slave, os.getpgrp())
            os.write(self.slave, b"<stopped>\n")
            # The test says `fg` by a signal.
            signal.sigwait({signal.SIGUSR1})
            os.tcsetpgrp(self.slave, job)
            os.kill(job, signal.SIGCONT)
        os.write(self.slave, f"<ended {os.waitstatus_to_exitcode(status)}>\n".encode())
        os._exit(0)

    def close(self) -> None:
        # The shell waits for the job and ends with it; stopped ones are not waited for.
        if os.waitpid(self.shell, os.WNOHANG)[0] == 0:
            with suppress(ProcessLookupError):
                os.kill(self.job, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(self.shell, signal.SIGKILL)
            os.waitpid(self.shell, 0)
        os.close(self.slave)
        os.close(self.master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def send(self, number: int) -> None:
        """A signal for the job."""
        os.kill(self.job, number)

    def read_until(self, word: str, seconds: float = 60) -> bytes:
        """What was shown up to `word`, which it ends with."""
        end = time.monotonic() + seconds
        while word.encode() not in self.shown:
            left = end - time.monotonic()
            assert left > 0, f"no {word!r} in {self.shown!r}"
            if select.select([self.master], [], [], left)[0]:
                self.shown += os.read(self.master, 4096)
        found, _, self.shown = self.shown.partition(word.encode())
        return found + word.encode()

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    found: list[Job] = []
    # Blocked in the shell that is forked, so that an early `fg` is not lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        yield found
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for one in found:
            one.close()


@pytest.fixture
def holding(jobs: list[Job]) -> Job:
    jobs.append(Job(HOLDING))
    jobs[0].read_until("held")
    assert not jobs[0].echoes()
    return jobs[0]


def test_what_is_typed_is_not_shown_and_kept_for_whoever_reads_next(holding: Job) -> None:
    holding.type(b"typed\n")
    assert b"typed" not in holding.read_until("again")
    assert not holding.echoes()
    holding.type(b"\n")
    holding.read_until("released")
    assert termios.tcgetattr(holding.slave) == holding.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_us_gives_the_terminal_back_and_is_the_cause(holding: Job, number: int) -> None:
    holding.send(number)
    assert SHOW in holding.read_until(f"<ended {-number}>")
    assert termios.tcgetattr(holding.slave) == holding.before


def test_stopped_it_has_the_terminal_back_and_continued_it_takes_it_again(holding: Job) -> None:
    holding.type(b"\x1a")
    assert SHOW in holding.read_until("<stopped>")
    assert termios.tcgetattr(holding.slave) == holding.before
    holding.resume()
    holding.type(b"\n")
    # Who draws learns that something else was written below.
    assert b"unmoved" not in holding.read_until("again")
    assert not holding.echoes()
    holding.send(signal.SIGTERM)
    holding.read_until("<ended -15>")
    assert termios.tcgetattr(holding.slave) == holding.before


def test_after_it_is_given_back_signals_do_what_they_did(holding: Job) -> None:
    holding.type(b"\n")
    holding.read_until("again")
    holding.type(b"\n")
    holding.read_until("released")
    holding.send(signal.SIGTERM)
    assert SHOW not in holding.read_until("<ended -15>")


def test_handlers_of_others_stay_and_no_terminal_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.cli.terminal import HeldTerminal

    reader, writer = os.pipe()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        held = HeldTerminal(writer)
        held.guard()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        held.hold()
        assert held.is_ours()
        held.release()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        held.unguard()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (5, 20), (1, 1)])
def test_a_line_above_the_display_takes_away_no_more_than_the_display(jobs: list[Job], rows: int, columns: int) -> None:
    jobs.append(Job(DRAWING, rows=rows, columns=columns))
    (job,) = jobs
    job.read_until("[" if columns == 1 else "[+]")
    job.resize(24, 80)
    job.type(b"\n")
    shown = job.read_until("<ended 0>")
    assert b"Traceback" not in shown
    assert SHOW in shown
    assert termios.tcgetattr(job.slave) == job.before
    if columns == 80:
        # A display of seven rows and the line that the cursor is on.
        longest = max(part.count(b"\x1b[1A") for part in shown.split(b"web-5"))
        assert longest == 7
