"""COPY and ADD: sources, destination and flags with their variables expanded. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.front.configuration import join_working_dir
from orchestrator.engines.native.dockerfile.front.expansion import Style
from orchestrator.engines.native.dockerfile.front.problems import Problem
from orchestrator.engines.native.dockerfile.front.steps import CopyStep, InlineFile, Origin
from orchestrator.engines.native.dockerfile.front.values import check_mode, is_remote
from orchestrator.source import Location

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.evaluate import Evaluation
    from orchestrator.engines.native.dockerfile.front.instructions import CopyInstruction
    from orchestrator.engines.native.dockerfile.front.lexer import Heredoc

_DIGEST = r"sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})"
_COMMIT = r"[0-9a-f]{1,64}"
_HEREDOC_STYLE = Style(plain_quotes=True)


def plan_copy(now: Evaluation, one: CopyInstruction) -> CopyStep:
    """The step of a COPY or ADD instruction. Raises Problem."""
    flags = {name: _expand_flag(now, one, name) for name in ("chown", "chmod", "checksum")}
    if flags["chmod"]:
        _at_flag(now, one, "chmod", lambda: check_mode(flags["chmod"] or ""))
    sources = [now.expand(one, word.text, word.offset).text for word in one.sources]
    written = now.expand(one, one.destination.text, one.destination.offset).text
    _check_sources(now, one, sources, flags["checksum"])
    inline = tuple(
        InlineFile(name=source.heredoc.name, content=_expand_heredoc(now, one, source.heredoc)) for source in one.inline
    )
    excluded = tuple(
        now.expand(one, flag.value or "", flag.offset + len("--exclude=")).text
        for flag in one.flags
        if flag.name == "exclude"
    )
    origin_name = one.flag("from") or ""
    origin = now.plan.resolve_origin(origin_name, now.stage.index) if origin_name else Origin()
    shown = [one.keyword, *(["--parents"] if _is_set(one, "parents") else [])]
    shown += [f"--{name}={flags[name]}" for name in ("chown", "chmod") if flags[name]]
    shown += [*sources, *(f"<<{file.name}" for file in inline), written]
    return CopyStep(
        **now.common(one, " ".join(shown) + " # buildkit"),
        instruction="COPY" if one.keyword == "COPY" else "ADD",
        sources=tuple(sources),
        destination=join_working_dir(now.config.get("WorkingDir") or "/", written),
        directory=written in ("", ".") or written.endswith(("/", "/.")),
        origin=origin,
        inline=inline,
        chown=flags["chown"] or None,
        chmod=flags["chmod"] or None,
        link=_is_set(one, "link"),
        parents=_is_set(one, "parents"),
        exclude=excluded,
        checksum=flags["checksum"] or None,
        keep_git_dir=_is_set(one, "keep-git-dir"),
        unpack=_read_unpack(one),
    )


def _read_unpack(one: CopyInstruction) -> bool | None:
    if one.keyword == "COPY":
        return False
    return _is_set(one, "unpack") if any(flag.name == "unpack" for flag in one.flags) else None


def _is_set(one: CopyInstruction, name: str) -> bool:
    return any(flag.name == name and (flag.value or "true").lower() == "true" for flag in one.flags)


def _expand_flag(now: Evaluation, one: CopyInstruction, name: str) -> str | None:
    value = one.flag(name)
    return None if value is None else now.expand(one, value, now.locate_flag(one, name)).text


def _at_flag(now: Evaluation, one: CopyInstruction, name: str, check: Callable[[], Any]) -> None:
    try:
        check()
    except Problem as problem:
        raise problem.at(now.locate_flag(one, name)) from None


def _expand_heredoc(now: Evaluation, one: CopyInstruction, heredoc: Heredoc) -> str:
    content = heredoc.body
    if not heredoc.expand:
        return content
    begin = max(one.text.find("<<"), 0)
    try:
        return now.expand(one, content, begin, _HEREDOC_STYLE).text
    except Problem as problem:
        before = content[: (problem.offset or begin) - begin]
        if one.line.origin is None:
            column = len(before) - before.rfind("\n")
            problem.place = Location(one.line.file, heredoc.line + before.count("\n"), column)
        raise


def _check_sources(now: Evaluation, one: CopyInstruction, sources: list[str], checksum: str | None) -> None:
    for word, source in zip(one.sources, sources, strict=True):
        if one.keyword == "COPY" and is_remote(source):
            raise Problem(f"COPY cannot fetch {source}", offset=word.offset, code="remote-source", hint="use ADD")
    if checksum is None:
        return
    offset = now.locate_flag(one, "checksum")
    if len(sources) != 1 or one.inline:
        raise Problem("--checksum needs exactly one source", offset=offset, code="invalid-checksum")
    if not is_remote(sources[0]):
        raise Problem("--checksum needs a URL or a git reference as the source", offset=offset, code="invalid-checksum")
    if not re.fullmatch(_DIGEST, checksum) and not re.fullmatch(_COMMIT, checksum):
        hint = "for example sha256: and 64 hexadecimal digits"
        raise Problem(f"{checksum!r} is not a digest", offset=offset, code="invalid-checksum", hint=hint)
