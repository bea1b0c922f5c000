"""COPY and ADD: first what a step would bring (`plan_copy`), then, if the cache does not have it, the copy itself.

The rules are the Dockerfile reference's, and where it is silent those of its usual builder: the contents of a source
directory are merged into the destination, a linked source is followed, missing directories come with mode 0755 (or an
octal ``--chmod``) and the owner of ``--chown``, a file does not replace a directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.performing.ownership import ModeChange, is_numeric, resolve_owner
from orchestrator.engines.native.dockerfile.performing.placing import Copier
from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.engines.native.dockerfile.sources.selecting import Selection, select_sources
from orchestrator.engines.native.dockerfile.sources.views import View, describe_entry, digest_tree

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep
    from orchestrator.engines.native.dockerfile.performing.adding import Fetched
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite, SourceRoot


class CopyPlan:
    """What a step would copy. `digest` (hex) is the content key: it decides, with the layers below, what comes out.

    With ``--link`` the digest decides alone, unless `needs_users` (``--chown`` has names that the stage resolves).
    """

    def __init__(
        self,
        step: CopyStep,
        site: BuildSite,
        source: SourceRoot | None,
        fetched: tuple[Fetched, ...],
    ) -> None:
        self.step = step
        self.site = site
        self._digest = ""
        self._source = source
        self._view: View | None = None
        self._fetched = fetched
        self._local: dict[str, list[Selection]] = {}
        self._selections: list[Selection] | None = None

    @property
    def digest(self) -> str:
        """Computed when it is first asked for. Raises CopyError."""
        if not self._digest:
            parts = [_describe_step(self.step), *(f"remote {one.digest}" for one in self._fetched)]
            parts += [f"inline {one.name} {_hash_text(one.content)}" for one in self.step.inline]
            if len(self._fetched) < len(self.step.sources):
                parts.append(_digest_local(self, self._source, self.site))
            self._digest = _hash_text("\0".join(parts))
        return self._digest

    def check_unchanged(self) -> None:
        """Raise CopyError if the files are no longer those of `digest`: what was copied must not go by that name.

        Nothing to check for layers and commits, which do not change, or when nobody has asked for the digest.
        """
        if not self._digest or self._source is None or self._source.identity:
            return
        if CopyPlan(self.step, self.site, self._source, self._fetched).digest != self._digest:
            raise CopyError(
                f"files of {self._source.name} changed while they were copied",
                location=self.step.location,
                code="context-changed",
                hint="build again; what writes there all the time can be left out in .dockerignore",
            )

    @property
    def needs_users(self) -> bool:
        """Whether the result depends on the stage's /etc/passwd or /etc/group."""
        return self.step.chown is not None and not is_numeric(self.step.chown)

    @property
    def selections(self) -> list[Selection]:
        """What the sources mean, in their order. Raises CopyError the first time it is asked for."""
        if self._selections is None:
            fetched = {one.source: one for one in self._fetched}
            found: list[Selection] = []
            for pattern in self.step.sources:
                if pattern in fetched:
                    found.append(fetched[pattern].select(self.step))
                else:
                    found += self._select(pattern)
            self._selections = found
        return self._selections

    def iterate_local(self) -> Iterator[Selection]:
        """What the sources in the origin's tree mean. Raises CopyError."""
        fetched = {one.source for one in self._fetched}
        for pattern in self.step.sources:
            if pattern not in fetched:
                yield from self._select(pattern)

    def _select(self, pattern: str) -> list[Selection]:
        if pattern in self._local:
            return self._local[pattern]
        if self._source is None:
            raise CopyError(
                f'"{pattern}": not found: the build has no context',
                location=self.step.location,
                code="copy-source-missing",
                hint="give the build a directory, or copy from another stage or image (--from)",
            )
        if self._view is None:
            self._view = View(self._source.path, rules=self._source.ignore, own=self._source.own)
        found = self._local[pattern] = select_sources(self.step, self._source, self._view, (pattern,))
        return found


def plan_copy(step: CopyStep, source: SourceRoot | None, site: BuildSite) -> CopyPlan:
    """Find out what a step would bring; nothing is copied, and local files are looked at when the plan is asked.

    `source` is what ``step.origin`` means; None for a step without one (heredocs, URLs and git references alone), or
    when a build has no context. URLs and git references are fetched, or revalidated, here. If ``source.identity`` is
    set and was seen before, ``source.path`` is not asked for.

    Raises CopyError with the place of the step.
    """
    if step.chmod is not None:
        ModeChange(step.chmod, step.location)
    fetched: tuple[Fetched, ...] = ()
    if step.instruction == "ADD":
        from orchestrator.engines.native.dockerfile.front.values import is_remote
        from orchestrator.engines.native.dockerfile.performing.adding import fetch_source

        fetched = tuple(fetch_source(one, step, site) for one in step.sources if is_remote(one))
    return CopyPlan(step, site, source, fetched)


def _hash_text(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _describe_step(step: CopyStep) -> str:
    return repr((step.destination, step.directory, step.chown, step.chmod, step.instruction == "ADD", step.unpack))


def identify_content(identity: str, step: CopyStep) -> bytes:
    """What the digest of all that a step takes from a tree is remembered by; `identity` is the tree's."""
    key = (identity, step.sources, step.exclude, step.parents)
    return sha256(repr(key).encode("utf-8", "surrogateescape")).digest()


def _digest_local(plan: CopyPlan, source: SourceRoot | None, site: BuildSite) -> str:
    """The digest over everything that is taken from the origin's tree."""
    identity = b""
    if source is not None and source.identity:
        identity = identify_content(source.identity, plan.step)
        if (known := site.hashes.recall(identity)) is not None:
            return known.hex()
    digest = sha256()
    for selection in plan.iterate_local():
        for line in describe_selection(selection, site):
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    if identity:
        site.hashes.note(identity, digest.digest())
    return digest.hexdigest()


def describe_selection(selection: Selection, site: BuildSite) -> list[str]:
    """Lines that say all of a selection that a copy of it brings."""
    view = selection.view
    table = site.open_table(view.root)
    if selection.directory:
        lines = digest_tree(view, selection.path, selection.chosen, table, site.check_cancel)
        return [f"directory {len(lines)}", *lines]
    return [f"file {selection.name}", describe_entry(view, selection.path, view.lstat(selection.path), table)]


def perform_copy(
    plan: CopyPlan, root: Path, *, link: bool = False, users: Path | None = None, epoch: int | None = None
) -> None:
    """Copy into the file system of a stage, mounted at `root`.

    With `link` `root` is an empty directory that becomes a layer of its own: nothing of the stage below is looked at.
    Names of ``--chown`` are looked up below `users` (by default `root`; with `link` the stage's mounted file system
    should be given). Times later than `epoch` (seconds) are set to it.

    Raises CopyError with the place of the step, DiskFull, TransferCancelled.
    """
    step = plan.step
    owner = resolve_owner(step.chown, os.fspath(users or root), step.location) if step.chown is not None else None
    copier = Copier(step, plan.site, os.fspath(root), owner=owner, epoch=epoch)
    try:
        for selection in plan.selections:
            copier.copy(selection)
        for file in step.inline:
            copier.write_inline(file.name, file.content)
        copier.finish()
        plan.check_unchanged()
    except CopyError as error:
        if error.location is not None:
            raise
        raise CopyError(error.message, location=step.location, hint=error.hint, code=error.code) from error
    except OSError as error:
        raise _explain(error, step, root) from error


def _explain(error: OSError, step: CopyStep, root: Path) -> Exception:
    from orchestrator.engines.native.images.content import disk_error

    known = disk_error(error, root)
    if known is not error:
        return known
    name = str(error.filename or "").removeprefix(os.fspath(root))
    where = f" ({name})" if name else ""
    return CopyError(f"{step.instruction} failed: {error.strerror}{where}", location=step.location)
