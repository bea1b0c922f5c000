"""What the sources of COPY and ADD mean: each pattern becomes the files and directories that it names."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.engines.native.dockerfile.sources.matching import (
    PathPatterns,
    compile_match,
    has_wildcard,
    split_wildcard,
)
from orchestrator.engines.native.dockerfile.sources.views import Chosen, View, iterate_wildcard
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep
    from orchestrator.engines.native.dockerfile.sources.site import SourceRoot

_NEAR = 3  # names that a hint offers


class Selection(Record):
    """One thing to copy.

    `path` is resolved below the view's root; `name` is what it is called in a destination directory. Of a directory
    the contents are copied, as far as they are `chosen`. `unpack` puts an archive's members into the destination
    instead. `mode` and `mtime_ns` replace what the file has here.
    """

    view: View
    path: str
    name: str
    directory: bool
    chosen: Chosen = Chosen()
    unpack: bool = False
    mode: int | None = None
    mtime_ns: int | None = None
    label: str = ""
    """As the Dockerfile calls it, for messages."""


def select_sources(step: CopyStep, source: SourceRoot, view: View, patterns: tuple[str, ...]) -> list[Selection]:
    """What `patterns` name in `view`, in their order. Raises CopyError with the place of the step."""
    exclude = _compile(step, step.exclude) if step.exclude else None
    found: list[Selection] = []
    for pattern in patterns:
        try:
            if step.parents:
                found += _select_with_parents(step, source, view, pattern, exclude)
            else:
                found += _select(step, source, view, pattern, exclude)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise _explain_missing(step, source, view, pattern) from error
            raise CopyError(
                f"{pattern!r} cannot be read from {source.name}: {error.strerror}", location=step.location
            ) from error
    return found


def _compile(step: CopyStep, patterns: tuple[str, ...]) -> PathPatterns:
    try:
        return PathPatterns(patterns)
    except ValueError as error:
        raise CopyError(f"malformed pattern {str(error)!r}", location=step.location) from None


def _select(
    step: CopyStep, source: SourceRoot, view: View, pattern: str, exclude: PathPatterns | None
) -> list[Selection]:
    base, rest = split_wildcard(_clean(pattern))
    if not rest:
        paths = [base]
    else:
        rules = [compile_match(part) for part in rest.split("/")]
        sound = [rule for rule in rules if rule is not None]
        if len(sound) != len(rules):
            raise CopyError(f"malformed pattern {pattern!r}", location=step.location)
        paths = list(iterate_wildcard(view, view.resolve(base), sound))
    selections = []
    for path in paths:
        selection = _select_path(view, path, Chosen(exclude=exclude), label=pattern)
        # A file that is named is meant; one that a wildcard brought in may be among those to leave out.
        if rest and exclude is not None and not selection.directory:
            inner = path.removeprefix(f"{base}/") if base else path
            if exclude.matches(path) or exclude.matches(inner):
                continue
        unpack = step.instruction == "ADD" and step.unpack is not False
        selections.append(selection.replace(unpack=unpack))
    return selections


def _select_path(view: View, path: str, chosen: Chosen, *, label: str) -> Selection:
    resolved = view.resolve(path)
    status = view.lstat(resolved)
    return Selection(
        view=view,
        path=resolved,
        name=path.rpartition("/")[2],
        directory=stat.S_ISDIR(status.st_mode),
        chosen=chosen,
        label=label,
    )


def _select_with_parents(
    step: CopyStep, source: SourceRoot, view: View, pattern: str, exclude: PathPatterns | None
) -> list[Selection]:
    """``--parents``: the path from the root, or from the ``/./`` in the pattern, is made in the destination as well."""
    before, pivot, after = pattern.partition("/./")
    base, rest = (_clean(before), _clean(after)) if pivot else ("", _clean(pattern))
    if not has_wildcard(base) and not has_wildcard(rest):
        _check_path(step, view, base, rest)
    start, wild = split_wildcard(base)
    if wild:
        rules = [rule for rule in map(compile_match, wild.split("/")) if rule is not None]
        tops = list(iterate_wildcard(view, view.resolve(start), rules)) if len(rules) == wild.count("/") + 1 else []
    else:
        tops = [start]
    include = _compile(step, (rest,)) if rest else None
    return [_select_path(view, top, Chosen(include, exclude), label=pattern) for top in tops]


def _check_path(step: CopyStep, view: View, base: str, rest: str) -> None:
    """The path is there, and its directories are directories: they are to be made in the destination as they are."""
    view.resolve(f"{base}/{rest}")
    above = rest.rpartition("/")[0]
    if view.resolve(f"{base}/{above}") != _clean(f"{view.resolve(base)}/{above}"):
        raise CopyError(
            f'"/{_clean(f"{base}/{rest}")}" leads through a symbolic link, which --parents does not follow',
            location=step.location,
            code="copy-through-link",
            hint="name the path that the link leads to",
        )


def _clean(path: str) -> str:
    """Go's ``filepath.Join("/", path)``, without the slash at the beginning."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/".join(kept)


def _explain_missing(step: CopyStep, source: SourceRoot, view: View, pattern: str) -> CopyError:
    """Why there is no such file: outside, ignored, misspelled, or simply not there."""
    name = pattern.rstrip("/") or "/"
    if _leads_outside(pattern):
        return CopyError(
            f'"{name}" is outside of {source.name}',
            location=step.location,
            code="copy-outside-context",
            hint=f"{step.instruction} reaches only what is in it: copy the file there, choose a wider context, or add "
            "another one (additional_contexts) and use --from",
        )
    path = _clean(pattern)
    if source.ignore is not None:
        bare = View(view.root, own=view.own)
        try:
            bare.lstat(bare.resolve(path))
        except OSError:
            pass
        else:
            return CopyError(
                f'"/{path}": not found in {source.name}: {source.ignore_name or ".dockerignore"} excludes it',
                location=step.location,
                code="copy-source-ignored",
                hint=f'add the line "!{path}" at the end of {source.ignore_name or ".dockerignore"}, or take out the '
                "one that excludes it",
            )
    return CopyError(
        f'"/{path}": not found in {source.name}',
        location=step.location,
        code="copy-source-missing",
        hint=_suggest(view, path),
    )


def _leads_outside(path: str) -> bool:
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False


def _suggest(view: View, path: str) -> str:
    """The nearest name in the deepest directory of the path that exists; a broken link says where it leads."""
    from difflib import get_close_matches

    parts = path.split("/")
    for count in range(len(parts)):
        parent = "/".join(parts[:count])
        try:
            resolved = view.resolve(parent)
            names = [entry.name for entry in view.scan(resolved)]
        except OSError:
            break
        wanted = parts[count]
        if wanted in names:
            full = view.full(f"{resolved}/{wanted}" if resolved else wanted)
            if os.path.islink(full):
                return f"{'/'.join(parts[: count + 1])} is a symbolic link to {os.readlink(full)}, which is not there"
            continue
        folded = {re.sub(r"[\s_-]", "", name.casefold()): name for name in names}
        near = get_close_matches(re.sub(r"[\s_-]", "", wanted.casefold()), folded, n=_NEAR, cutoff=0.6)
        prefix = f"{parent}/" if parent else ""
        return f"did you mean {' or '.join(prefix + folded[one] for one in near)}?" if near else ""
    return ""
