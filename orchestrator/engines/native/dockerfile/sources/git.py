"""Git repositories as sources: references as builders write them, and shallow checkouts of one commit."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from orchestrator.addresses import hide_password, take_login
from orchestrator.engines.native.dockerfile.sources.failures import ContextError
from orchestrator.engines.native.dockerfile.sources.git_login import GitLogin, render_environment
from orchestrator.engines.native.dockerfile.sources.remote import is_url
from orchestrator.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from subprocess import Popen

    from orchestrator.engines.native.dockerfile.sources.site import BuildSite
    from orchestrator.source import Location

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_CHECKSUM = re.compile(r"[0-9a-f]{7,64}\Z")
_SCP = re.compile(r"(?P<user>[a-zA-Z0-9_.-]+)@(?P<host>[a-zA-Z0-9_.-]+|\[[0-9a-fA-F:]+\]):(?P<path>(?!//).+)\Z")
_SCHEMES = ("http://", "https://", "ssh://", "git://", "file://")
_QUERY = ("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules")
_SAID = 5  # lines of git's own words in a message


class GitReference(Record):
    """A repository and what of it is meant. `ref` is a branch, tag, full reference name or commit; empty: the default.

    `checksum` is the beginning of the commit that it has to be. None leaves a choice to the caller.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None


class Commit(Record):
    """A reference, resolved."""

    reference: GitReference
    commit: str
    full_ref: str = ""


def parse_git_reference(text: str, location: Location | None = None) -> GitReference | None:
    """What a git reference means; None for text that is none. Raises ContextError for one that is malformed.

    ``https://host/repo.git#ref:subdir``, ``git@host:path``, ``ssh://``, ``git://`` and ``file://`` URLs,
    ``github.com/owner/repo``, and ``?branch= tag= ref= commit= subdir= keep-git-dir= submodules=`` instead of ``#``.
    """
    if "\0" in text or not _is_address(text):
        raise ContextError("invalid git reference: it is no address", location=location, code="invalid-git-reference")
    if text.startswith("github.com/"):
        text = f"https://{text}"
    elif text.lower().startswith(_SCHEMES):
        if is_url(text) and not urlsplit(text).path.endswith(".git"):
            return None
    elif not _SCP.match(text):
        return None
    bare, hash_, fragment = text.partition("#")
    bare, question, query = bare.partition("?")
    ref, _, subdir = fragment.partition(":")
    found = GitReference(remote=bare, ref=unquote(ref), subdir=unquote(subdir)) if hash_ else GitReference(remote=bare)
    if question:
        found = _read_query(found, query, text, location)
    if ".." in found.subdir.split("/"):
        raise _refuse(text, f"the folder {found.subdir!r} leads out of the repository", location)
    if found.ref.startswith("-") or found.remote.startswith("-"):
        raise _refuse(text, "a name cannot begin with a hyphen", location)
    return found.replace(subdir=found.subdir.strip("/"))


def _is_address(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:
        return "://" not in text
    return True


def _read_query(found: GitReference, query: str, text: str, location: Location | None) -> GitReference:
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _QUERY:
            raise _refuse(text, f"unknown query {key!r}", location, hint=f"known are {', '.join(_QUERY)}")
        if key in values:
            raise _refuse(text, f"{key!r} is given twice", location)
        if not value and key not in ("keep-git-dir", "submodules"):
            raise _refuse(text, f"{key!r} has no value", location)
        values[key] = value
    if "tag" in values and "branch" in values:
        raise _refuse(text, "a branch and a tag at once", location)
    refs = [values["ref"]] if "ref" in values else []
    refs += [_qualify("refs/tags/", values["tag"])] if "tag" in values else []
    refs += [_qualify("refs/heads/", values["branch"])] if "branch" in values else []
    for ref in refs:
        if found.ref and found.ref != ref:
            raise _refuse(text, f"{found.ref!r} and {ref!r} at once", location)
        found = found.replace(ref=ref)
    if "subdir" in values:
        if found.subdir and found.subdir != values["subdir"]:
            raise _refuse(text, f"the folders {found.subdir!r} and {values['subdir']!r} at once", location)
        found = found.replace(subdir=values["subdir"])
    checksum = values.get("checksum") or values.get("commit") or ""
    keep = _parse_switch("keep-git-dir", values, text, location)
    submodules = _parse_switch("submodules", values, text, location)
    return found.replace(ref=found.ref or checksum, checksum=checksum, keep_git_dir=keep, submodules=submodules)


def _qualify(prefix: str, name: str) -> str:
    return name if name.startswith(prefix) else prefix + name


def _parse_switch(key: str, values: dict[str, str], text: str, location: Location | None) -> bool | None:
    if key not in values:
        return None
    value = values[key].lower()
    if value not in ("", "1", "t", "true", "0", "f", "false"):
        raise _refuse(text, f"{key}={values[key]} is neither true nor false", location)
    return value in ("", "1", "t", "true")


def _refuse(text: str, why: str, location: Location | None, hint: str = "") -> ContextError:
    return ContextError(
        f"invalid git reference {hide_password(text)!r}: {why}",
        location=location,
        code="invalid-git-reference",
        hint=hint,
    )


def resolve_commit(
    reference: GitReference, site: BuildSite, location: Location | None = None, *, login: GitLogin | None = None
) -> Commit:
    """Ask the repository which commit is meant, as the user (`login` None) or with what was given. ContextError."""
    if reference.checksum and not _CHECKSUM.match(reference.checksum):
        raise ContextError(
            f"invalid commit {reference.checksum!r}",
            location=location,
            code="invalid-checksum",
            hint="7 to 40 hexadecimal digits",
        )
    ref = reference.ref
    if _COMMIT.match(ref):
        found = Commit(reference=reference, commit=ref)
    else:
        lines = _ask_remote(reference, ref or "HEAD", site, location, login)
        found = _choose(reference, lines, location)
    if reference.checksum and not found.commit.startswith(reference.checksum):
        raise ContextError(
            f"{_show(reference)} is at commit {found.commit} (expected: {reference.checksum})",
            location=location,
            code="checksum-mismatch",
            hint="the branch or tag has moved, or the commit is of another one",
        )
    return found


def _ask_remote(
    reference: GitReference, ref: str, site: BuildSite, location: Location | None, login: GitLogin | None
) -> list[tuple[str, str]]:
    patterns = [ref] if ref == "HEAD" or reference.checksum == ref else [ref, f"{ref}^{{}}"]
    if reference.checksum == ref:
        patterns = []  # the beginning of a commit is no name: every tip is looked at
    with site.tell(f"asking {hide_password(reference.remote)} for {ref}"):
        said = run_git(
            ["ls-remote", "--", take_login(reference.remote)[0], *patterns], site, reference, location, login=login
        )
    return [(line.split("\t")[0], line.split("\t")[1]) for line in said.splitlines() if "\t" in line]


def _choose(reference: GitReference, lines: list[tuple[str, str]], location: Location | None) -> Commit:
    ref = reference.ref or "HEAD"
    if reference.checksum == ref:
        for commit, name in lines:
            if commit.startswith(ref):
                return Commit(reference=reference, commit=commit, full_ref=name.removesuffix("^{}"))
    named = {name: commit for commit, name in lines}
    for candidate in (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}", f"refs/remotes/{ref}"):
        if candidate in named:
            # An annotated tag is an object of its own; ^{} is the commit that it names.
            commit = named.get(f"{candidate}^{{}}", named[candidate])
            return Commit(reference=reference, commit=commit, full_ref="" if candidate == "HEAD" else candidate)
    raise ContextError(
        f"the repository {hide_password(reference.remote)} has no branch, tag or commit {ref!r}",
        location=location,
        code="git-reference-missing",
        hint="give a branch, a tag or a whole commit after #" if ref != "HEAD" else "it seems to be empty",
    )


def check_out(
    found: Commit,
    site: BuildSite,
    *,
    keep_git_dir: bool = False,
    location: Location | None = None,
    login: GitLogin | None = None,
) -> Path:
    """The files of a commit in a new folder of the workspace; submodules too, unless the reference says no.

    Returns the folder that is meant (`subdir` of the reference). Raises ContextError.
    """
    reference = found.reference
    keep = keep_git_dir or bool(reference.keep_git_dir)
    tree = site.make_folder("git")

    def git(*arguments: str) -> str:
        return run_git(arguments, site, reference, location, folder=tree, login=login)

    with site.tell(f"fetching {_show(reference)}"):
        git("init", "-q")
        git("remote", "add", "origin", take_login(reference.remote)[0])
        _fetch(found, git)
        git("checkout", "-q", "--force", "--detach", found.commit)
        if reference.submodules is not False and (tree / ".gitmodules").exists():
            git("submodule", "update", "-q", "--init", "--recursive", "--depth=1")
    if not keep:
        _remove_git(tree)
    if not reference.subdir:
        return tree
    from orchestrator.engines.native.dockerfile.sources.views import resolve_in_root

    try:
        inner = tree / resolve_in_root(str(tree), reference.subdir)
        if inner.is_dir():
            return inner
    except OSError:
        pass  # not there, or a link that leads nowhere within the repository
    raise ContextError(
        f"the repository {hide_password(reference.remote)} has no folder {reference.subdir!r}",
        location=location,
        code="git-folder-missing",
    )


def _fetch(found: Commit, git: Callable[..., str]) -> None:
    """One commit if the server gives single commits away, otherwise the branch, otherwise everything."""
    attempts: list[tuple[str, ...]] = [("--depth=1", "origin", found.commit)]
    if found.full_ref:
        attempts.append(("--depth=1", "origin", f"+{found.full_ref}:{_local_name(found.full_ref)}"))
    attempts.append(("--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"))
    if found.full_ref:
        attempts.insert(0, attempts.pop(1))  # gives the checkout the name that it has there
    for number, attempt in enumerate(attempts):
        try:
            git("fetch", "-q", "--force", *(() if "--tags" in attempt else ("--no-tags",)), *attempt)
            git("cat-file", "-e", f"{found.commit}^{{commit}}")
            return
        except ContextError:
            if number == len(attempts) - 1:
                raise


def _local_name(ref: str) -> str:
    return ref.replace("refs/heads/", "refs/remotes/origin/", 1) if ref.startswith("refs/heads/") else ref


def _remove_git(tree: Path) -> None:
    import shutil

    for folder, folders, files in os.walk(tree):
        if ".git" in folders:
            folders.remove(".git")
            shutil.rmtree(os.path.join(folder, ".git"))
        if ".git" in files:  # a submodule's points to the one above
            os.unlink(os.path.join(folder, ".git"))


def _show(reference: GitReference) -> str:
    return hide_password(reference.remote) + (f"#{reference.ref}" if reference.ref else "")


def run_git(
    arguments: Sequence[str],
    site: BuildSite,
    reference: GitReference,
    location: Location | None,
    *,
    folder: Path | None = None,
    login: GitLogin | None = None,
) -> str:
    """Run git(1) and return what it wrote. Raises ContextError with what it said, TransferCancelled."""
    import subprocess

    try:
        home = site.remember("git's home", lambda: site.make_folder("home")) if login is not None else Path("/")
        environment = render_environment(login, reference.remote, home)
    except OSError as error:
        message = f"the login for {hide_password(reference.remote)} cannot be read: {error.strerror}"
        raise ContextError(message, location=location) from error
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_ADVICE": "0", "GIT_LFS_SKIP_SMUDGE": "0"}
    settings = ["-c", "core.hooksPath=/dev/null", "-c", "init.defaultBranch=main", "-c", "advice.detachedHead=false"]
    settings += ["-c", "protocol.ext.allow=never", "-c", "safe.directory=*", "-c", "gc.auto=0"]
    command = ["git", *settings, *(("-C", str(folder)) if folder is not None else ()), *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            umask=0o022,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ContextError(
            f"{hide_password(reference.remote)} cannot be fetched: the program git is not installed",
            location=location,
            code="git-missing",
            hint="install the package 'git', or build from a folder",
        ) from error
    out, said = _await(process, site)
    if process.returncode == 0:
        return out.decode("utf-8", "surrogateescape")
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    text = hide_password("\n".join(lines[-_SAID:]))
    raise ContextError(
        f"{_show(reference)} cannot be fetched: git {arguments[0]} failed"
        + (f": {text.removeprefix('fatal: ')}" if text else ""),
        location=location,
        code="git-failed",
        hint=_advise(text, given=login is not None),
    )


def _await(process: Popen[bytes], site: BuildSite) -> tuple[bytes, bytes]:
    import signal
    import subprocess

    while True:
        try:
            out, said = process.communicate(timeout=0.2)
            return out, said
        except subprocess.TimeoutExpired:
            try:
                site.check_cancel()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise


def _advise(text: str, *, given: bool) -> str:
    if "could not read Username" in text or "Authentication failed" in text or "Permission denied" in text:
        if given:
            return "the repository needs a login: give the build --ssh default, or --secret id=GIT_AUTH_TOKEN"
        return "the repository needs a login: set up a credential helper or an SSH agent for git"
    if "not found" in text or "does not appear to be a git repository" in text:
        return "check the address of the repository"
    if "Could not resolve host" in text:
        return "check the name, and this machine's DNS and proxy settings"
    return ""
