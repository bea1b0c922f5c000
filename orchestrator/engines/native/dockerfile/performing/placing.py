"""Selections into the file system of a stage: what they are called there, and which directories they need."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.performing.ownership import ModeChange
from orchestrator.engines.native.dockerfile.performing.transfer import Attributes, Folder, Transfer
from orchestrator.engines.native.dockerfile.sources.archives import is_archive, unpack_archive
from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.engines.native.dockerfile.sources.views import Chosen, View, resolve_in_root

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep
    from orchestrator.engines.native.dockerfile.sources.selecting import Selection
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite

_INLINE_MODE = 0o644


class Copier:
    """The destination of one step."""

    def __init__(
        self, step: CopyStep, site: BuildSite, root: str, *, owner: tuple[int, int] | None, epoch: int | None
    ) -> None:
        """`root` is the mounted file system; `owner` (uid, gid) replaces everybody's; `epoch` is in seconds."""
        self._step = step
        self._site = site
        self._root = root
        self._view = View(root)
        self._owner = owner
        self._mode = ModeChange(step.chmod, step.location) if step.chmod is not None else None
        self._time = None if epoch is None else epoch * 10**9
        self._written: set[str] = set()
        self._made: list[str] = []

    def finish(self) -> None:
        """Give directories that had to be made their time, now that nothing is put into them any more."""
        if self._time is None:
            return
        for path in self._made:
            with _entered(self._view, path) as descriptor:
                time = min(self._time, os.fstat(descriptor).st_mtime_ns)
                os.utime(descriptor, ns=(time, time))

    def copy(self, selection: Selection) -> None:
        """One selection to where it belongs."""
        if selection.unpack and not selection.directory and is_archive(selection):
            self._unpack(selection)
            return
        if selection.directory:
            transfer = self._start_transfer(self._attributes(selection))
            self._merge(selection, self._resolve(self._step.destination), transfer)
        else:
            self._copy_file(selection)

    def write_inline(self, name: str, content: str) -> None:
        """The body of a heredoc."""
        path, _ = self._place_file(name, None)
        parent, _, base = path.rpartition("/")
        transfer = self._start_transfer(Attributes(owner=self._owner, mode=self._mode, latest_ns=self._time))
        data = content.encode("utf-8", "surrogateescape")
        with _entered(self._view, parent) as target:
            transfer.write_file(data, _INLINE_MODE, target, base, f"/{parent}" if parent else "")

    def _start_transfer(self, attributes: Attributes, *, replace: bool = False) -> Transfer:
        return Transfer(self._view, attributes, self._site.check_cancel, replace=replace)

    # -- directories -------------------------------------------------------------------------------------------------

    def _merge(self, selection: Selection, path: str, transfer: Transfer) -> None:
        """The contents of a directory into the directory at `path` (resolved), which is made if it is not there."""
        made = self._make_directories(path, conflict="cannot copy a directory to") or path in self._made
        with _entered(self._view, path) as descriptor:
            before = os.fstat(descriptor)
            folder = Folder(None, "", descriptor=descriptor, shown=f"/{path}" if path else "")
            transfer.copy_contents(selection.view, selection.path, folder, selection.chosen)
            times = selection.view.lstat(selection.path) if made else before
            # Of a directory that was there only the contents change: the same inputs give the same layer.
            os.utime(descriptor, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _unpack(self, selection: Selection) -> None:
        mode, self._mode = self._mode, None  # an archive says itself what its members and their directories are
        try:
            path = self._resolve(self._step.destination)
            self._make_directories(path, conflict="cannot unpack into")
            if self._owner is None and self._time is None and not os.listdir(self._view.full(path)):
                self._unpack_in_place(selection, path)
            else:
                self._unpack_beside(selection, path)
        finally:
            self._mode = mode

    def _unpack_in_place(self, selection: Selection, path: str) -> None:
        """Into an empty directory, where nothing can be in the way and no link can lead astray."""
        with _entered(self._view, path) as descriptor:
            before = os.fstat(descriptor)
            unpack_archive(selection, self._step, self._site, Path(self._view.full(path)))
            # The archive may have an entry for its root: that is not this directory's.
            os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))

    def _unpack_beside(self, selection: Selection, path: str) -> None:
        """Into a folder of the workspace, and from there over what the stage has."""
        folder = self._site.make_folder("archive")
        unpacked = unpack_archive(selection, self._step, self._site, folder)
        implicit = frozenset(unpacked.implicit)
        chosen = _WithoutImplicit(implicit)
        members = selection.replace(view=View(folder), path="", directory=True, chosen=chosen)
        transfer = self._start_transfer(Attributes(owner=self._owner, latest_ns=self._time), replace=True)
        self._merge(members, path, transfer)
        owner, self._owner = self._owner, None
        for name in sorted(implicit):
            # The archive has files below it, but says nothing of the directory itself: one that is there stays as it
            # is, and a link to one is followed, within the stage. A new one is root's: --chown is for what comes.
            inner = members.replace(path=name, chosen=chosen.below(name))
            self._merge(inner, self._resolve(f"{path}/{name}"), transfer)
        self._owner = owner

    def _attributes(self, selection: Selection) -> Attributes:
        mode = self._mode
        if mode is None and selection.mode is not None:
            mode = ModeChange(f"{selection.mode:o}")
        return Attributes(owner=self._owner, mode=mode, mtime_ns=selection.mtime_ns, latest_ns=self._time)

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
        mode = self._mode.directory_mode if self._mode is not None else 0o755
        with _entered(self._view, parent) as above:
            os.mkdir(name, mode, dir_fd=above)
            os.chmod(name, mode, dir_fd=above)  # whatever the umask
            if self._owner is not None:
                os.chown(name, *self._owner, dir_fd=above)
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
        view, shown = selection.view, f"/{parent}" if parent else ""
        transfer = self._start_transfer(self._attributes(selection))
        regular = stat.S_ISREG(view.lstat(selection.path).st_mode)
        with _entered(view, origin) as source, _entered(self._view, parent) as target:
            transfer.copy_entry(view, source, name, target, base, shown, regular=regular)

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
        try:
            return resolve_in_root(self._root, path, missing_ok=True)
        except NotADirectoryError as error:
            raise CopyError(
                f"cannot copy to {self._step.destination}: /{error.filename} is not a directory",
                code="copy-conflict",
                hint="remove it in an earlier step, or choose another destination",
            ) from error


@contextmanager
def _entered(view: View, path: str) -> Iterator[int]:
    """An open directory of a view."""
    descriptor = view.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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
