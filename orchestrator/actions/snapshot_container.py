"""A container's file system as an archive (``export``) or as an image (``commit``)."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.actions.copy_files import CopyOptions, choose_targets
from orchestrator.actions.project import Project
from orchestrator.engines.base import CommitRequest, Engine


def export_service(engine: Engine, project: Project, service: str, index: int | None) -> Iterator[bytes]:
    """The tar of the file system of a replica of `service`, running or not. Raises NoSuchService, NotFound."""
    options = CopyOptions(source="", target="", index=index)
    return engine.read_filesystem(choose_targets(engine, project, service, options)[0])


def commit_service(engine: Engine, project: Project, service: str, index: int | None, request: CommitRequest) -> str:
    """Make an image of a replica of `service`, running or not; return its id. Raises NoSuchService, NotFound."""
    options = CopyOptions(source="", target="", index=index)
    return engine.commit_container(choose_targets(engine, project, service, options)[0], request)
