"""RUN: what is executed, with which environment, mounts and inline files. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

from orchestrator.engines.native.dockerfile.front.configuration import join_working_dir, wrap_shell
from orchestrator.engines.native.dockerfile.front.lexer import parse_heredoc
from orchestrator.engines.native.dockerfile.front.mounts import read_mount, split_mount
from orchestrator.engines.native.dockerfile.front.problems import Problem
from orchestrator.engines.native.dockerfile.front.stages import PROXIES
from orchestrator.engines.native.dockerfile.front.steps import InlineFile, RunMount, RunStep

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.evaluate import Evaluation
    from orchestrator.engines.native.dockerfile.front.instructions import CommandInstruction
    from orchestrator.engines.native.dockerfile.front.words import Flag

PIPES = "/dev/pipes/"
"""Where the heredoc of ``RUN <<EOF`` stands as a program if it begins with ``#!``."""


def plan_run(now: Evaluation, one: CommandInstruction) -> RunStep:
    """The step of a RUN instruction. Raises Problem."""
    argv, files = _find_command(now, one)
    mounts = tuple(_read_mount(now, one, flag) for flag in one.flags if flag.name == "mount")
    arguments = {name: now.variables.get(name, value or "") for name, value in now.arguments.items()}
    proxies = _list_proxies(now.plan.args)
    undeclared = {name: value for name, value in proxies.items() if name not in now.variables}
    shown = [f"|{len(arguments)}", *(f"{name}={value}" for name, value in arguments.items())] if arguments else []
    fields = now.common(one, " ".join(["RUN", *shown, *argv]) + " # buildkit")
    if one.line.heredocs:
        fields["text"] += f" ({_summarize(one.line.heredocs[0].content)})"
    return RunStep(
        **fields,
        argv=argv,
        environment={**now.variables, **undeclared},
        build_args=tuple((name, value) for name, value in arguments.items() if name in now.variables),
        ignored_args=tuple(undeclared),
        working_dir=join_working_dir("/", now.config.get("WorkingDir") or "/"),
        user=now.config.get("User") or "",
        mounts=mounts,
        network=cast(Literal["default", "none", "host"], one.flag("network") or "default"),
        security=cast(Literal["sandbox", "insecure"], one.flag("security") or "sandbox"),
        files=files,
    )


def _find_command(now: Evaluation, one: CommandInstruction) -> tuple[tuple[str, ...], tuple[InlineFile, ...]]:
    command = one.command
    if not command.shell:
        return command.words, ()
    text = command.words[0]
    heredocs = one.line.heredocs
    if not heredocs:
        return wrap_shell(now.config, text), ()
    if parse_heredoc(text) is None:
        # The shell understands heredocs itself: give them back to it.
        whole = "".join([text, *(f"\n{file.content}{file.name}" for file in heredocs)])
        return wrap_shell(now.config, whole), ()
    body = heredocs[0].body
    if not body.startswith("#!"):
        return wrap_shell(now.config, body), ()
    name = heredocs[0].name
    if "/" in name or name in (".", ".."):
        raise Problem(f"the heredoc name {name!r} cannot be a file name", code="invalid-heredoc")
    return wrap_shell(now.config, PIPES + name), (InlineFile(name=name, content=body),)


def _read_mount(now: Evaluation, one: CommandInstruction, flag: Flag) -> RunMount:
    try:
        pairs = {
            key: value if key == "from" else now.expand(one, value, flag.offset).text
            for key, value in split_mount(flag.value or "").items()
        }
        directory = now.config.get("WorkingDir") or "/"
        return read_mount(
            pairs,
            one.line.locate(flag.offset),
            directory,
            lambda name: now.plan.resolve_origin(name, now.stage.index),
        )
    except Problem as problem:
        raise problem.at(flag.offset) from None


def _list_proxies(args: Mapping[str, str]) -> dict[str, str]:
    """The predefined proxy arguments that were given, in both cases, as programs look for either."""
    result: dict[str, str] = {}
    for name, value in sorted(args.items()):
        if name.upper() in PROXIES:
            result[name.upper()] = result[name.lower()] = value
    return result


def _summarize(content: str) -> str:
    lines = content.strip().splitlines() or [""]
    return lines[0] + ("..." if len(lines) > 1 else "")
