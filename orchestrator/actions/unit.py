"""The systemd unit that brings a project up after a boot, as text (systemd.unit(5), systemd.service(5)). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import UsageError
from orchestrator.record import Record


class UnitRequest(Record):
    """What the unit of a project is made of. `program` is the command line up to the words of ``stack``; `words` are
    the global options that say which project is meant. Paths are absolute; `paths` are what has to be mounted before.
    `remote`: the stack has to be fetched, which is not to be tried when the machine goes down.
    """

    project: str
    program: tuple[str, ...]
    words: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    paths: tuple[str, ...] = ()
    user: bool = False
    remote: bool = False


def name_unit(project: str) -> str:
    """The name of a project's unit."""
    return f"stack-{project}.service"


def render_unit(request: UnitRequest) -> str:
    """The text of the unit. Raises UsageError for a path or a value that a unit cannot hold."""
    call = [*request.program, *request.words]
    named = [*request.program, "--project-name", request.project] if request.remote else call
    lines = [
        f"# Written by `stack enable`; `stack -p {request.project} disable` removes it.",
        "[Unit]",
        f"Description=Stack {request.project}",
        *(() if request.user else ("Wants=network-online.target", "After=network-online.target")),
        f"RequiresMountsFor={' '.join(_quote(one, '%') for one in (request.directory, *request.paths))}",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        f"WorkingDirectory={_escape(request.directory, '%')}",
        *(f"Environment={_quote(f'{name}={value}', '%')}" for name, value in sorted(request.environment.items())),
        f"ExecStart={_render_call([*call, 'up', '--detach'])}",
        f"ExecReload={_render_call([*call, 'up', '--detach'])}",
        f"ExecStop={_render_call([*named, 'stop'])}",
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=120",
        "",
        "[Install]",
        f"WantedBy={'default.target' if request.user else 'multi-user.target'}",
    ]
    return "\n".join(lines) + "\n"


def _render_call(words: Sequence[str]) -> str:
    return " ".join(_quote(one, "%$") for one in words)


def _quote(text: str, doubled: str) -> str:
    plain = _escape(text, doubled)
    if plain and not any(letter in plain for letter in " \t\"'\\;"):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'


def _escape(text: str, doubled: str) -> str:
    if any(ord(letter) < 32 and letter != "\t" for letter in text):
        raise UsageError(f"{text!r} cannot stand in a systemd unit")
    for letter in doubled:
        text = text.replace(letter, letter * 2)
    return text
