"""Diagnostics on the screen: place, message, excerpt with a caret, hint; or one JSON object or annotation per line.

And the last of all: internal error.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.errors import Diagnostic, StackError

FORMS = ("text", "json", "github")
"""How diagnostics can be written: for people, for editors and scripts, as annotations of a GitHub workflow."""

_TAB = 4
_GUTTER = 8

_ansi = "auto"
_reported = 0
_form = ""


def set_colour(ansi: str | None) -> None:
    """Remember ``--ansi`` for messages that are written outside any command."""
    global _ansi
    _ansi = ansi or os.environ.get("COMPOSE_ANSI") or "auto"


def set_form(form: str | None) -> None:
    """Choose how diagnostics are written from now on; None leaves it to STACK_DIAGNOSTICS."""
    global _form
    _form = form or ""


def uses_colour(stream: object, ansi: str | None = None) -> bool:
    """Whether to write colours to `stream`: ``--ansi``, then NO_COLOR, then whether it is a terminal."""
    wish = ansi or _ansi
    if wish in ("never", "always"):
        return wish == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return _is_terminal(stream)


def writes_lines(progress: str, ansi: str) -> bool:
    """Whether progress is shown as lines: where that is asked for, and where there is no terminal to redraw."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return progress == "plain" or (progress == "auto" and not (terminal and ansi != "never"))


def report_error(error: StackError) -> None:
    """Write an error to stderr; one without a message has been told already."""
    if not (error.message or error.diagnostics):
        return
    from orchestrator.errors import Diagnostic

    found = error.diagnostics or (Diagnostic(error.code, error.message, hint=error.hint),)
    report_diagnostics(found)
    told = any(error.hint == one.hint for one in found)
    if error.diagnostics and error.hint and not told and _current_form() == "text":
        print(f"  hint: {error.hint}", file=sys.stderr)


def _current_form() -> str:
    # Also right for mistakes in the command line, which are told before any option of it counts.
    form = _form or os.environ.get("STACK_DIAGNOSTICS", "")
    return form if form in FORMS else "text"


def report_diagnostics(found: Iterable[Diagnostic]) -> None:
    """Write diagnostics to stderr; as text on a terminal with the line that each is about."""
    global _reported
    sys.stdout.flush()
    form = _current_form()
    colour, excerpt = uses_colour(sys.stderr), _is_terminal(sys.stderr)
    for one in found:
        _reported += 1
        if form == "json":
            line = render_diagnostic_json(one)
        elif form == "github":
            line = render_annotation(one, os.environ.get("GITHUB_WORKSPACE", ""))
        else:
            line = render_diagnostic(one, colour=colour, excerpt=excerpt)
        print(line, file=sys.stderr)


def has_reported() -> bool:
    """Whether this process has written any diagnostic."""
    return _reported > 0


def render_diagnostic_json(one: Diagnostic) -> str:
    """Render one diagnostic as a JSON object on one line; what is not known is left out."""
    import json

    known: dict[str, object] = {"severity": one.severity, "code": one.code, "message": one.message}
    if one.location:
        known.update(file=one.location.file, line=one.location.line, column=one.location.column)
    known.update({key: value for key, value in (("path", one.path), ("hint", one.hint)) if value})
    return json.dumps(known, ensure_ascii=False)


def render_annotation(one: Diagnostic, workspace: str = "") -> str:
    """Render one diagnostic as a workflow command of GitHub Actions; files are named relative to `workspace`."""
    properties = []
    if one.location:
        file = one.location.file
        if workspace:
            file = os.path.relpath(file, workspace)
        properties += [f"file={_escape_property(file)}", f"line={one.location.line}", f"col={one.location.column}"]
    properties.append(f"title={_escape_property(one.code)}")
    text = "\n".join(part for part in (one.message, one.path, f"hint: {one.hint}" if one.hint else "") if part)
    return f"::{one.severity} {','.join(properties)}::{_escape_data(text)}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


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

    from orchestrator.errors import Diagnostic

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
        with open(file, encoding="utf-8-sig", errors="replace") as text:
            content = next((one for number, one in enumerate(text, 1) if number == line), None)
    except (OSError, ValueError):
        return ""
    if content is None:
        return ""
    before, after = _printable(content[: column - 1]), _printable(content[column - 1 :].rstrip("\r\n"))
    room = max(_find_width() - _GUTTER - 1, 20)
    if len(before) + min(len(after), room // 2) > room:
        before = "…" + before[len(before) - room // 2 + 1 :]
    if len(before) + len(after) > room:
        after = after[: room - len(before) - 1] + "…"
    gutter = f"{line:>5} | "
    return f"{gutter}{before}{after}\n{' ' * (len(gutter) - 2)}| {' ' * _measure(before)}^"


def _printable(text: str) -> str:
    """Nothing that a file holds may move the cursor or change the colours of a terminal."""
    return "".join(one if one.isprintable() else " " * _TAB if one == "\t" else "·" for one in text)


def _measure(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def _find_width() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    try:
        return bool(isatty and isatty())
    except ValueError:
        return False
