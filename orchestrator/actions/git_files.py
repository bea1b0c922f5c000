"""Stack files that stand in a Git repository: one commit becomes a folder, and is loaded from there.

References are those of builds: ``https://host/repository.git#ref:folder``, ``git@host:path``, ``ssh://``, ``git://``
and ``file://`` addresses, and ``github.com/owner/repository``. What follows the colon is a folder with a stack file, or
a stack file. A branch or tag is looked up each time; a commit that is known already needs no network.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from orchestrator.engines.native.dockerfile.sources.failures import ContextError
from orchestrator.engines.native.dockerfile.sources.site import BuildSite
from orchestrator.errors import FileMissing

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engines.native.dockerfile.sources.git import Commit, GitReference

TIME_TO_ASK: float = 60
TIME_TO_FETCH: float = 600
"""Seconds after which a server that does not answer is given up."""

_SWITCH: Final = "COMPOSE_EXPERIMENTAL_GIT_REMOTE"


class GitStackMissing(FileMissing):
    """A repository, or what is meant in it, cannot be had; `code` says why, as it does for build contexts."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        if code:
            self.code = code


class _TimeOut(Exception):
    """Git takes too long."""


class _Site(BuildSite):
    """Where git works, until its time is over."""

    deadline = 0.0

    def check_cancel(self) -> None:
        if time.monotonic() > self.deadline:
            raise _TimeOut


def fetch_repository(name: str, folder: Path) -> tuple[str, str, bool]:
    """Bring the stack file that `name` means to be below `folder`.

    Returns its path, the repository's address, and whether `name` names a commit, which never means anything else.
    Raises GitStackMissing for everything that can go wrong.
    """
    from orchestrator.addresses import hide_password
    from orchestrator.engines.native.dockerfile.sources.git import parse_git_reference

    if os.environ.get(_SWITCH, "").lower() in ("0", "f", "false"):
        raise GitStackMissing(f"stacks from repositories are switched off by {_SWITCH}", code="git-disabled")
    try:
        reference = parse_git_reference(name)
        if reference is None:
            raise GitStackMissing(
                f"{hide_password(name)} is not a local file, and no repository",
                hint="a repository's address ends in .git: https://host/name.git#branch:folder; or give oci://...",
            )
        found, tree = _bring(reference, folder)
    except ContextError as error:
        hint = "install the package 'git', or name a local file" if error.code == "git-missing" else error.hint
        raise GitStackMissing(_shorten(error.message), hint=hint, code=error.code) from error
    return _find_file(tree, reference), hide_password(reference.remote), found.commit == reference.ref


def _shorten(message: str) -> str:
    """What git said, without what it says each time."""
    first, *rest = message.splitlines()
    told = [line for line in rest if not line.startswith(("Warning: ", "fatal: ", "Please ", "and the repository "))]
    return "; ".join([first, *told])


def _bring(reference: GitReference, folder: Path) -> tuple[Commit, str]:
    """Return the commit that is meant and the folder of its files."""
    from tempfile import TemporaryDirectory

    from orchestrator.addresses import hide_password
    from orchestrator.engines.native.dockerfile.sources.git import check_out, resolve_commit

    # Submodules are fetched when asked for, unlike those of a build context.
    whole = reference.replace(subdir="", submodules=bool(reference.submodules))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".fresh-", dir=folder) as fresh:
        site = _Site(folder / fresh, folder)
        allowed = site.deadline = TIME_TO_ASK
        try:
            site.deadline += time.monotonic()
            found = resolve_commit(whole, site)
            tree = folder / _name_checkout(whole, found.commit) / _name_repository(whole.remote)
            if not tree.is_dir():
                allowed = TIME_TO_FETCH
                site.deadline = time.monotonic() + allowed
                made = check_out(found, site, keep_git_dir=reference.keep_git_dir is not False)
                tree.parent.mkdir(mode=0o700, exist_ok=True)
                _move(made, tree)
        except _TimeOut:
            raise GitStackMissing(
                f"{hide_password(reference.remote)} has not answered for {allowed:g} seconds",
                hint="check the network; a whole commit after # that was fetched before needs none",
                code="git-timeout",
            ) from None
    return found, str(tree)


def _name_checkout(reference: GitReference, commit: str) -> str:
    from hashlib import sha256

    from orchestrator.addresses import take_login

    # Two repositories may share a commit, and yet be two stacks to those who run them.
    rest = repr((take_login(reference.remote)[0], reference.submodules, reference.keep_git_dir is not False))
    return f"git-{commit}-{sha256(rest.encode()).hexdigest()[:8]}"


def _name_repository(remote: str) -> str:
    """What the project is called after: the last part of the address."""
    name = remote.rstrip("/").replace(":", "/").rpartition("/")[2].removesuffix(".git")
    return name if name not in ("", ".", "..") else "repository"


def _move(made: Path, tree: Path) -> None:
    try:
        os.rename(made, tree)
    except OSError:
        # Somebody else has brought the same commit meanwhile.
        if not tree.is_dir():
            raise


def _find_file(tree: str, reference: GitReference) -> str:
    from orchestrator.addresses import hide_password
    from orchestrator.spec.reader import DiskReader

    place = os.path.join(tree, reference.subdir)
    remote = hide_password(reference.remote)
    # A link in the repository must not lead to a file of this machine.
    if not _is_within(place, tree):
        raise GitStackMissing(
            f"{reference.subdir!r} leads out of the repository {remote}", code="invalid-git-reference"
        )
    found: str | None = place
    if os.path.isdir(place):
        found = DiskReader().find_stack_file(place)
    if found is None or not os.path.isfile(found):
        what = f"nothing at {reference.subdir!r}" if found else f"no stack file in {reference.subdir or 'its root'}"
        raise GitStackMissing(
            f"the repository {remote} has {what}",
            hint="name the folder, or the file, after the colon: repository.git#ref:folder",
            code="git-folder-missing",
        )
    if not _is_within(found, tree):
        raise GitStackMissing(
            f"{os.path.relpath(found, tree)} leads out of the repository {remote}", code="invalid-git-reference"
        )
    return found


def _is_within(path: str, folder: str) -> bool:
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(f"{root}/")
