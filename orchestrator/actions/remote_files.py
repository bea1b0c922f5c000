"""Stack files that stand in a registry: an OCI artifact becomes a folder, and is loaded from there.

The form is that of Docker Compose: a layer for each stack file in their order, further ones for files that are extended
and for env files, which are known by the names in their annotations.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Final

from orchestrator.errors import FileMissing

if TYPE_CHECKING:
    from orchestrator.engines.native.images.artifacts import Artifact

SCHEME: Final = "oci:"
ARTIFACT_TYPE: Final = "application/vnd.docker.compose.project"
CONFIG_TYPE: Final = "application/vnd.docker.compose.config.empty.v1+json"
FILE_TYPE: Final = "application/vnd.docker.compose.file+yaml"
ENV_TYPE: Final = "application/vnd.docker.compose.envfile"
FILE_NOTE: Final = "com.docker.compose.file"
ENV_NOTE: Final = "com.docker.compose.envfile"
EXTENDS_NOTE: Final = "com.docker.compose.extends"

_MAIN: Final = "compose.yaml"


class NoStackArtifact(FileMissing):
    """The registry has something of that name, and it is no stack."""

    code = "no-stack-artifact"


def fetch_stack(name: str) -> str:
    """Fetch ``oci://REPOSITORY[:TAG]``; return the path of the stack file that it became.

    What has been fetched is kept by its digest. Its folder is called as the repository is, which names the project.
    Raises NoStackArtifact, and what fetching an image raises.
    """
    from orchestrator.actions.images import open_image_store
    from orchestrator.engines.native.images.artifacts import fetch_artifact
    from orchestrator.engines.native.images.reference import parse_reference
    from orchestrator.engines.native.layout import Layout

    source = name.removeprefix(SCHEME).removeprefix("//")
    reference = parse_reference(source)
    artifact = fetch_artifact(open_image_store().load_settings(), source)
    if artifact.kind not in (ARTIFACT_TYPE, CONFIG_TYPE):
        raise NoStackArtifact(
            f"{source} is no stack: it is of the type {artifact.kind or 'unknown'}",
            hint="an image is run by a service; a stack is published with: stack publish",
        )
    cache = Layout.from_environment().cache / "stacks" / artifact.digest.replace(":", "-")
    folder = cache / reference.name.rpartition("/")[2]
    path = str(folder / _MAIN)
    if os.path.exists(path):
        return path
    os.makedirs(cache, mode=0o700, exist_ok=True)
    fresh = tempfile.mkdtemp(prefix=".fresh-", dir=cache)
    for file, data in split_artifact(artifact, source).items():
        with open(os.path.join(fresh, file), "wb") as out:
            out.write(data)
    try:
        os.rename(fresh, folder)
    except OSError:
        import shutil

        shutil.rmtree(fresh)
        if not os.path.exists(path):
            raise
    return path


def split_artifact(artifact: Artifact, source: str) -> dict[str, bytes]:
    """The files of an artifact by their names: the stack files as documents of one. Raises NoStackArtifact. Pure."""
    main: list[bytes] = []
    files: dict[str, bytes] = {}
    for part in artifact.parts:
        if part.media_type == FILE_TYPE and part.annotations.get(EXTENDS_NOTE) != "true":
            main.append(part.data)
            continue
        if part.media_type not in (FILE_TYPE, ENV_TYPE):
            raise NoStackArtifact(f"{source} holds something that is no file of a stack: {part.media_type}")
        name = part.annotations.get(FILE_NOTE if part.media_type == FILE_TYPE else ENV_NOTE, "")
        if not name or name in (".", "..", _MAIN) or "/" in name or "\0" in name:
            raise NoStackArtifact(f"{source} holds a file of an impossible name: {name!r}")
        files[name] = part.data
    if not main:
        raise NoStackArtifact(f"{source} holds no stack file")
    return {**files, _MAIN: b"\n---\n".join(main)}
