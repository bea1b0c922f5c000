"""What ADD can do beyond COPY: files from the web, git repositories, archives that are unpacked into the stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.engines.native.dockerfile.sources.remote import Download, download
from orchestrator.engines.native.dockerfile.sources.selecting import Selection
from orchestrator.engines.native.dockerfile.sources.views import View
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite

_REMOTE_MODE = 0o600


class Fetched(Record):
    """A remote source of a step. `digest` says what would be copied; `select` makes the files be there."""

    source: str
    digest: str
    select: Callable[[CopyStep], Selection]


def fetch_source(source: str, step: CopyStep, site: BuildSite) -> Fetched:
    """A file is downloaded or found unchanged; of a repository only the commit is asked for. Raises BuildError."""
    from orchestrator.engines.native.dockerfile.sources.git import parse_git_reference

    reference = parse_git_reference(source, step.location)
    if reference is not None:
        if reference.remote.lower().startswith("file:"):
            # A Dockerfile may come from anybody; what this machine has besides the contexts is not for it to read.
            raise CopyError(
                f"{source} is outside of the build context",
                location=step.location,
                code="copy-outside-context",
                hint="add its folder as another context (additional_contexts, --build-context) and use COPY --from",
            )
        return _fetch_repository(source, step, site)
    found = site.remember(
        ("download", source, step.checksum),
        lambda: download(source, site, checksum=step.checksum, location=step.location),
    )
    if step.directory and not found.name:
        raise CopyError(
            f"{source} has no file name to use in {step.destination}",
            location=step.location,
            code="copy-needs-name",
            hint="give the destination a file name",
        )
    return Fetched(
        source=source,
        digest=f"{found.digest} {found.mtime_ns} {found.name}",
        select=lambda step: _select_download(found, source, step),
    )


def _select_download(found: Download, source: str, step: CopyStep) -> Selection:
    return Selection(
        view=View(found.path.parent, own=False),
        path=found.path.name,
        name=found.name,
        directory=False,
        unpack=bool(step.unpack),
        mode=_REMOTE_MODE,
        mtime_ns=found.mtime_ns,
        label=source,
    )


def _fetch_repository(source: str, step: CopyStep, site: BuildSite) -> Fetched:
    from orchestrator.engines.native.dockerfile.sources.git import check_out, parse_git_reference, resolve_commit

    reference = parse_git_reference(source, step.location)
    assert reference is not None
    if step.checksum is not None:
        if reference.checksum and reference.checksum != step.checksum:
            raise CopyError(
                f"two different commits: --checksum={step.checksum} and {reference.checksum} in the address",
                location=step.location,
                code="checksum-mismatch",
            )
        reference = reference.replace(checksum=step.checksum, ref=reference.ref or step.checksum)
    found = site.remember(
        ("commit", reference), lambda: resolve_commit(reference, site, step.location, login=site.login)
    )
    keep = step.keep_git_dir or bool(reference.keep_git_dir)

    def select(step: CopyStep) -> Selection:
        from orchestrator.engines.native.dockerfile.sources.matching import PathPatterns
        from orchestrator.engines.native.dockerfile.sources.views import Chosen

        tree = check_out(found, site, keep_git_dir=keep, location=step.location, login=site.login)
        chosen = Chosen(exclude=PathPatterns(step.exclude)) if step.exclude else Chosen()
        return Selection(view=View(tree, own=False), path="", name="", directory=True, chosen=chosen, label=source)

    said = (found.commit, reference.subdir, keep, reference.submodules is not False, step.exclude)
    return Fetched(source=source, digest=f"git {said!r}", select=select)
