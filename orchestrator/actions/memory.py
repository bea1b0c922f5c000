"""Results that are kept for the next time: what was made of files counts while those files are as they were.

A result belongs to a question (working directory, words, environment, this program's own code) and to every path that
was looked at on the way: files that were read, and files that were looked for in vain. It stands in the run directory,
for its owner alone, and is lost at reboot: it may hold values from the environment. A result that cannot be read or
written, or may be stale, is made anew.

Imports next to nothing: to answer from memory has to be quicker than to think.
"""

from __future__ import annotations

import os

from orchestrator.evidence import is_settled, read_kept, render_path, sign_path, write_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.evidence import Signature as Signature

_VOLATILE = frozenset(("_", "OLDPWD", "PWD", "SHLVL", "COLUMNS", "LINES"))
_CODE = ("spec", "actions", "cli/commands/config.py", "model.py", "record.py", "source.py", "errors.py")
_MANY = 200


def describe_question(words: Iterable[object], code: Sequence[str] = _CODE) -> str:
    """Return a name for a question: the same words, working directory, environment and code give the same name.

    `code` names the folders and files of this package that the answer is made by.
    """
    from zlib import adler32, crc32

    environment = sorted(item for item in os.environ.items() if item[0] not in _VOLATILE)
    text = repr((os.getcwd(), [str(word) for word in words], environment, _describe_code(code)))
    data = text.encode("utf-8", "replace")
    # Sums, not the text: it may hold secrets. Several, since one of 32 bits is a little short.
    return f"{crc32(data):08x}{crc32(data[::-1]):08x}{adler32(data):08x}{len(data):x}"


def _describe_code(code: Sequence[str]) -> int:
    """A number that changes with the code that makes the results: it is edited while it is developed."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    newest = 0
    for name in code:
        try:
            if name.endswith(".py"):
                newest = max(newest, os.stat(f"{package}/{name}").st_mtime_ns)
                continue
            with os.scandir(f"{package}/{name}") as entries:
                newest = max(newest, *(one.stat().st_mtime_ns for one in entries if one.name.endswith(".py")))
        except (OSError, TypeError):
            continue
    return newest


def watch_path(seen: dict[str, Signature | None], path: str) -> None:
    """Note in `seen` how `path` is before it is read; None where a change from now on might not show in its times."""
    if path not in seen:
        from time import time_ns

        signature = sign_path(path)
        seen[path] = signature if path != "-" and is_settled(signature, time_ns()) else None


def recall(kind: str, question: str) -> bytes | None:
    """Return the result of `kind` for `question` if it still holds, otherwise None."""
    return read_kept(place_result(kind, question))


def remember(
    kind: str, question: str, paths: Mapping[str, Signature | None], body: bytes, more: Iterable[bytes] = ()
) -> None:
    """Keep `body` as the result for `question`; `paths` are all that was looked at, as ``watch_path`` noted them.

    `more` are further lines of evidence.
    """
    lines = list(more)
    for path, signature in paths.items():
        if signature is None:
            return
        try:
            lines.append(render_path(path, signature))
        except ValueError:
            return
    write_kept(place_result(kind, question), lines, body, most=_MANY)


def place_result(kind: str, question: str) -> str:
    """Where the result of `kind` for `question` is kept."""
    return f"{_folder()}/{kind}-{question}"


def _folder() -> str:
    from orchestrator.engines.native.places import find_places

    return f"{find_places()[1]}/remembered"
