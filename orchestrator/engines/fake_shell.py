"""The few words of shell that the fake engine's containers understand.

``echo``, ``cat``, ``test -f``, ``true``, ``false``, ``exit``, ``sleep``, ``wait``, ``trap 'exit N' SIGNAL``,
redirections to a file or to stderr, ``;``, ``&&`` and newlines. Enough for the conformance suite, whose commands real
engines run too.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

SHELLS = ("sh", "/bin/sh", "ash")
PROGRAMS = ("echo", "cat", "test", "true", "false", "exit", "sleep", "wait", "trap", "hostname", "printenv")


class CommandMissing(Exception):
    """The command does not exist in the image."""


class Script:
    """One run of a command. :meth:`run` goes on until it sleeps or ends; the caller decides what time it is."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], files: MutableMapping[str, str], hostname: str = ""
    ) -> None:
        self.output: list[tuple[str, str]] = []
        """(stream, line) pairs, in order."""
        self.traps: dict[str, int] = {}
        self.exit_code: int | None = None
        self._environment = environment
        self._files = files
        self._hostname = hostname
        self._status = 0
        self._statements = self._parse(argv)

    def _parse(self, argv: Sequence[str]) -> Iterator[list[str]]:
        if argv and argv[0] in SHELLS and len(argv) == 3 and argv[1] == "-c":
            lexer = shlex.shlex(argv[2].replace("\n", ";"), posix=True, punctuation_chars=";&>")
            lexer.whitespace_split = True
            return _split(list(lexer))
        if not argv or argv[0] in SHELLS:
            return iter([["sleep", "infinity"]])
        if argv[0].rsplit("/", 1)[-1] not in PROGRAMS:
            raise CommandMissing(argv[0])
        return iter([list(argv)])

    def run(self) -> float | None:
        """Run on. Returns the seconds that it sleeps now (``inf`` for ever), or None once it ended with `exit_code`."""
        for statement in self._statements:
            if statement[0] == "&&":
                if self._status:
                    break
                continue
            pause = self._execute(statement)
            if self.exit_code is not None:
                return None
            if pause is not None:
                return pause
        self.exit_code = self._status
        return None

    def _execute(self, words: list[str]) -> float | None:
        stream, target, words = self._redirect(words)
        name, arguments = words[0].rsplit("/", 1)[-1], words[1:]
        self._status = 0
        if name == "exit":
            self.exit_code = int(arguments[0]) if arguments else 0
        elif name == "sleep":
            return float("inf") if arguments[0] == "infinity" else float(arguments[0])
        elif name == "trap":
            self.traps[arguments[1].removeprefix("SIG")] = int(arguments[0].split()[1])
        elif name in ("echo", "hostname", "printenv"):
            text = {"echo": " ".join(self._expand(one) for one in arguments), "hostname": self._hostname}.get(name)
            self._print(self._environment.get(arguments[0], "") if text is None else text, stream, target)
        elif name == "cat" and arguments[0] in self._files:
            self._print(self._files[arguments[0]], stream, target)
        elif name == "false" or name == "cat" or (name == "test" and arguments[1] not in self._files):
            self._status = 1
        elif name not in PROGRAMS:
            self.output.append(("stderr", f"sh: {name}: not found"))
            self._status = 127
        return None

    def _redirect(self, words: list[str]) -> tuple[str, str, list[str]]:
        if ">" in words:
            at = words.index(">")
            return "stdout", words[at + 1], words[:at]
        if words[-2:] == [">&", "2"]:
            return "stderr", "", words[:-2]
        return "stdout", "", words

    def _print(self, text: str, stream: str, target: str) -> None:
        if target:
            self._files[target] = text
        else:
            self.output.extend((stream, line) for line in text.split("\n"))

    def _expand(self, word: str) -> str:
        return self._environment.get(word[1:], "") if word.startswith("$") else word


def _split(words: list[str]) -> Iterator[list[str]]:
    statement: list[str] = []
    for word in words:
        if word in (";", "&&", "&"):
            if statement:
                yield statement
            statement = []
            if word == "&&":
                yield ["&&"]
        else:
            statement.append(word)
    if statement:
        yield statement
