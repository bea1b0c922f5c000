"""What is done to the stacks: edits, commands of every kind, and kill -9 of all that can be killed."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable

from soaking.causes import GRACE
from soaking.machine import Project, Ran, kill
from soaking.stackfile import Document, edit

ACCEPTED = (
    "dependency failed to start",
    "didn't complete successfully",
    "is not running",
    "no container found",
    "is unhealthy",
    "exited (",
    "no such service",
    "no container to",
    "was superseded",
    "a newer command",
    "is not running",
    "is paused",
    "has no container",
    "is restarting",
    "no container for service",
    "hook exited with status",
    "ended before the command could run",
)
"""What a command may answer while containers are killed under it."""


class Deeds:
    """Does random things to one project and remembers what they came to."""

    def __init__(self, project: Project, document: Document, chance: random.Random, *, hosts_too: bool) -> None:
        self.project = project
        self.document = document
        self._chance = chance
        self._hosts_too = hosts_too
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.findings: list[str] = []
        self.killed: list[tuple[float, str]] = []
        self._followers: list[tuple[float, subprocess.Popen[str]]] = []

    def do_one(self) -> None:
        """One random deed; sometimes something is killed while it is under way."""
        deeds: list[tuple[int, Callable[[], None]]] = [
            (6, self._edit),
            (3, self._scale),
            (5, self._kill_container),
            (3, self._restart),
            (2, self._stop_and_start),
            (1, self._kill_by_command),
            (1, self._pause),
            (1, self._recreate),
            (2, self._exec),
            (2, self._run),
            (2, self._follow_logs),
            (2, self._look),
            (1, self._remove),
        ]
        if self._hosts_too:
            deeds += [(2, self._kill_supervisor), (1, self._kill_keeper), (1, self._kill_both), (1, self._kill_client)]
        self._chance.choices([deed for _weight, deed in deeds], [weight for weight, _deed in deeds])[0]()
        self._reap()

    def command(self, *words: str, disturbed: bool | None = None) -> Ran:
        """Run a command, perhaps with a kill while it runs; its end is judged."""
        begun = time.time()
        child = self.project.popen(*words)
        if disturbed or (disturbed is None and self._chance.random() < 0.2):
            time.sleep(self._chance.uniform(0.0, 0.5))
            self._chance.choice([self._kill_container, self._kill_container, self._kill_supervisor_if_ours])()
        ran = self.project.finish(child, words, begun)
        self.counts[f"stack {words[0]}"] += 1
        self.judge(ran)
        return ran

    def judge(self, ran: Ran) -> None:
        """A command may be refused for a reason that the kills explain; anything else is a finding."""
        what = f"stack {' '.join(ran.words)}"
        if ran.code is None:
            self.findings.append(f"{what} did not end in 90 s: {(ran.out + ran.err)[-600:]}")
        elif "Traceback" in ran.err + ran.out or "internal error" in ran.err + ran.out:
            self.findings.append(f"{what}: {ran.err[-1500:]}{self.project.read_trouble()}")
        elif ran.code != 0:
            last = next((line.strip() for line in reversed(ran.err.splitlines()) if "hint:" not in line), "")
            killed = ran.words[0] in ("exec", "run") and ran.code == 137
            if not killed and not any(word in ran.err for word in ACCEPTED):
                self.findings.append(f"{what} ended with {ran.code}: {ran.err[-600:]}")
            self.refusals[f"{ran.words[0]}: {last[:100]}"] += 1

    def settle(self) -> None:
        """End every follower."""
        for _end, child in self._followers:
            child.terminate()
            child.communicate(timeout=20)
        self._followers.clear()

    def _reap(self) -> None:
        now = time.monotonic()
        for one in [one for one in self._followers if one[0] < now or one[1].poll() is not None]:
            self._followers.remove(one)
            if one[1].poll() is None:
                one[1].terminate()
            _out, err = one[1].communicate(timeout=20)
            if "Traceback" in err:
                self.findings.append(f"a follower: {err[-1500:]}")

    def _service(self) -> str:
        names: list[str] = sorted(self.document["services"])
        return self._chance.choice(names)

    def _living(self) -> list[tuple[str, int, str]]:
        return [(one["name"], one["pid"], one["service"]) for one in self.project.rows() if one["state"] == "running"]

    def _up(self, *words: str) -> None:
        self.command("up", "-d", "--remove-orphans", *words)

    def _edit(self) -> None:
        for _ in range(self._chance.choice((1, 1, 2, 4))):
            self.document, what = edit(self.document, self._chance)
            self.counts[f"edit: {what.split()[0]}"] += 1
        self.project.write(self.document)
        self._up()

    def _scale(self) -> None:
        names = [name for name in self.document["services"] if name.startswith(("plain", "api", "s"))]
        if names:
            self.command("scale", f"{self._chance.choice(sorted(names))}={self._chance.randint(0, 3)}")

    def _restart(self) -> None:
        self.command("restart", "-t", "1", *{self._service() for _ in range(self._chance.randint(1, 3))})

    def _stop_and_start(self) -> None:
        names = {self._service() for _ in range(self._chance.randint(1, 3))}
        self.command("stop", "-t", "1", *names)
        if self._chance.random() < 0.5:
            self.command("start", *names)
        else:
            self._up()

    def _pause(self) -> None:
        living = self._living()
        if living:
            name = self._chance.choice(living)[2]
            self.command("pause", name, disturbed=False)
            self.command("unpause", name, disturbed=False)

    def _recreate(self) -> None:
        self._up("--force-recreate", self._service())

    def _remove(self) -> None:
        self.command("rm", "-s", "-f", self._service())

    def _exec(self) -> None:
        living = self._living()
        if living:
            self.command("exec", "-T", self._chance.choice(living)[2], "sh", "-c", "echo hello; sleep 0.1")

    def _run(self) -> None:
        if self._chance.random() < 0.5:
            self.command("run", "--rm", "-T", self._service(), "sh", "-c", "echo one-off; exit 0")
        else:
            self.command("run", "--rm", "-d", "--no-deps", self._service(), "sleep", "1")

    def _look(self) -> None:
        for words in (("ps", "-a"), ("why", self._service()), ("top",), ("images",)):
            self.command(*words, disturbed=False)

    def _follow_logs(self) -> None:
        if len(self._followers) < 3:
            words = self._chance.choice((("logs", "-f"), ("events", "--json"), ("stats", "--format", "json")))
            child = self.project.popen(*words, stdout=subprocess.DEVNULL)
            self._followers.append((time.monotonic() + self._chance.uniform(1, 20), child))
            self.counts[f"stack {' '.join(words)}"] += 1

    def _kill_by_command(self) -> None:
        self.command("kill", *(["-s", "TERM"] if self._chance.random() < 0.5 else []), self._service())

    def _kill_container(self) -> None:
        living = self._living()
        if living:
            name, pid, _service = self._chance.choice(living)
            if kill(pid):
                self._note(f"container {name}")
                self.counts["kill -9 of a container"] += 1

    def _kill_supervisor_if_ours(self) -> None:
        if self._hosts_too:
            self._kill_supervisor()

    def _kill_supervisor(self) -> None:
        if kill(self.project.hosts()[0]):
            self._note("supervisor")
            self.counts["kill -9 of the supervisor"] += 1

    def _kill_keeper(self) -> None:
        if kill(self.project.hosts()[1]):
            self._note("keeper")
            self.counts["kill -9 of the keeper"] += 1

    def _kill_both(self) -> None:
        supervisor, keeper = self.project.hosts()
        if kill(keeper) and kill(supervisor):
            self._note("keeper and supervisor")
            self.counts["kill -9 of keeper and supervisor"] += 1

    def _kill_client(self) -> None:
        begun = time.time()
        words = ("up", "-d", "--remove-orphans", "--force-recreate", self._service())
        child = self.project.popen(*words)
        time.sleep(self._chance.uniform(0.0, 0.6))
        child.kill()
        self.counts["kill -9 of a command"] += 1
        self._note(f"the command {' '.join(words)}")
        self.project.finish(child, words, begun)

    def _note(self, what: str) -> None:
        now = time.time()
        self.killed.append((now, what))
        if not what.startswith("container"):
            # Whoever takes over goes on with the goal.
            self.project.windows.append((now, now + GRACE, f"kill -9 of {what}"))


def describe_counts(counts: Counter[str]) -> str:
    """The counts in one line, the highest first."""
    return json.dumps(dict(counts.most_common()), ensure_ascii=False)
