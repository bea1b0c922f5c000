"""Diagnostics on the screen: place, message, excerpt with a caret, hint. And the last of all: internal error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from orchestrator.errors import Diagnostic, StackError

_ansi = "auto"


def set_colour(ansi: str | None) -> None:
    """Remember ``--ansi`` for messages that are written outside any command."""
    global _ansi
    _ansi = ansi or os.environ.get("COMPOSE_ANSI") or "auto"


def uses_colour(stream: object, ansi: str | None = None) -> bool:
    """Whether to write colours to `stream`: ``--ansi``, then NO_COLOR, then whether it is a terminal."""
    wish = ansi or _ansi
    if wish in ("never", "always"):
        return wish == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return _is_terminal(stream)


def report_error(error: StackError) -> None:
    """Write an error to stderr; one without a message has been told already."""
    if not (error.message or error.diagnostics):
        return
    found = error.diagnostics or (Diagnostic(error.code, error.message, hint=error.hint),)
    report_diagnostics(found)
    if error.diagnostics and error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def report_diagnostics(found: Iterable[Diagnostic]) -> None:
    """Write diagnostics to stderr; on a terminal with the line that each is about."""
    sys.stdout.flush()
    colour, excerpt = uses_colour(sys.stderr), _is_terminal(sys.stderr)
    for one in found:
        print(render_diagnostic(one, colour=colour, excerpt=excerpt), file=sys.stderr)


def render_diagnostic(one: Diagnostic, *, colour: bool = False, excerpt: bool = False) -> str:
    """Render one diagnostic, optionally with colours and with the line it is about."""
    text = one.render()
    if colour:
        shade = "31" if one.severity == "error" else "33"
        label = f"{one.severity}[{one.code}]"
        text = text.replace(label, f"\x1b[1;{shade}m{label}\x1b[0m", 1)
    if excerpt and one.location:
        shown = _render_excerpt(one.location.file, one.location.line, one.location.column)
        if shown:
            first, newline, rest = text.partition("\n")
            text = f"{first}\n{shown}{newline}{rest}"
    return text


def report_internal_error(error: BaseException, arguments: Sequence[str]) -> None:
    """Tell of an error of ours in one message, and keep the traceback in a file."""
    import traceback

    text = "".join(traceback.format_exception(error))
    place = _write_crash_log(f"stack {' '.join(arguments)}\n{text}")
    kept = f"the details are in {place}" if place else "set STACK_DEBUG=1 to see the details"
    message = f"internal error: {type(error).__name__}: {error}".replace("\n", " ")
    report_diagnostics([Diagnostic("internal-error", message, hint=f"this is a fault of stack itself; {kept}")])


def _write_crash_log(text: str) -> str:
    import time

    from orchestrator.engines.native.layout import Layout

    for folder in (Layout.from_environment().run, None):
        try:
            if folder is None:
                import tempfile

                handle, name = tempfile.mkstemp(prefix="stack-internal-error-", suffix=".log")
            else:
                folder.mkdir(parents=True, exist_ok=True)
                name = str(folder / "internal-error.log")
                handle = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "a") as file:
                file.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} pid {os.getpid()}\n{text}\n")
        except OSError:
            continue
        return name
    return ""


def _render_excerpt(file: str, line: int, column: int) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            content = next((one for number, one in enumerate(text, 1) if number == line), None)
    except OSError:
        return ""
    if content is None:
        return ""
    content = content.rstrip("\n").replace("\t", " ")
    gutter = f"{line:>5} | "
    return f"{gutter}{content}\n{' ' * (len(gutter) - 2)}| {' ' * (column - 1)}^"


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    try:
        return bool(isatty and isatty())
    except ValueError:
        return False
