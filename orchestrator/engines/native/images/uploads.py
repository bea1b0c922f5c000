"""Upload sessions of a registry: begun, completed, and what its answers have to be (OCI distribution, "push")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orchestrator.engines.native.images.registry import ERROR_LIMIT

if TYPE_CHECKING:
    from orchestrator.engines.native.images.registry import Repository
    from orchestrator.engines.native.images.transport import Response


def begin_upload(repository: Repository) -> str:
    """Begin an upload; where to send its content. Raises what the registry's refusal means."""
    response = repository.send("POST", "blobs/uploads/", headers={"Content-Length": "0"})
    return expect_status(repository, response, 202)


def finish_upload(repository: Repository, location: str, digest: str, size: int, body: Any) -> None:
    """Complete an upload with `body`, the (rest of the) content: `size` bytes, or a function that yields them."""
    joint = "&" if "?" in location else "?"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    url = f"{location}{joint}digest={quote(digest)}"
    expect_status(repository, repository.send("PUT", url, headers=headers, body=body), 201)


def put_manifest(repository: Repository, data: bytes, media_type: str, name: str) -> None:
    """Send a manifest or an index under a tag or its digest; with it what it describes appears."""
    response = repository.send("PUT", f"manifests/{name}", headers={"Content-Type": media_type}, body=data)
    expect_status(repository, response, 201)


def expect_status(repository: Repository, response: Response, status: int) -> str:
    """The ``Location`` of a response that has to have `status`; any other is raised as what it means."""
    location = response.header("Location")
    data = response.read(ERROR_LIMIT)
    if response.status != status:
        raise repository.explain(response, data)
    return location
