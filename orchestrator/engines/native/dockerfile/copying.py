"""COPY and ADD: first what a step would bring (`plan_copy`), then, if the cache does not have it, the copy itself.

The rules are the Dockerfile reference's, and where it is silent those of its usual builder: the contents of a source
directory are merged into the destination, a linked source is followed, missing directories come with mode 0755 and the
owner of ``--chown``, a file does not replace a directory.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.failures import CopyError
from orchestrator.engines.native.dockerfile.ownership import ModeChange, is_numeric, resolve_owner
from orchestrator.engines.native.dockerfile.selecting import Selection, select_sources
from orchestrator.engines.native.dockerfile.transfer import Attributes, Folder, Transfer
from orchestrator.engines.native.dockerfile.views import Chosen, View, describe_entry, digest_tree

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.adding import Fetched
    from orchestrator.engines.native.dockerfile.site import BuildSite, SourceRoot
    from orchestrator.engines.native.dockerfile.steps import CopyStep

_INLINE_MODE = 0o644


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
        self.digest = ""
        self._source = source
        self._view: View | None = None
        self._fetched = fetched
        self._selections: list[Selection] | None = None

    @property
    def needs_users(self) -> bool:
        """Whether the result depends on the stage's /etc/passwd or /etc/group."""
        return self.step.chown is not None and not is_numeric(self.step.chown)

    @property
    def selections(self) -> list[Selection]:
        """What the sources mean, in their order. Raises CopyError the first time it is asked for."""
        if self._selections is None:
            self._selections = self._select()
        return self._selections

    def _select(self) -> list[Selection]:
        fetched = {one.source: one for one in self._fetched}
        found: list[Selection] = []
        for pattern in self.step.sources:
            if pattern in fetched:
                found.append(fetched[pattern].select(self.step))
                continue
            if self._source is None:
                raise CopyError(
                    f'"{pattern}": not found: the build has no context',
                    location=self.step.location,
                    code="copy-source-missing",
                    hint="give the build a directory, or copy from another stage or image (--from)",
                )
            if self._view is None:
                self._view = View(self._source.path, rules=self._source.ignore, own=self._source.own)
            found += select_sources(self.step, self._source, self._view, (pattern,))
        return found


def plan_copy(step: CopyStep, source: SourceRoot | None, site: BuildSite) -> CopyPlan:
    """Resolve the sources of a step and compute its content key; nothing is copied.

    `source` is what ``step.origin`` means; None for a step without one (heredocs, URLs and git references alone), or
    when a build has no context. URLs and git references are fetched, or revalidated, here. If ``source.identity`` is
    set and was seen before, ``source.path`` is not asked for.

    Raises CopyError with the place of the step.
    """
    from orchestrator.engines.native.dockerfile.adding import fetch_source, is_remote

    if step.chmod is not None:
        ModeChange(step.chmod, step.location)
    remote = [one for one in step.sources if step.instruction == "ADD" and is_remote(one)]
    fetched = tuple(fetch_source(one, step, site) for one in remote)
    plan = CopyPlan(step, site, source, fetched)
    parts = [_describe_step(step), *(f"remote {one.digest}" for one in fetched)]
    parts += [f"inline {one.name} {sha256(one.content.encode()).hexdigest()}" for one in step.inline]
    if len(remote) < len(step.sources):
        parts.append(_digest_local(plan, source, site))
    plan.digest = sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return plan


def _describe_step(step: CopyStep) -> str:
    return repr((step.destination, step.directory, step.chown, step.chmod, step.instruction == "ADD", step.unpack))


def _digest_local(plan: CopyPlan, source: SourceRoot | None, site: BuildSite) -> str:
    """The digest over everything that is taken from the origin's tree."""
    identity = b""
    if source is not None and source.identity:
        key = (source.identity, plan.step.sources, plan.step.exclude, plan.step.parents)
        identity = sha256(repr(key).encode("utf-8", "surrogateescape")).digest()
        if (known := site.hashes.recall(identity)) is not None:
            return known.hex()
    digest = sha256()
    for selection in plan.selections:
        for line in describe_selection(selection, site):
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    if identity:
        site.hashes.note(identity, digest.digest())
    return digest.hexdigest()


def describe_selection(selection: Selection, site: BuildSite) -> list[str]:
    """Lines that say all of a selection that a copy of it brings."""
    view = selection.view
    table = site.hashes.open_table(view.root)
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
    should be given). `epoch` (seconds) becomes the time of everything that is copied.

    Raises CopyError with the place of the step, DiskFull, TransferCancelled.
    """
    step = plan.step
    owner = resolve_owner(step.chown, os.fspath(users or root), step.location) if step.chown is not None else None
    copier = _Copier(plan, os.fspath(root), owner, epoch)
    try:
        for selection in plan.selections:
            copier.copy(selection)
        for file in step.inline:
            copier.write_inline(file.name, file.content)
        copier.finish()
    except CopyError as error:
        if error.location is not None:
            raise
        raise CopyError(error.message, location=step.location, hint=error.hint, code=error.code) from error
    except OSError as error:
        raise _explain(error, step, root) from error
    finally:
        copier.close()


def _explain(error: OSError, step: CopyStep, root: Path) -> Exception:
    from orchestrator.engines.native.images.content import disk_error

    known = disk_error(error, root)
    if known is not error:
        return known
    name = str(error.filename or "").removeprefix(os.fspath(root))
    where = f" ({name})" if name else ""
    return CopyError(f"{step.instruction} failed: {error.strerror}{where}", location=step.location)


class _Copier:
    """The destination of one step."""

    def __init__(self, plan: CopyPlan, root: str, owner: tuple[int, int] | None, epoch: int | None) -> None:
        self._step = plan.step
        self._site = plan.site
        self._root = root
        self._view = View(root)
        self._owner = owner
        self._mode = ModeChange(plan.step.chmod, plan.step.location) if plan.step.chmod is not None else None
        self._time = None if epoch is None else epoch * 10**9
        self._written: set[str] = set()
        self._made: list[str] = []
        self._open: list[int] = []

    def close(self) -> None:
        """Let go of what is open."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()

    def finish(self) -> None:
        """Give directories that had to be made their time, now that nothing is put into them any more."""
        if self._time is None:
            return
        for path in self._made:
            descriptor = self._view.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(descriptor, ns=(self._time, self._time))
            finally:
                os.close(descriptor)

    def copy(self, selection: Selection) -> None:
        """One selection to where it belongs."""
        if selection.unpack and not selection.directory:
            from orchestrator.engines.native.dockerfile.adding import is_archive

            if is_archive(selection):
                self._unpack(selection)
                return
        if selection.directory:
            self._merge(selection, self._prepare(), self._attributes(selection), replace=False)
        else:
            self._copy_file(selection)

    def write_inline(self, name: str, content: str) -> None:
        """The body of a heredoc."""
        path, _ = self._place_file(name, None)
        parent, _, base = path.rpartition("/")
        with_mode = Attributes(owner=self._owner, mode=self._mode, mtime_ns=self._time)
        transfer = Transfer(with_mode, self._site.check_cancel)
        data = content.encode("utf-8", "surrogateescape")
        transfer.write_file(data, _INLINE_MODE, self._enter(parent), base, f"/{parent}" if parent else "")

    # -- directories -------------------------------------------------------------------------------------------------

    def _merge(self, selection: Selection, path: str, attributes: Attributes, *, replace: bool) -> None:
        """The contents of a directory into the directory at `path` (resolved), which is made if it is not there."""
        made = self._make_directories(path, conflict="cannot copy a directory to")
        descriptor = self._enter(path)
        before = os.fstat(descriptor)
        transfer = Transfer(attributes, self._site.check_cancel, replace=replace)
        folder = Folder(None, "", descriptor=descriptor, shown=f"/{path}" if path else "")
        try:
            transfer.copy_contents(selection.view, selection.path, folder, selection.chosen)
        finally:
            transfer.close()
        times = selection.view.lstat(selection.path) if made else before
        # Of a directory that was there only the contents change: the same inputs give the same layer.
        os.utime(descriptor, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _unpack(self, selection: Selection) -> None:
        from orchestrator.engines.native.dockerfile.adding import unpack_archive

        unpacked = unpack_archive(selection, self._step, self._site)
        path = self._prepare()
        self._make_directories(path, conflict="cannot unpack into")
        for name in unpacked.implicit:
            # The archive has files below it, but says nothing of the directory itself: one that is there stays as it
            # is, and a link to one is followed, within the stage.
            self._make_directories(self._resolve(f"{path}/{name}"), conflict="cannot unpack into")
        members = selection.replace(view=View(unpacked.root), path="", directory=True, chosen=Chosen())
        self._merge_archive(members, path, frozenset(unpacked.implicit))

    def _merge_archive(self, members: Selection, path: str, implicit: frozenset[str]) -> None:
        attributes = Attributes(owner=self._owner)
        chosen = _WithoutImplicit(implicit)
        self._merge(members.replace(chosen=chosen), path, attributes, replace=True)
        for name in sorted(implicit):
            inner = members.replace(path=name, chosen=chosen.below(name))
            self._merge(inner, self._resolve(f"{path}/{name}"), attributes, replace=True)

    def _prepare(self) -> str:
        """Where the contents of a directory go."""
        return self._resolve(self._step.destination)

    def _attributes(self, selection: Selection) -> Attributes:
        mtime = selection.mtime_ns if self._time is None else self._time
        mode = self._mode
        if mode is None and selection.mode is not None:
            mode = ModeChange(f"{selection.mode:o}")
        return Attributes(owner=self._owner, mode=mode, mtime_ns=mtime)

    def _make_directories(self, path: str, *, conflict: str) -> bool:
        """Make a resolved path a directory, with all those above it. Whether it had to be made."""
        made = False
        parts = path.split("/") if path else []
        for count in range(1, len(parts) + 1):
            part = "/".join(parts[:count])
            try:
                if stat.S_ISDIR(self._view.lstat(part).st_mode):
                    continue
            except FileNotFoundError:
                self._make_directory("/".join(parts[: count - 1]), parts[count - 1])
                made = True
                continue
            raise CopyError(
                f"{conflict} /{path}: /{part} is not a directory",
                code="copy-conflict",
                hint="remove it in an earlier step, or choose another destination",
            )
        return made

    def _make_directory(self, parent: str, name: str) -> None:
        above = self._view.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.mkdir(name, 0o755, dir_fd=above)
            os.chmod(name, 0o755, dir_fd=above)  # whatever the umask
            if self._owner is not None:
                os.chown(name, *self._owner, dir_fd=above)
        finally:
            os.close(above)
        self._made.append(f"{parent}/{name}" if parent else name)

    # -- files -------------------------------------------------------------------------------------------------------

    def _copy_file(self, selection: Selection) -> None:
        path, inside = self._place_file(selection.name, selection)
        if path in self._written and not inside:
            raise CopyError(
                f"{selection.label!r} names several files, and the destination {self._step.destination} is one file",
                code="copy-needs-directory",
                hint=f"end the destination with a slash: {self._step.destination}/",
            )
        self._written.add(path)
        parent, _, base = path.rpartition("/")
        origin, _, name = selection.path.rpartition("/")
        source = selection.view.open(origin, os.O_RDONLY | os.O_DIRECTORY)
        try:
            transfer = Transfer(self._attributes(selection), self._site.check_cancel)
            regular = stat.S_ISREG(selection.view.lstat(selection.path).st_mode)
            shown = f"/{parent}" if parent else ""
            transfer.copy_entry(selection.view, source, name, self._enter(parent), base, shown, regular=regular)
            transfer.close()
        finally:
            os.close(source)

    def _place_file(self, name: str, selection: Selection | None) -> tuple[str, bool]:
        """The resolved path that a file gets, and whether that is inside the destination; its directory is made."""
        destination = self._step.destination
        if self._step.directory:
            self._make_directories(self._resolve(destination), conflict="cannot copy into")
        else:
            above = destination.rstrip("/").rpartition("/")[0]
            self._make_directories(self._resolve(above), conflict="cannot copy into")
        path = self._resolve(destination)
        inside = self._is_directory(path)
        if inside:
            if not name:
                label = selection.label if selection is not None else ""
                raise CopyError(f"{label!r} has no file name to use in {destination}", code="copy-needs-name")
            path = f"{path}/{name}" if path else name
        self._make_directories(path.rpartition("/")[0], conflict="cannot copy into")
        return path, inside

    def _is_directory(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self._view.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _resolve(self, path: str) -> str:
        from orchestrator.engines.native.dockerfile.views import resolve_in_root

        try:
            return resolve_in_root(self._root, path, missing_ok=True)
        except NotADirectoryError as error:
            raise CopyError(
                f"cannot copy to {self._step.destination}: /{error.filename} is not a directory",
                code="copy-conflict",
                hint="remove it in an earlier step, or choose another destination",
            ) from error

    def _enter(self, path: str) -> int:
        descriptor = self._view.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._open.append(descriptor)
        return descriptor


class _WithoutImplicit(Chosen):
    """The members of an archive, without the directories that it does not mention: those have a way of their own."""

    def __init__(self, implicit: frozenset[str], prefix: str = "") -> None:
        super().__init__()
        self.everything = not implicit
        self._implicit = implicit
        self._prefix = prefix

    def below(self, name: str) -> _WithoutImplicit:
        """The same for the contents of the directory `name`."""
        return _WithoutImplicit(self._implicit, f"{name}/")

    def judge(self, path: str, directory: bool) -> tuple[bool, bool]:
        """Whether `path` itself is meant, and whether it is worth looking into."""
        taken = f"{self._prefix}{path}" not in self._implicit
        return taken, taken and directory
